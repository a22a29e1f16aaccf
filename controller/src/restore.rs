//! What the last run of the server left, read into the engine before anything else happens.

use std::sync::Arc;

use crate::{
    clock,
    engine::{Engine, Flow, LOG_PATIENCE_SECONDS},
    files,
    graph::Graph,
    images::{JobImages, causes},
    results::Results,
    store::{Store as _, StoreError, WorkflowRow, sqlite::SqliteStore},
};

/// Takes every workflow that is not over, and those that wait for the rest of a log alone.
pub(crate) async fn restore(
    engine: &mut Engine,
    store: &SqliteStore,
    images: &JobImages,
    results: &Results,
) -> Result<(), StoreError> {
    let since = clock::now().plus_seconds(-LOG_PATIENCE_SECONDS);
    for row in store.unfinished(since).await? {
        let id = row.id;
        match flow(row, store, images, results).await? {
            Ok(flow) if flow.row.ended.is_some() && flow.runs.is_empty() => {}
            Ok(flow) => engine.adopt(flow),
            Err(why) => tracing::error!("workflow {id} of before cannot go on: {why}"),
        }
    }
    Ok(())
}

/// A workflow out of its rows; the document makes the same graph again.
async fn flow(
    row: WorkflowRow,
    store: &SqliteStore,
    images: &JobImages,
    results: &Results,
) -> Result<Result<Flow, String>, StoreError> {
    let id = row.id;
    let parsed = match document::parse(&row.document) {
        Ok(parsed) => parsed,
        Err(mistakes) => {
            let first = mistakes.first().map(ToString::to_string).unwrap_or_default();
            return Ok(Err(format!("this version does not take its document any more: {first}")));
        }
    };
    let inline = match files::keep(&parsed.workflow, images).await {
        Ok(inline) => inline,
        Err(error) => return Ok(Err(causes(&error))),
    };
    let (stages, runs) = (store.stages(id).await?, store.runs(id, None, u32::MAX).await?);
    let events = store.last_event(id).await?;
    let graph = Arc::new(Graph::of(&parsed.workflow));
    let known = (Arc::new(parsed.workflow), graph, inline);
    Ok(Ok(Flow::restore(row, known, stages, runs, events, |run| results.log_length(id, run))))
}
