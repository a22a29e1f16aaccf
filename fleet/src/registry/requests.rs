//! Requests that anybody on the boot network can make in a node's name, and how many of them are
//! recorded.

use api::{
    ids::{Digest, Timestamp},
    status::Severity,
};

use super::Change;

/// One refused request of a node is recorded in this time, seconds; the next record has the number
/// of those between.
const RECORD_SECONDS: i64 = 60;

/// Refused requests that anybody on the boot network can make in a node's name.
#[derive(Debug, Default)]
pub(super) struct Requests {
    recorded: Option<Timestamp>,
    left_out: u64,
}

impl Requests {
    /// How many were left out since the last one that was recorded, if this one is to be.
    fn take(&mut self, now: Timestamp) -> Option<u64> {
        // A clock that was set back begins a new minute.
        let goes_on = |at: Timestamp| (at..at.plus_seconds(RECORD_SECONDS)).contains(&now);
        if self.recorded.is_some_and(goes_on) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.recorded = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Change<'_> {
    /// The token of the node that was redeemed last.
    pub(crate) fn spent_token(&self) -> Option<Digest> {
        self.entry.arming.spent()
    }

    /// How often the tokens that were out became void.
    pub(crate) fn token_voids(&self) -> u64 {
        self.entry.arming.voids()
    }

    /// Whether this is, or was not long ago, a token of the node.
    pub(crate) fn knows_token(&self, token: Digest) -> bool {
        self.entry.arming.tokens().any(|known| known == token)
    }

    /// Records a refused request that anybody can make, if none was within a minute; the next one
    /// says how many there were.
    pub(crate) fn record_request(&mut self, severity: Severity, message: &str) {
        match self.entry.requests.take(self.now) {
            None => {}
            Some(0) => self.record(severity, message),
            Some(more) => self.record(severity, &format!("{message}; {more} more like it before")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_a_minute_is_recorded_and_the_next_counts_the_others() {
        let mut requests = Requests::default();
        let at = |second: i64| Timestamp(0).plus_seconds(second);
        let recorded: Vec<u64> = (0..344).filter_map(|_| requests.take(at(1))).collect();
        assert_eq!(recorded, [0]);
        assert_eq!(requests.take(at(60)), None);
        assert_eq!(requests.take(at(61)), Some(344));
        assert_eq!(requests.take(at(1_000)), Some(0));
        assert_eq!(requests.take(at(5)), Some(0), "the clock was set back");
        assert_eq!(requests.take(at(6)), None);
    }
}
