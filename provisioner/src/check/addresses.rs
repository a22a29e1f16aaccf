//! Addresses of nodes against what the server's configuration says of them: whose they are, and
//! whether DHCP can give them.

use std::net::IpAddr;

use api::machine::MachineSpec;
use boot_proto::addresses;

use super::{DiagnosticSink, KnownAddresses};

/// Subnets that a message names; of many the first are enough to see which list is meant.
const MAX_NAMED: usize = 5;

pub(super) fn check(spec: &MachineSpec, known: &KnownAddresses, note: &mut DiagnosticSink<'_>) {
    for (name, interface) in &spec.interfaces {
        let Some(IpAddr::V4(address)) = interface.address.map(|net| net.addr()) else { continue };
        let owners = known.plan.owners(address);
        if !owners.is_empty() {
            let message = format!("address {address} is {}", addresses::list(&owners));
            let hint = Some("choose an address that is nobody's".to_owned());
            note.add(&format!("interfaces.{name}.address"), message, hint);
        }
    }
    if known.gives_addresses && !known.plan.networks().is_empty() {
        check_bootable(spec, known, note);
    }
}

/// A node may have interfaces in networks that DHCP does not serve, but it boots by
/// one that it does.
fn check_bootable(spec: &MachineSpec, known: &KnownAddresses, note: &mut DiagnosticSink<'_>) {
    let asks = || spec.interfaces.iter().filter(|(_, interface)| interface.mac.is_some());
    // With an IPv6 address alone an interface gets an IPv4 address of a pool to boot with.
    let served = |address: Option<ipnet::IpNet>| {
        address.is_none_or(|net| net.addr().is_ipv6() || known.plan.is_in_a_subnet(net.addr()))
    };
    if asks().any(|(_, interface)| served(interface.address)) {
        return;
    }
    let networks = known.plan.networks();
    let mut named: Vec<String> = networks.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    if networks.len() > MAX_NAMED {
        named.push(format!("{} more", networks.len() - MAX_NAMED));
    }
    for (name, interface) in asks() {
        let Some(address) = interface.address else { continue };
        let message = format!(
            "address {} is in no subnet of this server ({}), and the node has no other interface to boot by",
            address.addr(),
            named.join(", ")
        );
        let hint =
            "choose an address of one of them, or add its network to dhcp.subnets in server.yaml";
        note.add(&format!("interfaces.{name}.address"), message, Some(hint.to_owned()));
    }
}
