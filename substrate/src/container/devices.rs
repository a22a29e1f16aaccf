//! `/dev` of a container: a tmpfs with the devices that every program expects, and those that were granted.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::OwnedFd,
        unix::fs::{OpenOptionsExt as _, symlink},
    },
    path::Path,
};

use linux::{
    LinuxError,
    mount::{self, Flags},
};

/// Name, major and minor number (kernel: `Documentation/admin-guide/devices.txt`).
const EVERYWHERE: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes `/dev`; `shm_bytes` is the size of `/dev/shm`.
///
/// # Errors
/// `/dev` is no folder.
pub fn make(shm_bytes: u64) -> Result<(), LinuxError> {
    let dev = Path::new("/dev");
    mount::mount(Path::new("tmpfs"), dev, "tmpfs", Flags::NOSUID | Flags::NOEXEC, "mode=0755,size=64k")?;
    for (name, major, minor) in EVERYWHERE {
        mount::make_character_device(&dev.join(name), 0o666, major, minor)?;
    }
    for (name, target) in LINKS {
        let path = dev.join(name);
        symlink(target, &path).map_err(|errno| LinuxError::new("make the link", path.display(), errno))?;
    }
    let quiet = Flags::NOSUID | Flags::NODEV | Flags::NOEXEC;
    let shm = format!("mode=1777,size={shm_bytes}");
    let pts = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    for (name, kind, flags, options) in [
        ("pts", "devpts", Flags::NOSUID | Flags::NOEXEC, pts),
        ("shm", "tmpfs", quiet, shm.as_str()),
        ("mqueue", "mqueue", quiet, ""),
    ] {
        let path = dev.join(name);
        mount::make_folder(&path, 0o755)?;
        mount::mount(Path::new(kind), &path, kind, flags, options)?;
    }
    Ok(())
}

/// Puts a device of the node, taken as a detached mount, to its place.
///
/// # Errors
/// Its path is no file of `/dev`.
pub fn grant(path: &Path, tree: OwnedFd) -> Result<(), LinuxError> {
    if let Some(parent) = path.parent() {
        mount::make_folder(parent, 0o755)?;
    }
    place(path).map_err(|errno| LinuxError::new("make a place for the device", path.display(), errno))?;
    mount::attach(tree, path, Flags::NOSUID | Flags::NOEXEC)
}

fn place(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}
