//! The frames between a running agent and the server: one WebSocket per node, dialled by the
//! node, mutual TLS.
//!
//! Each text message is one [`Frame`] in JSON. The first frame of each side is its hello
//! ([`FromAgent::Hello`], [`FromServer::Welcome`]) with `seq` 0; they agree on a version and on
//! capabilities ([`negotiation`]). After it every frame that carries a message has the next `seq`
//! of its sender, counted from 1 over the life of the *session*, and `ack` = the highest `seq`
//! received in order. A sender keeps what is not acknowledged (at most [`MAX_UNACKNOWLEDGED`]) and
//! resends it after a reconnect that resumes the session; the receiver drops what it has seen
//! ([`session`]). A session ends when the agent's `boot-id` or `instance` changes, or when the
//! server does not know it: both sides then start from 1.
//!
//! # What outlives a release
//!
//! - Unknown fields are ignored, everywhere in a message. A new field has a default that means what
//!   its absence meant.
//! - Every enum has a variant `Unknown` for what a later release may say. It is never sent.
//! - An unknown *report* is acknowledged, counted and ignored ([`FromAgent::Unknown`]). An unknown
//!   *command* is acknowledged and answered with [`FromAgent::Unsupported`]; a run, a transfer or a
//!   stream of an unknown kind is refused as a run or stream is.
//! - What a side of [`MIN_PROTOCOL`] would not understand needs a [`Capability`], and is never sent
//!   to a side that did not offer it.

pub mod negotiation;
pub mod session;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use self::{
    negotiation::{
        Agreement, Capabilities, Capability, MAX_PROTOCOL, MIN_PROTOCOL, NoCommonProtocol, Offer,
    },
    session::{Message, SendError, Session, SessionError},
};

use crate::{
    ids::{Digest, Timestamp},
    inventory::Inventory,
    overlay::Generation,
    run::{RunId, RunNews, RunReport, RunSpec, RunState, RunUsage, VolumeUse, WorkflowId},
    stream::{StreamId, StreamRequest},
};

/// Frames that a side keeps for resending. Past it the connection is dropped: the peer is
/// not acknowledging.
pub const MAX_UNACKNOWLEDGED: usize = 1024;

/// Most addresses at which one node looks for the servers: a dead one costs up to 15 s
/// each time round.
pub const MAX_FLEET_SERVERS: usize = 16;

/// Largest text message, bytes: an inventory of a node with 1,024 PUs is about 1 MiB.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// One WebSocket text message. A frame without `message` only acknowledges and has `seq` 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Frame<M> {
    /// Number of this frame, 0 for hellos and bare acknowledgements.
    pub seq: u64,
    /// Highest frame number received in order.
    pub ack: u64,
    /// The message that the frame carries; `None` in a bare acknowledgement.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub message: Option<M>,
}

/// Longest [`FromAgent::Topology::xml`], bytes: hwloc's XML of a node with 1,024 PUs and 100 PCI
/// devices is about 2 MiB. Quotes and line ends grow by one byte each in JSON, so a frame of it
/// stays below [`MAX_MESSAGE_BYTES`].
pub const MAX_TOPOLOGY_BYTES: usize = 8 << 20;

/// Messages from an agent to the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "type")]
pub enum FromAgent {
    /// First frame.
    Hello {
        /// The protocol versions and capabilities of the agent.
        #[serde(flatten)]
        offer: Offer,
        /// Version of the agent's program.
        agent_version: String,
        /// `/proc/sys/kernel/random/boot_id`.
        boot_id: String,
        /// Chosen at random at each start of the agent.
        instance: String,
        /// Image version that was booted: `debian-node@2`.
        image: String,
        /// Runtime overlay archive that is applied now.
        overlays: Option<Generation>,
    },
    /// Sent every heartbeat interval when nothing else was.
    Heartbeat {
        /// Seconds since boot.
        uptime_seconds: u64,
        /// What volumes hold in the node's memory. `None`: there are none, they are on a disk, or
        /// the agent is of before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volumes: Option<VolumeUse>,
    },
    /// At the start and whenever the hardware changed.
    Inventory {
        /// The facts.
        inventory: Box<Inventory>,
    },
    /// The topology as hwloc writes it, after each inventory whose topology is another than before.
    /// The server keeps the newest.
    Topology {
        /// hwloc's XML (version 2 of its format), at most [`MAX_TOPOLOGY_BYTES`]; a longer one is
        /// dropped with a line in the node's history.
        xml: String,
    },
    /// A runtime overlay archive was applied, or could not be.
    OverlaysApplied {
        /// The generation that the server asked the agent to apply.
        generation: Generation,
        /// Files written.
        written: u64,
        /// Files removed because they left the overlays.
        removed: u64,
        /// Why it failed, if it did.
        error: Option<String>,
    },
    /// The node is about to reboot or power off.
    GoingDown {
        /// `true` for a reboot.
        reboot: bool,
    },
    /// All runs that the agent holds, at the beginning of each session, in as many
    /// messages as it takes.
    Runs {
        /// Their states.
        runs: Vec<RunReport>,
        /// Those of them that the node was told to pause.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        paused: Vec<RunId>,
        /// Workflows that have volumes on the node, all in the last of these messages. The server
        /// has those removed that it does not run any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        volumes: Vec<WorkflowId>,
        /// `true` in the last of these messages: what was not told is not here.
        complete: bool,
    },
    /// A run went forward.
    Run {
        /// Its state.
        report: RunReport,
    },
    /// Something about a run that goes on. Needs [`Capability::RunNews`].
    RunNews {
        /// The run.
        run: RunId,
        /// The event to report.
        news: RunNews,
    },
    /// The node begins no jobs, or does so again. Said when it changes, and at the start of a
    /// session if there is a reason.
    Refusing {
        /// What it lacks; `None` if nothing.
        reason: Option<String>,
    },
    /// The agent could not become what [`FromServer::UpgradeAgent`] wanted. One that could
    /// comes back as it.
    UpgradeFailed {
        /// Cause of the failure, for people.
        why: String,
    },
    /// Answer to [`FromServer::SendUsage`].
    Usage {
        /// Of each run that was asked for.
        runs: Vec<RunUsage>,
    },
    /// The agent received a command that it does not know, and did nothing. Needs
    /// [`Capability::Unsupported`].
    Unsupported {
        /// `type` of the command, at most [`MAX_KIND_CHARS`] characters.
        command: String,
    },
    /// What a later release may report. Acknowledged and ignored; never sent.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl Message for FromAgent {
    fn needs(&self) -> Option<Capability> {
        match self {
            Self::Unsupported { .. } => Some(Capability::Unsupported),
            Self::RunNews { .. } => Some(Capability::RunNews),
            Self::Run { report } => match report.state {
                RunState::Prepared {} => Some(Capability::Attempts),
                RunState::Ready { .. } => Some(Capability::Ready),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Messages from the server to an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "type")]
pub enum FromServer {
    /// First frame.
    Welcome {
        /// What both sides speak from here on.
        #[serde(flatten)]
        agreement: Agreement,
        /// The server's clock.
        server_time: Timestamp,
        /// Heartbeat interval, seconds. After three without a word the node counts as lost.
        heartbeat_seconds: u32,
        /// `true` if the session goes on; `false` if both sides start from 1.
        resumed: bool,
    },
    /// Fetch and apply this runtime overlay archive.
    Overlays {
        /// The generation to apply.
        generation: Generation,
    },
    /// Reboot now.
    Reboot {
        /// Name of the user who asked, for the node's log.
        reason: String,
    },
    /// Fetch the program at `GET /node/v1/agent`, replace the agent's own with it, and re-execute.
    UpgradeAgent {
        /// SHA-256 of the program to install.
        digest: Digest,
        /// Its size, bytes.
        size: u64,
    },
    /// Where the servers are from now on; the agent keeps it for as long as the node runs. Said at
    /// the start of a session. Needs [`Capability::ServerAddresses`].
    Servers {
        /// Their fleet ports, in the order in which they are to be tried, at most
        /// [`MAX_FLEET_SERVERS`]; an empty list changes nothing.
        fleet_servers: Vec<SocketAddr>,
    },
    /// Send the inventory again.
    SendInventory {},
    /// Start a run. Has no effect if the agent has it already.
    StartRun {
        /// Specification of the run.
        spec: Box<RunSpec>,
    },
    /// Start the process of a run that awaits it ([`RunSpec::awaits_release`]): all members of its
    /// attempt are prepared. Nothing happens if it was released before. Needs
    /// [`Capability::Attempts`].
    ReleaseRun {
        /// The prepared run, which the server ordered before ([`Self::StartRun`]).
        run: RunId,
    },
    /// End a run: SIGTERM, then SIGKILL. One that the agent does not know is reported as stopped.
    StopRun {
        /// The run to end.
        run: RunId,
        /// Time between the signals, seconds.
        grace_seconds: u32,
        /// Reason for the stop, for the run's log.
        why: String,
    },
    /// Stop every process of a job where it is, until [`FromServer::ResumeRun`]. Its timeout is
    /// suspended. Has no effect on transfers.
    PauseRun {
        /// The run to pause.
        run: RunId,
    },
    /// Resume a paused job.
    ResumeRun {
        /// The run to resume.
        run: RunId,
    },
    /// Report what these runs use now: at most [`crate::run::MAX_RUNS_PER_MESSAGE`].
    SendUsage {
        /// The runs to report on.
        runs: Vec<RunId>,
    },
    /// The server has the ends of these runs on disk, and as much of their logs as it wants.
    ForgetRuns {
        /// The runs to forget.
        runs: Vec<RunId>,
    },
    /// Delete all volumes of a workflow that are on this node. Its runs have ended.
    RemoveVolumes {
        /// The workflow whose volumes the agent deletes.
        workflow: WorkflowId,
    },
    /// Dial `GET /node/v1/streams/STREAM` and do there what a user wants of a run
    /// ([`crate::stream`]). Said once: a user does not wait longer than
    /// [`crate::stream::DIAL_SECONDS`].
    OpenStream {
        /// The stream that the agent dials.
        stream: StreamId,
        /// Of which run.
        run: RunId,
        /// The operation that the user asked for.
        request: StreamRequest,
    },
    /// What a later release may command. Acknowledged and answered with
    /// [`FromAgent::Unsupported`]; never sent.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl Message for FromServer {
    fn needs(&self) -> Option<Capability> {
        match self {
            Self::Servers { .. } => Some(Capability::ServerAddresses),
            Self::ReleaseRun { .. } => Some(Capability::Attempts),
            Self::StartRun { spec } if spec.awaits_release => Some(Capability::Attempts),
            // Version 1 knows all others.
            _ => None,
        }
    }
}

/// Characters of an unknown `type` that are kept for logs and answers: a name of ours has some 20.
pub const MAX_KIND_CHARS: usize = 64;

/// The `type` of the message in a frame, for logs and answers about unknown ones; at most
/// [`MAX_KIND_CHARS`] characters, without control characters. Empty if there is none.
#[must_use]
pub fn kind_of_message(text: &str) -> String {
    #[derive(Deserialize)]
    struct Tagged {
        #[serde(rename = "type")]
        kind: String,
    }
    let frame: Result<Frame<Tagged>, _> = serde_json::from_str(text);
    let kind =
        frame.ok().and_then(|frame| frame.message).map(|message| message.kind).unwrap_or_default();
    kind.chars().filter(|character| !character.is_control()).take(MAX_KIND_CHARS).collect()
}

#[cfg(test)]
mod tests;
