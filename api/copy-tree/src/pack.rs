//! From files to the stream.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use api::stream::Copied;
use rustix::fs::OFlags;
use tar::{Builder, EntryType, Header};

use crate::{CopyError, END, MAX_DEPTH, TOP, leave_out};

/// Writes what is at `source` to `out`. A link at `source` itself is followed; links below are copied as links. Folders of
/// other file systems (`/proc`, volumes below a copied `/`) are left out.
///
/// # Errors
/// [`CopyError`]: something cannot be read, or `out` takes no more. The stream has no end then.
pub fn pack(source: &Path, out: impl Write) -> Result<Copied, CopyError> {
    let meta = fs::metadata(source).map_err(|error| CopyError::step("copy", source, error))?;
    let mut packing = Packing { tar: Builder::new(out), copied: Copied::default(), device: meta.dev() };
    if meta.is_dir() {
        packing.folder(source, Path::new(TOP), &meta, 0)?;
    } else if meta.is_file() {
        packing.file(source, Path::new(TOP))?;
    } else {
        return Err(CopyError::Place(format!("{} is neither file nor folder", source.display())));
    }
    let mut header = header(EntryType::Regular, 0, 0, 0);
    packing.tar.append_data(&mut header, END, io::empty()).map_err(CopyError::Broken)?;
    let mut out = packing.tar.into_inner().map_err(CopyError::Broken)?;
    out.flush().map_err(CopyError::Broken)?;
    Ok(packing.copied)
}

/// Contents of files at `source`, bytes, as far as they can be seen: for progress.
#[must_use]
pub fn size_of(source: &Path) -> u64 {
    fn below(path: &Path, meta: &Metadata, depth: usize) -> u64 {
        if meta.is_file() {
            return meta.len();
        }
        let Some(entries) = (meta.is_dir() && depth < MAX_DEPTH).then(|| fs::read_dir(path).ok()).flatten()
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

struct Packing<W: Write> {
    tar: Builder<W>,
    copied: Copied,
    device: u64,
}

impl<W: Write> Packing<W> {
    fn folder(&mut self, path: &Path, name: &Path, meta: &Metadata, depth: usize) -> Result<(), CopyError> {
        if depth > MAX_DEPTH {
            leave_out(&mut self.copied, &path.display().to_string(), "deeper than any folder is copied");
            return Ok(());
        }
        let fail = |error| CopyError::step("read the folder", path, error);
        let mut entries: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(path).map_err(fail)? {
            entries.push(entry.map_err(fail)?.path());
        }
        entries.sort();
        let mut header = header(EntryType::Directory, meta.mode(), meta.mtime(), 0);
        self.tar.append_data(&mut header, name, io::empty()).map_err(CopyError::Broken)?;
        self.copied.entries += 1;
        for path in entries {
            let Some(name) = path.file_name().map(|own| name.join(own)) else { continue };
            self.entry(&path, &name, depth + 1)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &Path, depth: usize) -> Result<(), CopyError> {
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            // It was there when the folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(CopyError::step("look at", path, error)),
        };
        let kind = meta.file_type();
        if kind.is_symlink() {
            let target =
                fs::read_link(path).map_err(|error| CopyError::step("read the link", path, error))?;
            let mut header = header(EntryType::Symlink, 0o777, meta.mtime(), 0);
            self.tar.append_link(&mut header, name, target).map_err(CopyError::Broken)?;
            self.copied.entries += 1;
            return Ok(());
        }
        if kind.is_file() {
            return self.file(path, name);
        }
        if kind.is_dir() && meta.dev() == self.device {
            return self.folder(path, name, &meta, depth);
        }
        let why = if kind.is_dir() { "another file system" } else { "neither file, folder nor link" };
        leave_out(&mut self.copied, &path.display().to_string(), why);
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &Path) -> Result<(), CopyError> {
        // Never waits for the other end of a pipe that has taken the file's place.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let (file, meta) = opened
            .and_then(|file| file.metadata().map(|meta| (file, meta)))
            .map_err(|error| CopyError::step("read", path, error))?;
        if !meta.is_file() {
            leave_out(&mut self.copied, &path.display().to_string(), "no file any more");
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
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}
