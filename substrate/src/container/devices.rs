//! `/dev` of a container: a tmpfs with the devices that every program expects, and those that were granted. What else may be
//! opened, wherever its node lies, the device filter of the job's control group decides.

use std::{
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use linux::{
    LinuxError,
    device_filter::{DeviceKind, Grant},
    mount::{self, Attributes},
    root::Root,
};

use super::files::INERT;

/// Name, major and minor number (kernel: `Documentation/admin-guide/devices.txt`).
const EVERYWHERE: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// `/dev/pts/ptmx`, and the terminals in `/dev/pts`.
const TERMINALS: [Grant; 2] = [
    Grant { kind: DeviceKind::Character, major: 5, minor: Some(2) },
    Grant { kind: DeviceKind::Character, major: 136, minor: None },
];

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
pub fn make(root: &Root, shm_bytes: u64) -> Result<(), LinuxError> {
    let dev = Path::new("/dev");
    let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC;
    let tree = mount::new("tmpfs", &[("mode", "0755"), ("size", "65536")], attributes)?;
    mount::attach_at(tree.as_fd(), root.place_folder(dev, 0o755)?.as_fd(), dev)?;
    for (name, major, minor) in EVERYWHERE {
        mount::make_character_device(&dev.join(name), 0o666, major, minor)?;
    }
    for (name, target) in LINKS {
        let path = dev.join(name);
        symlink(target, &path).map_err(|errno| LinuxError::new("make the link", path.display(), errno))?;
    }
    let size = shm_bytes.to_string();
    let pts = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    for (name, kind, attributes, options) in [
        ("pts", "devpts", Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC, &pts[..]),
        ("shm", "tmpfs", INERT, &[("mode", "1777"), ("size", size.as_str())]),
        ("mqueue", "mqueue", INERT, &[]),
    ] {
        let path = dev.join(name);
        mount::make_folder(&path, 0o755)?;
        mount::attach(mount::new(kind, options, attributes)?.as_fd(), &path)?;
    }
    Ok(())
}

/// Puts a device of the node, taken as a detached mount, to its place.
///
/// # Errors
/// Its path is no file of `/dev`.
pub fn grant(root: &Root, path: &Path, tree: &OwnedFd) -> Result<(), LinuxError> {
    mount::restrict(tree.as_fd(), Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC)?;
    mount::attach_at(tree.as_fd(), root.place_file(path)?.as_fd(), path)
}

/// What the device filter lets through: what every program expects, and the devices at `paths`.
///
/// # Errors
/// A path is no device.
pub fn grants(paths: &[PathBuf]) -> Result<Vec<Grant>, LinuxError> {
    let everywhere =
        EVERYWHERE.map(|(_, major, minor)| Grant { kind: DeviceKind::Character, major, minor: Some(minor) });
    let mut grants: Vec<Grant> = everywhere.into_iter().chain(TERMINALS).collect();
    for path in paths {
        let fail = |errno: std::io::Error| LinuxError::new("grant the device", path.display(), errno);
        let meta = std::fs::metadata(path).map_err(fail)?;
        let kind = match meta.file_type() {
            kind if kind.is_char_device() => DeviceKind::Character,
            kind if kind.is_block_device() => DeviceKind::Block,
            _ => return Err(fail(std::io::Error::from_raw_os_error(libc::ENODEV))),
        };
        let (major, minor) = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        grants.push(Grant { kind, major, minor: Some(minor) });
    }
    Ok(grants)
}

/// Where the kernel shows the adapters that programs may use without it (kernel: `Documentation/infiniband/user_verbs.rst`).
pub const VERBS: &str = "/sys/class/infiniband_verbs";

/// The InfiniBand adapters, by their kernel names, whose `uverbsN` is not among the granted `devices`.
///
/// # Errors
/// `verbs`, which is [`VERBS`] but in tests, cannot be read.
pub fn withheld_adapters(verbs: &Path, devices: &[PathBuf]) -> Result<Vec<String>, LinuxError> {
    let fail = |errno| LinuxError::new("read", verbs.display(), errno);
    let entries = match std::fs::read_dir(verbs) {
        Err(errno) if errno.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut withheld = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let is_granted = devices.contains(&Path::new("/dev/infiniband").join(entry.file_name()));
        // `abi_version` lies beside the adapters.
        if !is_granted && entry.file_name().as_encoded_bytes().starts_with(b"uverbs") {
            let name = std::fs::read_to_string(entry.path().join("ibdev")).map_err(fail)?;
            withheld.push(name.trim().to_owned());
        }
    }
    Ok(withheld)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_that_are_not_granted_are_withheld() {
        let verbs = tempfile::tempdir().unwrap();
        std::fs::write(verbs.path().join("abi_version"), "6").unwrap();
        for (verb, adapter) in [("uverbs0", "mlx5_0\n"), ("uverbs1", "mlx5_1\n")] {
            std::fs::create_dir(verbs.path().join(verb)).unwrap();
            std::fs::write(verbs.path().join(verb).join("ibdev"), adapter).unwrap();
        }
        let granted = ["/dev/infiniband/uverbs0".into(), "/dev/infiniband/rdma_cm".into()];
        assert_eq!(withheld_adapters(verbs.path(), &granted).unwrap(), ["mlx5_1"]);
        assert_eq!(withheld_adapters(&verbs.path().join("none"), &[]).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_no_device_is_not_granted() {
        let granted = grants(&["/dev/zero".into()]).unwrap();
        let zero = Grant { kind: DeviceKind::Character, major: 1, minor: Some(5) };
        assert_eq!((granted.len(), granted.last()), (9, Some(&zero)));
        let error = grants(&["/dev".into()]).unwrap_err();
        assert!(error.to_string().contains("grant the device /dev"), "{error}");
        assert!(grants(&["/dev/no-such-device".into()]).is_err());
    }
}
