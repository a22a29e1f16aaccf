//! From the initramfs to the real root, as `switch_root(8)` does it: the initramfs cannot be
//! unmounted or pivoted away, so its files are deleted to free their memory, the new root is moved
//! over it, and we chroot.

use std::{ffi::CStr, os::fd::AsFd, path::Path};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
};

use crate::{LinuxError, Result, mount};

/// `f_type` of ramfs and tmpfs (`linux/magic.h`): what an initramfs is unpacked into.
const RAM_FILE_SYSTEMS: [u64; 2] = [0x8584_58f6, 0x0102_1994];

/// Deeper directories are left alone: an initramfs has a tenth of it, and the
/// recursion needs a bound.
const MAX_DEPTH: usize = 64;

/// Makes the file system mounted at `new_root` the root of this process and frees the files
/// of the old root.
///
/// What is mounted below the old root must have been moved before ([`mount::move_to`]); a mount
/// that was not is left as it is, and its files too.
///
/// # Errors
/// Refuses (`EPERM`) if the old root is not an initramfs in RAM: its files would be deleted.
/// `EINVAL` if `new_root` is no mount point of its own.
pub fn switch_root(new_root: &Path) -> Result<()> {
    let old_path = Path::new("/");
    let open_directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = rustix::fs::open(old_path, open_directory, Mode::empty())
        .map_err(|errno| LinuxError::path("open", old_path, errno))?;
    let kind = rustix::fs::fstatfs(&old)
        .map_err(|errno| LinuxError::path("identify the file system of", old_path, errno))?;
    if !RAM_FILE_SYSTEMS.contains(&kind.f_type.cast_unsigned()) {
        return Err(LinuxError::path(
            "switch away from a root that is not in RAM:",
            old_path,
            Errno::PERM,
        ));
    }
    let old_device = rustix::fs::fstat(&old)
        .map_err(|errno| LinuxError::path("look at", old_path, errno))?
        .st_dev;
    let new_device = rustix::fs::stat(new_root)
        .map_err(|errno| LinuxError::path("look at", new_root, errno))?
        .st_dev;
    if old_device == new_device {
        return Err(LinuxError::path(
            "switch to what is no file system of its own:",
            new_root,
            Errno::INVAL,
        ));
    }
    std::env::set_current_dir(new_root)
        .map_err(|errno| LinuxError::path("enter", new_root, errno))?;
    mount::move_to(new_root, old_path)?;
    rustix::process::chroot(".")
        .map_err(|errno| LinuxError::path("change the root to", new_root, errno))?;
    std::env::set_current_dir("/").map_err(|errno| LinuxError::path("enter", old_path, errno))?;
    // Memory that is not freed is not worth a failed boot.
    if let Err(errno) = empty_directory(&old, old_device, 0) {
        tracing::warn!(%errno, "some files of the initramfs keep their memory");
    }
    Ok(())
}

/// Deletes what is in `directory` on `device`; other devices are not entered.
fn empty_directory(directory: impl AsFd, device: u64, depth: usize) -> rustix::io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let directory = directory.as_fd();
    let names: Vec<std::ffi::CString> = Dir::read_from(directory)?
        .filter_map(std::result::Result::ok)
        .map(|entry| entry.file_name().to_owned())
        .filter(|name| !is_dot(name))
        .collect();
    let mut failed = Ok(());
    for name in names {
        if let Err(errno) = delete(directory, &name, device, depth) {
            failed = Err(errno);
        }
    }
    failed
}

fn delete(
    directory: std::os::fd::BorrowedFd<'_>,
    name: &CStr,
    device: u64,
    depth: usize,
) -> rustix::io::Result<()> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_dev != device {
        return Ok(());
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return rustix::fs::unlinkat(directory, name, AtFlags::empty());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let emptied = empty_directory(&inner, device, depth + 1);
    // A directory that carries a mount stays: EBUSY.
    match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Err(Errno::BUSY | Errno::NOTEMPTY) => emptied,
        other => emptied.and(other),
    }
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}
