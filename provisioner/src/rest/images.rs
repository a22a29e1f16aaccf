//! `/v1/images` and `/v1/operations`.

use std::pin::pin;

use access::{Caller, Routes};
use api::{
    ids::ImageName,
    image::{Image, ImportImage, Operation},
    problem::Problem,
    rights::Action,
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use rest::{Body, Page, PageParams, Paging, Refusal, causes};
use tokio::sync::MutexGuard;
use utoipa_axum::routes;

use super::watch;
use crate::{
    image_use::RetentionReason,
    images::{CancelError, DeleteError, Deleting, Images, StartError},
    provisioner::Provisioner,
};

pub(super) fn routes() -> Routes<Provisioner> {
    Routes::new()
        .route(Action::ImageList, routes!(list))
        .route(Action::ImageImport, routes!(import))
        .route(Action::ImageRead, routes!(show))
        .route(Action::ImageDelete, routes!(delete))
        .route(Action::ImageDelete, routes!(delete_version))
        .route(Action::OperationList, routes!(list_operations))
        .route(Action::OperationRead, routes!(show_operation))
        .route(Action::OperationRead, routes!(watch::operation))
        .route(Action::OperationCancel, routes!(cancel_operation))
}

/// Images with their versions.
#[utoipa::path(
    get, path = "/v1/images", tag = "images", params(PageParams),
    responses((status = OK, body = [Image]), (status = BAD_REQUEST, body = Problem))
)]
async fn list(
    State(provisioner): State<Provisioner>,
    paging: Paging,
) -> Result<Page<Image>, Refusal> {
    let table = provisioner.0.images.table();
    let page =
        paging.cut("images", table.names(), |name| (*name).clone(), |name, after| name > after)?;
    let shown = page.rows.into_iter().filter_map(|name| provisioner.0.images.show(&table, name));
    Ok(Page { rows: shown.collect(), next: page.next })
}

/// Starts an import. It goes on when the client leaves, and after a restart of the server.
#[utoipa::path(
    post, path = "/v1/images", tag = "images", request_body = ImportImage,
    responses((status = ACCEPTED, body = Operation), (status = BAD_REQUEST, body = Problem),
        (status = CONFLICT, body = Problem), (status = TOO_MANY_REQUESTS, body = Problem))
)]
async fn import(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Body(request): Body<ImportImage>,
) -> Result<(StatusCode, Json<Operation>), Refusal> {
    let title = format!("cannot import {}", api::sources::shown(&request.source));
    match provisioner.0.images.start(request, &caller.principal.name).await {
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
    State(provisioner): State<Provisioner>,
    Path(name): Path<ImageName>,
) -> Result<Json<Image>, Refusal> {
    let images = &provisioner.0.images;
    let found = images.show(&images.table(), &name);
    found.map(Json).ok_or_else(|| not_found("cannot show the image", &name, None))
}

/// Deletes an image with all its versions. Refused while a node runs one, is booting one, or boots one next.
#[utoipa::path(
    delete, path = "/v1/images/{name}", tag = "images",
    params(("name" = inline(ImageName), Path, description = "Name of the image")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem))
)]
async fn delete(
    State(provisioner): State<Provisioner>,
    Path(name): Path<ImageName>,
) -> Result<StatusCode, Refusal> {
    let turn = provisioner.0.turn.lock().await;
    let title = format!("cannot delete image {name}");
    let table = provisioner.0.images.table();
    if !table.names().contains(&name) {
        return Err(not_found(&title, &name, None));
    }
    let deleting = deleting(&provisioner, &title).await?;
    // An import may have ended while it was waited for.
    let versions: Vec<u32> = provisioner.0.images.table().versions(&name).collect();
    refuse_retained(&title, provisioner.retention_reason(&name, &versions))?;
    let deleted = carry_out(&provisioner.0.images, turn, name, versions, deleting).await;
    deleted.map_err(|error| Refusal::internal(title, &error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes one version of an image. Refused while a node runs it, is booting it, or boots it next.
#[utoipa::path(
    delete, path = "/v1/images/{name}/versions/{version}", tag = "images",
    params(("name" = inline(ImageName), Path, description = "Name of the image"),
        ("version" = u32, Path, description = "Number of the version")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem))
)]
async fn delete_version(
    State(provisioner): State<Provisioner>,
    Path((name, version)): Path<(ImageName, u32)>,
) -> Result<StatusCode, Refusal> {
    let turn = provisioner.0.turn.lock().await;
    let title = format!("cannot delete image {name}@{version}");
    let is_absent =
        || !provisioner.0.images.table().versions(&name).any(|present| present == version);
    if is_absent() {
        return Err(not_found(&title, &name, Some(version)));
    }
    let deleting = deleting(&provisioner, &title).await?;
    // Another deletion may have ended while it was waited for.
    if is_absent() {
        return Err(not_found(&title, &name, Some(version)));
    }
    refuse_retained(&title, provisioner.retention_reason(&name, &[version]))?;
    let deleted = carry_out(&provisioner.0.images, turn, name, vec![version], deleting).await;
    deleted.map_err(|error| Refusal::internal(title, &error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes versions, and gives the server's turn back once nobody can be given them any more: changes of
/// nodes wait for no transaction of it.
async fn carry_out(
    images: &Images,
    turn: MutexGuard<'_, ()>,
    name: ImageName,
    versions: Vec<u32>,
    deleting: Deleting,
) -> Result<(), DeleteError> {
    let numbers: Vec<String> = versions.iter().map(u32::to_string).collect();
    access::record_object(&format!("image {name}@{}", numbers.join(",")));
    let mut table = images.watch();
    let (of, gone) = (name.clone(), versions.clone());
    let mut deletion = pin!(images.delete(name, versions, deleting));
    let are_gone = async {
        let _ = table
            .wait_for(|table| !table.versions(&of).any(|version| gone.contains(&version)))
            .await;
    };
    tokio::select! {
        biased;
        done = &mut deletion => return done,
        () = are_gone => {}
    }
    drop(turn);
    deletion.await
}

fn not_found(title: &str, name: &ImageName, version: Option<u32>) -> Refusal {
    let version = version.map(|version| format!("@{version}")).unwrap_or_default();
    let why =
        format!("image {name}{version} does not exist; `bedplate image list` shows those that do");
    Refusal::new(StatusCode::NOT_FOUND, title, why)
}

/// Keeps boots from choosing a version, and others from changing which there are, until the guard is
/// dropped.
async fn deleting(provisioner: &Provisioner, title: &str) -> Result<Deleting, Refusal> {
    provisioner.0.images.deleting().await.ok_or_else(|| {
        let why = "boots of nodes are being written down, or an import or another deletion, and the server's \
                   database takes its time; its log says why: try again";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, why)
    })
}

fn refuse_retained(title: &str, kept: Result<(), RetentionReason>) -> Result<(), Refusal> {
    kept.map_err(|kept| Refusal::new(StatusCode::CONFLICT, title, kept.to_string()))
}

/// Long operations, newest first.
#[utoipa::path(
    get, path = "/v1/operations", tag = "operations", params(PageParams),
    responses((status = OK, body = [Operation]), (status = BAD_REQUEST, body = Problem))
)]
async fn list_operations(
    State(provisioner): State<Provisioner>,
    paging: Paging,
) -> Result<Page<Operation>, Refusal> {
    let rows = provisioner.0.images.operations();
    paging.cut("operations", rows, |operation| operation.id, |id, after| id < after)
}

/// One long operation.
#[utoipa::path(
    get, path = "/v1/operations/{id}", tag = "operations",
    params(("id" = u64, Path, description = "Number of the operation")),
    responses((status = OK, body = Operation), (status = NOT_FOUND, body = Problem))
)]
async fn show_operation(
    State(provisioner): State<Provisioner>,
    Path(id): Path<u64>,
) -> Result<Json<Operation>, Refusal> {
    let found = provisioner.0.images.operation(id).ok_or_else(|| watch::unknown_operation(id))?;
    let operation = found.borrow().clone();
    Ok(Json(operation))
}

/// Ends a long operation that waits or runs, and answers with how it ended: as failed, `cancelled by …`. What it
/// has pulled is removed as after any failure.
#[utoipa::path(
    post, path = "/v1/operations/{id}/cancel", tag = "operations",
    params(("id" = u64, Path, description = "Number of the operation")),
    responses((status = OK, body = Operation), (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem), (status = SERVICE_UNAVAILABLE, body = Problem))
)]
async fn cancel_operation(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Path(id): Path<u64>,
) -> Result<Json<Operation>, Refusal> {
    match provisioner.0.images.cancel(id, &caller.principal.name).await {
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

#[cfg(test)]
mod tests;
