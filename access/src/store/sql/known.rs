//! Tokens that were looked up a moment ago, so that who asks a thousand times a second does not
//! wait for the database each time.
//!
//! What this process changes of users and tokens is seen by the next request: each such write is a
//! [`Change`], and what was read before one ended is not kept. What another program changes in the
//! database (`bedplate server recover-admin`) is seen within [`KEPT`].

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{store::tokens::OwnedToken, token::TokenHash};

/// How long a token is not looked up again.
const KEPT: Duration = Duration::from_secs(1);

/// Tokens that are kept, some 300 bytes each and more for a scope. Only those that are in the
/// database get here.
const MAX_TOKENS: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct KnownTokens(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Writes that have begun or ended.
    changes: u64,
    /// Writes under way.
    running: usize,
    tokens: HashMap<TokenHash, (Instant, OwnedToken)>,
}

/// A write of users or tokens, from before its first statement until after its commit.
#[derive(Debug)]
#[must_use]
pub(super) struct Change<'a>(&'a KnownTokens);

/// Users and tokens as they were when a look-up began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen(u64);

impl KnownTokens {
    /// The token of a hash, if it was looked up a moment ago.
    pub(super) fn get(&self, hash: &TokenHash, now: Instant) -> Result<OwnedToken, Seen> {
        let known = self.lock();
        let fresh =
            known.tokens.get(hash).filter(|(read, _)| now.saturating_duration_since(*read) < KEPT);
        fresh.map(|(_, token)| token.clone()).ok_or(Seen(known.changes))
    }

    /// Keeps what a look-up found that began at `seen`, unless something was written since.
    pub(super) fn put(&self, hash: TokenHash, token: &OwnedToken, seen: Seen, now: Instant) {
        let mut known = self.lock();
        if known.changes != seen.0 || known.running > 0 {
            return;
        }
        if known.tokens.len() >= MAX_TOKENS && !known.tokens.contains_key(&hash) {
            known.tokens.clear();
        }
        known.tokens.insert(hash, (now, token.clone()));
    }

    /// Users or tokens are about to be written. Until what is returned is dropped, nothing is kept.
    pub(super) fn change(&self) -> Change<'_> {
        let mut known = self.lock();
        known.changes += 1;
        known.running += 1;
        known.tokens.clear();
        Change(self)
    }

    /// Every change of it is whole: a poisoned lock guards a good map.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut known = self.0.lock();
        known.changes += 1;
        known.running -= 1;
    }
}

#[cfg(test)]
mod tests {
    use api::{access::User, ids::Timestamp};

    use super::*;

    fn token(name: &str) -> OwnedToken {
        let owner = User { name: "ann".into(), admin: false, account: None, comment: None };
        OwnedToken { owner, name: name.into(), created: Timestamp(0), expires: None, scope: None }
    }

    #[test]
    fn a_token_is_known_for_a_second() {
        let (known, hash, now) = (KnownTokens::default(), [1; 32], Instant::now());
        let seen = known.get(&hash, now).unwrap_err();
        known.put(hash, &token("a"), seen, now);
        assert_eq!(known.get(&hash, now).unwrap(), token("a"));
        assert!(known.get(&hash, now + KEPT - Duration::from_millis(1)).is_ok());
        assert!(known.get(&hash, now + KEPT).is_err(), "others may have changed it");
    }

    #[test]
    fn what_was_read_before_a_change_ended_is_not_known() {
        let (known, hash, now) = (KnownTokens::default(), [1; 32], Instant::now());
        let before = known.get(&hash, now).unwrap_err();
        let change = known.change();
        known.put(hash, &token("read before the change"), before, now);
        let during = known.get(&hash, now).unwrap_err();
        known.put(hash, &token("read while it ran"), during, now);
        drop(change);
        known.put(hash, &token("late"), during, now);
        let after = known.get(&hash, now).unwrap_err();
        known.put(hash, &token("after"), after, now);
        assert_eq!(known.get(&hash, now).unwrap(), token("after"));
        drop(known.change());
        assert!(known.get(&hash, now).is_err(), "a change ends what is known");
    }

    #[test]
    fn what_is_known_is_bounded() {
        let (known, now) = (KnownTokens::default(), Instant::now());
        for number in 0..=MAX_TOKENS {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            let seen = known.get(&hash, now).unwrap_err();
            known.put(hash, &token("a"), seen, now);
        }
        assert_eq!(known.lock().tokens.len(), 1);
    }
}
