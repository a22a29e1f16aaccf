//! Devices that jobs are granted: their kinds and their names, as the Container Device
//! Interface spells them.
//!
//! ```text
//! nvidia.com/gpu=0      KIND=NAME; a kind is VENDOR/CLASS
//! ```
//! Documents count kinds (`resource.devices`), nodes offer names
//! ([`crate::inventory::Inventory::devices`]), and a run is granted names
//! ([`crate::run::JobSpec::devices`]).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::{InvalidId, string_serde};

/// Longest kind or name, characters: Kubernetes names resources with as many.
const MAX_LENGTH: usize = 253;

/// Vendor and class of a device, in CDI's form: `nvidia.com/gpu`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceKind(String);

impl DeviceKind {
    /// The kind as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for DeviceKind {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const RULE: &str = "use VENDOR/CLASS, as in nvidia.com/gpu; both of letters, digits and inner `.`, `-`, `_`, with a \
                            letter first";
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.ends_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_".contains(&c))
        };
        let parts =
            text.split_once('/').filter(|(vendor, class)| is_part(vendor) && is_part(class));
        match parts {
            Some(_) if text.len() <= MAX_LENGTH => Ok(Self(text.to_owned())),
            _ => Err(InvalidId::new("kind of devices", text, RULE)),
        }
    }
}
string_serde!(DeviceKind, "nvidia.com/gpu");

/// One device of a node: `nvidia.com/gpu=0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName {
    kind: DeviceKind,
    name: String,
}

impl DeviceName {
    /// The device `name` of a kind.
    ///
    /// # Errors
    /// [`InvalidId`] if it is no name.
    pub fn new(kind: DeviceKind, name: &str) -> Result<Self, InvalidId> {
        const RULE: &str = "use letters, digits and inner `.`, `-`, `_`, `:`";
        let is_end = |c: char| c.is_ascii_alphanumeric();
        let is_name = name.len() <= MAX_LENGTH
            && name.starts_with(is_end)
            && name.ends_with(is_end)
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_:".contains(&c));
        if is_name {
            Ok(Self { kind, name: name.to_owned() })
        } else {
            Err(InvalidId::new("name of a device", name, RULE))
        }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &DeviceKind {
        &self.kind
    }

    /// Its name among those of its kind.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.name)
    }
}

impl FromStr for DeviceName {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let rule = "use KIND=NAME, as in nvidia.com/gpu=0";
        let parts = text.split_once('=');
        let (kind, name) = parts.ok_or_else(|| InvalidId::new("name of a device", text, rule))?;
        Self::new(kind.parse()?, name)
    }
}
string_serde!(DeviceName, "nvidia.com/gpu=0");

/// A device that a node can grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct GrantableDevice {
    /// Its name on the node.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: DeviceName,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// PCI address.
    pub pci: Option<String>,
    /// File of the CDI spec that describes it, `built-in` for a rule of the agent's own.
    pub source: String,
    /// Why it is out of service, if it is.
    #[serde(default)]
    #[serde(rename = "sick")]
    pub unhealthy: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_container_device_interface() {
        for good in
            ["nvidia.com/gpu=0", "nvidia.com/gpu=GPU-1b2c", "rdma/hca=mlx5_0", "a-b_c/d.e=0:1"]
        {
            let name: DeviceName = good.parse().unwrap();
            assert_eq!(name.to_string(), good);
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<DeviceName>(&json).unwrap(), name);
        }
        for bad in [
            "",
            "gpu=0",
            "gpu",
            "nvidia.com/gpu",
            "nvidia.com/gpu=",
            "nvidia.com/gpu=-0",
            "1vendor/gpu=0",
            "nvidia.com/gpu/x=0",
            "nvidia.com/=0",
            "/gpu=0",
            "nvidia.com/gpu=a b",
            "nvidia.com/gpu-=0",
        ] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad}");
        }
        assert!("nvidia.com/gpu".parse::<DeviceKind>().is_ok());
        assert!(format!("a/{}", "b".repeat(MAX_LENGTH)).parse::<DeviceKind>().is_err());
    }
}
