//! `/v1/nodes/{name}/reboot`, `/arm`, `/drain`: what nodes are told to do.

use access::{Caller, Routes};
use api::{
    ids::{Digest, NodeId, NodeName},
    problem::Problem,
    rights::Action,
    status::{DrainNode, MAX_DRAIN_REASON_BYTES},
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
        .route(Action::NodeReboot, routes!(reboot))
        .route(Action::NodeArm, routes!(arm))
        .route(Action::NodeDrain, routes!(drain, undrain))
}

impl Fleet {
    /// Orders an upgrade of a node's agent for somebody, who is written down before: see
    /// [`Self::upgrade_agent`]. `title`: what failed if it is refused.
    ///
    /// # Errors
    /// Status 409 if the agent is not connected.
    pub async fn order_upgrade(
        &self,
        caller: &Caller,
        title: String,
        id: NodeId,
        (digest, size): (Digest, u64),
    ) -> Result<(), Refusal> {
        write_ahead(self, id, &title).await?;
        let reason = format!("asked for by {}", caller.principal.name);
        let told = self.upgrade_agent(id, digest, size, &reason).await;
        told.map_err(|error| refuse_order(title, &error))
    }
}

/// Reboots a node whose agent is connected, and arms it for the boot that follows.
#[utoipa::path(
    post, path = "/v1/nodes/{name}/reboot", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = ACCEPTED), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem))
)]
async fn reboot(
    State(fleet): State<Fleet>,
    caller: Caller,
    Path(name): Path<NodeName>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot reboot {name}");
    let id = fleet.find(&title, &name)?;
    write_ahead(&fleet, id, &title).await?;
    let told = fleet.reboot(id, &format!("asked for by {}", caller.principal.name)).await;
    told.map_err(|error| refuse_order(title, &error))?;
    Ok(StatusCode::ACCEPTED)
}

/// Writes down who asks for an order that is out before anything of it is on disk.
async fn write_ahead(fleet: &Fleet, id: NodeId, title: &str) -> Result<(), Refusal> {
    // What cannot be told has no row of its own each time.
    let connected = fleet.check_connected(id);
    connected.map_err(|error| refuse_order(title.to_owned(), &error))?;
    let ahead = database::outbox::write_ahead(&fleet.inner.database).await;
    ahead.map_err(|error| Refusal::internal(title.to_owned(), &error))
}

fn refuse_order(title: String, error: &FleetError) -> Refusal {
    match error {
        FleetError::NotConnected { .. } => {
            Refusal::new(StatusCode::CONFLICT, title, error.to_string())
        }
        error => Refusal::internal(title, error),
    }
}

/// Allows a node to get a boot token again.
#[utoipa::path(
    post, path = "/v1/nodes/{name}/arm", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem))
)]
async fn arm(
    State(fleet): State<Fleet>,
    caller: Caller,
    Path(name): Path<NodeName>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot arm {name}");
    let id = fleet.find(&title, &name)?;
    let armed = fleet.arm(id, &format!("asked for by {}", caller.principal.name)).await;
    armed.map_err(|error| Refusal::internal(title, &error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Keeps new work away from a node. What runs there goes on.
#[utoipa::path(
    post, path = "/v1/nodes/{name}/drain", tag = "nodes", request_body = DrainNode,
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = NO_CONTENT))
)]
async fn drain(
    State(fleet): State<Fleet>,
    caller: Caller,
    Path(name): Path<NodeName>,
    body: BodyOf<DrainNode>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot drain {name}");
    let id = fleet.find(&title, &name)?;
    let request = body.checked()?;
    let reason = request.reason.trim();
    let is_line = !reason.is_empty() && !reason.chars().any(char::is_control);
    if !is_line || reason.len() > MAX_DRAIN_REASON_BYTES {
        let why = format!("the reason must be one line of 1 to {MAX_DRAIN_REASON_BYTES} bytes");
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, title, why));
    }
    let drained = fleet.drain(id, reason.to_owned(), caller.principal.name).await;
    drained.map_err(|error| Refusal::internal(title, &error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets new work go to a node again.
#[utoipa::path(
    delete, path = "/v1/nodes/{name}/drain", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem))
)]
async fn undrain(
    State(fleet): State<Fleet>,
    caller: Caller,
    Path(name): Path<NodeName>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot undrain {name}");
    let id = fleet.find(&title, &name)?;
    let undrained = fleet.undrain(id, caller.principal.name).await;
    undrained.map_err(|error| Refusal::internal(title, &error))?;
    Ok(StatusCode::NO_CONTENT)
}
