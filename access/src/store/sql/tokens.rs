//! Tokens in the shared database.

use api::{access::Token, ids::Timestamp, rights::Action};
use async_trait::async_trait;
use database::{Json, Statement, json, statement};
use sqlx::{AssertSqlSafe, FromRow, SqlSafeStr};
use tokio::time::Instant;

use super::{Hash, SqlStore, USER, UserRow};
use crate::{
    TokenCounts,
    store::{
        StoreError,
        tokens::{OwnedToken, TokenStore},
    },
    token::TokenHash,
};

/// Columns of an [`OwnedTokenRow`] beside those of its user.
pub(super) const OWNED: &str =
    "t.name AS token_name, t.created AS token_created, t.expires AS token_expires,
                                t.scope AS token_scope";

/// What is true of a token that is to be mended: $1 is now, $2 when what ends by then ends soon.
/// [`api::access::token_notice_from`] says the same of one.
const TO_MEND: &str = "expires IS NULL OR (expires > $1 AND expires <= $2 AND expires - $1 <= (expires - created) / 4)";

#[derive(FromRow)]
pub(super) struct OwnedTokenRow {
    #[sqlx(flatten)]
    owner: UserRow,
    token_name: String,
    token_created: i64,
    token_expires: Option<i64>,
    token_scope: Option<Json<Vec<Action>>>,
}

impl From<OwnedTokenRow> for OwnedToken {
    fn from(row: OwnedTokenRow) -> Self {
        Self {
            owner: row.owner.into(),
            name: row.token_name,
            created: Timestamp(row.token_created),
            expires: row.token_expires.map(Timestamp),
            scope: row.token_scope.map(known),
        }
    }
}

/// An action that only a newer release knows permits nothing here.
fn known(scope: Json<Vec<Action>>) -> Vec<Action> {
    let mut actions = scope.0;
    actions.retain(|action| *action != Action::Unlisted);
    actions
}

/// Columns of a [`TokenRow`].
const TOKEN: &str = "hash, name, user_name, created, expires, scope, last_used, last_source";

#[derive(FromRow)]
struct TokenRow {
    #[sqlx(try_from = "Vec<u8>")]
    hash: Hash,
    name: String,
    user_name: String,
    created: i64,
    expires: Option<i64>,
    scope: Option<Json<Vec<Action>>>,
    last_used: Option<i64>,
    last_source: Option<String>,
}

impl From<TokenRow> for (TokenHash, Token) {
    fn from(row: TokenRow) -> Self {
        let token = Token {
            name: row.name,
            user: row.user_name,
            created: Timestamp(row.created),
            expires: row.expires.map(Timestamp),
            scope: row.scope.map(known),
            last_used: row.last_used.map(Timestamp),
            last_source: row.last_source,
        };
        (row.hash.0, token)
    }
}

/// Adds the row of a token.
const INSERT: &str = "INSERT INTO access_tokens (hash, user_name, name, created, expires, scope)
                      VALUES ($1, $2, $3, $4, $5, $6)";

/// A statement that begins with [`INSERT`], with its values.
fn insert(
    action: &'static str,
    text: impl SqlSafeStr,
    token: &Token,
    hash: TokenHash,
) -> Result<Statement, StoreError> {
    let scope = token.scope.as_ref().map(|scope| json(action, scope)).transpose()?;
    Ok(statement(action, text)
        .bind(hash.as_slice())
        .bind(&token.user)
        .bind(&token.name)
        .bind(token.created.0)
        .bind(token.expires.map(|ends| ends.0))
        .bind(scope))
}

#[async_trait]
impl TokenStore for SqlStore {
    async fn add_token(&self, token: &Token, hash: TokenHash) -> Result<bool, StoreError> {
        let _change = self.known_tokens.change();
        let text = format!("{INSERT} ON CONFLICT (user_name, name) DO NOTHING");
        let insert = insert("add a token", AssertSqlSafe(text), token, hash)?;
        Ok(insert.execute(&self.database).await? == 1)
    }

    async fn replace_token(&self, token: &Token, hash: TokenHash) -> Result<(), StoreError> {
        const ACTION: &str = "replace a token";
        let _change = self.known_tokens.change();
        let delete = "DELETE FROM access_tokens WHERE user_name = $1 AND name = $2";
        let delete = statement(ACTION, delete).bind(&token.user).bind(&token.name);
        let insert = insert(ACTION, INSERT, token, hash)?;
        let mut transaction = self.database.begin().await?;
        delete.execute(&mut transaction).await?;
        insert.execute(&mut transaction).await?;
        transaction.commit(ACTION).await
    }

    async fn owned_token(&self, hash: TokenHash) -> Result<Option<OwnedToken>, StoreError> {
        let now = Instant::now();
        let seen = match self.known_tokens.get(&hash, now) {
            Ok(token) => return Ok(Some(token)),
            Err(seen) => seen,
        };
        let text = format!(
            "SELECT {USER}, {OWNED} FROM access_tokens t JOIN access_users u ON u.name = t.user_name
              WHERE t.hash = $1"
        );
        let owner = statement("look up a token", AssertSqlSafe(text)).bind(hash.as_slice());
        let row: Option<OwnedTokenRow> = owner.fetch_optional(&self.database).await?;
        let found = row.map(OwnedToken::from);
        if let Some(token) = &found {
            self.known_tokens.put(hash, token, seen, now);
        }
        Ok(found)
    }

    async fn tokens(&self, user: &str) -> Result<Vec<(TokenHash, Token)>, StoreError> {
        let text = format!("SELECT {TOKEN} FROM access_tokens WHERE user_name = $1 ORDER BY name");
        let tokens = statement("read the tokens", AssertSqlSafe(text)).bind(user);
        let rows: Vec<TokenRow> = tokens.fetch_all(&self.database).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    async fn remove_token(&self, user: &str, name: &str) -> Result<bool, StoreError> {
        let _change = self.known_tokens.change();
        let text = "DELETE FROM access_tokens WHERE user_name = $1 AND name = $2";
        let delete = statement("remove a token", text).bind(user).bind(name);
        Ok(delete.execute(&self.database).await? == 1)
    }

    async fn note_token_use(
        &self,
        hash: TokenHash,
        at: Timestamp,
        source: Option<String>,
    ) -> Result<(), StoreError> {
        let text = "UPDATE access_tokens SET last_used = $2, last_source = $3 WHERE hash = $1";
        let note =
            statement("note a token as used", text).bind(hash.as_slice()).bind(at.0).bind(source);
        note.execute(&self.database).await.map(drop)
    }

    async fn tokens_of_admins(&self, now: Timestamp) -> Result<Vec<(String, String)>, StoreError> {
        let text =
            "SELECT t.user_name, t.name FROM access_tokens t JOIN access_users u ON u.name = t.user_name
                     WHERE u.admin AND t.scope IS NULL AND (t.expires IS NULL OR t.expires > $1)";
        statement("look for tokens of admins", text).bind(now.0).fetch_all(&self.database).await
    }

    async fn tokens_to_mend(
        &self,
        now: Timestamp,
        soon: Timestamp,
        limit: u32,
    ) -> Result<Vec<Token>, StoreError> {
        let text = format!(
            "SELECT {TOKEN} FROM access_tokens WHERE {TO_MEND}
              ORDER BY (expires IS NULL), expires, user_name, name LIMIT $3"
        );
        let tokens = statement("look for tokens that end soon or never", AssertSqlSafe(text));
        let tokens = tokens.bind(now.0).bind(soon.0).bind(limit);
        let rows: Vec<TokenRow> = tokens.fetch_all(&self.database).await?;
        Ok(rows.into_iter().map(|row| <(TokenHash, Token)>::from(row).1).collect())
    }

    async fn count_tokens_to_mend(
        &self,
        now: Timestamp,
        soon: Timestamp,
    ) -> Result<TokenCounts, StoreError> {
        let text = format!(
            "SELECT COUNT(*) - COUNT(expires), COUNT(expires) FROM access_tokens WHERE {TO_MEND}"
        );
        let count = statement("count the tokens that end soon or never", AssertSqlSafe(text));
        let (without_end, end_soon): (i64, i64) =
            count.bind(now.0).bind(soon.0).fetch_one(&self.database).await?;
        Ok(TokenCounts {
            without_end: without_end.unsigned_abs(),
            end_soon: end_soon.unsigned_abs(),
        })
    }
}
