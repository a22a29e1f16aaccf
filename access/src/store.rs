//! Where users, tokens and the audit log are kept: a narrow trait, and one conformance suite for
//! whatever implements it.

pub(crate) mod audit;
pub(crate) mod quotas;
pub(crate) mod sessions;
pub(crate) mod sql;
pub(crate) mod tokens;

#[cfg(test)]
mod conformance;

use api::access::User;
use async_trait::async_trait;

use audit::AuditStore;
use quotas::QuotaStore;
use sessions::SessionStore;
use tokens::TokenStore;

pub use database::DatabaseError as StoreError;

/// What the store offers. Every write is durable when its future ends.
#[async_trait]
pub(crate) trait Store:
    AuditStore + QuotaStore + SessionStore + TokenStore + Send + Sync + std::fmt::Debug
{
    /// Makes a user unless one of that name is there. `false` if it was.
    async fn add_user(&self, user: &User) -> Result<bool, StoreError>;
    /// Changes a user. `false` if there is none of that name.
    async fn change_user(&self, user: &User) -> Result<bool, StoreError>;
    /// Removes a user with its tokens. `false` if there was none.
    async fn remove_user(&self, name: &str) -> Result<bool, StoreError>;
    /// All users, by name.
    async fn users(&self) -> Result<Vec<User>, StoreError>;
    /// Is there any admin?
    async fn has_admin(&self) -> Result<bool, StoreError>;
    /// The user of this name.
    async fn user(&self, name: &str) -> Result<Option<User>, StoreError>;
}
