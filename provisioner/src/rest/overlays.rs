//! `/v1/overlays`.

use access::{Caller, Routes};
use api::{
    ids::{NodeName, OverlayName},
    overlay::{Overlay, OverlayFile, RenderedFile},
    problem::Problem,
    rights::Action,
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use rest::{Abandoned, Page, PageParams, Paging, Refusal, causes};
use serde::Deserialize;
use utoipa_axum::routes;

use crate::{
    overlay::{
        Content, Entry, MAX_FILE_BYTES,
        library::{self, File},
        removal,
        site::{self, NewFile, SiteError},
    },
    provisioner::{OverlaysError, Provisioner},
};

pub(super) fn routes() -> Routes<Provisioner> {
    Routes::new()
        .route(Action::OverlayFileRead, routes!(get_file))
        .route(Action::OverlayEdit, routes!(put_file, delete_file))
        // One byte more than is taken, so that the refusal is ours.
        .with_body_limit(MAX_FILE_BYTES + 1)
        .route(Action::OverlayList, routes!(list))
        .route(Action::OverlayRead, routes!(show))
        .route(Action::OverlayRender, routes!(render))
        .route(Action::OverlayDelete, routes!(delete))
}

fn shown(name: &OverlayName, overlay: &library::Overlay) -> Overlay {
    let file = |file: &File| match file {
        File::Plain(Entry { content: Content::Directory, .. }) => None,
        File::Plain(entry) => Some((entry.mode, false)),
        File::Template { mode, .. } => Some((*mode, true)),
    };
    let files = overlay.files.iter().filter_map(|one| {
        let (mode, template) = file(one)?;
        Some(OverlayFile { path: one.path().to_owned(), mode, template })
    });
    Overlay {
        name: name.clone(),
        source: overlay.source.as_str().to_owned(),
        summary: overlay.summary.clone(),
        files: files.collect(),
        problems: overlay.problems(),
    }
}

/// Overlays, those that ship and those of the site.
#[utoipa::path(
    get, path = "/v1/overlays", tag = "overlays", params(PageParams),
    responses((status = OK, body = [Overlay]), (status = BAD_REQUEST, body = Problem))
)]
async fn list(
    State(provisioner): State<Provisioner>,
    paging: Paging,
) -> Result<Page<Overlay>, Refusal> {
    let library = provisioner.library();
    let rows = library.overlays.iter();
    let page =
        paging.cut("overlays", rows, |(name, _)| (*name).clone(), |name, after| name > after)?;
    Ok(page.map(|(name, overlay)| shown(name, overlay)))
}

/// One overlay.
#[utoipa::path(
    get, path = "/v1/overlays/{name}", tag = "overlays",
    params(("name" = inline(OverlayName), Path, description = "Name of the overlay")),
    responses((status = OK, body = Overlay), (status = NOT_FOUND, body = Problem))
)]
async fn show(
    State(provisioner): State<Provisioner>,
    Path(name): Path<OverlayName>,
) -> Result<Json<Overlay>, Refusal> {
    let library = provisioner.library();
    let found = library.overlays.get(&name).map(|overlay| Json(shown(&name, overlay)));
    found.ok_or_else(|| unknown("cannot show the overlay", &name))
}

fn unknown(title: &str, name: &OverlayName) -> Refusal {
    let why = format!("overlay {name} does not exist; `bedplate overlay list` shows those that do");
    Refusal::new(StatusCode::NOT_FOUND, title, why)
}

/// Deletes an overlay of the site, also one that cannot be read. Refused while nodes or profiles
/// use it. Where the site has edited a shipped overlay, the edit goes, and the answer is the
/// shipped one, which counts again.
#[utoipa::path(
    delete, path = "/v1/overlays/{name}", tag = "overlays",
    params(("name" = inline(OverlayName), Path, description = "Name of the overlay")),
    responses((status = OK, body = Overlay, description = "The shipped overlay, which counts again"),
        (status = NO_CONTENT, description = "There is no overlay of this name any more"),
        (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem),
        (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn delete(
    State(provisioner): State<Provisioner>,
    Path(name): Path<OverlayName>,
) -> Result<Response, Refusal> {
    let title = format!("cannot delete overlay {name}");
    let (shared, overlay) = (provisioner.clone(), name.clone());
    let gone = edit(&provisioner, title, move || {
        let config = &shared.0.config;
        removal::delete(
            &shared.view().cluster,
            &config.shipped_overlays,
            &config.site_overlays,
            &overlay,
        )
    })
    .await?;
    let library = provisioner.library();
    let left =
        library.overlays.get(&name).map(|overlay| Json(shown(&name, overlay)).into_response());
    Ok(left.unwrap_or_else(|| gone.into_response()))
}

/// Query of `GET /v1/overlays/{name}/render`.
#[derive(Debug, Deserialize)]
struct RenderQuery {
    node: NodeName,
    path: Option<String>,
}

/// An overlay as one node gets it. For admins: it may hold the node's secrets.
#[utoipa::path(
    get, path = "/v1/overlays/{name}/render", tag = "overlays",
    params(("name" = inline(OverlayName), Path, description = "Name of the overlay"),
        ("node" = String, Query, description = "Name of the node"),
        ("path" = Option<String>, Query, description = "Only this file, by its path on the node")),
    responses((status = OK, body = [RenderedFile]), (status = NOT_FOUND, body = Problem),
        (status = UNPROCESSABLE_ENTITY, body = Problem), (status = SERVICE_UNAVAILABLE, body = Problem))
)]
async fn render(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Path(name): Path<OverlayName>,
    Query(query): Query<RenderQuery>,
) -> Result<Json<Vec<RenderedFile>>, Refusal> {
    let title = format!("cannot render overlay {name} for {}", query.node);
    if !provisioner.library().overlays.contains_key(&name) {
        return Err(unknown(&title, &name));
    }
    let (node, overlay) = (query.node.clone(), name.clone());
    let rendering =
        move |abandoned: &Abandoned| provisioner.render(&node, overlay.as_str(), abandoned);
    let rendered = rest::work(&title, &caller.principal.name, rendering).await?;
    let entries = rendered.map_err(|error| {
        let status = match error {
            OverlaysError::UnknownNode { .. } => StatusCode::NOT_FOUND,
            OverlaysError::Render(_) => StatusCode::UNPROCESSABLE_ENTITY,
            OverlaysError::HostKey(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, title.clone(), causes(&error))
    })?;
    let files: Vec<RenderedFile> = entries
        .iter()
        .filter(|entry| query.path.as_ref().is_none_or(|path| *path == entry.path))
        .filter_map(rendered_file)
        .collect();
    match query.path {
        Some(path) if files.is_empty() => {
            let why = format!("overlay {name} puts no file {path} on {}", query.node);
            Err(Refusal::new(StatusCode::NOT_FOUND, title, why))
        }
        _ => Ok(Json(files)),
    }
}

fn rendered_file(entry: &Entry) -> Option<RenderedFile> {
    let content = match &entry.content {
        Content::Directory => return None,
        Content::Link(target) => format!("link to {target}"),
        Content::File { bytes, .. } => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("binary, {} bytes", bytes.len()),
        },
    };
    Some(RenderedFile { path: entry.path.clone(), mode: entry.mode, content })
}

/// A file of an overlay as its author wrote it. For admins: it may hold secrets of the site.
#[utoipa::path(
    get, path = "/v1/overlays/{name}/files/{*path}", tag = "overlays",
    params(("name" = inline(OverlayName), Path, description = "Name of the overlay"),
        ("path" = String, Path, description = "Path on the node")),
    responses((status = OK, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = NOT_FOUND, body = Problem),
        (status = UNPROCESSABLE_ENTITY, body = Problem, description = "That is no path of a file"))
)]
async fn get_file(
    State(provisioner): State<Provisioner>,
    Path((name, path)): Path<(OverlayName, String)>,
) -> Result<Vec<u8>, Refusal> {
    let title = format!("cannot read /{path} of overlay {name}");
    let reading = tokio::task::spawn_blocking(move || {
        let config = &provisioner.0.config;
        site::read(&config.shipped_overlays, &config.site_overlays, &name, &format!("/{path}"))
    });
    let read = reading.await.map_err(|error| Refusal::internal(title.clone(), &error))?;
    read.map_err(|error| Refusal::new(status_of(&error), title, causes(&error)))
}

/// Query of `PUT /v1/overlays/{name}/files/{path}`.
#[derive(Debug, Deserialize)]
struct FileQuery {
    mode: Option<String>,
    #[serde(default)]
    template: bool,
}

/// Writes a file of the site's overlay. An overlay that only ships is copied to the site first.
#[utoipa::path(
    put, path = "/v1/overlays/{name}/files/{*path}", tag = "overlays",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(("name" = inline(OverlayName), Path, description = "Name of the overlay"),
        ("path" = String, Path, description = "Path on the node"),
        ("mode" = Option<String>, Query, description = "Permission bits, octal; default 0644"),
        ("template" = Option<bool>, Query, description = "Render it for each node")),
    responses((status = NO_CONTENT), (status = CONFLICT, body = Problem),
        (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn put_file(
    State(provisioner): State<Provisioner>,
    Path((name, path)): Path<(OverlayName, String)>,
    Query(query): Query<FileQuery>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot write /{path} of overlay {name}");
    let bytes = bytes.map_err(|error| {
        let why = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                format!("the file has more than {MAX_FILE_BYTES} bytes, which are taken at most")
            }
            _ => error.body_text(),
        };
        rest::unread(error.status(), title.clone(), why, &error)
    })?;
    let mode = query.mode.as_deref().unwrap_or("0644");
    let mode = u32::from_str_radix(mode, 8).map_err(|_| {
        let why = format!("mode {mode:?} is not octal, such as 0644");
        Refusal::new(StatusCode::BAD_REQUEST, title.clone(), why)
    })?;
    let shared = provisioner.clone();
    edit(&provisioner, title, move || {
        let config = &shared.0.config;
        let file =
            NewFile { path: &format!("/{path}"), mode, template: query.template, bytes: &bytes };
        site::put(&shared.library(), &config.shipped_overlays, &config.site_overlays, &name, &file)
    })
    .await
}

/// Removes a file of the site's overlay.
#[utoipa::path(
    delete, path = "/v1/overlays/{name}/files/{*path}", tag = "overlays",
    params(("name" = inline(OverlayName), Path, description = "Name of the overlay"),
        ("path" = String, Path, description = "Path on the node")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem),
        (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn delete_file(
    State(provisioner): State<Provisioner>,
    Path((name, path)): Path<(OverlayName, String)>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot remove /{path} of overlay {name}");
    let shared = provisioner.clone();
    edit(&provisioner, title, move || {
        site::remove(&shared.0.config.site_overlays, &name, &format!("/{path}"))
    })
    .await
}

fn status_of(error: &SiteError) -> StatusCode {
    match error {
        SiteError::Missing { .. } | SiteError::NotFound { .. } | SiteError::NoOverlay { .. } => {
            StatusCode::NOT_FOUND
        }
        SiteError::Shipped { .. } | SiteError::InUse { .. } | SiteError::UseUnknown { .. } => {
            StatusCode::CONFLICT
        }
        SiteError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        SiteError::Path { .. }
        | SiteError::Mode { .. }
        | SiteError::Unreadable { .. }
        | SiteError::TooLarge { .. }
        | SiteError::OverlayTooLarge { .. }
        | SiteError::TooMany
        | SiteError::Template(_)
        | SiteError::NotText => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// Edits the site's directory, one edit at a time, and reads it again.
async fn edit(
    provisioner: &Provisioner,
    title: String,
    edit: impl FnOnce() -> Result<(), SiteError> + Send + 'static,
) -> Result<StatusCode, Refusal> {
    let turn = provisioner.0.turn.clone().lock_owned().await;
    // Files have no transactions: who changes them is on disk before they are changed.
    let ahead = database::outbox::write_ahead(&provisioner.0.database).await;
    ahead.map_err(|error| Refusal::internal(title.clone(), &error))?;
    // The turn belongs to the work: of two edits the second begins when the first has ended.
    let edited = tokio::task::spawn_blocking(move || (turn, edit())).await;
    let (_turn, edited) = edited.map_err(|error| Refusal::internal(title.clone(), &error))?;
    edited.map_err(|error| Refusal::new(status_of(&error), title.clone(), causes(&error)))?;
    provisioner.reload_overlays().await;
    Ok(StatusCode::NO_CONTENT)
}
