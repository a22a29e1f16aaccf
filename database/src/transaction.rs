//! One transaction, into which the stores of several roles write.
//!
//! A transaction that did not end well leaves its connection in a state that nobody knows: SQLite
//! ends some transactions by itself (a full disk, `ON CONFLICT ROLLBACK`), a call that was given up
//! half way may or may not have been carried out, and what the next user of the connection writes
//! would then be part of a transaction that nobody commits. So such a connection is closed, never
//! returned to the pool: after a statement failed or was cancelled, after COMMIT or ROLLBACK
//! failed, and when a transaction is dropped.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Sqlite, pool::PoolConnection};

use crate::{
    Database, DatabaseError, clock,
    meter::{Ended, Meter},
    open::Pool,
    outbox::{AttachedRows, WrittenWith},
};

/// The longest permitted transaction: half of what a writer waits for another one
/// ([`crate::open::BUSY_TIMEOUT`]), so that whoever waits behind it gets its turn in time. Past it
/// no further statement is taken; COMMIT still is, for what was written is whole.
pub const MAX_TRANSACTION: Duration = Duration::from_secs(5);

/// A connection of the pool, held by a transaction.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(PoolConnection<sqlx::Postgres>),
}

impl Connection {
    /// BEGIN, COMMIT and ROLLBACK are statements of ours: sqlx's own transactions do not let go of
    /// their connection, and count what the engine may have ended by itself.
    async fn run(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(connection) => {
                sqlx::query(text).execute(&mut **connection).await.map(drop)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => {
                sqlx::query(text).execute(&mut **connection).await.map(drop)
            }
        }
    }

    fn close_on_drop(&mut self) {
        match self {
            Self::Sqlite(connection) => connection.close_on_drop(),
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => connection.close_on_drop(),
        }
    }
}

/// An open transaction. Dropped without [`Transaction::commit`] nothing of it is kept.
#[derive(Debug)]
pub struct Transaction {
    connection: Connection,
    pub(crate) meter: Arc<Meter>,
    begun: Instant,
    /// `None`: it takes what it takes ([`Database::begin_long`]).
    limit: Option<Duration>,
    /// A statement runs, or did not end well.
    failed: bool,
    /// COMMIT or ROLLBACK went through: the connection may be used again.
    ended: bool,
}

impl Database {
    /// Begins a transaction, as a writer: it waits for the one that writes now.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`].
    pub async fn begin(&self) -> Result<Transaction, DatabaseError> {
        self.begin_with(Some(MAX_TRANSACTION)).await
    }

    /// Begins a transaction without a limit of time: a step of a migration, a change that deletes
    /// thousands of nodes with their history, a batch that would only grow if it were given up.
    /// Others wait for it, at most as long as they wait for any writer.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`].
    pub async fn begin_long(&self) -> Result<Transaction, DatabaseError> {
        self.begin_with(None).await
    }

    async fn begin_with(&self, limit: Option<Duration>) -> Result<Transaction, DatabaseError> {
        let asked = clock::now();
        let failed = |source| DatabaseError::of("begin a transaction")(source);
        let connection = match &self.pool {
            Pool::Sqlite(pool) => pool.acquire().await.map(Connection::Sqlite),
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => pool.acquire().await.map(Connection::Postgres),
        };
        self.meter.statement_ended(&connection);
        let (connection, meter) = (connection.map_err(failed)?, self.meter.clone());
        // From here on a cancelled BEGIN closes the connection.
        let mut transaction =
            Transaction { connection, meter, begun: asked, limit, failed: true, ended: false };
        let begin = match &self.pool {
            // Immediate: a transaction that becomes a writer later can only fail where it could
            // have waited, and what it has read may be old by then.
            Pool::Sqlite(_) => "BEGIN IMMEDIATE",
            #[cfg(feature = "postgres")]
            Pool::Postgres(_) => "BEGIN",
        };
        let begun = transaction.connection.run(begin).await;
        self.meter.statement_ended(&begun);
        if let Err(error) = &begun {
            self.meter.write_failed(error);
        }
        begun.map_err(failed)?;
        // Its time counts from here: it did not hold others up while it waited.
        (transaction.begun, transaction.failed) = (clock::now(), false);
        self.meter.waited(transaction.begun.duration_since(asked));
        Ok(transaction)
    }
}

impl Transaction {
    /// Commits, with the rows of its scope ([`crate::outbox`]); on disk when this returns.
    ///
    /// # Errors
    /// [`DatabaseError`]; nothing of the transaction is kept, unless the engine could not say.
    pub async fn commit(mut self, action: &'static str) -> Result<(), DatabaseError> {
        if self.failed {
            return Err(DatabaseError::Failed { action });
        }
        let riding = self.board(action).await?;
        self.failed = true;
        let asked = clock::now();
        let committed = self.connection.run("COMMIT").await;
        let now = clock::now();
        self.meter.statement_ended(&committed);
        self.meter.wrote(now.duration_since(asked), &committed);
        committed.map_err(DatabaseError::of(action))?;
        self.ended = true;
        riding.written();
        self.meter.transaction_ended(Ended::Committed);
        let took = now.duration_since(self.begun);
        if let Some(limit) = self.limit
            && took > limit
        {
            tracing::warn!("a transaction took {took:?}, others waited for it: {action}");
        }
        Ok(())
    }

    /// Writes the rows of this scope that wait, as the last of its statements.
    async fn board(&mut self, action: &'static str) -> Result<AttachedRows, DatabaseError> {
        let riding = AttachedRows::take();
        // Like COMMIT it is taken past the limit: what was written is whole.
        let limit = self.limit.take();
        riding.write(WrittenWith::Change, self, action).await?;
        self.limit = limit;
        Ok(riding)
    }

    /// Gives it up: for what is no failure. A transaction that failed is just dropped.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`]; nothing of the transaction is kept all the same.
    pub async fn rollback(mut self) -> Result<(), DatabaseError> {
        if self.failed {
            return Ok(());
        }
        self.failed = true;
        let undone = self.connection.run("ROLLBACK").await;
        self.meter.statement_ended(&undone);
        undone.map_err(DatabaseError::of("undo a transaction"))?;
        self.ended = true;
        self.meter.transaction_ended(Ended::RolledBack);
        Ok(())
    }

    /// The connection for one more statement, which must end with
    /// [`Self::statement_ended_well`], or the transaction has failed.
    pub(crate) fn connection(
        &mut self,
        action: &'static str,
    ) -> Result<&mut Connection, DatabaseError> {
        if self.failed {
            return Err(DatabaseError::Failed { action });
        }
        if let Some(limit) = self.limit
            && clock::now().duration_since(self.begun) > limit
        {
            self.failed = true;
            tracing::error!("a transaction is ended after {limit:?}; it could not {action}");
            return Err(DatabaseError::TooLong { action, limit });
        }
        self.failed = true;
        Ok(&mut self.connection)
    }

    pub(crate) fn statement_ended_well(&mut self) {
        self.failed = false;
    }

    /// A transaction that writes nothing and so waits for nobody.
    #[cfg(test)]
    pub(crate) async fn deferred(database: &Database) -> Result<Self, DatabaseError> {
        let Pool::Sqlite(pool) = &database.pool else { panic!("SQLite only") };
        let failed = DatabaseError::of("begin a transaction");
        let connection = Connection::Sqlite(pool.acquire().await.map_err(failed)?);
        let (begun, limit) = (clock::now(), Some(MAX_TRANSACTION));
        let meter = database.meter.clone();
        let mut transaction = Self { connection, meter, begun, limit, failed: false, ended: false };
        let failed = DatabaseError::of("begin a transaction");
        transaction.connection.run("BEGIN").await.map_err(failed)?;
        Ok(transaction)
    }

    #[cfg(test)]
    pub(crate) fn age(&mut self, by: Duration) {
        self.begun -= by;
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
            self.meter.transaction_ended(Ended::Failed);
        }
    }
}
