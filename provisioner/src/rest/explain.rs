//! `/v1/nodes/{name}/explain`: every value of a node, and whence it is.

use access::{Caller, Routes, Visibility};
use api::{ids::NodeName, machine::Explained, problem::Problem, rights::Action};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use fleet::unknown_nodes;
use rest::Refusal;
use utoipa_axum::routes;

use crate::{
    provisioner::Provisioner,
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
    let (view, visibility) = (provisioner.view(), Visibility::of(&caller.principal));
    let record = view.cluster.nodes.get(&name).ok_or_else(|| unknown_nodes(title, &[&name]))?;
    if let Some(cause) = &record.unreadable {
        let cause = visibility.of_cause(cause.clone());
        let why = format!("the specification of {name} in the database cannot be read: {cause}");
        return Err(Refusal::new(StatusCode::CONFLICT, title, why));
    }
    let profiles = Profiles::of_records(&view.cluster.profiles);
    let (resolved, origins) = profiles.explain(&record.spec).map_err(|error| {
        let why =
            format!("the profiles of {name} cannot be applied: {}", cause_of(visibility, &error));
        Refusal::new(StatusCode::CONFLICT, title, why)
    })?;
    let explained = Explained { name, resolved, origins };
    Ok(Json(visibility.of_thing(explained)))
}

fn cause_of(visibility: Visibility, error: &ResolveError) -> String {
    match error {
        // They quote the values that cannot be read.
        ResolveError::UnreadableProfile { .. } | ResolveError::Merge { .. } => {
            visibility.of_cause(error.to_string())
        }
        ResolveError::UnknownProfile { .. }
        | ResolveError::Cycle { .. }
        | ResolveError::TooMany => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use api::machine::{MachineSpec, Origin};

    use super::*;
    use crate::resolve::{collect_leaves, to_json};

    #[test]
    fn no_value_that_is_private_is_among_the_origins() {
        let spec: MachineSpec = serde_json::from_value(serde_json::json!({
            "comment": "left rack",
            "tags": {"root-password": "MARKER"},
            "bmc": {"address": "10.99.99.99"},
            "interfaces": {"lan0": {"mac": "52:54:00:aa:aa:03", "address": "10.1.0.1/24"}},
        }))
        .unwrap();
        let mut leaves = Vec::new();
        collect_leaves("", &to_json(&spec), &mut leaves);
        let origin = |(field, value)| Origin { field, value, origin: "node".to_owned() };
        let origins = leaves.into_iter().map(origin).collect();
        let explained = Explained { name: "n1".parse().unwrap(), resolved: spec, origins };
        let public = serde_json::to_string(&Visibility::Public.of_thing(explained)).unwrap();
        assert!(public.contains("left rack") && public.contains("10.1.0.1/24"), "{public}");
        for private in ["MARKER", "10.99.99.99", "52:54:00"] {
            assert!(!public.contains(private), "{public}");
        }
    }

    #[test]
    fn values_are_quoted_to_admins_alone() {
        let cause = || "invalid type: string \"MARKER\"".to_owned();
        let error = ResolveError::Merge { cause: cause() };
        assert!(cause_of(Visibility::Full, &error).contains("MARKER"));
        assert_eq!(cause_of(Visibility::Public, &error), "an admin is told why");
        let plain = cause_of(Visibility::Public, &ResolveError::TooMany);
        assert_eq!(plain, ResolveError::TooMany.to_string());
    }
}
