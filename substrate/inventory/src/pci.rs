//! PCI devices: `/sys/bus/pci/devices/ADDRESS` (`Documentation/ABI/testing/sysfs-bus-pci`), a link
//! into the tree of bridges.

use api::inventory::{PciDevice, PciLink};

use crate::read::{Reader, is_pci_address};

const DIRECTORY: &str = "/sys/bus/pci/devices";

/// All PCI functions by address.
pub(crate) fn collect(read: &mut Reader<'_>) -> Vec<PciDevice> {
    let names = read.names(DIRECTORY);
    names
        .into_iter()
        .filter(|name| is_pci_address(name))
        .filter_map(|name| device(read, name))
        .collect()
}

fn device(read: &mut Reader<'_>, address: String) -> Option<PciDevice> {
    let directory = format!("{DIRECTORY}/{address}");
    let mut id = |name: &str, digits| identifier(read, &format!("{directory}/{name}"), digits);
    // Bridges have none, and say so by zeros.
    let subsystem_vendor = id("subsystem_vendor", 4).filter(|vendor| vendor != "0000");
    Some(PciDevice {
        class: id("class", 6)?,
        vendor: id("vendor", 4)?,
        device: id("device", 4)?,
        subsystem_device: subsystem_vendor.as_ref().and_then(|_| id("subsystem_device", 4)),
        subsystem_vendor,
        revision: id("revision", 2),
        parent: read.link_parent(&directory).filter(|parent| is_pci_address(parent)),
        driver: read.link_name(&format!("{directory}/driver")),
        numa_node: read.numa_node(&directory),
        link: link(read, &address),
        iommu_group: read
            .link_name(&format!("{directory}/iommu_group"))
            .and_then(|group| group.parse().ok()),
        physical_function: read.link_name(&format!("{directory}/physfn")),
        virtual_functions: read
            .count(&format!("{directory}/sriov_numvfs"))
            .and_then(|count| u32::try_from(count).ok()),
        address,
        ..PciDevice::default()
    })
}

/// `None` of devices without such a link, also those of PCI Express within the processor. A link
/// that is down has width 0.
pub(crate) fn link(read: &mut Reader<'_>, address: &str) -> Option<PciLink> {
    let directory = format!("{DIRECTORY}/{address}");
    let width = |read: &mut Reader<'_>, name: &str| {
        // 255 of a device that is gone from the bus.
        let width = read.count(&format!("{directory}/{name}"))?;
        u32::try_from(width).ok().filter(|width| (1..=32).contains(width))
    };
    let max_width = width(read, "max_link_width")?;
    let max_speed_mts = speed(&read.text(&format!("{directory}/max_link_speed"))?)?;
    let now = read.text(&format!("{directory}/current_link_speed"));
    Some(PciLink {
        speed_mts: now.as_deref().and_then(speed).unwrap_or_default(),
        width: width(read, "current_link_width").unwrap_or_default(),
        max_speed_mts,
        max_width,
    })
}

/// `32.0 GT/s PCIe` → 32000. The kernel writes `Unknown`, and `Unknown speed` before 5.7,
/// where there is none.
fn speed(text: &str) -> Option<u32> {
    let (number, unit) = text.split_once(' ')?;
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let tenth = tenth.parse::<u32>().ok().filter(|tenth| *tenth < 10)?;
    let mts = whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(tenth * 100)?;
    (unit.starts_with("GT/s") && mts > 0).then_some(mts)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_of_links() {
        assert_eq!(speed("32.0 GT/s PCIe"), Some(32_000));
        assert_eq!(speed("2.5 GT/s PCIe"), Some(2500));
        assert_eq!(speed("8 GT/s"), Some(8000));
        for none in [
            "Unknown",
            "Unknown speed",
            "",
            "x GT/s",
            "5.25 GT/s",
            "5 MHz",
            "9999999999 GT/s",
            "0.0 GT/s",
        ] {
            assert_eq!(speed(none), None, "{none}");
        }
    }
}
