//! `/v1/nodes/{name}/explain`: every value of a node, and whence it is.

use access::{Caller, Routes};
use api::{ids::NodeName, machine::Explained, problem::Problem, rights::Action};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use rest::Refusal;
use utoipa_axum::routes;

use super::nodes::not_found;
use crate::{provisioner::Provisioner, public::Sight, resolve::Profiles};

pub(super) fn routes() -> Routes<Provisioner> {
    Routes::new().route(Action::NodeRead, routes!(explain))
}

/// A node with its profiles applied, and where each value comes from.
#[utoipa::path(
    get, path = "/v1/nodes/{name}/explain", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = OK, body = Explained), (status = CONFLICT, body = Problem))
)]
async fn explain(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Path(name): Path<NodeName>,
) -> Result<Json<Explained>, Refusal> {
    let title = "cannot explain the node";
    let view = provisioner.view();
    let record = view.cluster.nodes.get(&name).ok_or_else(|| not_found(title, &[&name]))?;
    if let Some(cause) = &record.unreadable {
        let why = format!("the specification of {name} in the database cannot be read: {cause}");
        return Err(Refusal::new(StatusCode::CONFLICT, title, why));
    }
    let profiles = Profiles::of_records(&view.cluster.profiles);
    let (resolved, origins) = profiles.explain(&record.spec).map_err(|error| {
        Refusal::new(
            StatusCode::CONFLICT,
            title,
            format!("the profiles of {name} cannot be applied: {error}"),
        )
    })?;
    let explained = Explained { name, resolved, origins };
    Ok(Json(Sight::of(&caller.principal).of_thing(explained)))
}
