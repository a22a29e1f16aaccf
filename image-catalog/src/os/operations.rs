//! Operations: what is asked for, in whose turn it is carried out, and how far it is.
//!
//! An import is an operation: kept in the database from the moment it is asked for, so that one
//! that a `kill -9` cut off starts again with the server and takes up the blobs that it had.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
};

use api::image::{ImportImage, Operation, OperationState, Platform};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{OsImages, OtherArchitecture, Source, SourceError, import, told::Cancellers};
use crate::{
    clock,
    store::{MAX_OPERATIONS, OperationRecord, StoreError, Write},
};

/// Imports that wait or run. More at once is a script gone wild.
const MAX_UNFINISHED: usize = 64;

/// Why an import was not begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The source or the name.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Another operating system.
    #[error(
        "images for {0} cannot be imported: nodes run Linux; write --platform linux/ARCHITECTURE"
    )]
    OtherSystem(Platform),
    /// The image has versions for another architecture.
    #[error(transparent)]
    OtherArchitecture(#[from] OtherArchitecture),
    /// Too many at once.
    #[error("{MAX_UNFINISHED} imports are under way; wait until one has ended")]
    TooMany,
    /// The database.
    #[error("the operation cannot be kept")]
    Store(#[source] StoreError),
}

/// An operation, and what is to be known of it while it goes on.
#[derive(Debug)]
pub(super) struct OperationEntry {
    pub(super) request: ImportImage,
    pub(super) operation: watch::Sender<Operation>,
    /// In whose turn it pulls and builds. Of one that the last run of the server left nobody knows:
    /// all of those take turns as one person.
    pub(super) by: String,
    /// Cancelled with the server too.
    pub(super) cancelled: CancellationToken,
    /// By whom, if it was somebody.
    pub(super) cancelled_by: Option<String>,
    /// Rows of the requests that cancelled it, committed with its end.
    pub(super) told: Cancellers,
}

impl OperationEntry {
    pub(super) fn new(
        request: ImportImage,
        operation: watch::Sender<Operation>,
        by: &str,
        shutdown: &CancellationToken,
    ) -> Self {
        let cancelled = shutdown.child_token();
        let told = Cancellers::default();
        Self { request, operation, by: by.to_owned(), cancelled, cancelled_by: None, told }
    }
}

impl OsImages {
    /// Operations, newest first.
    #[must_use]
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let entries = self.lock_operations();
        entries.values().rev().map(|entry| entry.operation.borrow().clone()).collect()
    }

    /// One operation, to look at and to follow.
    #[must_use]
    pub(crate) fn operation(&self, id: u64) -> Option<watch::Receiver<Operation>> {
        self.lock_operations().get(&id).map(|entry| entry.operation.subscribe())
    }

    /// Begins an import. `by`: who asks, in whose turn it is carried out.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) async fn start(
        &self,
        mut request: ImportImage,
        by: &str,
    ) -> Result<Operation, StartError> {
        let source = Source::parse(&request.source)?;
        let name = match request.name.take() {
            Some(name) => name,
            None => source.default_name()?,
        };
        let platform = request.platform.as_ref().unwrap_or(&self.0.boots);
        if platform.os() != "linux" {
            return Err(StartError::OtherSystem(platform.clone()));
        }
        self.table().takes(&name, platform)?;
        request.name = Some(name.clone());
        let operation = {
            let mut entries = self.lock_operations();
            let running = |entry: &&OperationEntry| is_running(&entry.operation.borrow());
            if entries.values().filter(running).count() >= MAX_UNFINISHED {
                return Err(StartError::TooMany);
            }
            let operation = Operation {
                id: entries.last_key_value().map_or(1, |(id, _)| id + 1),
                title: format!("import {} as {name}", request.source),
                created: clock::now(),
                state: OperationState::Running { bars: Vec::new(), waiting: None },
            };
            forget_oldest(&mut entries);
            let (sender, _) = watch::channel(operation.clone());
            let entry = OperationEntry::new(request.clone(), sender, by, &self.0.shutdown);
            entries.insert(operation.id, entry);
            operation
        };
        access::record_object(&format!("operation {}", operation.id));
        let record = OperationRecord { operation: operation.clone(), request };
        if let Err(error) = self.0.store.commit(&[Write::PutOperation(record)]).await {
            self.lock_operations().remove(&operation.id);
            return Err(StartError::Store(error));
        }
        self.spawn(operation.id);
        Ok(operation)
    }

    pub(super) fn spawn(&self, id: u64) {
        let images = self.clone();
        tokio::spawn(async move { import::run(&images, id).await });
    }

    pub(super) fn lock_operations(&self) -> MutexGuard<'_, BTreeMap<u64, OperationEntry>> {
        self.0.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps as many as the database does once another is added.
fn forget_oldest(entries: &mut BTreeMap<u64, OperationEntry>) {
    while entries.len() >= MAX_OPERATIONS as usize {
        let ended = entries.iter().find(|(_, entry)| !is_running(&entry.operation.borrow()));
        let Some(id) = ended.map(|(id, _)| *id) else { return };
        entries.remove(&id);
    }
}

pub(super) fn is_running(operation: &Operation) -> bool {
    matches!(operation.state, OperationState::Running { .. })
}
