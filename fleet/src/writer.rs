//! Writes what changed, in batches: one transaction for all changes that gathered while
//! the last one ran.

use std::{sync::Arc, time::Duration};

use database::outbox;
use rest::causes;
use tokio_util::sync::CancellationToken;

use crate::{
    registry::Registry,
    store::{Store, StoreError},
};

/// Pause after a failed write: a full disk is not written to in a tight loop.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Runs until `stop`; then writes everything once more.
pub(crate) async fn run(registry: Arc<Registry>, store: Arc<dyn Store>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = registry.dirty() => {}
            () = stop.cancelled() => break,
        }
        if write(&registry, &*store, false).await.is_err() {
            tokio::select! {
                () = tokio::time::sleep(PAUSE_AFTER_FAILURE) => {}
                () = stop.cancelled() => {}
            }
        }
    }
    // Its failure was logged; there is no later attempt.
    let _ = write(&registry, &*store, true).await;
    registry.writer_ended();
}

async fn write(registry: &Registry, store: &dyn Store, all: bool) -> Result<(), StoreError> {
    // From what is taken until it is written no node is removed: it would come back.
    let _writing = registry.writing().await;
    let (batch, generation) = registry.take(all);
    let told = batch.told.clone();
    match outbox::scope(told, store.write(&batch)).await {
        Ok(()) => {
            registry.wrote(generation);
            Ok(())
        }
        Err(error) => {
            let why = causes(&error);
            tracing::error!("changes of {} nodes are not on disk: {why}", batch.nodes.len());
            registry.not_written(generation, batch, &why);
            Err(error)
        }
    }
}
