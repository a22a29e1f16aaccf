//! Operations in the audit log: their begin is the request that asked for them, their end is a row
//! of its own, in the transaction that ends them.

use access::Access;
use api::image::{Operation, OperationState};
use database::outbox::OutboxRow;

use super::Images;

/// What the audit log calls the end of an operation.
const ENDED: &str = "operation-end";

/// Who ends operations that the last run of the server left: who began them is not known any more.
const SERVER: &str = "server";

impl Images {
    /// From now on the ends of operations are recorded there.
    pub(crate) fn record_ends(&self, access: Access) {
        // It is said once, when the server opens.
        let _ = self.0.access.set(access);
    }

    /// The rows that are committed with the end of an operation: its own, and those of the requests
    /// that cancelled it.
    pub(super) fn end_told(&self, last: &Operation) -> Vec<OutboxRow> {
        let entries = self.lock_operations();
        let entry = entries.get(&last.id);
        let mut told = entry.map(|entry| entry.told.clone()).unwrap_or_default();
        let Some(access) = self.0.access.get() else { return told };
        let by = entry.map(|entry| entry.by.as_str()).filter(|by| !by.is_empty()).unwrap_or(SERVER);
        let outcome = match &last.state {
            OperationState::Done { result } => format!("done: {result}"),
            OperationState::Failed { error } => format!("failed: {error}"),
            OperationState::Running { .. } => return told,
        };
        told.push(access.event(by, ENDED, &format!("/v1/operations/{}", last.id), &outcome));
        told
    }
}
