//! `/v1/nodes/{name}/history`: what happened to a node.

use access::{Caller, Routes, Visibility};
use api::{ids::NodeName, problem::Problem, rights::Action, status::NodeEvent};
use axum::extract::{Path, State};
use rest::{Page, Paging, Refusal};
use utoipa_axum::routes;

use crate::Fleet;

/// Lines of a node's history in one answer where the request names no limit.
const DEFAULT_HISTORY_LINES: u32 = 100;

/// Most lines of a node's history in one answer: nearly all that are kept, some 300 KB.
const MAX_HISTORY_LINES: u32 = 1_000;

pub(super) fn routes() -> Routes<Fleet> {
    Routes::new().route(Action::NodeRead, routes!(history))
}

/// What happened to a node, newest first.
#[utoipa::path(
    get, path = "/v1/nodes/{name}/history", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node"),
        ("limit" = Option<u32>, Query, description = "Lines, at most 1000; default 100"),
        ("cursor" = Option<String>, Query, description = "From the `Link` header of the page before")),
    responses((status = OK, body = [NodeEvent]), (status = BAD_REQUEST, body = Problem),
        (status = NOT_FOUND, body = Problem))
)]
async fn history(
    State(fleet): State<Fleet>,
    caller: Caller,
    Path(name): Path<NodeName>,
    paging: Paging,
) -> Result<Page<NodeEvent>, Refusal> {
    let (title, sight) = ("cannot show the history", Visibility::of(&caller.principal));
    let id = fleet.find(title, &name)?;
    let limit = paging.limit().unwrap_or(DEFAULT_HISTORY_LINES).min(MAX_HISTORY_LINES);
    // Each node counts its own events: a cursor of another's history must not be taken
    // for one of this.
    let list = format!("history of {id}");
    let before: Option<u64> = paging.after(&list)?;
    // One more than is wanted says whether there is another page.
    let events = fleet.history(id, before, limit + 1).await;
    let events = events.map_err(|error| Refusal::internal(title, &error))?;
    Ok(paging
        .fetched(&list, events, limit, |(number, _)| *number)
        .map(|(_, event)| sight.of_thing(event)))
}
