//! Namespaces of the calling thread.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::MountPropagationFlags;

use crate::{LinuxError, Result};

/// Gives the calling thread a network namespace of its own, with a loopback that is off
/// and nothing else.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn enter_new_network() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| LinuxError::new("make", "a network namespace", errno))
}

/// Gives the calling thread a mount namespace of its own, in which nothing
/// propagates to the others.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn enter_private_mounts() -> Result<()> {
    let fail = |errno| LinuxError::new("make", "a private mount namespace", errno);
    unshare(CloneFlags::CLONE_NEWNS).map_err(fail)?;
    make_mounts_private()
}

/// Lets no mount of this namespace propagate to others, and none of theirs come here.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn make_mounts_private() -> Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| LinuxError::new("make private", "every mount", errno))
}

/// Makes this process's cgroup the root of what it sees of them. (`CLONE_NEWCGROUP` of
/// `clone3` would take the caller's group instead: the kernel makes the namespace before it
/// moves the child.)
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn enter_own_cgroup_root() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWCGROUP)
        .map_err(|errno| LinuxError::new("make", "a cgroup namespace", errno))
}

/// Joins the mount, IPC, host name and network namespaces of a process, and lets children be made
/// in its process namespace. All or none: `process` is a pidfd, so no other process can take its
/// place in between.
///
/// # Errors
/// `ESRCH` if it has ended, `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` before kernel 5.8.
pub fn join(process: BorrowedFd<'_>) -> Result<()> {
    let kinds = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET;
    setns(process, kinds)
        .map_err(|errno| LinuxError::new("join", "the namespaces of a container", errno))
}

/// Sets the host name of this namespace.
///
/// # Errors
/// `EINVAL` for more than 64 bytes, `EPERM` without `CAP_SYS_ADMIN`.
pub fn set_host_name(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes())
        .map_err(|errno| LinuxError::new("set the host name", name, errno))
}

/// Turns the loopback interface of this network namespace on (`netdevice(7)`); the kernel gives
/// it its addresses.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`.
pub fn bring_loopback_up() -> Result<()> {
    let fail = || LinuxError::new("turn on", "the loopback interface", io::Error::last_os_error());
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .map_err(|errno| LinuxError::new("turn on", "the loopback interface", errno))?;
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: the request lives until the call returns, which reads it and writes nothing.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 { Ok(()) } else { Err(fail()) }
}
