//! What is not well in a node.

use serde::{Deserialize, Serialize};

/// Something of a node's hardware that is not well *now*. It goes away when it is well again; that
/// it came and went is in the node's history.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Fault {
    /// Severity of the fault.
    pub level: FaultLevel,
    /// What is not well: `nic lan0`, `disk nvme0n1`, `gpu 0000:3b:00.0`, `memory`,
    /// `infiniband mlx5_0 port 1`.
    pub subject: String,
    /// What is wrong with it. Without counters or other values that change by themselves: two
    /// faults with the same subject and message are the same fault.
    pub message: String,
}

/// Severity of a [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FaultLevel {
    /// It works, and somebody should look at it: corrected errors, a slow link.
    Warning,
    /// It does not do its work: what jobs could be granted of it is out of service
    /// ([`unhealthy`](crate::device::GrantableDevice::unhealthy)).
    Error,
    /// A level of a later release, which this one shows and does not count.
    #[serde(other)]
    Unknown,
}
