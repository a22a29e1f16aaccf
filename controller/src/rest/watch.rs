//! `GET /v1/workflows/{id}/watch`: server-sent events (HTML standard, section 9.2), the workflow as
//! it changes. Each event is the whole workflow, so a client that was cut off misses no state: it
//! is given the workflow as it is now, unless that is what it saw last.

use std::{convert::Infallible, time::Duration};

use access::Caller;
use api::{problem::Problem, workflow::Workflow};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt as _, stream};
use rest::{Refusal, content_id, last_event_id};
use tokio::sync::broadcast::error::RecvError;

use super::find;
use crate::Controller;

/// A comment goes out after this time without an event, so that a dead connection shows.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Changes within this time are one event: an array of many tasks changes all the time.
const PAUSE: Duration = Duration::from_millis(200);

/// The workflow now, and again whenever it looks different; the stream ends when the workflow is
/// over. With `Last-Event-ID` not again what was seen already.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/watch", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it"),
        ("last-event-id" = Option<String>, Header, description = "Id of the last event that was seen")),
    responses((status = OK, body = Workflow, content_type = "text/event-stream"),
        (status = NO_CONTENT, description = "It is over, and its end was seen"),
        (status = NOT_FOUND, body = Problem))
)]
pub(super) async fn watch(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let changes = controller.0.changed.subscribe();
    let first = find(&controller, &caller, &wanted, "cannot watch the workflow").await?;
    let id = first.summary.id;
    let stopped = controller.0.shutdown.clone().cancelled_owned();
    let seen = last_event_id(&headers).is_some_and(|seen| seen == content_id(&first));
    if seen && first.summary.ended.is_some() {
        // A browser asks again and again where a stream just ends; this answer makes it stop.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let views = stream::unfold((first, !seen, changes), move |(mut view, is_new, mut changes)| {
        let (controller, caller) = (controller.clone(), caller.clone());
        async move {
            if !is_new {
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
    Ok(Sse::new(views.take_until(stopped)).keep_alive(keep_alive).into_response())
}

fn event(value: &Workflow) -> Result<Event, Infallible> {
    // Serialising the API's own types into memory does not fail; a comment would be
    // ignored by clients.
    let event = Event::default().json_data(value);
    Ok(event.map_or_else(
        |error| Event::default().comment(error.to_string()),
        |event| event.id(content_id(value)),
    ))
}
