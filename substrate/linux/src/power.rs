//! Restarting the machine.

use std::convert::Infallible;

use nix::sys::reboot::RebootMode;

use crate::{LinuxError, Result};

/// Restarts the machine at once. Writes what is dirty first, ends no process in order: only for PID
/// 1 of an initramfs.
///
/// # Errors
/// Returns only on failure: `EPERM` without `CAP_SYS_BOOT`.
pub fn restart_now() -> Result<Infallible> {
    nix::unistd::sync();
    nix::sys::reboot::reboot(RebootMode::RB_AUTOBOOT)
        .map_err(|errno| LinuxError::new("restart", "the machine", errno))
}
