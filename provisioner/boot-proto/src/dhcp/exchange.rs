//! What passes between the server and its shell: how a packet came in, and what is to be done.

use std::net::{Ipv4Addr, SocketAddrV4};

use api::ids::MacAddr;

use super::LeaseRecord;
use crate::event::BootEvent;

/// The port that a packet came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// 67.
    Dhcp,
    /// 4011, the boot server port of PXE 2.1.
    Boot,
}

/// How a packet came in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// IPv4 addresses of the receiving interface.
    pub addresses: &'a [Ipv4Addr],
    /// The server's address that it was sent to; for a broadcast, the one that the kernel
    /// would answer from.
    pub local: Ipv4Addr,
    /// Who sent it.
    pub source: SocketAddrV4,
    /// The port that it came to.
    pub port: Port,
}

/// Where a reply goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// 255.255.255.255 port 68 on the interface that the request came from.
    Broadcast,
    /// An address that answers ARP: a bound client, a relay, a PXE client on port 4011.
    Unicast(SocketAddrV4),
    /// A client that has no address yet and wants a frame to its MAC address (broadcast flag clear,
    /// RFC 2131 section 4.1).
    Hardware {
        /// The address that it is being given; the IP destination.
        address: Ipv4Addr,
        /// The Ethernet destination.
        mac: MacAddr,
    },
}

/// A packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The UDP payload.
    pub bytes: Vec<u8>,
    /// Address of this server that it is sent from.
    pub from: Ipv4Addr,
    /// Where it is sent to.
    pub to: Destination,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Something happened that people and the state of the nodes should know. Comes before the
    /// packet that it belongs to, so that a node's address is known before the node can use it.
    Event(BootEvent),
    /// Send this.
    Send(Reply),
    /// Append this to the records of leases; nothing waits for it. [`super::DhcpServer::saved`] is
    /// told when it is on disk.
    Record(LeaseRecord),
    /// Append this likewise and do the rest only once it is on disk. If it cannot be written,
    /// [`super::DhcpServer::unsaved`] is told and the rest is not done: the client asks again.
    Save {
        /// A lease that is new.
        record: LeaseRecord,
        /// What acknowledges it.
        then: Vec<Effect>,
    },
    /// Ask the network that the packet came from whether a machine uses this address. Then tell
    /// [`super::DhcpServer::probed`] and handle the same packet again. The shell bounds probes in
    /// time, in number and for each packet; of one that it does not make it tells
    /// [`super::DhcpServer::not_probed`], and the packet gets no answer.
    Probe(Ipv4Addr),
}
