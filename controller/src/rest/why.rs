//! `GET /v1/workflows/{id}/why`: what the stages of a workflow wait for.

use access::Caller;
use api::{problem::Problem, workflow::Waiting};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use document::plan::StageId;
use rest::Refusal;
use serde::Deserialize;

use super::{find, log::stage_of};
use crate::Controller;

#[derive(Debug, Deserialize)]
pub(super) struct WhyParams {
    stage: Option<String>,
}

/// Why a workflow goes no faster: image pulls and how far they are, resources that are missing,
/// places in the queue.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/why", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it"),
        ("stage" = Option<String>, Query,
            description = "Only of the job of this name, and of what it waits for")),
    responses((status = OK, body = [Waiting]), (status = NOT_FOUND, body = Problem))
)]
pub(super) async fn why(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
    Query(of): Query<WhyParams>,
) -> Result<Json<Vec<Waiting>>, Refusal> {
    let title = "cannot tell why";
    let view = find(&controller, &caller, &wanted, title).await?;
    let of = of.stage.as_deref().map(|name| stage_of(&view, Some(name), title)).transpose()?;
    let id = view.summary.id;
    let pulls = controller.0.images.pulls().of_group(id.0).into_iter();
    let pulls = pulls.map(|(stage, words)| (StageId(stage), words)).collect();
    let of = of.map(|stage| StageId(stage.index));
    let waiting = controller.view().why(id, of, &pulls, crate::clock::now());
    Ok(Json(waiting.unwrap_or_default()))
}
