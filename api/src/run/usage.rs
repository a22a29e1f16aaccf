//! What runs use: in all, and now.

use serde::{Deserialize, Serialize};

use super::RunId;

/// What a run used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Usage {
    /// Processor time, microseconds.
    pub cpu_micros: u64,
    /// Highest memory, bytes.
    pub memory_peak_bytes: u64,
    /// Read from block devices, bytes; by a transfer, what it sent of its volume in all its tries.
    #[serde(default)]
    pub read_bytes: u64,
    /// Written to block devices, bytes; by a transfer, what it wrote into its volume
    /// in all its tries.
    #[serde(default)]
    pub written_bytes: u64,
    /// Time that one process or more waited for a processor, microseconds (kernel:
    /// `Documentation/accounting/psi.rst`).
    #[serde(default)]
    pub cpu_wait_micros: u64,
    /// The same for memory.
    #[serde(default)]
    pub memory_wait_micros: u64,
    /// The same for block devices.
    #[serde(default)]
    pub io_wait_micros: u64,
}

/// What a run uses while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct LiveUsage {
    /// Up to now.
    pub total: Usage,
    /// Memory now, bytes.
    pub memory_bytes: u64,
    /// Processes and threads now.
    pub processes: u32,
}

/// What the ephemeral volumes of a node that keeps them in memory hold, and may still take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct VolumeUse {
    /// Number of volumes.
    pub volumes: u64,
    /// What they hold together, bytes.
    pub used_bytes: u64,
    /// What they may still take together, bytes.
    pub left_bytes: u64,
}

/// What one of a node's runs uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunUsage {
    /// The run that the figures are about, as the server named it when it asked.
    pub run: RunId,
    /// `None` if its container is not there, or not any more.
    pub usage: Option<LiveUsage>,
}
