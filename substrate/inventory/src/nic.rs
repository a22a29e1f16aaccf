//! Network interfaces of hardware: `/sys/class/net/NAME` with a `device` link. Bridges, bonds, VLANs, `lo` and `veth`
//! have none.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use api::{
    ids::MacAddr,
    inventory::{Nic, PciDevice},
};

use crate::{ioctls::Ioctls, pci, read::Reader};

const FOLDER: &str = "/sys/class/net";

/// All network interfaces of hardware by name.
pub(crate) fn collect(read: &mut Reader<'_>, pci: &[PciDevice], ioctls: &dyn Ioctls) -> Vec<Nic> {
    let mut addresses = if read.is_live() { addresses(read) } else { BTreeMap::new() };
    let mut nics = Vec::new();
    for name in read.names(FOLDER) {
        let folder = format!("{FOLDER}/{name}");
        if !read.exists(&format!("{folder}/device")) {
            continue;
        }
        let pci_address = read.pci_address(&format!("{folder}/device"));
        nics.push(Nic {
            mac: mac(read, &folder),
            driver: driver(read, &folder),
            numa_node: pci::numa_node(pci, pci_address.as_ref()),
            pci: pci_address,
            // -1 where the driver does not know (virtio), EINVAL where the link is down.
            speed_mbits: read.number(&format!("{folder}/speed")).and_then(|speed| u32::try_from(speed).ok()),
            firmware: ioctls.ethtool_firmware(&name).ok().filter(|version| !version.is_empty()),
            state: read.text(&format!("{folder}/operstate")).unwrap_or_else(|| "unknown".to_owned()),
            addresses: addresses.remove(&name).unwrap_or_default().into_iter().collect(),
            name,
            ..Nic::default()
        });
    }
    nics
}

/// The card's own address: the members of a bond all show the bond's as `address`. That of IP over InfiniBand has 20
/// bytes and is no [`MacAddr`].
fn mac(read: &mut Reader<'_>, folder: &str) -> Option<MacAddr> {
    let own = read.text(&format!("{folder}/bonding_slave/perm_hwaddr"));
    own.or_else(|| read.text(&format!("{folder}/address")))?.parse().ok()
}

/// The driver of the card: for virtio that of the virtio device, whose parent PCI device has the driver `virtio-pci`.
fn driver(read: &Reader<'_>, folder: &str) -> Option<String> {
    read.link_name(&format!("{folder}/device/driver"))
}

/// Addresses by interface, without IPv6 link-local ones: they follow from the hardware address.
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

    use super::*;

    #[test]
    fn addresses_are_those_of_this_machine() {
        let mut read = Reader::new(Path::new("/"));
        let found = addresses(&mut read);
        assert!(found["lo"].contains(&IpAddr::from([127, 0, 0, 1])), "{found:?}");
        assert_eq!(read.into_gaps(), []);
    }
}
