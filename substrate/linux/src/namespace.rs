//! Namespaces of the calling thread.

use nix::sched::{CloneFlags, unshare};
use rustix::mount::MountPropagationFlags;

use crate::{LinuxError, Result};

/// Gives the calling thread a network namespace of its own, with a loopback that is off and nothing else.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn enter_new_network() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| LinuxError::new("make", "a network namespace", errno))
}

/// Gives the calling thread a mount namespace of its own, in which nothing propagates to the others.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn enter_private_mounts() -> Result<()> {
    let fail = |errno| LinuxError::new("make", "a private mount namespace", errno);
    unshare(CloneFlags::CLONE_NEWNS).map_err(fail)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| LinuxError::new("make private", "every mount", errno))
}
