//! Users' own limits in the shared database.

use async_trait::async_trait;
use database::{Json, Kept, Number, Unreadable, json, statement};

use super::SqlStore;
use crate::store::{
    StoreError,
    quotas::{OwnLimits, QuotaStore, StoredLimits},
};

#[async_trait]
impl QuotaStore for SqlStore {
    async fn limits(&self, user: &str) -> Result<Option<StoredLimits>, StoreError> {
        let text = "SELECT u.admin, q.limits FROM access_users u
                      LEFT JOIN access_quotas q ON q.user_name = u.name WHERE u.name = $1";
        let row: Option<(bool, Option<Kept<Json<OwnLimits>>>)> =
            statement("read the limits of a user", text)
                .bind(user)
                .fetch_optional(&self.database)
                .await?;
        Ok(row.map(|(is_admin, own)| {
            let damaged =
                |error: Unreadable| tracing::error!("the limits of {user} cannot be read: {error}");
            let own = own.and_then(|own| own.0.map_err(damaged).ok());
            StoredLimits { is_admin, own: own.map(|own| own.0).unwrap_or_default() }
        }))
    }

    async fn set_limits(&self, user: &str, limits: &OwnLimits) -> Result<(), StoreError> {
        const ACTION: &str = "set the limits of a user";
        let text = "INSERT INTO access_quotas (user_name, limits) VALUES ($1, $2)
                    ON CONFLICT (user_name) DO UPDATE SET limits = excluded.limits";
        let set = statement(ACTION, text).bind(user).bind(json(ACTION, limits)?);
        set.execute(&self.database).await.map(drop)
    }

    async fn sessions_of(&self, user: &str) -> Result<u64, StoreError> {
        let text = "SELECT COUNT(*) FROM access_sessions WHERE user_name = $1";
        let count = statement("count the sessions of a user", text).bind(user);
        let (Number(sessions),): (Number<u64>,) = count.fetch_one(&self.database).await?;
        Ok(sessions)
    }
}
