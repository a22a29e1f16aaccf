//! The clock, for how long transactions and migrations take.

use std::time::Instant;

/// Now, on the clock that never goes back.
#[expect(clippy::disallowed_methods, reason = "the home of the clock in this crate")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
