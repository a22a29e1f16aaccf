//! When and from where each token was used last. Kept in memory, and written down once in a while:
//! reading writes nothing. Pure.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use api::ids::Timestamp;

use crate::{tickets::after, token::TokenHash};

/// A use is written down if the last one that was is so long ago. A server that ends forgets
/// what came since.
pub(crate) const WRITE_AFTER: Duration = Duration::from_secs(300);

/// Tokens that are remembered, some 100 B each. Only good ones get here; one that is
/// forgotten costs a write.
const MAX_TOKENS: usize = 16_384;

/// A use of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastUse {
    pub(crate) at: Timestamp,
    /// `None` in tests of routes, where there is no connection.
    pub(crate) source: Option<IpAddr>,
}

/// The last use of each token.
#[derive(Debug, Default)]
pub(crate) struct Uses(HashMap<TokenHash, (LastUse, Timestamp)>);

impl Uses {
    /// Notes a use. `true`: it has to be written down.
    pub(crate) fn note(&mut self, token: TokenHash, use_: LastUse) -> bool {
        if self.0.len() >= MAX_TOKENS && !self.0.contains_key(&token) {
            self.0.clear();
        }
        let Some((last, written)) = self.0.get_mut(&token) else {
            self.0.insert(token, (use_, use_.at));
            return true;
        };
        *last = use_;
        // A clock that was set back must not keep uses from being written.
        let is_due = use_.at >= after(*written, WRITE_AFTER) || use_.at < *written;
        if is_due {
            *written = use_.at;
        }
        is_due
    }

    /// The last use that is known here.
    pub(crate) fn last(&self, token: &TokenHash) -> Option<LastUse> {
        self.0.get(token).map(|(last, _)| *last)
    }

    /// The token is revoked.
    pub(crate) fn forget(&mut self, token: &TokenHash) {
        self.0.remove(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64, last: u8) -> LastUse {
        LastUse { at: Timestamp(second * 1_000_000), source: Some(IpAddr::from([10, 0, 0, last])) }
    }

    #[test]
    fn a_use_is_written_down_once_in_five_minutes() {
        let mut uses = Uses::default();
        let written = (1..=1_000).filter(|second| uses.note([1; 32], at(*second, 1))).count();
        assert_eq!(written, 4, "at 1, 301, 601 and 901 s");
        assert!(uses.note([2; 32], at(1_000, 2)), "each token for itself");
        assert!(!uses.note([1; 32], at(1_001, 7)));
        assert_eq!(uses.last(&[1; 32]), Some(at(1_001, 7)), "what is told is the last");
        assert!(uses.note([1; 32], at(5, 7)), "the clock was set back");
        assert!(!uses.note([1; 32], at(6, 7)));
        uses.forget(&[1; 32]);
        assert_eq!(uses.last(&[1; 32]), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut uses = Uses::default();
        for number in 0..=MAX_TOKENS {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            uses.note(hash, at(1, 1));
        }
        assert_eq!(uses.0.len(), 1);
    }
}
