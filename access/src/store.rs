//! Where users, tokens and the audit log are kept. One module per engine; one conformance suite for all.

pub(crate) mod sqlite;

#[cfg(test)]
mod conformance;

use std::future::Future;

use crate::{audit::AuditLine, token::TokenHash};
use api::access::{Token, User};

/// A failed action on the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement failed.
    #[error("the database could not {action}")]
    Database {
        /// What it was to do.
        action: &'static str,
        /// Why it could not.
        #[source]
        source: sqlx::Error,
    },
    /// The tables could not be brought up to date.
    #[error("the tables of users and tokens could not be brought up to date")]
    Migrate {
        /// Why.
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// A row does not hold what it should.
    #[error("the database holds an invalid {subject}")]
    Decode {
        /// What.
        subject: &'static str,
    },
}

/// What the store offers. Every write is durable when its future ends.
pub(crate) trait Store: Send + Sync {
    /// Makes a user unless one of that name is there. `false` if it was.
    fn add_user(&self, user: &User) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Changes a user. `false` if there is none of that name.
    fn change_user(&self, user: &User) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Removes a user with its tokens. `false` if there was none.
    fn remove_user(&self, name: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// All users, by name.
    fn users(&self) -> impl Future<Output = Result<Vec<User>, StoreError>> + Send;
    /// Is there any admin?
    fn has_admin(&self) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// The user of this name.
    fn user(&self, name: &str) -> impl Future<Output = Result<Option<User>, StoreError>> + Send;
    /// Adds a token. `false` if the user has one of that name.
    fn add_token(
        &self,
        token: &Token,
        hash: TokenHash,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Whose token hashes to this.
    fn token_owner(&self, hash: TokenHash) -> impl Future<Output = Result<Option<User>, StoreError>> + Send;
    /// The user's tokens, by name.
    fn tokens(&self, user: &str) -> impl Future<Output = Result<Vec<Token>, StoreError>> + Send;
    /// Removes a token. `false` if there was none.
    fn remove_token(&self, user: &str, name: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// The newest line of the audit log.
    fn last_audit(&self) -> impl Future<Output = Result<Option<AuditLine>, StoreError>> + Send;
    /// Adds a line; fails if its number is taken.
    fn append_audit(&self, line: &AuditLine) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Lines with a number above `after`, oldest first, at most `limit`.
    fn audit_after(
        &self,
        after: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<AuditLine>, StoreError>> + Send;
    /// The newest lines, newest first.
    fn newest_audit(&self, limit: u32) -> impl Future<Output = Result<Vec<AuditLine>, StoreError>> + Send;
}
