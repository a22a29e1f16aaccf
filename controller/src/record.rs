//! What is kept of workflows: rows, the values in their columns, and the writes that change them.
//! The engine makes them, the store writes and reads them; neither knows the other.
//!
//! | type | is |
//! |---|---|
//! | [`WorkflowRow`], [`StageRow`], [`AttemptRow`], [`RunRow`] | rows |
//! | [`Owner`], [`VolumePlacement`], [`Grant`] | values in columns, JSON |
//! | [`Write`] | a change |
//! | [`SparedRows`], [`Damage`] | what cannot be read |

use std::collections::{BTreeMap, BTreeSet};

use api::{
    ids::{Digest, NodeId, NodeName, Timestamp},
    run::{Outcome, RunId, Usage, WorkflowId},
    sources::without_secrets,
    workflow::{Attempt, State, Workflow, WorkflowEvent, WorkflowStatus, WorkflowSummary},
};
use document::plan::StageId;
use image_catalog::{FetchError, JobImage};
use serde::{Deserialize, Serialize};

/// Who a workflow belongs to: the user's record as it was when the workflow was handed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Owner {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

impl Owner {
    /// Of a workflow whose owner cannot be read: nobody has this name, so only admins see it, and
    /// nothing is begun with these numbers. Never written: see [`Damage`].
    pub(crate) fn unknown() -> Self {
        Self { name: String::new(), uid: u32::MAX, gid: u32::MAX, groups: Vec::new() }
    }
}

/// Columns of a workflow's row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Why the first of them cannot be read, for people.
    pub(crate) cause: String,
    /// Their names. They keep what they hold when the row is written.
    pub(crate) columns: Vec<&'static str>,
}

/// What a workflow has in the tables beside its own row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) stages: Vec<StageRow>,
    /// Of several members, in any order.
    pub(crate) attempts: Vec<AttemptRow>,
    /// By stage, task, attempt and member.
    pub(crate) runs: Vec<RunRow>,
    /// Why a row cannot be read, which is then not among them.
    pub(crate) unreadable: Option<String>,
    /// Runs that are not among them.
    pub(crate) spared: SparedRows,
}

/// A workflow as stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WorkflowRow {
    pub(crate) id: WorkflowId,
    /// Place in the order of submission.
    pub(crate) sequence: u64,
    pub(crate) name: String,
    pub(crate) owner: Owner,
    pub(crate) submitted: Timestamp,
    pub(crate) started: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    /// Why it shall stop.
    pub(crate) stop: Option<String>,
    /// Who paused it.
    pub(crate) paused: Option<String>,
    /// Node of each group of volumes, where it is chosen.
    pub(crate) volume_placements: Vec<Option<VolumePlacement>>,
    /// What is shown of it, once it is over.
    pub(crate) view: Option<Workflow>,
    /// What of the row cannot be read, which is then as if it were unknown.
    pub(crate) unreadable: Option<Damage>,
}

/// A workflow that was just handed in, with what never changes of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SubmittedRow {
    pub(crate) row: WorkflowRow,
    /// As it was written.
    pub(crate) document: String,
    /// [`document::plan::Plan::to_json`].
    pub(crate) plan: String,
    /// The key that it came with, if any, and the digest of the request.
    pub(crate) key: Option<(SubmissionKey, Digest)>,
}

/// An `Idempotency-Key`, of the user who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubmissionKey {
    /// Name of the user who hands in, which need not be the workflow's owner.
    pub(crate) principal: String,
    /// 1 to 255 visible ASCII characters.
    pub(crate) key: String,
}

/// A stage as stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StageRow {
    pub(crate) workflow: WorkflowId,
    pub(crate) stage: StageId,
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    /// Of an image stage: the image.
    pub(crate) result: Option<JobImage>,
}

/// What a run was granted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Grant {
    pub(crate) cpus: Vec<u32>,
    /// Cores taken, by their place in the node's inventory.
    pub(crate) cores: Vec<u32>,
    /// Bytes of memory by NUMA node.
    pub(crate) memory: Vec<(u32, u64)>,
    pub(crate) devices: Vec<String>,
    pub(crate) exclusive: bool,
}

/// A run as stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunRow {
    pub(crate) run: RunId,
    pub(crate) workflow: WorkflowId,
    pub(crate) stage: StageId,
    /// What users call the task: [`document::plan::Tasks::number`].
    pub(crate) task: u32,
    /// From 1.
    pub(crate) attempt: u32,
    /// Which member of the attempt, from 0.
    pub(crate) member: u32,
    pub(crate) node: NodeId,
    pub(crate) node_name: NodeName,
    /// The boot of the node that it was given to.
    pub(crate) boot: String,
    /// Of a job.
    pub(crate) grant: Option<Grant>,
    pub(crate) placed: Timestamp,
    /// The node said that it has it.
    pub(crate) accepted: bool,
    pub(crate) started: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) usage: Usage,
    pub(crate) log_bytes: u64,
}

/// Stage, task and number of an attempt, in the order in which they are recalled.
pub(crate) type AttemptKey = (StageId, u32, u32);

impl AttemptRow {
    pub(crate) fn key(&self) -> AttemptKey {
        (self.stage, self.task, self.attempt)
    }
}

impl RunRow {
    /// The attempt that it is a member of.
    pub(crate) fn attempt_key(&self) -> AttemptKey {
        (self.stage, self.task, self.attempt)
    }

    pub(crate) fn key(&self) -> RunKey {
        let Self { stage, task, attempt, member, .. } = *self;
        RunKey { stage, task, attempt, member }
    }
}

/// An attempt of several members as stored. One of a single member is its run's row alone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttemptRow {
    pub(crate) workflow: WorkflowId,
    pub(crate) stage: StageId,
    /// What users call the task: [`document::plan::Tasks::number`].
    pub(crate) task: u32,
    /// From 1.
    pub(crate) attempt: u32,
    /// How many runs it has.
    pub(crate) members: u32,
    pub(crate) placed: Timestamp,
    /// When all members were prepared, and their processes were released.
    pub(crate) released: Option<Timestamp>,
    /// When its last member was over.
    pub(crate) ended: Option<Timestamp>,
    /// How it ended: as its first member that ended badly. Known from then on, before the
    /// others are over.
    pub(crate) outcome: Option<Outcome>,
}

/// Where the volumes of a group are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct VolumePlacement {
    pub(crate) node: NodeId,
    pub(crate) name: NodeName,
    /// The boot that they live in (`/proc/sys/kernel/random/boot_id`).
    pub(crate) boot: String,
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Write {
    /// Adds a workflow with its document and plan.
    Submit(Box<SubmittedRow>),
    /// Replaces what changes of a workflow.
    Workflow(Box<WorkflowRow>),
    /// Adds the plan of a workflow that was handed in before plans were stored. Does nothing if it
    /// has one.
    Plan {
        /// The workflow.
        workflow: WorkflowId,
        /// [`document::plan::Plan::to_json`].
        plan: String,
    },
    /// Adds or replaces a stage.
    Stage(Box<StageRow>),
    /// Adds or replaces an attempt of several members.
    Attempt(Box<AttemptRow>),
    /// Adds or replaces a run.
    Run(Box<RunRow>),
    /// Adds a line to a workflow's history.
    Event(WorkflowId, Box<WorkflowEvent>),
    /// Removes a workflow that is over, with all that belongs to it. Its logs and files may be
    /// removed from now on ([`crate::store::Store::forgotten`]).
    Forget(WorkflowId),
}

/// The place of a run among the runs of its workflow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunKey {
    pub(crate) stage: StageId,
    pub(crate) task: u32,
    /// From 1.
    pub(crate) attempt: u32,
    /// From 0. Cursors of before have none.
    #[serde(default)]
    pub(crate) member: u32,
}

/// What the image stages of one workflow are doing, for people.
pub(crate) type PullsOfWorkflow = BTreeMap<StageId, String>;

/// Runs and volumes of rows that cannot be read. On nodes they are left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SparedRows {
    /// Runs whose rows cannot be read.
    pub(crate) runs: BTreeSet<RunId>,
    /// Workflows whose rows cannot be read.
    pub(crate) workflows: BTreeSet<WorkflowId>,
    /// A run has no readable id: every run that nobody knows may be it.
    pub(crate) any_run: bool,
    /// A workflow has no readable id: all volumes that nobody knows may be its.
    pub(crate) any_workflow: bool,
}

impl RunRow {
    /// As an attempt of its task, for clients.
    pub(crate) fn attempt(&self) -> Attempt {
        let grant = self.grant.clone().unwrap_or_default();
        Attempt {
            stage: self.stage.0,
            task: self.task,
            attempt: self.attempt,
            member: self.member,
            node: self.node_name.clone(),
            cpus: grant.cpus,
            mems: grant.memory.iter().map(|(numa, _)| *numa).collect(),
            devices: grant.devices,
            placed: self.placed,
            started: self.started,
            ended: self.ended,
            outcome: self.outcome.clone(),
            usage: self.usage.clone(),
            log_bytes: self.log_bytes,
        }
    }
}

impl WorkflowRow {
    /// As a list shows a workflow that is over and whose stages are not known.
    pub(crate) fn summary(&self) -> WorkflowSummary {
        WorkflowSummary {
            status: Some(workflow_status(
                self.state,
                self.stop.as_ref(),
                self.paused.as_ref(),
                None,
                false,
            )),
            id: self.id,
            name: self.name.clone(),
            user: self.owner.name.clone(),
            state: self.state,
            stages_finished: 0,
            stages: 0,
            submitted: self.submitted,
            started: self.started,
            ended: self.ended,
            reason: self.reason.clone(),
            paused: self.paused.clone(),
            blocked: None,
        }
    }
}

/// What a workflow is doing: the one place that says so. `stop`, `paused` and `blocked`:
/// why it shall stop, who paused it, why it cannot go on. `is_on_nodes`: a run of it is
/// placed and not over.
pub(crate) fn workflow_status(
    state: State,
    stop: Option<&String>,
    paused: Option<&String>,
    blocked: Option<&String>,
    is_on_nodes: bool,
) -> WorkflowStatus {
    match state {
        State::Finished => WorkflowStatus::Finished,
        State::Failed => WorkflowStatus::Failed,
        State::Canceled => WorkflowStatus::Canceled,
        State::Pending | State::Started if stop.is_some() => WorkflowStatus::Stopping,
        State::Pending | State::Started if blocked.is_some() => WorkflowStatus::Blocked,
        State::Pending | State::Started if paused.is_some() => WorkflowStatus::Paused,
        State::Pending | State::Started if is_on_nodes => WorkflowStatus::Running,
        State::Pending | State::Started => WorkflowStatus::Waiting,
    }
}

/// Why a job image is not here, in one line that its user may read: no secret of an address is in
/// it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ToldFetchError(String);

impl ToldFetchError {
    /// `line` has no secrets in it.
    pub(crate) fn new(line: String) -> Self {
        Self(line)
    }
}

impl From<&FetchError> for ToldFetchError {
    fn from(error: &FetchError) -> Self {
        Self::new(without_secrets(&rest::causes(error)))
    }
}
