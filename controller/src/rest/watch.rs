//! `GET /v1/workflows/{id}/watch`: server-sent events (HTML standard, section 9.2), the workflow as it changes.

use std::{convert::Infallible, time::Duration};

use access::Caller;
use api::{problem::Problem, workflow::Workflow};
use axum::{
    extract::{Path, State},
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt as _, stream};
use rest::Refusal;
use tokio::sync::broadcast::error::RecvError;

use super::find;
use crate::Controller;

/// A comment goes out after this time without an event, so that a dead connection shows.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Changes within this time are one event: an array of many tasks changes all the time.
const PAUSE: Duration = Duration::from_millis(200);

/// The workflow now, and again whenever it looks different; the stream ends when the workflow is over.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/watch", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it")),
    responses((status = OK, body = Workflow, content_type = "text/event-stream"),
        (status = NOT_FOUND, body = Problem))
)]
pub(super) async fn watch(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let changes = controller.0.changed.subscribe();
    let first = find(&controller, &caller, &wanted, "cannot watch the workflow").await?;
    let id = first.summary.id;
    let stopped = controller.0.shutdown.clone().cancelled_owned();
    let views = stream::unfold((first, true, changes), move |(mut view, is_first, mut changes)| {
        let (controller, caller) = (controller.clone(), caller.clone());
        async move {
            if !is_first {
                if view.summary.ended.is_some() {
                    return None;
                }
                loop {
                    match changes.recv().await {
                        Ok(changed) if changed != id => {}
                        Ok(_) | Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return None,
                    }
                }
                tokio::time::sleep(PAUSE).await;
                view = find(&controller, &caller, &id.to_string(), "").await.ok()?;
            }
            Some((event(&view), (view, false, changes)))
        }
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(views.take_until(stopped)).keep_alive(keep_alive))
}

fn event(value: &Workflow) -> Result<Event, Infallible> {
    // Serialising the API's own types into memory does not fail; a comment would be ignored by clients.
    Ok(Event::default().json_data(value).unwrap_or_else(|error| Event::default().comment(error.to_string())))
}
