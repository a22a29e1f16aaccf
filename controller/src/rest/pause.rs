//! `POST /v1/workflows/{id}/pause` and `/resume`.

use access::Caller;
use api::{problem::Problem, workflow::WorkflowSummary};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use database::outbox;
use rest::Refusal;

use super::find;
use crate::{
    Controller,
    conductor::{Command, ask},
};

/// Pauses a workflow: the processes of its jobs stand still and keep what they were granted, their
/// timeouts stand still, and nothing of it begins.
#[utoipa::path(
    post, path = "/v1/workflows/{id}/pause", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it")),
    responses((status = OK, body = WorkflowSummary), (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem))
)]
pub(super) async fn pause(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
) -> Result<Json<WorkflowSummary>, Refusal> {
    set(&controller, caller, &wanted, true).await
}

/// Lets a paused workflow go on.
#[utoipa::path(
    post, path = "/v1/workflows/{id}/resume", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it")),
    responses((status = OK, body = WorkflowSummary), (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem))
)]
pub(super) async fn resume(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
) -> Result<Json<WorkflowSummary>, Refusal> {
    set(&controller, caller, &wanted, false).await
}

async fn set(
    controller: &Controller,
    caller: Caller,
    wanted: &str,
    paused: bool,
) -> Result<Json<WorkflowSummary>, Refusal> {
    let title = if paused { "cannot pause the workflow" } else { "cannot let the workflow go on" };
    let summary = find(controller, &caller, wanted, title).await?.summary;
    let (workflow, by) = (summary.id, caller.principal.name.clone());
    access::record_object(&format!("workflow {workflow}"));
    let told = outbox::current();
    let order = |done| Command::Pause { workflow, paused, by, done, told };
    match ask(&controller.0.orders, order).await {
        Ok(true) => find(controller, &caller, &workflow.to_string(), title)
            .await
            .map(|view| Json(view.summary)),
        Ok(false) => {
            let state = match (summary.state.is_ended(), paused) {
                (true, _) => summary.state.as_str(),
                (false, true) => "paused already, or being stopped",
                (false, false) => "not paused",
            };
            Err(Refusal::new(StatusCode::CONFLICT, title, format!("{} is {state}", summary.name)))
        }
        Err(why) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, why.to_string())),
    }
}
