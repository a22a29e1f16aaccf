//! Where users' own limits are kept.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::StoreError;

/// Limits by the word of their quota; `None`: no limit.
pub(crate) type OwnLimits = BTreeMap<String, Option<u64>>;

/// What a user's record says of limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StoredLimits {
    pub(crate) is_admin: bool,
    pub(crate) own: OwnLimits,
}

/// What the store offers of quotas. Every write is durable when its future ends.
#[async_trait]
pub(crate) trait QuotaStore: Send + Sync {
    /// The limits of a user; `None` if there is no such user. Limits that cannot be read are logged
    /// and left out.
    async fn limits(&self, user: &str) -> Result<Option<StoredLimits>, StoreError>;
    /// Replaces the own limits of a user who is there.
    async fn set_limits(&self, user: &str, limits: &OwnLimits) -> Result<(), StoreError>;
    /// How many sessions a user has, with those that are too old and not removed yet.
    async fn sessions_of(&self, user: &str) -> Result<u64, StoreError>;
}
