//! From files to the stream.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::{MetadataExt as _, OpenOptionsExt as _},
        },
    },
    path::Path,
};

use api::stream::Copied;
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat},
    io::Errno,
};
use tar::{Builder, EntryType, Header};

use crate::{CopyError, END, MAX_DEPTH, TOP, skip};

/// How something in a directory is opened: itself, and never what a link leads to.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How much of a directory is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and links below it; with more, the copy fails.
    pub entries: usize,
    /// Deepest directory in it, at most 128: each is an open descriptor. What is
    /// deeper is left out.
    pub depth: usize,
}

impl Limits {
    /// For who copies their own files, in a process of their own.
    pub const WIDEST: Self = Self { entries: usize::MAX, depth: MAX_DEPTH };
}

/// Writes what is at `source` to `out`. A link at `source` itself is followed; links below
/// are copied as links. Directories of other file systems (`/proc`, volumes below a copied
/// `/`) are left out.
///
/// # Errors
/// [`CopyError`]: something cannot be read, or `out` takes no more. The stream has no end then.
pub fn pack(source: &Path, out: impl Write) -> Result<Copied, CopyError> {
    let fail = |error| CopyError::step("copy", source, error);
    let meta = fs::metadata(source).map_err(fail)?;
    if meta.is_dir() {
        let directory = File::open(source)
            .map_err(|error| CopyError::step("read the directory", source, error))?;
        return pack_directory(&directory.into(), source, Limits::WIDEST, out);
    }
    if !meta.is_file() {
        return Err(CopyError::Target(format!(
            "{} is neither file nor directory",
            source.display()
        )));
    }
    let mut packing = Packing::new(out, source, meta.dev(), Limits::WIDEST);
    // Never waits for the other end of a pipe that has taken the file's place.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(source);
    packing.file(
        file.map_err(|error| CopyError::step("read", source, error))?,
        source,
        Path::new(TOP),
    )?;
    packing.end()
}

/// Writes an open directory to `out`, as [`pack`] does. Each step goes from a directory that is
/// open to a name in it, and follows no link: whoever writes to it meanwhile leads nowhere else.
/// `shown`: its path, for people.
///
/// # Errors
/// As of [`pack`], and [`CopyError::TooMany`]: it holds more than `limits` allow.
pub fn pack_directory(
    directory: &OwnedFd,
    shown: &Path,
    limits: Limits,
    out: impl Write,
) -> Result<Copied, CopyError> {
    let meta = fstat(directory).map_err(|errno| CopyError::step("look at", shown, errno))?;
    let mut packing = Packing::new(out, shown, meta.st_dev, limits);
    packing.directory(directory, shown, Path::new(TOP), &meta, 0)?;
    packing.end()
}

/// Contents of files at `source`, bytes, as far as they can be seen: for progress.
#[must_use]
pub fn size_of(source: &Path) -> u64 {
    fn below(path: &Path, meta: &Metadata, depth: usize) -> u64 {
        if meta.is_file() {
            return meta.len();
        }
        let Some(entries) =
            (meta.is_dir() && depth < MAX_DEPTH).then(|| fs::read_dir(path).ok()).flatten()
        else {
            return 0;
        };
        entries
            .flatten()
            .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
            .map(|(path, meta)| below(&path, &meta, depth + 1))
            .sum()
    }
    fs::metadata(source).map_or(0, |meta| below(source, &meta, 0))
}

struct Packing<'a, W: Write> {
    tar: Builder<W>,
    /// All that is copied, for people.
    top: &'a Path,
    copied: Copied,
    device: u64,
    limits: Limits,
    /// Names that directories were seen to hold, of the limit.
    seen: usize,
}

impl<'a, W: Write> Packing<'a, W> {
    fn new(out: W, top: &'a Path, device: u64, limits: Limits) -> Self {
        Self { tar: Builder::new(out), top, copied: Copied::default(), device, limits, seen: 0 }
    }

    fn directory(
        &mut self,
        directory: &OwnedFd,
        path: &Path,
        name: &Path,
        meta: &Stat,
        depth: usize,
    ) -> Result<(), CopyError> {
        if depth > self.limits.depth.min(MAX_DEPTH) {
            skip(
                &mut self.copied,
                &path.display().to_string(),
                "deeper than any directory is copied",
            );
            return Ok(());
        }
        let entries = self.names(directory, path)?;
        let mut header = header(EntryType::Directory, meta.st_mode, meta.st_mtime, 0);
        self.tar.append_data(&mut header, name, io::empty()).map_err(CopyError::Broken)?;
        self.copied.entries += 1;
        for own in entries {
            self.entry(directory, &own, (&path.join(&own), &name.join(&own)), depth + 1)?;
        }
        Ok(())
    }

    /// What a directory holds, in order. Counted here and not as it is packed: the names of one
    /// directory are in memory at once.
    fn names(&mut self, directory: &OwnedFd, path: &Path) -> Result<Vec<OsString>, CopyError> {
        let fail = |errno| CopyError::step("read the directory", path, errno);
        let mut names: Vec<OsString> = Vec::new();
        for entry in Dir::read_from(directory).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            self.seen += 1;
            if self.seen > self.limits.entries {
                return Err(CopyError::TooMany {
                    path: self.top.display().to_string(),
                    limit: self.limits.entries,
                });
            }
            names.push(OsString::from_vec(entry.file_name().to_bytes().to_vec()));
        }
        names.sort();
        Ok(names)
    }

    /// `path`: for people; `name`: in the stream.
    fn entry(
        &mut self,
        directory: &OwnedFd,
        own: &OsStr,
        (path, name): (&Path, &Path),
        depth: usize,
    ) -> Result<(), CopyError> {
        let meta = match statat(directory, own, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(meta) => meta,
            // It was there when the directory was read.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(CopyError::step("look at", path, errno)),
        };
        let why = match FileType::from_raw_mode(meta.st_mode) {
            FileType::Symlink => return self.link(directory, own, (path, name), &meta),
            FileType::RegularFile => {
                match openat(directory, own, OPEN | OFlags::NONBLOCK, Mode::empty()) {
                    Ok(file) => return self.file(file.into(), path, name),
                    Err(Errno::LOOP) => "no file any more",
                    Err(errno) => return Err(CopyError::step("read", path, errno)),
                }
            }
            FileType::Directory if meta.st_dev == self.device => {
                match openat(directory, own, OPEN | OFlags::DIRECTORY, Mode::empty()) {
                    Ok(below) => {
                        let meta = fstat(&below)
                            .map_err(|errno| CopyError::step("look at", path, errno))?;
                        if meta.st_dev == self.device {
                            return self.directory(&below, path, name, &meta, depth);
                        }
                        "another file system"
                    }
                    Err(Errno::LOOP | Errno::NOTDIR) => "no directory any more",
                    Err(errno) => return Err(CopyError::step("read the directory", path, errno)),
                }
            }
            FileType::Directory => "another file system",
            _ => "neither file, directory nor link",
        };
        skip(&mut self.copied, &path.display().to_string(), why);
        Ok(())
    }

    fn link(
        &mut self,
        directory: &OwnedFd,
        own: &OsStr,
        (path, name): (&Path, &Path),
        meta: &Stat,
    ) -> Result<(), CopyError> {
        let target = readlinkat(directory, own, Vec::new());
        let target = target.map_err(|errno| CopyError::step("read the link", path, errno))?;
        let mut header = header(EntryType::Symlink, 0o777, meta.st_mtime, 0);
        let target = OsStr::from_bytes(target.to_bytes());
        self.tar.append_link(&mut header, name, target).map_err(CopyError::Broken)?;
        self.copied.entries += 1;
        Ok(())
    }

    fn file(&mut self, file: File, path: &Path, name: &Path) -> Result<(), CopyError> {
        let meta = file.metadata().map_err(|error| CopyError::step("read", path, error))?;
        if !meta.is_file() {
            skip(&mut self.copied, &path.display().to_string(), "no file any more");
            return Ok(());
        }
        let mut header = header(EntryType::Regular, meta.mode(), meta.mtime(), meta.len());
        let content = Exactly { file, left: meta.len() };
        self.tar.append_data(&mut header, name, content).map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                CopyError::Broken(error)
            } else {
                CopyError::step("copy", path, error)
            }
        })?;
        self.copied.entries += 1;
        self.copied.bytes += meta.len();
        Ok(())
    }

    fn end(mut self) -> Result<Copied, CopyError> {
        let mut header = header(EntryType::Regular, 0, 0, 0);
        self.tar.append_data(&mut header, END, io::empty()).map_err(CopyError::Broken)?;
        let mut out = self.tar.into_inner().map_err(CopyError::Broken)?;
        out.flush().map_err(CopyError::Broken)?;
        Ok(self.copied)
    }
}

fn header(kind: EntryType, mode: u32, mtime: i64, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o777);
    header.set_mtime(u64::try_from(mtime).unwrap_or(0));
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// As many bytes of a file as its header says: one that grows is cut, one that shrinks is an error.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it became shorter while it was read",
            ));
        }
        self.left -= read as u64;
        Ok(read)
    }
}
