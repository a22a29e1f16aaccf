//! What the controller keeps: a narrow trait, one module for each engine. Called by the [`crate::Controller`] only.
//!
//! A [`Write`] batch is all or nothing. What is acknowledged to a client, told to a node or forgotten by a node is in
//! the store before.

use api::{
    ids::{Digest, NodeId, NodeName, Timestamp},
    run::{Outcome, RunId, Usage, WorkflowId},
    workflow::{State, Workflow, WorkflowEvent},
};
use serde::{Deserialize, Serialize};

use crate::{engine::Home, images::JobImage};

pub(crate) mod sqlite;

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
}

/// A workflow that was just handed in, with what never changes of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SubmittedRow {
    pub(crate) row: WorkflowRow,
    /// As it was written.
    pub(crate) document: String,
    /// [`document::plan::Plan::to_json`].
    pub(crate) plan: String,
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
    /// Removes a workflow that is over, with all that belongs to it.
    Forget(WorkflowId),
    /// Adds or replaces a job image.
    Image { manifest: Digest, image: Box<JobImage>, used: Timestamp },
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("cannot {action}")]
    Database {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// The tables could not be made or brought up to date.
    #[error("cannot bring the controller's tables up to date")]
    Migrate {
        /// Why it failed.
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// A row that this version cannot read.
    #[error("{subject} in the database cannot be read")]
    Decode {
        /// Which row.
        subject: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What an engine can do.
pub(crate) trait Store: Send + Sync {
    /// Workflows that are not over, or were not at `since`, in the order of submission.
    fn unfinished(
        &self,
        since: Timestamp,
    ) -> impl Future<Output = Result<Vec<WorkflowRow>, StoreError>> + Send;
    /// Workflows that are over, newest first, of one owner or of all, at most `limit`.
    fn finished(
        &self,
        owner: Option<&str>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<WorkflowRow>, StoreError>> + Send;
    /// The newest workflow of a name, of one owner or of any.
    fn newest(
        &self,
        name: &str,
        owner: Option<&str>,
    ) -> impl Future<Output = Result<Option<WorkflowId>, StoreError>> + Send;
    /// Workflows that are over beyond the newest `keep`, at most a thousand.
    fn outdated(&self, keep: u32) -> impl Future<Output = Result<Vec<WorkflowId>, StoreError>> + Send;
    /// One workflow.
    fn workflow(
        &self,
        id: WorkflowId,
    ) -> impl Future<Output = Result<Option<WorkflowRow>, StoreError>> + Send;
    /// What a workflow is; `None` if there is no such workflow.
    fn plan(&self, id: WorkflowId) -> impl Future<Output = Result<Option<StoredPlan>, StoreError>> + Send;
    /// Workflows that are not over and were handed in before plans were stored: how many, and the
    /// bytes of their documents.
    fn without_plan(&self) -> impl Future<Output = Result<(u64, u64), StoreError>> + Send;
    /// Names of the stages that a workflow's history is about, each once.
    fn stage_names(
        &self,
        id: WorkflowId,
    ) -> impl Future<Output = Result<Vec<(u32, String)>, StoreError>> + Send;
    /// The place for the next workflow.
    fn next_place(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Stages of a workflow that were written.
    fn stages(&self, id: WorkflowId) -> impl Future<Output = Result<Vec<StageRow>, StoreError>> + Send;
    /// Runs of a workflow by stage, task and attempt, of one stage or of all, at most `limit`.
    fn runs(
        &self,
        id: WorkflowId,
        stage: Option<u32>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<RunRow>, StoreError>> + Send;
    /// One run.
    fn run(&self, id: RunId) -> impl Future<Output = Result<Option<RunRow>, StoreError>> + Send;
    /// Lines of a workflow's history after `after`, oldest first.
    fn events(
        &self,
        id: WorkflowId,
        after: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<WorkflowEvent>, StoreError>> + Send;
    /// Number of the last line of a workflow's history, 0 if there is none.
    fn last_event(&self, id: WorkflowId) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// The job image made of a manifest.
    fn image(&self, manifest: Digest) -> impl Future<Output = Result<Option<JobImage>, StoreError>> + Send;
    /// Writes all, or nothing.
    fn commit(&self, writes: &[Write]) -> impl Future<Output = Result<(), StoreError>> + Send;
}
