//! What others are told of the cluster whenever it changes: the boot servers of hosts, the fleet of
//! labels. Of a change they are told what it changes, so that it costs no look at all other nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use api::{
    ids::{NodeId, NodeName},
    labels::Labels,
    machine::MachineSpec,
};
use boot_proto::{Host, HostTable};
use fleet::NodeLabels;
use ipnet::IpNet;

use crate::{cluster::Cluster, overlay::variables::seen_by_others, store::NodeRecord};

/// Labels of the nodes that have some, those of their profiles among them.
pub(crate) fn labels(cluster: &Cluster) -> NodeLabels {
    let nodes = cluster.nodes.keys().filter_map(|name| declared(cluster, name));
    nodes.filter_map(|(node, spec)| Some((node.id, labels_of(spec)?))).collect()
}

/// What DHCP and HTTP boot know of the nodes.
pub(crate) fn host_table(cluster: &Cluster) -> HostTable {
    let mut table = HostTable::default();
    for (node, spec) in cluster.nodes.keys().filter_map(|name| declared(cluster, name)) {
        NodeHosts::of(node, spec).add_to(&mut table);
    }
    table
}

/// What a change of nodes changes for others. `changed`: the names of those that may be others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published<'a> {
    pub before: &'a Cluster,
    pub after: &'a Cluster,
    pub changed: &'a BTreeSet<NodeName>,
}

impl<'a> Published<'a> {
    /// Labels of the nodes that have others; `None` of those that have none any more.
    pub(crate) fn labels(&self) -> BTreeMap<NodeId, Option<Arc<Labels>>> {
        let mut changes = BTreeMap::new();
        // A node that has another name now is gone under the old one, so all old ones come first.
        for (node, spec) in self.changed.iter().filter_map(|name| declared(self.before, name)) {
            if !spec.labels.is_empty() {
                changes.insert(node.id, None);
            }
        }
        for (node, spec) in self.changed.iter().filter_map(|name| declared(self.after, name)) {
            if let Some(labels) = labels_of(spec) {
                changes.insert(node.id, Some(labels));
            }
        }
        changes
    }

    /// The table of hosts after the change; `None` if it is the same. `known`: that of before.
    pub(crate) fn hosts(&self, known: &HostTable) -> Option<HostTable> {
        let mut table = None;
        for name in self.changed {
            let (old, new) = (declared(self.before, name), declared(self.after, name));
            if is_same_host(old, new) {
                continue;
            }
            let of = |(node, spec)| NodeHosts::of(node, spec);
            let (old, new) = (old.map(of), new.map(of));
            let table = table.get_or_insert_with(|| known.clone());
            old.into_iter().for_each(|old| old.remove_from(table));
            new.into_iter().for_each(|new| new.add_to(table));
        }
        table
    }

    /// Whether templates see the same of all nodes.
    pub(crate) fn is_same_for_templates(&self) -> bool {
        self.changed.iter().all(|name| {
            let resolved = |cluster: &'a Cluster| cluster.checked.resolved.get(name);
            match (resolved(self.before), resolved(self.after)) {
                (None, None) => true,
                (Some(one), Some(other)) => {
                    Arc::ptr_eq(one, other)
                        || (one.interfaces == other.interfaces && one.groups == other.groups)
                        || seen_by_others(name, one) == seen_by_others(name, other)
                }
                _ => false,
            }
        })
    }
}

/// Whether the table of hosts has the same of two states of one node.
fn is_same_host(
    old: Option<(&NodeRecord, &MachineSpec)>,
    new: Option<(&NodeRecord, &MachineSpec)>,
) -> bool {
    match (old, new) {
        (Some((old_node, old)), Some((new_node, new))) => {
            old_node.id == new_node.id && old.interfaces == new.interfaces && old.dns == new.dns
        }
        (None, None) => true,
        _ => false,
    }
}

/// A node and its values, if they can be told.
fn declared<'a>(
    cluster: &'a Cluster,
    name: &NodeName,
) -> Option<(&'a NodeRecord, &'a MachineSpec)> {
    Some((cluster.nodes.get(name)?, cluster.checked.resolved.get(name)?))
}

fn labels_of(spec: &MachineSpec) -> Option<Arc<Labels>> {
    (!spec.labels.is_empty()).then(|| Arc::new(spec.labels.clone()))
}

/// What the table of hosts has of one node.
#[derive(Debug)]
struct NodeHosts {
    hosts: Vec<Host>,
    others: Vec<Ipv4Addr>,
}

impl NodeHosts {
    fn of(node: &NodeRecord, spec: &MachineSpec) -> Self {
        let mut of_node = Self { hosts: Vec::new(), others: Vec::new() };
        let v4 = |address: IpAddr| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        };
        let dns = spec.dns.clone().unwrap_or_default();
        let servers: Vec<Ipv4Addr> = dns.servers.iter().copied().filter_map(v4).collect();
        for interface in spec.interfaces.values() {
            of_node.others.extend(interface.gateway.and_then(v4));
            of_node.others.extend(&servers);
            let Some(mac) = interface.mac else {
                of_node.others.extend(interface.address.and_then(|address| v4(address.addr())));
                continue;
            };
            of_node.hosts.push(Host {
                id: node.id,
                name: node.name.clone(),
                mac,
                address: match interface.address {
                    Some(IpNet::V4(address)) => Some(address),
                    _ => None,
                },
                gateway: interface.gateway.and_then(v4),
                dns: servers.clone(),
                domain: dns.search.first().cloned(),
            });
        }
        of_node
    }

    fn add_to(self, table: &mut HostTable) {
        self.hosts.into_iter().for_each(|host| table.add(host));
        self.others.into_iter().for_each(|address| table.add_other(address));
    }

    fn remove_from(self, table: &mut HostTable) {
        self.hosts.iter().for_each(|host| table.remove(host));
        self.others.into_iter().for_each(|address| table.remove_other(address));
    }
}
