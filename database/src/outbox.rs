//! Rows of an outbox: what tells of a change is committed in the transaction of the change.
//!
//! Whoever begins some work (a request that a person makes) puts its row into a [`scope`]. The first
//! transaction that is committed in the scope takes the row with it: both are on disk, or neither.
//! A transaction that is rolled back or fails leaves the row for the next one; a row is written once.
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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Database, DatabaseError, Statement};

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
    /// The statement that inserts it. After a commit of which nobody knows whether it was carried
    /// out it is run again, and must do nothing then: `ON CONFLICT DO NOTHING`.
    fn insert(&self, with: WrittenWith) -> Statement;
}

/// A row that waits for a transaction. Clones are one row.
#[derive(Debug, Clone)]
pub struct OutboxRow(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    row: Arc<dyn Insert>,
    state: Mutex<State>,
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
        Self(Arc::new(Shared { row, state: Mutex::new(State::Waits) }))
    }

    /// Is it on disk?
    #[must_use]
    pub fn is_written(&self) -> bool {
        *self.state() == State::Written
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Rows in a transaction that is being committed. Dropped before [`Riding::written`] they wait again.
#[derive(Debug)]
#[must_use = "rows that nobody says to be written are written again"]
pub(crate) struct Riding(Vec<OutboxRow>);

impl Riding {
    /// The rows of this scope that wait.
    pub(crate) fn take() -> Self {
        let mut rows = current();
        rows.retain(OutboxRow::board);
        Self(rows)
    }

    /// How they are written.
    pub(crate) fn statements(&self, with: WrittenWith) -> Vec<Statement> {
        self.0.iter().map(|row| row.0.row.insert(with)).collect()
    }

    /// The transaction is committed.
    pub(crate) fn written(mut self) {
        for row in self.0.drain(..) {
            *row.state() = State::Written;
        }
    }
}

impl Drop for Riding {
    fn drop(&mut self) {
        for row in &self.0 {
            *row.state() = State::Waits;
        }
    }
}

/// Runs `work` so that its first commit writes these rows. Rows of a scope around it are not its own.
pub fn scope<F: Future>(rows: Vec<OutboxRow>, work: F) -> impl Future<Output = F::Output> {
    ROWS.scope(rows, work)
}

/// Runs `work` so that its commits write no rows: housekeeping that a request only happens to cause.
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

/// Writes the rows of this scope now: before a change that is none of the database, such as a file's.
///
/// # Errors
/// [`DatabaseError`]: nothing is written, and the change must not be made.
pub async fn write_ahead(database: &Database) -> Result<(), DatabaseError> {
    if !has_waiting() {
        return Ok(());
    }
    let mut transaction = database.begin().await?;
    let riding = Riding::take();
    for statement in riding.statements(WrittenWith::Nothing) {
        statement.execute_in(&mut transaction).await?;
    }
    // The rows ride already, so the commit takes none of them.
    transaction.commit("write ahead of a change").await?;
    riding.written();
    Ok(())
}
