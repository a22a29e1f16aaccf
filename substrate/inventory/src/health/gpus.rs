//! GPUs that are gone or whose memory fails. What NVIDIA advises for its counts of errors is in
//! *GPU Debug Guidelines*: uncorrected errors: drain and reset; rows that wait to be remapped:
//! reset when it suits.

use api::inventory::{Gpu, Inventory};

use super::{ScanFaults, Target};
use crate::{gpu::amd, read::Reader};

const PCI: &str = "/sys/bus/pci/devices";
const NVIDIA: &str = "/proc/driver/nvidia/gpus";

/// What a bus that nobody answers on reads as: no vendor has it (PCI Local Bus
/// Specification 3.0, 6.1).
const NOBODY: [u8; 2] = [0xff, 0xff];

/// What can be looked at of a GPU.
#[derive(Debug)]
pub(super) struct Card {
    address: String,
    has_config: bool,
    /// Its driver is NVIDIA's, which tells which GPUs it has.
    is_told_by_driver: bool,
}

pub(super) fn cards(read: &Reader<'_>, inventory: &Inventory) -> Vec<Card> {
    let has_list = read.exists(NVIDIA);
    let driver =
        |gpu: &Gpu| inventory.pci_device(&gpu.pci).and_then(|device| device.driver.as_deref());
    let card = |gpu: &Gpu| Card {
        address: gpu.pci.clone(),
        has_config: read.exists(&format!("{PCI}/{}/config", gpu.pci)),
        is_told_by_driver: has_list && driver(gpu) == Some("nvidia"),
    };
    inventory.gpus.iter().map(card).collect()
}

pub(super) fn check(
    read: &mut Reader<'_>,
    inventory: &mut Inventory,
    cards: &[Card],
    is_slow: bool,
    found: &mut ScanFaults,
) {
    for card in cards {
        let subject = format!("gpu {}", card.address);
        let target = || Some(Target::Pci(card.address.clone()));
        if card.has_config && is_off_the_bus(read, &card.address) {
            found.error(&subject, "has fallen off the bus", target());
        } else if card.is_told_by_driver
            && !read.exists(&format!("{NVIDIA}/{}/information", card.address))
        {
            found.error(&subject, "its driver has lost it", target());
        }
    }
    for gpu in &mut inventory.gpus {
        if is_slow && gpu.vendor == "amd" && gpu.ecc.is_some() {
            amd::refresh(read, gpu);
        }
        errors(gpu, found);
    }
    without_driver(inventory, found);
}

/// The question would wake a GPU that sleeps, as one of a laptop does; so that is not asked.
fn is_off_the_bus(read: &mut Reader<'_>, address: &str) -> bool {
    let status = read.text(&format!("{PCI}/{address}/power/runtime_status"));
    let sleeps = status.as_deref() == Some("suspended");
    !sleeps && read.head(&format!("{PCI}/{address}/config")).ok() == Some(NOBODY)
}

fn errors(gpu: &Gpu, found: &mut ScanFaults) {
    let Some(ecc) = &gpu.ecc else { return };
    let subject = format!("gpu {}", gpu.pci);
    if ecc.uncorrected.is_some_and(|errors| errors > 0) {
        let target = Some(Target::Pci(gpu.pci.clone()));
        found.error(&subject, "its memory has had uncorrected errors; it needs a reset", target);
    }
    if ecc.pending == Some(true) {
        found.warning(
            &subject,
            "pages or rows of its memory wait to be taken out of use at its next reset",
        );
    }
}

/// A GPU without driver among others of its vendor that have one was left out by mistake, or
/// failed to start.
fn without_driver(inventory: &Inventory, found: &mut ScanFaults) {
    let driver =
        |gpu: &Gpu| inventory.pci_device(&gpu.pci).is_some_and(|device| device.driver.is_some());
    for gpu in inventory.gpus.iter().filter(|gpu| !driver(gpu)) {
        if inventory.gpus.iter().any(|other| other.vendor == gpu.vendor && driver(other)) {
            found.warning(format!("gpu {}", gpu.pci), "has no driver, and others like it have one");
        }
    }
}
