//! `GET /v1/workflows/{id}/log`: what a task wrote, as it comes if that is wanted.

use std::{io::SeekFrom, time::Duration};

use access::Caller;
use api::{
    problem::Problem,
    run::{RunId, WorkflowId},
    workflow::{Stage, StageKind, Workflow},
};
use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use rest::Refusal;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::watch,
    time::timeout,
};

use super::find;
use crate::{Controller, store::RunRow};

/// Bytes that go out at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A follower looks again after this time, even if nothing was said: the end of a run is told by the store alone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Attempts of one stage that are looked through for the one wanted.
const MAX_ATTEMPTS: u32 = 1_000_000;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    stage: Option<String>,
    task: Option<u32>,
    attempt: Option<u32>,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    follow: bool,
}

/// The log of one attempt of a task: of the last one, where the request names none.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/log", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it"),
        ("stage" = Option<String>, Query, description = "Name of the job; may be left out if there is one"),
        ("task" = Option<u32>, Query, description = "FB_TASK_ID; default: the first"),
        ("attempt" = Option<u32>, Query, description = "Default: the last"),
        ("offset" = Option<u64>, Query, description = "Bytes to leave out at the beginning; default 0"),
        ("follow" = Option<bool>, Query, description = "Go on until the attempt is over")),
    responses((status = OK, body = String, content_type = "text/plain"), (status = NOT_FOUND, body = Problem))
)]
pub(super) async fn log(
    State(controller): State<Controller>,
    caller: Caller,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    let title = "cannot show the log";
    let view = find(&controller, &caller, &id, title).await?;
    let stage = stage_of(&view, wanted.stage.as_deref(), title)?;
    let (workflow, index) = (view.summary.id, stage.index);
    let run = loop {
        if let Some(run) = run_of(&controller, workflow, index, &wanted, title).await? {
            break run;
        }
        let over = find(&controller, &caller, &workflow.to_string(), title).await?.summary.ended.is_some();
        if !wanted.follow || over {
            let why = format!("{} has not run (yet)", stage.name);
            return Err(Refusal::new(StatusCode::NOT_FOUND, title, why));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let body = Body::from_stream(follow(controller, workflow, run, &wanted));
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

pub(super) fn stage_of<'a>(
    view: &'a Workflow,
    name: Option<&str>,
    title: &str,
) -> Result<&'a Stage, Refusal> {
    let jobs: Vec<&Stage> = view.stages.iter().filter(|stage| stage.kind == StageKind::Job).collect();
    let found = match name {
        None if jobs.len() == 1 => jobs.first().copied(),
        None => None,
        Some(name) => jobs
            .iter()
            .copied()
            .chain(view.stages.iter().filter(|stage| stage.kind == StageKind::File))
            .find(|stage| stage.name == name),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = jobs.iter().map(|stage| stage.name.as_str()).collect();
        let why = match name {
            Some(name) => format!("it has no job {name:?}; its jobs are {}", names.join(", ")),
            None => format!("name one of its jobs: {}", names.join(", ")),
        };
        Refusal::new(StatusCode::NOT_FOUND, title, why)
    })
}

async fn run_of(
    controller: &Controller,
    workflow: WorkflowId,
    stage: u32,
    wanted: &Wanted,
    title: &str,
) -> Result<Option<RunRow>, Refusal> {
    let rows = controller.0.store.runs(workflow, Some(stage), None, MAX_ATTEMPTS).await;
    let rows = rows.map_err(|error| Refusal::internal(title, &error))?;
    let Some(task) = wanted.task.or_else(|| rows.first().map(|row| row.task)) else { return Ok(None) };
    let of_task = rows.into_iter().filter(|row| row.task == task);
    let is_it = |row: &RunRow| wanted.attempt.is_none_or(|attempt| attempt == row.attempt);
    Ok(of_task.filter(is_it).max_by_key(|row| row.attempt))
}

/// Where a reader of a log is.
struct Reader {
    controller: Controller,
    workflow: WorkflowId,
    run: RunId,
    offset: u64,
    grown: watch::Receiver<Option<(RunId, u64)>>,
    follows: bool,
}

/// The bytes of a log. A follower sees them end when the run is over and all that came of its log is out.
fn follow(
    controller: Controller,
    workflow: WorkflowId,
    row: RunRow,
    wanted: &Wanted,
) -> impl Stream<Item = std::io::Result<Bytes>> + use<> {
    let grown = controller.0.grown.subscribe();
    let (offset, follows) = (wanted.offset, wanted.follow);
    let reader = Reader { controller, workflow, run: row.run, offset, grown, follows };
    stream::try_unfold(reader, |mut reader| async move {
        loop {
            // Asked before the file is read: what came in between is read by the next turn.
            let is_over = !reader.follows || reader.is_over().await;
            let bytes = reader.read().await?;
            if !bytes.is_empty() {
                reader.offset += bytes.len() as u64;
                return Ok(Some((bytes, reader)));
            }
            if is_over {
                return Ok(None);
            }
            // Either there is more, or it is time to look whether the run is over.
            let _ = timeout(LOOK_AGAIN, reader.grown.changed()).await;
        }
    })
}

impl Reader {
    async fn is_over(&self) -> bool {
        match self.controller.0.store.run(self.run).await {
            Ok(Some(row)) => row.ended.is_some() && self.offset >= row.log_bytes,
            // A database that fails for a moment ends nothing.
            Ok(None) => true,
            Err(_) => false,
        }
    }

    async fn read(&self) -> std::io::Result<Bytes> {
        let path = self.controller.0.results.log_path(self.workflow, self.run);
        let mut file = match tokio::fs::File::open(path).await {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Bytes::new()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.offset)).await?;
        let mut bytes = Vec::with_capacity(CHUNK_BYTES);
        file.take(CHUNK_BYTES as u64).read_to_end(&mut bytes).await?;
        Ok(bytes.into())
    }
}
