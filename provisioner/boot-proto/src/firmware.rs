//! Which boot file a client gets, by its architecture (DHCP option 93, RFC 4578 section 2.1 and the
//! IANA registry "Processor Architecture Types").

use std::{collections::BTreeMap, fmt};

/// Processor architecture type as the client's firmware sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Architecture(pub u16);

impl Architecture {
    /// The boot file that fits, or `None` for an architecture that Bedplate does not boot.
    #[must_use]
    pub fn class(self) -> Option<FirmwareClass> {
        match self.0 {
            0 => Some(FirmwareClass::Bios),
            // 9 is "EBC" in the registry, but firmware sends it for x86-64 since an
            // error in RFC 4578.
            7 | 9 | 16 | 17 => Some(FirmwareClass::EfiX86_64),
            11 | 19 => Some(FirmwareClass::EfiArm64),
            _ => None,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "BIOS",
            6 => "UEFI x86-32",
            7 | 9 => "UEFI x86-64",
            10 => "UEFI arm32",
            11 => "UEFI arm64",
            15 => "UEFI x86-32 HTTP",
            16 | 17 => "UEFI x86-64 HTTP",
            18 => "UEFI arm32 HTTP",
            19 => "UEFI arm64 HTTP",
            27 => "UEFI riscv64",
            _ => "unknown architecture",
        };
        write!(f, "{name} (type {})", self.0)
    }
}

/// A boot file, by what it runs on. One setting of the server's configuration each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FirmwareClass {
    /// PC BIOS.
    Bios,
    /// UEFI on x86-64.
    EfiX86_64,
    /// UEFI on arm64.
    EfiArm64,
}

impl FirmwareClass {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bios, Self::EfiX86_64, Self::EfiArm64];

    /// Name of the file as iPXE builds it.
    #[must_use]
    pub fn usual_file(self) -> &'static str {
        match self {
            Self::Bios => "undionly.kpxe",
            Self::EfiX86_64 => "snponly.efi",
            Self::EfiArm64 => "snponly-arm64.efi",
        }
    }

    /// Key in the server's configuration file.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Self::Bios => "firmware.bios",
            Self::EfiX86_64 => "firmware.efi-x86-64",
            Self::EfiArm64 => "firmware.efi-arm64",
        }
    }
}

/// The boot files that the administrator configured, by the name that they are served under.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirmwareMap(pub BTreeMap<FirmwareClass, String>);

impl FirmwareMap {
    /// Name of the file for clients of this architecture.
    #[must_use]
    pub fn file(&self, architecture: Architecture) -> Option<&str> {
        self.0.get(&architecture.class()?).map(String::as_str)
    }
}
