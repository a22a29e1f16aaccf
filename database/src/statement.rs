//! SQL text with its values, for whichever engine the database has.
//!
//! The text is prepared once per connection and kept, so a hot statement has one text: see
//! [`Statement::rows`] for how many rows of a batch share one.

#[cfg(feature = "postgres")]
use std::fmt::Write as _;

use sqlx::{FromRow, Row as _, SqlSafeStr, SqlStr, sqlite::SqliteRow};

#[cfg(feature = "postgres")]
use sqlx::postgres::PgRow;

use crate::{
    Database, DatabaseError, Transaction, clock, open::Pool, outbox, transaction::Connection,
};

/// A value of a placeholder. Its kind is known even when it is NULL: PostgreSQL asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// BOOLEAN.
    Boolean(Option<bool>),
    /// BIGINT.
    Integer(Option<i64>),
    /// TEXT.
    Text(Option<String>),
    /// BYTEA.
    Bytes(Option<Vec<u8>>),
}

macro_rules! value_from {
    ($($kind:ident: $($type:ty => |$value:ident| $into:expr),+;)+) => {$($(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                Self::$kind(Some($into))
            }
        }
        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self {
                Self::$kind(value.map(|$value| $into))
            }
        }
    )+)+};
}

value_from! {
    Boolean: bool => |value| value;
    Integer: i64 => |value| value, u32 => |value| value.into(), u64 => |value| signed(value);
    Text: String => |value| value, &str => |value| value.to_owned(), &String => |value| value.clone();
    Bytes: Vec<u8> => |value| value, &[u8] => |value| value.to_vec();
}

/// Both engines have signed integers only; sizes and counters of ours never get near the sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What a row is decoded into: `#[derive(sqlx::FromRow)]` makes it for every engine.
#[cfg(not(feature = "postgres"))]
pub trait Record: Sized + Send + for<'r> FromRow<'r, SqliteRow> {}
#[cfg(not(feature = "postgres"))]
impl<T: Sized + Send + for<'r> FromRow<'r, SqliteRow>> Record for T {}

/// What a row is decoded into: `#[derive(sqlx::FromRow)]` makes it for every engine.
#[cfg(feature = "postgres")]
pub trait Record:
    Sized + Send + for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow>
{
}
#[cfg(feature = "postgres")]
impl<T> Record for T where
    T: Sized + Send + for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow>
{
}

/// Where a statement runs: on a connection of the pool, or in a transaction.
#[derive(Debug)]
pub enum On<'a> {
    /// By itself: what it changes is on disk when it ends.
    Pool(&'a Database),
    /// As a part: what it changes is on disk when the transaction is committed.
    Transaction(&'a mut Transaction),
}

impl<'a> From<&'a Database> for On<'a> {
    fn from(database: &'a Database) -> Self {
        Self::Pool(database)
    }
}

impl<'a> From<&'a mut Transaction> for On<'a> {
    fn from(transaction: &'a mut Transaction) -> Self {
        Self::Transaction(transaction)
    }
}

/// SQL text with its values. Made by [`statement`].
#[derive(Debug)]
#[must_use = "a statement does nothing until it is run"]
pub struct Statement {
    action: &'static str,
    text: SqlStr,
    rows: Option<Rows>,
    values: Vec<Value>,
}

/// The shape of the rows that follow the text.
#[derive(Debug)]
struct Rows {
    count: usize,
    columns: usize,
    rest: &'static str,
}

/// A statement. `action` says in an error what the database could not do: `add a user`.
pub fn statement(action: &'static str, text: impl SqlSafeStr) -> Statement {
    Statement { action, text: text.into_sql_str(), rows: None, values: Vec::new() }
}

/// How an engine wants the placeholders of rows.
#[derive(Clone, Copy)]
enum Placeholders {
    /// `?`: it looks for a placeholder with a name, such as `$7`, among all others, which makes a
    /// statement of thousands slow.
    Sqlite,
    /// `$7`: it knows no other.
    #[cfg(feature = "postgres")]
    Postgres,
}

/// The text with the placeholders of its rows.
fn with_rows(text: SqlStr, rows: Option<Rows>, placeholders: Placeholders) -> SqlStr {
    let Some(Rows { count, columns, rest }) = rows else { return text };
    let mut full =
        String::with_capacity(text.as_str().len() + rest.len() + 8 * count * columns + 16);
    full.push_str(text.as_str());
    full.push_str(" VALUES ");
    for row in 0..count {
        full.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            full.push_str(if column == 0 { "" } else { ", " });
            match placeholders {
                Placeholders::Sqlite => full.push('?'),
                #[cfg(feature = "postgres")]
                Placeholders::Postgres => {
                    // Writing into a String cannot fail.
                    let _ = write!(full, "${}", row * columns + column + 1);
                }
            }
        }
        full.push(')');
    }
    full.push(' ');
    full.push_str(rest);
    // Only placeholders were added to a text that its author vouched for, and a constant.
    sqlx::AssertSqlSafe(full).into_sql_str()
}

/// A query of an engine with its values.
macro_rules! bind {
    ($engine:ident, $text:ident, $rows:ident, $values:ident) => {{
        let text = with_rows($text, $rows, Placeholders::$engine);
        let mut query = sqlx::query::<sqlx::$engine>(text);
        for value in $values {
            query = match value {
                Value::Boolean(value) => query.bind(value),
                Value::Integer(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
            };
        }
        query
    }};
}

/// Decodes a row; an error names it by its first column, the key of each of our tables.
macro_rules! decoded {
    ($action:ident, $row:ident) => {
        T::from_row($row).map_err(|source| DatabaseError::Decode {
            action: $action,
            row: $row
                .try_get_unchecked::<String, _>(0)
                .or_else(|_| $row.try_get_unchecked::<i64, _>(0).map(|key| key.to_string()))
                .unwrap_or_else(|_| "an unreadable key".to_owned()),
            source,
        })
    };
}

/// Binds the values and runs `$run` on what `$on` is; its error is counted, and marks the
/// transaction.
macro_rules! run {
    ($self:ident, $on:ident, |$query:ident, $executor:ident| $run:expr) => {{
        let Statement { action, text, rows, values } = $self;
        match $on.into() {
            On::Pool(database) => {
                let done = match &database.pool {
                    Pool::Sqlite(pool) => {
                        let ($query, $executor) = (bind!(Sqlite, text, rows, values), pool);
                        $run
                    }
                    #[cfg(feature = "postgres")]
                    Pool::Postgres(pool) => {
                        let ($query, $executor) = (bind!(Postgres, text, rows, values), pool);
                        $run
                    }
                };
                database.meter.statement_ended(&done);
                done
            }
            On::Transaction(transaction) => {
                let done = match transaction.connection(action)? {
                    Connection::Sqlite(connection) => {
                        let ($query, $executor) =
                            (bind!(Sqlite, text, rows, values), &mut **connection);
                        $run
                    }
                    #[cfg(feature = "postgres")]
                    Connection::Postgres(connection) => {
                        let ($query, $executor) =
                            (bind!(Postgres, text, rows, values), &mut **connection);
                        $run
                    }
                };
                transaction.meter.statement_ended(&done);
                match &done {
                    Ok(_) => transaction.statement_ended_well(),
                    Err(error) => transaction.meter.write_failed(error),
                }
                done
            }
        }
        .map_err(DatabaseError::of(action))
    }};
}

impl Statement {
    /// The value of the next placeholder: the first call is `$1`'s.
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Appends `VALUES (…), (…)` with the values of some rows, and then `rest`. The statement has
    /// no other values. Texts differ by the number of rows, and each is prepared by itself: cut
    /// what is hot into pieces of few lengths. SQLite takes 32,766 values in all.
    pub fn rows<const COLUMNS: usize>(
        mut self,
        rows: impl IntoIterator<Item = [Value; COLUMNS]>,
        rest: &'static str,
    ) -> Self {
        debug_assert!(self.values.is_empty(), "{}: values beside rows", self.action);
        self.values = rows.into_iter().flatten().collect();
        let count = self.values.len() / COLUMNS;
        self.rows = Some(Rows { count, columns: COLUMNS, rest });
        self
    }

    /// Runs it. Returns how many rows it changed. By itself it is a transaction of its own, which
    /// takes the rows of its scope along if it changed something ([`crate::outbox`]).
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn execute<'a>(self, on: impl Into<On<'a>>) -> Result<u64, DatabaseError> {
        match on.into() {
            On::Transaction(transaction) => self.execute_in(transaction).await,
            On::Pool(database) if outbox::has_waiting() => self.execute_with_rows(database).await,
            On::Pool(database) => self.execute_alone(database).await,
        }
    }

    /// The same as a part of a transaction.
    pub(crate) async fn execute_in(
        self,
        transaction: &mut Transaction,
    ) -> Result<u64, DatabaseError> {
        let on = On::Transaction(transaction);
        run!(self, on, |query, executor| {
            let done = query.execute(executor).await;
            done.map(|done| done.rows_affected())
        })
    }

    /// The same by itself: on disk when it ends.
    async fn execute_alone(self, database: &Database) -> Result<u64, DatabaseError> {
        let (meter, begun) = (database.meter.clone(), clock::now());
        let on = On::Pool(database);
        run!(self, on, |query, executor| {
            let done = query.execute(executor).await;
            meter.wrote(clock::now().duration_since(begun), &done);
            done.map(|done| done.rows_affected())
        })
    }

    /// The same with the rows of this scope. What changes nothing leaves them for what does.
    async fn execute_with_rows(self, database: &Database) -> Result<u64, DatabaseError> {
        let action = self.action;
        let mut transaction = database.begin().await?;
        let changed = self.execute_in(&mut transaction).await?;
        match changed {
            0 => transaction.rollback().await?,
            _ => transaction.commit(action).await?,
        }
        Ok(changed)
    }

    /// Runs it and decodes all its rows.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn fetch_all<'a, T: Record>(
        self,
        on: impl Into<On<'a>>,
    ) -> Result<Vec<T>, DatabaseError> {
        self.fetch_each(on).await?.into_iter().collect()
    }

    /// Runs it and decodes each of its rows by itself: one that cannot be read takes no other with
    /// it.
    ///
    /// # Errors
    /// [`DatabaseError`] of the statement; those of single rows are among the rows.
    pub async fn fetch_each<'a, T: Record>(
        self,
        on: impl Into<On<'a>>,
    ) -> Result<Vec<Result<T, DatabaseError>>, DatabaseError> {
        let action = self.action;
        run!(self, on, |query, executor| {
            let rows = query.fetch_all(executor).await;
            rows.map(|rows| rows.iter().map(|row| decoded!(action, row)).collect())
        })
    }

    /// Runs it and decodes its row, if it has one.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn fetch_optional<'a, T: Record>(
        self,
        on: impl Into<On<'a>>,
    ) -> Result<Option<T>, DatabaseError> {
        let action = self.action;
        let row: Option<Result<T, DatabaseError>> = run!(self, on, |query, executor| {
            let row = query.fetch_optional(executor).await;
            row.map(|row| row.as_ref().map(|row| decoded!(action, row)))
        })?;
        row.transpose()
    }

    /// Runs it and decodes the one row that it always has: an aggregate's.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn fetch_one<'a, T: Record>(self, on: impl Into<On<'a>>) -> Result<T, DatabaseError> {
        let action = self.action;
        let row = self.fetch_optional(on).await?;
        row.ok_or(DatabaseError::Statement { action, source: sqlx::Error::RowNotFound })
    }
}
