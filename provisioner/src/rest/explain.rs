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
use crate::{
    provisioner::Provisioner,
    public::Sight,
    resolve::{Profiles, ResolveError},
};

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
    let (view, sight) = (provisioner.view(), Sight::of(&caller.principal));
    let record = view.cluster.nodes.get(&name).ok_or_else(|| not_found(title, &[&name]))?;
    if let Some(cause) = &record.unreadable {
        let cause = sight.of_cause(cause.clone());
        let why = format!("the specification of {name} in the database cannot be read: {cause}");
        return Err(Refusal::new(StatusCode::CONFLICT, title, why));
    }
    let profiles = Profiles::of_records(&view.cluster.profiles);
    let (resolved, origins) = profiles.explain(&record.spec).map_err(|error| {
        let why = format!("the profiles of {name} cannot be applied: {}", cause_of(sight, &error));
        Refusal::new(StatusCode::CONFLICT, title, why)
    })?;
    let explained = Explained { name, resolved, origins };
    Ok(Json(sight.of_thing(explained)))
}

fn cause_of(sight: Sight, error: &ResolveError) -> String {
    match error {
        // They quote the values that cannot be read.
        ResolveError::UnreadableProfile { .. } | ResolveError::Merge { .. } => {
            sight.of_cause(error.to_string())
        }
        ResolveError::UnknownProfile { .. } | ResolveError::Cycle { .. } | ResolveError::TooMany => {
            error.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_to_admins_alone() {
        let cause = || "invalid type: string \"MARKER\"".to_owned();
        let error = ResolveError::Merge { cause: cause() };
        assert!(cause_of(Sight::Full, &error).contains("MARKER"));
        assert_eq!(cause_of(Sight::Public, &error), "an admin is told why");
        let plain = cause_of(Sight::Public, &ResolveError::TooMany);
        assert_eq!(plain, ResolveError::TooMany.to_string());
    }
}
