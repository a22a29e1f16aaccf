//! `GET /v1/workflows/{id}/log`: what a task wrote, as it comes if that is wanted, with headers
//! that say whether it is all ([`api::log`]).
//!
//! The log of an attempt that is over is answered when all of it is here or will not come; it is
//! waited for while it grows, and [`STALL`] longer. Its length is in the answer. Who follows an
//! attempt that is not over gets bytes until it is, and the same waiting; then asks again for
//! the verdict. A body that cannot be sent whole ends without its end (RFC 9112, section 8).
//!
//! Of a log longer than its limit head and tail are sent as one, and a header names the gap. While
//! the log grows so does the gap: a body that cannot go on as its headers said ends, where it
//! follows, or breaks off, and the answer to the next request says where the log goes on.

mod place;

use std::{io, time::Duration};

use access::Caller;
use api::{
    log::{LogGap, LogState, LogStatus},
    problem::Problem,
    run::{Outcome, RunId, WorkflowId},
    status::Phase,
    workflow::{Stage, StageKind, Workflow},
};
use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use document::plan::StageId;
use futures_util::{Stream, stream};
use log_files::Extent;
use rest::Refusal;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, timeout},
};

use self::place::{LogParams, LogStart};
use super::find;
use crate::{
    Controller,
    engine::LOG_PATIENCE,
    record::{RunKey, RunRow},
};

/// Bytes that go out at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A follower looks again after this time, even if nothing was said: the end of a run is told by
/// the store alone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long the rest of the log of an attempt that is over is waited for without a byte of it.
/// A node sends what is left within a second; a busy one, or one whose connection broke,
/// within this time.
const STALL: Duration = Duration::from_secs(30);

const TITLE: &str = "cannot show the log";

/// Runs of a task that are read at a time: few have more.
const RUNS_AT_ONCE: u32 = 16;

/// The log of one attempt of a task: of the last one, where the request names none. Headers
/// `bedplate-log-…` say whether it is all of it.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/log", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it"),
        ("stage" = Option<String>, Query, description = "Name of the job; may be left out if there is one"),
        ("task" = Option<u32>, Query, description = "FB_TASK_ID; default: the first"),
        ("attempt" = Option<u32>, Query, description = "Default: the last"),
        ("member" = Option<u32>, Query, description = "Which member of the attempt, from 0; default: 0"),
        ("offset" = Option<u64>, Query, description = "Bytes to leave out at the beginning; default 0. From one in the gap, the answer begins at the gap's end"),
        ("tail" = Option<u64>, Query, description = "Only the last lines, so many, instead of `offset`: those that are kept when the answer begins"),
        ("since" = Option<String>, Query, description = "Only what was written then or later, from the \
            beginning of a line on, instead of `offset`; with `tail` only what is in both. A time (RFC 3339; a \
            date is its beginning, UTC), or how long before now by the server's clock: 90s, 10m, 2h, 7d. \
            When the log was written is told by its node's clock; without that, it is answered whole"),
        ("follow" = Option<bool>, Query, description = "Go on until the attempt is over")),
    responses((status = OK, body = String, content_type = "text/plain",
            headers(("bedplate-log-state" = String, description = "`open`: the attempt is not over; \
                `complete`: it is, and its log is whole with this answer; `arriving`: the rest may still come; \
                `incomplete`: it will not"),
                ("bedplate-log-attempt" = String, description = "TASK/ATTEMPT"),
                ("bedplate-log-here" = u64, description = "Up to where the server has the log"),
                ("bedplate-log-bytes" = u64, description = "Length of the whole log, where it is known"),
                ("bedplate-log-gap" = String, description = "`FROM-TO`: bytes that are left out of a log longer than its limit"),
                ("bedplate-log-from" = u64, description = "Where the answer begins, to a request with `tail` or `since`"),
                ("bedplate-log-since" = String, description = "To a request with `since`: that time, RFC 3339"),
                ("bedplate-log-times" = String, description = "To the same: `kept`, or `none` if nobody knows \
                    when the log was written; then `since` leaves nothing out"),
                ("bedplate-log-reason" = String, description = "Why bytes are missing"))),
        (status = BAD_REQUEST, body = Problem), (status = NOT_FOUND, body = Problem))
)]
pub(super) async fn log(
    State(controller): State<Controller>,
    caller: Caller,
    Path(id): Path<String>,
    Query(wanted): Query<LogParams>,
) -> Result<Response, Refusal> {
    let title = TITLE;
    let place = wanted.place(crate::clock::now())?;
    let view = find(&controller, &caller, &id, title).await?;
    let stage = stage_of(&view, wanted.stage.as_deref(), title)?;
    let (workflow, index) = (view.summary.id, StageId(stage.index));
    let run = loop {
        if let Some(run) = run_of(&controller, workflow, index, &wanted, title).await? {
            break run;
        }
        let over =
            find(&controller, &caller, &workflow.to_string(), title).await?.summary.ended.is_some();
        if !wanted.follow || over {
            return Err(Refusal::new(StatusCode::NOT_FOUND, title, not_run(&stage.name, &wanted)));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let mut reader = Reader::new(controller, run, wanted.offset);
    reader.arrived(STALL).await;
    let has_times =
        reader.skip_to(place).await.map_err(|error| Refusal::internal(title, &error))?;
    let of_place = place.headers(reader.offset, has_times);
    let (status, extent) = reader.look();
    reader.gap = status.gap;
    let follows = wanted.follow && status.state == LogState::Open;
    let length = (!follows).then(|| extent.bytes_from(reader.offset));
    let body = match length {
        Some(length) => Body::from_stream(reader.exactly(length)),
        None => Body::from_stream(reader.follow()),
    };
    let mut response =
        ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response();
    let headers = response.headers_mut();
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    for (name, value) in of_place.into_iter().chain(status.headers()) {
        // They are printable ASCII, whatever is in them.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

/// Why there is no log of what was asked for.
fn not_run(stage: &str, wanted: &LogParams) -> String {
    let part = |name: &str, number: Option<u32>| number.map(|number| format!(" {name} {number}"));
    let parts = [("task", wanted.task), ("attempt", wanted.attempt), ("member", wanted.member)];
    let parts: String = parts.into_iter().filter_map(|(name, number)| part(name, number)).collect();
    match parts.is_empty() {
        true => format!("{stage} has not run (yet)"),
        false => format!(
            "{stage} has no{parts} that has run (yet); `workflow show` lists those that have"
        ),
    }
}

pub(super) fn stage_of<'a>(
    view: &'a Workflow,
    name: Option<&str>,
    title: &str,
) -> Result<&'a Stage, Refusal> {
    let jobs: Vec<&Stage> =
        view.stages.iter().filter(|stage| stage.kind == StageKind::Job).collect();
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
    stage: StageId,
    wanted: &LogParams,
    title: &str,
) -> Result<Option<RunRow>, Refusal> {
    let runs = |after: Option<RunKey>, limit: u32| async move {
        let rows = controller.0.store.runs(workflow, Some(stage), after, limit).await;
        rows.map_err(|error| Refusal::internal(title, &error))
    };
    let task = match wanted.task {
        Some(task) => task,
        None => match runs(None, 1).await?.first() {
            Some(row) => row.task,
            None => return Ok(None),
        },
    };
    // Of an array of thousands not all are read for one of them. No attempt has the number 0.
    let before_all = RunKey { stage, task, attempt: 0, member: u32::MAX };
    let member = wanted.member.unwrap_or(0);
    if let Some(attempt) = wanted.attempt {
        let after = match member.checked_sub(1) {
            Some(member) => RunKey { attempt, member, ..before_all },
            None => RunKey { attempt: attempt.saturating_sub(1), ..before_all },
        };
        let next = runs(Some(after), 1).await?.pop();
        return Ok(next.filter(|row| row.key() == RunKey { attempt, member, ..before_all }));
    }
    let (mut last, mut after) = (None, before_all);
    loop {
        let rows = runs(Some(after), RUNS_AT_ONCE).await?;
        let of_task = rows.iter().take_while(|row| row.task == task).count();
        let is_all = of_task < RUNS_AT_ONCE as usize;
        if let Some(row) = rows[..of_task].last() {
            after = row.key();
        }
        let found = rows.into_iter().take(of_task).rfind(|row| row.member == member);
        last = found.or(last);
        if is_all {
            return Ok(last);
        }
    }
}

/// Where a reader of a log is.
struct Reader {
    controller: Controller,
    row: RunRow,
    offset: u64,
    /// What the reader is told to be left out.
    gap: Option<LogGap>,
    grown: watch::Receiver<Option<(RunId, u64)>>,
}

impl Reader {
    fn new(controller: Controller, row: RunRow, offset: u64) -> Self {
        let grown = controller.0.grown.subscribe();
        Self { controller, row, offset, gap: None, grown }
    }

    fn look(&self) -> (LogStatus, Extent) {
        let Controller(inner) = &self.controller;
        // Asked before the files are looked at: a log that is not held does not grow.
        let is_held = self.controller.view().holds(self.row.workflow, self.row.run);
        let node = LogNode {
            phase: inner.fleet.status(self.row.node).map(|status| status.phase),
            boot: inner.fleet.boot_of(self.row.node),
        };
        let extent = inner.results.log(self.row.workflow, self.row.run);
        let status = status(&self.row, extent.end(), is_held, &node);
        (LogStatus { gap: extent.gap(), ..status }, extent)
    }

    /// Waits until the log is waited for no more: not at all, while the attempt is not over.
    async fn arrived(&mut self, stall: Duration) {
        let stopped = self.controller.0.shutdown.clone();
        let mut grown = self.grown.clone();
        let arrived = arrived(|| self.look().0, &mut grown, stall);
        tokio::select! {
            _ = arrived => {}
            () = stopped.cancelled() => {}
        }
    }

    /// Goes to a place. `false` if nobody knows when the log was written: then all of it may be
    /// of then or later.
    async fn skip_to(&mut self, LogStart { tail, since }: LogStart) -> io::Result<bool> {
        let (results, workflow, run) =
            (self.controller.0.results.clone(), self.row.workflow, self.row.run);
        let is_over = matches!(self.look().0.state, LogState::Complete | LogState::Incomplete);
        let offset = self.offset;
        let look = move || {
            let last = tail.map(|lines| results.last_lines(workflow, run, lines)).transpose()?;
            let since =
                since.map(|time| results.since(workflow, run, time, is_over)).transpose()?;
            Ok::<_, io::Error>((
                offset.max(last.unwrap_or(0)).max(since.flatten().unwrap_or(0)),
                since != Some(None),
            ))
        };
        let (offset, has_times) = spawn_blocking(look).await??;
        self.offset = offset;
        Ok(has_times)
    }

    /// So many bytes, or an error.
    fn exactly(self, length: u64) -> impl Stream<Item = io::Result<Bytes>> {
        stream::try_unfold((self, length), |(mut reader, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            match reader.read(left).await? {
                Next::Bytes(bytes) => {
                    let left = left - bytes.len() as u64;
                    Ok(Some((bytes, (reader, left))))
                }
                // More is left out by now, or the workflow was forgotten.
                Next::LeftOut | Next::End => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        })
    }

    /// Bytes until the attempt is over and its log is waited for no more, or a part is left out
    /// that the reader was not told of.
    fn follow(self) -> impl Stream<Item = io::Result<Bytes>> {
        let stopped = self.controller.0.shutdown.clone();
        let waiting = Waiting::new(STALL);
        stream::try_unfold((self, waiting), move |(mut reader, mut waiting)| {
            let stopped = stopped.clone();
            async move {
                loop {
                    // Asked before the file is read: what came in between is read by the next turn.
                    reader.refresh().await?;
                    let (status, _) = reader.look();
                    match reader.read(CHUNK_BYTES as u64).await? {
                        Next::Bytes(bytes) => return Ok(Some((bytes, (reader, waiting)))),
                        Next::LeftOut => return Ok(None),
                        Next::End => {}
                    }
                    let Some(pause) = waiting.pause(&status, Instant::now()) else {
                        return Ok(None);
                    };
                    tokio::select! {
                        // Either there is more, or it is time to look whether the attempt is over.
                        _ = timeout(pause, reader.grown.changed()) => {}
                        // Without an end, so that the client asks the server's successor.
                        () = stopped.cancelled() => return Err(io::ErrorKind::ConnectionAborted.into()),
                    }
                }
            }
        })
    }

    /// Looks whether the attempt is over.
    async fn refresh(&mut self) -> io::Result<()> {
        if self.row.ended.is_some() {
            return Ok(());
        }
        match self.controller.0.store.run(self.row.run).await {
            Ok(Some(row)) => self.row = row,
            Ok(None) => return Err(io::ErrorKind::NotFound.into()),
            // A database that fails for a moment ends nothing.
            Err(_) => {}
        }
        Ok(())
    }

    /// What the files have next, at most so many bytes.
    async fn read(&mut self, most: u64) -> io::Result<Next> {
        let path = self.controller.0.results.log_path(self.row.workflow, self.row.run);
        let offset = self.offset;
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let piece = spawn_blocking(move || log_files::read(&path, offset, most)).await??;
        if piece.bytes.is_empty() {
            return Ok(Next::End);
        }
        if piece.from > self.gap.map_or(offset, |gap| gap.past(offset)) {
            return Ok(Next::LeftOut);
        }
        self.offset = piece.from + piece.bytes.len() as u64;
        Ok(Next::Bytes(piece.bytes.into()))
    }
}

/// What the files of a log have for a reader.
enum Next {
    Bytes(Bytes),
    /// The next bytes are behind a gap that the reader was not told of.
    LeftOut,
    /// Nothing yet.
    End,
}

/// A node that a log is to come from.
#[derive(Debug, Clone)]
struct LogNode {
    /// `None`: it was deleted.
    phase: Option<Phase>,
    /// The boot that its agent runs in, if it ever was connected.
    boot: Option<String>,
}

/// What is known of the log of an attempt, but for its gap. `here`: up to where it is here.
/// `is_held`: the engine waits for the rest of it.
fn status(row: &RunRow, here: u64, is_held: bool, node: &LogNode) -> LogStatus {
    let (name, is_ended) = (&row.node_name, row.ended.is_some());
    let (state, bytes, reason) = match &row.outcome {
        _ if !is_ended => (LogState::Open, None, None),
        _ if here < row.log_bytes && is_held => {
            let why = match node.phase {
                Some(Phase::Ready) => format!("{name} is still sending the rest"),
                _ => format!("{name}, which has the rest, is not connected"),
            };
            (LogState::Arriving, Some(row.log_bytes), Some(why))
        }
        // What is here may be all that its node had; what it wrote last is lost with it.
        Some(Outcome::Lost { why, .. }) => {
            let why = format!("the attempt was lost before the rest of its log was known: {why}");
            (LogState::Incomplete, None, Some(why))
        }
        _ if here >= row.log_bytes => (LogState::Complete, Some(here), None),
        _ => {
            let why = match (node.phase, &node.boot) {
                (None, _) => format!("{name} was deleted"),
                (Some(_), Some(boot)) if *boot != row.boot => format!("{name} was rebooted"),
                _ => {
                    format!("{name} did not send it within {} s of its end", LOG_PATIENCE.as_secs())
                }
            };
            let why = format!("the node was lost before the rest of the log arrived: {why}");
            (LogState::Incomplete, Some(row.log_bytes), Some(why))
        }
    };
    LogStatus { state, task: row.task, attempt: row.attempt, here, bytes, gap: None, reason }
}

/// How long a log that can still grow is waited for.
#[derive(Debug)]
struct Waiting {
    stall: Duration,
    /// Bytes that were here at the last look, and until when more are awaited.
    seen: Option<(u64, Instant)>,
}

impl Waiting {
    fn new(stall: Duration) -> Self {
        Self { stall, seen: None }
    }

    /// How long to wait until the next look; `None` if it is waited for no more.
    fn pause(&mut self, status: &LogStatus, now: Instant) -> Option<Duration> {
        match status.state {
            LogState::Open => Some(LOOK_AGAIN),
            LogState::Arriving => {
                let until = match self.seen {
                    Some((here, until)) if here >= status.here => until,
                    _ => now + self.stall,
                };
                self.seen = Some((status.here, until));
                let left = until.saturating_duration_since(now);
                (!left.is_zero()).then(|| left.min(LOOK_AGAIN))
            }
            LogState::Complete | LogState::Incomplete | LogState::Unknown => None,
        }
    }
}

/// Waits for the rest of the log of an attempt that is over.
async fn arrived(
    look: impl Fn() -> LogStatus,
    grown: &mut watch::Receiver<Option<(RunId, u64)>>,
    stall: Duration,
) -> LogStatus {
    let mut waiting = Waiting::new(stall);
    loop {
        let status = look();
        if status.state == LogState::Open {
            return status;
        }
        let Some(pause) = waiting.pause(&status, Instant::now()) else { return status };
        // Whichever log grew: to look costs little.
        let _ = timeout(pause, grown.changed()).await;
    }
}

#[cfg(test)]
mod tests;
