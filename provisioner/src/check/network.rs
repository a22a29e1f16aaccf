//! Rules between the interfaces of one node, on the node as resolved.

use std::collections::{BTreeMap, BTreeSet};

use api::machine::{InterfaceSpec, MachineSpec};
use ipnet::IpNet;

use super::DiagnosticSink;
use yaml_tree::did_you_mean;

/// Interfaces on the way from a VLAN to the one that has a wire. The kernel takes eight in all
/// (`MAX_NEST_DEV`, include/linux/netdevice.h).
const MAX_NESTED_VLANS: usize = 8;

pub(super) fn check(spec: &MachineSpec, note: &mut DiagnosticSink<'_>) {
    let interfaces = &spec.interfaces;
    for (name, interface) in interfaces {
        check_vlan(name, interface, interfaces, note);
        check_address(name, interface, note);
    }
    check_bonds(interfaces, note);
}

fn check_vlan(
    name: &str,
    interface: &InterfaceSpec,
    interfaces: &BTreeMap<String, InterfaceSpec>,
    note: &mut DiagnosticSink<'_>,
) {
    let at = |field: &str| format!("interfaces.{name}.{field}");
    match (&interface.vlan, &interface.parent) {
        (Some(_), None) => {
            note.add(
                &at("vlan"),
                "a VLAN needs the interface that carries it",
                Some("add `parent`".into()),
            );
        }
        (None, Some(_)) => {
            note.add(
                &at("parent"),
                "only a VLAN has a parent",
                Some("add `vlan`, or remove `parent`".into()),
            );
        }
        (Some(_), Some(parent)) => {
            if !interfaces.contains_key(parent) {
                let hint = did_you_mean(parent, interfaces.keys().map(String::as_str));
                note.add(&at("parent"), format!("the node has no interface {parent:?}"), hint);
            }
            if interface.bond.is_some() {
                note.add(&at("bond"), "an interface is a VLAN or a bond, not both", None);
            }
        }
        (None, None) => {}
    }
    let mut seen = BTreeSet::from([name]);
    let mut next = interface.parent.as_deref();
    while let Some(parent) = next {
        if parent == name {
            note.add(&at("parent"), "the VLAN carries itself", None);
        }
        if !seen.insert(parent) {
            break;
        }
        if seen.len() > MAX_NESTED_VLANS {
            let message = format!("more than {MAX_NESTED_VLANS} interfaces carry each other");
            note.add(&at("parent"), message, None);
            break;
        }
        next = interfaces.get(parent).and_then(|interface| interface.parent.as_deref());
    }
}

fn check_address(name: &str, interface: &InterfaceSpec, note: &mut DiagnosticSink<'_>) {
    let at = |field: &str| format!("interfaces.{name}.{field}");
    if let Some(address) = interface.address {
        let host_bits_free = match address {
            IpNet::V4(net) => {
                net.prefix_len() < 31
                    && (net.addr() == net.network() || net.addr() == net.broadcast())
            }
            IpNet::V6(net) => net.prefix_len() < 127 && net.addr() == net.network(),
        };
        if host_bits_free {
            let message =
                format!("{} is not the address of a host in {}", address.addr(), address.trunc());
            note.add(&at("address"), message, None);
        }
        if address.addr().is_loopback()
            || address.addr().is_multicast()
            || address.addr().is_unspecified()
        {
            note.add(
                &at("address"),
                format!("{} cannot be given to an interface", address.addr()),
                None,
            );
        }
    }
    match (interface.gateway, interface.address) {
        (Some(gateway), Some(address)) if !address.contains(&gateway) => {
            let message = format!("gateway {gateway} is outside the network {}", address.trunc());
            note.add(&at("gateway"), message, None);
        }
        (Some(gateway), Some(address)) if gateway == address.addr() => {
            note.add(
                &at("gateway"),
                format!("gateway {gateway} is the interface's own address"),
                None,
            );
        }
        (Some(_), None) => {
            note.add(
                &at("gateway"),
                "a gateway needs an address on the interface",
                Some("add `address`".into()),
            );
        }
        _ => {}
    }
}

fn check_bonds(interfaces: &BTreeMap<String, InterfaceSpec>, note: &mut DiagnosticSink<'_>) {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, interface) in interfaces {
        let Some(bond) = &interface.bond else { continue };
        let at = format!("interfaces.{name}.bond.members");
        if bond.members.is_empty() {
            note.add(&at, "a bond needs at least one member", None);
        }
        for member in &bond.members {
            match interfaces.get(member) {
                _ if member == name => note.add(&at, "the bond is its own member", None),
                None => {
                    let hint = did_you_mean(member, interfaces.keys().map(String::as_str));
                    note.add(&at, format!("the node has no interface {member:?}"), hint);
                }
                Some(found) if found.bond.is_some() || found.vlan.is_some() => {
                    note.add(&at, format!("{member:?} is a bond or a VLAN itself"), None);
                }
                Some(found) if found.address.is_some() => {
                    let hint = Some(format!("move the address to {name:?}"));
                    note.add(&at, format!("member {member:?} has an address of its own"), hint);
                }
                Some(_) => {}
            }
            if let Some(other) = taken.insert(member, name) {
                note.add(&at, format!("{member:?} is already a member of {other:?}"), None);
            }
        }
    }
}
