//! Pauses before a request is tried again: one way for all that agents, stage 1, servers and
//! clients request from each other and from registries. Pure: the caller knows what failed, and
//! brings the randomness. The pauses before the next attempt of a task are the engine's
//! (`controller/src/engine/task.rs`).
//!
//! A [`Schedule`] says how pauses grow, a [`Backoff`] counts what failed in a row, a [`Jitter`]
//! says how much of a pause is left to chance.

use std::time::Duration;

/// Pauses that double with each failure in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The pause after the first failure.
    pub first: Duration,
    /// Longest pause: it does not double beyond.
    pub longest: Duration,
}

impl Schedule {
    /// The pause after so many failures in a row; 0 counts as 1.
    #[must_use]
    pub fn after(self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        doubled.min(self.longest)
    }

    /// The pauses after one failure and the next, which together take `total`: the last is what is
    /// left of it.
    pub fn within(self, total: Duration) -> impl Iterator<Item = Duration> {
        let mut left = total;
        (1..).map_while(move |failures| {
            let pause = self.after(failures).min(left);
            left -= pause;
            (!pause.is_zero()).then_some(pause)
        })
    }
}

/// What chance makes of a pause, so that those who failed at the same moment do not all come back
/// at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// The whole pause, always.
    None,
    /// Anything from `least` to the pause, in whole milliseconds.
    From {
        /// Shortest pause; the pause itself where that is shorter yet.
        least: Duration,
        /// A uniformly random number, from the caller.
        random: u64,
    },
    /// Anything from half of the pause to one and a half, for a pause that somebody else chose.
    Around {
        /// A uniformly random number, from the caller.
        random: u64,
    },
}

impl Jitter {
    /// How much of `pause` is waited.
    #[must_use]
    pub fn of(self, pause: Duration) -> Duration {
        match self {
            Self::None => pause,
            Self::From { least, random } => {
                let least = least.min(pause);
                let width = u64::try_from((pause - least).as_millis()).unwrap_or(u64::MAX);
                least + Duration::from_millis(random % width.saturating_add(1))
            }
            Self::Around { random } => {
                // The 16 highest bits are fine enough, and nothing overflows.
                let part = u32::try_from(random >> 48).unwrap_or(u32::MAX);
                (pause / 2).saturating_add(pause.saturating_mul(part) / (1 << 16))
            }
        }
    }
}

/// How often something failed in a row.
#[derive(Debug, Clone)]
pub struct Backoff {
    schedule: Schedule,
    failures: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    #[must_use]
    pub const fn new(schedule: Schedule) -> Self {
        Self { schedule, failures: 0 }
    }

    /// It failed: the pause before the next attempt.
    pub fn pause(&mut self, jitter: Jitter) -> Duration {
        self.failures = self.failures.saturating_add(1);
        jitter.of(self.schedule.after(self.failures))
    }

    /// It went well: the next pause is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCHEDULE: Schedule =
        Schedule { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

    fn seconds(pauses: impl IntoIterator<Item = Duration>) -> Vec<u64> {
        pauses.into_iter().map(|pause| pause.as_secs()).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!(
            seconds((0..8).map(|failures| SCHEDULE.after(failures))),
            [1, 1, 2, 4, 8, 16, 30, 30]
        );
        assert_eq!(SCHEDULE.after(u32::MAX), SCHEDULE.longest);
        let steady = Schedule { first: Duration::from_secs(3), longest: Duration::from_secs(3) };
        assert_eq!(seconds([1, 2, 9].map(|failures| steady.after(failures))), [3, 3, 3]);
    }

    #[test]
    fn pauses_take_as_long_as_they_may_together() {
        assert_eq!(seconds(SCHEDULE.within(Duration::from_secs(100))), [1, 2, 4, 8, 16, 30, 30, 9]);
        assert_eq!(seconds(SCHEDULE.within(Duration::from_secs(7))), [1, 2, 4]);
        assert_eq!(SCHEDULE.within(Duration::ZERO).count(), 0);
    }

    #[test]
    fn what_went_well_begins_again() {
        let mut backoff = Backoff::new(SCHEDULE);
        let mut three = || seconds([0; 3].map(|_| backoff.pause(Jitter::None)));
        assert_eq!(three(), [1, 2, 4]);
        assert_eq!(three(), [8, 16, 30]);
        backoff.reset();
        assert_eq!(seconds([backoff.pause(Jitter::None)]), [1]);
    }

    #[test]
    fn both_ends_of_chance_are_reached() {
        let (pause, least) = (Duration::from_millis(2_000), Duration::from_millis(500));
        let from = |random| Jitter::From { least, random }.of(pause).as_millis();
        assert_eq!([0, 1, 1_500, 1_501].map(from), [500, 501, 2_000, 500]);
        let around = |random| Jitter::Around { random }.of(pause).as_millis();
        assert_eq!([0, 1 << 63, u64::MAX].map(around), [1_000, 2_000, 2_999]);
    }

    proptest! {
        #[test]
        fn chance_stays_within_its_bounds(pause: Duration, least: Duration, random: u64) {
            let from = Jitter::From { least, random }.of(pause);
            prop_assert!(least.min(pause) <= from && from <= pause, "{from:?}");
            let around = Jitter::Around { random }.of(pause);
            prop_assert!(pause / 2 <= around && around <= pause.saturating_add(pause / 2), "{around:?}");
            prop_assert_eq!(Jitter::None.of(pause), pause);
        }
    }
}
