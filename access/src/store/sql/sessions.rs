//! Sessions in the shared database.

use api::ids::Timestamp;
use async_trait::async_trait;
use database::statement;
use sqlx::{AssertSqlSafe, FromRow};

use super::{
    Hash, SqlStore, USER,
    tokens::{OWNED, OwnedTokenRow},
};
use crate::{
    store::{
        StoreError,
        sessions::{FoundSession, NewSession, SessionStore, StoredSession},
    },
    token::TokenHash,
};

#[derive(FromRow)]
struct SessionRow {
    #[sqlx(flatten)]
    token: OwnedTokenRow,
    #[sqlx(try_from = "Vec<u8>")]
    token_hash: Hash,
    created: i64,
    used: i64,
}

#[async_trait]
impl SessionStore for SqlStore {
    async fn add_session(&self, session: &NewSession<'_>, keep: u32) -> Result<(), StoreError> {
        let insert = "INSERT INTO access_sessions (hash, token_hash, user_name, created, used)
                      VALUES ($1, $2, $3, $4, $4)";
        let insert = statement("add a session", insert)
            .bind(session.hash.as_slice())
            .bind(session.token.as_slice())
            .bind(session.user)
            .bind(session.created.0);
        let trim = "DELETE FROM access_sessions
                     WHERE user_name = $1 AND hash <> $2 AND hash NOT IN (
                           SELECT hash FROM access_sessions WHERE user_name = $1 AND hash <> $2
                           ORDER BY used DESC, hash LIMIT $3)";
        let trim = statement("add a session", trim)
            .bind(session.user)
            .bind(session.hash.as_slice())
            .bind(keep.saturating_sub(1));
        let mut transaction = self.database.begin().await?;
        insert.execute(&mut transaction).await?;
        trim.execute(&mut transaction).await?;
        transaction.commit("add a session").await
    }

    async fn session(&self, hash: TokenHash) -> Result<Option<FoundSession>, StoreError> {
        let text = format!(
            "SELECT {USER}, {OWNED}, s.token_hash, s.created, s.used FROM access_sessions s
               JOIN access_users u ON u.name = s.user_name
               JOIN access_tokens t ON t.hash = s.token_hash WHERE s.hash = $1"
        );
        let session = statement("look up a session", AssertSqlSafe(text)).bind(hash.as_slice());
        let row: Option<SessionRow> = session.fetch_optional(&self.database).await?;
        let found = |row: SessionRow| FoundSession {
            session: StoredSession { created: Timestamp(row.created), used: Timestamp(row.used) },
            token: row.token.into(),
            token_hash: row.token_hash.0,
        };
        Ok(row.map(found))
    }

    async fn touch_session(&self, hash: TokenHash, now: Timestamp) -> Result<(), StoreError> {
        let text = "UPDATE access_sessions SET used = $2 WHERE hash = $1 AND used < $2";
        let touch = statement("note a session as used", text).bind(hash.as_slice()).bind(now.0);
        touch.execute(&self.database).await.map(drop)
    }

    async fn end_session(&self, hash: TokenHash) -> Result<bool, StoreError> {
        let delete = statement("end a session", "DELETE FROM access_sessions WHERE hash = $1");
        Ok(delete.bind(hash.as_slice()).execute(&self.database).await? == 1)
    }

    async fn end_sessions(&self, user: &str) -> Result<u64, StoreError> {
        let text = "DELETE FROM access_sessions WHERE user_name = $1";
        let delete = statement("end the sessions of a user", text).bind(user);
        delete.execute(&self.database).await
    }

    async fn end_old_sessions(
        &self,
        created_before: Timestamp,
        used_before: Timestamp,
    ) -> Result<(), StoreError> {
        let text = "DELETE FROM access_sessions WHERE created < $1 OR used < $2";
        let delete = statement("end old sessions", text).bind(created_before.0).bind(used_before.0);
        delete.execute(&self.database).await.map(drop)
    }
}
