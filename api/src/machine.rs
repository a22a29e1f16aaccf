//! Nodes and profiles as a person declares them, and where each resolved value came from.
//!
//! A profile holds the same fields as a node. A node lists profiles; later ones win, the node wins
//! over all; lists of kernel arguments, overlays, groups and profiles append, and an element `~x`
//! removes `x`; maps merge by key.
//!
//! Stage 1 reads a [`MachineSpec`] that a later release may have rendered, so its types ignore
//! unknown fields. What people write is read with [`crate::strict`], which refuses them.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{MacAddr, NodeId, NodeName, ProfileName},
    status::NodeStatus,
};

/// What a person wants of a node, or of every node that lists a profile. Every field
/// may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct MachineSpec {
    /// A remark for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Profiles to take values from, in order; later ones win.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// OS image: `NAME` follows its newest version, `NAME@3` pins version 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Kernel release to boot where the image has several; default: the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Kernel arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernel_args: Vec<String>,
    /// How the root file system is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<RootSpec>,
    /// Network interfaces by the name that the OS shall give them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub interfaces: BTreeMap<String, InterfaceSpec>,
    /// Name servers and search domains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsSpec>,
    /// Overlays applied before the node's init starts, in order; later ones win.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boot_overlays: Vec<String>,
    /// Overlays kept up to date on the running node, in order; later ones win.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime_overlays: Vec<String>,
    /// Baseboard management controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmc: Option<BmcSpec>,
    /// Groups, for use in overlays and in selections.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Public facts of the node, which jobs can ask for ([`crate::labels`]). A key `~KEY` takes
    /// away the label that a profile brings.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Free values for templates, which only admins read.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// How the root file system of a node is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct RootSpec {
    /// Size limit of the writable layer in RAM: `50%` of memory, or `4GiB`. Default `50%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writable_size: Option<String>,
}

/// One network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct InterfaceSpec {
    /// MAC address. Nodes are recognised by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Address with prefix length: `10.1.0.11/24`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "10.1.0.11/24"))]
    pub address: Option<ipnet::IpNet>,
    /// Default gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub gateway: Option<IpAddr>,
    /// Maximum transmission unit in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// VLAN id, 1 to 4094; `parent` carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The interface that carries this VLAN, by its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Makes this interface a bond over others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bond: Option<BondSpec>,
}

/// A bond over other interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct BondSpec {
    /// Kernel name of the mode: `802.3ad`, `active-backup`, `balance-rr`…
    pub mode: String,
    /// The members, by their keys.
    pub members: Vec<String>,
}

/// Name servers and search domains.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct DnsSpec {
    /// Addresses of name servers, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub servers: Vec<IpAddr>,
    /// Search domains; the first is the node's own domain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
}

/// Baseboard management controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct BmcSpec {
    /// Address of the controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub address: Option<IpAddr>,
}

/// A registered node: what is wanted, what is, and its version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its identity.
    pub id: NodeId,
    /// As declared, profiles not yet applied.
    pub spec: MachineSpec,
    /// Present state of the node, as the server observes it.
    pub status: NodeStatus,
    /// Image version that it boots next: `debian-node@3`. Absent if it has no image or one that is
    /// not there, and from a server of before. What it runs is in its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_image: Option<String>,
    /// Its labels, those of its profiles among them; absent where its profiles cannot be applied.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Counts changes of the spec, from 1. Sent back as `If-Match` to refuse a lost update.
    pub version: u64,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// As declared.
    pub spec: MachineSpec,
    /// Counts changes of the spec, from 1.
    pub version: u64,
    /// Why the stored `spec` cannot be read, and is empty here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One value of a resolved node and where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Origin {
    /// Path of the field: `interfaces.eth0.mac`, `kernel-args[1]`.
    pub field: String,
    /// The value as it is used.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub value: serde_json::Value,
    /// `node`, `profile NAME` or `default`.
    pub origin: String,
}

/// A node with all profiles applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Explained {
    /// The node.
    pub name: NodeName,
    /// The values in force.
    pub resolved: MachineSpec,
    /// Each value with its origin, by field.
    pub origins: Vec<Origin>,
}

/// `POST /v1/nodes`: adds nodes by one specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AddNodes {
    /// A host list: `n1`, `n[1-8]`, `n[0001-1024],login1`. With several names, an address counts up
    /// from the one given, and a `mac` is refused.
    pub names: String,
    /// The specification.
    #[serde(default)]
    pub spec: MachineSpec,
}

/// `PATCH /v1/nodes`: changes many nodes at once, all or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PatchNodes {
    /// A host list.
    pub names: String,
    /// JSON merge patch (RFC 7396) on the spec: `null` clears a field.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub patch: serde_json::Value,
}

/// `POST /v1/apply`: makes nodes and profiles be as a YAML document says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Apply {
    /// The document: top-level maps `profiles:` and `nodes:`, each from name (host lists allowed)
    /// to [`MachineSpec`].
    pub document: String,
    /// Tell what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Also delete nodes and profiles that the document does not name.
    #[serde(default)]
    pub prune: bool,
}

/// What an [`Apply`] did or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Applied {
    /// Changes in the order of the document; unchanged objects are left out.
    pub changes: Vec<Change>,
}

/// One object that an apply changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// `node` or `profile`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `created`, `changed` or `deleted`.
    pub action: String,
    /// Changed fields as `path: old -> new`.
    pub fields: Vec<String>,
}
