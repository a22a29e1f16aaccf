//! The store on SQLite. The pool's owner sets WAL and `synchronous = FULL`.

use api::{
    access::{Account, Token, User},
    ids::Timestamp,
};
use sqlx::{
    Row, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteRow,
};

use super::{Store, StoreError};
use crate::{audit::AuditLine, token::TokenHash};

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
        let step = |number, name: &'static str, text| {
            let text = sqlx::SqlStr::from_static(text);
            Migration::new(number, name.into(), MigrationType::Simple, text, false)
        };
        let mut migrator = Migrator::with_migrations(vec![
            step(1, "first", include_str!("../../migrations/0001_first.sql")),
            step(2, "accounts", include_str!("../../migrations/0002_accounts.sql")),
        ]);
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

/// Columns of a user, in the order that [`user_row`] reads them.
const USER: &str = "u.name, u.admin, u.uid, u.gid, u.user_groups, u.comment";

fn user_row(row: &SqliteRow) -> Result<User, StoreError> {
    let read = || failed("read a user");
    let number = |column: usize| -> Result<Option<u32>, StoreError> {
        let value: Option<i64> = row.try_get(column).map_err(read())?;
        value
            .map(|value| u32::try_from(value).map_err(|_| StoreError::Decode { subject: "user" }))
            .transpose()
    };
    let groups: Option<String> = row.try_get(4).map_err(read())?;
    let groups = groups.map(|text| serde_json::from_str(&text)).transpose();
    let groups: Vec<u32> = groups.map_err(|_| StoreError::Decode { subject: "user" })?.unwrap_or_default();
    let account = match (number(2)?, number(3)?) {
        (Some(uid), Some(gid)) => Some(Account { uid, gid, groups }),
        _ => None,
    };
    Ok(User {
        name: row.try_get(0).map_err(read())?,
        admin: row.try_get(1).map_err(read())?,
        account,
        comment: row.try_get(5).map_err(read())?,
    })
}

/// A user's columns but the name: admin, uid, gid, groups, comment.
type Columns<'a> = (bool, Option<i64>, Option<i64>, Option<String>, Option<&'a str>);

fn columns(user: &User) -> Columns<'_> {
    let account = user.account.as_ref();
    (
        user.admin,
        account.map(|account| account.uid.into()),
        account.map(|account| account.gid.into()),
        account.map(|account| format!("{:?}", account.groups)),
        user.comment.as_deref(),
    )
}

impl Store for SqliteStore {
    async fn add_user(&self, user: &User) -> Result<bool, StoreError> {
        let (admin, uid, gid, groups, comment) = columns(user);
        sqlx::query(
            "INSERT INTO access_users (name, admin, uid, gid, user_groups, comment)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(&user.name)
        .bind(admin)
        .bind(uid)
        .bind(gid)
        .bind(groups)
        .bind(comment)
        .execute(&self.pool)
        .await
        .map(|done| done.rows_affected() == 1)
        .map_err(failed("add a user"))
    }

    async fn change_user(&self, user: &User) -> Result<bool, StoreError> {
        let (admin, uid, gid, groups, comment) = columns(user);
        sqlx::query(
            "UPDATE access_users SET admin = $2, uid = $3, gid = $4, user_groups = $5, comment = $6
             WHERE name = $1",
        )
        .bind(&user.name)
        .bind(admin)
        .bind(uid)
        .bind(gid)
        .bind(groups)
        .bind(comment)
        .execute(&self.pool)
        .await
        .map(|done| done.rows_affected() == 1)
        .map_err(failed("change a user"))
    }

    async fn remove_user(&self, name: &str) -> Result<bool, StoreError> {
        sqlx::query("DELETE FROM access_users WHERE name = $1")
            .bind(name)
            .execute(&self.pool)
            .await
            .map(|done| done.rows_affected() == 1)
            .map_err(failed("remove a user"))
    }

    async fn users(&self) -> Result<Vec<User>, StoreError> {
        let text = format!("SELECT {USER} FROM access_users u ORDER BY u.name");
        let rows = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_all(&self.pool).await;
        rows.map_err(failed("read the users"))?.iter().map(user_row).collect()
    }

    async fn has_admin(&self) -> Result<bool, StoreError> {
        sqlx::query("SELECT 1 FROM access_users WHERE admin LIMIT 1")
            .fetch_optional(&self.pool)
            .await
            .map(|row| row.is_some())
            .map_err(failed("look for an admin"))
    }

    async fn user(&self, name: &str) -> Result<Option<User>, StoreError> {
        let text = format!("SELECT {USER} FROM access_users u WHERE u.name = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(name).fetch_optional(&self.pool).await;
        row.map_err(failed("read a user"))?.as_ref().map(user_row).transpose()
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

    async fn token_owner(&self, hash: TokenHash) -> Result<Option<User>, StoreError> {
        let text = format!(
            "SELECT {USER} FROM access_tokens t JOIN access_users u ON u.name = t.user_name WHERE t.hash = $1"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(hash.to_vec()).fetch_optional(&self.pool).await;
        row.map_err(failed("look up a token"))?.as_ref().map(user_row).transpose()
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
