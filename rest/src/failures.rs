//! How often one source may fail to prove who it is: at the fleet port with boot tokens, at the
//! REST port with tokens, tickets and sessions. Pure.
//!
//! Secrets have 256 random bits, so guessing is hopeless; the limit keeps a source from filling the
//! log, and from having the server do work for nobody.

use std::{collections::HashMap, net::IpAddr};

use api::ids::Timestamp;

use crate::shell::Source;

/// Sources that are remembered: some 64 B each. When full, the oldest are forgotten.
const MAX_SOURCES: usize = 4_096;

/// How often one source may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureLimit {
    /// Failures of one source in one window.
    pub failures: u32,
    /// Length of the window, seconds. It begins with the first failure.
    pub window_seconds: i64,
}

/// Failures by source: an IPv4 address, or an IPv6 network of 64 bits.
#[derive(Debug)]
pub struct Failures {
    limit: FailureLimit,
    sources: HashMap<Source, (Timestamp, u32)>,
}

impl Failures {
    /// No failures yet.
    #[must_use]
    pub fn new(limit: FailureLimit) -> Self {
        Self { limit, sources: HashMap::new() }
    }

    /// May this source try?
    #[must_use]
    pub fn may_try(&self, address: IpAddr, now: Timestamp) -> bool {
        self.wait_seconds(address, now).is_none()
    }

    /// After how many seconds, at least one, a source may try that has failed too often.
    #[must_use]
    pub fn wait_seconds(&self, address: IpAddr, now: Timestamp) -> Option<u64> {
        let (began, failures) = *self.sources.get(&Source::of(address))?;
        if failures < self.limit.failures || self.is_over(began, now) {
            return None;
        }
        let left =
            self.limit.window_seconds.saturating_sub(now.seconds().saturating_sub(began.seconds()));
        Some(u64::try_from(left).unwrap_or(0).max(1))
    }

    /// Counts a failure of the source of this address.
    pub fn failed(&mut self, address: IpAddr, now: Timestamp) {
        let source = Source::of(address);
        if !self.sources.contains_key(&source) && self.sources.len() >= MAX_SOURCES {
            self.forget_oldest(now);
        }
        let limit = self.limit;
        let (began, failures) = self.sources.entry(source).or_insert((now, 0));
        if limit.is_over(*began, now) {
            (*began, *failures) = (now, 0);
        }
        *failures = failures.saturating_add(1);
    }

    /// Sources that are remembered.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    fn forget_oldest(&mut self, now: Timestamp) {
        let limit = self.limit;
        self.sources.retain(|_, (began, _)| !limit.is_over(*began, now));
        let oldest =
            self.sources.iter().min_by_key(|(_, (began, _))| *began).map(|(source, _)| *source);
        if let Some(oldest) = oldest.filter(|_| self.sources.len() >= MAX_SOURCES) {
            self.sources.remove(&oldest);
        }
    }

    fn is_over(&self, began: Timestamp, now: Timestamp) -> bool {
        self.limit.is_over(began, now)
    }
}

impl FailureLimit {
    /// A clock that was set back ends a window too.
    fn is_over(self, began: Timestamp, now: Timestamp) -> bool {
        !(began..began.plus_seconds(self.window_seconds)).contains(&now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: FailureLimit = FailureLimit { failures: 20, window_seconds: 60 };

    #[test]
    fn a_source_is_held_off_until_its_window_ends() {
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut failures = Failures::new(LIMIT);
        for n in 0..LIMIT.failures {
            assert!(failures.may_try(one, Timestamp(0)), "{n}");
            failures.failed(one, Timestamp(0));
        }
        assert!(!failures.may_try(one, Timestamp(59_999_999)));
        assert_eq!(failures.wait_seconds(one, Timestamp(0)), Some(60));
        assert_eq!(failures.wait_seconds(one, Timestamp(59_999_999)), Some(1));
        assert!(failures.may_try(two, Timestamp(0)));
        assert!(failures.may_try(one, Timestamp(60_000_000)));
        failures.failed(one, Timestamp(60_000_000));
        assert!(failures.may_try(one, Timestamp(60_000_000)));
        for _ in 1..LIMIT.failures {
            failures.failed(one, Timestamp(60_000_000));
        }
        assert!(!failures.may_try(one, Timestamp(60_000_000)));
        assert!(failures.may_try(one, Timestamp(0)), "the clock was set back");
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let mut failures = Failures::new(LIMIT);
        for n in 0..LIMIT.failures {
            failures.failed(format!("2001:db8:0:1::{n:x}").parse().unwrap(), Timestamp(0));
        }
        assert!(!failures.may_try("2001:db8:0:1:ffff::1".parse().unwrap(), Timestamp(0)));
        assert!(failures.may_try("2001:db8:0:2::1".parse().unwrap(), Timestamp(0)));
        assert_eq!(failures.sources(), 1);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut failures = Failures::new(FailureLimit { failures: 1, ..LIMIT });
        for n in 0..10_000u32 {
            failures.failed(IpAddr::from(n.to_be_bytes()), Timestamp(n.into()));
        }
        assert_eq!(failures.sources(), MAX_SOURCES);
        assert!(
            !failures.may_try(IpAddr::from(9_999u32.to_be_bytes()), Timestamp(9_999)),
            "the newest stays"
        );
    }
}
