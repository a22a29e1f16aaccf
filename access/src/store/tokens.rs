//! Where tokens are kept.

use api::{
    access::{Token, User},
    ids::Timestamp,
    rights::Action,
};
use async_trait::async_trait;

use super::StoreError;
use crate::{Principal, TokenCounts, token::TokenHash};

/// A token as the requests that show it are judged by, with its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnedToken {
    pub(crate) owner: User,
    /// Name of the token.
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    /// When it ends; `None`: never.
    pub(crate) expires: Option<Timestamp>,
    /// The actions that it is for; `None`: all that its user may do.
    pub(crate) scope: Option<Vec<Action>>,
}

impl OwnedToken {
    /// Who asks with it.
    pub(crate) fn principal(self) -> Principal {
        Principal { scope: self.scope.map(Into::into), ..Principal::from(self.owner) }
    }

    pub(crate) fn has_ended(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|ends| now >= ends)
    }
}

/// What the store offers of tokens. Every write is durable when its future ends.
#[async_trait]
pub(crate) trait TokenStore: Send + Sync {
    /// Adds a token. `false` if the user has one of that name.
    async fn add_token(&self, token: &Token, hash: TokenHash) -> Result<bool, StoreError>;
    /// Adds a token in the place of the one of that name, if there is one: both or neither.
    async fn replace_token(&self, token: &Token, hash: TokenHash) -> Result<(), StoreError>;
    /// The token that hashes to this, whether it has ended or not.
    async fn owned_token(&self, hash: TokenHash) -> Result<Option<OwnedToken>, StoreError>;
    /// The user's tokens with their hashes, by name.
    async fn tokens(&self, user: &str) -> Result<Vec<(TokenHash, Token)>, StoreError>;
    /// Removes a token. `false` if there was none.
    async fn remove_token(&self, user: &str, name: &str) -> Result<bool, StoreError>;
    /// Notes when and from which address a token was used last.
    async fn note_token_use(
        &self,
        hash: TokenHash,
        at: Timestamp,
        source: Option<String>,
    ) -> Result<(), StoreError>;
    /// The tokens of admins that have not ended at `now` and have no scope: users and names.
    async fn tokens_of_admins(&self, now: Timestamp) -> Result<Vec<(String, String)>, StoreError>;
    /// The tokens that end after `now`, not after `soon`, and within the last quarter of their
    /// lives, the first to end first; behind them those that have no end. At most `limit`.
    async fn tokens_to_mend(
        &self,
        now: Timestamp,
        soon: Timestamp,
        limit: u32,
    ) -> Result<Vec<Token>, StoreError>;
    /// How many there are of these.
    async fn count_tokens_to_mend(
        &self,
        now: Timestamp,
        soon: Timestamp,
    ) -> Result<TokenCounts, StoreError>;
}
