//! The store in the shared [`Database`]. One text for both engines; the conformance suite
//! runs it on each.

mod audit;
mod known;
mod quotas;
mod sessions;
mod tokens;

use api::access::{Account, User};
use async_trait::async_trait;
use database::{Database, Json, MigrateError, Number, Schema, Statement, Step, json, statement};
use sqlx::{AssertSqlSafe, FromRow};

use self::known::KnownTokens;
use super::{Store, StoreError};

/// The tables of this crate.
pub static SCHEMA: Schema = Schema::new(
    "access",
    "access_migrations",
    &[
        Step::sql("first", include_str!("../../migrations/0001_first.sql")),
        Step::sql("accounts", include_str!("../../migrations/0002_accounts.sql")),
        Step::sql("sessions", include_str!("../../migrations/0003_sessions.sql")),
        Step::sql("audit", include_str!("../../migrations/0004_audit.sql")),
        Step::sql("token-ends", include_str!("../../migrations/0005_token_ends.sql")),
        Step::sql("quotas", include_str!("../../migrations/0006_quotas.sql")),
        Step::sql("audit-cuts", include_str!("../../migrations/0007_audit_cuts.sql")),
    ],
);

/// Users, tokens and the audit log in the database.
#[derive(Debug)]
pub(crate) struct SqlStore {
    database: Database,
    known_tokens: KnownTokens,
}

impl SqlStore {
    /// Opens the store and brings its tables up to date.
    pub(crate) async fn open(database: Database) -> Result<Self, MigrateError> {
        database.migrate(&SCHEMA).await?;
        Ok(Self { database, known_tokens: KnownTokens::default() })
    }
}

/// Columns of a [`UserRow`].
const USER: &str = "u.name, u.admin, u.uid, u.gid, u.user_groups, u.comment";

#[derive(FromRow)]
struct UserRow {
    name: String,
    admin: bool,
    uid: Option<Number<u32>>,
    gid: Option<Number<u32>>,
    user_groups: Option<Json<Vec<u32>>>,
    comment: Option<String>,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        let groups = row.user_groups.map(|groups| groups.0).unwrap_or_default();
        let account = match (row.uid, row.gid) {
            (Some(Number(uid)), Some(Number(gid))) => Some(Account { uid, gid, groups }),
            _ => None,
        };
        Self { name: row.name, admin: row.admin, account, comment: row.comment }
    }
}

/// Binds the columns of a user in the order of [`USER`].
fn bind_user(
    action: &'static str,
    text: &'static str,
    user: &User,
) -> Result<Statement, StoreError> {
    let account = user.account.as_ref();
    let groups = account.map(|account| json(action, &account.groups)).transpose()?;
    Ok(statement(action, text)
        .bind(&user.name)
        .bind(user.admin)
        .bind(account.map(|account| account.uid))
        .bind(account.map(|account| account.gid))
        .bind(groups)
        .bind(user.comment.as_deref()))
}

/// 32 bytes of a column.
struct Hash([u8; 32]);

impl TryFrom<Vec<u8>> for Hash {
    type Error = HashLength;

    fn try_from(bytes: Vec<u8>) -> Result<Self, HashLength> {
        let length = bytes.len();
        bytes.try_into().map(Self).map_err(|_| HashLength(length))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a hash has 32 bytes, not {0}")]
struct HashLength(usize);

#[async_trait]
impl Store for SqlStore {
    async fn add_user(&self, user: &User) -> Result<bool, StoreError> {
        let _change = self.known_tokens.change();
        let text = "INSERT INTO access_users (name, admin, uid, gid, user_groups, comment)
                    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
        let added = bind_user("add a user", text, user)?.execute(&self.database).await?;
        Ok(added == 1)
    }

    async fn change_user(&self, user: &User) -> Result<bool, StoreError> {
        let _change = self.known_tokens.change();
        let text = "UPDATE access_users
                       SET admin = $2, uid = $3, gid = $4, user_groups = $5, comment = $6
                     WHERE name = $1";
        let changed = bind_user("change a user", text, user)?.execute(&self.database).await?;
        Ok(changed == 1)
    }

    async fn remove_user(&self, name: &str) -> Result<bool, StoreError> {
        let _change = self.known_tokens.change();
        let delete = statement("remove a user", "DELETE FROM access_users WHERE name = $1");
        Ok(delete.bind(name).execute(&self.database).await? == 1)
    }

    async fn users(&self) -> Result<Vec<User>, StoreError> {
        let text = format!("SELECT {USER} FROM access_users u ORDER BY u.name");
        let users = statement("read the users", AssertSqlSafe(text));
        let rows: Vec<UserRow> = users.fetch_all(&self.database).await?;
        Ok(rows.into_iter().map(User::from).collect())
    }

    async fn has_admin(&self) -> Result<bool, StoreError> {
        let text = "SELECT name FROM access_users WHERE admin LIMIT 1";
        let admin = statement("look for an admin", text);
        Ok(admin.fetch_optional::<(String,)>(&self.database).await?.is_some())
    }

    async fn user(&self, name: &str) -> Result<Option<User>, StoreError> {
        let text = format!("SELECT {USER} FROM access_users u WHERE u.name = $1");
        let user = statement("read a user", AssertSqlSafe(text)).bind(name);
        let row: Option<UserRow> = user.fetch_optional(&self.database).await?;
        Ok(row.map(User::from))
    }
}
