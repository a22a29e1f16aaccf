//! What the nodes really did with runs, told by the simulation and not by the server: the account
//! is drawn up from it.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use api::{
    ids::{NodeName, Timestamp},
    run::{Outcome, RunId, WorkflowId},
};
use substrate::clock;

/// One run that a node began.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) run: RunId,
    pub(crate) workflow: WorkflowId,
    /// `job NAME[TASK]`, as the server calls it.
    pub(crate) subject: String,
    pub(crate) node: NodeName,
    /// Which boot of the node.
    pub(crate) boot: Arc<str>,
    pub(crate) began: Timestamp,
    pub(crate) ended: Timestamp,
    /// How it ended; `None` if the node lost its power.
    pub(crate) outcome: Option<Outcome>,
}

/// Everything that was begun, by all nodes.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    over: Mutex<Vec<Entry>>,
    logged: Mutex<HashSet<RunId>>,
    begun: AtomicU64,
    succeeded: AtomicU64,
}

impl Journal {
    /// A run begins. It ends when [`Open::end`] is called, or the result dropped: then its node has
    /// lost its power.
    pub(crate) fn begin(self: &Arc<Self>, entry: Entry) -> Open {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Open { journal: self.clone(), entry: Some(entry) }
    }

    /// Runs that were begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Jobs that ended with 0.
    pub(crate) fn succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// The server has said that it has the whole log of a run.
    pub(crate) fn log_taken(&self, run: RunId) {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
    }

    /// Runs whose logs were taken. What is not among them went with its node.
    pub(crate) fn logged(&self) -> HashSet<RunId> {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is over.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self, mut entry: Entry, outcome: Option<Outcome>) {
        if outcome.as_ref().is_some_and(Outcome::is_success) && entry.subject.starts_with("job ") {
            self.succeeded.fetch_add(1, Ordering::Relaxed);
        }
        entry.ended = clock::now();
        entry.outcome = outcome;
        self.over.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }
}

/// A run that goes on.
#[derive(Debug)]
pub(crate) struct Open {
    journal: Arc<Journal>,
    entry: Option<Entry>,
}

impl Open {
    /// It is over.
    pub(crate) fn end(mut self, outcome: Outcome) {
        if let Some(entry) = self.entry.take() {
            self.journal.close(entry, Some(outcome));
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.journal.close(entry, None);
        }
    }
}
