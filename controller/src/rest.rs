//! The REST routes of workflows, each with its action. `bedplate server` puts `access::layer` in
//! front, which tells who asks.
//!
//! A workflow is found by [`find`] alone, which asks whether the caller may do what the route is
//! for. One that somebody may not see is not there for them.

mod delete;
mod document;
mod idempotency;
mod list;
mod log;
mod moment;
mod pause;
mod room;
mod stream;
mod submitted;
mod usage;
mod watch;
mod why;

use ::document::plan::StageId;
use access::{Caller, Denied, Resource, Routes};
use api::{
    problem::Problem,
    rights::Action,
    run::WorkflowId,
    workflow::{Attempt, StartWorkflow, Workflow, WorkflowEvent, WorkflowSummary},
};
use axum::{
    Json,
    body::Body as HttpBody,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use database::outbox;
use rest::{Body, Page, Paging, Refusal};
use serde::Deserialize;
use tokio_util::io::ReaderStream;
use utoipa_axum::routes;

use crate::{
    Controller,
    conductor::{Command, ask},
    engine::WorkflowState,
    record::{RunKey, RunRow, WorkflowRow},
    results::TransferKind,
};

/// Workflows in one answer where the request names no limit.
const DEFAULT_LIMIT: u32 = 100;

/// Largest request, bytes: a document of the largest size with every character escaped.
const MAX_BODY_BYTES: usize = 2 * api::workflow::MAX_DOCUMENT_BYTES;

pub(crate) fn routes(controller: Controller) -> Routes {
    Routes::new()
        .route(Action::WorkflowStart, routes!(start))
        .route(Action::WorkflowCheck, routes!(document::validate))
        .route(Action::WorkflowCheck, routes!(document::render))
        .with_body_limit(MAX_BODY_BYTES)
        .route(Action::WorkflowList, routes!(list::list))
        .route(Action::WorkflowRead, routes!(show))
        .route(Action::WorkflowRead, routes!(show_validate))
        .route(Action::WorkflowRead, routes!(show_render))
        .route(Action::WorkflowDocument, routes!(submitted::document))
        .route(Action::WorkflowStop, routes!(stop))
        .route(Action::WorkflowDelete, routes!(delete::delete))
        .route(Action::WorkflowPause, routes!(pause::pause))
        .route(Action::WorkflowPause, routes!(pause::resume))
        .route(Action::WorkflowRead, routes!(usage::usage))
        .route(Action::WorkflowRead, routes!(why::why))
        .route(Action::WorkflowRead, routes!(history))
        .route(Action::WorkflowRead, routes!(attempts))
        .route(Action::WorkflowFile, routes!(file))
        .route(Action::WorkflowLog, routes!(log::log))
        .route(Action::WorkflowRead, routes!(watch::watch))
        .route(Action::WorkflowEnter, routes!(stream::stream))
        .with_state(controller)
}

/// Hands a workflow in. It is on disk when this is answered.
#[utoipa::path(
    post, path = "/v1/workflows", tag = "workflows", request_body = StartWorkflow,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 255 visible ASCII characters. The same request with the same key, by the \
                       same user and within 24 hours, starts nothing and is answered with the workflow \
                       that the first one started")),
    responses((status = CREATED, body = WorkflowSummary), (status = FORBIDDEN, body = Problem),
        (status = CONFLICT, body = Problem), (status = GONE, body = Problem),
        (status = UNPROCESSABLE_ENTITY, body = Problem), (status = TOO_MANY_REQUESTS, body = Problem))
)]
async fn start(
    State(controller): State<Controller>,
    caller: Caller,
    key: idempotency::IdempotencyKey,
    Body(request): Body<StartWorkflow>,
) -> Result<(StatusCode, Json<WorkflowSummary>), Refusal> {
    let draft = match document::check(&controller, &caller, key, request).await? {
        document::Request::New(draft) => draft,
        document::Request::Earlier(summary) => return Ok((StatusCode::CREATED, Json(summary))),
    };
    let document::Draft { submission, turn, lease, charge } = draft;
    let title = format!("cannot start workflow {}", submission.name);
    let id = submission.id;
    access::record_object(&format!("workflow {id}"));
    let told = outbox::current();
    let lease = Box::new(lease);
    let order = |done| Command::Submit { submission, turn, lease, charge, done, told };
    let taken = ask(&controller.0.orders, order).await;
    taken.map_err(|why| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title.clone(), document::not_answered(why))
    })?;
    let view = find(&controller, &caller, &id.to_string(), &title).await?;
    Ok((StatusCode::CREATED, Json(view.summary)))
}

/// A workflow that was on disk as not over, and that no view had soon: it came and ended between
/// two looks, and the store has its end.
async fn ended_meanwhile(
    controller: &Controller,
    id: WorkflowId,
    title: &str,
) -> Result<Option<Workflow>, Refusal> {
    let row = controller.0.store.workflow(id).await;
    match row.map_err(|error| Refusal::internal(title, &error))? {
        Some(WorkflowRow { ended: None, .. }) => {
            let why = "the workflow is on disk and not shown yet: try again in a moment";
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, why))
        }
        row => Ok(row.and_then(|row| row.view)),
    }
}

/// A workflow by its id, or the newest one of a name, if the caller may do to it what
/// the route is for.
async fn find(
    controller: &Controller,
    caller: &Caller,
    wanted: &str,
    title: &str,
) -> Result<Workflow, Refusal> {
    let unknown = || {
        let why = format!("there is no workflow {wanted:?}; `bedplate workflow list` shows them");
        Refusal::new(StatusCode::NOT_FOUND, title, why)
    };
    let id = match wanted.parse::<WorkflowId>() {
        Ok(id) => id,
        Err(_) => named(controller, caller, wanted, title).await?.ok_or_else(unknown)?,
    };
    // The view before the store: what is in it no more is over, and the store has all of it.
    let live = controller.view().workflow(id);
    let view = match live {
        Some(view) => Some(view),
        None => {
            let row = controller.0.store.workflow(id).await;
            let row = row.map_err(|error| Refusal::internal(title, &error))?;
            match row {
                // It was handed in a moment ago, and is on disk.
                Some(WorkflowRow { ended: None, unreadable: None, .. }) => {
                    match controller.0.views.find_soon(|view| view.workflow(id)).await {
                        Some(view) => Some(view),
                        None => ended_meanwhile(controller, id, title).await?,
                    }
                }
                Some(WorkflowRow { unreadable: Some(damage), view: None, owner, .. }) => {
                    caller
                        .authorize(Resource::Owned { owner: &owner.name })
                        .map_err(|_: Denied| unknown())?;
                    let why = format!("it cannot be read from the database ({})", damage.cause);
                    return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, title, why));
                }
                row => row.and_then(|row| row.view),
            }
        }
    };
    let mut view = view.ok_or_else(unknown)?;
    // Whoever may not is not told that it is there.
    let permitted = caller.authorize(Resource::Owned { owner: &view.summary.user });
    permitted.map_err(|_: Denied| unknown())?;
    for file in &mut view.files {
        if let Some((_, what, size)) = controller.0.results.brought(id, StageId(file.stage)) {
            (file.size, file.directory) = (Some(size), what == TransferKind::Directory);
        }
    }
    Ok(view)
}

/// The newest workflow of a name among those that the caller may do the route's action to.
async fn named(
    controller: &Controller,
    caller: &Caller,
    name: &str,
    title: &str,
) -> Result<Option<WorkflowId>, Refusal> {
    let rows = caller.visible()?;
    // The view still has those whose logs are not here yet, which may be older ones of that name.
    let is_it = |one: &&WorkflowState| {
        *one.name == *name && !one.state.is_ended() && rows.include(&one.owner.name)
    };
    let view = controller.view();
    if let Some(one) = view.workflow_states.values().rev().find(is_it) {
        return Ok(Some(one.id));
    }
    let newest = controller.0.store.newest(name, rows.owner()).await;
    newest.map_err(|error| Refusal::internal(title, &error))
}

/// A workflow with its stages.
#[utoipa::path(
    get, path = "/v1/workflows/{id}", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it")),
    responses((status = OK, body = Workflow), (status = NOT_FOUND, body = Problem))
)]
async fn show(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
) -> Result<Json<Workflow>, Refusal> {
    find(&controller, &caller, &wanted, "cannot show the workflow").await.map(Json)
}

/// The workflow of the name `validate`, which is a route of its own for another method.
#[utoipa::path(
    get, path = "/v1/workflows/validate", tag = "workflows",
    responses((status = OK, body = Workflow), (status = NOT_FOUND, body = Problem))
)]
async fn show_validate(
    State(controller): State<Controller>,
    caller: Caller,
) -> Result<Json<Workflow>, Refusal> {
    find(&controller, &caller, "validate", "cannot show the workflow").await.map(Json)
}

/// The workflow of the name `render`, likewise.
#[utoipa::path(
    get, path = "/v1/workflows/render", tag = "workflows",
    responses((status = OK, body = Workflow), (status = NOT_FOUND, body = Problem))
)]
async fn show_render(
    State(controller): State<Controller>,
    caller: Caller,
) -> Result<Json<Workflow>, Refusal> {
    find(&controller, &caller, "render", "cannot show the workflow").await.map(Json)
}

/// Ends a workflow: what runs gets SIGTERM, then SIGKILL; what waits is canceled.
#[utoipa::path(
    post, path = "/v1/workflows/{id}/stop", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it")),
    responses((status = OK, body = WorkflowSummary), (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem))
)]
async fn stop(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
) -> Result<Json<WorkflowSummary>, Refusal> {
    let title = "cannot stop the workflow";
    let summary = find(&controller, &caller, &wanted, title).await?.summary;
    let why = format!("stopped by {}", caller.principal.name);
    let (workflow, orders) = (summary.id, &controller.0.orders);
    access::record_object(&format!("workflow {workflow}"));
    let told = outbox::current();
    match ask(orders, |done| Command::Stop { workflow, why, done, told }).await {
        Ok(true) => find(&controller, &caller, &summary.id.to_string(), title)
            .await
            .map(|view| Json(view.summary)),
        Ok(false) => {
            let why = format!("{} is {} already", summary.name, summary.status().as_str());
            Err(Refusal::new(StatusCode::CONFLICT, title, why))
        }
        Err(why) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, why.to_string())),
    }
}

#[derive(Debug, Deserialize)]
struct After {
    after: Option<u64>,
}

/// What happened, oldest first.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/events", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it"),
        ("after" = Option<u64>, Query, description = "Only events after this number"),
        ("limit" = Option<u32>, Query, description = "Events, at most 10000; default 100"),
        ("cursor" = Option<String>, Query, description = "From the `Link` header of the page before")),
    responses((status = OK, body = [WorkflowEvent]), (status = BAD_REQUEST, body = Problem),
        (status = NOT_FOUND, body = Problem))
)]
async fn history(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
    Query(After { after }): Query<After>,
    paging: Paging,
) -> Result<Page<WorkflowEvent>, Refusal> {
    let title = "cannot show what happened";
    let id = find(&controller, &caller, &wanted, title).await?.summary.id;
    let limit = paging.limit().unwrap_or(DEFAULT_LIMIT);
    let list = format!("events of {id}");
    let behind: Option<u64> = paging.after(&list)?;
    let events = controller.0.store.events(id, behind.or(after).unwrap_or(0), limit + 1).await;
    let events = events.map_err(|error| Refusal::internal(title, &error))?;
    Ok(paging.fetched(&list, events, limit, |event| event.number))
}

#[derive(Debug, Deserialize)]
struct OfStage {
    stage: Option<u32>,
}

/// Attempts of tasks, by stage, task and attempt.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/attempts", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it"),
        ("stage" = Option<u32>, Query, description = "Only of this stage, by its number"),
        ("limit" = Option<u32>, Query, description = "Attempts, at most 10000; default 100"),
        ("cursor" = Option<String>, Query, description = "From the `Link` header of the page before")),
    responses((status = OK, body = [Attempt]), (status = BAD_REQUEST, body = Problem),
        (status = NOT_FOUND, body = Problem))
)]
async fn attempts(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
    Query(OfStage { stage }): Query<OfStage>,
    paging: Paging,
) -> Result<Page<Attempt>, Refusal> {
    let title = "cannot show the attempts";
    let id = find(&controller, &caller, &wanted, title).await?.summary.id;
    let limit = paging.limit().unwrap_or(DEFAULT_LIMIT);
    // By name: the newest of that name may be another one when the next page is read.
    let list = format!("attempts of {id}");
    let after: Option<RunKey> = paging.after(&list)?;
    let rows = controller.0.store.runs(id, stage.map(StageId), after, limit + 1).await;
    let rows = rows.map_err(|error| Refusal::internal(title, &error))?;
    Ok(paging.fetched(&list, rows, limit, RunRow::key).map(|row| row.attempt()))
}

/// A file or directory that was taken out of a volume for the client. A directory comes as a tar
/// (GNU): `copy`, what is below it, and at last an empty `end`, without which it is not whole.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/files/{stage}", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it"),
        ("stage" = u32, Path, description = "Number of the stage that took it out")),
    responses((status = OK, content((Vec<u8> = "application/octet-stream"), (Vec<u8> = "application/x-tar"))),
        (status = NOT_FOUND, body = Problem))
)]
async fn file(
    State(controller): State<Controller>,
    caller: Caller,
    Path((wanted, stage)): Path<(String, u32)>,
) -> Result<Response, Refusal> {
    let title = "cannot hand the file out";
    let view = find(&controller, &caller, &wanted, title).await?;
    let is_one = view.files.iter().any(|file| file.stage == stage);
    let brought = controller.0.results.brought(view.summary.id, StageId(stage)).filter(|_| is_one);
    let (path, what, _) = brought.ok_or_else(|| {
        let why = format!("stage {stage} has brought no file here (yet)");
        Refusal::new(StatusCode::NOT_FOUND, title, why)
    })?;
    let kind = match what {
        TransferKind::File => "application/octet-stream",
        TransferKind::Directory => "application/x-tar",
    };
    let file =
        tokio::fs::File::open(path).await.map_err(|error| Refusal::internal(title, &error))?;
    // Of this very file: another attempt may put its own in its place.
    let size = file.metadata().await.map_err(|error| Refusal::internal(title, &error))?.len();
    let headers =
        [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_LENGTH, size.to_string())];
    Ok((headers, HttpBody::from_stream(ReaderStream::new(file))).into_response())
}
