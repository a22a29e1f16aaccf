//! What others are told of the cluster whenever it changes: the boot servers of hosts, the fleet of labels.

use std::{net::IpAddr, sync::Arc};

use boot_proto::{Host, HostTable};
use fleet::NodeLabels;
use ipnet::IpNet;

use crate::cluster::Cluster;

/// Labels of the nodes that have some, those of their profiles among them.
pub(crate) fn labels(cluster: &Cluster) -> NodeLabels {
    let labelled = cluster.checked.resolved.iter().filter(|(_, spec)| !spec.labels.is_empty());
    let with_id = labelled.filter_map(|(name, spec)| {
        let node = cluster.nodes.get(name)?;
        Some((node.id, Arc::new(spec.labels.clone())))
    });
    with_id.collect()
}

/// Two clusters have the same nodes, at the same addresses: [`host_table`] makes the same of them.
pub(crate) fn same_hosts(one: &Cluster, other: &Cluster) -> bool {
    let (one_resolved, other_resolved) = (&one.checked.resolved, &other.checked.resolved);
    let same_ids = one.nodes.len() == other.nodes.len()
        && one.nodes.values().zip(other.nodes.values()).all(|(one, other)| one.id == other.id);
    same_ids
        && one_resolved.len() == other_resolved.len()
        && one_resolved.iter().zip(other_resolved).all(|((name, spec), (other_name, other_spec))| {
            name == other_name
                && (Arc::ptr_eq(spec, other_spec)
                    || (spec.interfaces == other_spec.interfaces && spec.dns == other_spec.dns))
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
