//! What is made, written and removed in a root.
//!
//! A file appears complete or not at all: it is written under a temporary name in its directory and
//! renamed. Nothing is flushed to disk: a node's root is in RAM.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{Ownership, Root, ownership};
use crate::Result;

/// Name under which a file or link is written before it takes its place. One writer at a time.
const TEMPORARY: &str = ".bedplate-new";

/// Most bytes of one extended attribute: the kernel's XATTR_SIZE_MAX.
const MAX_XATTR_BYTES: usize = 65_536;

impl Root {
    /// Makes a directory in a directory that exists.
    ///
    /// # Errors
    /// Something has its name (`EEXIST`), or its parent does not exist.
    pub fn make_directory(&self, path: &Path, as_: Ownership) -> Result<()> {
        let make = || {
            let (parent, name) = self.parent(path)?;
            rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
            set_ownership(&directory, as_)
        };
        make().map_err(|errno| self.error("make the directory", path, errno))
    }

    /// The directory at `path`, to mount something on. It and the directories above it are made if
    /// they do not exist; links are followed within the root.
    ///
    /// # Errors
    /// Something on the way is no directory, or a link that leads nowhere.
    pub fn ensure_mount_point(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        if let Ok(found) = self.resolve(path, flags) {
            return Ok(found);
        }
        self.make_parents(path)?;
        let place = || {
            let (parent, name) = self.parent(path)?;
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
                // Something is there: what it is shows when it is opened.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            self.resolve(path, flags)
        };
        place().map_err(|errno| self.error("make a place for", path, errno))
    }

    /// The file at `path`, to mount something on; as [`Self::ensure_mount_point`].
    ///
    /// # Errors
    /// As [`Self::ensure_mount_point`].
    pub fn ensure_mount_point_file(&self, path: &Path) -> Result<OwnedFd> {
        if let Ok(found) = self.resolve(path, OFlags::PATH) {
            return Ok(found);
        }
        self.make_parents(path)?;
        let place = || {
            let (parent, name) = self.parent(path)?;
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
            self.resolve(path, OFlags::PATH)
        };
        place().map_err(|errno| self.error("make a place for", path, errno))
    }

    /// Makes the directories above `path` that do not exist, with mode 0755.
    ///
    /// # Errors
    /// As [`Self::ensure_mount_point`].
    pub fn make_parents(&self, path: &Path) -> Result<()> {
        match path.parent().filter(|parent| parent.parent().is_some()) {
            Some(parent) => self.ensure_mount_point(parent, 0o755).map(drop),
            None => Ok(()),
        }
    }

    /// Gives a directory another owner and mode.
    ///
    /// # Errors
    /// It is no directory.
    pub fn set_directory_ownership(&self, path: &Path, as_: Ownership) -> Result<()> {
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(|directory| set_ownership(&directory, as_))
            .map_err(|errno| self.error("set owner and mode of", path, errno))
    }

    /// Writes a regular file, in place of a file or link of that name, with the
    /// `content` up to its end.
    ///
    /// # Errors
    /// The parent does not exist, a directory has its name, the file system is full, or `content`
    /// cannot be read.
    pub fn write_file(&self, path: &Path, content: &mut dyn Read, as_: Ownership) -> Result<()> {
        self.replace_file(path, content, as_, |_| Ok(()))
    }

    /// Copies a regular file from another root: content, owner, mode, extended attributes and
    /// time of change.
    ///
    /// # Errors
    /// As [`Self::write_file`]; `path` in `source` is no regular file.
    pub fn copy_file(&self, source: &Self, path: &Path) -> Result<()> {
        let mut file = source.read(path)?;
        let stat =
            rustix::fs::fstat(&file).map_err(|errno| source.error("look at", path, errno))?;
        let original = file.try_clone().map_err(|errno| source.error("read", path, errno))?;
        self.replace_file(
            path,
            &mut file,
            ownership(stat.st_uid, stat.st_gid, stat.st_mode),
            |copy| {
                copy_xattrs(&original, copy)?;
                let modified = Timespec {
                    tv_sec: stat.st_mtime,
                    tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
                };
                let times = Timestamps { last_access: modified, last_modification: modified };
                rustix::fs::futimens(copy, &times)
            },
        )
    }

    /// Makes a symbolic link to `target`, in place of a file or link of that name.
    ///
    /// # Errors
    /// As [`Self::write_file`].
    pub fn write_link(&self, path: &Path, target: &Path, uid: u32, gid: u32) -> Result<()> {
        let write = || {
            let (directory, name) = self.parent(path)?;
            remove_temporary(&directory)?;
            rustix::fs::symlinkat(target, &directory, TEMPORARY)?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(
                &directory,
                TEMPORARY,
                Some(Uid::from_raw(uid)),
                Some(Gid::from_raw(gid)),
                flags,
            )?;
            take_place(&directory, name)
        };
        write().map_err(|errno| self.error("write the link", path, errno))
    }

    /// Makes the node of a device; `kind` is that of a device.
    ///
    /// # Errors
    /// Something has its name (`EEXIST`), its parent does not exist; `EPERM` without `CAP_MKNOD`.
    pub fn make_device(
        &self,
        path: &Path,
        kind: FileType,
        numbers: (u32, u32),
        as_: Ownership,
    ) -> Result<()> {
        let make = || {
            let (directory, name) = self.parent(path)?;
            let (device, mode) =
                (rustix::fs::makedev(numbers.0, numbers.1), Mode::from_raw_mode(as_.mode));
            rustix::fs::mknodat(&directory, name, kind, mode, device)?;
            let (uid, gid) = (Some(Uid::from_raw(as_.uid)), Some(Gid::from_raw(as_.gid)));
            rustix::fs::chownat(&directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            // What was made a moment ago is no link, and nobody else is here to make it one.
            rustix::fs::chmodat(&directory, name, mode, AtFlags::empty())
        };
        make().map_err(|errno| self.error("make the device", path, errno))
    }

    /// Removes a file or link. `false` if there was none.
    ///
    /// # Errors
    /// It is a directory.
    pub fn remove_file(&self, path: &Path) -> Result<bool> {
        self.remove(path, AtFlags::empty()).map_err(|errno| self.error("remove", path, errno))
    }

    /// Removes a directory if it is empty. `false` if there was none or it is not empty.
    ///
    /// # Errors
    /// It is no directory.
    pub fn remove_empty_directory(&self, path: &Path) -> Result<bool> {
        match self.remove(path, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(false),
            other => other.map_err(|errno| self.error("remove the directory", path, errno)),
        }
    }

    fn remove(&self, path: &Path, flags: AtFlags) -> rustix::io::Result<bool> {
        let removed = self
            .parent(path)
            .and_then(|(directory, name)| rustix::fs::unlinkat(&directory, name, flags));
        match removed {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn replace_file(
        &self,
        path: &Path,
        content: &mut dyn Read,
        as_: Ownership,
        finish: impl FnOnce(&File) -> rustix::io::Result<()>,
    ) -> Result<()> {
        let fail = |errno: std::io::Error| self.error("write", path, errno);
        let (directory, name) = self.parent(path).map_err(|errno| fail(errno.into()))?;
        let write = || -> std::io::Result<()> {
            remove_temporary(&directory)?;
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o600);
            let mut file = File::from(rustix::fs::openat(&directory, TEMPORARY, flags, mode)?);
            std::io::copy(content, &mut file)?;
            file.flush()?;
            set_ownership(&file, as_)?;
            finish(&file)?;
            Ok(take_place(&directory, name)?)
        };
        write().map_err(|errno| {
            // What is left of it is in the way of nobody and is removed by the next write.
            let _ = remove_temporary(&directory);
            fail(errno)
        })
    }
}

fn set_ownership(file: impl std::os::fd::AsFd, as_: Ownership) -> rustix::io::Result<()> {
    // Owner first: chown clears set-user-id.
    rustix::fs::fchown(&file, Some(Uid::from_raw(as_.uid)), Some(Gid::from_raw(as_.gid)))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(as_.mode))
}

fn copy_xattrs(from: &File, to: &File) -> rustix::io::Result<()> {
    let mut names = vec![0; MAX_XATTR_BYTES];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        other => other?,
    };
    let mut value = vec![0; MAX_XATTR_BYTES];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

fn remove_temporary(directory: &OwnedFd) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(directory, TEMPORARY, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn take_place(directory: &OwnedFd, name: &std::ffi::OsStr) -> rustix::io::Result<()> {
    rustix::fs::renameat(directory, TEMPORARY, directory, name).inspect_err(|_| {
        let _ = remove_temporary(directory);
    })
}
