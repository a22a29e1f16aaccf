//! The files that a container sees: image, what can be written, `/proc`, `/sys`, `/dev`, the host's names, the user's volumes
//! and files. Made in the container's own mount namespace, by its init.
//!
//! What comes from the node (volumes, devices) is taken as detached mounts while it can still be seen. Then the root is
//! changed, and all that follows happens inside it: no link in an image leads out of it.
//!
//! ```text
//! FOLDER/root            tmpfs of the size that the job may write, its memory
//!   upper work           what is written
//!   merged               overlay over the image: becomes /
//! ```

use std::{
    fs::{self, File},
    io::Read as _,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use linux::{
    LinuxError,
    mount::{self, Flags},
    namespace,
    root::{Ownership, Root},
};

use super::{
    devices, identity_files,
    spec::{Bind, ContainerSpec, Placed},
};

/// What only root of the node needs to see: (path, is it a folder). Those that a kernel has not are passed over.
const MASKED: [(&str, bool); 11] = [
    ("/proc/acpi", true),
    ("/proc/asound", true),
    ("/proc/scsi", true),
    ("/sys/firmware", true),
    ("/sys/devices/virtual/powercap", true),
    ("/proc/interrupts", false),
    ("/proc/kcore", false),
    ("/proc/keys", false),
    ("/proc/latency_stats", false),
    ("/proc/sched_debug", false),
    ("/proc/timer_list", false),
];

/// Parts of `/proc` that change the node.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Longest `/etc/resolv.conf` taken from the node, bytes.
const MAX_RESOLV_BYTES: u64 = 64 << 10;

const ROOT_FILE: Ownership = Ownership { uid: 0, gid: 0, mode: 0o644 };

/// What was taken from the node before the root is changed.
#[derive(Debug)]
struct Taken<'a> {
    binds: Vec<(&'a Bind, OwnedFd)>,
    devices: Vec<(&'a Path, OwnedFd)>,
    files: Vec<(&'a Placed, File)>,
    resolv: Vec<u8>,
}

/// Makes the container's files and changes the root to them. `folder` is the run's.
///
/// # Errors
/// [`LinuxError`], naming the path in the container from the change of root on.
pub fn make(spec: &ContainerSpec, folder: &Path) -> Result<(), LinuxError> {
    namespace::keep_mounts_private()?;
    let taken = take(spec)?;
    mount::pivot_to(&overlay(spec, folder)?)?;
    kernel_file_systems(spec)?;
    devices::make(spec.upper_bytes)?;
    for (path, tree) in taken.devices {
        devices::grant(path, tree)?;
    }
    for path in READ_ONLY {
        make_read_only(Path::new(path))?;
    }
    for (path, is_folder) in MASKED {
        mask(Path::new(path), is_folder)?;
    }
    let root = Root::open(Path::new("/"))?;
    names(spec, &root, &taken.resolv)?;
    for (bind, tree) in taken.binds {
        let target = Path::new(&bind.target);
        make_parents(target)?;
        make_folder(target, 0o755)?;
        let read_only = if bind.read_only { Flags::RDONLY } else { Flags::empty() };
        mount::attach(tree, target, read_only | Flags::NOSUID | Flags::NODEV)?;
    }
    for (placed, mut content) in taken.files {
        let target = Path::new(&placed.target);
        make_parents(target)?;
        root.write_file(target, &mut content, Ownership { uid: 0, gid: 0, mode: placed.mode })?;
    }
    Ok(())
}

fn take(spec: &ContainerSpec) -> Result<Taken<'_>, LinuxError> {
    let binds = spec.binds.iter().map(|bind| Ok((bind, mount::detached(&bind.source)?)));
    let devices = spec.devices.iter().map(|path| Ok((path.as_path(), mount::detached(path)?)));
    let files = spec.files.iter().map(|placed| {
        let file = File::open(&placed.source);
        let file = file.map_err(|errno| LinuxError::new("open", placed.source.display(), errno))?;
        Ok((placed, file))
    });
    let mut resolv = Vec::new();
    // A node without one has no names to resolve.
    if let Ok(file) = File::open("/etc/resolv.conf") {
        let _ = file.take(MAX_RESOLV_BYTES).read_to_end(&mut resolv);
    }
    Ok(Taken {
        binds: binds.collect::<Result<_, LinuxError>>()?,
        devices: devices.collect::<Result<_, LinuxError>>()?,
        files: files.collect::<Result<_, LinuxError>>()?,
        resolv,
    })
}

/// Mounts the overlay; where it is.
fn overlay(spec: &ContainerSpec, folder: &Path) -> Result<PathBuf, LinuxError> {
    let base = folder.join("root");
    mount::make_folder(&base, 0o700)?;
    let size = format!("mode=0755,size={}", spec.upper_bytes);
    mount::mount(Path::new("tmpfs"), &base, "tmpfs", Flags::NOSUID | Flags::NODEV, &size)?;
    let [upper, work, merged] = ["upper", "work", "merged"].map(|name| base.join(name));
    for folder in [&upper, &work, &merged] {
        mount::make_folder(folder, 0o755)?;
    }
    mount::mount_overlay(&spec.lower, &upper, &work, &merged)?;
    // The overlay is a file system of its own: the flags of those below it do not count.
    mount::remount(&merged, Flags::BIND | Flags::NOSUID | Flags::NODEV, "")?;
    Ok(merged)
}

fn kernel_file_systems(spec: &ContainerSpec) -> Result<(), LinuxError> {
    let quiet = Flags::NOSUID | Flags::NODEV | Flags::NOEXEC;
    for (path, mode) in [("/proc", 0o555), ("/sys", 0o555), ("/dev", 0o755), ("/etc", 0o755)] {
        make_folder(Path::new(path), mode)?;
    }
    make_folder(Path::new("/tmp"), 0o1777)?;
    mount::mount(Path::new("proc"), Path::new("/proc"), "proc", quiet, "")?;
    mount::mount(Path::new("sysfs"), Path::new("/sys"), "sysfs", quiet | Flags::RDONLY, "")?;
    namespace::set_host_name(&spec.hostname)?;
    if spec.isolated_network {
        namespace::turn_loopback_on()?;
    }
    Ok(())
}

/// Makes a folder with `mode`, if nothing is there.
fn make_folder(path: &Path, mode: u32) -> Result<(), LinuxError> {
    if path.is_dir() {
        return Ok(());
    }
    mount::make_folder(path, mode)
}

fn make_parents(path: &Path) -> Result<(), LinuxError> {
    path.parent().map_or(Ok(()), |parent| make_folder(parent, 0o755))
}

fn make_read_only(path: &Path) -> Result<(), LinuxError> {
    if !path.exists() {
        return Ok(());
    }
    let flags = Flags::RDONLY | Flags::NOSUID | Flags::NODEV | Flags::NOEXEC;
    mount::attach(mount::detached(path)?, path, flags)
}

fn mask(path: &Path, is_folder: bool) -> Result<(), LinuxError> {
    if !path.exists() {
        return Ok(());
    }
    if is_folder {
        let flags = Flags::RDONLY | Flags::NOSUID | Flags::NODEV | Flags::NOEXEC;
        return mount::mount(Path::new("tmpfs"), path, "tmpfs", flags, "size=0,nr_inodes=1");
    }
    mount::bind(Path::new("/dev/null"), path)
}

/// `/etc/hostname`, `hosts`, `resolv.conf`, and lines for the user in `passwd` and `group`.
fn names(spec: &ContainerSpec, root: &Root, resolv: &[u8]) -> Result<(), LinuxError> {
    let host = &spec.hostname;
    let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {host}\n::1 localhost ip6-localhost\n");
    root.write_file(Path::new("/etc/hostname"), &mut format!("{host}\n").as_bytes(), ROOT_FILE)?;
    root.write_file(Path::new("/etc/hosts"), &mut hosts.as_bytes(), ROOT_FILE)?;
    root.write_file(Path::new("/etc/resolv.conf"), &mut &*resolv, ROOT_FILE)?;
    let (name, uid, gid) = (&spec.user_name, spec.uid, spec.gid);
    for (path, add) in [
        (
            "/etc/passwd",
            &(|text: &str| identity_files::passwd(text, name, uid, gid, &spec.cwd))
                as &dyn Fn(&str) -> Option<String>,
        ),
        ("/etc/group", &|text: &str| identity_files::group(text, name, gid)),
    ] {
        let path = Path::new(path);
        let mut text = String::new();
        match root.look(path)? {
            None => {}
            // An image that has something else than a short text there knows its users in its own way.
            _ => match root
                .read(path)
                .map(|file| file.take(identity_files::MAX_FILE_BYTES).read_to_string(&mut text))
            {
                Ok(Ok(length)) if (length as u64) < identity_files::MAX_FILE_BYTES => {}
                _ => continue,
            },
        }
        if let Some(text) = add(&text) {
            root.write_file(path, &mut text.as_bytes(), ROOT_FILE)?;
        }
    }
    Ok(())
}

/// The mount at which a run's tmpfs was made is only seen inside the container. What is left on the node is its folder.
pub fn remove_remains(folder: &Path) {
    // It is not there before a start, and not empty never.
    let _ = fs::remove_dir(folder.join("root"));
}
