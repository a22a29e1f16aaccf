//! `/dev` of a container: a tmpfs with the devices that every program expects, and those that
//! were granted. What else may be opened, wherever its node lies, the device filter of the job's
//! cgroup decides.

use std::{
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::symlink,
    },
    path::{Path, PathBuf},
};

use linux::{
    LinuxError,
    device_filter::{DeviceKind, Grant},
    mount::{self, Attributes, INERT},
    root::{Entry, Ownership, Root},
};
use rustix::fs::FileType;

use super::spec::{DeviceLink, DeviceMount, DeviceNode};

/// Name, major and minor number (kernel: `Documentation/admin-guide/devices.txt`).
const EVERYWHERE: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// `/dev/pts/ptmx`, and the terminals in `/dev/pts`.
const TERMINALS: [Grant; 2] = [every(5, Some(2)), every(136, None)];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

const fn every(major: u32, minor: Option<u32>) -> Grant {
    Grant { kind: DeviceKind::Character, major, minor, read: true, write: true }
}

/// Makes `/dev`; `shm_bytes` is the size of `/dev/shm`.
///
/// # Errors
/// `/dev` is no directory.
pub fn make(root: &Root, shm_bytes: u64) -> Result<(), LinuxError> {
    let dev = Path::new("/dev");
    let attributes = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC;
    let tree = mount::new("tmpfs", &[("mode", "0755"), ("size", "65536")], attributes)?;
    mount::attach_at(tree.as_fd(), root.ensure_mount_point(dev, 0o755)?.as_fd(), dev)?;
    for (name, major, minor) in EVERYWHERE {
        mount::make_character_device(&dev.join(name), 0o666, major, minor)?;
    }
    for (name, target) in LINKS {
        let path = dev.join(name);
        symlink(target, &path)
            .map_err(|errno| LinuxError::new("make the link", path.display(), errno))?;
    }
    let size = shm_bytes.to_string();
    let pts = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    for (name, kind, attributes, options) in [
        ("pts", "devpts", Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC, &pts[..]),
        ("shm", "tmpfs", INERT, &[("mode", "1777"), ("size", size.as_str())]),
        ("mqueue", "mqueue", INERT, &[]),
    ] {
        let path = dev.join(name);
        mount::make_directory(&path, 0o755)?;
        mount::attach(mount::new(kind, options, attributes)?.as_fd(), &path)?;
    }
    Ok(())
}

/// Makes the nodes of granted devices, in the `/dev` that [`make`] made. They are the job's: of its
/// user, for it alone.
///
/// # Errors
/// One has a name of [`make`]'s, or of another's.
pub fn grant(root: &Root, nodes: &[DeviceNode]) -> Result<(), LinuxError> {
    for node in nodes {
        let path = Path::new(&node.path);
        root.make_parents(path)?;
        let kind = if node.block { FileType::BlockDevice } else { FileType::CharacterDevice };
        let owner = Ownership { uid: node.uid, gid: node.gid, mode: node.mode };
        root.make_device(path, kind, (node.major, node.minor), owner)?;
    }
    Ok(())
}

/// Puts what belongs to a device, taken as a detached mount, to its place.
///
/// # Errors
/// There is a directory where a file comes, or a file where a directory comes.
pub fn mount(
    root: &Root,
    mount: &DeviceMount,
    tree: &OwnedFd,
    users: Attributes,
) -> Result<(), LinuxError> {
    let mut attributes = users;
    attributes.set(Attributes::MOUNT_ATTR_RDONLY, mount.read_only);
    attributes.set(Attributes::MOUNT_ATTR_NOEXEC, mount.no_exec);
    mount::restrict(tree.as_fd(), attributes)?;
    let target = Path::new(&mount.target);
    let stat = rustix::fs::fstat(tree)
        .map_err(|errno| LinuxError::new("look at", mount.source.display(), errno))?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let place = if is_directory {
        root.ensure_mount_point(target, 0o755)?
    } else {
        root.ensure_mount_point_file(target)?
    };
    mount::attach_at(tree.as_fd(), place.as_fd(), target)
}

/// Makes the links that belong to devices, in place of links of the image.
///
/// # Errors
/// Something else than a link has the name of one.
pub fn link(root: &Root, links: &[DeviceLink]) -> Result<(), LinuxError> {
    for link in links {
        let (path, target) = (Path::new(&link.path), Path::new(&link.target));
        root.make_parents(path)?;
        match root.look(path)? {
            None | Some(Entry::Link(..)) => root.write_link(path, target, 0, 0)?,
            Some(_) => {
                let errno = std::io::Error::from_raw_os_error(libc::EEXIST);
                return Err(LinuxError::new("write the link", path.display(), errno));
            }
        }
    }
    Ok(())
}

/// What the device filter lets through: what every program expects, and `nodes`.
#[must_use]
pub fn grants(nodes: &[DeviceNode]) -> Vec<Grant> {
    let everywhere = EVERYWHERE.map(|(_, major, minor)| every(major, Some(minor)));
    let granted = nodes.iter().map(|node| Grant {
        kind: if node.block { DeviceKind::Block } else { DeviceKind::Character },
        major: node.major,
        minor: Some(node.minor),
        read: node.read,
        write: node.write,
    });
    everywhere.into_iter().chain(TERMINALS).chain(granted).collect()
}

/// Where the kernel shows the adapters that programs may use without it (kernel:
/// `Documentation/infiniband/user_verbs.rst`).
pub const VERBS: &str = "/sys/class/infiniband_verbs";

/// An InfiniBand adapter that a job may not use.
#[derive(Debug, PartialEq, Eq)]
pub struct Withheld {
    /// Its name in the kernel: `mlx5_0`.
    pub name: String,
    /// That of its node: `uverbs0`.
    verbs: String,
}

impl Withheld {
    /// What the kernel shows of it. Programs that look for adapters there find those
    /// that they can use.
    #[must_use]
    pub fn directories(&self) -> [PathBuf; 2] {
        [Path::new(VERBS).join(&self.verbs), Path::new("/sys/class/infiniband").join(&self.name)]
    }
}

/// The adapters whose `uverbsN` is not among the granted `nodes`.
///
/// # Errors
/// `verbs`, which is [`VERBS`] but in tests, cannot be read.
pub fn withheld(verbs: &Path, nodes: &[DeviceNode]) -> Result<Vec<Withheld>, LinuxError> {
    let fail = |errno| LinuxError::new("read", verbs.display(), errno);
    let entries = match std::fs::read_dir(verbs) {
        Err(errno) if errno.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let granted: Vec<String> =
        nodes.iter().map(|node| format!("{}:{}", node.major, node.minor)).collect();
    let mut withheld = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // `abi_version` lies beside the adapters.
        if !name.starts_with("uverbs") {
            continue;
        }
        let text = |file: &str| std::fs::read_to_string(entry.path().join(file)).map_err(fail);
        if !granted.iter().any(|numbers| text("dev").is_ok_and(|dev| dev.trim() == numbers)) {
            withheld.push(Withheld { name: text("ibdev")?.trim().to_owned(), verbs: name });
        }
    }
    Ok(withheld)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(path: &str, major: u32, minor: u32) -> DeviceNode {
        let path = path.to_owned();
        DeviceNode {
            path,
            block: false,
            major,
            minor,
            read: true,
            write: false,
            mode: 0o640,
            uid: 5,
            gid: 6,
        }
    }

    #[test]
    fn adapters_that_are_not_granted_are_withheld() {
        let verbs = tempfile::tempdir().unwrap();
        std::fs::write(verbs.path().join("abi_version"), "6").unwrap();
        for (verb, adapter, dev) in
            [("uverbs0", "mlx5_0\n", "231:192\n"), ("uverbs1", "mlx5_1\n", "231:193\n")]
        {
            std::fs::create_dir(verbs.path().join(verb)).unwrap();
            std::fs::write(verbs.path().join(verb).join("ibdev"), adapter).unwrap();
            std::fs::write(verbs.path().join(verb).join("dev"), dev).unwrap();
        }
        let granted =
            [node("/dev/infiniband/uverbs0", 231, 192), node("/dev/infiniband/rdma_cm", 10, 60)];
        let withheld = withheld(verbs.path(), &granted).unwrap();
        assert_eq!(withheld, [Withheld { name: "mlx5_1".into(), verbs: "uverbs1".into() }]);
        let directories = ["/sys/class/infiniband_verbs/uverbs1", "/sys/class/infiniband/mlx5_1"]
            .map(PathBuf::from);
        assert_eq!(withheld[0].directories(), directories);
        assert_eq!(super::withheld(&verbs.path().join("none"), &[]).unwrap(), []);
    }

    #[test]
    fn what_every_program_expects_is_let_through_and_what_is_granted() {
        let granted = grants(&[node("/dev/x", 1, 5)]);
        let x = Grant { write: false, ..every(1, Some(5)) };
        assert_eq!((granted.len(), granted.last()), (9, Some(&x)));
    }

    #[test]
    fn privileged_nodes_are_made_and_links_take_the_place_of_links() {
        use std::os::unix::fs::MetadataExt as _;

        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        grant(&root, &[node("/dev/dri/x", 1, 5)]).unwrap();
        let meta = std::fs::metadata(directory.path().join("dev/dri/x")).unwrap();
        assert_eq!(
            (meta.mode(), meta.rdev(), meta.uid(), meta.gid()),
            (0o020_640, libc::makedev(1, 5), 5, 6)
        );
        assert!(
            grant(&root, &[node("/dev/dri/x", 1, 5)])
                .unwrap_err()
                .to_string()
                .contains("/dev/dri/x")
        );

        let links =
            |target: &str| [DeviceLink { path: "/lib/libx.so".into(), target: target.to_owned() }];
        for target in ["libx.so.1", "libx.so.2"] {
            link(&root, &links(target)).unwrap();
            assert_eq!(
                std::fs::read_link(directory.path().join("lib/libx.so")).unwrap(),
                Path::new(target)
            );
        }
        std::fs::remove_file(directory.path().join("lib/libx.so")).unwrap();
        std::fs::write(directory.path().join("lib/libx.so"), "").unwrap();
        assert_eq!(link(&root, &links("x")).unwrap_err().raw(), Some(libc::EEXIST));
    }
}
