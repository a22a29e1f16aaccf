//! `DELETE /v1/workflows/{id}`: what a workflow that is over has on the server is freed.

use access::Caller;
use api::problem::Problem;
use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use database::outbox;
use rest::Refusal;

use super::find;
use crate::{
    Controller,
    conductor::{Order, Removal, ask},
};

/// Deletes a workflow that is over, with its history, its document, its logs and its files.
#[utoipa::path(
    delete, path = "/v1/workflows/{id}", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem, description = "It is not over, or its logs are still coming"),
        (status = SERVICE_UNAVAILABLE, body = Problem))
)]
pub(super) async fn delete(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
) -> Result<StatusCode, Refusal> {
    let title = "cannot delete the workflow";
    let summary = find(&controller, &caller, &wanted, title).await?.summary;
    let conflict = |why: String| Refusal::new(StatusCode::CONFLICT, title, why);
    if summary.ended.is_none() {
        let (name, status) = (&summary.name, summary.status());
        let why = format!("{name} is {}: stop it first with `bedplate workflow stop`", status.as_str());
        return Err(conflict(why));
    }
    let (id, orders) = (summary.id, &controller.0.orders);
    access::object_told(&format!("workflow {id}"));
    let told = outbox::current();
    match ask(orders, |done| Order::Forget { workflows: vec![id], done, told }).await {
        Ok(Some(removal)) => {
            Removal::wait_for(vec![removal]).await;
            Ok(StatusCode::NO_CONTENT)
        }
        Ok(None) => Err(conflict(format!(
            "the logs of {} are still coming from its nodes: try again in a few minutes",
            summary.name
        ))),
        Err(why) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, why.to_string())),
    }
}
