//! How long registries that are away are waited for: one clock over all tries of a pull, over
//! manifest, config and layers, mirrors and origin.
//!
//! The clock begins with the first try that fails, and stops when something comes. So a transfer
//! of an hour may be cut off many times, and a registry that is away is given up after the
//! configured time, however many layers wait for it.

use std::{fmt, time::Duration};

use api::backoff::Schedule;
use tokio::time::Instant;

use crate::{error::RequestError, registries::RegistryHost};

/// Longest time that a registry may ask to be left alone. It is in the hands of whoever runs the
/// registry, and it is a stranger's.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Pauses between tries where nothing else is said: a registry that restarts is back in a few
/// tries, and one that is overloaded by many is not held down by them.
pub const PAUSES: Schedule =
    Schedule { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// That a pull waits, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The registry.
    pub registry: RegistryHost,
    /// What is the matter with it.
    pub cause: RequestError,
    /// Time to the next try.
    pub pause: Duration,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.pause.as_millis().div_ceil(1000);
        write!(f, "waiting for {}: {}; next try in {seconds} s", self.registry, self.cause)
    }
}

/// Is told when a pull waits.
pub trait Waits: fmt::Debug + Send + Sync {
    /// A pull waits now, or goes on. Called seldom, and must not block.
    fn waits(&self, wait: Option<&Wait>);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoWaits;

impl Waits for NoWaits {
    fn waits(&self, _wait: Option<&Wait>) {}
}

/// The clock of one pull.
#[derive(Debug)]
pub(crate) struct PullClock {
    limit: Duration,
    pauses: Schedule,
    /// When the first try of those that failed in a row began.
    since: Option<Instant>,
    failures: u32,
}

impl PullClock {
    pub(crate) fn new(limit: Duration, pauses: Schedule) -> Self {
        Self { limit, pauses, since: None, failures: 0 }
    }

    /// A try that began at `began` failed at `now`. The pause before the next one, or `None` if the
    /// time is over. `moved`: it went further. `retry_after`: what the registry asks for.
    pub(crate) fn after_failure(
        &mut self,
        (began, now): (Instant, Instant),
        moved: bool,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        if moved {
            (self.since, self.failures) = (Some(now), 0);
        }
        self.since.get_or_insert(began);
        self.failures = self.failures.saturating_add(1);
        let left = self.limit.checked_sub(self.waited(now)).filter(|left| !left.is_zero())?;
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        // What is left of the time is used up to its end.
        Some(self.pauses.after(self.failures).max(asked).min(left))
    }

    /// Since something came last.
    pub(crate) fn waited(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Tries that failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> impl Fn(u64) -> Instant {
        let begin = Instant::now();
        move |second| begin + Duration::from_secs(second)
    }

    fn patience(seconds: u64) -> PullClock {
        PullClock::new(Duration::from_secs(seconds), PAUSES)
    }

    #[test]
    fn pauses_double_and_one_clock_ends_them() {
        let (at, mut patience) = (clock(), patience(100));
        let (mut now, mut pauses) = (0, Vec::new());
        while let Some(pause) = patience.after_failure((at(now), at(now)), false, None) {
            pauses.push(pause.as_secs());
            now += pause.as_secs();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 9]);
        assert_eq!((now, patience.failures()), (100, 9));
    }

    #[test]
    fn what_comes_stops_the_clock() {
        let (at, mut patience) = (clock(), patience(10));
        assert_eq!(
            patience.after_failure((at(0), at(5)), false, None),
            Some(Duration::from_secs(1))
        );
        // An hour of transfer that broke off is no waiting.
        let broke_off = patience.after_failure((at(6), at(3600)), true, None);
        assert_eq!(broke_off, Some(Duration::from_secs(1)));
        assert_eq!(patience.after_failure((at(3601), at(3610)), false, None), None);
    }

    #[test]
    fn a_registry_is_left_alone_as_it_asks_and_not_for_ever() {
        let (at, mut patience) = (clock(), patience(300));
        let mut asks = |now, seconds| {
            let asked = Some(Duration::from_secs(seconds));
            patience.after_failure((at(now), at(now)), false, asked).map(|pause| pause.as_secs())
        };
        assert_eq!(asks(0, 20), Some(20));
        assert_eq!(asks(20, u64::MAX), Some(60));
        assert_eq!(asks(290, 60), Some(10));
        assert_eq!(asks(300, 60), None);
    }

    #[test]
    fn without_patience_there_is_one_try() {
        let (at, mut patience) = (clock(), patience(0));
        assert_eq!(patience.after_failure((at(0), at(0)), false, None), None);
    }

    #[test]
    fn people_read_whole_seconds() {
        let cause = RequestError::Connection {
            cause: "connection refused".to_owned(),
            stage: crate::error::Stage::Connect,
        };
        let registry = "registry.example".parse().unwrap();
        let wait = Wait { registry, cause, pause: Duration::from_millis(7_200) };
        assert_eq!(
            wait.to_string(),
            "waiting for registry.example: connection refused; next try in 8 s"
        );
    }
}
