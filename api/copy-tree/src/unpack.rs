//! From the stream to files. Whatever the stream says, nothing is written outside of the place for
//! it: names are single names, directories are opened below the place without any link
//! (`openat2(2)`), and no link is made that leads out of what is copied.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use api::stream::{Copied, is_name};
use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps},
    io::Errno,
};
use tar::{Archive, Entry, EntryType};

use crate::{CopyError, END, MAX_DEPTH, MAX_PATH_BYTES, TOP, skip};

/// Directories of one copy: their modes are set when all that is in them is there, so they
/// are remembered.
const MAX_DIRECTORIES: usize = 1_000_000;

/// Where a copy goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    directory: PathBuf,
    name: OsString,
}

impl Target {
    /// As `cp -r` has it: into `path` under `name` if that is a directory, else `path`
    /// is the new name.
    ///
    /// # Errors
    /// [`CopyError::Target`]: there is no directory for it.
    pub fn of(path: &Path, name: &str) -> Result<Self, CopyError> {
        if path.is_dir() {
            if !is_name(name) {
                let why = format!("{} is a directory: name what shall be in it", path.display());
                return Err(CopyError::Target(why));
            }
            return Ok(Self { directory: path.to_owned(), name: name.into() });
        }
        let directory = match path.parent() {
            Some(directory) if directory.as_os_str().is_empty() => Path::new("."),
            Some(directory) => directory,
            None => path,
        };
        let ends_in_slash = path.as_os_str().as_bytes().ends_with(b"/");
        match path.file_name() {
            Some(name) if !ends_in_slash && directory.is_dir() => {
                Ok(Self { directory: directory.to_owned(), name: name.to_owned() })
            }
            _ => {
                let directory = if ends_in_slash { path } else { directory };
                Err(CopyError::Target(format!("there is no directory {}", directory.display())))
            }
        }
    }

    /// What will be there.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }
}

/// Makes what the stream holds at `place`. Files appear under their names when they are whole.
///
/// # Errors
/// [`CopyError`]. What was whole before stays.
pub fn unpack(stream: impl Read, place: &Target) -> Result<Copied, CopyError> {
    unpack_counted(stream, place, &mut 0)
}

/// [`unpack`]. `steps`: entries, parts of their paths, and directories to come back to are added.
pub(crate) fn unpack_counted(
    stream: impl Read,
    place: &Target,
    steps: &mut u64,
) -> Result<Copied, CopyError> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let directory = rustix::fs::open(&place.directory, flags, Mode::empty())
        .map_err(|errno| CopyError::step("open the directory", &place.directory, errno))?;
    let (copied, made, long) = (Copied::default(), Vec::new(), Long::default());
    let mut unpacking = Unpacking { place, directory, copied, made, long, steps };
    let mut archive = Archive::new(stream);
    let entries = archive.entries().map_err(CopyError::Broken)?;
    let mut ended = false;
    // Raw: extensions of unbounded length would be read into memory by the library.
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(CopyError::Broken)?;
        if ended {
            return Err(CopyError::Stream("something follows its end".to_owned()));
        }
        ended = unpacking.entry(&mut entry)?;
    }
    if !ended {
        return Err(CopyError::Broken(io::ErrorKind::UnexpectedEof.into()));
    }
    unpacking.finish()
}

/// A name or target too long for a header, which comes before its entry.
#[derive(Debug, Default)]
struct Long {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

#[derive(Debug)]
struct CreatedDirectory {
    path: PathBuf,
    mode: u32,
    mtime: u64,
}

struct Unpacking<'a> {
    place: &'a Target,
    directory: OwnedFd,
    copied: Copied,
    made: Vec<CreatedDirectory>,
    long: Long,
    steps: &'a mut u64,
}

impl Unpacking<'_> {
    /// `true` for the last entry.
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<bool, CopyError> {
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => {
                self.long.name = Some(long(entry)?);
                return Ok(false);
            }
            EntryType::GNULongLink => {
                self.long.target = Some(long(entry)?);
                return Ok(false);
            }
            EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNUSparse => {
                return Err(CopyError::Stream("it holds extensions".to_owned()));
            }
            _ => {}
        }
        let (name, target) = (self.long.name.take(), self.long.target.take());
        let name = name.unwrap_or_else(|| entry.path_bytes().into_owned());
        if name == END.as_bytes() {
            return Ok(true);
        }
        let path = self.path(&name)?;
        let header = entry.header();
        let mode = header.mode().unwrap_or(0o600) & 0o777;
        let mtime = header.mtime().unwrap_or(0);
        match kind {
            EntryType::Directory => self.make_directory(path, mode, mtime)?,
            EntryType::Regular => self.make_file(&path, mode, mtime, entry)?,
            EntryType::Symlink => {
                let target =
                    target.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
                self.make_link(&path, &target.unwrap_or_default())?;
            }
            _ => self.skip(&path, "neither file, directory nor link"),
        }
        Ok(false)
    }

    /// Path of an entry, relative to the directory of the place.
    fn path(&mut self, name: &[u8]) -> Result<PathBuf, CopyError> {
        let wrong = || CopyError::Stream(format!("it names {:?}", String::from_utf8_lossy(name)));
        let name = name.strip_suffix(b"/").unwrap_or(name);
        let mut parts = name.split(|byte| *byte == b'/');
        if name.len() as u64 > MAX_PATH_BYTES || parts.next() != Some(TOP.as_bytes()) {
            return Err(wrong());
        }
        let mut path = PathBuf::from(&self.place.name);
        *self.steps += 1;
        for (depth, part) in parts.enumerate() {
            *self.steps += 1;
            // Bytes that are no text are names as well: only what is looked for is text.
            if depth > MAX_DEPTH || !is_name(&String::from_utf8_lossy(part)) {
                return Err(wrong());
            }
            path.push(OsStr::from_bytes(part));
        }
        Ok(path)
    }

    fn skip(&mut self, path: &Path, why: &str) {
        let shown = self.place.directory.join(path).display().to_string();
        skip(&mut self.copied, &shown, why);
    }

    fn fail(&self, step: &'static str, path: &Path, errno: impl Into<io::Error>) -> CopyError {
        CopyError::step(step, &self.place.directory.join(path), errno)
    }

    /// The directory that `path` lies in, and its name there.
    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), CopyError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(CopyError::Stream("a file without a name".to_owned()));
        };
        Ok((self.open_directory(parent)?, name))
    }

    fn open_directory(&self, path: &Path) -> Result<OwnedFd, CopyError> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve)
            .map_err(|errno| self.fail("open the directory", path, errno))
    }

    fn make_directory(&mut self, path: PathBuf, mode: u32, mtime: u64) -> Result<(), CopyError> {
        let (parent, name) = self.parent(&path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) if self.made.len() >= MAX_DIRECTORIES => {
                return Err(CopyError::Stream(format!(
                    "it has more than {MAX_DIRECTORIES} directories"
                )));
            }
            Ok(()) => {
                *self.steps += 1;
                self.made.push(CreatedDirectory { path, mode, mtime });
            }
            // One that is there stays as it is. If it is no directory, that shows here.
            Err(Errno::EXIST) => drop(self.open_directory(&path)?),
            Err(errno) => return Err(self.fail("make the directory", &path, errno)),
        }
        self.copied.entries += 1;
        Ok(())
    }

    fn make_file(
        &mut self,
        path: &Path,
        mode: u32,
        mtime: u64,
        content: &mut Entry<'_, impl Read>,
    ) -> Result<(), CopyError> {
        let (parent, name) = self.parent(path)?;
        let draft = format!(".bedplate-{}.part", std::process::id());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || rustix::fs::openat(&parent, &draft, flags, Mode::from_raw_mode(0o600));
        let made = match make() {
            Err(Errno::EXIST) => {
                // Of an earlier copy that was killed.
                let _ = rustix::fs::unlinkat(&parent, &draft, AtFlags::empty());
                make()
            }
            made => made,
        };
        let file = File::from(made.map_err(|errno| self.fail("make", path, errno))?);
        let written = self.fill(path, file, mode, mtime, content).and_then(|bytes| {
            rustix::fs::renameat(&parent, &draft, &parent, name)
                .map_err(|errno| self.fail("put in its place", path, errno))?;
            Ok(bytes)
        });
        if written.is_err() {
            // It is of no use; that it could not be removed would say less than the error.
            let _ = rustix::fs::unlinkat(&parent, &draft, AtFlags::empty());
        }
        self.copied.bytes += written?;
        self.copied.entries += 1;
        Ok(())
    }

    fn fill(
        &self,
        path: &Path,
        mut file: File,
        mode: u32,
        mtime: u64,
        content: &mut Entry<'_, impl Read>,
    ) -> Result<u64, CopyError> {
        let size = content.size();
        let mut content = Marked { inner: content, failed: false };
        let copied = io::copy(&mut content, &mut file);
        let copied = match copied {
            Err(error) if content.failed => return Err(CopyError::Broken(error)),
            other => other.map_err(|error| self.fail("write", path, error))?,
        };
        if copied != size {
            return Err(CopyError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        self.set_metadata(file.as_fd(), path, mode, mtime)?;
        Ok(copied)
    }

    /// Mode and time. No set-user-ID: the mode has none.
    fn set_metadata(
        &self,
        made: BorrowedFd<'_>,
        path: &Path,
        mode: u32,
        mtime: u64,
    ) -> Result<(), CopyError> {
        let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::fchmod(made, Mode::from_raw_mode(mode))
            .and_then(|()| rustix::fs::futimens(made, &times))
            .map_err(|errno| self.fail("set mode and time of", path, errno))
    }

    fn make_link(&mut self, path: &Path, target: &[u8]) -> Result<(), CopyError> {
        // The name of the place is one, and what lies directly below it is at depth 0.
        let depth = path.components().count().saturating_sub(2);
        if path.components().count() < 2 || leads_out(target, depth) {
            let why = format!(
                "a link to {}, which is not part of the copy",
                String::from_utf8_lossy(target)
            );
            self.skip(path, &why);
            return Ok(());
        }
        let (parent, name) = self.parent(path)?;
        let make = || rustix::fs::symlinkat(OsStr::from_bytes(target), &parent, name);
        let made = match make() {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty()).and_then(|()| make())
            }
            made => made,
        };
        made.map_err(|errno| self.fail("make the link", path, errno))?;
        self.copied.entries += 1;
        Ok(())
    }

    /// Modes and times of directories, the innermost first: one that is closed to its owner is
    /// closed at last.
    fn finish(self) -> Result<Copied, CopyError> {
        for CreatedDirectory { path, mode, mtime } in self.made.iter().rev() {
            let directory = self.open_directory(path)?;
            self.set_metadata(directory.as_fd(), path, *mode, *mtime)?;
        }
        Ok(self.copied)
    }
}

/// Whether a link at `depth` directories below the top may lead out of it. `..` counts only in
/// front: behind a name that is a link itself it would lead elsewhere than the text says.
fn leads_out(target: &[u8], depth: usize) -> bool {
    if target.is_empty()
        || target.starts_with(b"/")
        || target.len() as u64 > MAX_PATH_BYTES
        || target.contains(&0)
    {
        return true;
    }
    let (mut up, mut named) = (0, false);
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if named => return true,
            b".." => up += 1,
            _ => named = true,
        }
    }
    up > depth
}

fn long(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, CopyError> {
    if entry.size() > MAX_PATH_BYTES + 1 {
        return Err(CopyError::Stream(format!("it has a name of {} bytes", entry.size())));
    }
    let mut name = Vec::new();
    entry.read_to_end(&mut name).map_err(CopyError::Broken)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

/// Knows whether reading was what failed.
struct Marked<R> {
    inner: R,
    failed: bool,
}

impl<R: Read> Read for Marked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner
            .read(buffer)
            .inspect_err(|error| self.failed = error.kind() != io::ErrorKind::Interrupted)
    }
}
