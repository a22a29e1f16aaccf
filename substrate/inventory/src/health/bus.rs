//! Errors of PCI Express that were not corrected, as devices and the ports above them count them
//! (Advanced Error Reporting, `Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats`).

use std::collections::BTreeSet;

use api::inventory::Inventory;

use super::{ScanFaults, counters::Counters};
use crate::read::Reader;

/// Files of a device, the line of each with the sum, and what that means.
const FILES: [(&str, &str, &str); 2] = [
    ("aer_dev_fatal", "TOTAL_ERR_FATAL", "fatal errors on PCI Express"),
    ("aer_dev_nonfatal", "TOTAL_ERR_NONFATAL", "uncorrected errors on PCI Express"),
];

/// Most ports above a device that are looked at.
const MAX_PORTS: usize = 16;

/// A file of a device.
#[derive(Debug)]
pub(super) struct Counter {
    address: String,
    path: String,
    total: &'static str,
    message: &'static str,
}

/// Of what jobs and the node itself work with, and of the ports above: on large machines there are
/// a thousand others.
pub(super) fn counters(read: &Reader<'_>, inventory: &Inventory) -> Vec<Counter> {
    let gpus = inventory.gpus.iter().map(|gpu| Some(&gpu.pci));
    let nics = inventory.nics.iter().map(|nic| nic.pci.as_ref());
    let disks = inventory.disks.iter().map(|disk| disk.pci.as_ref());
    let adapters = inventory.infiniband.iter().map(|device| device.pci.as_ref());
    let mut addresses = BTreeSet::new();
    for address in gpus.chain(nics).chain(disks).chain(adapters).flatten() {
        let mut next = Some(address);
        for _ in 0..MAX_PORTS {
            let Some(address) = next.filter(|address| addresses.insert((*address).clone())) else {
                break;
            };
            let device = inventory.pci_device(address);
            next = device.and_then(|device| device.parent.as_ref());
        }
    }
    let mut counters = Vec::new();
    for address in addresses {
        for (file, total, message) in FILES {
            let path = format!("/sys/bus/pci/devices/{address}/{file}");
            if read.exists(&path) {
                counters.push(Counter { address: address.clone(), path, total, message });
            }
        }
    }
    counters
}

/// The kernel's log tells of such errors at once (`incident.rs`); the counters, of which there are
/// many, have those that it left out, and are read only if `is_slow`.
pub(super) fn check(
    read: &mut Reader<'_>,
    files: &[Counter],
    is_slow: bool,
    counters: &mut Counters,
    found: &mut ScanFaults,
) {
    for Counter { address, path, total, message } in files {
        if (is_slow || !counters.is_known(path))
            && let Some(count) = read.text(path).and_then(|text| sum(&text, total))
        {
            counters.observe(path, count);
        }
        if counters.grows(path) {
            found.warning(format!("pci {address}"), *message);
        }
    }
}

fn sum(text: &str, total: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(total)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_line_has_the_sum() {
        let text = "Undefined 0\nDLP 1\nSDES 0\nTLP 2\nTOTAL_ERR_FATAL 3\n";
        assert_eq!(sum(text, "TOTAL_ERR_FATAL"), Some(3));
        assert_eq!(sum(text, "TOTAL_ERR_NONFATAL"), None);
    }

    proptest! {
        #[test]
        fn any_text_has_a_sum(text in "(?s)(TOTAL_ERR_FATAL|[0-9]| |\n|.){0,40}") {
            sum(&text, "TOTAL_ERR_FATAL");
        }
    }
}
