//! What nodes fetch over the fleet port: their rendered overlays, and the program of a newer agent.
//! The server merges these routes into it.

use axum::{
    Extension, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use fleet::NodeIdentity;

use rest::Refusal;

use crate::provisioner::{OverlaySet, OverlaysError, Provisioner};

impl Provisioner {
    /// `GET /node/v1/overlays/boot` and `/runtime`: the tar of [`api::overlay`] for the
    /// node that asks.
    ///
    /// Its requests carry a [`NodeIdentity`], which fleet puts there; a node gets its own overlays
    /// and no other's.
    pub fn node_routes(&self) -> Router {
        Router::new()
            .route("/node/v1/agent", get(agent))
            .route("/node/v1/overlays/boot", get(boot))
            .route("/node/v1/overlays/runtime", get(runtime))
            .with_state(self.clone())
    }
}

/// The program that a node's agent shall become. It is verified by the digest of the order.
async fn agent(State(provisioner): State<Provisioner>) -> Response {
    let title = "cannot hand out the substrate program";
    match tokio::task::spawn_blocking(move || provisioner.0.images.substrate()).await {
        Ok(Ok(program)) => {
            ([(header::CONTENT_TYPE, "application/octet-stream")], program).into_response()
        }
        Ok(Err(error)) => Refusal::internal(title, &error).into_response(),
        Err(error) => Refusal::internal(title, &error).into_response(),
    }
}

async fn boot(
    State(provisioner): State<Provisioner>,
    Extension(node): Extension<NodeIdentity>,
) -> Response {
    answer(provisioner, node, OverlaySet::Boot).await
}

async fn runtime(
    State(provisioner): State<Provisioner>,
    Extension(node): Extension<NodeIdentity>,
) -> Response {
    answer(provisioner, node, OverlaySet::Runtime).await
}

async fn answer(provisioner: Provisioner, node: NodeIdentity, set: OverlaySet) -> Response {
    let view = provisioner.view();
    let title = "cannot render the node's overlays";
    if node.in_conflict {
        let why = format!(
            "two claim to be {0}, and it gets no overlays until an admin decides; `bedplate node show {0}` \
             tells who they are",
            node.name
        );
        return Refusal::new(StatusCode::FORBIDDEN, title, why).into_response();
    }
    let Some(record) = view.cluster.by_id(node.id).cloned() else {
        let why = format!("node {} does not exist any more", node.id);
        return Refusal::new(StatusCode::NOT_FOUND, title, why).into_response();
    };
    let (name, asked) = (record.name.clone(), record.name.clone());
    // It is never closed. The turn belongs to the work: a node that gives up leaves it running.
    let turn = provisioner.0.renderings.clone().acquire_owned().await;
    let renderer = provisioner.clone();
    let rendered = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let rendered = renderer.archive(&asked, set);
        let cause = rendered.as_ref().err().map(|error| rest::causes(error));
        renderer.hold(&record, set.into(), cause);
        rendered
    })
    .await;
    match rendered {
        Ok(Ok(archive)) => ([(header::CONTENT_TYPE, "application/x-tar")], archive).into_response(),
        Ok(Err(error)) => {
            tracing::error!("the overlays of {name} cannot be rendered: {}", rest::causes(&error));
            let status = match error {
                OverlaysError::UnknownNode { .. } => StatusCode::NOT_FOUND,
                OverlaysError::Render(_) | OverlaysError::HostKey(_) => {
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            };
            Refusal::new(status, title, rest::causes(&error)).into_response()
        }
        Err(error) => Refusal::internal(title, &error).into_response(),
    }
}
