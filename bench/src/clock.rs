//! Waiting, at the pace of servers that start; the rest is the [harness's clock](harness::clock).

use std::time::Duration;

pub(crate) use harness::clock::{now, timed, unix_seconds};

/// Between two looks at what is waited for. Nothing that is measured is waited for so.
const POLL: Duration = Duration::from_millis(20);

/// As [`harness::clock::wait_every`].
///
/// # Errors
/// As it.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    harness::clock::wait_every(POLL, what, limit, look)
}
