//! `/v1/nodes/NAME/trust` and `/revoke`: an admin says which enrolment is the node, and whose
//! certificates are dead.

use access::{Caller, Routes};
use api::{
    ids::NodeName,
    problem::Problem,
    rights::Action,
    status::{RevokeNode, TrustNode},
};
use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use rest::{BodyOf, Refusal};
use utoipa_axum::routes;

use crate::{Fleet, FleetError};

pub(super) fn routes() -> Routes<Fleet> {
    Routes::new()
        .route(Action::NodeTrust, routes!(trust))
        .route(Action::NodeRevoke, routes!(revoke))
}

/// Says that the agent of an enrolment is the node; the certificates of its other enrolments are
/// dead at once. Ends a conflict.
#[utoipa::path(
    post, path = "/v1/nodes/{name}/trust", tag = "nodes", request_body = TrustNode,
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem))
)]
async fn trust(
    State(fleet): State<Fleet>,
    caller: Caller,
    Path(name): Path<NodeName>,
    body: BodyOf<TrustNode>,
) -> Result<StatusCode, Refusal> {
    let id = fleet.find(&format!("cannot trust an enrolment of {name}"), &name)?;
    let TrustNode { epoch } = body.checked()?;
    let title = format!("cannot trust enrolment {epoch} of {name}");
    let decided = fleet.trust(id, epoch, &caller.principal.name).await;
    answer(title, decided)
}

/// Revokes the certificates of a node, or those up to an enrolment: they are dead at once. With the
/// last one the node is disarmed, and boots again when it is armed.
#[utoipa::path(
    post, path = "/v1/nodes/{name}/revoke", tag = "nodes", request_body = RevokeNode,
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem))
)]
async fn revoke(
    State(fleet): State<Fleet>,
    caller: Caller,
    Path(name): Path<NodeName>,
    body: BodyOf<RevokeNode>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot revoke the certificates of {name}");
    let id = fleet.find(&title, &name)?;
    let RevokeNode { epoch } = body.checked()?;
    let decided = fleet.revoke(id, epoch, &caller.principal.name).await;
    answer(title, decided)
}

fn answer(title: String, decided: Result<(), FleetError>) -> Result<StatusCode, Refusal> {
    match decided {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error @ FleetError::Undecidable { .. }) => {
            Err(Refusal::new(StatusCode::CONFLICT, title, error.to_string()))
        }
        Err(error) => Err(Refusal::internal(title, &error)),
    }
}
