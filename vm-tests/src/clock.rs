//! The home of the clock: waiting with a name and a deadline.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::bail;

/// Between two looks at what is waited for: short beside the seconds that a node takes for a step.
const POLL: Duration = Duration::from_millis(250);

/// Now.
#[expect(clippy::disallowed_methods, reason = "the home of the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Since the machine was started, by the clock of the kernel's tracing.
///
/// # Errors
/// If the kernel has no such clock.
pub(crate) fn monotonic() -> anyhow::Result<Duration> {
    Ok(nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?.into())
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the home of the clock")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Sleeps.
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

/// Looks until there is something, or the deadline has passed; the error names what was waited for.
///
/// # Errors
/// Those of `look` at once; otherwise that `what` did not come in time.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    wait_every(POLL, what, limit, look)
}

/// As [`wait_for`], where a quarter of a second counts.
///
/// # Errors
/// As [`wait_for`].
pub(crate) fn wait_every<T>(
    poll: Duration,
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
        thread::sleep(poll);
    }
}
