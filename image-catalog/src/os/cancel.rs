//! The cancellation of an import. What it pulled goes as what any failed import leaves.

use std::time::Duration;

use api::image::Operation;
use database::outbox;
use tokio::time::timeout;

use super::{OsImages, is_running};

/// How long somebody waits for the end of an import that was cancelled: it must be on disk.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// Why an operation was not cancelled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CancelError {
    /// There is none of this number.
    #[error("there is no operation {0}; `bedplate operation list` shows them")]
    Unknown(u64),
    /// There is nothing to cancel.
    #[error("operation {0} is over; `bedplate operation show {0}` says how it ended")]
    IsOver(u64),
    /// It was told to end, and its end is not on disk yet.
    #[error(
        "operation {0} ends as soon as the server can write that into its database, whose log says why it \
         cannot; look at it again with `bedplate operation show {0}`"
    )]
    NotWritten(u64),
}

impl OsImages {
    /// Cancels an operation that waits or runs, and waits for its end. It may end well if that is
    /// being written at this moment.
    ///
    /// # Errors
    /// See [`CancelError`].
    pub(crate) async fn cancel(&self, id: u64, by: &str) -> Result<Operation, CancelError> {
        let mut operation = {
            let mut entries = self.lock_operations();
            let entry = entries.get_mut(&id).ok_or(CancelError::Unknown(id))?;
            if !is_running(&entry.operation.borrow()) {
                return Err(CancelError::IsOver(id));
            }
            entry.cancelled_by.get_or_insert_with(|| by.to_owned());
            entry.told.wait_for_end(outbox::current());
            entry.cancelled.cancel();
            entry.operation.subscribe()
        };
        let ended = timeout(END_PATIENCE, operation.wait_for(|operation| !is_running(operation)));
        match ended.await {
            Ok(Ok(ended)) => Ok(ended.clone()),
            // It is forgotten only once it is over.
            Ok(Err(_)) => Err(CancelError::IsOver(id)),
            Err(_) => Err(CancelError::NotWritten(id)),
        }
    }

    /// Who cancelled an operation.
    pub(super) fn cancelled_by(&self, id: u64) -> Option<String> {
        self.lock_operations().get(&id).and_then(|entry| entry.cancelled_by.clone())
    }
}
