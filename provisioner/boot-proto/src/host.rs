//! Which MAC address is which node. `provisioner` changes a copy of the table whenever a node
//! changes, and hands it to the DHCP and HTTP shells.

use std::{collections::HashSet, net::Ipv4Addr, sync::Arc};

use api::ids::{MacAddr, NodeId, NodeName};
use ipnet::Ipv4Net;
use rpds::HashTrieMapSync;

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

/// All interfaces with a MAC address, of all nodes. A copy shares what is not changed in it.
///
/// Two nodes with the same MAC address, or the same address, are refused by `provisioner`; of
/// what was stored before that the one counts whose node's name comes last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostTable {
    /// By the names of their nodes: the last one counts.
    by_mac: HashTrieMapSync<MacAddr, Vec<Arc<Host>>>,
    /// Likewise, those that have an address.
    by_address: HashTrieMapSync<Ipv4Addr, Vec<Arc<Host>>>,
    /// Further addresses that are somebody's by what nodes' records say, and how often
    /// they are named.
    others: HashTrieMapSync<Ipv4Addr, usize>,
}

impl HostTable {
    /// The interface with this MAC address.
    #[must_use]
    pub fn get(&self, mac: MacAddr) -> Option<&Host> {
        self.by_mac.get(&mac)?.last().map(AsRef::as_ref)
    }

    /// The MAC address that this address is reserved for.
    #[must_use]
    pub fn holder(&self, address: Ipv4Addr) -> Option<MacAddr> {
        self.by_address.get(&address)?.last().map(|host| host.mac)
    }

    /// Adds an interface.
    pub fn add(&mut self, host: Host) {
        let host = Arc::new(host);
        if let Some(address) = host.address {
            add_to(&mut self.by_address, address.addr(), host.clone());
        }
        add_to(&mut self.by_mac, host.mac, host);
    }

    /// Takes an interface away that is exactly so.
    pub fn remove(&mut self, host: &Host) {
        if let Some(address) = host.address {
            remove_from(&mut self.by_address, &address.addr(), host);
        }
        remove_from(&mut self.by_mac, &host.mac, host);
    }

    /// Adds a further address that no pool may give: that of an interface without a MAC address
    /// (VLAN, bond), or a node's gateway or name server. It stays until it is removed as often.
    pub fn add_other(&mut self, address: Ipv4Addr) {
        let named = self.others.get(&address).copied().unwrap_or_default();
        self.others.insert_mut(address, named + 1);
    }

    /// Takes back one [`Self::add_other`].
    pub fn remove_other(&mut self, address: Ipv4Addr) {
        match self.others.get(&address).copied() {
            Some(named @ 2..) => self.others.insert_mut(address, named - 1),
            _ => {
                self.others.remove_mut(&address);
            }
        }
    }

    /// With these [other addresses](Self::add_other) too.
    #[must_use]
    pub fn with_others(mut self, others: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        others.into_iter().for_each(|address| self.add_other(address));
        self
    }

    /// Whether the address is somebody's by what nodes' records say.
    #[must_use]
    pub fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.by_address.contains_key(&address) || self.others.contains_key(&address)
    }

    /// Whether the address is an interface's own by its node's record.
    #[must_use]
    pub fn is_fixed(&self, address: Ipv4Addr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// The addresses of a range that are somebody's by what nodes' records say.
    #[must_use]
    pub fn taken_between(&self, first: Ipv4Addr, last: Ipv4Addr) -> HashSet<Ipv4Addr> {
        let all = self.by_address.keys().chain(self.others.keys()).copied();
        all.filter(|address| (first..=last).contains(address)).collect()
    }

    /// Number of MAC addresses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_mac.size()
    }

    /// No interface at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_mac.is_empty()
    }
}

type HostsBy<K> = HashTrieMapSync<K, Vec<Arc<Host>>>;

fn add_to<K: Copy + Eq + std::hash::Hash>(hosts: &mut HostsBy<K>, key: K, host: Arc<Host>) {
    let mut same = hosts.get(&key).cloned().unwrap_or_default();
    // Behind those of the same node: of two of its interfaces the later one counts.
    let place = same.partition_point(|other| other.name <= host.name);
    same.insert(place, host);
    hosts.insert_mut(key, same);
}

fn remove_from<K: Copy + Eq + std::hash::Hash>(hosts: &mut HostsBy<K>, key: &K, host: &Host) {
    let Some(same) = hosts.get(key) else { return };
    let mut same = same.clone();
    if let Some(place) = same.iter().position(|other| **other == *host) {
        same.remove(place);
    }
    if same.is_empty() {
        hosts.remove_mut(key);
    } else {
        hosts.insert_mut(*key, same);
    }
}

impl FromIterator<Host> for HostTable {
    fn from_iter<T: IntoIterator<Item = Host>>(hosts: T) -> Self {
        let mut table = Self::default();
        hosts.into_iter().for_each(|host| table.add(host));
        table
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host((node, mac, address): (u8, u8, Option<u8>)) -> Host {
        Host {
            id: format!("00000000-0000-0000-0000-{node:012x}").parse().unwrap(),
            name: format!("n{node}").parse().unwrap(),
            mac: MacAddr([2, 0, 0, 0, 0, mac]),
            address: address.map(|last| Ipv4Net::new([10, 0, 0, last].into(), 24).unwrap()),
            gateway: None,
            dns: Vec::new(),
            domain: None,
        }
    }

    fn hosts() -> impl Strategy<Value = Vec<Host>> {
        let one = (0..6_u8, 0..6_u8, prop::option::of(0..4_u8));
        prop::collection::vec(one.prop_map(host), 0..12)
    }

    #[test]
    fn an_other_address_stays_while_somebody_names_it() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let mut table = HostTable::default().with_others([address, address]);
        table.remove_other(address);
        assert!(table.is_taken(address) && !table.is_fixed(address));
        table.remove_other(address);
        assert_eq!((table.is_taken(address), &table), (false, &HostTable::default()));
    }

    proptest! {
        /// What was added and taken away again leaves nothing, also where several have one address.
        #[test]
        fn a_table_that_was_changed_is_as_one_made_again(stay in hosts(), go in hosts()) {
            let mut table: HostTable = stay.iter().chain(&go).cloned().collect();
            let copy = table.clone();
            go.iter().for_each(|host| table.remove(host));
            let again: HostTable = stay.iter().cloned().collect();
            for number in 0..6 {
                let (mac, address) = (host((0, number, None)).mac, [10, 0, 0, number].into());
                prop_assert_eq!(table.is_fixed(address), again.is_fixed(address));
                let known = table.get(mac).map(|host| &host.name);
                prop_assert_eq!(known, again.get(mac).map(|host| &host.name));
            }
            prop_assert_eq!(table.len(), again.len());
            prop_assert_eq!(copy, stay.into_iter().chain(go).collect::<HostTable>());
        }
    }
}
