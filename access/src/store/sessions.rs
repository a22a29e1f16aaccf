//! Where sessions are kept.

use api::ids::Timestamp;
use async_trait::async_trait;

use super::{StoreError, tokens::OwnedToken};
use crate::token::TokenHash;

/// A session that begins.
#[derive(Debug)]
pub(crate) struct NewSession<'a> {
    pub(crate) hash: TokenHash,
    /// The token that it was begun with; it ends with it.
    pub(crate) token: TokenHash,
    pub(crate) user: &'a str,
    pub(crate) created: Timestamp,
}

/// When a session began, and when it was noted as used last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredSession {
    pub(crate) created: Timestamp,
    pub(crate) used: Timestamp,
}

/// A session with the token that it was begun with.
#[derive(Debug)]
pub(crate) struct FoundSession {
    pub(crate) session: StoredSession,
    pub(crate) token: OwnedToken,
    /// What the token is kept by.
    pub(crate) token_hash: TokenHash,
}

/// What the store offers of sessions. Every write is durable when its future ends.
#[async_trait]
pub(crate) trait SessionStore: Send + Sync {
    /// Adds a session; of the user's others only the `keep - 1` that were used last stay.
    async fn add_session(&self, session: &NewSession<'_>, keep: u32) -> Result<(), StoreError>;
    /// A session, with its token and its user.
    async fn session(&self, hash: TokenHash) -> Result<Option<FoundSession>, StoreError>;
    /// Notes that a session was used.
    async fn touch_session(&self, hash: TokenHash, now: Timestamp) -> Result<(), StoreError>;
    /// Ends a session. `false` if there was none.
    async fn end_session(&self, hash: TokenHash) -> Result<bool, StoreError>;
    /// Ends all sessions of a user. Returns how many there were.
    async fn end_sessions(&self, user: &str) -> Result<u64, StoreError>;
    /// Ends the sessions that began, or were used last, before these times.
    async fn end_old_sessions(
        &self,
        created_before: Timestamp,
        used_before: Timestamp,
    ) -> Result<(), StoreError>;
}
