//! Where workflows, their runs and their history are kept: a narrow trait, and one conformance
//! suite for whatever implements it.
//!
//! A batch of [`Write`]s is all or nothing. What is acknowledged to a client, sent to a node or
//! forgotten by a node is in the store before.

use api::{
    ids::{Digest, Timestamp},
    run::{RunId, WorkflowId},
    workflow::WorkflowEvent,
};
use async_trait::async_trait;
use document::plan::StageId;

use crate::record::{Rows, RunKey, RunRow, SparedRows, SubmissionKey, WorkflowRow, Write};

mod listing;
pub(crate) mod sql;

pub(crate) use listing::{Listed, Listing, NamePattern, PageCursor};

#[cfg(test)]
mod conformance;

/// How long a key of a submission counts, seconds: a day, within which a client that was cut off
/// has tried again.
pub(crate) const KEY_LIFE_SECONDS: i64 = 86_400;

/// What was handed in under a key before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyedSubmission {
    /// Digest of the request.
    pub(crate) request: Digest,
    /// The workflow that it began. It may have been forgotten since.
    pub(crate) workflow: WorkflowId,
}

/// What the store has of what a workflow is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoredPlan {
    /// Its plan.
    Plan(String),
    /// It was handed in before plans were stored, and is not converted: its document.
    Document(String),
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

pub use database::DatabaseError as StoreError;

/// What the store offers. Every write is durable when its future ends.
#[async_trait]
pub(crate) trait Store: Send + Sync + std::fmt::Debug {
    /// Workflows that are not over, or were not at `since`, in the order of submission; and those
    /// that are left out because their rows cannot be read.
    async fn unfinished(
        &self,
        since: Timestamp,
    ) -> Result<(Vec<WorkflowRow>, SparedRows), StoreError>;
    /// When the workflow that ended last did.
    async fn newest_end(&self) -> Result<Option<Timestamp>, StoreError>;
    /// Workflows of a list that are over, in its order, those behind `behind`, at most `limit`.
    async fn over(
        &self,
        listing: &Listing,
        behind: Option<&PageCursor>,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError>;
    /// The newest workflow of a name, of one owner or of any.
    async fn newest(
        &self,
        name: &str,
        owner: Option<&str>,
    ) -> Result<Option<WorkflowId>, StoreError>;
    /// Workflows of a name with the names of their owners, where those can be read; of one owner or
    /// of any, the newest first, at most `limit`.
    async fn named(
        &self,
        name: &str,
        owner: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(WorkflowId, Option<String>)>, StoreError>;
    /// Workflows that are over beyond the newest `keep`, of one owner or of all, at
    /// most a thousand.
    async fn outdated(&self, owner: Option<&str>, keep: u32)
    -> Result<Vec<WorkflowId>, StoreError>;
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
    async fn stage_names(&self, id: WorkflowId) -> Result<Vec<(StageId, String)>, StoreError>;
    /// All workflows, for their owners' quotas, and whether these are all: one whose id cannot be
    /// read is logged and left out.
    async fn held(&self) -> Result<(Vec<HeldWorkflow>, bool), StoreError>;
    /// Workflows that were forgotten ([`Write::Forget`]) and of which it was not told yet that
    /// their logs and files are gone.
    async fn forgotten(&self) -> Result<Vec<WorkflowId>, StoreError>;
    /// Logs and files of forgotten workflows are gone.
    async fn removed(&self, workflows: &[WorkflowId]) -> Result<(), StoreError>;
    /// The place for the next workflow.
    async fn next_sequence(&self) -> Result<u64, StoreError>;
    /// Stages and runs of a workflow that were written and can be read; of runs all, or those that
    /// ended at `ended_since` or later.
    async fn rows(
        &self,
        id: WorkflowId,
        ended_since: Option<Timestamp>,
    ) -> Result<Rows, StoreError>;
    /// Runs of a workflow by stage, task, attempt and member, of one stage or of all, those behind
    /// `after`, at most `limit`. One that cannot be read is logged and left out.
    async fn runs(
        &self,
        id: WorkflowId,
        stage: Option<StageId>,
        after: Option<RunKey>,
        limit: u32,
    ) -> Result<Vec<RunRow>, StoreError>;
    /// One run.
    async fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError>;
    /// Lines of a workflow's history after `after`, oldest first.
    async fn events(
        &self,
        id: WorkflowId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<WorkflowEvent>, StoreError>;
    /// Number of the last line of a workflow's history, 0 if there is none.
    async fn last_event(&self, id: WorkflowId) -> Result<u64, StoreError>;
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
