//! Network interfaces that lost their link, and links of PCI Express that are narrower or slower
//! than both ends could.

use std::collections::{BTreeMap, BTreeSet};

use api::inventory::{Inventory, NicKind, PciLink};

use super::ScanFaults;
use crate::{nic, pci, read::Reader};

/// An interface has lost its link if it had one, or if somebody counts on it: it has addresses or
/// is in a bond. One that nobody ever plugged in is well.
pub(super) fn interfaces(
    read: &mut Reader<'_>,
    inventory: &mut Inventory,
    were_up: &mut BTreeSet<String>,
    found: &mut ScanFaults,
) {
    // A VLAN has the link of its parent.
    for nic in inventory.nics.iter_mut().filter(|nic| nic.kind != NicKind::Vlan) {
        nic.carrier = nic::carrier(read, &nic.name);
        match nic.carrier {
            Some(true) => {
                were_up.insert(nic.name.clone());
            }
            Some(false)
                if were_up.contains(&nic.name)
                    || nic.bond.is_some()
                    || !nic.addresses.is_empty() =>
            {
                found.warning(format!("nic {}", nic.name), "has no link");
            }
            // Switched off, or never plugged in.
            _ => {}
        }
    }
    were_up.retain(|name| inventory.nics.iter().any(|nic| nic.name == *name));
}

/// Reads the links of the devices that matter again.
pub(super) fn look(
    read: &mut Reader<'_>,
    inventory: &Inventory,
    links: &mut BTreeMap<String, PciLink>,
) {
    for address in subjects(inventory).into_keys() {
        if let Some(link) = pci::link(read, &address) {
            links.insert(address, link);
        }
    }
}

/// The rate is not judged for GPUs: they lower it while they idle.
pub(super) fn check(
    inventory: &Inventory,
    seen: &BTreeMap<String, PciLink>,
    found: &mut ScanFaults,
) {
    for (address, (subject, is_gpu)) in subjects(inventory) {
        let device = inventory.pci_device(&address);
        let Some(device) = device.filter(|device| device.physical_function.is_none()) else {
            continue;
        };
        let Some(link) = seen.get(&address).or(device.link.as_ref()) else { continue };
        let (width, speed) = (link.width, link.speed_mts);
        let slot = device.parent.as_deref().and_then(|parent| inventory.pci_device(parent));
        let slot = slot.and_then(|slot| slot.link.as_ref());
        let least = |own: u32, of_slot: Option<u32>| {
            own.min(of_slot.filter(|most| *most > 0).unwrap_or(own))
        };
        let most_width = least(link.max_width, slot.map(|slot| slot.max_width));
        let most_speed = least(link.max_speed_mts, slot.map(|slot| slot.max_speed_mts));
        if width > 0 && width < most_width {
            let message = format!("its PCI Express link has {width} of {most_width} lanes");
            found.warning(&subject, message);
        }
        if !is_gpu && speed > 0 && speed < most_speed {
            let message = format!("its PCI Express link runs at {speed} of {most_speed} MT/s");
            found.warning(&subject, message);
        }
    }
}

/// Devices whose links matter, by address: what they are called, and whether they are GPUs.
fn subjects(inventory: &Inventory) -> BTreeMap<String, (String, bool)> {
    let gpus = inventory.gpus.iter().map(|gpu| (Some(&gpu.pci), format!("gpu {}", gpu.pci), true));
    let adapters = inventory.infiniband.iter();
    let adapters =
        adapters.map(|device| (device.pci.as_ref(), format!("infiniband {}", device.name), false));
    let nics =
        inventory.nics.iter().map(|nic| (nic.pci.as_ref(), format!("nic {}", nic.name), false));
    let disks = inventory.disks.iter().filter(|disk| disk.transport.as_deref() == Some("nvme"));
    let disks = disks.map(|disk| (disk.pci.as_ref(), format!("disk {}", disk.name), false));
    let mut subjects = BTreeMap::new();
    for (address, subject, is_gpu) in gpus.chain(adapters).chain(nics).chain(disks) {
        if let Some(address) = address {
            subjects.entry(address.clone()).or_insert((subject, is_gpu));
        }
    }
    subjects
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::inventory::{Gpu, Nic, PciDevice};

    #[test]
    fn links_are_judged_by_what_both_ends_can_do() {
        let device = |address: &str, parent: Option<&str>, link: [u32; 4]| PciDevice {
            address: address.to_owned(),
            parent: parent.map(str::to_owned),
            link: Some(PciLink {
                width: link[0],
                max_width: link[1],
                speed_mts: link[2],
                max_speed_mts: link[3],
            }),
            ..PciDevice::default()
        };
        let gpu = |pci: &str| Gpu { pci: pci.to_owned(), ..Gpu::default() };
        let nic = |name: &str, pci: &str| Nic {
            name: name.to_owned(),
            pci: Some(pci.to_owned()),
            ..Nic::default()
        };
        let mut inventory = Inventory {
            pci: vec![
                device("root", None, [16, 16, 16_000, 16_000]),
                device("narrow-slot", None, [8, 8, 8000, 8000]),
                // A GPU that idles; one that lost half its lanes.
                device("0000:01:00.0", Some("root"), [16, 16, 2500, 32_000]),
                device("0000:02:00.0", Some("root"), [8, 16, 2500, 32_000]),
                // A card that could do more than its slot; one that trained below both; one that
                // is not told of.
                device("0000:03:00.0", Some("narrow-slot"), [8, 16, 8000, 16_000]),
                device("0000:04:00.0", Some("root"), [4, 16, 8000, 16_000]),
                device("0000:05:00.0", None, [0, 0, 0, 0]),
            ],
            gpus: vec![gpu("0000:01:00.0"), gpu("0000:02:00.0")],
            nics: vec![
                nic("a", "0000:03:00.0"),
                nic("b", "0000:04:00.0"),
                nic("c", "0000:05:00.0"),
            ],
            ..Inventory::default()
        };
        let told = |inventory: &Inventory, seen: &BTreeMap<String, PciLink>| {
            let mut found = ScanFaults::default();
            check(inventory, seen, &mut found);
            found
                .0
                .into_iter()
                .map(|(fault, _)| format!("{}: {}", fault.subject, fault.message))
                .collect::<Vec<_>>()
        };
        let expected = [
            "gpu 0000:02:00.0: its PCI Express link has 8 of 16 lanes",
            "nic b: its PCI Express link has 4 of 16 lanes",
            "nic b: its PCI Express link runs at 8000 of 16000 MT/s",
        ];
        assert_eq!(told(&inventory, &BTreeMap::new()), expected);
        let seen = ["0000:02:00.0", "0000:04:00.0"].map(|address| {
            let again =
                PciLink { width: 16, max_width: 16, speed_mts: 16_000, max_speed_mts: 16_000 };
            (address.to_owned(), again)
        });
        assert!(told(&inventory, &seen.into()).is_empty(), "they were trained again");
        for device in &mut inventory.pci {
            device.physical_function = Some("root".to_owned());
        }
        assert!(
            told(&inventory, &BTreeMap::new()).is_empty(),
            "virtual functions have no link of their own"
        );
    }
}
