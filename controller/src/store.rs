//! Where workflows, their runs and their history are kept: a narrow trait, and one conformance
//! suite for whatever implements it.
//!
//! A batch of [`Write`]s is all or nothing. What is acknowledged to a client, sent to a node or
//! forgotten by a node is in the store before.

use api::{
    ids::{Digest, NodeId, NodeName, Timestamp},
    run::{Outcome, RunId, Usage, WorkflowId},
    workflow::{State, Workflow, WorkflowEvent},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{engine::Home, images::JobImage};

mod listing;
mod spared;
pub(crate) mod sql;

pub(crate) use listing::{Behind, Listed, Listing, NamePattern};
pub(crate) use spared::Spared;

#[cfg(test)]
mod conformance;

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
    /// By stage, task and attempt.
    pub(crate) runs: Vec<RunRow>,
    /// Why a row cannot be read, which is then not among them.
    pub(crate) unreadable: Option<String>,
    /// Runs that are not among them.
    pub(crate) spared: Spared,
}

/// A workflow as stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WorkflowRow {
    pub(crate) id: WorkflowId,
    /// Place in the order of submission.
    pub(crate) place: u64,
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
    pub(crate) homes: Vec<Option<Home>>,
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

/// How long a key of a submission counts, seconds: a day, within which a client that was cut off
/// has tried again.
pub(crate) const KEY_LIFE_SECONDS: i64 = 86_400;

/// An `Idempotency-Key`, of the user who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubmissionKey {
    /// Name of the user who hands in, which need not be the workflow's owner.
    pub(crate) principal: String,
    /// 1 to 255 visible ASCII characters.
    pub(crate) key: String,
}

/// What was handed in under a key before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyedSubmission {
    /// Digest of the request.
    pub(crate) request: Digest,
    /// The workflow that it began. It may have been forgotten since.
    pub(crate) workflow: WorkflowId,
}

/// The place of a run among the runs of its workflow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunKey {
    pub(crate) stage: u32,
    pub(crate) task: u32,
    /// From 1.
    pub(crate) attempt: u32,
}

/// What the store has of what a workflow is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoredPlan {
    /// Its plan.
    Plan(String),
    /// It was handed in before plans were stored, and is not converted: its document.
    Document(String),
}

/// A stage as stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StageRow {
    pub(crate) workflow: WorkflowId,
    pub(crate) stage: u32,
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
    pub(crate) stage: u32,
    pub(crate) task: u32,
    /// From 1.
    pub(crate) attempt: u32,
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

impl RunRow {
    pub(crate) fn key(&self) -> RunKey {
        RunKey { stage: self.stage, task: self.task, attempt: self.attempt }
    }
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
    /// Adds or replaces a run.
    Run(Box<RunRow>),
    /// Adds a line to a workflow's history.
    Event(WorkflowId, Box<WorkflowEvent>),
    /// Removes a workflow that is over, with all that belongs to it. Its logs and files may be
    /// removed from now on ([`Store::forgotten`]).
    Forget(WorkflowId),
    /// Adds or replaces a job image.
    Image { manifest: Digest, image: Box<JobImage>, used: Timestamp },
    /// Removes what is known of the image of a manifest.
    ForgetImage(Digest),
}

/// What the table has of a workflow beside its rows in other tables, for its owner's quotas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldWorkflow {
    pub(crate) id: WorkflowId,
    /// `None`: it cannot be read.
    pub(crate) owner: Option<String>,
    /// Bytes of its document and its plan.
    pub(crate) documents: u64,
    pub(crate) is_over: bool,
}

/// A job image as stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeptImage {
    pub(crate) image: JobImage,
    /// When a workflow used it last, to an hour.
    pub(crate) used: Timestamp,
}

pub use database::DatabaseError as StoreError;

/// What the store offers. Every write is durable when its future ends.
#[async_trait]
pub(crate) trait Store: Send + Sync + std::fmt::Debug {
    /// Workflows that are not over, or were not at `since`, in the order of submission; and those
    /// that are left out because their rows cannot be read.
    async fn unfinished(&self, since: Timestamp) -> Result<(Vec<WorkflowRow>, Spared), StoreError>;
    /// When the workflow that ended last did.
    async fn newest_end(&self) -> Result<Option<Timestamp>, StoreError>;
    /// Workflows of a list that are over, in its order, those behind `behind`, at most `limit`.
    async fn over(
        &self,
        listing: &Listing,
        behind: Option<&Behind>,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError>;
    /// The newest workflow of a name, of one owner or of any.
    async fn newest(&self, name: &str, owner: Option<&str>) -> Result<Option<WorkflowId>, StoreError>;
    /// Workflows of a name with the names of their owners, where those can be read; of one owner or of
    /// any, the newest first, at most `limit`.
    async fn named(
        &self,
        name: &str,
        owner: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(WorkflowId, Option<String>)>, StoreError>;
    /// Workflows that are over beyond the newest `keep`, of one owner or of all, at most a thousand.
    async fn outdated(&self, owner: Option<&str>, keep: u32) -> Result<Vec<WorkflowId>, StoreError>;
    /// One workflow.
    async fn workflow(&self, id: WorkflowId) -> Result<Option<WorkflowRow>, StoreError>;
    /// What a workflow is; `None` if there is no such workflow.
    async fn plan(&self, id: WorkflowId) -> Result<Option<StoredPlan>, StoreError>;
    /// The document of a workflow as it was handed in; `None` if there is no such workflow.
    async fn document(&self, id: WorkflowId) -> Result<Option<String>, StoreError>;
    /// Workflows that are not over and were handed in before plans were stored: how many, and the
    /// bytes of their documents.
    async fn without_plan(&self) -> Result<(u64, u64), StoreError>;
    /// Names of the stages that a workflow's history is about, each once.
    async fn stage_names(&self, id: WorkflowId) -> Result<Vec<(u32, String)>, StoreError>;
    /// All workflows, for their owners' quotas, and whether these are all: one whose id cannot be read
    /// is logged and left out.
    async fn held(&self) -> Result<(Vec<HeldWorkflow>, bool), StoreError>;
    /// Workflows that were forgotten ([`Write::Forget`]) and of which it was not told yet that their
    /// logs and files are gone.
    async fn forgotten(&self) -> Result<Vec<WorkflowId>, StoreError>;
    /// Logs and files of forgotten workflows are gone.
    async fn removed(&self, workflows: &[WorkflowId]) -> Result<(), StoreError>;
    /// The place for the next workflow.
    async fn next_place(&self) -> Result<u64, StoreError>;
    /// Stages and runs of a workflow that were written and can be read; of runs all, or those that ended
    /// at `ended_since` or later.
    async fn rows(&self, id: WorkflowId, ended_since: Option<Timestamp>) -> Result<Rows, StoreError>;
    /// Runs of a workflow by stage, task and attempt, of one stage or of all, those behind `after`,
    /// at most `limit`. One that cannot be read is logged and left out.
    async fn runs(
        &self,
        id: WorkflowId,
        stage: Option<u32>,
        after: Option<RunKey>,
        limit: u32,
    ) -> Result<Vec<RunRow>, StoreError>;
    /// One run.
    async fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError>;
    /// Lines of a workflow's history after `after`, oldest first.
    async fn events(&self, id: WorkflowId, after: u64, limit: u32) -> Result<Vec<WorkflowEvent>, StoreError>;
    /// Number of the last line of a workflow's history, 0 if there is none.
    async fn last_event(&self, id: WorkflowId) -> Result<u64, StoreError>;
    /// The job image made of a manifest.
    async fn image(&self, manifest: Digest) -> Result<Option<JobImage>, StoreError>;
    /// All job images. One that cannot be read is logged and left out.
    async fn images(&self) -> Result<Vec<KeptImage>, StoreError>;
    /// What was handed in under a key since a time.
    async fn submission(
        &self,
        key: &SubmissionKey,
        since: Timestamp,
    ) -> Result<Option<KeyedSubmission>, StoreError>;
    /// How many keys a user has used since a time.
    async fn keys_of(&self, principal: &str, since: Timestamp) -> Result<u64, StoreError>;
    /// Writes all, or nothing.
    async fn commit(&self, writes: &[Write]) -> Result<(), StoreError>;
}
