//! Disks.

use serde::{Deserialize, Serialize};

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Disk {
    /// Kernel name.
    pub name: String,
    /// Capacity of the disk, bytes.
    pub size_bytes: u64,
    /// Manufacturer of the disk.
    pub vendor: Option<String>,
    /// Model of the disk.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// World wide name or NVMe namespace identifier.
    pub wwid: Option<String>,
    /// `nvme`, `sata`, `sas`, `usb`, `virtio`…, as `lsblk` says in TRAN.
    pub transport: Option<String>,
    /// Has moving parts.
    pub rotational: bool,
    /// Cannot be written.
    pub read_only: bool,
    /// Its medium can be taken out.
    pub removable: bool,
    /// Size of a logical sector, bytes.
    pub logical_sector_bytes: Option<u32>,
    /// Size of a physical sector, bytes.
    pub physical_sector_bytes: Option<u32>,
    /// PCI address of its controller.
    pub pci: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// What it tells of its health.
    pub health: Option<DiskHealth>,
    /// Partitions, in the kernel's order.
    pub partitions: Vec<Partition>,
}

/// What a disk tells of its health: the SMART log of NVMe (NVM Express Base Specification, log page
/// 02h), the counters of SCSI.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct DiskHealth {
    /// `live`, `running`, `offline`, `dead`…, as the kernel says.
    pub state: Option<String>,
    /// Bits of NVMe's critical warning; 0 = well.
    pub critical_warning: Option<u32>,
    /// Part of its life that is used, %; may pass 100.
    pub used_percent: Option<u32>,
    /// Spare blocks left, %.
    pub spare_percent: Option<u32>,
    /// Errors of the medium in all its life.
    pub media_errors: Option<u64>,
    /// Requests that failed since it was attached.
    pub io_errors: Option<u64>,
}

/// A partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Partition {
    /// Kernel name.
    pub name: String,
    /// Number of the partition in the partition table, from 1.
    pub number: u32,
    /// Offset of the partition from the start of the disk, bytes.
    pub start_bytes: u64,
    /// Size of the partition, bytes.
    pub size_bytes: u64,
}
