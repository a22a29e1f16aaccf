//! Rows of an outbox: what tells of a change is committed in the transaction of the change.
//!
//! Whoever begins some work (a request that a person makes) puts its row into a [`scope`]. The
//! first transaction that is committed in the scope takes the row with it: both are on disk, or
//! neither. A transaction that is rolled back or fails leaves the row for the next one; a row
//! is written once.
//!
//! ```text
//! scope(rows) ─▶ begin … statements … commit: INSERT of each row that waits, then COMMIT
//!       └─ carry() ─▶ another task: its transactions take the rows too
//! ```
//!
//! A scope belongs to the task. Work that is handed to another one takes it along: [`carry`] wraps
//! what is spawned, [`current`] is put beside what is queued. A batch that commits the work of
//! several people is committed in the scope of all of their rows.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use crate::{Database, DatabaseError, Statement, Transaction};

/// What [`write_ahead`] does.
const WRITE_AHEAD: &str = "write ahead of a change";

tokio::task_local! {
    static ROWS: Vec<OutboxRow>;
}

/// What a row is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenWith {
    /// The change that it tells of, in one transaction.
    Change,
    /// Nothing: the change is none of the database and comes afterwards ([`write_ahead`]).
    Nothing,
}

/// How a role writes its row.
pub trait Insert: Debug + Send + Sync {
    /// The statement that inserts it, which must report one changed row, or the transaction fails.
    /// After a commit of which nobody knows whether it was carried out it is run again, and must
    /// leave the row as it is and report it then. Where another row stands in the place of this one
    /// it reports none: `ON CONFLICT DO UPDATE SET id = excluded.id WHERE` they are the same.
    fn insert(&self, with: WrittenWith) -> Statement;
}

/// A row that waits for a transaction. Clones are one row.
#[derive(Debug, Clone)]
pub struct OutboxRow(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    row: Arc<dyn Insert>,
    /// Apart, so that a [`RowWatch`] looks at it without having the row.
    state: Arc<Mutex<State>>,
}

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For the next commit.
    Waits,
    /// In a transaction that is being committed.
    Rides,
    /// On disk.
    Written,
}

impl PartialEq for OutboxRow {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl OutboxRow {
    /// A row that is not written yet.
    pub fn new(row: Arc<dyn Insert>) -> Self {
        Self(Arc::new(Shared { row, state: Arc::new(Mutex::new(State::Waits)) }))
    }

    /// Is it on disk?
    #[must_use]
    pub fn is_written(&self) -> bool {
        *self.state() == State::Written
    }

    /// Has somebody else a clone of it, such as queued work, and may write it yet? To be asked when
    /// the scope has ended, and before [`Self::is_written`]: `false` is final.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Looks at the row without having it.
    #[must_use]
    pub fn watch(&self) -> RowWatch {
        RowWatch { row: Arc::downgrade(&self.0), state: self.0.state.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0.state)
    }

    /// Gives the row to the caller alone, if it still waits.
    fn board(&self) -> bool {
        let mut state = self.state();
        let waits = *state == State::Waits;
        if waits {
            *state = State::Rides;
        }
        waits
    }
}

/// A look at a row that others have.
#[derive(Debug, Clone)]
pub struct RowWatch {
    row: Weak<Shared>,
    state: Arc<Mutex<State>>,
}

impl RowWatch {
    /// May somebody write it yet? It may be on disk all the same, if nobody knows how its commit
    /// ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.row.strong_count() > 0 && !self.is_written()
    }

    /// Is it known to be on disk?
    #[must_use]
    pub fn is_written(&self) -> bool {
        *locked(&self.state) == State::Written
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows in a transaction that is being committed. Dropped before [`AttachedRows::written`]
/// they wait again.
#[derive(Debug)]
#[must_use = "rows that nobody says to be written are written again"]
pub(crate) struct AttachedRows(Vec<OutboxRow>);

impl AttachedRows {
    /// The rows of this scope that wait.
    pub(crate) fn take() -> Self {
        let mut rows = current();
        rows.retain(OutboxRow::board);
        Self(rows)
    }

    /// Inserts them. `action`: the transaction's.
    pub(crate) async fn write(
        &self,
        with: WrittenWith,
        transaction: &mut Transaction,
        action: &'static str,
    ) -> Result<(), DatabaseError> {
        for row in &self.0 {
            if row.0.row.insert(with).execute_in(transaction).await? != 1 {
                return Err(DatabaseError::RowTaken { action });
            }
        }
        Ok(())
    }

    /// The transaction is committed.
    pub(crate) fn written(mut self) {
        for row in self.0.drain(..) {
            *row.state() = State::Written;
        }
    }
}

impl Drop for AttachedRows {
    fn drop(&mut self) {
        for row in &self.0 {
            *row.state() = State::Waits;
        }
    }
}

/// Runs `work` so that its first commit writes these rows. Rows of a scope around it
/// are not its own.
pub fn scope<F: Future>(rows: Vec<OutboxRow>, work: F) -> impl Future<Output = F::Output> {
    ROWS.scope(rows, work)
}

/// Runs `work` so that its commits write no rows: housekeeping that a request only
/// happens to cause.
pub fn alone<F: Future>(work: F) -> impl Future<Output = F::Output> {
    scope(Vec::new(), work)
}

/// The rows of this scope, to be put beside what another task will commit. Empty outside of one.
#[must_use]
pub fn current() -> Vec<OutboxRow> {
    ROWS.try_with(Clone::clone).unwrap_or_default()
}

/// Takes this scope along: `tokio::spawn(outbox::carry(work))`.
pub fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> {
    scope(current(), work)
}

/// Does any row of this scope wait?
pub(crate) fn has_waiting() -> bool {
    let waits = |rows: &Vec<OutboxRow>| rows.iter().any(|row| *row.state() == State::Waits);
    ROWS.try_with(waits).unwrap_or_default()
}

/// Writes the rows of this scope now: before a change that is none of the database,
/// such as a file's.
///
/// # Errors
/// [`DatabaseError`]: nothing is written, and the change must not be made.
pub async fn write_ahead(database: &Database) -> Result<(), DatabaseError> {
    if !has_waiting() {
        return Ok(());
    }
    let mut transaction = database.begin().await?;
    let riding = AttachedRows::take();
    riding.write(WrittenWith::Nothing, &mut transaction, WRITE_AHEAD).await?;
    // The rows ride already, so the commit takes none of them.
    transaction.commit(WRITE_AHEAD).await?;
    riding.written();
    Ok(())
}
