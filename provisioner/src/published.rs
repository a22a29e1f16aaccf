//! What others are told of the cluster whenever it changes: the boot servers of hosts, the fleet of labels.

use std::{net::IpAddr, sync::Arc};

use api::machine::MachineSpec;
use boot_proto::{Host, HostTable};
use fleet::NodeLabels;
use ipnet::IpNet;

use crate::cluster::Cluster;

/// Labels of the nodes that have some, those of their profiles among them. Those of a node that has
/// the same in `known` are shared with it: most changes are of one node among many.
pub(crate) fn labels(cluster: &Cluster, known: &NodeLabels) -> NodeLabels {
    let labelled = cluster.checked.resolved.iter().filter(|(_, spec)| !spec.labels.is_empty());
    let with_id = labelled.filter_map(|(name, spec)| {
        let id = cluster.nodes.get(name)?.id;
        let same = known.get(&id).filter(|known| ***known == spec.labels);
        Some((id, same.cloned().unwrap_or_else(|| Arc::new(spec.labels.clone()))))
    });
    with_id.collect()
}

/// Two clusters have the same nodes with the same labels: [`labels`] makes the same of them.
pub(crate) fn same_labels(one: &Cluster, other: &Cluster) -> bool {
    is_same_of_all(one, other, |one, other| one.labels == other.labels)
}

/// Two clusters have the same nodes, at the same addresses: [`host_table`] makes the same of them.
pub(crate) fn same_hosts(one: &Cluster, other: &Cluster) -> bool {
    is_same_of_all(one, other, |one, other| one.interfaces == other.interfaces && one.dns == other.dns)
}

/// Two clusters have the same nodes, and `is_same` holds of each whose specification is another one.
fn is_same_of_all(
    one: &Cluster,
    other: &Cluster,
    is_same: impl Fn(&MachineSpec, &MachineSpec) -> bool,
) -> bool {
    let (one_resolved, other_resolved) = (&one.checked.resolved, &other.checked.resolved);
    let same_ids = one.nodes.len() == other.nodes.len()
        && one.nodes.values().zip(other.nodes.values()).all(|(one, other)| one.id == other.id);
    same_ids
        && one_resolved.len() == other_resolved.len()
        && one_resolved.iter().zip(other_resolved).all(|((name, spec), (other_name, other_spec))| {
            name == other_name && (Arc::ptr_eq(spec, other_spec) || is_same(spec, other_spec))
        })
}

/// What DHCP and HTTP boot know of the nodes.
pub(crate) fn host_table(cluster: &Cluster) -> HostTable {
    let mut hosts = Vec::new();
    let mut others = Vec::new();
    for (name, spec) in &cluster.checked.resolved {
        let Some(node) = cluster.nodes.get(name) else { continue };
        let dns = spec.dns.clone().unwrap_or_default();
        for interface in spec.interfaces.values() {
            let v4 = |address: IpAddr| match address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            };
            let own = interface.address.map(|address| address.addr());
            others.extend([own, interface.gateway].into_iter().flatten().filter_map(v4));
            others.extend(dns.servers.iter().copied().filter_map(v4));
            let Some(mac) = interface.mac else { continue };
            hosts.push(Host {
                id: node.id,
                name: name.clone(),
                mac,
                address: match interface.address {
                    Some(IpNet::V4(address)) => Some(address),
                    _ => None,
                },
                gateway: interface.gateway.and_then(v4),
                dns: dns.servers.iter().copied().filter_map(v4).collect(),
                domain: dns.search.first().cloned(),
            });
        }
    }
    let table: HostTable = hosts.into_iter().collect();
    table.with_others(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NodeRecord;

    fn cluster(specs: [&str; 2]) -> Cluster {
        let record = |(number, spec): (u128, &str)| NodeRecord {
            id: api::ids::NodeId(uuid::Uuid::from_u128(number)),
            name: format!("n{number}").parse().unwrap(),
            spec: serde_saphyr::from_str(spec).unwrap(),
            version: 1,
            unreadable: None,
        };
        Cluster::new((1..).zip(specs).map(record).collect(), vec![])
    }

    #[test]
    fn labels_that_did_not_change_are_not_made_again() {
        let before = cluster(["{labels: {rack: a1}}", "{labels: {rack: a2}}"]);
        let known = labels(&before, &NodeLabels::new());
        assert_eq!(known.len(), 2);
        let commented = cluster(["{labels: {rack: a1}, comment: x}", "{labels: {rack: a2}}"]);
        assert!(same_labels(&before, &commented) && same_hosts(&before, &commented));
        let moved = cluster(["{labels: {rack: a1}}", "{labels: {rack: b2}}"]);
        assert!(!same_labels(&before, &moved) && same_hosts(&before, &moved));
        let after = labels(&moved, &known);
        let pairs = known.values().zip(after.values());
        let shared: Vec<bool> = pairs.map(|(one, other)| Arc::ptr_eq(one, other)).collect();
        assert_eq!(shared, [true, false]);
        assert_eq!(after, labels(&moved, &NodeLabels::new()));
    }
}
