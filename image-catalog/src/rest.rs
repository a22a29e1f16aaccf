//! `/v1/images` and `/v1/operations`, each route with its action.

use std::{convert::Infallible, sync::Arc, time::Duration};

use access::{Caller, Routes};
use api::{
    ids::ImageName,
    image::{Image, ImportImage, Operation, OperationState},
    problem::Problem,
    rights::Action,
};
use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream::{self, StreamExt as _};
use rest::{Body, Page, PageParams, Paging, Refusal, causes, last_event_id};
use utoipa_axum::routes;

use crate::os::{CancelError, DeletionRefused, NodeImages, OsImages, StartError};

/// A comment goes out after this time without an event, so that a dead connection shows.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
struct RestState {
    images: OsImages,
    users: Arc<dyn NodeImages>,
}

/// The routes of OS images and operations. `users`: who has versions in use.
pub(crate) fn routes(images: OsImages, users: Arc<dyn NodeImages>) -> Routes {
    Routes::new()
        .route(Action::ImageList, routes!(list))
        .route(Action::ImageImport, routes!(import))
        .route(Action::ImageRead, routes!(show))
        .route(Action::ImageDelete, routes!(delete))
        .route(Action::ImageDelete, routes!(delete_version))
        .route(Action::OperationList, routes!(list_operations))
        .route(Action::OperationRead, routes!(show_operation))
        .route(Action::OperationRead, routes!(operation))
        .route(Action::OperationCancel, routes!(cancel_operation))
        .with_state(RestState { images, users })
}

/// Images with their versions.
#[utoipa::path(
    get, path = "/v1/images", tag = "images", params(PageParams),
    responses((status = OK, body = [Image]), (status = BAD_REQUEST, body = Problem))
)]
async fn list(State(state): State<RestState>, paging: Paging) -> Result<Page<Image>, Refusal> {
    let table = state.images.table();
    let page =
        paging.cut("images", table.names(), |name| (*name).clone(), |name, after| name > after)?;
    let shown = page.rows.into_iter().filter_map(|name| state.images.show(&table, name));
    Ok(Page { rows: shown.collect(), next: page.next })
}

/// Starts an import. It goes on when the client leaves, and after a restart of the server.
#[utoipa::path(
    post, path = "/v1/images", tag = "images", request_body = ImportImage,
    responses((status = ACCEPTED, body = Operation), (status = BAD_REQUEST, body = Problem),
        (status = CONFLICT, body = Problem), (status = TOO_MANY_REQUESTS, body = Problem))
)]
async fn import(
    State(state): State<RestState>,
    caller: Caller,
    Body(request): Body<ImportImage>,
) -> Result<(StatusCode, Json<Operation>), Refusal> {
    let title = format!("cannot import {}", api::sources::shown(&request.source));
    match state.images.start(request, &caller.principal.name).await {
        Ok(operation) => Ok((StatusCode::ACCEPTED, Json(operation))),
        Err(error) => {
            let status = match error {
                StartError::Source(_) | StartError::OtherSystem(_) => StatusCode::BAD_REQUEST,
                StartError::OtherArchitecture(_) => StatusCode::CONFLICT,
                StartError::TooMany => StatusCode::TOO_MANY_REQUESTS,
                StartError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            Err(Refusal::new(status, title, causes(&error)))
        }
    }
}

/// One image with its versions.
#[utoipa::path(
    get, path = "/v1/images/{name}", tag = "images",
    params(("name" = inline(ImageName), Path, description = "Name of the image")),
    responses((status = OK, body = Image), (status = NOT_FOUND, body = Problem))
)]
async fn show(
    State(state): State<RestState>,
    Path(name): Path<ImageName>,
) -> Result<Json<Image>, Refusal> {
    let found = state.images.show(&state.images.table(), &name);
    found.map(Json).ok_or_else(|| {
        let unknown = DeletionRefused::Unknown { name, version: None };
        Refusal::new(StatusCode::NOT_FOUND, "cannot show the image", unknown.to_string())
    })
}

/// Deletes an image with all its versions. Refused while a node runs one, is booting one, or
/// boots one next.
#[utoipa::path(
    delete, path = "/v1/images/{name}", tag = "images",
    params(("name" = inline(ImageName), Path, description = "Name of the image")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem))
)]
async fn delete(
    State(state): State<RestState>,
    Path(name): Path<ImageName>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot delete image {name}");
    carry_out_deletion(&state, title, name, None).await
}

/// Deletes one version of an image. Refused while a node runs it, is booting it, or boots it next.
#[utoipa::path(
    delete, path = "/v1/images/{name}/versions/{version}", tag = "images",
    params(("name" = inline(ImageName), Path, description = "Name of the image"),
        ("version" = u32, Path, description = "Number of the version")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem))
)]
async fn delete_version(
    State(state): State<RestState>,
    Path((name, version)): Path<(ImageName, u32)>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot delete image {name}@{version}");
    carry_out_deletion(&state, title, name, Some(version)).await
}

async fn carry_out_deletion(
    state: &RestState,
    title: String,
    name: ImageName,
    version: Option<u32>,
) -> Result<StatusCode, Refusal> {
    match state.images.delete_unused(state.users.as_ref(), name, version).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(DeletionRefused::Failed(error)) => Err(Refusal::internal(title, &error)),
        Err(refused) => {
            let status = match refused {
                DeletionRefused::Unknown { .. } => StatusCode::NOT_FOUND,
                DeletionRefused::Busy => StatusCode::SERVICE_UNAVAILABLE,
                DeletionRefused::InUse(_) | DeletionRefused::Failed(_) => StatusCode::CONFLICT,
            };
            Err(Refusal::new(status, title, refused.to_string()))
        }
    }
}

/// Long operations, newest first.
#[utoipa::path(
    get, path = "/v1/operations", tag = "operations", params(PageParams),
    responses((status = OK, body = [Operation]), (status = BAD_REQUEST, body = Problem))
)]
async fn list_operations(
    State(state): State<RestState>,
    paging: Paging,
) -> Result<Page<Operation>, Refusal> {
    let rows = state.images.operations();
    paging.cut("operations", rows, |operation| operation.id, |id, after| id < after)
}

/// One long operation.
#[utoipa::path(
    get, path = "/v1/operations/{id}", tag = "operations",
    params(("id" = u64, Path, description = "Number of the operation")),
    responses((status = OK, body = Operation), (status = NOT_FOUND, body = Problem))
)]
async fn show_operation(
    State(state): State<RestState>,
    Path(id): Path<u64>,
) -> Result<Json<Operation>, Refusal> {
    let found = state.images.operation(id).ok_or_else(|| unknown_operation(id))?;
    let operation = found.borrow().clone();
    Ok(Json(operation))
}

/// Ends a long operation that waits or runs, and answers with how it ended: as failed,
/// `cancelled by …`. What it has pulled is removed as after any failure.
#[utoipa::path(
    post, path = "/v1/operations/{id}/cancel", tag = "operations",
    params(("id" = u64, Path, description = "Number of the operation")),
    responses((status = OK, body = Operation), (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem), (status = SERVICE_UNAVAILABLE, body = Problem))
)]
async fn cancel_operation(
    State(state): State<RestState>,
    caller: Caller,
    Path(id): Path<u64>,
) -> Result<Json<Operation>, Refusal> {
    match state.images.cancel(id, &caller.principal.name).await {
        Ok(operation) => Ok(Json(operation)),
        Err(error) => {
            let status = match error {
                CancelError::Unknown(_) => StatusCode::NOT_FOUND,
                CancelError::IsOver(_) => StatusCode::CONFLICT,
                CancelError::NotWritten(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            Err(Refusal::new(status, format!("cannot cancel operation {id}"), error.to_string()))
        }
    }
}

/// An operation now, at each step, and at its end; then the stream ends. With `Last-Event-ID` from
/// the step after that.
#[utoipa::path(
    get, path = "/v1/operations/{id}/events", tag = "operations",
    params(("id" = u64, Path, description = "Number of the operation"),
        ("last-event-id" = Option<String>, Header, description = "Id of the last event that was seen")),
    responses((status = OK, body = Operation, content_type = "text/event-stream"),
        (status = NO_CONTENT, description = "It is over, and its end was seen"),
        (status = NOT_FOUND, body = Problem))
)]
async fn operation(
    State(state): State<RestState>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut receiver = state.images.operation(id).ok_or_else(|| unknown_operation(id))?;
    receiver.mark_changed();
    let seen = last_event_id(&headers).map(str::to_owned);
    let now = receiver.borrow().clone();
    let is_over = !matches!(now.state, OperationState::Running { .. });
    if is_over && seen == Some(rest::content_id(&now)) {
        // A browser asks again and again where a stream just ends; this answer makes it stop.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let stopped = state.images.shutdown().clone().cancelled_owned();
    let steps = stream::unfold((Some(receiver), seen), |(receiver, seen)| async move {
        let mut receiver = receiver?;
        loop {
            receiver.changed().await.ok()?;
            let operation = receiver.borrow_and_update().clone();
            let goes_on = matches!(operation.state, OperationState::Running { .. });
            let id = rest::content_id(&operation);
            if Some(&id) != seen.as_ref() {
                let event = Ok::<_, Infallible>(event(&operation).id(id));
                return Some((event, (goes_on.then_some(receiver), None)));
            }
            if !goes_on {
                return None;
            }
        }
    });
    Ok(Sse::new(steps.take_until(stopped))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

fn unknown_operation(id: u64) -> Refusal {
    let why = "there is no such operation; `bedplate operation list` shows those that are kept";
    Refusal::new(StatusCode::NOT_FOUND, format!("cannot show operation {id}"), why)
}

fn event(operation: &Operation) -> Event {
    // Serialising the API's own types into memory does not fail; a comment would be
    // ignored by clients.
    Event::default()
        .json_data(operation)
        .unwrap_or_else(|error| Event::default().comment(error.to_string()))
}
