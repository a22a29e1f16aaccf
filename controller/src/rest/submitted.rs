//! `GET /v1/workflows/{id}/document`: the document of a workflow, byte for byte as
//! it was handed in.

use access::Caller;
use api::problem::Problem;
use axum::{
    extract::{Path, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use rest::Refusal;

use super::find;
use crate::Controller;

/// The document of a workflow as it was handed in.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/document", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it")),
    responses((status = OK, body = String, content_type = "application/yaml"),
        (status = NOT_FOUND, body = Problem))
)]
pub(super) async fn document(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let title = "cannot show the document";
    let id = find(&controller, &caller, &wanted, title).await?.summary.id;
    let document = controller.0.store.document(id).await;
    let document = document.map_err(|error| Refusal::internal(title, &error))?;
    let document = document.ok_or_else(|| {
        let why = format!("workflow {id} was forgotten just now");
        Refusal::new(StatusCode::NOT_FOUND, title, why)
    })?;
    Ok(([(header::CONTENT_TYPE, "application/yaml")], document))
}
