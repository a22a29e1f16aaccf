//! The one place of the server that reads the clock.

use api::ids::Timestamp;

/// The time now.
#[expect(clippy::disallowed_methods, reason = "the home of the server's clock")]
pub(super) fn now() -> Timestamp {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
