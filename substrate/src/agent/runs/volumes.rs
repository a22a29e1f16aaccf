//! Ephemeral volumes: `VOLUMES/WORKFLOW/NAME`, owned by the user, mode 0700, on this node
//! alone. In memory each is a file system of its own, which has a limit ([`room`]); on a disk
//! it is a directory.
//!
//! Whatever is in a volume was written by jobs. So paths in it are resolved by the kernel beneath
//! the volume, without symbolic links and without crossing mounts (`openat2`), and only regular
//! files are opened.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, PermissionsExt, chown},
    },
    path::{Component, Path, PathBuf},
};

use api::run::{RunUser, WorkflowId};
use linux::LinuxError;
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::{
        stat::{Mode, SFlag, fstat, mkdirat},
        statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs},
    },
    unistd::{Gid, Uid, fchown},
};

pub use directory::{Listing, MAX_DEPTH, MAX_ENTRIES, VolumeDirectory};
pub use room::{FIT_INTERVAL, MAX_MOUNTED, VolumeRoom};

mod directory;
mod room;

/// Longest name of a volume, bytes: that of a file.
const MAX_NAME_BYTES: usize = 255;

/// Directories above the volumes: passable, not readable, for containers enter them by
/// bind mounts alone.
const ABOVE_MODE: u32 = 0o711;

/// Why a volume or a file in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The name is no name of a directory.
    #[error(
        "{0:?} cannot be the name of a volume; use 1 to {MAX_NAME_BYTES} bytes without / that are not . or .."
    )]
    Name(String),
    /// The path leads nowhere in a volume.
    #[error(
        "{0:?} is no path in a volume; use a relative path without .. that ends in a file's name"
    )]
    Path(String),
    /// The volume is not here.
    #[error("the volume {0} is not on this node; it was removed, or the node was rebooted")]
    Missing(String),
    /// There is something else than a file.
    #[error("{path} in the volume {volume} is no regular file")]
    NoFile {
        /// The volume.
        volume: String,
        /// The path in it.
        path: String,
    },
    /// A directory holds more than one transfer takes.
    #[error(
        "the directory {path} in the volume {volume} holds more than {limit} files and directories; let a job \
         pack it (`tar -cf`), and transfer the archive"
    )]
    TooMany {
        /// The volume.
        volume: String,
        /// The path in it.
        path: String,
        /// How many are taken.
        limit: usize,
    },
    /// The node has as many volumes as it can have.
    #[error("cannot make the volume {0}: the node has {MAX_MOUNTED} already")]
    TooManyVolumes(String),
    /// It cannot be made a file system of its own.
    #[error("cannot limit the volume {volume}")]
    Limit {
        /// The volume.
        volume: String,
        /// The kernel's answer to the mount, or to the look at what is mounted.
        #[source]
        source: LinuxError,
    },
    /// The system refused.
    #[error("cannot {step} {path} in the volume {volume}{hint}")]
    System {
        /// What was tried.
        step: &'static str,
        /// The volume.
        volume: String,
        /// The path in it.
        path: String,
        /// What this errno means here.
        hint: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    /// `true` if the same may work at another time.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::System { source, .. } => is_transient(source),
            Self::Limit { source, .. } => is_transient(&source.errno),
            Self::TooManyVolumes(_) => true,
            _ => false,
        }
    }
}

/// A full disk, or no memory.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    let full = [Errno::ENOSPC, Errno::EDQUOT, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|raw| full.contains(&Errno::from_raw(raw)))
}

/// A full disk, no memory, no descriptors: they pass.
#[must_use]
pub fn is_transient(error: &io::Error) -> bool {
    let passing =
        [Errno::ENOSPC, Errno::EDQUOT, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE, Errno::EIO];
    error.raw_os_error().is_some_and(|raw| passing.contains(&Errno::from_raw(raw)))
}

/// Whether what is written to a directory stays in memory: it is on a tmpfs, or on the node's root,
/// whose writable layer stage 1 makes in one.
#[must_use]
pub fn is_in_memory(directory: &Path) -> bool {
    let kind = statfs(directory).map(|found| found.filesystem_type());
    kind.is_ok_and(|kind| kind == TMPFS_MAGIC || kind == OVERLAYFS_SUPER_MAGIC)
}

/// What a transfer out of a volume takes.
#[derive(Debug)]
pub enum Kept {
    /// A file for reading, and its length, bytes.
    File(File, u64),
    /// A directory with what is below it.
    Directory(VolumeDirectory),
}

/// All volumes of the node.
#[derive(Debug, Clone)]
pub struct Volumes {
    directory: PathBuf,
    /// Those in memory become file systems.
    has_limits: bool,
}

impl Volumes {
    /// Volumes below this directory. `has_limits`: those in memory have limits, as on a node.
    #[must_use]
    pub fn new(directory: PathBuf, has_limits: bool) -> Self {
        Self { directory, has_limits }
    }

    /// Where a volume is, or would be.
    ///
    /// # Errors
    /// [`VolumeError::Name`].
    pub fn path(&self, workflow: WorkflowId, volume: &str) -> Result<PathBuf, VolumeError> {
        let good = !matches!(volume, "" | "." | "..")
            && volume.len() <= MAX_NAME_BYTES
            && !volume.contains(['/', '\0']);
        if !good {
            return Err(VolumeError::Name(volume.to_owned()));
        }
        Ok(self.directory.join(workflow.to_string()).join(volume))
    }

    /// Where a volume is.
    ///
    /// # Errors
    /// [`VolumeError::Missing`], [`VolumeError::Name`].
    pub fn existing(&self, workflow: WorkflowId, volume: &str) -> Result<PathBuf, VolumeError> {
        let path = self.path(workflow, volume)?;
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            return Ok(path);
        }
        Err(VolumeError::Missing(volume.to_owned()))
    }

    /// Makes a volume of the user's that may hold `limit` bytes; without a limit, what the node's
    /// root has in all. One that exists stays as it is, with its contents.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub fn create(
        &self,
        workflow: WorkflowId,
        volume: &str,
        user: &RunUser,
        limit: Option<u64>,
    ) -> Result<(), VolumeError> {
        let path = self.path(workflow, volume)?;
        let make = || {
            let above = self.directory.join(workflow.to_string());
            fs::DirBuilder::new().recursive(true).mode(ABOVE_MODE).create(&above)?;
            // The process's umask must not decide who can pass.
            fs::set_permissions(&above, fs::Permissions::from_mode(ABOVE_MODE))?;
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
            chown(&path, Some(user.uid), Some(user.gid))?;
            // What an agent of before made may hold something that a mount would hide.
            fs::read_dir(&path).map(|mut entries| entries.next().is_none())
        };
        let is_empty =
            make().map_err(|source| self.system("make", volume, "the directory", source))?;
        if self.has_limits && is_empty && self.is_in_memory() {
            self.limit(&path, volume, user, limit)?;
        }
        Ok(())
    }

    /// An empty file for writing, the user's; directories on the way are made, the user's too.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub fn create_file(
        &self,
        workflow: WorkflowId,
        volume: &str,
        path: &str,
        user: &RunUser,
    ) -> Result<File, VolumeError> {
        let root = self.open(workflow, volume)?;
        let names = names(path)?;
        let system = |errno: Errno| self.system("write", volume, path, errno.into());
        let mut directory = root;
        for name in &names[..names.len() - 1] {
            match mkdirat(directory.as_fd(), *name, Mode::from_bits_truncate(0o755)) {
                Ok(()) => {
                    let made = open_directory(&directory, name).map_err(system)?;
                    own(&made, user).map_err(system)?;
                    directory = made;
                }
                Err(Errno::EEXIST) => {
                    directory = open_directory(&directory, name).map_err(system)?
                }
                Err(errno) => return Err(system(errno)),
            }
        }
        // Not O_TRUNC: what is there might be no regular file.
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NONBLOCK;
        let opened =
            open_beneath(&directory, names[names.len() - 1], flags, 0o644).map_err(system)?;
        let file = self.regular(opened, volume, path)?;
        own(&file, user).map_err(system)?;
        file.set_len(0).map_err(|source| self.system("write", volume, path, source))?;
        Ok(file)
    }

    /// A file or a directory for reading; `.` is the volume itself.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub fn open_kept(
        &self,
        workflow: WorkflowId,
        volume: &str,
        path: &str,
    ) -> Result<Kept, VolumeError> {
        let root = self.open(workflow, volume)?;
        if path == "." {
            return Ok(Kept::Directory(VolumeDirectory::new(root, volume, path)));
        }
        names(path)?;
        let opened = open_beneath(&root, OsStr::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0)
            .map_err(|errno| self.system("read", volume, path, errno.into()))?;
        let stat =
            fstat(&opened).map_err(|errno| self.system("look at", volume, path, errno.into()))?;
        if file_type(stat.st_mode) == SFlag::S_IFDIR {
            return Ok(Kept::Directory(VolumeDirectory::new(opened, volume, path)));
        }
        let file = self.regular(opened, volume, path)?;
        let length =
            file.metadata().map_err(|source| self.system("read", volume, path, source))?.len();
        Ok(Kept::File(file, length))
    }

    /// Whether what is written to volumes stays in memory.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        is_in_memory(&self.directory)
    }

    /// Workflows that have volumes here, as far as their directory can be read.
    #[must_use]
    pub fn workflows(&self) -> Vec<WorkflowId> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Deletes all volumes of a workflow: out of sight at once, off the disk soon, also after
    /// a restart of the agent. What is a file system gives its memory back when the last who
    /// uses it is gone.
    pub fn remove(&self, workflow: WorkflowId) {
        let (from, to) = (
            self.directory.join(workflow.to_string()),
            self.directory.join(format!("{workflow}.old")),
        );
        // What an earlier removal left is on its way out.
        let to = if to.exists() {
            self.directory.join(format!("{workflow}.{:x}.old", crate::random::random()))
        } else {
            to
        };
        match fs::rename(&from, &to) {
            Ok(()) => self.finish_removals(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(%workflow, %error, "cannot remove the volumes"),
        }
    }

    /// Deletes in a thread what was removed.
    pub fn finish_removals(&self) {
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || {
            let Ok(entries) = fs::read_dir(&directory) else { return };
            for path in entries.flatten().map(|entry| entry.path()) {
                if path.extension() != Some(OsStr::new("old")) {
                    continue;
                }
                // Here, because the kernel frees all of their memory before it returns.
                room::detach_below(&path);
                if let Err(error) = delete(&path) {
                    tracing::error!(path = %path.display(), %error, "cannot delete removed volumes");
                }
            }
        });
    }

    fn open(&self, workflow: WorkflowId, volume: &str) -> Result<OwnedFd, VolumeError> {
        let path = self.existing(workflow, volume)?;
        let directory =
            File::open(&path).map_err(|source| self.system("open", volume, ".", source))?;
        Ok(directory.into())
    }

    #[expect(clippy::unused_self, reason = "reads as the volumes' own")]
    fn regular(&self, opened: OwnedFd, volume: &str, path: &str) -> Result<File, VolumeError> {
        regular(opened, volume, path)
    }

    #[expect(clippy::unused_self, reason = "reads as the volumes' own error")]
    fn system(
        &self,
        step: &'static str,
        volume: &str,
        path: &str,
        source: io::Error,
    ) -> VolumeError {
        VolumeError::system(step, volume, path, source)
    }
}

fn regular(opened: OwnedFd, volume: &str, path: &str) -> Result<File, VolumeError> {
    let stat = fstat(&opened)
        .map_err(|errno| VolumeError::system("look at", volume, path, errno.into()))?;
    if file_type(stat.st_mode) != SFlag::S_IFREG {
        return Err(VolumeError::NoFile { volume: volume.to_owned(), path: path.to_owned() });
    }
    Ok(File::from(opened))
}

fn file_type(mode: libc::mode_t) -> SFlag {
    SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits())
}

impl VolumeError {
    fn system(step: &'static str, volume: &str, path: &str, source: io::Error) -> Self {
        let hint = match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ELOOP) => ": symbolic links are not followed in transfers",
            Some(Errno::EXDEV) => ": it leads out of the volume",
            Some(Errno::ENOENT) => ": no job wrote it",
            _ => "",
        };
        Self::System { step, volume: volume.to_owned(), path: path.to_owned(), hint, source }
    }
}

/// Refuses to go where something is mounted; [`fs::remove_dir_all`] itself follows
/// no symbolic link.
fn delete(path: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let inside = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .find(|mount| Path::new(mount).starts_with(path));
    match inside {
        Some(mount) => Err(io::Error::other(format!("something is mounted at {mount}"))),
        None => fs::remove_dir_all(path),
    }
}

/// The names of a relative path that goes only down.
fn names(path: &str) -> Result<Vec<&OsStr>, VolumeError> {
    let bad = || VolumeError::Path(path.to_owned());
    let names = Path::new(path)
        .components()
        .map(|component| match component {
            Component::Normal(name) => Ok(name),
            _ => Err(bad()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() || path.ends_with('/') || path.contains('\0') {
        return Err(bad());
    }
    Ok(names)
}

fn open_directory(directory: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    open_beneath(directory, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)
}

fn open_beneath(
    directory: &OwnedFd,
    path: &OsStr,
    flags: OFlag,
    mode: u32,
) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .mode(Mode::from_bits_truncate(mode))
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    openat2(directory, path, how)
}

fn own(file: &impl AsFd, user: &RunUser) -> nix::Result<()> {
    fchown(file, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
}

#[cfg(test)]
#[path = "volumes/tests.rs"]
mod tests;
