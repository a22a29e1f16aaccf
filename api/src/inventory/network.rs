//! Network interfaces, InfiniBand and RoCE.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::MacAddr;

/// A network interface of hardware, a VLAN or a bond.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Nic {
    /// Kernel name.
    pub name: String,
    /// Type of the interface: card, VLAN or bond.
    pub kind: NicKind,
    /// MAC address: a card's own, also while it is in a bond.
    pub mac: Option<MacAddr>,
    /// Kernel driver of the interface.
    pub driver: Option<String>,
    /// Firmware version as the driver tells.
    pub firmware: Option<String>,
    /// PCI address.
    pub pci: Option<String>,
    /// Speed in Mbit/s.
    pub speed_mbits: Option<u32>,
    /// `full` or `half`.
    pub duplex: Option<String>,
    /// Largest packet, bytes.
    pub mtu: Option<u32>,
    /// `up`, `down`…, as `operstate` says.
    pub state: String,
    /// It has a carrier. Absent while it is switched off.
    pub carrier: Option<bool>,
    /// IP addresses of the interface.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
    /// Bond that it is a member of.
    pub bond: Option<String>,
    /// Mode, of a bond: `802.3ad`.
    pub bond_mode: Option<String>,
    /// Id and parent, if the interface is a VLAN.
    pub vlan: Option<Vlan>,
    /// NUMA node.
    pub numa_node: Option<u32>,
}

/// Type of a network interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NicKind {
    /// A card, or a port of one.
    #[default]
    Ethernet,
    /// IP over InfiniBand.
    Infiniband,
    /// A bond of others.
    Bond,
    /// A VLAN on another.
    Vlan,
    /// A kind that only a later release knows.
    #[serde(other)]
    Unknown,
}

/// A VLAN (IEEE 802.1Q).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Vlan {
    /// VLAN id, 1 to 4094.
    pub id: u16,
    /// Interface that it is on.
    pub parent: String,
}

/// An InfiniBand or RoCE device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Infiniband {
    /// `mlx5_0`.
    pub name: String,
    /// Node GUID.
    pub guid: Option<String>,
    /// GUID of the system image.
    pub system_guid: Option<String>,
    /// Firmware version.
    pub firmware: Option<String>,
    /// `MT4129`, as `hca_type` says.
    pub model: Option<String>,
    /// Board id (PSID): `MT_0000000838`.
    pub board_id: Option<String>,
    /// `CA`, `switch`…
    pub node_kind: Option<String>,
    /// PCI address.
    pub pci: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Ports of the adapter.
    pub ports: Vec<InfinibandPort>,
}

/// A port of an InfiniBand device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct InfinibandPort {
    /// Number, from 1.
    pub number: u32,
    /// `ACTIVE`, `DOWN`…
    pub state: Option<String>,
    /// `LinkUp`, `Disabled`…
    pub physical_state: Option<String>,
    /// `100 Gb/sec (4X EDR)`.
    pub rate: Option<String>,
    /// `InfiniBand` or `Ethernet`.
    pub link_layer: Option<String>,
    /// Local identifier.
    pub lid: Option<String>,
    /// Local identifier of its subnet manager.
    pub sm_lid: Option<String>,
    /// LID mask count.
    pub lmc: Option<String>,
    /// Network interface on it.
    pub netdev: Option<String>,
}
