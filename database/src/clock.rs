//! The clock, for how long transactions and migrations take, and when something was written last.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now, on the clock that never goes back.
#[expect(clippy::disallowed_methods, reason = "the home of the clock in this crate")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Now, on the clock of the machine: seconds since 1970; 0 before it.
#[expect(clippy::disallowed_methods, reason = "the home of the clock in this crate")]
pub(crate) fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
