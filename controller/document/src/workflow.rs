//! The one form of a workflow, whatever version and spelling it was written in.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::plan::Until;

/// A workflow, from a document of any spelling; defaults are filled in.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Workflow {
    /// Its name, where the document has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Inline files by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Ephemeral volumes in the order written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Jobs in the order written.
    pub jobs: Vec<Job>,
}

impl Workflow {
    /// The normalised form as YAML, to look at: defaults merged, units gone.
    ///
    /// # Errors
    /// The writer's; none are known.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        serde_saphyr::to_string(self)
    }
}

/// An ephemeral volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// What it may hold, bytes, where the document says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Files that are taken into it before jobs mount it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Ingress>,
    /// Files that are taken out when the jobs that mount it have finished.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Egress>,
}

/// A file into a volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ingress {
    /// Path in the volume, relative, without `..`.
    pub path: String,
    /// Where its contents come from.
    pub source: Source,
    /// Time that it has, seconds.
    pub timeout_seconds: u64,
    /// Further attempts after a failed one.
    pub retries: u32,
}

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// GET of `http` or `https`.
    Http {
        /// The URL.
        url: String,
    },
    /// An inline file of the document.
    File {
        /// Its name.
        name: String,
    },
}

/// A file out of a volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Egress {
    /// Path in the volume, relative, without `..`.
    pub path: String,
    /// Where its contents go to.
    pub destination: Destination,
    /// Time that it has, seconds.
    pub timeout_seconds: u64,
    /// Further attempts after a failed one.
    pub retries: u32,
}

/// Where a file goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

/// A job; its tasks run this container.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Reference of its image: `HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`.
    pub image: String,
    /// Program and arguments; empty where there is a script, or where the image's own is meant.
    pub command: Vec<String>,
    /// Further arguments, of the script or the image's own program too.
    pub args: Vec<String>,
    /// A script with its `#!` line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Environment, a name once.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Volumes in its container.
    pub mounts: Vec<Mount>,
    /// Jobs that it waits for, each once with what is waited for.
    pub depends_on: Vec<JobDependency>,
    /// Time that one attempt has, seconds.
    pub timeout_seconds: u64,
    /// Further attempts after a failed one.
    pub retries: u32,
    /// What one task needs.
    pub resource: Resource,
    /// The array, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_array: Option<TaskArray>,
    /// A network of its own, with loopback alone.
    pub isolated: bool,
    /// Files put into the container: absolute path and contents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<(String, String)>,
}

/// A job that another waits for: its name, where it must have finished, else `{name, status}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "DependencyForm")]
pub struct JobDependency {
    /// Name of the job.
    pub name: String,
    /// Until when: the language has `FINISHED` and `RUNNING`.
    pub until: Until,
}

#[derive(Serialize)]
#[serde(untagged)]
enum DependencyForm {
    Finished(String),
    Until { name: String, status: Until },
}

impl From<JobDependency> for DependencyForm {
    fn from(JobDependency { name, until }: JobDependency) -> Self {
        match until {
            Until::Finished => Self::Finished(name),
            status => Self::Until { name, status },
        }
    }
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mount {
    /// Name of the volume in the document.
    pub volume: String,
    /// Path in the container, absolute.
    pub location: String,
}

/// What one task needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Resource {
    /// Physical cores, at least 1.
    pub cores: u32,
    /// How near the cores must be to each other.
    pub affinity: Affinity,
    /// All hardware threads of the cores.
    pub threads: bool,
    /// Memory, bytes; of the task, or of each core if `memory_by_core`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// `memory_bytes` is per core.
    pub memory_by_core: bool,
    /// Number of devices wanted, by kind: `nvidia.com/gpu`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, u32>,
    /// Labels that its node must have: annotations of the document, of its defaults and of the job.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// No other run may be on the node meanwhile.
    pub exclusive: bool,
}

/// How near the cores are to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affinity {
    /// Anywhere on the node.
    #[default]
    Core,
    /// One package.
    Socket,
    /// One NUMA node.
    Numa,
}

impl Affinity {
    /// Reads it; case does not count.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "CORE" => Some(Self::Core),
            "SOCKET" => Some(Self::Socket),
            "NUMA" => Some(Self::Numa),
            _ => None,
        }
    }
}

/// Tasks that differ in `FB_TASK_ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TaskArray {
    /// First `FB_TASK_ID`.
    pub start: u32,
    /// Last `FB_TASK_ID`, included; at least `start`.
    pub end: u32,
    /// Largest number of tasks at a time; `None`: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}
