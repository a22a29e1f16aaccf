//! The machine around the containers of the checks, and what some of them are described with.

use std::{
    fs::{self, File},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::{PermissionsExt as _, chown, symlink},
            net as unix,
        },
    },
    path::Path,
};

use linux::{
    mount::{self, Flags},
    namespace,
};
use rustix::{io::FdFlags, mount::MountPropagationFlags};
use substrate::container::{
    groups,
    spec::{Bind, ContainerSpec, DeviceNode, Placed},
};

use super::INSIDE;
use crate::containers::ROOTFS;

/// Limits that are like no others.
pub(super) const MEMORY_BYTES: u64 = 48 << 20;
pub(super) const PIDS: u32 = 57;

/// Devices of the machine: path, major, minor. That of `/dev/kmsg`; that of a loop device whose
/// driver is not loaded.
pub(super) const CHARACTER_DEVICE: (&str, u32, u32) = ("/dev/conformance-log", 1, 11);
pub(super) const BLOCK_DEVICE: (&str, u32, u32) = ("/dev/conformance-loop", 7, 0);

/// Directories of the machine that are volumes. The second holds `marker`; on [`BELOW`]
/// something is mounted.
pub(super) const VOLUME: &str = "/volume";
pub(super) const INNER: &str = "/inner";
const BELOW: &str = "/volume/inner";

/// Where the first is in a container.
pub(super) const DATA: &str = "/data";

/// A directory of the image.
pub(super) const WORK: &str = "/work";

/// The user's file in the image.
pub(super) const OWN_FILE: &str = "/work/own";
pub(super) const ORIGINAL: &str = "original";

/// Another image, whose `/proc` and `/sys` are links.
pub(super) const LINKED_ROOTFS: &str = "/rootfs-linked";

/// Its list of users: `/etc/passwd` is a link to it.
pub(super) const LISTED: &str = "root:x:0:0:root:/root:/bin/sh";

/// A script of the image whose interpreter is not in it.
pub(super) const BAD_SCRIPT: &str = "/bin/bad-script";

/// A line of the machine's `/etc/hosts`.
pub(super) const NAME_OF_NODE: &str = "192.0.2.7 n7 n7.site";

/// An abstract socket of the machine.
pub(super) const SOCKET: &str = "bedplate-conformance";

/// Kinds of namespaces, as in `/proc/PID/ns`.
pub(super) const NAMESPACES: [&str; 8] =
    ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// A cgroup beside those of the checks, which nobody may touch.
pub(super) const NEIGHBOUR: &str = "neighbour";

/// What the machine keeps open.
#[derive(Debug)]
pub(super) struct Stage {
    _inherited: File,
    _listener: unix::UnixListener,
}

impl Stage {
    /// Makes images and volumes, and gives this process what a container must not inherit.
    pub(super) fn set() -> anyhow::Result<Self> {
        namespace::set_host_name("node")?;
        images()?;
        volumes()?;
        fs::create_dir_all("/etc")?;
        fs::write("/etc/hosts", format!("127.0.0.1 localhost\n{NAME_OF_NODE}\n"))?;
        groups::of(Path::new(NEIGHBOUR)).make()?;
        // As systemd has it.
        rustix::mount::mount_change(
            "/",
            MountPropagationFlags::SHARED | MountPropagationFlags::REC,
        )?;
        fs::write("/proc/self/oom_score_adj", "-900")?;
        let inherited = File::open(INSIDE)?;
        rustix::io::fcntl_setfd(&inherited, FdFlags::empty())?;
        let name = unix::SocketAddr::from_abstract_name(SOCKET)?;
        Ok(Self { _inherited: inherited, _listener: unix::UnixListener::bind_addr(&name)? })
    }
}

fn images() -> anyhow::Result<()> {
    let inside = |root: &str, path: &str| Path::new(root).join(path.trim_start_matches('/'));
    for directory in ["bin", "dev", "etc", "kernel/proc", "kernel/sys", "tmp"] {
        fs::create_dir_all(inside(LINKED_ROOTFS, directory))?;
    }
    symlink("/kernel/proc", inside(LINKED_ROOTFS, "proc"))?;
    symlink("../../../kernel/sys", inside(LINKED_ROOTFS, "sys"))?;
    for root in [ROOTFS, LINKED_ROOTFS] {
        fs::copy(INSIDE, inside(root, INSIDE))?;
    }
    fs::write(inside(LINKED_ROOTFS, "etc/listed"), format!("{LISTED}\n"))?;
    symlink("/etc/listed", inside(LINKED_ROOTFS, "etc/passwd"))?;
    symlink("../../../tmp/host", inside(LINKED_ROOTFS, "etc/hostname"))?;
    let script = inside(ROOTFS, BAD_SCRIPT);
    fs::write(&script, "#!/bin/zsh\n")?;
    fs::set_permissions(script, fs::Permissions::from_mode(0o755))?;
    fs::create_dir_all(inside(ROOTFS, "work/linked"))?;
    symlink("/../work/linked", inside(ROOTFS, "link"))?;
    let own = inside(ROOTFS, OWN_FILE);
    fs::write(&own, ORIGINAL)?;
    Ok(chown(own, Some(1000), Some(1000))?)
}

fn volumes() -> anyhow::Result<()> {
    for directory in [VOLUME, INNER, BELOW] {
        mount::make_directory(Path::new(directory), 0o777)?;
    }
    fs::write(Path::new(INNER).join("marker"), "inner")?;
    mount::mount(Path::new("tmpfs"), Path::new(BELOW), "tmpfs", Flags::empty(), "mode=0777")?;
    Ok(fs::write(Path::new(BELOW).join("below"), "")?)
}

/// Adds a volume to a description.
pub(super) fn bind(spec: &mut ContainerSpec, source: &str, target: &str) {
    let (source, target) = (source.into(), target.to_owned());
    spec.binds.push(Bind { source, target, read_only: false });
}

/// Adds a small file to a description.
pub(super) fn place(spec: &mut ContainerSpec, target: &str) {
    let (source, target) = (Path::new(INNER).join("marker"), target.to_owned());
    spec.files.push(Placed { source, target, mode: 0o444 });
}

/// Adds both devices to a description, as the job's user's own.
pub(super) fn grant(spec: &mut ContainerSpec) {
    for ((path, major, minor), block) in [(CHARACTER_DEVICE, false), (BLOCK_DEVICE, true)] {
        let (path, mode) = (path.to_owned(), 0o600);
        let (uid, gid) = (spec.uid, spec.gid);
        spec.devices.push(DeviceNode {
            path,
            block,
            major,
            minor,
            read: true,
            write: true,
            mode,
            uid,
            gid,
        });
    }
}

/// Has a shell do the work.
pub(super) fn script(spec: &mut ContainerSpec, text: &str) {
    spec.command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
}

/// Adds the namespaces of the machine to the command, for the payload to compare.
pub(super) fn tell_namespaces(spec: &mut ContainerSpec) {
    for name in NAMESPACES {
        // A kernel without one of them fails the check.
        let own = fs::read_link(Path::new("/proc/self/ns").join(name)).unwrap_or_default();
        spec.command.push(own.display().to_string());
    }
}
