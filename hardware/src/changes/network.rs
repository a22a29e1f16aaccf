//! Network interfaces, InfiniBand and RoCE.

use std::{collections::BTreeSet, net::IpAddr};

use api::inventory::{Infiniband, InfinibandPort, Inventory, Nic, NicKind};

use super::{ChangeLines, in_parentheses, paired};

pub(super) fn compare(news: &mut ChangeLines, before: &Inventory, after: &Inventory) {
    let pairs = paired(&before.nics, &after.nics, |nic| match (nic.kind, nic.mac, &nic.pci) {
        (NicKind::Ethernet | NicKind::Infiniband, Some(mac), Some(pci)) => format!("{pci} {mac}"),
        _ => nic.name.clone(),
    });
    for pair in pairs {
        match pair {
            (Some(before), Some(after)) => nic(news, before, after),
            (Some(nic), None) => news.missing(&named(nic), &described(nic), nic.pci.as_deref()),
            (None, Some(nic)) => news.appeared(&named(nic), &described(nic), nic.pci.as_deref()),
            (None, None) => {}
        }
    }
    let key = |device: &Infiniband| device.guid.clone().unwrap_or_else(|| device.name.clone());
    for pair in paired(&before.infiniband, &after.infiniband, key) {
        let name = |device: &Infiniband| format!("infiniband {}", device.name);
        match pair {
            (Some(before), Some(after)) => adapter(news, before, after),
            (Some(device), None) => {
                news.gone_or_late(
                    &name(device),
                    &in_parentheses([device.model.clone()]),
                    device.pci.as_deref(),
                );
            }
            (None, Some(device)) => {
                news.appeared(
                    &name(device),
                    &in_parentheses([device.model.clone()]),
                    device.pci.as_deref(),
                );
            }
            (None, None) => {}
        }
    }
}

fn named(nic: &Nic) -> String {
    format!("nic {}", nic.name)
}

fn described(nic: &Nic) -> String {
    let kind = match nic.kind {
        NicKind::Ethernet | NicKind::Unknown => None,
        NicKind::Infiniband => Some("IP over InfiniBand".to_owned()),
        NicKind::Bond => Some("bond".to_owned()),
        NicKind::Vlan => {
            nic.vlan.as_ref().map(|vlan| format!("VLAN {} on {}", vlan.id, vlan.parent))
        }
    };
    in_parentheses([kind, nic.mac.map(|mac| mac.to_string())])
}

fn nic(news: &mut ChangeLines, before: &Nic, after: &Nic) {
    let name = named(after);
    if before.name != after.name {
        news.info(format!("{name} was called {}", before.name));
    }
    let link = |nic: &Nic| match nic.carrier {
        Some(true) => Some("link up"),
        Some(false) => Some("link down"),
        None => None,
    };
    match (link(before), link(after)) {
        (Some(_), Some(_)) => {
            news.state(&name, link(before), link(after), after.carrier == Some(true))
        }
        _ => news.state(&name, Some(&before.state), Some(&after.state), after.state == "up"),
    }
    let (then, now) = (before.speed_mbits, after.speed_mbits);
    if let (Some(then), Some(now)) = (then, now)
        && then != now
    {
        let line = format!("{name}: {now} Mbit/s, were {then}");
        if now < then { news.warn(line) } else { news.info(line) }
    }
    addresses(news, &name, &before.addresses, &after.addresses);
    if before.bond != after.bond {
        match (&before.bond, &after.bond) {
            (_, Some(bond)) => news.info(format!("{name} is in {bond} now")),
            (bond, None) => {
                news.warn(format!("{name} left {}", bond.as_deref().unwrap_or_default()))
            }
        }
    }
    let (then, now) = (before.mac.map(|mac| mac.to_string()), after.mac.map(|mac| mac.to_string()));
    news.version(&format!("{name}: hardware address"), then.as_ref(), now.as_ref());
    let mtu = |nic: &Nic| nic.mtu.map(|mtu| mtu.to_string());
    news.version(&format!("{name}: MTU"), mtu(before).as_ref(), mtu(after).as_ref());
    news.version(&format!("{name}: driver"), before.driver.as_ref(), after.driver.as_ref());
    news.version(&format!("{name}: firmware"), before.firmware.as_ref(), after.firmware.as_ref());
}

/// Addresses of IPv6 that the kernel makes for a link say nothing.
fn addresses(news: &mut ChangeLines, name: &str, before: &[IpAddr], after: &[IpAddr]) {
    let own = |addresses: &[IpAddr]| -> BTreeSet<IpAddr> {
        let is_link_local = |address: &IpAddr| match address {
            IpAddr::V6(address) => address.is_unicast_link_local(),
            IpAddr::V4(_) => false,
        };
        addresses.iter().copied().filter(|address| !is_link_local(address)).collect()
    };
    let (before, after) = (own(before), own(after));
    if before == after {
        return;
    }
    let told = |addresses: &BTreeSet<IpAddr>| {
        let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        if list.is_empty() { "no address".to_owned() } else { list.join(" ") }
    };
    news.info(format!("{name}: {}, was {}", told(&after), told(&before)));
}

fn adapter(news: &mut ChangeLines, before: &Infiniband, after: &Infiniband) {
    let name = format!("infiniband {}", after.name);
    if before.name != after.name {
        news.info(format!("{name} was called {}", before.name));
    }
    news.version(&format!("{name}: firmware"), before.firmware.as_ref(), after.firmware.as_ref());
    for pair in paired(&before.ports, &after.ports, |port| port.number.to_string()) {
        if let (Some(before), Some(after)) = pair {
            port(news, &format!("{name} port {}", after.number), before, after);
        }
    }
}

fn port(news: &mut ChangeLines, name: &str, before: &InfinibandPort, after: &InfinibandPort) {
    let is_well = after.state.as_deref() == Some("ACTIVE");
    news.state(name, before.state.as_deref(), after.state.as_deref(), is_well);
    // A port that is down tells the lowest rate there is.
    if is_well && before.state.as_deref() == Some("ACTIVE") {
        news.state(name, before.rate.as_deref(), after.rate.as_deref(), true);
    }
}
