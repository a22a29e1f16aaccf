//! The machine itself: SMBIOS, firmware, memory modules, BMC, operating system.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::MacAddr;

/// Who made the machine and what it is called: SMBIOS types 1 to 3 (DSP0134).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct System {
    /// Manufacturer of the machine, from SMBIOS type 1.
    pub vendor: Option<String>,
    /// Product name of the machine, from SMBIOS type 1.
    pub product: Option<String>,
    /// Version of the product.
    pub version: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// UUID of the machine, from SMBIOS type 1.
    pub uuid: Option<String>,
    /// Stock keeping unit.
    pub sku: Option<String>,
    /// Product family.
    pub family: Option<String>,
    /// Asset tag of the chassis.
    pub asset_tag: Option<String>,
    /// Type of the chassis: `Rack Mount Chassis`.
    pub chassis: Option<String>,
    /// Serial number of the chassis.
    pub chassis_serial: Option<String>,
    /// Base board.
    pub board: Board,
}

/// A base board: SMBIOS type 2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Board {
    /// Manufacturer of the board.
    pub vendor: Option<String>,
    /// Product name of the board.
    pub product: Option<String>,
    /// Version of the board.
    pub version: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
}

/// Firmware of the machine: BIOS or UEFI.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Firmware {
    /// Vendor of the firmware, from SMBIOS type 0.
    pub vendor: Option<String>,
    /// Version of the firmware, from SMBIOS type 0.
    pub version: Option<String>,
    /// Release date, as the vendor writes it: `04/01/2014`.
    pub date: Option<String>,
    /// `uefi` or `bios`.
    pub boot_mode: Option<String>,
    /// Secure Boot is on. Absent where there is no UEFI.
    pub secure_boot: Option<bool>,
    /// Version of the TPM: `2.0`, `1.2`.
    pub tpm: Option<String>,
}

/// A slot for memory: SMBIOS type 17.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct MemoryModule {
    /// Label of the slot on the board: `DIMM_A1`.
    pub locator: Option<String>,
    /// Bank: `NODE 0`.
    pub bank: Option<String>,
    /// Size; absent: the slot is empty.
    pub size_bytes: Option<u64>,
    /// `DDR5`, `HBM2`…
    pub kind: Option<String>,
    /// Speed that it is run at, MT/s.
    pub speed_mts: Option<u32>,
    /// Speed that it can do, MT/s.
    pub max_speed_mts: Option<u32>,
    /// Manufacturer of the module.
    pub vendor: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Part number.
    pub part_number: Option<String>,
    /// Number of ranks of the module.
    pub ranks: Option<u32>,
}

/// The baseboard management controller, as its own interface tells (IPMI 2.0).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Bmc {
    /// Firmware revision: `2.10`.
    pub firmware: Option<String>,
    /// Version of IPMI: `2.0`.
    pub ipmi: Option<String>,
    /// IANA enterprise number of its maker.
    pub manufacturer_id: Option<u32>,
    /// Address of its LAN interface.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub address: Option<IpAddr>,
    /// MAC address of its LAN interface.
    pub mac: Option<MacAddr>,
    /// `static` or `dhcp`.
    pub address_source: Option<String>,
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
    /// Arguments of the kernel.
    pub command_line: Option<String>,
}
