//! The clocks of the system: setting the real-time clock, reading the monotonic one.

use std::time::Duration;

use nix::{sys::time::TimeSpec, time::ClockId};

use crate::{LinuxError, Result};

/// Sets `CLOCK_REALTIME` to `seconds` since 1970-01-01 UTC.
///
/// # Errors
/// `EPERM` without `CAP_SYS_TIME`.
pub fn set_realtime(seconds: i64) -> Result<()> {
    nix::time::clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, 0))
        .map_err(|errno| LinuxError::new("set the clock to", seconds, errno))
}

/// Time since some moment before; it never goes back.
#[must_use]
pub fn monotonic() -> Duration {
    // The kernel has had this clock for longer than any that runs here.
    nix::time::clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
