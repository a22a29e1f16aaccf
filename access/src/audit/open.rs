//! Rows that go with changes, until they are on disk or nobody can write them any more.

use std::{collections::BTreeMap, sync::Arc};

use database::outbox::{OutboxRow, RowWatch};

use super::PendingRow;

/// By their numbers.
#[derive(Debug, Default)]
pub(super) struct OpenRows(BTreeMap<u64, OpenRow>);

#[derive(Debug)]
struct OpenRow {
    watch: RowWatch,
    /// Its request was answered, and left it to queued work.
    answered: Option<Answered>,
}

/// A request that was answered before it was known whether it changes something.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) row: Arc<PendingRow>,
    /// The action that was wanted.
    pub(super) kind: String,
    pub(super) outcome: String,
}

impl OpenRow {
    /// Nobody will write it, and its request has no line yet.
    fn is_unchanged(&self) -> bool {
        self.answered.is_some() && !self.watch.is_open() && !self.watch.is_written()
    }
}

impl OpenRows {
    pub(super) fn watch(&mut self, id: u64, row: &OutboxRow) {
        self.0.insert(id, OpenRow { watch: row.watch(), answered: None });
    }

    /// May a row be written yet?
    pub(super) fn is_open(&self, id: u64) -> bool {
        self.0.get(&id).is_some_and(|row| row.watch.is_open())
    }

    /// The request of a row was answered, and others have the row.
    pub(super) fn answer(&mut self, answered: Answered) {
        if let Some(row) = self.0.get_mut(&answered.row.id) {
            row.answered = Some(answered);
        }
    }

    /// Forgets those that have come to their end.
    pub(super) fn tidy(&mut self) {
        self.0.retain(|_, row| row.watch.is_open() || row.is_unchanged());
    }

    /// A row has its line.
    pub(super) fn chained(&mut self, id: u64) {
        self.0.remove(&id);
    }

    /// Rows of answered requests that nobody has written. `stops`: nobody writes any from now on.
    pub(super) fn unchanged(&self, stops: bool) -> Vec<u64> {
        let stays = |row: &OpenRow| stops && row.answered.is_some() && !row.watch.is_written();
        self.0
            .iter()
            .filter(|(_, row)| row.is_unchanged() || stays(row))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Takes the requests of such rows, but for those that were chained meanwhile: nobody knew how
    /// their commit had ended.
    pub(super) fn take(&mut self, ids: &[u64]) -> Vec<Answered> {
        let rows = ids.iter().filter_map(|id| self.0.remove(id));
        rows.filter(|row| !row.watch.is_written()).filter_map(|row| row.answered).collect()
    }
}
