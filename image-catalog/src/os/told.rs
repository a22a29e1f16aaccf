//! Operations in the audit log: their begin is the request that asked for them, their end is a row
//! of its own, in the transaction that ends them.

use api::image::{Operation, OperationState};
use database::outbox::OutboxRow;

use super::OsImages;

/// What the audit log calls the end of an operation.
const ENDED: &str = "operation-end";

/// Who ends operations that the last run of the server left: who began them is not known any more.
const SERVER: &str = "server";

/// Rows of the requests that cancelled an operation, committed with its end.
#[derive(Debug, Default)]
pub(super) struct Cancellers {
    rows: Vec<OutboxRow>,
    /// Who comes now has changed nothing, and keeps its row.
    is_ending: bool,
}

impl Cancellers {
    /// Takes rows that the end is to write, if that is not being written yet.
    pub(super) fn wait_for_end(&mut self, rows: Vec<OutboxRow>) {
        if !self.is_ending {
            self.rows.extend(rows);
        }
    }

    /// What goes with the end, which is written now.
    fn end(&mut self) -> Vec<OutboxRow> {
        self.is_ending = true;
        self.rows.clone()
    }
}

impl OsImages {
    /// The rows that are committed with the end of an operation: its own, and those of the requests
    /// that cancelled it.
    pub(super) fn commit_end_rows(&self, last: &Operation) -> Vec<OutboxRow> {
        let mut entries = self.lock_operations();
        let entry = entries.get_mut(&last.id);
        let (mut told, by) =
            entry.map(|entry| (entry.told.end(), entry.by.clone())).unwrap_or_default();
        let Some(access) = &self.0.access else { return told };
        let by = if by.is_empty() { SERVER } else { &by };
        let outcome = match &last.state {
            OperationState::Done { result } => format!("done: {result}"),
            OperationState::Failed { error } => format!("failed: {error}"),
            OperationState::Running { .. } => return told,
        };
        told.push(access.event(by, ENDED, &format!("/v1/operations/{}", last.id), &outcome));
        told
    }

    /// The end of an operation is written, or never will be: rows that it did not take are those of
    /// their requests alone.
    pub(super) fn release_end_rows(&self, id: u64) {
        if let Some(entry) = self.lock_operations().get_mut(&id) {
            entry.told = Cancellers { rows: Vec::new(), is_ending: true };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use database::{
        Statement,
        outbox::{Insert, WrittenWith},
        statement,
    };

    use super::*;

    #[derive(Debug)]
    struct Row;

    impl Insert for Row {
        fn insert(&self, _: WrittenWith) -> Statement {
            statement("insert nothing", "SELECT 1")
        }
    }

    #[test]
    fn a_cancel_that_comes_while_the_end_is_written_keeps_its_row() {
        let [early, late] = [(); 2].map(|()| OutboxRow::new(Arc::new(Row)));
        let mut told = Cancellers::default();
        told.wait_for_end(vec![early.clone()]);
        assert!(early.is_elsewhere());
        assert_eq!(told.end(), vec![early.clone()]);
        told.wait_for_end(vec![late.clone()]);
        assert!(!late.is_elsewhere(), "nobody would write it, and its request would rely on that");
    }
}
