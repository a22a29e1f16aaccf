//! Waiting, at the pace of machines that boot; the rest is the [harness's clock](harness::clock).

use std::time::Duration;

pub(crate) use harness::clock::{now, pause, unix_seconds, wait_every};

/// Between two looks at what is waited for: short beside the seconds that a node takes for a step.
const POLL: Duration = Duration::from_millis(250);

/// Since the machine was started, by the clock of the kernel's tracing.
///
/// # Errors
/// If the kernel has no such clock.
pub(crate) fn monotonic() -> anyhow::Result<Duration> {
    Ok(nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?.into())
}

/// As [`wait_every`], four times a second.
///
/// # Errors
/// As [`wait_every`].
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    wait_every(POLL, what, limit, look)
}
