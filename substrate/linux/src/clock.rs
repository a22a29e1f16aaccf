//! Setting the real-time clock of the system.

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
