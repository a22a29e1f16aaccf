//! What an attempt to break out does inside its container: `attempt NAME [ARGUMENT]`, exit status 0
//! if it got through.

use std::{
    fs::{self, OpenOptions},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{fs::chroot, net as unix},
    },
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use linux::{attempts, clock, device_filter, module, mount, namespace};
use nix::{
    sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare},
    unistd::Pid,
};

use crate::{
    escape::{NODE, SEGMENT, SOCKET, host_name},
    program::program,
};

/// Makes one attempt.
pub(crate) fn make(name: &str, argument: Option<&str>) -> anyhow::Result<()> {
    let argument = || argument.context("an argument is missing");
    match name {
        "mount" => {
            mount::mount(Path::new("none"), Path::new("/tmp"), "tmpfs", mount::Flags::empty(), "")?
        }
        "make-device" => make_device()?,
        "write" => drop(OpenOptions::new().write(true).open(argument()?)?),
        "is-root" => ensure!(attempts::is_root(), "not root"),
        "unshare-user" => unshare(CloneFlags::CLONE_NEWUSER)?,
        "clone3-user" => attempts::clone3_user_namespace()?,
        "join" => {
            setns(fs::File::open("/proc/1/ns/uts")?, CloneFlags::CLONE_NEWUTS)?;
            ensure!(host_name() == NODE, "still in the container");
        }
        "rename-node" => namespace::set_host_name(argument()?)?,
        "shared-memory" => attempts::shared_memory(SEGMENT, false)?,
        "abstract-socket" => {
            drop(unix::UnixStream::connect_addr(&unix::SocketAddr::from_abstract_name(SOCKET)?)?);
        }
        "connect" => {
            let to: SocketAddr = argument()?.parse()?;
            drop(TcpStream::connect_timeout(&to, Duration::from_secs(1))?);
        }
        "listen" => drop(TcpListener::bind(argument()?)?),
        "packet-socket" => attempts::packet_socket()?,
        "bpf" => drop(device_filter::load(&[])?),
        "perf" => attempts::watch_processor()?,
        "key" => attempts::add_key()?,
        "page-faults" => attempts::handle_page_faults()?,
        "ring" => attempts::set_up_ring()?,
        "handle" => attempts::open_by_handle(c"/volume")?,
        "module" => module::load(Path::new("/overlay.ko"), "")?,
        "clock" => {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            clock::set_realtime(now.tv_sec)?;
        }
        "ports" => attempts::reach_ports()?,
        "kernel-log" => attempts::read_kernel_log()?,
        "fork" => fork(argument()?.parse()?)?,
        "fill" => {
            let bytes = argument()?.parse::<usize>()? << 20;
            let filled = std::hint::black_box(vec![1_u8; bytes]);
            ensure!(filled.len() == bytes, "not all");
        }
        "processor" => {
            let mut wanted = CpuSet::new();
            wanted.set(argument()?.parse()?)?;
            sched_setaffinity(Pid::from_raw(0), &wanted)?;
        }
        "leave-root" => leave_root()?,
        other => bail!("no attempt {other}"),
    }
    Ok(())
}

/// Makes the device of the kernel's log, and opens it.
fn make_device() -> anyhow::Result<()> {
    let path = Path::new("/tmp/kmsg");
    mount::make_character_device(path, 0o666, 1, 11)?;
    OpenOptions::new().write(true).open(path)?;
    Ok(())
}

/// Starts so many processes, which stay.
fn fork(count: u32) -> anyhow::Result<()> {
    let children: Result<Vec<_>, _> =
        (0..count).map(|_| program("/bin/sleep").arg("600").spawn()).collect();
    children?;
    Ok(())
}

/// Goes up from a working directory that is outside of the root that it sets.
fn leave_root() -> anyhow::Result<()> {
    fs::create_dir("/tmp/inner")?;
    chroot("/tmp/inner")?;
    for _ in 0..64 {
        std::env::set_current_dir("..")?;
    }
    chroot(".")?;
    ensure!(Path::new("/bin/guest").exists(), "still in the container");
    Ok(())
}
