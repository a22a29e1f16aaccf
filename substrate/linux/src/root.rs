//! Reading and writing below a root directory that is not trusted to hold harmless links.
//!
//! Every path is resolved by the kernel as if the directory were `/` (`openat2(2)` with
//! `RESOLVE_IN_ROOT`): a symbolic link that points to `/etc` leads to `ROOT/etc`, and `..` cannot
//! leave. The last component is never followed when something is written or removed, which is in
//! `write`.

mod write;

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{LinuxError, Result};

/// Numeric owner and group, and permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// UID.
    pub uid: u32,
    /// GID.
    pub gid: u32,
    /// Permission bits, `0o7777` at most. Symbolic links have none.
    pub mode: u32,
}

/// Somebody, by numbers.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// UID.
    pub uid: u32,
    /// GID.
    pub gid: u32,
    /// GIDs of the supplementary groups.
    pub groups: &'a [u32],
}

impl Identity<'_> {
    /// Has these of the bits `rwx` (`path_resolution(7)`, permissions). Not of root,
    /// who needs none.
    fn may(&self, of: Ownership, wanted: u32) -> bool {
        let shift = if of.uid == self.uid {
            6
        } else if of.gid == self.gid || self.groups.contains(&of.gid) {
            3
        } else {
            0
        };
        (of.mode >> shift) & wanted == wanted
    }
}

/// What is at a path, links not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory(Ownership),
    /// A regular file of this many bytes.
    File(Ownership, u64),
    /// A symbolic link and where it points.
    Link(Ownership, PathBuf),
    /// A device, pipe or socket.
    Special,
}

/// Effective user and group of this process.
#[must_use]
pub fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// A directory that is treated as `/`.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens the directory at `path`, which itself is trusted.
    ///
    /// # Errors
    /// It does not exist or is no directory.
    pub fn open(path: &Path) -> Result<Self> {
        let directory = rustix::fs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| LinuxError::path("open the directory", path, errno))?;
        Ok(Self { directory, path: path.to_owned() })
    }

    /// What is at `path`; `None` if nothing is.
    ///
    /// # Errors
    /// Other than that the path does not exist.
    pub fn look(&self, path: &Path) -> Result<Option<Entry>> {
        let found = self.parent(path).and_then(|(directory, name)| entry_at(&directory, name));
        match found {
            Ok(entry) => Ok(Some(entry)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(self.error("look at", path, errno)),
        }
    }

    /// `true` if `path` is a directory or a link to one.
    #[must_use]
    pub fn leads_to_directory(&self, path: &Path) -> bool {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY).is_ok()
    }

    /// `true` if `path`, links followed within the root, is a regular file that
    /// somebody may execute.
    #[must_use]
    pub fn leads_to_program(&self, path: &Path) -> bool {
        let stat = self.resolve(path, OFlags::PATH).and_then(rustix::fs::fstat);
        stat.is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_mode & 0o111 != 0
        })
    }

    /// Makes the directory at `path` this process's working directory. Links are followed within
    /// the root, those of `/proc` to what a process has open are not.
    ///
    /// # Errors
    /// It is no directory, or not to be entered by this user.
    pub fn enter(&self, path: &Path) -> Result<()> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)
            .and_then(rustix::process::fchdir)
            .map_err(|errno| self.error("enter", path, errno))
    }

    /// Opens a regular file for reading; a link as last component is not followed.
    ///
    /// # Errors
    /// It does not exist, or is no regular file.
    pub fn read(&self, path: &Path) -> Result<File> {
        let open = || {
            let (directory, name) = self.parent(path)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
            if kind == FileType::RegularFile { Ok(File::from(file)) } else { Err(Errno::INVAL) }
        };
        open().map_err(|errno| self.error("read", path, errno))
    }

    /// As [`Self::read`], but links are followed within the root, those of `/proc` to what a
    /// process has open are not.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_linked(&self, path: &Path) -> Result<File> {
        let open = || {
            let file = self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
            if kind == FileType::RegularFile { Ok(File::from(file)) } else { Err(Errno::INVAL) }
        };
        open().map_err(|errno| self.error("read", path, errno))
    }

    /// `true` if `path` is a directory, links followed within the root, that somebody may write to:
    /// as the permission bits of it say, and of those that are named on the way to it.
    #[must_use]
    pub fn may_write(&self, path: &Path, who: Identity<'_>) -> bool {
        self.lets(path, who, 0o3)
            && path.ancestors().skip(1).all(|above| self.lets(above, who, 0o1))
    }

    /// As [`Self::may_write`], that somebody may go through.
    #[must_use]
    pub fn may_search(&self, path: &Path, who: Identity<'_>) -> bool {
        path.ancestors().all(|path| self.lets(path, who, 0o1))
    }

    fn lets(&self, path: &Path, who: Identity<'_>, wanted: u32) -> bool {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let stat = self.resolve(path, OFlags::PATH | OFlags::DIRECTORY).and_then(rustix::fs::fstat);
        stat.is_ok_and(|stat| who.may(ownership(stat.st_uid, stat.st_gid, stat.st_mode), wanted))
    }

    /// The directory that holds `path`, and the last component.
    fn parent<'p>(&self, path: &'p Path) -> rustix::io::Result<(OwnedFd, &'p std::ffi::OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok((self.resolve(parent, OFlags::RDONLY | OFlags::DIRECTORY)?, name))
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: a rename elsewhere raced with the walk (openat2(2)); a handful of tries is
        // what it advises.
        const TRIES: u32 = 8;
        for _ in 1..TRIES {
            match rustix::fs::openat2(
                &self.directory,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        rustix::fs::openat2(&self.directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    fn error(
        &self,
        step: &'static str,
        path: &Path,
        errno: impl Into<std::io::Error>,
    ) -> LinuxError {
        let path = path.strip_prefix("/").unwrap_or(path);
        LinuxError::path(step, &self.path.join(path), errno)
    }
}

fn entry_at(directory: &OwnedFd, name: &std::ffi::OsStr) -> rustix::io::Result<Entry> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let as_ = ownership(stat.st_uid, stat.st_gid, stat.st_mode);
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Entry::Directory(as_),
        FileType::RegularFile => Entry::File(as_, stat.st_size.cast_unsigned()),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
            let target = <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(
                target.into_bytes(),
            );
            Entry::Link(as_, target.into())
        }
        _ => Entry::Special,
    })
}

fn ownership(uid: u32, gid: u32, mode: u32) -> Ownership {
    Ownership { uid, gid, mode: mode & 0o7777 }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::unix::fs::{MetadataExt, symlink},
    };

    use super::*;

    fn me(mode: u32) -> Ownership {
        Ownership {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            mode,
        }
    }

    #[test]
    fn links_cannot_lead_out() {
        let directory = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), directory.path().join("absolute")).unwrap();
        symlink("../../../../..", directory.path().join("upwards")).unwrap();
        let root = Root::open(directory.path()).unwrap();
        assert!(root.write_file(Path::new("absolute/x"), &mut &b"x"[..], me(0o644)).is_err());
        assert_eq!(outside.path().read_dir().unwrap().count(), 0);
        // `..` of the root is the root.
        root.write_file(Path::new("upwards/y"), &mut &b"y"[..], me(0o640)).unwrap();
        assert_eq!(std::fs::read(directory.path().join("y")).unwrap(), b"y");
        assert_eq!(std::fs::metadata(directory.path().join("y")).unwrap().mode() & 0o7777, 0o640);
    }

    #[test]
    fn a_file_is_read_through_links_of_the_root_alone() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        std::fs::write(directory.path().join("file"), "own").unwrap();
        let root = Root::open(directory.path()).unwrap();
        symlink("/file", directory.path().join("inside")).unwrap();
        symlink(outside.path().join("secret"), directory.path().join("outside")).unwrap();
        let read = |path: &str| {
            std::io::read_to_string(root.read_linked(Path::new(path)).unwrap()).unwrap()
        };
        assert_eq!((read("/file"), read("/inside")), ("own".into(), "own".into()));
        assert_eq!(root.read_linked(Path::new("/outside")).unwrap_err().raw(), Some(libc::ENOENT));
        assert_eq!(root.read_linked(Path::new("/")).unwrap_err().raw(), Some(libc::EINVAL));
    }

    #[test]
    fn who_may_write_is_seen_by_the_bits() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        let (uid, gid) = (me(0).uid, me(0).gid);
        for (path, mode) in [("a", 0o755), ("a/own", 0o700), ("a/group", 0o070), ("a/all", 0o1777)]
        {
            root.make_directory(Path::new(path), me(mode)).unwrap();
        }
        root.make_directory(Path::new("closed"), me(0o700)).unwrap();
        root.make_directory(Path::new("closed/all"), me(0o777)).unwrap();
        symlink("/a/all", directory.path().join("link")).unwrap();
        std::fs::set_permissions(
            directory.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let may = |uid, gid, groups: &[u32]| {
            let who = Identity { uid, gid, groups };
            let all = ["/a/own", "/a/group", "/a/all", "/link", "/closed/all", "/none", "/a", "/"];
            all.into_iter().filter(|path| root.may_write(Path::new(path), who)).collect::<Vec<_>>()
        };
        assert_eq!(may(uid, gid, &[]), ["/a/own", "/a/all", "/link", "/closed/all", "/a", "/"]);
        assert_eq!(may(uid + 1, gid, &[]), ["/a/group", "/a/all", "/link"]);
        assert_eq!(may(uid + 1, gid + 1, &[gid]), ["/a/group", "/a/all", "/link"]);
        assert_eq!(may(uid + 1, gid + 1, &[]), ["/a/all", "/link"]);
        assert!(root.may_write(Path::new("a/own"), Identity { uid, gid, groups: &[] }));
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("target"), "old").unwrap();
        symlink("target", directory.path().join("link")).unwrap();
        let root = Root::open(directory.path()).unwrap();
        root.write_file(Path::new("link"), &mut &b"new"[..], me(0o600)).unwrap();
        assert_eq!(std::fs::read_to_string(directory.path().join("target")).unwrap(), "old");
        assert_eq!(root.look(Path::new("link")).unwrap(), Some(Entry::File(me(0o600), 3)));
        root.write_link(Path::new("link"), Path::new("/elsewhere"), me(0).uid, me(0).gid).unwrap();
        assert_eq!(
            root.look(Path::new("link")).unwrap(),
            Some(Entry::Link(me(0o777), "/elsewhere".into()))
        );
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_remains() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("broken"))
            }
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "old").unwrap();
        let root = Root::open(directory.path()).unwrap();
        let error = root.write_file(Path::new("file"), &mut Broken, me(0o600)).unwrap_err();
        assert!(error.to_string().ends_with("/file"), "{error}");
        assert_eq!(std::fs::read_to_string(directory.path().join("file")).unwrap(), "old");
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_program_is_found_through_links() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        for name in ["lib", "sbin"] {
            root.make_directory(Path::new(name), me(0o755)).unwrap();
        }
        root.write_file(Path::new("lib/systemd"), &mut &b""[..], me(0o755)).unwrap();
        root.write_file(Path::new("lib/text"), &mut &b""[..], me(0o644)).unwrap();
        symlink("/lib/systemd", directory.path().join("sbin/init")).unwrap();
        symlink("/bin/sh", directory.path().join("sbin/outside")).unwrap();
        assert!(root.leads_to_program(Path::new("/sbin/init")));
        for not in ["/lib/text", "/sbin/outside", "/lib", "/sbin/none"] {
            assert!(!root.leads_to_program(Path::new(not)), "{not}");
        }
    }

    #[test]
    fn directories_are_removed_only_when_empty() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        root.make_directory(Path::new("a"), me(0o711)).unwrap();
        assert_eq!(root.look(Path::new("a")).unwrap(), Some(Entry::Directory(me(0o711))));
        root.write_file(Path::new("a/b"), &mut &b""[..], me(0o600)).unwrap();
        assert!(!root.remove_empty_directory(Path::new("a")).unwrap());
        assert!(root.remove_file(Path::new("a/b")).unwrap());
        assert!(!root.remove_file(Path::new("a/b")).unwrap());
        assert!(root.remove_empty_directory(Path::new("a")).unwrap());
        assert_eq!(root.look(Path::new("a")).unwrap(), None);
    }
}
