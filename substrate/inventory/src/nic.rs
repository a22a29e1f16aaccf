//! Network interfaces of hardware, VLANs and bonds. What is of hardware has a `device` link in
//! `/sys/class/net/NAME`; `lo`, `veth`, bridges and tunnels have none and are left out.
//!
//! | what | where |
//! |---|---|
//! | kind of a link | `type` (`ARPHRD_…` of `include/uapi/linux/if_arp.h`), `bonding/`, `DEVTYPE` in `uevent` |
//! | VLANs | `/proc/net/vlan/config`: `NAME \| ID \| PARENT` after two lines of heading |
//! | bonds | `master` of a member, `bonding/mode` (`Documentation/networking/bonding.rst`) |

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use api::{
    ids::MacAddr,
    inventory::{Nic, NicKind, PciDevice, Vlan},
};

use crate::{
    ioctls::Ioctls,
    pci,
    read::{Reader, is_absence},
};

const DIRECTORY: &str = "/sys/class/net";
const VLANS: &str = "/proc/net/vlan/config";

/// `ARPHRD_INFINIBAND`.
const TYPE_INFINIBAND: i64 = 32;

/// Links to the interfaces below a VLAN are called this and their name.
const LOWER: &str = "lower_";

/// All network interfaces of hardware, VLANs and bonds by name.
pub(crate) fn collect(read: &mut Reader<'_>, pci: &[PciDevice], ioctls: &dyn Ioctls) -> Vec<Nic> {
    let mut addresses = if read.is_live() { addresses(read) } else { BTreeMap::new() };
    let vlans = read.text(VLANS).as_deref().map(vlans).unwrap_or_default();
    let mut nics = Vec::new();
    for name in read.names(DIRECTORY) {
        let directory = format!("{DIRECTORY}/{name}");
        let Some(kind) = kind(read, &directory, vlans.contains_key(&name)) else { continue };
        let is_hardware = matches!(kind, NicKind::Ethernet | NicKind::Infiniband);
        let pci_address = read.pci_address(&format!("{directory}/device"));
        nics.push(Nic {
            kind,
            mac: mac(read, &directory),
            // For virtio that of the virtio device, whose parent PCI device has the
            // driver `virtio-pci`.
            driver: read.link_name(&format!("{directory}/device/driver")),
            firmware: if is_hardware { firmware(read, &name, ioctls) } else { None },
            numa_node: pci::numa_node(pci, pci_address.as_ref()),
            pci: pci_address,
            // -1 where the driver does not know (virtio), EINVAL where the link is down.
            speed_mbits: read
                .number(&format!("{directory}/speed"))
                .and_then(|speed| u32::try_from(speed).ok()),
            duplex: read.text(&format!("{directory}/duplex")).filter(|duplex| duplex != "unknown"),
            mtu: read.number(&format!("{directory}/mtu")).and_then(|mtu| u32::try_from(mtu).ok()),
            state: read
                .text(&format!("{directory}/operstate"))
                .unwrap_or_else(|| "unknown".to_owned()),
            carrier: carrier(read, &name),
            addresses: addresses.remove(&name).unwrap_or_default().into_iter().collect(),
            bond: bond(read, &directory),
            bond_mode: read
                .text(&format!("{directory}/bonding/mode"))
                .map(|mode| first_word(&mode)),
            vlan: if kind == NicKind::Vlan {
                vlan(read, &directory, vlans.get(&name))
            } else {
                None
            },
            name,
        });
    }
    nics
}

/// Whether it has a carrier; `None` while it is switched off, when the kernel answers `EINVAL`.
pub(crate) fn carrier(read: &mut Reader<'_>, name: &str) -> Option<bool> {
    Some(read.number(&format!("{DIRECTORY}/{name}/carrier"))? == 1)
}

/// `None` for interfaces that are no concern of an inventory.
fn kind(read: &mut Reader<'_>, directory: &str, in_table: bool) -> Option<NicKind> {
    if read.exists(&format!("{directory}/bonding")) {
        return Some(NicKind::Bond);
    }
    if in_table || is_vlan(read, directory) {
        return Some(NicKind::Vlan);
    }
    if !read.exists(&format!("{directory}/device")) {
        return None;
    }
    let is_infiniband = read.number(&format!("{directory}/type")) == Some(TYPE_INFINIBAND);
    Some(if is_infiniband { NicKind::Infiniband } else { NicKind::Ethernet })
}

fn is_vlan(read: &mut Reader<'_>, directory: &str) -> bool {
    let uevent = read.text(&format!("{directory}/uevent"));
    uevent.is_some_and(|text| text.lines().any(|line| line == "DEVTYPE=vlan"))
}

/// The card's own address: the members of a bond all show the bond's as `address`. That of IP over
/// InfiniBand has 20 bytes and is no [`MacAddr`].
fn mac(read: &mut Reader<'_>, directory: &str) -> Option<MacAddr> {
    let own = read.text(&format!("{directory}/bonding_slave/perm_hwaddr"));
    own.or_else(|| read.text(&format!("{directory}/address")))?.parse().ok()
}

fn firmware(read: &mut Reader<'_>, name: &str, ioctls: &dyn Ioctls) -> Option<String> {
    match ioctls.ethtool_firmware(name) {
        Ok(version) => Some(version.trim().to_owned())
            .filter(|version| !version.is_empty() && version != "N/A"),
        Err(error) if is_absence(&error) || error.kind() == io::ErrorKind::Unsupported => None,
        Err(error) => {
            read.gap(&format!("firmware of {name}"), error);
            None
        }
    }
}

/// The master, if it is a bond: bridges and VRFs have members too.
fn bond(read: &Reader<'_>, directory: &str) -> Option<String> {
    let master = read.link_name(&format!("{directory}/master"))?;
    read.exists(&format!("{DIRECTORY}/{master}/bonding")).then_some(master)
}

/// Number and parent: from the table, whose place is hidden from network namespaces but the first;
/// then only the parent could be told, and half a VLAN is none.
fn vlan(read: &mut Reader<'_>, directory: &str, from_table: Option<&Vlan>) -> Option<Vlan> {
    if from_table.is_none() {
        read.gap(directory, format!("a VLAN that is not in {VLANS}: its number is not known"));
    }
    let vlan = from_table?;
    let links = read.names(directory);
    let mut lower = links.iter().filter_map(|link| link.strip_prefix(LOWER));
    match lower.next() {
        Some(parent) if parent != vlan.parent => {
            Some(Vlan { id: vlan.id, parent: parent.to_owned() })
        }
        _ => Some(vlan.clone()),
    }
}

/// `net/8021q/vlanproc.c`.
fn vlans(table: &str) -> BTreeMap<String, Vlan> {
    let line = |line: &str| {
        let mut columns = line.split('|').map(str::trim);
        let (name, id, parent) = (columns.next()?, columns.next()?.parse().ok()?, columns.next()?);
        let is_whole = !name.is_empty() && !parent.is_empty();
        is_whole.then(|| (name.to_owned(), Vlan { id, parent: parent.to_owned() }))
    };
    table.lines().filter_map(line).collect()
}

/// `802.3ad 4` → `802.3ad`.
fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Addresses by interface, without IPv6 link-local ones: they follow from the MAC address.
fn addresses(read: &mut Reader<'_>) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut by_name: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    match nix::ifaddrs::getifaddrs() {
        Ok(interfaces) => {
            for interface in interfaces {
                let Some(address) = interface.address else { continue };
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                let v6 = address.as_sockaddr_in6().map(|v6| v6.ip());
                let v6 = v6.filter(|ip| !ip.is_unicast_link_local()).map(IpAddr::V6);
                if let Some(ip) = v4.or(v6) {
                    by_name.entry(interface.interface_name).or_default().insert(ip);
                }
            }
        }
        Err(errno) => read.gap("addresses of network interfaces", errno),
    }
    by_name
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_those_of_this_machine() {
        let mut read = Reader::new(Path::new("/"));
        let found = addresses(&mut read);
        assert!(found["lo"].contains(&IpAddr::from([127, 0, 0, 1])), "{found:?}");
        assert_eq!(read.into_gaps(), []);
    }

    #[test]
    fn the_table_of_vlans() {
        let table = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                     bond0.100      | 100  | bond0\nstorage        | 4094  | lan0\nx | 70000 | y\n | 1 | lan0\n";
        let found = vlans(table);
        let told: Vec<_> =
            found.iter().map(|(name, vlan)| (name.as_str(), vlan.id, &*vlan.parent)).collect();
        assert_eq!(told, [("bond0.100", 100, "bond0"), ("storage", 4094, "lan0")]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_table(text in "(?s).{0,200}") {
            vlans(&text);
            first_word(&text);
        }
    }
}
