//! Which MAC address is which node. `provisioner` builds a new table whenever a node changes and hands it to the
//! DHCP and HTTP shells.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use api::ids::{MacAddr, NodeId, NodeName};
use ipnet::Ipv4Net;

/// One network interface of a registered node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The node.
    pub id: NodeId,
    /// Its name; also sent as its host name.
    pub name: NodeName,
    /// MAC address of the interface.
    pub mac: MacAddr,
    /// Address of the interface. `None`: taken from the subnet's pool.
    pub address: Option<Ipv4Net>,
    /// Default gateway; `None`: the subnet's.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers; empty: the subnet's.
    pub dns: Vec<Ipv4Addr>,
    /// Domain of the node; `None`: the subnet's.
    pub domain: Option<String>,
}

/// All interfaces with a MAC address, of all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostTable {
    by_mac: HashMap<MacAddr, Host>,
    by_address: HashMap<Ipv4Addr, MacAddr>,
    /// Further addresses that are somebody's by what nodes' records say.
    others: HashSet<Ipv4Addr>,
}

impl HostTable {
    /// The interface with this MAC address.
    #[must_use]
    pub fn get(&self, mac: MacAddr) -> Option<&Host> {
        self.by_mac.get(&mac)
    }

    /// The MAC address that this address is reserved for.
    #[must_use]
    pub fn holder(&self, address: Ipv4Addr) -> Option<MacAddr> {
        self.by_address.get(&address).copied()
    }

    /// With further addresses that no pool may give: those of interfaces without a MAC address (VLANs,
    /// bonds), and the gateways and name servers of nodes.
    #[must_use]
    pub fn with_others(mut self, others: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        self.others = others.into_iter().collect();
        self
    }

    /// Whether the address is somebody's by what nodes' records say.
    #[must_use]
    pub fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.by_address.contains_key(&address) || self.others.contains(&address)
    }

    /// Whether the address is an interface's own by its node's record.
    #[must_use]
    pub fn is_fixed(&self, address: Ipv4Addr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// The addresses of a range that are somebody's by what nodes' records say.
    #[must_use]
    pub fn taken_between(&self, first: Ipv4Addr, last: Ipv4Addr) -> HashSet<Ipv4Addr> {
        let all = self.by_address.keys().chain(&self.others).copied();
        all.filter(|address| (first..=last).contains(address)).collect()
    }

    /// Number of interfaces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_mac.len()
    }

    /// No interface at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_mac.is_empty()
    }
}

/// Of two hosts with the same MAC address the later one counts; `provisioner` refuses such a pair before.
impl FromIterator<Host> for HostTable {
    fn from_iter<T: IntoIterator<Item = Host>>(hosts: T) -> Self {
        let by_mac: HashMap<MacAddr, Host> = hosts.into_iter().map(|host| (host.mac, host)).collect();
        let by_address = by_mac
            .values()
            .filter_map(|host| host.address.map(|address| (address.addr(), host.mac)))
            .collect();
        Self { by_mac, by_address, others: HashSet::new() }
    }
}
