//! The plan of a workflow: its stages, what each does, and which waits for which. Pure.
//!
//! A plan is made of a document once, when the workflow is submitted, and stored beside it as JSON
//! ([`Plan::to_json`]). From then on the plan is what the workflow is: a server that starts reads
//! it ([`Plan::read`]) and never the document. Stages, tasks and attempts are named in the database
//! by their numbers in the stored plan.
//!
//! ```text
//! {"plan": 1, "groups": 1, "stages": [
//!   {"name": "docker://HOST/IMAGE", "timeout-seconds": 86400,
//!    "work": {"image": {"reference": "HOST/IMAGE"}}},
//!   {"name": "count", "after": [0], "retries": 2, "timeout-seconds": 60,
//!    "tasks": {"first": 1, "count": 1000000, "concurrency": 64},
//!    "work": {"job": {"image": 0, "command": ["/bin/count"], "resource": {"cores": 1, …}, …}}}]}
//! ```
//!
//! An array is a range, and a file is its digest: the size of a plan does not depend on how many
//! tasks it has and how long its files are. It is that of the document with the defaults merged
//! into each job and each dependency named, and both are bounded when the document is handed in.
//!
//! | module | does |
//! |---|---|
//! | `build` | from a normalised document to stages |
//! | `dependency` | what a stage waits for |
//! | `ids` | numbers of stages and tasks |
//! | `references` | no number in a plan leads nowhere |
//! | `version` | which version of plans it is |
//!
//! Rules of the format: `docs/decisions/0007-stored-plans.md`. In short: a field that a reader may
//! ignore is added with a default; whatever an older release would carry out wrongly without
//! knowing it raises [`VERSION`], and the reader of the older version stays.

mod build;
mod dependency;
mod ids;
mod references;
mod version;

use std::collections::BTreeMap;

use api::{ids::Digest, workflow::StageKind};
use serde::{Deserialize, Serialize};

use crate::Workflow;

pub use dependency::{Dependency, Until};
pub use ids::{StageId, TaskId};
pub use version::VERSION;

use version::{VersionOnly, VersionedPlan};

/// Why a plan cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It is no JSON, or does not have the fields that its version has.
    #[error("the stored plan is damaged")]
    Damaged(#[source] serde_json::Error),
    /// A later release wrote it.
    #[error(
        "the stored plan has version {found}, and this release reads up to {VERSION}: go on with the \
         release that stored it, or a later one"
    )]
    Version {
        /// The version that it says it has.
        found: u32,
    },
    /// It refers to a stage or group that it does not have.
    #[error("the stored plan is damaged: stage {stage} {problem}")]
    Inconsistent {
        /// The stage, from 0.
        stage: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The caller did not say where the contents of an inline file are stored.
    #[error("the contents of {0} are not stored")]
    FileMissing(FileKey),
    /// It could not be written as JSON.
    #[error("the plan cannot be written")]
    Unwritable(#[source] serde_json::Error),
}

/// The stages of a workflow: images, volumes and what goes into them, jobs in the order written,
/// what goes out. The number of a stage is its place here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// Groups of volumes: those that one job mounts together are one group, on one node.
    pub groups: usize,
    /// Stages; the index is the stage's id.
    pub stages: Vec<StagePlan>,
}

impl Plan {
    /// Contents of inline files that its stages need.
    pub fn stored_files(&self) -> impl Iterator<Item = Digest> {
        let of_stage = |stage: &StagePlan| -> Vec<Digest> {
            match &stage.work {
                StageAction::Ingress { source: Source::File(file), .. } => vec![file.digest],
                StageAction::Job(job) => {
                    let files = job.files.iter().map(|file| file.contents.digest);
                    files.chain(job.script.map(|script| script.digest)).collect()
                }
                StageAction::Ingress { source: Source::Http { .. }, .. }
                | StageAction::Image { .. }
                | StageAction::Volume { .. }
                | StageAction::Egress { .. }
                | StageAction::Unknown { .. } => Vec::new(),
            }
        };
        self.stages.iter().flat_map(of_stage)
    }
}

/// A stage as it was planned, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StagePlan {
    /// Name: of the job or volume, URI of the image, `data/in.txt` of the file.
    pub name: String,
    /// What it waits for: ascending by stage but for files that go out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Dependency>,
    /// Group of volumes that it needs, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
    /// Further attempts after a failed one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// Time that one attempt has, seconds.
    pub timeout_seconds: u64,
    /// Its tasks; one, if it is no array.
    #[serde(default, skip_serializing_if = "Tasks::is_one")]
    pub tasks: Tasks,
    /// Runs of one attempt of a task, at least 1: they are placed, prepared, started and ended
    /// together. More than one only of a job that mounts no volumes.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub members: u32,
    /// What it does.
    pub work: StageAction,
}

/// The tasks of a stage, as a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tasks {
    /// `FB_TASK_ID` of the first; `None` if it is no array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u32>,
    /// How many, at least 1.
    pub count: u32,
    /// Most that run at once, at least 1.
    pub concurrency: u32,
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageAction {
    /// Pulls and converts an image.
    Image {
        /// `HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`.
        reference: String,
    },
    /// Makes a volume.
    Volume {
        /// Its name.
        volume: String,
        /// What it may hold, bytes. Plans of before have none, and older readers pass it over: the
        /// node says then what it may hold.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_bytes: Option<u64>,
    },
    /// Takes a file into a volume.
    Ingress {
        /// The volume.
        volume: String,
        /// Path in it, relative, without `..`.
        path: String,
        /// Where from.
        source: Source,
    },
    /// Takes a file out of a volume.
    Egress {
        /// The volume.
        volume: String,
        /// Path in it, relative, without `..`.
        path: String,
        /// Where to.
        destination: Destination,
    },
    /// Runs a job.
    Job(Box<JobPlan>),
    /// Something that is on nodes already, of a workflow whose plan is not known. Never stored: it
    /// stands in while a workflow is blocked.
    #[serde(skip)]
    Unknown {
        /// What it seems to be.
        kind: StageKind,
    },
}

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// GET of `http` or `https`.
    Http {
        /// The URL.
        url: String,
    },
    /// An inline file of the document.
    File(StoredFile),
}

/// Where a file goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destination {
    /// PUT to `http` or `https`.
    Http {
        /// The URL.
        url: String,
    },
    /// The client's machine.
    Local {
        /// Path there.
        path: String,
    },
}

/// The contents of an inline file, which are in the server's store of job images and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StoredFile {
    /// SHA-256 of the contents.
    pub digest: Digest,
    /// Their length, bytes.
    pub size: u64,
}

/// A job. Its name is that of its stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobPlan {
    /// Number of the stage that pulls its image.
    pub image: StageId,
    /// Program and arguments; empty where there is a script, or where the image's own is meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Further arguments, of the script or the image's own program too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// A script that runs instead of a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<StoredFile>,
    /// Environment beside that of the image and ours.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory, absolute; that of the image, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Volumes, in the order written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountPlan>,
    /// Files put into the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FilePlan>,
    /// A network of its own, with loopback alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub isolated: bool,
    /// What one task needs.
    pub resource: ResourcePlan,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MountPlan {
    /// The volume's name.
    pub volume: String,
    /// Path in the container, absolute.
    pub location: String,
}

/// A file in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FilePlan {
    /// Path in the container, absolute.
    pub path: String,
    /// Digest and size of its contents in the store.
    pub contents: StoredFile,
}

/// What one task of a job needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ResourcePlan {
    /// Physical cores, at least 1.
    pub cores: u32,
    /// How near to each other they must be.
    #[serde(default, skip_serializing_if = "AffinityPlan::is_any")]
    pub affinity: AffinityPlan,
    /// All hardware threads of the cores.
    #[serde(default, skip_serializing_if = "is_false")]
    pub threads: bool,
    /// Memory, bytes; the server's default where the document names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The memory is for each core.
    #[serde(default, skip_serializing_if = "is_false")]
    pub memory_by_core: bool,
    /// Number of devices by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, u32>,
    /// Labels that the node must have. A plan in which a job has some is of version 2.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The whole node.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exclusive: bool,
}

/// How near to each other the cores of a task must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AffinityPlan {
    /// Anywhere on the node.
    #[default]
    Core,
    /// In one package.
    Socket,
    /// In one NUMA node.
    Numa,
}

/// An inline file of a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKey {
    /// An entry of the document's `files`.
    Named(String),
    /// The script of a job.
    Script {
        /// The job.
        job: String,
    },
    /// An entry of a job's own `files`.
    OfJob {
        /// The job.
        job: String,
        /// Path in its container.
        path: String,
    },
}

/// Where the contents of the inline files of a document are stored.
pub type StoredFiles = BTreeMap<FileKey, StoredFile>;

/// The inline files of a document with their contents, to be stored before its plan is made.
pub fn files(workflow: &Workflow) -> impl Iterator<Item = (FileKey, &str)> {
    let named =
        workflow.files.iter().map(|(name, text)| (FileKey::Named(name.clone()), text.as_str()));
    let of_jobs = workflow.jobs.iter().flat_map(|job| {
        let script = job
            .script
            .iter()
            .map(|text| (FileKey::Script { job: job.name.clone() }, text.as_str()));
        let own = job.files.iter().map(|(path, text)| {
            (FileKey::OfJob { job: job.name.clone(), path: path.clone() }, text.as_str())
        });
        script.chain(own)
    });
    named.chain(of_jobs)
}

impl Plan {
    /// The plan of a document whose inline files are stored.
    ///
    /// # Errors
    /// [`PlanError::FileMissing`].
    pub fn of(workflow: &Workflow, files: &StoredFiles) -> Result<Self, PlanError> {
        build::build(workflow, files)
    }

    /// As it is stored.
    ///
    /// # Errors
    /// [`PlanError::Unwritable`], if it has a stage that is not known.
    pub fn to_json(&self) -> Result<String, PlanError> {
        let versioned = VersionedPlan::of(self);
        serde_json::to_string(&versioned).map_err(PlanError::Unwritable)
    }

    /// Reads a stored plan. What it refers to, it has: no number in it leads nowhere.
    ///
    /// # Errors
    /// If it is damaged or of a later release.
    pub fn read(text: &str) -> Result<Self, PlanError> {
        let VersionOnly { plan: found } = serde_json::from_str(text).map_err(PlanError::Damaged)?;
        if found == 0 || found > VERSION {
            return Err(PlanError::Version { found });
        }
        let plan: Self = serde_json::from_str(text).map_err(PlanError::Damaged)?;
        plan.check_references()?;
        Ok(plan)
    }

    /// The plan has this stage with a task that users call by this number, and a run on a
    /// node can be of it.
    #[must_use]
    pub fn has_task(&self, stage: StageId, task: u32) -> bool {
        self.stages.get(stage.index()).is_some_and(|stage| {
            stage.tasks.task(task).is_some() && !matches!(stage.work, StageAction::Image { .. })
        })
    }

    /// The stages with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (StageId, &StagePlan)> + Clone {
        StageId::first(self.stages.len()).zip(&self.stages)
    }
}

impl StageAction {
    /// What people call it.
    #[must_use]
    pub fn kind(&self) -> StageKind {
        match self {
            Self::Image { .. } => StageKind::Image,
            Self::Volume { .. } => StageKind::Volume,
            Self::Ingress { .. } | Self::Egress { .. } => StageKind::File,
            Self::Job(_) => StageKind::Job,
            Self::Unknown { kind } => *kind,
        }
    }
}

impl Default for Tasks {
    /// No array.
    fn default() -> Self {
        Self { first: None, count: 1, concurrency: 1 }
    }
}

impl Tasks {
    fn is_one(&self) -> bool {
        *self == Self::default()
    }
}

impl AffinityPlan {
    fn is_any(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(name) => write!(f, "file {name:?}"),
            Self::Script { job } => write!(f, "the script of job {job}"),
            Self::OfJob { job, path } => write!(f, "file {path:?} of job {job}"),
        }
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests;
