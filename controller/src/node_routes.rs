//! What nodes ask of the controller on the fleet port: artifacts, where logs and files go, and
//! streams. Protocols: [`api::run`], [`api::stream`].

use std::time::Duration;

use api::{
    ids::Digest,
    log::times::TimeMark,
    quota::QuotaName,
    run::{LogTaken, MAX_LOG_CHUNK_BYTES, RunId},
    stream::{MAX_STREAM_MESSAGE_BYTES, StreamId},
    workflow::StageKind,
};
use axum::{
    Extension, Json, Router,
    body::{Body, BodyDataStream, Bytes},
    extract::{DefaultBodyLimit, Path, Query, State, ws::WebSocketUpgrade},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post, put},
};
use document::plan::StageAction;
use fleet::NodeIdentity;
use futures_util::StreamExt as _;
use rest::{Refusal, causes};
use serde::Deserialize;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    Controller,
    conductor::Command,
    record::RunRow,
    results::{Appended, LogPiece, ResultError, TransferKind},
    streams::bridge::NodeSocket,
};

/// Largest file that goes to a client through the server, bytes. Larger results belong on a
/// store of their own.
const MAX_CLIENT_FILE_BYTES: u64 = 16 << 30;

/// How long the rest of a file that is refused is read and thrown away: a node reads the answer and
/// ends meanwhile.
const REST_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn router(controller: Controller) -> Router {
    Router::new()
        .route("/node/v1/artifacts/sha256/{hex}", get(artifact))
        .route(
            "/node/v1/runs/{run}/log",
            post(log).layer(DefaultBodyLimit::max(MAX_LOG_CHUNK_BYTES)),
        )
        .route("/node/v1/runs/{run}/file", put(file).layer(DefaultBodyLimit::disable()))
        .route("/node/v1/streams/{stream}", get(stream))
        .with_state(controller)
}

/// A stream that the server told this node of, and nobody else: it is good once.
async fn stream(
    State(controller): State<Controller>,
    Extension(node): Extension<NodeIdentity>,
    Path(stream): Path<StreamId>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let arrived = controller.0.streams.take(stream, node.id).ok_or_else(|| {
        let why = "it was never made for this node, was taken, or its user waits no more";
        Refusal::new(StatusCode::NOT_FOUND, format!("there is no stream {stream}"), why)
    })?;
    let limited =
        upgrade.max_message_size(MAX_STREAM_MESSAGE_BYTES).max_frame_size(MAX_STREAM_MESSAGE_BYTES);
    // A user who has gone in this moment: the socket is dropped, and the node sees it closed.
    let revoked = node.revoked;
    Ok(limited
        .on_upgrade(|socket| async move { drop(arrived.send(NodeSocket { socket, revoked })) }))
}

async fn artifact(
    State(controller): State<Controller>,
    method: Method,
    headers: HeaderMap,
    Path(hex): Path<String>,
) -> Response {
    let title = "cannot serve the artifact";
    let Ok(digest) = format!("sha256:{hex}").parse::<Digest>() else {
        return Refusal::new(StatusCode::BAD_REQUEST, title, "not a SHA-256 digest")
            .into_response();
    };
    match controller.0.images.map(&digest) {
        Ok(mapped) => fleet::blob::answer(&method, &headers, &digest, Bytes::from_owner(mapped)),
        Err(image_store::StoreError::Missing { .. }) => {
            Refusal::new(StatusCode::NOT_FOUND, title, format!("there is no {digest} here"))
                .into_response()
        }
        Err(error) => {
            tracing::error!("cannot serve {digest}: {}", causes(&error));
            Refusal::internal(title, &error).into_response()
        }
    }
}

#[derive(Debug, Deserialize)]
struct LogOffset {
    offset: u64,
    after: Option<u64>,
    times: Option<String>,
}

/// The run of a request, if it is one of the node that asks.
async fn run_of(
    controller: &Controller,
    run: RunId,
    node: &NodeIdentity,
) -> Result<RunRow, Refusal> {
    let title = format!("cannot take this of run {run}");
    let row = controller
        .0
        .store
        .run(run)
        .await
        .map_err(|error| Refusal::internal(title.clone(), &error))?;
    row.filter(|row| row.node == node.id).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            title,
            format!("{} was never given this run", node.name),
        )
    })
}

fn refuse(title: String, error: &ResultError) -> Refusal {
    let status = match error {
        ResultError::NoSpace { .. } => StatusCode::INSUFFICIENT_STORAGE,
        ResultError::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
        ResultError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    tracing::error!("{title}: {}", causes(error));
    Refusal::new(status, title, causes(error))
}

async fn log(
    State(controller): State<Controller>,
    Extension(node): Extension<NodeIdentity>,
    Path(run): Path<RunId>,
    Query(LogOffset { offset, after, times }): Query<LogOffset>,
    bytes: Bytes,
) -> Result<Json<LogTaken>, Refusal> {
    let row = run_of(&controller, run, &node).await?;
    let limit = controller.limit_of_owner(row.workflow, QuotaName::Logs).await;
    let results = controller.0.results.clone();
    let taking = tokio::task::spawn_blocking(move || {
        let times = times.as_deref().map(TimeMark::from_query).unwrap_or_default();
        results.append(
            row.workflow,
            run,
            LogPiece { offset, after, bytes: &bytes, times: &times },
            limit,
        )
    });
    let title = format!("cannot take the log of run {run}");
    let Appended { end: length, left_out } = taking
        .await
        .map_err(|error| Refusal::internal(title.clone(), &error))?
        .map_err(|error| refuse(title, &error))?;
    if let Some(exceeded) = left_out {
        let what = format!("a part of its log is not kept: {exceeded}");
        controller.quota_met(run, QuotaName::Logs, what).await;
    }
    // Without the conductor the server is stopping; the node tells again.
    let _ = controller.0.orders.send(Command::Log { run, length }).await;
    controller.log_grew(run, length);
    Ok(Json(LogTaken { length }))
}

#[derive(Debug, Deserialize)]
struct FileParams {
    /// See [`api::run::FOLDER_QUERY`].
    #[serde(default)]
    #[serde(rename = "folder")]
    directory: bool,
}

async fn file(
    State(controller): State<Controller>,
    Extension(node): Extension<NodeIdentity>,
    Path(run): Path<RunId>,
    Query(FileParams { directory }): Query<FileParams>,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let row = run_of(&controller, run, &node).await?;
    let title = format!("cannot take the file of run {run}");
    // A workflow that is not in memory is over, and so are its runs.
    let plan = controller.view().plan(row.workflow);
    let stage = plan.as_ref().and_then(|plan| plan.stages.get(row.stage.index()));
    let is_egress = stage.is_some_and(|stage| match stage.work {
        StageAction::Egress { .. } => true,
        // Of a blocked workflow it is not known which way a file goes, but what its node brings is
        // not thrown away.
        StageAction::Unknown { kind } => kind == StageKind::File,
        _ => false,
    });
    if !is_egress || row.ended.is_some() {
        let why = "it is no transfer to the client, or it is over";
        return Err(Refusal::new(StatusCode::CONFLICT, title, why));
    }
    let results = controller.0.results.clone();
    let limit = controller.limit_of_owner(row.workflow, QuotaName::Results).await;
    let begun = results.begin_file(row.workflow, row.stage);
    let (file, mut charge) = begun.map_err(|error| refuse(title.clone(), &error))?;
    let kept = file.try_clone().map_err(|error| Refusal::internal(title.clone(), &error))?;
    let mut file = tokio::fs::File::from_std(file);
    let (mut chunks, mut size) = (body.into_data_stream(), 0_u64);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, title.clone(), causes(&error))
        })?;
        size += chunk.len() as u64;
        if size > MAX_CLIENT_FILE_BYTES {
            let why = format!("a file for the client has at most {MAX_CLIENT_FILE_BYTES} bytes");
            pass_over(chunks);
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, title, why));
        }
        results.require(chunk.len() as u64).map_err(|error| refuse(title.clone(), &error))?;
        if let Err(exceeded) = charge.reserve(chunk.len() as u64, limit) {
            let what = format!("the server does not take its file: {exceeded}");
            controller.quota_met(run, QuotaName::Results, what).await;
            pass_over(chunks);
            // No 5xx: nodes send again what such a one answers.
            return Err(exceeded.refusal(&title));
        }
        file.write_all(&chunk).await.map_err(|error| Refusal::internal(title.clone(), &error))?;
    }
    file.flush().await.map_err(|error| Refusal::internal(title.clone(), &error))?;
    let what = if directory { TransferKind::Directory } else { TransferKind::File };
    // With its charge: whoever hangs up now takes nothing away from under it.
    let publishing = tokio::task::spawn_blocking(move || results.publish(&kept, charge, what));
    publishing
        .await
        .map_err(|error| Refusal::internal(title.clone(), &error))?
        .map_err(|error| refuse(title, &error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads on for a moment what is refused: a connection that is closed on a node that still sends
/// breaks before the node has read the answer, and then it sends all again.
fn pass_over(mut chunks: BodyDataStream) {
    tokio::spawn(async move {
        let rest = async { while let Some(Ok(_)) = chunks.next().await {} };
        let _ = timeout(REST_PATIENCE, rest).await;
    });
}
