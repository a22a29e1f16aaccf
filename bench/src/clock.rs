//! The home of the clock: measuring, and waiting with a name and a deadline.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::bail;

/// Between two looks at what is waited for. Nothing that is measured is waited for so.
const POLL: Duration = Duration::from_millis(20);

/// Now.
#[expect(clippy::disallowed_methods, reason = "the home of the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the home of the clock")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What `work` gave, and how many seconds it took.
///
/// # Errors
/// Those of `work`.
pub(crate) fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, f64)> {
    let start = now();
    let value = work()?;
    Ok((value, start.elapsed().as_secs_f64()))
}

/// Looks until there is something, or the deadline has passed; the error names what was waited for.
///
/// # Errors
/// Those of `look` at once; otherwise that `what` did not come in time.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        thread::sleep(POLL);
    }
}
