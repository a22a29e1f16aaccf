//! How often one source may fail to enrol. Pure.
//!
//! A token has 256 random bits, so guessing is hopeless; the limit keeps a source from filling the log and the
//! history, and from having the server check signatures all day.

use std::{collections::HashMap, net::IpAddr};

use api::ids::Timestamp;

/// Failures of one source in one window. A node that is set up wrongly tries a few times a minute.
pub(crate) const MAX_FAILURES: u32 = 20;

/// Length of the window, seconds.
pub(crate) const WINDOW_SECONDS: i64 = 60;

/// Sources that are remembered: 64 B each. When full, the oldest are forgotten.
const MAX_SOURCES: usize = 4_096;

/// Failures by source.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    sources: HashMap<IpAddr, (Timestamp, u32)>,
}

impl Failures {
    /// May this source try?
    pub(crate) fn may_try(&self, source: IpAddr, now: Timestamp) -> bool {
        self.sources
            .get(&source)
            .is_none_or(|(began, failures)| *failures < MAX_FAILURES || is_over(*began, now))
    }

    /// It failed.
    pub(crate) fn failed(&mut self, source: IpAddr, now: Timestamp) {
        if !self.sources.contains_key(&source) && self.sources.len() >= MAX_SOURCES {
            self.sources.retain(|_, (began, _)| !is_over(*began, now));
            let oldest = self.sources.iter().min_by_key(|(_, (began, _))| *began).map(|(source, _)| *source);
            if let Some(oldest) = oldest.filter(|_| self.sources.len() >= MAX_SOURCES) {
                self.sources.remove(&oldest);
            }
        }
        let (began, failures) = self.sources.entry(source).or_insert((now, 0));
        if is_over(*began, now) {
            (*began, *failures) = (now, 0);
        }
        *failures += 1;
    }
}

/// A clock that was set back ends a window too.
fn is_over(began: Timestamp, now: Timestamp) -> bool {
    !(began..began.plus_seconds(WINDOW_SECONDS)).contains(&now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_held_off_until_its_window_ends() {
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut failures = Failures::default();
        for n in 0..MAX_FAILURES {
            assert!(failures.may_try(one, Timestamp(0)), "{n}");
            failures.failed(one, Timestamp(0));
        }
        assert!(!failures.may_try(one, Timestamp(59_999_999)));
        assert!(failures.may_try(two, Timestamp(0)));
        assert!(failures.may_try(one, Timestamp(60_000_000)));
        failures.failed(one, Timestamp(60_000_000));
        assert!(failures.may_try(one, Timestamp(60_000_000)));
        for _ in 1..MAX_FAILURES {
            failures.failed(one, Timestamp(60_000_000));
        }
        assert!(!failures.may_try(one, Timestamp(60_000_000)));
        assert!(failures.may_try(one, Timestamp(0)), "the clock was set back");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut failures = Failures::default();
        for n in 0..10_000u32 {
            failures.failed(IpAddr::from(n.to_be_bytes()), Timestamp(n.into()));
        }
        assert_eq!(failures.sources.len(), MAX_SOURCES);
        assert!(failures.sources.contains_key(&IpAddr::from(9_999u32.to_be_bytes())));
    }
}
