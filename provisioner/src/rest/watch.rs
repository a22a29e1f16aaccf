//! Server-sent events (HTML standard, section 9.2): nodes as they change, operations as they go on.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use api::{
    image::{Operation, OperationState},
    problem::Problem,
    status::NodeUpdate,
};
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use fleet::NodeChange;
use futures_util::{Stream, StreamExt as _, stream};
use rest::Refusal;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;

use crate::provisioner::Provisioner;

/// A comment goes out after this time without an event, so that a dead connection shows.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

fn event(value: &impl Serialize) -> Result<Event, Infallible> {
    // Serialising the API's own types into memory does not fail; a comment would be ignored by clients.
    Ok(Event::default().json_data(value).unwrap_or_else(|error| Event::default().comment(error.to_string())))
}

fn keep_alive() -> KeepAlive {
    KeepAlive::new().interval(KEEP_ALIVE)
}

/// The status of every node, then each change of one (but `last-seen`). A client that reads too slowly gets every node
/// again.
#[utoipa::path(
    get, path = "/v1/nodes/watch", tag = "nodes",
    responses((status = OK, body = NodeUpdate, content_type = "text/event-stream"))
)]
pub(super) async fn nodes(
    State(provisioner): State<Provisioner>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = provisioner.0.fleet.watch();
    let waiting: VecDeque<NodeUpdate> = provisioner.0.fleet.statuses().into();
    let stopped = provisioner.0.stop.clone().cancelled_owned();
    let updates = stream::unfold(
        (provisioner, receiver, waiting),
        |(provisioner, mut receiver, mut waiting)| async move {
            loop {
                if let Some(update) = waiting.pop_front() {
                    return Some((event(&update), (provisioner, receiver, waiting)));
                }
                match receiver.recv().await {
                    Ok(NodeChange::Updated(update)) => waiting.push_back(update),
                    // Clients of this version are not told of deletions.
                    Ok(NodeChange::Removed { .. }) => {}
                    Err(RecvError::Lagged(_)) => {
                        receiver = provisioner.0.fleet.watch();
                        waiting = provisioner.0.fleet.statuses().into();
                    }
                    Err(RecvError::Closed) => return None,
                }
            }
        },
    );
    Sse::new(updates.take_until(stopped)).keep_alive(keep_alive())
}

/// An operation now, at each step, and at its end; then the stream ends.
#[utoipa::path(
    get, path = "/v1/operations/{id}/events", tag = "operations",
    params(("id" = u64, Path, description = "Number of the operation")),
    responses((status = OK, body = Operation, content_type = "text/event-stream"),
        (status = NOT_FOUND, body = Problem))
)]
pub(super) async fn operation(
    State(provisioner): State<Provisioner>,
    Path(id): Path<u64>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let mut receiver = provisioner.0.images.operation(id).ok_or_else(|| unknown_operation(id))?;
    receiver.mark_changed();
    let stopped = provisioner.0.stop.clone().cancelled_owned();
    let steps = stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        receiver.changed().await.ok()?;
        let operation = receiver.borrow_and_update().clone();
        let goes_on = matches!(operation.state, OperationState::Running { .. });
        Some((event(&operation), goes_on.then_some(receiver)))
    });
    Ok(Sse::new(steps.take_until(stopped)).keep_alive(keep_alive()))
}

pub(super) fn unknown_operation(id: u64) -> Refusal {
    let why = "there is no such operation; `bedplate operation list` shows those that are kept";
    Refusal::new(StatusCode::NOT_FOUND, format!("cannot show operation {id}"), why)
}
