//! Hardware facts of a node. Sizes in bytes unless the name says otherwise; absent = the
//! node cannot tell.

mod connection;
mod fault;
mod machine;
mod network;
mod pci;
mod query;
mod storage;
mod topology;

use serde::{Deserialize, Serialize};

pub use self::{
    connection::{Connection, connection},
    fault::{Fault, FaultLevel},
    machine::{Bmc, Board, Firmware, MemoryModule, Os, System},
    network::{Infiniband, InfinibandPort, Nic, NicKind, Vlan},
    pci::{Ecc, Gpu, GpuLink, MigDevice, PciDevice, PciLink},
    query::{Answer, Answered, Unclear},
    storage::{Disk, DiskHealth, Partition},
    topology::{Cache, Core, CpuKind, Die, NumaNode, Package, PageType, Topology},
};
use crate::device::GrantableDevice;

/// Everything that a node reports of its hardware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Inventory {
    /// Vendor, product, serial number.
    pub system: System,
    /// Firmware that starts the machine: BIOS or UEFI.
    pub firmware: Firmware,
    /// Operating system.
    pub os: Os,
    /// Processors and memory.
    pub topology: Topology,
    /// Memory in all, as the kernel has it.
    pub memory_bytes: u64,
    /// Slots for memory.
    pub memory_modules: Vec<MemoryModule>,
    /// Baseboard management controller.
    pub bmc: Option<Bmc>,
    /// PCI devices.
    pub pci: Vec<PciDevice>,
    /// Network interfaces.
    pub nics: Vec<Nic>,
    /// Disks, as the kernel lists them.
    pub disks: Vec<Disk>,
    /// GPUs and other accelerators.
    pub gpus: Vec<Gpu>,
    /// InfiniBand and RoCE devices.
    pub infiniband: Vec<Infiniband>,
    /// Devices that jobs can be granted, by name.
    pub devices: Vec<GrantableDevice>,
    /// Faults of the hardware that the agent sees now.
    pub faults: Vec<Fault>,
    /// Facts that could not be read, each with its cause.
    pub gaps: Vec<Gap>,
}

impl Inventory {
    /// The PCI device at an address.
    #[must_use]
    pub fn pci_device(&self, address: &str) -> Option<&PciDevice> {
        self.pci.iter().find(|device| device.address == address)
    }
}

/// A fact that could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Gap {
    /// Subject that could not be read, mostly a path: `/sys/class/dmi/id/product_serial`.
    pub subject: String,
    /// Cause, for people: the message of the system or of the tool.
    pub cause: String,
}
