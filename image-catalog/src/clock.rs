//! The one place of this crate that reads the clock.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use api::ids::Timestamp;

/// The time now.
#[expect(clippy::disallowed_methods, reason = "the home of this crate's clock")]
pub(crate) fn now() -> Timestamp {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Time since the first call: it goes on evenly, whatever is done to the machine's clock.
pub(crate) fn uptime() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "the home of this crate's clock")]
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed()
}
