//! What the boot servers saw. `provisioner` logs each event and passes it on to the
//! state of the nodes.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use api::ids::{MacAddr, NodeId, NodeName};
use ipnet::Ipv4Net;

use crate::firmware::Architecture;

/// A registered node and the interface that it spoke from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRef {
    /// The node.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// MAC address of the interface.
    pub mac: MacAddr,
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.mac)
    }
}

/// The program on the machine that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The firmware, by PXE: gets a boot file by TFTP.
    Pxe(Architecture),
    /// The firmware, by UEFI HTTP boot: gets the URL of a boot file.
    Http(Architecture),
    /// iPXE: gets the URL of its script.
    Ipxe,
    /// An operating system, stage 1 included: gets an address only.
    System,
}

impl Client {
    /// It is on its way to load an operating system.
    #[must_use]
    pub fn boots(self) -> bool {
        self != Self::System
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pxe(architecture) => write!(f, "PXE firmware, {architecture}"),
            Self::Http(architecture) => write!(f, "HTTP boot firmware, {architecture}"),
            Self::Ipxe => f.write_str("iPXE"),
            Self::System => f.write_str("operating system"),
        }
    }
}

/// Why a node could not be given an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAddress {
    /// The request came from a network that no configured subnet covers.
    NoSubnet {
        /// An address of that network: the relay's, or the receiving interface's.
        network: Option<Ipv4Addr>,
    },
    /// The node's address is not in the subnet that it asks from.
    OtherSubnet {
        /// The node's address.
        address: Ipv4Net,
        /// The subnet that it asks from.
        subnet: Ipv4Net,
    },
    /// The node has no address of its own and the subnet has no pool.
    NoPool {
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// The node has no address of its own and the subnet's pool is used up.
    PoolExhausted {
        /// The subnet.
        subnet: Ipv4Net,
    },
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSubnet { network: Some(network) } => {
                write!(f, "it asks from the network of {network}, which is not among dhcp.subnets")
            }
            Self::NoSubnet { network: None } => {
                f.write_str("the interface that it was heard on has no IPv4 address")
            }
            Self::OtherSubnet { address, subnet } => {
                write!(f, "its address {address} is not in {subnet}, the network that it asks from")
            }
            Self::NoPool { subnet } => write!(
                f,
                "it has no address, and {subnet} has no pool; give the node an address or set dhcp.subnets[].pool"
            ),
            Self::PoolExhausted { subnet } => {
                write!(
                    f,
                    "it has no address, and the pool of {subnet} is used up; make the pool larger"
                )
            }
        }
    }
}

/// One thing that a boot server saw or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootEvent {
    /// A node was offered an address, or in proxy mode only its boot file.
    Offered {
        /// The node.
        node: NodeRef,
        /// Who asked.
        client: Client,
        /// The address; `None` in proxy mode.
        address: Option<Ipv4Addr>,
    },
    /// A node took an address, or renewed it.
    Leased {
        /// The node.
        node: NodeRef,
        /// Who asked.
        client: Client,
        /// The address.
        address: Ipv4Addr,
        /// Length of the lease.
        lease_seconds: u32,
    },
    /// A node asked for an address that is not its own and was told so.
    Refused {
        /// The node.
        node: NodeRef,
        /// What it asked for.
        wanted: Ipv4Addr,
        /// What it should have.
        assigned: Option<Ipv4Addr>,
    },
    /// A machine that is not registered asked; it got no answer.
    UnknownMac {
        /// Its MAC address.
        mac: MacAddr,
        /// Who asked.
        client: Client,
        /// Address of the relay that passed the request on.
        relay: Option<Ipv4Addr>,
    },
    /// A node's firmware asked for a boot file that is not configured; it got no answer.
    MissingFirmware {
        /// The node.
        node: NodeRef,
        /// Its architecture.
        architecture: Architecture,
    },
    /// A node could not be given an address; it got no answer.
    NoAddress {
        /// The node.
        node: NodeRef,
        /// Why.
        reason: NoAddress,
    },
    /// A node found its address in use by another machine (DHCPDECLINE).
    Conflict {
        /// The node.
        node: NodeRef,
        /// The address.
        address: Ipv4Addr,
    },
    /// A probe found that a machine uses an address of a pool that it did not get here.
    AddressInUse {
        /// The address.
        address: Ipv4Addr,
        /// The machine's MAC address.
        mac: MacAddr,
    },
    /// A node gave its address back.
    Released {
        /// The node.
        node: NodeRef,
        /// The address.
        address: Ipv4Addr,
    },
    /// A boot file was sent whole.
    FirmwareSent {
        /// Name of the file.
        file: String,
        /// Who fetched it.
        client: IpAddr,
        /// Its size.
        bytes: u64,
    },
    /// A file was asked for that is not served.
    FirmwareNotFound {
        /// Name of the file, cut to 80 characters.
        file: String,
        /// Who asked.
        client: IpAddr,
    },
    /// The client stopped answering in the middle of a transfer.
    FirmwareLost {
        /// Name of the file.
        file: String,
        /// Who fetched it.
        client: IpAddr,
        /// How far it came.
        bytes: u64,
    },
}

impl BootEvent {
    /// Somebody should look: the event is logged as a warning.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        !matches!(
            self,
            Self::Offered { .. }
                | Self::Leased { .. }
                | Self::Released { .. }
                | Self::FirmwareSent { .. }
        )
    }
}

/// The line of the log.
impl fmt::Display for BootEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offered { node, client, address: Some(address) } => {
                write!(f, "{node}: offered {address} to {client}")
            }
            Self::Offered { node, client, address: None } => {
                write!(f, "{node}: offered a boot file to {client}")
            }
            Self::Leased { node, client, address, lease_seconds } => {
                write!(f, "{node}: leased {address} for {lease_seconds} s to {client}")
            }
            Self::Refused { node, wanted, assigned: Some(assigned) } => {
                write!(f, "{node}: refused {wanted}, its address here is {assigned}")
            }
            Self::Refused { node, wanted, assigned: None } => write!(f, "{node}: refused {wanted}"),
            Self::UnknownMac { mac, client, relay } => {
                write!(f, "no answer to {mac} ({client}): no node has this MAC address")?;
                if let Some(relay) = relay {
                    write!(f, "; it came through the relay {relay}")?;
                }
                f.write_str("; add one with `bedplate node add NAME --mac ")?;
                write!(f, "{mac}`")
            }
            Self::MissingFirmware { node, architecture } => match architecture.class() {
                Some(class) => write!(
                    f,
                    "no answer to {node}: firmware file {} for {architecture} is missing; set {} to the path of \
                     such a file",
                    class.usual_file(),
                    class.setting()
                ),
                None => write!(f, "no answer to {node}: there is no boot file for {architecture}"),
            },
            Self::NoAddress { node, reason } => write!(f, "no answer to {node}: {reason}"),
            Self::Conflict { node, address } => {
                write!(
                    f,
                    "{node} declined {address}: another machine on its network uses this address"
                )
            }
            Self::AddressInUse { address, mac } => write!(
                f,
                "{address} is in a pool and {mac} uses it without a lease; it is not given to others for now"
            ),
            Self::Released { node, address } => write!(f, "{node}: gave {address} back"),
            Self::FirmwareSent { file, client, bytes } => {
                write!(f, "sent {file} ({bytes} bytes) to {client} by TFTP")
            }
            Self::FirmwareNotFound { file, client } => {
                write!(f, "{client} asked by TFTP for {file:?}, which is not served")
            }
            Self::FirmwareLost { file, client, bytes } => {
                write!(f, "{client} stopped answering after {bytes} bytes of {file} by TFTP")
            }
        }
    }
}
