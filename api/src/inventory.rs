//! Hardware facts of a node. Sizes in bytes unless the name says otherwise; absent = the node cannot tell.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{device::GrantableDevice, ids::MacAddr};

/// Everything that a node reports of its hardware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Inventory {
    /// Vendor, product, serial number, firmware.
    pub system: System,
    /// Operating system.
    pub os: Os,
    /// Topology of processors and memory.
    pub topology: Topology,
    /// Memory in all.
    pub memory_bytes: u64,
    /// PCI devices.
    pub pci: Vec<PciDevice>,
    /// Network interfaces.
    pub nics: Vec<Nic>,
    /// Disks.
    pub disks: Vec<Disk>,
    /// GPUs and other accelerators.
    pub gpus: Vec<Gpu>,
    /// InfiniBand and RoCE devices.
    pub infiniband: Vec<Infiniband>,
    /// Devices that jobs can be granted, by name.
    pub devices: Vec<GrantableDevice>,
    /// Facts that could not be read, each with its cause.
    pub gaps: Vec<Gap>,
}

/// A fact that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Gap {
    /// What: `/sys/class/dmi/id/product_serial`.
    pub subject: String,
    /// Why.
    pub cause: String,
}

/// SMBIOS facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct System {
    /// Vendor.
    pub vendor: Option<String>,
    /// Product.
    pub product: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// UUID.
    pub uuid: Option<String>,
    /// Firmware vendor and version.
    pub firmware: Option<String>,
    /// `uefi` or `bios`.
    pub boot_mode: Option<String>,
}

/// Operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Os {
    /// `PRETTY_NAME` of `/etc/os-release`.
    pub name: Option<String>,
    /// `uname -r`.
    pub kernel: Option<String>,
    /// `uname -m`.
    pub architecture: Option<String>,
}

/// Processors and memory, from hwloc. All indexes are hwloc's *physical* (OS) indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Topology {
    /// Model of the processor.
    pub cpu_model: Option<String>,
    /// Packages (sockets).
    pub packages: Vec<Package>,
    /// NUMA nodes.
    pub numa_nodes: Vec<NumaNode>,
    /// Caches.
    pub caches: Vec<Cache>,
    /// Cores.
    pub cores: Vec<Core>,
    /// Processing units (hardware threads) in all.
    pub pus: u32,
}

/// A package (socket).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Package {
    /// Physical index.
    pub index: u32,
    /// Its PUs.
    pub pus: Vec<u32>,
}

/// A NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct NumaNode {
    /// Physical index.
    pub index: u32,
    /// Local memory.
    pub memory_bytes: u64,
    /// PUs that are local to it.
    pub pus: Vec<u32>,
    /// Pages by size.
    pub pages: Vec<PageType>,
}

/// Pages of one size in one NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct PageType {
    /// Page size.
    pub size_bytes: u64,
    /// How many.
    pub count: u64,
}

/// A cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Cache {
    /// 1, 2, 3…
    pub level: u8,
    /// `unified`, `data` or `instruction`.
    pub kind: String,
    /// Its size.
    pub size_bytes: u64,
    /// PUs that share it.
    pub pus: Vec<u32>,
}

/// A core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Core {
    /// Logical index over the machine.
    pub index: u32,
    /// Package that it is in.
    pub package: Option<u32>,
    /// NUMA node that is local to it.
    pub numa_node: Option<u32>,
    /// Its PUs.
    pub pus: Vec<u32>,
}

/// A PCI device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct PciDevice {
    /// `0000:00:03.0`.
    pub address: String,
    /// Class code, 24 bits as six hexadecimal digits.
    pub class: String,
    /// Vendor id, four hexadecimal digits.
    pub vendor: String,
    /// Device id, four hexadecimal digits.
    pub device: String,
    /// Driver bound to it.
    pub driver: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
}

/// A network interface of hardware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Nic {
    /// Kernel name.
    pub name: String,
    /// Hardware address.
    pub mac: Option<MacAddr>,
    /// Driver.
    pub driver: Option<String>,
    /// PCI address.
    pub pci: Option<String>,
    /// Speed in Mbit/s.
    pub speed_mbits: Option<u32>,
    /// `up`, `down`…, as `operstate` says.
    pub state: String,
    /// Addresses.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
    /// NUMA node.
    pub numa_node: Option<u32>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// Kernel name.
    pub name: String,
    /// Size.
    pub size_bytes: u64,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Has moving parts.
    pub rotational: bool,
    /// PCI address of its controller.
    pub pci: Option<String>,
}

/// A GPU or other accelerator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Gpu {
    /// PCI address.
    pub pci: String,
    /// `nvidia`, `amd`, `intel` or the PCI vendor id.
    pub vendor: String,
    /// Model.
    pub model: Option<String>,
    /// UUID that its driver gives.
    pub uuid: Option<String>,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// Version of its driver.
    pub driver_version: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
}

/// An InfiniBand or RoCE device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Infiniband {
    /// `mlx5_0`.
    pub name: String,
    /// Node GUID.
    pub guid: Option<String>,
    /// Firmware version.
    pub firmware: Option<String>,
    /// PCI address.
    pub pci: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Ports.
    pub ports: Vec<InfinibandPort>,
}

/// A port of an InfiniBand device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
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
}
