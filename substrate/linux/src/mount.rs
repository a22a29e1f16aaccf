//! Mounting, moving and unmounting file systems.

use std::{
    ffi::{CString, OsString},
    fs,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStringExt as _,
            fs::{DirBuilderExt, PermissionsExt},
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::CWD,
    mount::{FsMountFlags, FsOpenFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};

use crate::{LinuxError, Result};

pub use rustix::mount::{MountAttrFlags as Attributes, MountFlags as Flags};

/// No programs, set-user-ID or devices.
pub const INERT: Attributes = Attributes::MOUNT_ATTR_NOSUID
    .union(Attributes::MOUNT_ATTR_NODEV)
    .union(Attributes::MOUNT_ATTR_NOEXEC);

/// Makes the directory `path` with `mode`, and its parents, unless it exists. An existing one
/// gets `mode` too.
///
/// # Errors
/// A parent is no directory, or the file system is read-only.
pub fn make_directory(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|errno| LinuxError::path("make the directory", path, errno))
}

/// Mounts `source` of file system `kind` on `target` with the kernel's `options` (comma-separated).
///
/// # Errors
/// `ENODEV` where the kernel has no such file system, `EINVAL` for a bad option or a damaged image.
pub fn mount(
    source: &Path,
    target: &Path,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> Result<()> {
    let fail = |errno| {
        LinuxError::new(
            "mount",
            format!("{kind} of {} on {}", source.display(), target.display()),
            errno,
        )
    };
    let options = CString::new(options).map_err(|_| fail(rustix::io::Errno::INVAL))?;
    rustix::mount::mount(source, target, kind, flags, Some(options.as_c_str())).map_err(fail)
}

/// Changes flags and options of a mounted file system.
///
/// # Errors
/// What the file system refuses, for example a size below what it holds.
pub fn remount(target: &Path, flags: MountFlags, options: &str) -> Result<()> {
    rustix::mount::mount_remount(target, flags, options)
        .map_err(|errno| LinuxError::path("remount", target, errno))
}

/// Mounts an overlay of `upper` over `lower` on `target`. `work` is an empty directory on the file
/// system of `upper`.
///
/// # Errors
/// As [`mount`]. The three paths must not hold `,`, `:` or `\`, which overlayfs reads as
/// separators: `EINVAL`.
pub fn mount_overlay(lower: &Path, upper: &Path, work: &Path, target: &Path) -> Result<()> {
    for path in [lower, upper, work] {
        if path.to_string_lossy().contains([',', ':', '\\']) {
            return Err(LinuxError::path(
                "name in the options of overlayfs",
                path,
                rustix::io::Errno::INVAL,
            ));
        }
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    mount(Path::new("overlay"), target, "overlay", MountFlags::empty(), &options)
}

/// Moves the mount at `from`, with everything mounted below it, to `to`.
///
/// # Errors
/// `EINVAL` if `from` is no mount point.
pub fn move_to(from: &Path, to: &Path) -> Result<()> {
    rustix::mount::mount_move(from, to).map_err(|errno| {
        LinuxError::new("move the mount", format!("{} to {}", from.display(), to.display()), errno)
    })
}

/// Mounts the directory `source` on `target` as well.
///
/// # Errors
/// Either path does not exist.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    rustix::mount::mount_bind(source, target).map_err(|errno| {
        LinuxError::new("bind", format!("{} on {}", source.display(), target.display()), errno)
    })
}

/// A new file system of `kind` with its options as pairs, mounted nowhere yet (`fsopen(2)`,
/// `fsconfig(2)`, `fsmount(2)`). An option without a value is a pair with an empty one.
///
/// # Errors
/// As [`mount`].
pub fn new(kind: &str, options: &[(&str, &str)], attributes: Attributes) -> Result<OwnedFd> {
    let make = || {
        let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            if value.is_empty() {
                rustix::mount::fsconfig_set_flag(context.as_fd(), *key)?;
            } else {
                rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
            }
        }
        rustix::mount::fsconfig_create(context.as_fd())?;
        rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().map_err(|errno| LinuxError::new("make the file system", kind, errno))
}

/// An overlay of the directory `upper` over `lower`, mounted nowhere yet. `work` is an empty
/// directory on the file system of `upper`.
///
/// # Errors
/// As [`mount_overlay`].
pub fn new_overlay(
    lower: &Path,
    upper: &Path,
    work: &Path,
    attributes: Attributes,
) -> Result<OwnedFd> {
    let mut options = Vec::new();
    for (key, path) in [("lowerdir", lower), ("upperdir", upper), ("workdir", work)] {
        let text = path.to_str().filter(|text| !text.contains([',', ':', '\\']));
        let text = text.ok_or_else(|| {
            LinuxError::path("name in the options of overlayfs", path, rustix::io::Errno::INVAL)
        })?;
        options.push((key, text));
    }
    new("overlay", &options, attributes)
}

/// A copy of what is mounted at `path`, or of the directory or file there, that is attached nowhere
/// yet: it can be taken into a root from which `path` cannot be seen (`open_tree(2)`).
///
/// # Errors
/// `path` does not exist.
pub fn detached(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path, flags)
        .map_err(|errno| LinuxError::path("take the mount of", path, errno))
}

/// Sets attributes of a mount, besides those it has (`mount_setattr(2)`).
///
/// # Errors
/// `ENOSYS` before kernel 5.12.
pub fn restrict(tree: BorrowedFd<'_>, attributes: Attributes) -> Result<()> {
    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let set = MountAttributes {
        set: attributes.bits().into(),
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: the empty path and the attributes live until the call returns, which reads them with
    // the size that is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const set,
            size_of::<MountAttributes>(),
        )
    };
    if done == 0 {
        return Ok(());
    }
    Err(LinuxError::new("restrict", "a mount", std::io::Error::last_os_error()))
}

/// Attaches what [`new`] or [`detached`] gave at `target`.
///
/// # Errors
/// `target` does not exist, or one is a directory and the other a file (`ENOTDIR`).
pub fn attach(tree: BorrowedFd<'_>, target: &Path) -> Result<()> {
    rustix::mount::move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| LinuxError::path("mount on", target, errno))
}

/// As [`attach`], at a directory or file that was opened; `name` is what it is called in errors.
///
/// # Errors
/// One is a directory and the other a file (`ENOTDIR`).
pub fn attach_at(tree: BorrowedFd<'_>, place: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", place, "", flags)
        .map_err(|errno| LinuxError::path("mount on", name, errno))
}

/// Makes the mount at `new_root` the root of this mount namespace and lets go of the old one
/// (`pivot_root(2)`, the form that needs no directory for the old root).
///
/// # Errors
/// `EINVAL` if `new_root` is no mount point, if a mount propagates, or if the present root
/// is the initramfs.
pub fn pivot_to(new_root: &Path) -> Result<()> {
    let fail = |errno: std::io::Error| LinuxError::path("change the root to", new_root, errno);
    std::env::set_current_dir(new_root).map_err(fail)?;
    rustix::process::pivot_root(".", ".").map_err(|errno| fail(errno.into()))?;
    // The old root lies over the new one now.
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(|errno| fail(errno.into()))?;
    std::env::set_current_dir("/").map_err(fail)
}

/// Makes the node of a character device.
///
/// # Errors
/// Something has its name; `EPERM` without `CAP_MKNOD`.
pub fn make_character_device(path: &Path, mode: u32, major: u32, minor: u32) -> Result<()> {
    let device = rustix::fs::makedev(major, minor);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(CWD, path, kind, rustix::fs::Mode::from_raw_mode(mode), device)
        .and_then(|()| rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode)))
        .map_err(|errno| LinuxError::path("make the device", path, errno))
}

/// Unmounts `target` at once.
///
/// # Errors
/// `EBUSY` while something uses it, `EINVAL` if it is no mount point.
pub fn unmount(target: &Path) -> Result<()> {
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)
        .map_err(|errno| LinuxError::path("unmount", target, errno))
}

/// Unmounts `target` as soon as nobody uses it any more; out of sight at once.
///
/// # Errors
/// `EINVAL` if it is no mount point.
pub fn detach(target: &Path) -> Result<()> {
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
        .map_err(|errno| LinuxError::path("unmount", target, errno))
}

/// A mounted file system, as `/proc/thread-self/mountinfo` has it (proc(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is mounted.
    pub target: PathBuf,
    /// Its kind: `tmpfs`.
    pub kind: String,
    /// What it was mounted from: a device, or any text where there is none.
    pub source: String,
}

/// What is mounted at `directory` and below, in this thread's mount namespace, the
/// last mounted last.
///
/// # Errors
/// `/proc` is not there.
pub fn below(directory: &Path) -> Result<Vec<Mounted>> {
    let path = Path::new("/proc/thread-self/mountinfo");
    let text = fs::read_to_string(path).map_err(|errno| LinuxError::path("read", path, errno))?;
    let mounted = text.lines().filter_map(mount_of);
    Ok(mounted.filter(|mount| mount.target.starts_with(directory)).collect())
}

/// `36 35 98:0 /root /target rw,noatime master:1 - ext3 /dev/root rw`.
fn mount_of(line: &str) -> Option<Mounted> {
    let (own, of_file_system) = line.split_once(" - ")?;
    let target = unescaped(own.split(' ').nth(4)?);
    let mut words = of_file_system.split(' ');
    let (kind, source) = (words.next()?.to_owned(), words.next()?);
    Some(Mounted {
        target: OsString::from_vec(target).into(),
        kind,
        source: String::from_utf8_lossy(&unescaped(source)).into_owned(),
    })
}

/// A word of mountinfo: blanks, line ends and backslashes are octal numbers in it.
fn unescaped(word: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(word.len()), word.as_bytes());
    while let [first, tail @ ..] = rest {
        let number = tail.get(..3).filter(|_| *first == b'\\');
        let number = number.and_then(|digits| std::str::from_utf8(digits).ok());
        let number = number.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(number.unwrap_or(*first));
        rest = if number.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

/// Room of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that can still be written.
    pub available: u64,
    /// Files and directories that it may hold.
    pub max_inodes: u64,
    /// Those that it holds.
    pub inodes: u64,
}

impl Room {
    /// Bytes that it holds.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.available)
    }
}

/// The room of the file system of `path`.
///
/// # Errors
/// `path` does not exist.
pub fn room(path: &Path) -> Result<Room> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|errno| LinuxError::path("measure the space at", path, errno))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Room {
        total: bytes(stat.f_blocks),
        available: bytes(stat.f_bavail),
        max_inodes: stat.f_files,
        inodes: stat.f_files.saturating_sub(stat.f_ffree),
    })
}

/// Bytes that can still be written to the file system of `path`.
///
/// # Errors
/// `path` does not exist.
pub fn available_bytes(path: &Path) -> Result<u64> {
    Ok(room(path)?.available)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_read_with_its_escapes() {
        let line = r"36 35 0:42 / /var/a\040b\134c rw,nosuid shared:1 - tmpfs bedplate-volume:7 rw,size=8k";
        let mounted = mount_of(line).unwrap();
        assert_eq!(mounted.target, Path::new(r"/var/a b\c"));
        assert_eq!(
            (mounted.kind.as_str(), mounted.source.as_str()),
            ("tmpfs", "bedplate-volume:7")
        );
        for damaged in ["", "36 35 0:42 / /x rw", "36 - tmpfs x", "36 35 0:42 / /x rw - tmpfs"] {
            assert_eq!(mount_of(damaged), None, "{damaged}");
        }
        for (word, bytes) in [(r"\04", &br"\04"[..]), (r"\999x", br"\999x"), (r"\377", &[0xff])] {
            assert_eq!(unescaped(word), bytes, "{word}");
        }
    }
}
