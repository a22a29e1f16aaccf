//! `/v1/nodes/{name}/inventory`, `/v1/nodes/{name}/topology.xml`: what nodes told of
//! their hardware.

use access::{Caller, Routes, Visibility};
use api::{ids::NodeName, inventory::Inventory, problem::Problem, rights::Action};
use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use fleet::StoreError;
use rest::{Refusal, causes};
use utoipa_axum::routes;

use super::{Roles, is_damaged};

pub(super) fn routes() -> Routes<Roles> {
    Routes::new()
        .route(Action::NodeRead, routes!(inventory))
        .route(Action::NodeRead, routes!(topology))
}

/// A damaged inventory is as good as none until its node connects again.
fn refuse(title: &str, name: &NodeName, sight: Visibility, error: &StoreError) -> Refusal {
    if !is_damaged(error) {
        return Refusal::internal(title, error);
    }
    let why = format!(
        "what {name} reported cannot be read from the database ({}); it reports again when its agent \
         connects",
        sight.of_cause(causes(error))
    );
    Refusal::new(StatusCode::NOT_FOUND, title, why)
}

/// The hardware that a node reported last.
#[utoipa::path(
    get, path = "/v1/nodes/{name}/inventory", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = OK, body = Inventory), (status = NOT_FOUND, body = Problem))
)]
async fn inventory(
    State(Roles { hardware, fleet }): State<Roles>,
    caller: Caller,
    Path(name): Path<NodeName>,
) -> Result<Json<Inventory>, Refusal> {
    let title = "cannot show the inventory";
    let id = fleet.find(title, &name)?;
    let sight = Visibility::of(&caller.principal);
    let found = hardware.inventory(id).await;
    let found = found.map_err(|error| refuse(title, &name, sight, &error))?;
    found.map(|inventory| Json(sight.of_thing(inventory))).ok_or_else(|| {
        let why =
            format!("{name} has not reported its hardware yet; it does so when its agent connects");
        Refusal::new(StatusCode::NOT_FOUND, title, why)
    })
}

/// The topology of a node as hwloc's XML, which `lstopo -i` opens.
#[utoipa::path(
    get, path = "/v1/nodes/{name}/topology.xml", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = OK, body = String, content_type = "application/xml"), (status = NOT_FOUND, body = Problem))
)]
async fn topology(
    State(Roles { hardware, fleet }): State<Roles>,
    caller: Caller,
    Path(name): Path<NodeName>,
) -> Result<Response, Refusal> {
    let title = "cannot show the topology";
    let id = fleet.find(title, &name)?;
    let sight = Visibility::of(&caller.principal);
    let found = hardware.topology(id).await;
    let found = found.map_err(|error| refuse(title, &name, sight, &error))?;
    let xml = found.ok_or_else(|| {
        let why =
            format!("{name} has not sent its topology yet; its agent does so after the inventory");
        Refusal::new(StatusCode::NOT_FOUND, title, why)
    })?;
    let xml = sight.of_topology(xml);
    Ok(([(header::CONTENT_TYPE, "application/xml")], xml).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_quoted_to_admins_alone() {
        let damaged = || {
            let (subject, source) =
                ("inventory of n1".to_owned(), "invalid type: string MARKER".into());
            StoreError::Decode { subject, source }
        };
        let name: NodeName = "n1".parse().unwrap();
        let told = |sight: Visibility| {
            refuse("cannot show the inventory", &name, sight, &damaged()).0.detail
        };
        assert!(told(Visibility::Full).contains("MARKER"));
        let public = told(Visibility::Public);
        assert!(!public.contains("MARKER") && public.contains("an admin is told why"), "{public}");
    }
}
