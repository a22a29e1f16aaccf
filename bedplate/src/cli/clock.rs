//! The clock of the command line: for ages in tables, lines of `node watch`, and `--timeout`.

use std::time::{SystemTime, UNIX_EPOCH};

use api::ids::Timestamp;

/// The time now.
#[expect(clippy::disallowed_methods, reason = "the home of the clock in this program")]
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
