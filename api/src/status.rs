//! What a node is doing, and its history.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{NodeId, NodeName, Timestamp},
    run::VolumeUse,
};

/// Where a node is on its way from power-on to ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Never seen since it was added.
    Unseen,
    /// The firmware asked for an address and got one.
    Offered,
    /// The firmware fetched a boot file, or iPXE its script.
    Firmware,
    /// Stage 1 runs.
    Stage1,
    /// Stage 1 fetches the root image.
    Fetching,
    /// Stage 1 hands over to the image's own init.
    Switching,
    /// The agent is connected.
    Enrolled,
    /// The agent has sent its inventory: the node can be used.
    Ready,
    /// It announced a reboot, or was told to.
    Rebooting,
    /// It was connected and no longer is.
    Lost,
    /// A step failed; `reason` says which and why.
    Failed,
}

impl Phase {
    /// The word that people see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Offered => "offered",
            Self::Firmware => "firmware",
            Self::Stage1 => "stage1",
            Self::Fetching => "fetching",
            Self::Switching => "switching",
            Self::Enrolled => "enrolled",
            Self::Ready => "ready",
            Self::Rebooting => "rebooting",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }
}

/// The present state of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct NodeStatus {
    /// Phase of the node's boot, or `ready`.
    pub phase: Phase,
    /// Percent of the root image, while fetching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Why it failed or was lost, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it is in this phase.
    pub since: Timestamp,
    /// When anything was last heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// Stuck: in this phase for longer than the phase's deadline, which is this many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue_seconds: Option<u64>,
    /// What somebody fetched in its name, which proves nothing. `phase` is `firmware` by this word
    /// alone where nothing else is known of the boot, and what it was before where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproven: Option<UnprovenProgress>,
    /// A boot token may be issued to it.
    pub armed: bool,
    /// Address that its agent or its boot requests come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub address: Option<IpAddr>,
    /// Image version that it runs or boots: `debian-node@2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Version of its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// Milliseconds from the firmware's first request to ready, of the last boot that got there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_ms: Option<u64>,
    /// Nothing new begins on it, whatever its phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// What keeps it from booting, or its runtime overlays from following: why, and which part;
    /// that a boot token of it was refused, or that its machine has too little memory. Gone as soon
    /// as the cause is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// What its agent says that it lacks for jobs: it begins none until that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses: Option<String>,
    /// Number of the enrolment that it runs by. They are counted from 1, and past what may be out
    /// there after an admin has decided: the first after `trust`, or after `revoke` of all, is 2^20
    /// further on. 0: it never enrolled, or with a release that did not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
    /// Two claim to be this node: it gets no overlays and no new jobs until an admin decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<NodeConflict>,
    /// What ephemeral volumes hold in its memory, as its agent said with its last heartbeat.
    /// Absent: there are none, they are on a disk, its agent is of before, or it is not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<VolumeUse>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// It is not known who a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct NodeConflict {
    /// Time since which this is so, by the server's clock.
    pub since: Timestamp,
    /// What was seen, and what decides it.
    pub cause: String,
    /// Epoch of the agent that has the node's channel meanwhile; the others are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<u64>,
    /// Enrolments whose certificates are good, newest first.
    #[serde(default)]
    pub enrolments: Vec<NodeEnrolment>,
}

/// One enrolment of a node: a boot token that was traded for a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct NodeEnrolment {
    /// Number of the enrolment among those of the node, from 1; 0 for a certificate of a release
    /// that did not count.
    pub epoch: u64,
    /// When its stage 1 got the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolled: Option<Timestamp>,
    /// Where it was heard from last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub address: Option<IpAddr>,
    /// The boot that its agent says to run in (`/proc/sys/kernel/random/boot_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Serial number of the certificate that it used last, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// When its certificate was used first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Timestamp>,
    /// Time of the last request with this enrolment's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// Its agent is connected.
    #[serde(default)]
    pub connected: bool,
}

/// Request of `POST /v1/nodes/{name}/trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TrustNode {
    /// The enrolment whose agent is the node.
    pub epoch: u64,
}

/// Request of `POST /v1/nodes/{name}/revoke`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RevokeNode {
    /// The last enrolment whose certificates are revoked; default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// A boot as it is claimed: somebody fetched its files in the node's name. Nothing proves that it
/// was the node before its stage 1 has traded its token for a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct UnprovenProgress {
    /// Phase that the unproven requests claim.
    pub phase: Phase,
    /// The file that was fetched last: `snponly.efi`, `iPXE script`, `the node's initrd`.
    pub file: String,
    /// From where; `0.0.0.0` for who is no admin: it may be anybody's.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// When the first file was fetched.
    pub since: Timestamp,
}

/// An admin keeps new work away from a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Drain {
    /// Reason that the admin gave.
    pub reason: String,
    /// Name of the admin who drained the node.
    pub by: String,
    /// Time since which this is so, by the server's clock.
    pub since: Timestamp,
}

/// Request of `POST /v1/nodes/{name}/drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DrainNode {
    /// Why; what waits for the node is told so. One line of at most 200 bytes.
    pub reason: String,
}

/// Longest [`DrainNode::reason`], bytes.
pub const MAX_DRAIN_REASON_BYTES: usize = 200;

/// One line of a node's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct NodeEvent {
    /// The node.
    pub id: NodeId,
    /// Its name at that time.
    pub name: NodeName,
    /// Time of the event, by the server's clock.
    pub at: Timestamp,
    /// The phase entered.
    pub phase: Phase,
    /// `info`, `warning`, `error` or `security`.
    pub severity: Severity,
    /// Description of the event in one line, for people.
    pub message: String,
}

/// Severity of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The ordinary course of things.
    Info,
    /// Somebody should look.
    Warning,
    /// Something does not do its work.
    Error,
    /// A token or certificate was misused.
    Security,
}

impl Severity {
    /// The word that people see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Security => "security",
        }
    }
}

/// One message of `GET /v1/nodes/watch` (server-sent events): the status of one node
/// after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct NodeUpdate {
    /// The node.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its status now.
    pub status: NodeStatus,
}
