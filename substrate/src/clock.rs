//! The home of this crate's clocks. Everything else is told the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use api::ids::Timestamp;

/// The time of day.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the home of the clock")]
pub fn now() -> Timestamp {
    let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
    };
    Timestamp(micros)
}

/// A clock that only moves forward, for time-outs.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the home of the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}
