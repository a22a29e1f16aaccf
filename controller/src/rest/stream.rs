//! `GET /v1/workflows/{id}/streams`: a user in a running job. Protocol: [`api::stream`].
//!
//! The upgrade is answered when the node has dialled, so all that can go wrong before is a
//! problem document.

use std::time::Duration;

use access::{Caller, RunningRequest};
use api::{
    channel::FromServer,
    problem::Problem,
    run::{Outcome, WorkflowId},
    stream::{DIAL_SECONDS, MAX_STREAM_MESSAGE_BYTES, StreamRequest},
    workflow::{Stage, StageKind, Workflow},
};
use axum::{
    extract::{Path, Query, State, ws::WebSocketUpgrade},
    http::StatusCode,
    response::Response,
};
use document::plan::StageId;
use rest::Refusal;
use serde::Deserialize;

use super::{find, log::stage_of};
use crate::{
    Controller, identity,
    record::RunRow,
    streams::{
        StreamSlot,
        bridge::{NodeSocket, bridge},
    },
};

const TITLE: &str = "cannot open the stream";

/// The outcome of a row that is written before its stream is asked for.
const BEGUN: &str = "begun";

/// Tasks of one job that are looked through for the one wanted.
const MAX_RUNS: u32 = 1_000_000;

#[derive(Debug, Deserialize)]
pub(super) struct StreamParams {
    stage: Option<String>,
    task: Option<u32>,
    member: Option<u32>,
    request: String,
}

/// A stream to a running job: a program in it, its output, a port, its files. Answered by the
/// upgrade to a WebSocket once the job's node has dialled. The messages: module `stream` of
/// the crate `api`.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/streams", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it"),
        ("stage" = Option<String>, Query, description = "Name of the job; may be left out if there is one"),
        ("task" = Option<u32>, Query, description = "FB_TASK_ID; default: the first that runs"),
        ("member" = Option<u32>, Query, description = "Which member of the task's attempt, from 0; default: 0"),
        ("request" = String, Query, description = "What is wanted, JSON: {\"what\":\"exec\",\"command\":[\"ls\"],\"terminal\":null,\
            \"input\":false}, {\"what\":\"attach\",\"all\":false}, {\"what\":\"port\",\"port\":80}, \
            {\"what\":\"copy-out\",\"path\":\"/x\"}, {\"what\":\"copy-in\",\"path\":\"/x\",\"name\":\"y\"}")),
    responses((status = SWITCHING_PROTOCOLS, description = "A WebSocket"),
        (status = UPGRADE_REQUIRED, body = Problem, description = "The request asks for no WebSocket"),
        (status = BAD_REQUEST, body = Problem), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem),
        (status = TOO_MANY_REQUESTS, body = Problem), (status = GATEWAY_TIMEOUT, body = Problem))
)]
pub(super) async fn stream(
    State(controller): State<Controller>,
    caller: Caller,
    Path(id): Path<String>,
    Query(wanted): Query<StreamParams>,
    running: RunningRequest,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let request = StreamRequest::parse(&wanted.request)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, TITLE, error.to_string()))?;
    let stop = controller.0.shutdown.clone();
    // To its end and into the audit log, even if the user goes away in the middle.
    let opening = tokio::spawn(audited(controller, caller, id, wanted, request));
    let (place, node) = opening.await.map_err(|error| Refusal::internal(TITLE, &error))??;
    let limited =
        upgrade.max_message_size(MAX_STREAM_MESSAGE_BYTES).max_frame_size(MAX_STREAM_MESSAGE_BYTES);
    Ok(limited.on_upgrade(move |user| async move {
        bridge(user, node, stop).await;
        drop((place, running));
    }))
}

type Opened = (StreamSlot<NodeSocket>, NodeSocket);

async fn audited(
    controller: Controller,
    caller: Caller,
    id: String,
    wanted: StreamParams,
    request: StreamRequest,
) -> Result<Opened, Refusal> {
    let (action, subject) = (one_line(&request.words()), format!("/v1/workflows/{id}"));
    let mut row = AuditRow { controller: &controller, caller: &caller, action, subject };
    let opened = open(&controller, &caller, &id, &wanted, request, &mut row).await;
    let refused = opened.as_ref().err().map(|Refusal(problem)| problem.status.to_string());
    if let Some(status) = refused {
        controller.0.access.record_refused_of(&caller, &row.action, &row.subject, &status).await;
        return opened;
    }
    row.record(StatusCode::SWITCHING_PROTOCOLS.as_str()).await?;
    opened
}

/// What the audit log says of a stream.
struct AuditRow<'a> {
    controller: &'a Controller,
    caller: &'a Caller,
    action: String,
    /// What exactly is meant, as far as it is known.
    subject: String,
}

impl AuditRow<'_> {
    /// On disk when this returns.
    async fn record(&self, outcome: &str) -> Result<(), Refusal> {
        let Self { controller, caller, action, subject } = self;
        let recorded = controller.0.access.record_of(caller, action, subject, outcome).await;
        recorded.map_err(|error| {
            let name = &caller.principal.name;
            tracing::error!(action, subject, principal = name, "audit log not written: {error}");
            Refusal::internal("the stream could not be written to the audit log", &error)
        })
    }
}

/// A command may hold anything; a line of the log is one.
fn one_line(words: &str) -> String {
    let mut line = String::new();
    for char in words.chars() {
        if char.is_control() { line.extend(char.escape_default()) } else { line.push(char) }
    }
    line
}

/// The node's socket. The subject of `audit` becomes what exactly is meant.
async fn open(
    controller: &Controller,
    caller: &Caller,
    id: &str,
    wanted: &StreamParams,
    request: StreamRequest,
    audit: &mut AuditRow<'_>,
) -> Result<Opened, Refusal> {
    let title = TITLE;
    let view = find(controller, caller, id, title).await?;
    let stage = stage_of(&view, wanted.stage.as_deref(), title)?;
    if stage.kind != StageKind::Job {
        let why = format!("{} is no job", stage.name);
        return Err(Refusal::new(StatusCode::NOT_FOUND, title, why));
    }
    audit.subject = format!("/v1/workflows/{} job {}", view.summary.id, stage.name);
    let row = running(controller, &view, stage, wanted).await?;
    let member = if row.member > 0 { format!(" member {}", row.member) } else { String::new() };
    audit.subject = format!("{}[{}]{member}", audit.subject, row.task);
    let stream = identity::new_stream()
        .ok_or_else(|| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, title, "no random bytes"))?;
    let expected = controller.0.streams.expect(stream, row.run, row.node);
    let (place, arrival) = expected
        .map_err(|full| Refusal::new(StatusCode::TOO_MANY_REQUESTS, title, full.to_string()))?;
    let (run, name) = (row.run, &row.node_name);
    let not_connected = || {
        let why = format!(
            "the agent of {name}, where the job runs, is not connected; the job goes on, try again when it is back"
        );
        Refusal::new(StatusCode::CONFLICT, title, why)
    };
    // What cannot be told has no row of its own each time.
    controller.0.fleet.check_connected(row.node).map_err(|_| not_connected())?;
    // The command leaves with the message: who sends it is on disk before.
    audit.record(BEGUN).await?;
    if !controller.0.fleet.try_send(row.node, FromServer::OpenStream { stream, run, request }) {
        return Err(not_connected());
    }
    match tokio::time::timeout(Duration::from_secs(DIAL_SECONDS), arrival).await {
        Ok(Ok(socket)) => Ok((place, socket)),
        Ok(Err(_)) => {
            let why = format!("{name}, where the job runs, dialled and went away: try again");
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, title, why))
        }
        Err(_) => {
            let why = format!(
                "{name}, where the job runs, did not dial within {DIAL_SECONDS} s: try again"
            );
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, title, why))
        }
    }
}

/// The attempt that runs of the task that is wanted.
async fn running(
    controller: &Controller,
    view: &Workflow,
    stage: &Stage,
    &StreamParams { task, member, .. }: &StreamParams,
) -> Result<RunRow, Refusal> {
    let (title, member) = (TITLE, member.unwrap_or(0));
    let id: WorkflowId = view.summary.id;
    let rows = controller.0.store.runs(id, Some(StageId(stage.index)), None, MAX_RUNS).await;
    let rows = rows.map_err(|error| Refusal::internal(title, &error))?;
    let of_task = |row: &&RunRow| task.is_none_or(|task| task == row.task) && row.member == member;
    let runs = |row: &&RunRow| row.started.is_some() && row.ended.is_none();
    if let Some(row) = rows.iter().filter(of_task).find(runs) {
        return Ok(row.clone());
    }
    let task = task.map(|task| format!("[{task}]")).unwrap_or_default();
    let of_several = rows.iter().any(|row| row.member > 0) || member > 0;
    let member = if of_several { format!(" member {member}") } else { String::new() };
    let name = format!("{}{task}{member}", stage.name);
    let last = rows.iter().filter(of_task).max_by_key(|row| (row.task, row.attempt));
    let why = match last {
        Some(RunRow { outcome: Some(outcome), ended: Some(_), .. }) => {
            format!("{name} does not run: {}", ended(outcome))
        }
        Some(_) => format!("{name} does not run yet: its container is being prepared"),
        // Others of the stage have run.
        None if !rows.is_empty() => {
            format!(
                "{name} does not run: no run of it is known; `workflow show` lists those of the stage"
            )
        }
        None => format!("{name} does not run: it is {}", stage.state.as_str()),
    };
    Err(Refusal::new(StatusCode::CONFLICT, title, why))
}

fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("it has ended with exit status {code}"),
        Outcome::Signaled { signal } => format!("it was ended by signal {signal}"),
        Outcome::OutOfMemory { .. } => "it was killed for memory".to_owned(),
        Outcome::TimedOut { seconds, .. } => format!("it was ended after {seconds} s"),
        Outcome::Stopped { why }
        | Outcome::Failed { why, .. }
        | Outcome::Lost { why, .. }
        | Outcome::Refused { why } => why.clone(),
        Outcome::Unknown => "it has ended, in a way that this release doesn't know".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_line_of_the_log() {
        assert_eq!(one_line("exec sh -c a\nb\x1b[1m é"), "exec sh -c a\\nb\\u{1b}[1m é");
    }
}
