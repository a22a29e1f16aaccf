//! `container.json`: all that the start of a container needs to know. Written by the agent
//! (`agent/runs/node_containers.rs`).

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::defence::Safeguard;
use crate::run_directory::{CONTAINER_NAME, JsonFile};

/// Where a run keeps its [`ContainerSpec`].
pub const FILE: JsonFile<ContainerSpec> = JsonFile::new(CONTAINER_NAME);

/// Description of a job's container, which the agent writes and the spawner and the container init
/// read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ContainerSpec {
    /// The mounted image, a directory, read-only.
    pub lower: PathBuf,
    /// Program and arguments, not empty.
    pub command: Vec<String>,
    /// What takes the place of the first of `command` where the image has no program of exactly
    /// that name; empty if nothing does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub program_words: Vec<String>,
    /// Environment variables, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// It is made, in the run's own layer, where no layer has it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub makes_cwd: bool,
    /// Home directory of the user's line in `/etc/passwd`, as `HOME` in `env`. The working
    /// directory in a description that an agent of before wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// It is made, in the run's own layer, for the user alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub makes_home: bool,
    /// Host name in the container.
    pub hostname: String,
    /// User id, not 0.
    pub uid: u32,
    /// Group id, not 0.
    pub gid: u32,
    /// GIDs of the supplementary groups.
    pub groups: Vec<u32>,
    /// Name of the user, for `/etc/passwd`.
    pub user_name: String,
    /// Directories of the node.
    pub binds: Vec<Bind>,
    /// Files of the node, read-only.
    pub files: Vec<Placed>,
    /// Processors, by OS index.
    pub cpus: Vec<u32>,
    /// Memory nodes, by OS index.
    pub mems: Vec<u32>,
    /// Limit of memory, bytes.
    pub memory_bytes: u64,
    /// Limit of processes and threads.
    pub pids: u32,
    /// Device nodes granted.
    pub devices: Vec<DeviceNode>,
    /// Files and directories of the node that belong to granted devices.
    pub device_mounts: Vec<DeviceMount>,
    /// Links that belong to them.
    pub device_links: Vec<DeviceLink>,
    /// A network of its own, with loopback alone.
    pub isolated_network: bool,
    /// Addresses and ports out of reach.
    pub forbidden: Vec<SocketAddr>,
    /// Size of what can be written to the root, bytes; it counts as the job's memory.
    pub upper_bytes: u64,
    /// The container is ended after this time, seconds.
    pub timeout_seconds: u64,
    /// Time between SIGTERM and SIGKILL when the timeout ends it, seconds.
    pub grace_seconds: u32,
    /// How much of the log is kept, bytes.
    pub log_limit_bytes: u64,
    /// Of a longer log head and tail are kept; else it is cut, and its last line says so.
    #[serde(default)]
    pub log_has_tail: bool,
    /// When it was written is kept beside a log that is not cut.
    #[serde(default, skip_serializing_if = "is_false")]
    pub log_has_times: bool,
    /// What the test build leaves out.
    #[cfg(feature = "switches")]
    #[serde(default, skip_serializing_if = "std::collections::BTreeSet::is_empty")]
    pub without: std::collections::BTreeSet<Safeguard>,
}

impl ContainerSpec {
    /// Whether a defence is on; always, but in the test build.
    #[must_use]
    pub fn keeps(&self, defence: Safeguard) -> bool {
        #[cfg(feature = "switches")]
        return !self.without.contains(&defence);
        #[cfg(not(feature = "switches"))]
        return {
            let _ = defence;
            true
        };
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A directory of the node in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bind {
    /// On the node.
    pub source: PathBuf,
    /// In the container, absolute.
    pub target: String,
    /// Not to be written to.
    pub read_only: bool,
}

/// A device node in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeviceNode {
    /// In the container, below `/dev`.
    pub path: String,
    /// A block device, not a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// It may be read.
    pub read: bool,
    /// It may be written.
    pub write: bool,
    /// Permission bits in the container.
    pub mode: u32,
    /// UID of its owner in the container.
    pub uid: u32,
    /// GID of its group in the container.
    pub gid: u32,
}

/// A file or directory of the node that belongs to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeviceMount {
    /// On the node.
    pub source: PathBuf,
    /// In the container, absolute.
    pub target: String,
    /// Not to be written to.
    pub read_only: bool,
    /// No programs are run from it.
    pub no_exec: bool,
}

/// A symbolic link that belongs to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeviceLink {
    /// In the container, absolute.
    pub path: String,
    /// Target of the link.
    pub target: String,
}

/// A file of the node in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Placed {
    /// On the node.
    pub source: PathBuf,
    /// In the container, absolute.
    pub target: String,
    /// Permission bits in the container.
    pub mode: u32,
}
