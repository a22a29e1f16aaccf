//! What the last run of the server left, read into the engine before anything else happens.
//!
//! A workflow is its stored plan ([`document::plan`]). One that was handed in before plans were
//! stored is converted here, once, each in a transaction of its own: a server that is killed in the
//! middle goes on with the rest. One whose plan cannot be had is blocked: its rows stay as they are
//! for a release that knows more, what runs of it is followed to its end, and people are shown why.

use std::collections::BTreeMap;

use api::{ids::Timestamp, workflow::StageKind};
use document::plan::{Plan, PlanError, StageAction, StageId, StagePlan, Tasks};
use image_catalog::JobImages;
use rest::causes;

use crate::{
    clock,
    engine::{Engine, KnownPlan, LOG_PATIENCE, WorkflowState},
    files,
    record::{Rows, RunRow, StageRow, WorkflowRow, Write},
    results::Results,
    store::{Store, StoreError, StoredPlan},
};

/// Converted workflows between two lines of the log.
const TELL_EVERY: u64 = 1_000;

/// Stages that stand in for those of a blocked workflow at most: a document cannot have more.
const MAX_STAND_IN: u32 = 1 << 20;

/// Why a workflow of before cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockedError {
    #[error("this release cannot read its document ({0}); a later release may")]
    Document(api::problem::Diagnostic),
    #[error("this release cannot read its document; a later release may")]
    DocumentWithoutDiagnostic,
    #[error("its inline files cannot be stored; the server tries again when it starts")]
    Files(#[source] image_store::StoreError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("its plan has no task {task} of stage {stage}, which the database has an attempt of")]
    Run { stage: StageId, task: u32 },
    #[error("its plan has no stage {stage}, which the database has a state of")]
    Stage { stage: StageId },
    #[error("it cannot be read from the database ({cause})")]
    Unreadable { cause: String },
    #[error("its plan has {planned} groups of volumes, and the database {stored}")]
    Homes { planned: usize, stored: usize },
}

/// Reads every workflow that is not over, and those that wait for the rest of a log alone.
pub(crate) async fn restore(
    engine: &mut Engine,
    store: &dyn Store,
    images: &JobImages,
    results: &Results,
) -> Result<(), StoreError> {
    let mut progress = Progress::begin(store).await?;
    let since = logs_waited_for_since(store).await?;
    let (workflows, spared) = store.unfinished(since).await?;
    engine.spare(None, spared);
    for row in workflows {
        // Of what is over, the logs of those that ended before were waited for long enough.
        let mut rows = store.rows(row.id, row.ended.map(|_| since)).await?;
        let spared = std::mem::take(&mut rows.spared);
        // What somebody has stopped is to end, whether or not it can be read.
        if row.stop.is_none() {
            engine.spare(Some(row.id), spared);
        }
        let workflow_state =
            workflow_state(row, rows, store, images, results, &mut progress).await?;
        if workflow_state.ended.is_none() || !workflow_state.runs.is_empty() {
            engine.adopt(workflow_state);
        }
    }
    progress.end();
    Ok(())
}

/// When a workflow must have ended for its logs to be waited for.
pub(crate) async fn logs_waited_for_since(store: &dyn Store) -> Result<Timestamp, StoreError> {
    // However long the server was down: what ended shortly before that may still have its log.
    let down_since =
        store.newest_end().await?.map_or_else(clock::now, |newest| newest.min(clock::now()));
    let patience = i64::try_from(LOG_PATIENCE.as_secs()).unwrap_or(i64::MAX);
    Ok(down_since.plus_seconds(-patience))
}

/// The plan of a workflow as far as it can be had without writing anything; one of before plans
/// were stored has none yet. Else why the workflow will be blocked.
pub(crate) async fn look_at_plan(
    row: &WorkflowRow,
    rows: &Rows,
    store: &dyn Store,
) -> Result<Result<Option<Plan>, BlockedError>, StoreError> {
    let stored = match stored_plan(row, rows, store).await? {
        Ok(stored) => stored,
        Err(error) => return Ok(Err(error)),
    };
    Ok(match stored {
        StoredPlan::Plan(text) => {
            let plan = Plan::read(&text).map_err(BlockedError::from);
            plan.and_then(|plan| fits(&plan, row, rows).map(|()| Some(plan)))
        }
        StoredPlan::Document(text) => read_document(&text).map(|_| None),
    })
}

/// A workflow out of its rows.
async fn workflow_state(
    row: WorkflowRow,
    rows: Rows,
    store: &dyn Store,
    images: &JobImages,
    results: &Results,
    progress: &mut Progress,
) -> Result<WorkflowState, StoreError> {
    let id = row.id;
    let known = match plan(&row, &rows, store, images, progress).await? {
        Ok(plan) => KnownPlan::Plan(plan),
        Err(error) => {
            let why = causes(&error);
            if row.ended.is_none() {
                tracing::error!("workflow {} ({id}) is blocked: {why}", row.name);
            }
            // Without their names they have their numbers.
            let names = known_or_none(store.stage_names(id).await)?.unwrap_or_default();
            KnownPlan::Blocked { why, stand_in: stand_in(&rows.stages, &rows.runs, &names) }
        }
    };
    let events = store.last_event(id).await?;
    Ok(WorkflowState::restore(row, known, rows, events, |run| results.log(id, run).end()))
}

/// What was read; `None` if it is there and cannot be.
fn known_or_none<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error @ StoreError::Decode { .. }) => {
            tracing::error!("{}", causes(&error));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The plan of a workflow, read or converted, if all that the store has of the workflow is of it.
async fn plan(
    row: &WorkflowRow,
    rows: &Rows,
    store: &dyn Store,
    images: &JobImages,
    progress: &mut Progress,
) -> Result<Result<Plan, BlockedError>, StoreError> {
    let stored = match stored_plan(row, rows, store).await? {
        Ok(stored) => stored,
        Err(error) => return Ok(Err(error)),
    };
    match stored {
        StoredPlan::Plan(text) => {
            let plan = Plan::read(&text).map_err(BlockedError::from);
            Ok(plan.and_then(|plan| fits(&plan, row, rows).map(|()| plan)))
        }
        StoredPlan::Document(text) => {
            let converted = convert(&text, images).await;
            let converted = converted.and_then(|plan| fits(&plan, row, rows).map(|()| plan));
            let converted = converted.and_then(|plan| Ok((plan.to_json()?, plan)));
            match converted {
                // It waits for the rest of a log alone, and nobody reads its plan again.
                Ok((_, plan)) if row.ended.is_some() => Ok(Ok(plan)),
                Ok((stored, plan)) => {
                    store.commit(&[Write::Plan { workflow: row.id, plan: stored }]).await?;
                    progress.converted();
                    Ok(Ok(plan))
                }
                Err(error) => {
                    progress.blocked += u64::from(row.ended.is_none());
                    Ok(Err(error))
                }
            }
        }
    }
}

/// What the database has as the plan of a workflow whose rows can be read.
async fn stored_plan(
    row: &WorkflowRow,
    rows: &Rows,
    store: &dyn Store,
) -> Result<Result<StoredPlan, BlockedError>, StoreError> {
    let of_row = row.unreadable.as_ref().map(|damage| &damage.cause);
    if let Some(cause) = of_row.or(rows.unreadable.as_ref()) {
        return Ok(Err(BlockedError::Unreadable { cause: cause.clone() }));
    }
    // It was there when the row was read, and nobody deletes while the server starts.
    let stored = known_or_none(store.plan(row.id).await)?.flatten();
    Ok(stored.ok_or(BlockedError::DocumentWithoutDiagnostic))
}

fn read_document(text: &str) -> Result<document::Workflow, BlockedError> {
    document::read_accepted(text).map_err(|diagnostics| {
        let first = diagnostics.into_iter().next();
        first.map_or(BlockedError::DocumentWithoutDiagnostic, BlockedError::Document)
    })
}

/// Makes the plan of a document of before, as [`document::read_accepted`] reads it: what was
/// accepted once is held against no rule again.
async fn convert(text: &str, images: &JobImages) -> Result<Plan, BlockedError> {
    let workflow = read_document(text)?;
    let files = files::store(&workflow, images).await.map_err(BlockedError::Files)?;
    Ok(Plan::of(&workflow, &files)?)
}

/// Stages, tasks and groups that the store names by number are there in the plan.
fn fits(plan: &Plan, row: &WorkflowRow, rows: &Rows) -> Result<(), BlockedError> {
    if row.volume_placements.len() != plan.groups {
        return Err(BlockedError::Homes {
            planned: plan.groups,
            stored: row.volume_placements.len(),
        });
    }
    let strange = rows.stages.iter().find(|row| plan.stages.len() <= row.stage.index());
    if let Some(&StageRow { stage, .. }) = strange {
        return Err(BlockedError::Stage { stage });
    }
    match rows.runs.iter().find(|run| !plan.has_task(run.stage, run.task)) {
        Some(&RunRow { stage, task, .. }) => Err(BlockedError::Run { stage, task }),
        None => Ok(()),
    }
}

/// What rows of runs tell of a stage whose plan is not known. Tasks begin in order.
struct SeenTasks {
    first: u32,
    last: u32,
    members: u32,
    /// One of them has a grant.
    is_job: bool,
}

/// Stages under the numbers that the store has rows of, each what it seems to be. They let the
/// engine follow what runs, and people see it; they are never stored.
pub(crate) fn stand_in(stages: &[StageRow], runs: &[RunRow], names: &[(StageId, String)]) -> Plan {
    let names: BTreeMap<StageId, &str> =
        names.iter().map(|(stage, name)| (*stage, name.as_str())).collect();
    let mut seen: BTreeMap<StageId, SeenTasks> = BTreeMap::new();
    for run in runs {
        let new = SeenTasks { first: run.task, last: run.task, members: 1, is_job: false };
        let seen = seen.entry(run.stage).or_insert(new);
        seen.first = run.task.min(seen.first);
        seen.last = run.task.max(seen.last);
        seen.members = run.member.saturating_add(1).max(seen.members);
        seen.is_job |= run.grant.is_some();
    }
    let with_rows = stages.iter().map(|row| row.stage).chain(runs.iter().map(|run| run.stage));
    let count =
        with_rows.chain(names.keys().copied()).max().map_or(0, |last| last.0.saturating_add(1));
    let stage = |number: StageId| {
        let name =
            names.get(&number).map_or_else(|| format!("stage {number}"), |name| (*name).to_owned());
        let of_runs = seen.get(&number);
        let kind = match of_runs {
            Some(SeenTasks { is_job: true, .. }) => StageKind::Job,
            Some(_) if name.contains('/') => StageKind::File,
            Some(_) => StageKind::Volume,
            None if name.starts_with("docker://") => StageKind::Image,
            None => StageKind::Job,
        };
        let (first, last) = of_runs.map_or((0, 0), |seen| (seen.first, seen.last));
        StagePlan {
            name,
            after: Vec::new(),
            group: None,
            // Nothing of it begins; and none of its tasks is given up before it is known how often
            // it may be tried.
            retries: u32::MAX,
            timeout_seconds: 0,
            tasks: Tasks {
                // Those before the first do not exist: they would never end.
                first: (last > 0).then_some(first),
                count: (last - first).saturating_add(1),
                concurrency: u32::MAX,
            },
            members: of_runs.map_or(1, |seen| seen.members),
            work: StageAction::Unknown { kind },
        }
    };
    Plan {
        groups: 0,
        stages: (0..count.min(MAX_STAND_IN)).map(|number| stage(StageId(number))).collect(),
    }
}

/// Tells of the conversion in the server's log.
struct Progress {
    all: u64,
    converted: u64,
    blocked: u64,
}

impl Progress {
    async fn begin(store: &dyn Store) -> Result<Self, StoreError> {
        let (all, bytes) = store.without_plan().await?;
        if all > 0 {
            // A plan has the document's text once more, and the write-ahead log has both.
            let room = bytes.saturating_mul(3) >> 20;
            tracing::info!(
                "{all} workflows of an earlier release are converted to plans; the database grows by \
                 about {} MiB",
                room + 1
            );
        }
        Ok(Self { all, converted: 0, blocked: 0 })
    }

    fn converted(&mut self) {
        self.converted += 1;
        if self.converted.is_multiple_of(TELL_EVERY) {
            tracing::info!("{} of {} workflows are converted", self.converted, self.all);
        }
    }

    fn end(&self) {
        if self.converted + self.blocked > 0 {
            let Self { converted, blocked, .. } = self;
            tracing::info!("{converted} workflows were converted to plans, {blocked} are blocked");
        }
    }
}

#[cfg(test)]
mod tests;
