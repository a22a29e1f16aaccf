//! What the server counts: requests that it refuses, by kind, and how full its pools are. Of what
//! it says about the same machine again it says nothing for a while; here each time counts.

use api::ids::Timestamp;
use ipnet::Ipv4Net;
use metrics::Counters;

use super::{DhcpServer, Effect, NodeRequest};
use crate::{
    event::{BootEvent, NoAddress},
    host::HostTable,
};

/// Why a request got no answer, or no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is no DHCP request of an Ethernet client.
    Unreadable,
    /// No node has the MAC address.
    Unregistered,
    NoAddress(RefusedAddress),
    /// Nothing is configured for the architecture of the firmware.
    NoBootProgram,
    /// It asked for an address that is not its own, and was told so (NAK).
    NotItsAddress,
    /// It takes, gives back or declines addresses faster than a machine that boots.
    TooManyChanges,
}

/// [`NoAddress`] without its subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusedAddress {
    NoSubnet,
    OtherSubnet,
    NoPool,
    PoolExhausted,
}

impl Refusal {
    fn word(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Unregistered => "unregistered",
            Self::NoAddress(RefusedAddress::NoSubnet) => "no-subnet",
            Self::NoAddress(RefusedAddress::OtherSubnet) => "other-subnet",
            Self::NoAddress(RefusedAddress::NoPool) => "no-pool",
            Self::NoAddress(RefusedAddress::PoolExhausted) => "pool-exhausted",
            Self::NoBootProgram => "no-boot-program",
            Self::NotItsAddress => "not-its-address",
            Self::TooManyChanges => "too-many-changes",
        }
    }
}

impl From<&NoAddress> for Refusal {
    fn from(reason: &NoAddress) -> Self {
        Self::NoAddress(match reason {
            NoAddress::NoSubnet { .. } => RefusedAddress::NoSubnet,
            NoAddress::OtherSubnet { .. } => RefusedAddress::OtherSubnet,
            NoAddress::NoPool { .. } => RefusedAddress::NoPool,
            NoAddress::PoolExhausted { .. } => RefusedAddress::PoolExhausted,
        })
    }
}

/// Refused requests by kind.
#[derive(Debug)]
pub(super) struct RefusalCounts(Counters<9>);

impl Default for RefusalCounts {
    fn default() -> Self {
        Self(Counters::new([
            "unreadable",
            "unregistered",
            "no-subnet",
            "other-subnet",
            "no-pool",
            "pool-exhausted",
            "no-boot-program",
            "not-its-address",
            "too-many-changes",
        ]))
    }
}

impl RefusalCounts {
    /// Counts a refused request.
    pub(super) fn count(&self, why: Refusal) {
        self.0.inc(why.word());
    }
}

/// How many addresses of a pool are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// The network of the subnet, as the configuration has it.
    pub subnet: Ipv4Net,
    /// Addresses between first and last.
    pub size: u32,
    /// Acknowledged to a client, and not yet over.
    pub leased: u32,
    /// Offered to a client that has not asked for it yet.
    pub offered: u32,
    /// Used by somebody without a lease, as a client or a probe found out.
    pub unusable: u32,
    /// Somebody's by the configuration or a node's record, so that the pool does not give them.
    pub reserved: u32,
}

/// What DHCP calls the message in a packet, in small letters: `discover`; `other` for what is none.
/// Looks at option 53 alone (RFC 2132 section 9.6).
#[must_use]
pub fn message_word(packet: &[u8]) -> &'static str {
    /// The fixed part and the cookie.
    const OPTIONS_AT: usize = 240;
    let mut options = packet.get(OPTIONS_AT..).unwrap_or_default();
    loop {
        options = match options {
            [0, rest @ ..] => rest,
            [53, 1..=255, kind, ..] => {
                return match kind {
                    1 => "discover",
                    2 => "offer",
                    3 => "request",
                    4 => "decline",
                    5 => "ack",
                    6 => "nak",
                    7 => "release",
                    8 => "inform",
                    _ => "other",
                };
            }
            [255, ..] | [] | [_] => return "other",
            [_, length, rest @ ..] => rest.get(usize::from(*length)..).unwrap_or_default(),
        };
    }
}

impl DhcpServer {
    /// Kinds of refused requests and how often each was refused since the start.
    #[must_use]
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        self.refused.0.get().collect()
    }

    /// How full each pool is. Takes as long as there are addresses that were given, and nodes.
    #[must_use]
    pub fn pools(&self, hosts: &HostTable, now: Timestamp) -> Vec<PoolUse> {
        let subnets = self.config.subnets.iter().zip(&self.pools);
        let with_pool =
            subnets.filter_map(|(subnet, pool)| Some((subnet, subnet.pool?, pool.as_ref()?)));
        with_pool
            .map(|(subnet, (first, last), pool)| {
                let mut reserved = hosts.taken_between(first, last);
                reserved.extend(
                    self.plan.taken_of_pool((first, last)).iter().map(|(address, _)| *address),
                );
                let mut taken = PoolUse {
                    subnet: subnet.network,
                    size: pool.size(),
                    leased: 0,
                    offered: 0,
                    unusable: 0,
                    reserved: u32::try_from(reserved.len()).unwrap_or(u32::MAX),
                };
                pool.count(now, |address| !reserved.contains(&address), &mut taken);
                taken
            })
            .collect()
    }

    /// Counts a refused request.
    pub(super) fn refuse(&self, why: Refusal) {
        self.refused.count(why);
    }

    pub(super) fn no_address(&mut self, asked: &NodeRequest<'_>, reason: NoAddress) -> Vec<Effect> {
        self.refuse(Refusal::from(&reason));
        let event = BootEvent::NoAddress { node: asked.node(), reason };
        self.complain(asked.host.mac, "address", event, asked.now)
    }
}
