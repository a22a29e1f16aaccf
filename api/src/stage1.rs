//! What stage 1 must know before it can trust anybody: the one file of the per-node initrd.
//!
//! The provisioner appends a second cpio archive (newc, padded to 4 bytes) to the boot of each
//! node; it holds this document as [`PATH`], mode 0600. It is never on the kernel command line.
//! Stage 1 deletes it after reading.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Digest, NodeId, NodeName, Timestamp},
    machine::MachineSpec,
};

/// Path of the document in the initramfs.
pub const PATH: &str = "/bedplate/stage1.json";

/// Largest document that stage 1 reads, bytes: a node with a hundred interfaces
/// needs a tenth of it.
pub const MAX_BYTES: u64 = 1 << 20;

/// Everything that stage 1 is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stage1 {
    /// Name of the node.
    pub node: NodeName,
    /// Identity of the node.
    pub id: NodeId,
    /// The server's clock when this was rendered. A clock that is behind it is moved to it.
    pub server_time: Timestamp,
    /// The servers' boot ports (plain HTTP), in order of preference.
    pub boot_servers: Vec<SocketAddr>,
    /// The servers' fleet ports (TLS), in order of preference.
    pub fleet_servers: Vec<SocketAddr>,
    /// SHA-256 of the DER of the CA certificate that the fleet ports' chains must end in.
    pub ca_fingerprint: Digest,
    /// One-time boot token. Absent if the node is not armed: stage 1 then says so on the console
    /// and retries by a reboot after a pause.
    pub token: Option<String>,
    /// The root image.
    pub root: RootImage,
    /// The node's resolved interfaces, DNS and root settings; other fields are left empty.
    pub machine: MachineSpec,
    /// The address that the server's DHCP gives this node on the boot interface, for use where DHCP
    /// does not answer.
    pub fallback_address: Option<FallbackAddress>,
}

/// The root image to fetch from any boot server at `/blobs/sha256/HEX`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RootImage {
    /// `squashfs`.
    pub format: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// For messages: `debian-node@2`.
    pub version: String,
}

/// An address to use without DHCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FallbackAddress {
    /// Address with prefix length.
    pub address: ipnet::IpNet,
    /// Default gateway.
    pub gateway: Option<IpAddr>,
}
