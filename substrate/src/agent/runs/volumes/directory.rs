//! A directory of a volume with all that is below it, for a transfer out of the volume.
//!
//! Jobs wrote it, and may still write to it. So every step goes from an open directory to a
//! name in it, follows no link and crosses no mount; what is neither file nor directory is
//! named and left out.

use std::{
    ffi::OsString,
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use nix::{errno::Errno, fcntl::OFlag};
use rustix::fs::{AtFlags, Dir, FileType, statat};

use super::{VolumeError, open_beneath, open_directory, regular};

/// Files and directories below one directory that a transfer takes: each is a request, or a
/// path in memory.
pub const MAX_ENTRIES: usize = 100_000;

/// Deepest directory in a directory: each is an open descriptor while it is listed or packed.
pub const MAX_DEPTH: usize = 64;

/// Lines about what is left out.
const MAX_LEFT_OUT: usize = 20;

/// An open directory of a volume.
#[derive(Debug)]
pub struct VolumeDirectory {
    directory: OwnedFd,
    volume: String,
    path: String,
}

/// What is below a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Paths of the files, relative to the directory, in order.
    pub files: Vec<PathBuf>,
    /// What is not among them and why, the first 20.
    pub left_out: Vec<String>,
    /// How much that is in all.
    pub left_out_count: usize,
    entries: usize,
}

impl Listing {
    fn leave_out(&mut self, path: &Path, why: &str) {
        self.left_out_count += 1;
        if self.left_out.len() < MAX_LEFT_OUT {
            self.left_out.push(format!("{} ({why})", path.display()));
        }
    }
}

impl VolumeDirectory {
    pub(super) fn new(directory: OwnedFd, volume: &str, path: &str) -> Self {
        Self { directory, volume: volume.to_owned(), path: path.to_owned() }
    }

    /// The directory itself, for whoever packs it.
    ///
    /// # Errors
    /// [`VolumeError`]: no descriptors are left.
    pub fn descriptor(&self) -> Result<OwnedFd, VolumeError> {
        self.directory.try_clone().map_err(|source| self.failed("open", Path::new("."), source))
    }

    /// All files below it. Blocking.
    ///
    /// # Errors
    /// [`VolumeError`]: something cannot be read, or there is too much of it.
    pub fn list(&self) -> Result<Listing, VolumeError> {
        let mut listing = Listing::default();
        self.list_below(&self.directory, Path::new(""), 0, &mut listing)?;
        Ok(listing)
    }

    /// A file of [`Self::list`], and its length, bytes.
    ///
    /// # Errors
    /// [`VolumeError`]: it is no file any more, or cannot be read.
    pub fn read_file(&self, path: &Path) -> Result<(File, u64), VolumeError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let opened = open_beneath(&self.directory, path.as_os_str(), flags, 0)
            .map_err(|errno| self.failed("read", path, errno.into()))?;
        let file = regular(opened, &self.volume, &self.shown(path))?;
        let length = file.metadata().map_err(|source| self.failed("read", path, source))?.len();
        Ok((file, length))
    }

    fn list_below(
        &self,
        directory: &OwnedFd,
        at: &Path,
        depth: usize,
        listing: &mut Listing,
    ) -> Result<(), VolumeError> {
        for name in self.names(directory, at, listing)? {
            let path = at.join(&name);
            let stat = match statat(directory, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // It was there when the directory was read.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(errno) => return Err(self.failed("look at", &path, errno.into())),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => listing.files.push(path),
                FileType::Directory if depth >= MAX_DEPTH => {
                    listing.leave_out(&path, "deeper than any directory is taken");
                }
                FileType::Directory => match open_directory(directory, &name) {
                    Ok(below) => self.list_below(&below, &path, depth + 1, listing)?,
                    Err(Errno::EXDEV) => listing.leave_out(&path, "another file system"),
                    Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(self.failed("open", &path, errno.into())),
                },
                FileType::Symlink => listing.leave_out(&path, "a symbolic link"),
                FileType::Fifo => listing.leave_out(&path, "a named pipe"),
                FileType::Socket => listing.leave_out(&path, "a socket"),
                _ => listing.leave_out(&path, "a device"),
            }
        }
        Ok(())
    }

    fn names(
        &self,
        directory: &impl AsFd,
        at: &Path,
        listing: &mut Listing,
    ) -> Result<Vec<OsString>, VolumeError> {
        let mut names = Vec::new();
        for entry in
            Dir::read_from(directory).map_err(|errno| self.failed("read", at, errno.into()))?
        {
            let entry = entry.map_err(|errno| self.failed("read", at, errno.into()))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            names.push(OsString::from_vec(name.to_vec()));
            listing.entries += 1;
            if listing.entries > MAX_ENTRIES {
                let (volume, path) = (self.volume.clone(), self.path.clone());
                return Err(VolumeError::TooMany { volume, path, limit: MAX_ENTRIES });
            }
        }
        names.sort();
        if names.is_empty() && !at.as_os_str().is_empty() {
            listing.leave_out(at, "an empty directory");
        }
        Ok(names)
    }

    fn shown(&self, path: &Path) -> String {
        Path::new(&self.path).join(path).display().to_string()
    }

    fn failed(&self, step: &'static str, path: &Path, source: std::io::Error) -> VolumeError {
        VolumeError::system(step, &self.volume, &self.shown(path), source)
    }
}
