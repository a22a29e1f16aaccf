//! Mounting, moving and unmounting file systems.

use std::{
    ffi::CString,
    fs,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::Path,
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

/// Makes the directory `path` with `mode`, and its parents, unless it exists. An existing one gets `mode` too.
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

/// Mounts an overlay of `upper` over `lower` on `target`. `work` is an empty directory on the file system of `upper`.
///
/// # Errors
/// As [`mount`]. The three paths must not hold `,`, `:` or `\`, which overlayfs reads as separators: `EINVAL`.
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

/// A new file system of `kind` with its options as pairs, mounted nowhere yet (`fsopen(2)`, `fsconfig(2)`, `fsmount(2)`). An
/// option without a value is a pair with an empty one.
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

/// An overlay of the directory `upper` over `lower`, mounted nowhere yet. `work` is an empty directory on the file system of `upper`.
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

/// A copy of what is mounted at `path`, or of the directory or file there, that is attached nowhere yet: it can be taken into a
/// root from which `path` cannot be seen (`open_tree(2)`).
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
    // SAFETY: the empty path and the attributes live until the call returns, which reads them with the size that is told.
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

/// Makes the mount at `new_root` the root of this mount namespace and lets go of the old one (`pivot_root(2)`, the form
/// that needs no directory for the old root).
///
/// # Errors
/// `EINVAL` if `new_root` is no mount point, if a mount propagates, or if the present root is the initramfs.
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

/// Bytes that can still be written to the file system of `path`.
///
/// # Errors
/// `path` does not exist.
pub fn available_bytes(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|errno| LinuxError::path("measure the space at", path, errno))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
