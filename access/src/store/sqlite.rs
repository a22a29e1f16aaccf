//! The store on SQLite. The pool's owner sets WAL and `synchronous = FULL`.

use api::{access::Token, ids::Timestamp};
use sqlx::{
    Row, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteRow,
};

use super::{Store, StoreError};
use crate::{Principal, audit::AuditLine, token::TokenHash};

/// Name of the table that counts this crate's migrations; the database is shared with other owners.
const MIGRATIONS_TABLE: &str = "access_migrations";

/// Users, tokens and the audit log in SQLite.
#[derive(Debug, Clone)]
pub(crate) struct SqliteStore {
    pool: SqlitePool,
}

impl SqliteStore {
    /// Opens the store and brings its tables up to date.
    pub(crate) async fn open(pool: SqlitePool) -> Result<Self, StoreError> {
        let first = Migration::new(
            1,
            "first".into(),
            MigrationType::Simple,
            sqlx::SqlStr::from_static(include_str!("../../migrations/0001_first.sql")),
            false,
        );
        let mut migrator = Migrator::with_migrations(vec![first]);
        migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
        let migrated = migrator.run(&pool).await;
        migrated.map_err(|source| StoreError::Migrate { source: Box::new(source) })?;
        Ok(Self { pool })
    }
}

/// Names the action of a failed statement.
fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { action, source }
}

/// SQLite has signed integers only; the number of a line never gets near the sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn audit_line(row: &SqliteRow) -> Result<AuditLine, StoreError> {
    let read = || failed("read the audit log");
    let number: i64 = row.try_get(0).map_err(read())?;
    let hash: Vec<u8> = row.try_get(6).map_err(read())?;
    Ok(AuditLine {
        number: u64::try_from(number).map_err(|_| StoreError::Decode { subject: "audit line" })?,
        at: Timestamp(row.try_get(1).map_err(read())?),
        principal: row.try_get(2).map_err(read())?,
        action: row.try_get(3).map_err(read())?,
        subject: row.try_get(4).map_err(read())?,
        outcome: row.try_get(5).map_err(read())?,
        hash: hash.try_into().map_err(|_| StoreError::Decode { subject: "audit line" })?,
    })
}

fn principal(row: &SqliteRow) -> Result<Principal, StoreError> {
    Ok(Principal {
        name: row.try_get(0).map_err(failed("read a user"))?,
        admin: row.try_get(1).map_err(failed("read a user"))?,
    })
}

impl Store for SqliteStore {
    async fn add_user(&self, name: &str, admin: bool) -> Result<bool, StoreError> {
        sqlx::query("INSERT INTO access_users (name, admin) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(admin)
            .execute(&self.pool)
            .await
            .map(|done| done.rows_affected() == 1)
            .map_err(failed("add a user"))
    }

    async fn has_admin(&self) -> Result<bool, StoreError> {
        sqlx::query("SELECT 1 FROM access_users WHERE admin LIMIT 1")
            .fetch_optional(&self.pool)
            .await
            .map(|row| row.is_some())
            .map_err(failed("look for an admin"))
    }

    async fn user(&self, name: &str) -> Result<Option<Principal>, StoreError> {
        sqlx::query("SELECT name, admin FROM access_users WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("read a user"))?
            .map(|row| principal(&row))
            .transpose()
    }

    async fn add_token(&self, token: &Token, hash: TokenHash) -> Result<bool, StoreError> {
        sqlx::query(
            "INSERT INTO access_tokens (hash, user_name, name, created) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (user_name, name) DO NOTHING",
        )
        .bind(hash.to_vec())
        .bind(&token.user)
        .bind(&token.name)
        .bind(token.created.0)
        .execute(&self.pool)
        .await
        .map(|done| done.rows_affected() == 1)
        .map_err(failed("add a token"))
    }

    async fn token_owner(&self, hash: TokenHash) -> Result<Option<Principal>, StoreError> {
        sqlx::query(
            "SELECT u.name, u.admin FROM access_tokens t JOIN access_users u ON u.name = t.user_name \
             WHERE t.hash = $1",
        )
        .bind(hash.to_vec())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("look up a token"))?
        .map(|row| principal(&row))
        .transpose()
    }

    async fn tokens(&self, user: &str) -> Result<Vec<Token>, StoreError> {
        let read = || failed("read the tokens");
        let rows = sqlx::query(
            "SELECT name, user_name, created FROM access_tokens WHERE user_name = $1 ORDER BY name",
        )
        .bind(user)
        .fetch_all(&self.pool)
        .await
        .map_err(read())?;
        let token = |row: &SqliteRow| {
            Ok(Token {
                name: row.try_get(0).map_err(read())?,
                user: row.try_get(1).map_err(read())?,
                created: Timestamp(row.try_get(2).map_err(read())?),
            })
        };
        rows.iter().map(token).collect()
    }

    async fn remove_token(&self, user: &str, name: &str) -> Result<bool, StoreError> {
        sqlx::query("DELETE FROM access_tokens WHERE user_name = $1 AND name = $2")
            .bind(user)
            .bind(name)
            .execute(&self.pool)
            .await
            .map(|done| done.rows_affected() == 1)
            .map_err(failed("remove a token"))
    }

    async fn last_audit(&self) -> Result<Option<AuditLine>, StoreError> {
        Ok(self.newest_audit(1).await?.pop())
    }

    async fn append_audit(&self, line: &AuditLine) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO access_audit (number, at, principal, action, subject, outcome, hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(signed(line.number))
        .bind(line.at.0)
        .bind(&line.principal)
        .bind(&line.action)
        .bind(&line.subject)
        .bind(&line.outcome)
        .bind(line.hash.to_vec())
        .execute(&self.pool)
        .await
        .map(|_| ())
        .map_err(failed("write the audit log"))
    }

    async fn audit_after(&self, after: u64, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, at, principal, action, subject, outcome, hash FROM access_audit \
             WHERE number > $1 ORDER BY number LIMIT $2",
        )
        .bind(signed(after))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read the audit log"))?;
        rows.iter().map(audit_line).collect()
    }

    async fn newest_audit(&self, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, at, principal, action, subject, outcome, hash FROM access_audit \
             ORDER BY number DESC LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read the audit log"))?;
        rows.iter().map(audit_line).collect()
    }
}
