//! REST: workflows, their stages and tasks, why they wait, and what happened.

mod events;

use serde::{Deserialize, Serialize};

pub use events::EventKind;

use crate::{
    ids::{NodeName, Timestamp},
    problem::Diagnostic,
    run::{LiveUsage, Outcome, Usage, WorkflowId},
};

/// Largest document, bytes. Inline files are meant for scripts and parameters, not for data.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;

/// Body of `POST /v1/workflows`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StartWorkflow {
    /// Name; default: that of the document, else `workflow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The document, YAML.
    pub document: String,
    /// Start it as this user. Admins only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// `POST /v1/workflows/validate` and `/v1/workflows/render`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CheckDocument {
    /// The document, YAML.
    pub document: String,
}

/// What a check of a document found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Checked {
    /// Mistakes, and what is not supported yet: with any the document is not started.
    #[serde(rename = "mistakes")]
    pub diagnostics: Vec<Diagnostic>,
    /// What is ignored, or too large for the nodes that are there now.
    pub warnings: Vec<Diagnostic>,
}

/// How a workflow, stage or task is. There will be no other words than these: clients of before
/// read no others. What a workflow is doing in more detail is [`WorkflowStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not started yet.
    Pending,
    /// Started, and not over.
    Started,
    /// Ended well.
    Finished,
    /// Ended badly.
    Failed,
    /// Ended because somebody wanted it, or because something that it needs failed.
    Canceled,
}

impl State {
    /// Is it over?
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Canceled)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Started => "started",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// What a workflow is doing, in one word. The server works it out in one place, and lists, `status`
/// and `watch` all show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum WorkflowStatus {
    /// Nothing of it is on a node: it waits for images, for nodes, or for the next
    /// attempt of a task.
    Waiting,
    /// A job, a transfer or a volume of it is on a node.
    Running,
    /// Somebody stopped it, and what is on nodes has not ended yet.
    Stopping,
    /// Somebody paused it: its jobs are paused, and none of its tasks starts.
    Paused,
    /// This release of the server cannot go on with it.
    Blocked,
    /// Ended well.
    Finished,
    /// Ended badly.
    Failed,
    /// Ended because somebody stopped it.
    Canceled,
    /// A word of a newer server. Never sent.
    #[serde(other)]
    Unknown,
}

impl WorkflowStatus {
    /// All that a server of this release says.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Running,
        Self::Stopping,
        Self::Paused,
        Self::Blocked,
        Self::Finished,
        Self::Failed,
        Self::Canceled,
    ];

    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Paused => "paused",
            Self::Blocked => "blocked",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Unknown => "unknown",
        }
    }

    /// The state that a workflow with this status has if it is over, else `None`.
    #[must_use]
    pub fn final_state(self) -> Option<State> {
        match self {
            Self::Finished => Some(State::Finished),
            Self::Failed => Some(State::Failed),
            Self::Canceled => Some(State::Canceled),
            _ => None,
        }
    }
}

/// The kinds of stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum StageKind {
    /// An image is pulled and converted.
    Image,
    /// A volume is made.
    Volume,
    /// A file is taken into a volume or out of one.
    File,
    /// A job runs.
    Job,
}

impl StageKind {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Volume => "volume",
            Self::File => "file",
            Self::Job => "job",
        }
    }
}

/// What a list of workflows is sorted by: `sort` of `GET /v1/workflows`. Of equals, the
/// newest comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WorkflowSort {
    /// When it was handed in, the newest first.
    #[default]
    Created,
    /// By the workflow's name.
    Name,
    /// By the word of its state.
    State,
    /// By the name of its owner.
    User,
}

impl WorkflowSort {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Created, Self::Name, Self::State, Self::User];

    /// The word in a query.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Name => "name",
            Self::State => "state",
            Self::User => "user",
        }
    }
}

/// A workflow in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct WorkflowSummary {
    /// Its identity.
    pub id: WorkflowId,
    /// Its name; several workflows may have the same.
    pub name: String,
    /// Name of the user who owns the workflow.
    pub user: String,
    /// How it is, in the words that clients of before know.
    pub state: State,
    /// What it is doing. Absent from servers of before: [`Self::status`] tells it then too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<WorkflowStatus>,
    /// Stages that have ended well, and all.
    pub stages_finished: u32,
    /// Number of stages in all.
    pub stages: u32,
    /// Time when the user submitted the workflow.
    pub submitted: Timestamp,
    /// Time when the first stage started; absent before.
    pub started: Option<Timestamp>,
    /// Time when the workflow ended; absent before.
    pub ended: Option<Timestamp>,
    /// Why it failed or was canceled.
    pub reason: Option<String>,
    /// Who paused it: its jobs are paused, and none of its tasks starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// Why this release of the server cannot go on with it, though it is not over: what is on nodes
    /// goes to its end, nothing more begins, and it can be stopped. Set at the server's start, for
    /// a workflow of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

impl WorkflowSummary {
    /// What it is doing: the server's word. Of a server, or a record, of before it is what
    /// the other fields tell, which don't know `stopping`, and call a workflow running that
    /// began and waits.
    #[must_use]
    pub fn status(&self) -> WorkflowStatus {
        if let Some(status) = self.status {
            return status;
        }
        match self.state {
            State::Finished => WorkflowStatus::Finished,
            State::Failed => WorkflowStatus::Failed,
            State::Canceled => WorkflowStatus::Canceled,
            _ if self.blocked.is_some() => WorkflowStatus::Blocked,
            _ if self.paused.is_some() => WorkflowStatus::Paused,
            State::Pending => WorkflowStatus::Waiting,
            State::Started => WorkflowStatus::Running,
        }
    }
}

/// Resources that one task uses now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct TaskUsage {
    /// The stage's number.
    pub stage: u32,
    /// Name of the job.
    pub name: String,
    /// `FB_TASK_ID` of an array, else 0.
    pub task: u32,
    /// Number of the attempt within the task, from 1.
    pub attempt: u32,
    /// Which member of the attempt, from 0. Absent: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub member: u32,
    /// Node that the task runs on.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub node: NodeName,
    /// Number of PUs granted.
    pub cpus: u32,
    /// Memory granted, bytes.
    pub memory_limit_bytes: u64,
    /// When its process began, by the server's clock.
    pub started: Timestamp,
    /// Time of the node's report; absent if it has not reported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Figures that the node reported; absent if it has not reported any yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<LiveUsage>,
}

/// A workflow with its stages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Workflow {
    /// The fields that lists show too.
    pub summary: WorkflowSummary,
    /// The stages, those that others wait for first.
    pub stages: Vec<Stage>,
    /// Files that were taken out of volumes for the client.
    pub files: Vec<ClientFile>,
}

/// A stage of a workflow, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Stage {
    /// Its number in the workflow, from 0.
    pub index: u32,
    /// Type of the stage.
    pub kind: StageKind,
    /// Name: of the job or volume, URI of the image, `data/in.txt` of the file.
    pub name: String,
    /// State of the stage.
    pub state: State,
    /// Numbers of the stages that it waits for.
    pub after: Vec<u32>,
    /// What it waits for now, or why it ended badly.
    pub reason: Option<String>,
    /// Time when the stage started; absent before.
    pub started: Option<Timestamp>,
    /// Time when the stage ended; absent before.
    pub ended: Option<Timestamp>,
    /// Nodes that it runs or ran on, at most eight.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub nodes: Vec<NodeName>,
    /// Tasks by state; a job without an array has one.
    pub tasks: TaskCounts,
}

/// Tasks of a stage by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct TaskCounts {
    /// Tasks that have not begun, or wait for their next attempt.
    pub pending: u32,
    /// Tasks with an attempt on a node.
    pub started: u32,
    /// Tasks that ended with status 0.
    pub finished: u32,
    /// Tasks that ended badly and have no attempts left.
    pub failed: u32,
    /// Tasks that were stopped or will not begin any more.
    pub canceled: u32,
}

/// One attempt of a task, or one of its members: an attempt on several nodes has a run on each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Attempt {
    /// The stage's number.
    pub stage: u32,
    /// `FB_TASK_ID` of an array, else 0.
    pub task: u32,
    /// Number of the attempt within the task, from 1.
    pub attempt: u32,
    /// Which member of the attempt, from 0. Absent: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub member: u32,
    /// Node that the attempt runs or ran on.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub node: NodeName,
    /// PUs granted, by OS index.
    pub cpus: Vec<u32>,
    /// NUMA nodes granted.
    pub mems: Vec<u32>,
    /// Names of the devices granted, `nvidia.com/gpu=0`.
    pub devices: Vec<String>,
    /// When it was placed on the node.
    pub placed: Timestamp,
    /// When its process began, by the server's clock.
    pub started: Option<Timestamp>,
    /// When the server heard that it was over.
    pub ended: Option<Timestamp>,
    /// Outcome of the attempt; absent while it runs.
    pub outcome: Option<Outcome>,
    /// Resources that the attempt used in all.
    pub usage: Usage,
    /// Length of its log, bytes.
    pub log_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A file that was taken out of a volume for the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct ClientFile {
    /// The stage's number: `GET /v1/workflows/{id}/files/{stage}`.
    pub stage: u32,
    /// Where the document wants it on the client's machine.
    pub destination: String,
    /// Its size, bytes; absent until it is here. Of a directory: of the tar that it comes as.
    pub size: Option<u64>,
    /// It is a directory, and comes as a tar (GNU): `copy`, what is below it, and at last
    /// an empty `end`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "folder")]
    pub directory: bool,
}

/// Why a workflow goes no faster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Waiting {
    /// The stage's number.
    pub stage: u32,
    /// Name of the stage.
    pub name: String,
    /// What it waits for: resources by node, stages, a pause before the next attempt.
    pub reasons: Vec<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct WorkflowEvent {
    /// Place in the workflow's history, from 1.
    pub number: u64,
    /// Time of the event, by the server's clock.
    pub at: Timestamp,
    /// What, in the words of the workflow language: `WORKFLOW_STARTED`, `CONTAINER_EXITED`. A newer
    /// server may send words that are not known here.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub event: EventKind,
    /// The stage's number, where it is about one.
    pub stage: Option<u32>,
    /// Name of the stage.
    pub name: Option<String>,
    /// Text of the event, for people.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_of_a_status_are_those_of_json() {
        for status in WorkflowStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        let newer: WorkflowStatus = serde_json::from_str("\"suspended\"").unwrap();
        assert_eq!(newer, WorkflowStatus::Unknown);
    }

    #[test]
    fn a_summary_of_a_server_of_before_has_a_status() {
        let read = |state: &str, more: serde_json::Value| {
            let mut text = json!({
                "id": "6f1c1f0e52a14a539f0b6f5f6d1f2d11", "name": "a", "user": "ann", "state": state,
                "stages-finished": 0, "stages": 1, "submitted": 1, "started": null, "ended": null,
                "reason": null,
            });
            text.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value::<WorkflowSummary>(text).unwrap().status().as_str()
        };
        assert_eq!(read("pending", json!({})), "waiting");
        assert_eq!(read("started", json!({})), "running");
        assert_eq!(read("started", json!({"paused": "ann"})), "paused");
        assert_eq!(read("started", json!({"paused": "ann", "blocked": "why"})), "blocked");
        assert_eq!(read("canceled", json!({"paused": "ann"})), "canceled");
        assert_eq!(read("started", json!({"status": "stopping"})), "stopping");
        assert_eq!(read("started", json!({"status": "suspended"})), "unknown", "of a newer server");
    }
}
