//! Devices on PCI, and accelerators.

use serde::{Deserialize, Serialize};

/// A PCI device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct PciDevice {
    /// `0000:00:03.0`.
    pub address: String,
    /// Address of the bridge that it is behind.
    pub parent: Option<String>,
    /// Class code, 24 bits as six hexadecimal digits.
    pub class: String,
    /// Vendor id, four hexadecimal digits.
    pub vendor: String,
    /// Device id, four hexadecimal digits.
    pub device: String,
    /// Vendor id of the subsystem, four hexadecimal digits.
    pub subsystem_vendor: Option<String>,
    /// Device id of the subsystem, four hexadecimal digits.
    pub subsystem_device: Option<String>,
    /// Revision, two hexadecimal digits.
    pub revision: Option<String>,
    /// Name of the class in `pci.ids`; the server's to fill in, as the other names.
    pub class_name: Option<String>,
    /// Name of the vendor in `pci.ids`.
    pub vendor_name: Option<String>,
    /// Name of the device in `pci.ids`.
    pub device_name: Option<String>,
    /// Driver bound to it.
    pub driver: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Its link, of PCI Express.
    pub link: Option<PciLink>,
    /// IOMMU group.
    pub iommu_group: Option<u32>,
    /// Address of the physical function of which it is a virtual one (SR-IOV).
    pub physical_function: Option<String>,
    /// Virtual functions that it has now (SR-IOV).
    pub virtual_functions: Option<u32>,
}

/// A link of PCI Express.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct PciLink {
    /// Rate of a lane now, MT/s: 32000 for generation 5.
    pub speed_mts: u32,
    /// Number of lanes in use now.
    pub width: u32,
    /// Highest rate that the device can do, MT/s.
    pub max_speed_mts: u32,
    /// Most lanes that the device can use.
    pub max_width: u32,
}

/// A GPU or other accelerator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Gpu {
    /// PCI address.
    pub pci: String,
    /// `nvidia`, `amd`, `intel` or the PCI vendor id.
    pub vendor: String,
    /// Number that its driver's tools give it.
    pub index: Option<u32>,
    /// Product name of the GPU, as its driver reports it.
    pub model: Option<String>,
    /// UUID that its driver gives.
    pub uuid: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Memory of the GPU, bytes.
    pub memory_bytes: Option<u64>,
    /// Version of its driver.
    pub driver_version: Option<String>,
    /// Version of its firmware (VBIOS).
    pub firmware: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Power limit, W.
    pub power_limit_watts: Option<u32>,
    /// ECC, where it has it.
    pub ecc: Option<Ecc>,
    /// MIG devices; see `mig-enabled`.
    pub mig: Vec<MigDevice>,
    /// MIG is on (NVIDIA).
    pub mig_enabled: Option<bool>,
    /// Direct links to other GPUs.
    pub links: Vec<GpuLink>,
}

/// Error correction of a GPU's memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Ecc {
    /// Error correction is switched on.
    pub enabled: bool,
    /// Corrected errors since the driver was loaded.
    pub corrected: Option<u64>,
    /// Uncorrected errors since the driver was loaded.
    pub uncorrected: Option<u64>,
    /// Pages or rows that were taken out of use for errors, in all its life.
    pub retired_pages: Option<u64>,
    /// Pages or rows wait to be taken out of use at the next reset.
    pub pending: Option<bool>,
}

/// A part of a GPU (MIG).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct MigDevice {
    /// UUID of the part, as its driver reports it.
    pub uuid: Option<String>,
    /// GPU instance.
    pub gpu_instance: u32,
    /// Compute instance.
    pub compute_instance: u32,
    /// Memory of the part, bytes.
    pub memory_bytes: Option<u64>,
    /// Multiprocessors.
    pub multiprocessors: Option<u32>,
}

/// A direct link between two GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct GpuLink {
    /// PCI address of the other.
    pub peer: String,
    /// `nvlink` or `xgmi`.
    pub kind: String,
    /// Links between the two.
    pub lanes: u32,
}
