//! Server-sent events (HTML standard, section 9.2): nodes as they change. Each event has an id; a
//! client that was cut off sends the last one as `Last-Event-ID`, as browsers do by themselves.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use access::{Caller, Visibility};
use api::status::NodeUpdate;
use axum::{
    extract::State,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt as _, stream};
use rest::last_event_id;
use serde::Serialize;

use crate::{feed::EventId, provisioner::Provisioner};

/// A comment goes out after this time without an event, so that a dead connection shows.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

fn event(value: &impl Serialize) -> Event {
    // Serialising the API's own types into memory does not fail; a comment would be
    // ignored by clients.
    Event::default()
        .json_data(value)
        .unwrap_or_else(|error| Event::default().comment(error.to_string()))
}

fn keep_alive() -> KeepAlive {
    KeepAlive::new().interval(KEEP_ALIVE)
}

/// The status of every node, then each change of one (but `last-seen`).
///
/// With `Last-Event-ID` only the changes since then, if they can be told; otherwise, and where a
/// client reads too slowly, every node again. An event `list` without data says that every node
/// follows: what is not among those is gone.
#[utoipa::path(
    get, path = "/v1/nodes/watch", tag = "nodes",
    params(("last-event-id" = Option<String>, Header, description = "Id of the last event that was seen")),
    responses((status = OK, body = NodeUpdate, content_type = "text/event-stream"))
)]
pub(super) async fn nodes(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let grown = provisioner.0.feed.grown();
    let seen = last_event_id(&headers).and_then(EventId::parse);
    let visibility = Visibility::of(&caller.principal);
    let watcher = NodeWatcher {
        provisioner: provisioner.clone(),
        visibility,
        grown,
        seen,
        waiting: VecDeque::new(),
    };
    let stopped = provisioner.0.stop.clone().cancelled_owned();
    let updates = stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((Ok(event), watcher))
    });
    Sse::new(updates.take_until(stopped)).keep_alive(keep_alive())
}

/// Where a watcher of nodes is.
struct NodeWatcher {
    provisioner: Provisioner,
    visibility: Visibility,
    grown: tokio::sync::watch::Receiver<()>,
    /// The last event that it was given; `None` if it needs every node.
    seen: Option<EventId>,
    waiting: VecDeque<Event>,
}

impl NodeWatcher {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            self.grown.mark_unchanged();
            match self.seen.and_then(|seen| self.provisioner.0.feed.since(seen)) {
                None => self.list(),
                Some(changes) if changes.is_empty() => self.grown.changed().await.ok()?,
                Some(changes) => {
                    self.seen = changes.last().map(|(id, _)| *id);
                    let visibility = self.visibility;
                    let events = changes.into_iter();
                    let events = events
                        .map(|(id, update)| event(&visibility.of_thing(update)).id(id.to_string()));
                    self.waiting.extend(events);
                }
            }
        }
    }

    /// Every node. Only the last event has an id: who is cut off before it has not seen all.
    fn list(&mut self) {
        // Asked before the statuses are read: a change in between comes twice rather than never.
        let last = self.provisioner.0.feed.last();
        let statuses = self.provisioner.0.fleet.statuses();
        // Without a line of data, and axum writes none for an empty text, a browser
        // drops the event.
        self.waiting.push_back(Event::default().event("list").data("\n"));
        let visibility = self.visibility;
        self.waiting.extend(statuses.into_iter().map(|update| event(&visibility.of_thing(update))));
        if let Some(end) = self.waiting.pop_back() {
            self.waiting.push_back(end.id(last.to_string()));
        }
        self.seen = Some(last);
    }
}
