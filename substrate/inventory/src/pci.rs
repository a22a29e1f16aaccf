//! PCI devices: `/sys/bus/pci/devices/ADDRESS/{class,vendor,device,numa_node,driver}`.

use api::inventory::PciDevice;

use crate::read::{Reader, is_pci_address};

const FOLDER: &str = "/sys/bus/pci/devices";

/// All PCI functions by address.
pub(crate) fn collect(read: &mut Reader<'_>) -> Vec<PciDevice> {
    let names = read.names(FOLDER);
    names.into_iter().filter(|name| is_pci_address(name)).filter_map(|name| device(read, name)).collect()
}

fn device(read: &mut Reader<'_>, address: String) -> Option<PciDevice> {
    let folder = format!("{FOLDER}/{address}");
    Some(PciDevice {
        class: identifier(read, &format!("{folder}/class"), 6)?,
        vendor: identifier(read, &format!("{folder}/vendor"), 4)?,
        device: identifier(read, &format!("{folder}/device"), 4)?,
        driver: read.link_name(&format!("{folder}/driver")),
        numa_node: read.numa_node(&folder),
        address,
        ..PciDevice::default()
    })
}

/// `0x15b3` → `15b3`.
fn identifier(read: &mut Reader<'_>, path: &str, digits: usize) -> Option<String> {
    let text = read.text(path)?;
    let hex = text.strip_prefix("0x").unwrap_or(&text);
    if hex.len() == digits && hex.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Some(hex.to_ascii_lowercase());
    }
    read.gap(path, format!("not {digits} hexadecimal digits"));
    None
}

/// NUMA node of the device at `address`.
pub(crate) fn numa_node(pci: &[PciDevice], address: Option<&String>) -> Option<u32> {
    pci.iter().find(|device| Some(&device.address) == address)?.numa_node
}
