//! The files that a container sees: image, what can be written, `/proc`, `/sys`, `/dev`, the host's
//! names, the user's volumes and files. Made in the container's own mount namespace, by its init.
//!
//! What comes from the node (volumes, devices) is taken as detached mounts while it can still be
//! seen. Then the root is changed, and all that follows happens inside it, by paths that are
//! resolved in it: no link of an image leads out of it, nor through what the init has open.
//!
//! ```text
//! FOLDER     tmpfs of the size that the job may write, its memory: upper, work
//!   over it  overlay of upper over the image: becomes /
//! ```
//! Both are mounted over the run's directory, in this mount namespace only: they need no place of
//! their own on the node.

use std::{
    fs::File,
    io::Read as _,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use linux::{
    LinuxError,
    mount::{self, Attributes, INERT},
    namespace,
    root::{Entry, Ownership, Root},
};

use super::{
    defence::Safeguard,
    devices, host_names, identity_files,
    spec::{Bind, ContainerSpec, DeviceMount, Placed},
};

/// Directories that only root of the node needs to see. Those that a kernel has not
/// are passed over.
pub const MASKED_DIRECTORIES: [&str; 5] =
    ["/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"];

/// Files that only root of the node needs to see, likewise.
pub const MASKED_FILES: [&str; 6] = [
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
];

/// Parts of `/proc` that change the node.
pub const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Name servers of the node, and names that it knows itself.
const RESOLV: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Longest [`RESOLV`] taken from the node, bytes.
const MAX_RESOLV_BYTES: u64 = 64 << 10;

const ROOT_FILE: Ownership = Ownership { uid: 0, gid: 0, mode: 0o644 };

/// Programs, as the user that starts them.
fn users(spec: &ContainerSpec) -> Attributes {
    let mut attributes = Attributes::empty();
    attributes.set(Attributes::MOUNT_ATTR_NOSUID, spec.keeps(Safeguard::NoSetuid));
    attributes.set(Attributes::MOUNT_ATTR_NODEV, spec.keeps(Safeguard::NoDevices));
    attributes
}

/// What was taken from the node before the root is changed.
#[derive(Debug)]
struct NodeMounts<'a> {
    binds: Vec<(&'a Bind, OwnedFd)>,
    device_mounts: Vec<(&'a DeviceMount, OwnedFd)>,
    files: Vec<(&'a Placed, File)>,
    names: NamesOfNode,
}

/// Files of the node by which it finds others. Empty where it has none.
#[derive(Debug)]
struct NamesOfNode {
    resolv: Vec<u8>,
    /// Empty for an isolated job too.
    hosts: Vec<u8>,
}

/// Makes the container's files and changes the root to them. `directory` is the run's.
///
/// # Errors
/// [`LinuxError`], naming the path in the container from the change of root on.
pub fn make(spec: &ContainerSpec, directory: &Path) -> Result<(), LinuxError> {
    namespace::make_mounts_private()?;
    let taken = take(spec)?;
    let has_names = overlay(spec, directory, &taken.names)?;
    if spec.keeps(Safeguard::NewRoot) {
        mount::pivot_to(directory)?;
    } else {
        chroot(directory)?;
    }
    let root = Root::open(Path::new("/"))?;
    kernel_file_systems(spec, &root)?;
    devices::make(&root, spec.upper_bytes)?;
    devices::grant(&root, &spec.devices)?;
    protect(spec)?;
    if !has_names {
        root.ensure_mount_point(Path::new("/etc"), 0o755)?;
        names(spec, &root, &root, &taken.names)?;
    }
    let cwd = Path::new(&spec.cwd);
    if spec.makes_cwd && !root.leads_to_directory(cwd) {
        // Root's, as runc makes it. Before the volumes: it belongs into the run's own layer.
        root.ensure_mount_point(cwd, 0o755)?;
    }
    for (mount, tree) in taken.device_mounts {
        devices::mount(&root, mount, &tree, users(spec))?;
    }
    devices::link(&root, &spec.device_links)?;
    for (bind, tree) in taken.binds {
        let read_only =
            if bind.read_only { Attributes::MOUNT_ATTR_RDONLY } else { Attributes::empty() };
        mount::restrict(tree.as_fd(), users(spec) | read_only)?;
        let target = Path::new(&bind.target);
        mount::attach_at(tree.as_fd(), root.ensure_mount_point(target, 0o755)?.as_fd(), target)?;
    }
    for (placed, mut content) in taken.files {
        let target = Path::new(&placed.target);
        if !spec.keeps(Safeguard::PathsInRoot) {
            write_anywhere(target, &mut content)?;
            continue;
        }
        root.make_parents(target)?;
        root.write_file(target, &mut content, Ownership { uid: 0, gid: 0, mode: placed.mode })?;
    }
    Ok(())
}

/// What [`mount::pivot_to`] does better; only for the test build.
fn chroot(directory: &Path) -> Result<(), LinuxError> {
    let fail =
        |errno: std::io::Error| LinuxError::new("change the root to", directory.display(), errno);
    std::os::unix::fs::chroot(directory).map_err(fail)?;
    std::env::set_current_dir("/").map_err(fail)
}

/// What [`Root::write_file`] does better; only for the test build.
fn write_anywhere(path: &Path, content: &mut File) -> Result<(), LinuxError> {
    let written = File::create(path).and_then(|mut file| std::io::copy(content, &mut file));
    written.map(drop).map_err(|errno| LinuxError::new("write", path.display(), errno))
}

fn take(spec: &ContainerSpec) -> Result<NodeMounts<'_>, LinuxError> {
    let binds = spec.binds.iter().map(|bind| Ok((bind, mount::detached(&bind.source)?)));
    let device_mounts = spec.device_mounts.iter().map(|of| Ok((of, mount::detached(&of.source)?)));
    let files = spec.files.iter().map(|placed| {
        let file = File::open(&placed.source);
        let file = file.map_err(|errno| LinuxError::new("open", placed.source.display(), errno))?;
        Ok((placed, file))
    });
    let hosts = match spec.isolated_network {
        true => Vec::new(),
        // One more byte tells that there are more.
        false => of_node(HOSTS, host_names::limit(spec.upper_bytes) + 1),
    };
    let names = NamesOfNode { resolv: of_node(RESOLV, MAX_RESOLV_BYTES), hosts };
    Ok(NodeMounts {
        binds: binds.collect::<Result<_, LinuxError>>()?,
        device_mounts: device_mounts.collect::<Result<_, LinuxError>>()?,
        files: files.collect::<Result<_, LinuxError>>()?,
        names,
    })
}

/// The beginning of a file of the node. One without it has no names to tell.
fn of_node(path: &str, limit: u64) -> Vec<u8> {
    let mut content = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(limit).read_to_end(&mut content);
    }
    content
}

/// Mounts the overlay over `directory`. `true` if the names are in it: where the image has an
/// ordinary `/etc`, they are written beside it, before overlayfs has to look at each.
fn overlay(
    spec: &ContainerSpec,
    directory: &Path,
    of_node: &NamesOfNode,
) -> Result<bool, LinuxError> {
    let size = if spec.keeps(Safeguard::RootSize) { spec.upper_bytes } else { 0 }.to_string();
    let writable = mount::new("tmpfs", &[("mode", "0755"), ("size", &size)], users(spec))?;
    mount::attach(writable.as_fd(), directory)?;
    let [upper, work] = ["upper", "work"].map(|name| directory.join(name));
    for directory in [&upper, &work] {
        mount::make_directory(directory, 0o755)?;
    }
    let (image, etc) = (Root::open(&spec.lower)?, Path::new("/etc"));
    let written = Root::open(&upper)?;
    if spec.makes_home {
        home(spec, &image, &written)?;
    }
    let has_etc = match image.look(etc)? {
        Some(Entry::Directory(as_)) => {
            written.make_directory(etc, as_)?;
            names(spec, &image, &written, of_node)?;
            true
        }
        _ => false,
    };
    // The overlay is a file system of its own: the attributes of those below it do not count.
    let merged = mount::new_overlay(&spec.lower, &upper, &work, users(spec))?;
    mount::attach(merged.as_fd(), directory)?;
    Ok(has_etc)
}

fn kernel_file_systems(spec: &ContainerSpec, root: &Root) -> Result<(), LinuxError> {
    let mut of_sys = INERT;
    of_sys.set(Attributes::MOUNT_ATTR_RDONLY, spec.keeps(Safeguard::ReadOnlySys));
    for (kind, place, attributes) in [("proc", "/proc", INERT), ("sysfs", "/sys", of_sys)] {
        let (tree, place) = (mount::new(kind, &[], attributes)?, Path::new(place));
        mount::attach_at(tree.as_fd(), root.ensure_mount_point(place, 0o555)?.as_fd(), place)?;
    }
    if !root.leads_to_directory(Path::new("/tmp")) {
        root.make_directory(Path::new("/tmp"), Ownership { uid: 0, gid: 0, mode: 0o1777 })?;
    }
    namespace::set_host_name(&spec.hostname)?;
    if spec.isolated_network {
        namespace::bring_loopback_up()?;
    }
    Ok(())
}

/// Covers what a job must not see or change of the kernel. The paths lie in what was just mounted.
fn protect(spec: &ContainerSpec) -> Result<(), LinuxError> {
    for path in READ_ONLY.map(Path::new).into_iter().filter(|_| spec.keeps(Safeguard::ReadOnlyProc))
    {
        if let Some(tree) = detached_if_there(path)? {
            mount::restrict(tree.as_fd(), INERT | Attributes::MOUNT_ATTR_RDONLY)?;
            mount::attach(tree.as_fd(), path)?;
        }
    }
    if !spec.keeps(Safeguard::MaskedPaths) {
        return Ok(());
    }
    let adapters = devices::withheld(Path::new(devices::VERBS), &spec.devices)?;
    // Classes of devices are links to directories, and nothing is mounted on a link.
    let of_adapters = adapters
        .iter()
        .flat_map(devices::Withheld::directories)
        .filter_map(|path| path.canonicalize().ok());
    let mut empty: Option<PathBuf> = None;
    let directories = MASKED_DIRECTORIES.map(PathBuf::from).into_iter().chain(of_adapters);
    for path in directories.filter(|path| path.is_dir()) {
        let tree = match &empty {
            Some(first) => mount::detached(first)?,
            None => {
                let options = [("size", "4096"), ("nr_inodes", "1"), ("mode", "0555")];
                mount::new("tmpfs", &options, INERT | Attributes::MOUNT_ATTR_RDONLY)?
            }
        };
        mount::attach(tree.as_fd(), &path)?;
        empty = Some(path);
    }
    for path in MASKED_FILES.map(Path::new).into_iter().filter(|path| path.exists()) {
        mount::attach(mount::detached(Path::new("/dev/null"))?.as_fd(), path)?;
    }
    Ok(())
}

fn detached_if_there(path: &Path) -> Result<Option<OwnedFd>, LinuxError> {
    match mount::detached(path) {
        Err(error) if error.raw() == Some(libc::ENOENT) => Ok(None),
        other => other.map(Some),
    }
}

/// The user's home directory beside the `image`, in directories as the image has them.
fn home(spec: &ContainerSpec, image: &Root, written: &Root) -> Result<(), LinuxError> {
    let Some(home) = spec.home.as_deref().map(Path::new) else { return Ok(()) };
    let mut above: Vec<&Path> =
        home.ancestors().skip(1).filter(|path| path.parent().is_some()).collect();
    above.reverse();
    for path in above {
        let as_ = match image.look(path)? {
            Some(Entry::Directory(as_)) => as_,
            _ => Ownership { uid: 0, gid: 0, mode: 0o755 },
        };
        written.make_directory(path, as_)?;
    }
    written.make_directory(home, Ownership { uid: spec.uid, gid: spec.gid, mode: 0o700 })
}

/// `/etc/hostname`, `hosts`, `resolv.conf`, and lines for the user in `passwd` and `group`, which
/// are those of the `image`. A link that the image has there is replaced, never written through.
fn names(
    spec: &ContainerSpec,
    image: &Root,
    written: &Root,
    of_node: &NamesOfNode,
) -> Result<(), LinuxError> {
    let write = |path: &str, mut content: &[u8]| {
        written.write_file(Path::new(path), &mut content, ROOT_FILE)
    };
    write("/etc/hostname", format!("{}\n", spec.hostname).as_bytes())?;
    let limit = host_names::limit(spec.upper_bytes);
    write(HOSTS, &host_names::hosts(&of_node.hosts, &spec.hostname, limit))?;
    write(RESOLV, &of_node.resolv)?;
    let (name, uid, gid) = (&spec.user_name, spec.uid, spec.gid);
    let users = short_file(image, "/etc/passwd");
    if let Some(users) = &users {
        let home = spec.home.as_ref().unwrap_or(&spec.cwd);
        if let Some(text) = identity_files::passwd(users, name, uid, gid, home) {
            write("/etc/passwd", &text)?;
        }
    }
    if let Some(groups) = short_file(image, "/etc/group") {
        let member = identity_files::name_of(users.as_deref().unwrap_or_default(), name, uid);
        if let Some(text) = identity_files::group(&groups, name, gid, &spec.groups, &member) {
            write("/etc/group", &text)?;
        }
    }
    Ok(())
}

/// A file of the image, empty where it has none. `None`: an image that has something else than a
/// short file there knows its users in its own way.
pub(super) fn short_file(image: &Root, path: &str) -> Option<Vec<u8>> {
    let path = Path::new(path);
    let mut content = Vec::new();
    match image.read_linked(path) {
        Ok(file) => {
            let length =
                file.take(identity_files::MAX_FILE_BYTES).read_to_end(&mut content).ok()?;
            ((length as u64) < identity_files::MAX_FILE_BYTES).then_some(content)
        }
        // A link that leads nowhere is none either.
        Err(error) if error.raw() == Some(libc::ENOENT) => Some(content),
        Err(_) => None,
    }
}
