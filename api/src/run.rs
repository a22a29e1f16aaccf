//! Runs: what a node is told to do for a workflow, and what it says became of it.
//!
//! A *run* is one member of an attempt of a task, or one transfer into or out of a volume, on one
//! node. The server makes its [`RunId`] and never uses it again; an agent that is told of a run it
//! knows does nothing. So no run happens twice.
//!
//! The agent keeps a run, with its log and its end, until the server says
//! [`crate::channel::FromServer::ForgetRuns`]: then the server has its end on disk. Each new
//! session begins with all runs that the agent holds ([`crate::channel::FromAgent::Runs`]), and the
//! server tells again what the agent does not know.
//!
//! On the fleet port, with the node's certificate:
//!
//! | request | body |
//! |---|---|
//! | `GET /node/v1/artifacts/sha256/HEX` | a job image (squashfs) or an inline file by its digest, with ranges |
//! | `POST /node/v1/runs/RUN/log?offset=N` | bytes of the log from offset N on, at most [`MAX_LOG_CHUNK_BYTES`]; answered by [`LogTaken`] |
//! | the same with `&after=M` | the same, of a log longer than its limit ([`JobSpec::log_limit_bytes`]): the node has nothing of it from M up to N. Taken if the server has all up to M |
//! | either with `&times=OFFSET:MICROS,…` | the same, with times at which the log was so long ([`crate::log::times`]); only where [`JobSpec::log_times`] says that the server takes them |
//! | `PUT /node/v1/runs/RUN/file` | the file that a transfer takes to the client |
//! | the same with `?folder=true` | a directory, as the stream of the crate `copy-tree`; only where [`Destination::Client`] says that the server takes it |

mod usage;

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Serialize};

pub use usage::{LiveUsage, RunUsage, Usage, VolumeUse};

use crate::{
    device::DeviceName,
    ids::{Digest, InvalidId, Timestamp, string_serde},
};

/// Largest body of one log request, bytes.
pub const MAX_LOG_CHUNK_BYTES: usize = 1 << 20;

/// Log kept of one job by an agent that is told no [`JobSpec::log_limit_bytes`], bytes. What comes
/// later is dropped, and the log ends with a line that says so.
pub const UNTOLD_LOG_BYTES: u64 = 16 << 20;

/// Longest log of which a server may want to keep head and tail, MiB, and the shortest.
pub const LOG_MIB: std::ops::RangeInclusive<u32> = 1..=4096;

/// What is kept of a log unless the server's configuration says otherwise, MiB.
pub const DEFAULT_LOG_MIB: u32 = 64;

/// What an ephemeral volume may hold of which the document does not say it, GiB, as the
/// server may set it.
pub const VOLUME_GIB: std::ops::RangeInclusive<u32> = 1..=1_048_576;

/// The same where the server's configuration does not set it, GiB. Nodes keep volumes in memory: a
/// workflow that wants more says so.
pub const DEFAULT_VOLUME_GIB: u32 = 32;

/// Runs that a node holds at once, running or not yet forgotten.
pub const MAX_RUNS_PER_NODE: usize = 4_096;

/// Runs whose states one [`crate::channel::FromAgent::Runs`] tells; more come in further messages.
pub const MAX_RUNS_PER_MESSAGE: usize = 512;

/// What is added to the URL of a transfer to the client that is a directory.
pub const DIRECTORY_QUERY: &str = "folder=true";

/// Longest text of a [`RunNews`] that is kept, characters: a URL and a chain of causes.
pub const MAX_NEWS_CHARS: usize = 1_000;

/// Identity of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub uuid::Uuid);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}
impl FromStr for RunId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        uuid::Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| InvalidId::new("run id", text, "use 32 hexadecimal digits"))
    }
}
string_serde!(RunId, "6f1c1f0e52a14a539f0b6f5f6d1f2d11");

/// Identity of a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkflowId(pub uuid::Uuid);

impl fmt::Display for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}
impl FromStr for WorkflowId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        uuid::Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| InvalidId::new("workflow id", text, "use a UUID (RFC 9562)"))
    }
}
string_serde!(WorkflowId, "fae7c506-cbdc-4ab1-80fd-5167a5f6a250");

/// Specification of a run, as the server sends it to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunSpec {
    /// Id of the run; never used twice.
    pub run: RunId,
    /// The workflow that it belongs to.
    pub workflow: WorkflowId,
    /// Stage and task for people: `job count`, `job sleeper[7]`.
    pub subject: String,
    /// User that the run's processes and files belong to.
    pub user: RunUser,
    /// The work that the run does.
    pub work: Work,
    /// The run is ended after this time, seconds from its start.
    pub timeout_seconds: u64,
    /// Addresses and ports that neither job nor transfer may reach: the server's boot and
    /// enrolment ports.
    pub forbidden: Vec<SocketAddr>,
    /// It is one of several members of an attempt: the agent prepares it, reports
    /// [`RunState::Prepared`], and starts its process when the server releases it
    /// ([`crate::channel::FromServer::ReleaseRun`]). Jobs alone. Only for agents with
    /// [`crate::channel::Capability::Attempts`]: others would start it at once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub awaits_release: bool,
}

/// Numeric identity that a run has on the node, from the user's record at the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunUser {
    /// Name, for `/etc/passwd` of the container.
    pub name: String,
    /// User id; never 0.
    pub uid: u32,
    /// Group id; never 0.
    pub gid: u32,
    /// GIDs of the supplementary groups.
    pub groups: Vec<u32>,
}

/// The kinds of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "kind")]
pub enum Work {
    /// Make an ephemeral volume: an empty directory of the user's, mode 0700.
    Volume {
        /// Its name in the workflow.
        volume: String,
        /// What it may hold, bytes, on a node that keeps volumes in memory: at most what the node
        /// has for all of them, whichever is less. `None` from a server of before, and of a
        /// workflow that it accepted: all of that. An agent of before makes a directory, which has
        /// no limit of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_bytes: Option<u64>,
    },
    /// Fill a file of a volume.
    Ingress {
        /// Name of the volume that the file goes into.
        volume: String,
        /// Path in it, relative; directories on the way are made.
        path: String,
        /// Source that the node fetches the file from.
        source: Source,
    },
    /// Take a file out of a volume.
    Egress {
        /// Name of the volume that the file is taken from.
        volume: String,
        /// Path in it, relative.
        path: String,
        /// Destination that the node sends the file to.
        destination: Destination,
    },
    /// Run a container.
    Job(Box<JobSpec>),
    /// What a later release may order; the agent refuses the run. Never sent.
    #[serde(other)]
    Unknown,
}

impl Work {
    /// `false` if this release does not know the work, or where a file of it comes from or goes to:
    /// the agent refuses the run.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let is_unknown = matches!(
            self,
            Self::Unknown
                | Self::Ingress { source: Source::Unknown, .. }
                | Self::Egress { destination: Destination::Unknown, .. }
        );
        !is_unknown
    }
}

/// Where a file of a volume comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "from")]
pub enum Source {
    /// GET of a URL, `http` or `https`; redirects are followed.
    Http {
        /// The URL.
        url: String,
    },
    /// An artifact of the server: the contents of an inline file.
    Artifact {
        /// Its digest.
        digest: Digest,
        /// Its size, bytes.
        size: u64,
    },
    /// What a later release may order; the agent refuses the run. Never sent.
    #[serde(other)]
    Unknown,
}

/// Where a file of a volume goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "to")]
pub enum Destination {
    /// PUT to a URL, `http` or `https`.
    Http {
        /// The URL.
        url: String,
    },
    /// To the server, which keeps it for the client: `PUT /node/v1/runs/RUN/file`.
    Client {
        /// The server takes a directory too, as the stream of the crate `copy-tree`, if the
        /// request says so ([`DIRECTORY_QUERY`]). `false` from a server of before: it would keep
        /// the stream as a file.
        #[serde(default, skip_serializing_if = "is_false")]
        #[serde(rename = "takes-folders")]
        takes_directories: bool,
    },
    /// What a later release may order; the agent refuses the run. Never sent.
    #[serde(other)]
    Unknown,
}

/// A container to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobSpec {
    /// Root file system: digest of a squashfs artifact.
    pub image: Digest,
    /// Size of that artifact, bytes.
    pub image_size: u64,
    /// Program and arguments, not empty. A program without `/` is looked up in `PATH` of `env`.
    pub command: Vec<String>,
    /// What takes the place of the first of `command` where the image has no program of exactly
    /// that name: its words, as a shell splits them. Empty if it is one word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub program_words: Vec<String>,
    /// `NAME=VALUE`, complete: image, document and `FB_*` together.
    pub env: Vec<String>,
    /// The document sets `HOME` in `env`. Else it is the image's, and stays where the user may
    /// write there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sets_home: bool,
    /// Working directory, absolute.
    pub cwd: String,
    /// It is the image's own, and made where no layer has it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub makes_cwd: bool,
    /// Host name in the container.
    pub hostname: String,
    /// Volumes of the workflow.
    pub mounts: Vec<Mount>,
    /// Small files that are put into the container, read-only.
    pub files: Vec<JobFile>,
    /// PUs granted, by OS index: the cpuset.
    pub cpus: Vec<u32>,
    /// NUMA nodes granted, by OS index.
    pub mems: Vec<u32>,
    /// Limit of memory, bytes.
    pub memory_bytes: u64,
    /// Limit of processes and threads.
    pub pids: u32,
    /// Devices granted, by their names on the node.
    pub devices: Vec<DeviceName>,
    /// `true`: a network namespace of its own with loopback alone.
    pub isolated_network: bool,
    /// How much of its log is kept at most, bytes: head and tail, where it is longer. `None` from a
    /// server of before, which knows no gaps: the log is cut at [`UNTOLD_LOG_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_limit_bytes: Option<u64>,
    /// The server takes time marks of the log with its bytes ([`crate::log::times`]). `false` from
    /// a server of before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub log_times: bool,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mount {
    /// Its name in the workflow.
    pub volume: String,
    /// Mount point in the container, an absolute path.
    pub location: String,
}

/// A file in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobFile {
    /// Path of the file in the container, absolute.
    pub path: String,
    /// Digest of its contents, an artifact of the server.
    pub digest: Digest,
    /// Size of its contents, bytes.
    pub size: u64,
    /// `true` for a script.
    pub executable: bool,
}

/// A run and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunReport {
    /// The run that the report is about.
    pub run: RunId,
    /// State of the run.
    pub state: RunState,
}

/// How a run is. It only goes forward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "state")]
pub enum RunState {
    /// Accepted; image, volume or cgroup are being made.
    Preparing {},
    /// All that its process needs is there, and it waits for
    /// [`crate::channel::FromServer::ReleaseRun`] ([`RunSpec::awaits_release`]). Needs
    /// [`crate::channel::Capability::Attempts`].
    Prepared {},
    /// Its process runs, or its bytes flow.
    Running {
        /// Since when, the node's clock.
        started: Timestamp,
    },
    /// Its process runs, and does what others wait for: its probe passed. Told by agents that have
    /// probes; needs [`crate::channel::Capability::Ready`].
    Ready {
        /// Since when its process runs, the node's clock.
        started: Timestamp,
    },
    /// It is over.
    Ended(Box<RunEnd>),
    /// What an agent of a later release may report between these: the run is on the
    /// node and not over.
    #[serde(other)]
    Unknown,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunEnd {
    /// Start of its process, if it came that far.
    pub started: Option<Timestamp>,
    /// Time when the run ended, by the node's clock.
    pub ended: Timestamp,
    /// How the run ended.
    pub outcome: Outcome,
    /// Length of its log, bytes, with what is left out of it. The log is complete when the server
    /// has it up to here.
    pub log_bytes: u64,
    /// Resources that the run used in all.
    pub usage: Usage,
}

/// Outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// By itself. 0 is success.
    Exited {
        /// Exit status.
        code: i32,
    },
    /// By a signal that nobody of ours sent.
    Signaled {
        /// Its number.
        signal: i32,
    },
    /// Killed by the kernel because it reached its memory limit.
    OutOfMemory {
        /// The limit, bytes.
        limit_bytes: u64,
    },
    /// Ended by its timeout.
    TimedOut {
        /// The timeout, seconds.
        seconds: u64,
        /// Of a transfer: what kept it, such as why its last try failed. `None` of a job, and from
        /// an agent of before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
    /// Ended because the server said so.
    Stopped {
        /// The server's words.
        why: String,
    },
    /// It never started, or a transfer failed.
    Failed {
        /// The operation that failed, its subject and its cause, for people.
        why: String,
        /// `true` if the same may work at another time: the network, a full disk.
        transient: bool,
    },
    /// The node went away while it ran.
    Lost {
        /// Cause as far as the server knows it, for people.
        why: String,
        /// `true` if the node rebooted: nothing of the run is left, so it may start again.
        #[serde(default)]
        rebooted: bool,
    },
    /// The node did not begin it: it is short of something. That is no attempt; it waits, or
    /// goes elsewhere.
    Refused {
        /// The resource that the node is short of, for people.
        why: String,
    },
    /// What an agent of a later release may report: the run is over, and this release cannot tell
    /// how. A failure.
    #[serde(other)]
    Unknown,
}

impl Outcome {
    /// Did it do what it should?
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }
}

/// Something about a run that is not over, for people. Told at once, and again in each new session;
/// the same twice is once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "what")]
pub enum RunNews {
    /// A try of a transfer failed, and the agent tries again by itself.
    FailedTry(FailedTry),
    /// Something that is no failure: what a transfer left out.
    Remark {
        /// One line, at most [`MAX_NEWS_CHARS`] characters.
        text: String,
    },
    /// What an agent of a later release may tell. Ignored; never sent.
    #[serde(other)]
    Unknown,
}

/// A try of a transfer that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailedTry {
    /// Counts from 1, in one run; of a directory, for each file again.
    pub number: u32,
    /// Tries after which the agent gives up.
    pub of: u32,
    /// What failed, on what, why; at most [`MAX_NEWS_CHARS`] characters.
    pub why: String,
    /// Pause from now to the next try, seconds.
    pub pause_seconds: u64,
}

/// Answer to a piece of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogTaken {
    /// Up to where the server has the log, bytes from its beginning: where to go on.
    pub length: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}
