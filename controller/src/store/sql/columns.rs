//! Rows of the tables as they are read.

use api::{
    ids::{NodeId, NodeName, Timestamp},
    run::{Outcome, RunId, Usage, WorkflowId},
    workflow::{State, Workflow, WorkflowEvent},
};
use database::{Json, Kept, Number, Parsed, Word};
use document::plan::StageId;
use image_catalog::JobImage;
use sqlx::FromRow;

use crate::record::{
    AttemptRow, Damage, Grant, Owner, RunRow, StageRow, VolumePlacement, WorkflowRow,
};

#[derive(FromRow)]
pub(super) struct WorkflowColumns {
    pub(super) id: Parsed<WorkflowId>,
    #[sqlx(rename = "place")]
    pub(super) sequence: Number<u64>,
    pub(super) name: String,
    pub(super) owner: Kept<Json<Owner>>,
    pub(super) submitted: i64,
    pub(super) started: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) state: Kept<Word<State>>,
    pub(super) reason: Option<String>,
    pub(super) stop: Option<String>,
    pub(super) paused: Option<String>,
    #[sqlx(rename = "homes")]
    pub(super) volume_placements: Kept<Json<Vec<Option<VolumePlacement>>>>,
    pub(super) view: Option<Kept<Json<Workflow>>>,
    /// [`crate::store::Listed::key`], in lists alone.
    #[sqlx(default)]
    pub(super) sort_key: String,
}

impl From<WorkflowColumns> for WorkflowRow {
    fn from(row: WorkflowColumns) -> Self {
        let mut unreadable: Option<Damage> = None;
        let mut note = |column: &'static str, error: &dyn std::fmt::Display| {
            let first = || Damage { cause: format!("{column}: {error}"), columns: Vec::new() };
            unreadable.get_or_insert_with(first).columns.push(column);
        };
        let owner = row.owner.0.map_err(|error| note("owner", &error));
        if owner.as_ref().is_ok_and(|owner| owner.0 == Owner::unknown()) {
            note(
                "owner",
                &"an earlier release could not read it either, and wrote a nobody over it",
            );
        }
        let state = row.state.0.map_err(|error| note("state", &error));
        let volume_placements = row.volume_placements.0.map_err(|error| note("homes", &error));
        let view = row.view.and_then(|view| view.0.map_err(|error| note("view", &error)).ok());
        // Those of before have no status.
        let view = view.map(|Json(mut view)| {
            view.summary.status = Some(view.summary.status());
            view
        });
        let unknown_state = if row.ended.is_some() { State::Failed } else { State::Pending };
        Self {
            id: row.id.0,
            sequence: row.sequence.0,
            name: row.name,
            owner: owner.map_or_else(|()| Owner::unknown(), |owner| owner.0),
            submitted: Timestamp(row.submitted),
            started: row.started.map(Timestamp),
            ended: row.ended.map(Timestamp),
            state: state.map_or(unknown_state, |state| state.0),
            reason: row.reason,
            stop: row.stop,
            paused: row.paused,
            volume_placements: volume_placements
                .map(|volume_placements| volume_placements.0)
                .unwrap_or_default(),
            view,
            unreadable,
        }
    }
}

#[derive(FromRow)]
pub(super) struct StageColumns {
    pub(super) workflow: Parsed<WorkflowId>,
    pub(super) stage: Number<u32>,
    pub(super) state: Word<State>,
    pub(super) reason: Option<String>,
    pub(super) started: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) result: Option<Json<JobImage>>,
}

impl From<StageColumns> for StageRow {
    fn from(row: StageColumns) -> Self {
        Self {
            workflow: row.workflow.0,
            stage: StageId(row.stage.0),
            state: row.state.0,
            reason: row.reason,
            started: row.started.map(Timestamp),
            ended: row.ended.map(Timestamp),
            result: row.result.map(|image| image.0),
        }
    }
}

#[derive(FromRow)]
pub(super) struct RunColumns {
    pub(super) run: Parsed<RunId>,
    pub(super) workflow: Parsed<WorkflowId>,
    pub(super) stage: Number<u32>,
    pub(super) task: Number<u32>,
    pub(super) attempt: Number<u32>,
    pub(super) member: Number<u32>,
    pub(super) node: Parsed<NodeId>,
    pub(super) node_name: Parsed<NodeName>,
    pub(super) boot: String,
    pub(super) placement: Option<Json<Grant>>,
    pub(super) placed: i64,
    pub(super) accepted: bool,
    pub(super) started: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) outcome: Option<Json<Outcome>>,
    pub(super) used: Json<Usage>,
    pub(super) log_bytes: Number<u64>,
}

impl From<RunColumns> for RunRow {
    fn from(row: RunColumns) -> Self {
        Self {
            run: row.run.0,
            workflow: row.workflow.0,
            stage: StageId(row.stage.0),
            task: row.task.0,
            attempt: row.attempt.0,
            member: row.member.0,
            node: row.node.0,
            node_name: row.node_name.0,
            boot: row.boot,
            grant: row.placement.map(|grant| grant.0),
            placed: Timestamp(row.placed),
            accepted: row.accepted,
            started: row.started.map(Timestamp),
            ended: row.ended.map(Timestamp),
            outcome: row.outcome.map(|outcome| outcome.0),
            usage: row.used.0,
            log_bytes: row.log_bytes.0,
        }
    }
}

#[derive(FromRow)]
pub(super) struct AttemptColumns {
    pub(super) workflow: Parsed<WorkflowId>,
    pub(super) stage: Number<u32>,
    pub(super) task: Number<u32>,
    pub(super) attempt: Number<u32>,
    pub(super) members: Number<u32>,
    pub(super) placed: i64,
    pub(super) released: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) outcome: Option<Json<Outcome>>,
}

impl From<AttemptColumns> for AttemptRow {
    fn from(row: AttemptColumns) -> Self {
        Self {
            workflow: row.workflow.0,
            stage: StageId(row.stage.0),
            task: row.task.0,
            attempt: row.attempt.0,
            members: row.members.0,
            placed: Timestamp(row.placed),
            released: row.released.map(Timestamp),
            ended: row.ended.map(Timestamp),
            outcome: row.outcome.map(|outcome| outcome.0),
        }
    }
}

#[derive(FromRow)]
pub(super) struct EventColumns {
    pub(super) number: Number<u64>,
    pub(super) at: i64,
    pub(super) event: String,
    pub(super) stage: Option<Number<u32>>,
    pub(super) name: Option<String>,
    pub(super) message: String,
}

impl From<EventColumns> for WorkflowEvent {
    fn from(row: EventColumns) -> Self {
        Self {
            number: row.number.0,
            at: Timestamp(row.at),
            event: row.event.into(),
            stage: row.stage.map(|stage| stage.0),
            name: row.name,
            message: row.message,
        }
    }
}
