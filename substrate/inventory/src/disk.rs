//! Disks: `/sys/block/NAME` with a `device` link. Loop devices, RAM disks, zram, device mapper and
//! md arrays have none; CD and floppy drives have one and are no disks. What a disk tells of its
//! health is in `disk/health.rs`.
//!
//! A namespace of NVMe with several paths (`CONFIG_NVME_MULTIPATH`) hangs below its subsystem,
//! which is no PCI device, and has a hidden disk for each path:
//!
//! ```text
//! /sys/block/nvme0n1   -> ../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1
//! /sys/block/nvme0c0n1 -> ../devices/pci0000:80/0000:81:00.0/nvme/nvme0/nvme0c0n1     hidden = 1
//! /sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0 -> its controller
//! ```

mod health;
mod transport;

use api::inventory::{Disk, Partition, PciDevice};

use crate::{ioctls::Ioctls, pci, read::Reader};

pub(crate) use health::{refresh, smart};

const DIRECTORY: &str = "/sys/block";

/// Unit of `size` and `start`, whatever the disk's own sector size
/// (`Documentation/ABI/stable/sysfs-block`).
const SECTOR_BYTES: u64 = 512;

/// Largest page of vital product data, bytes (SPC-4: a length of 16 bits after 4 bytes of header).
const MAX_VPD_BYTES: u64 = 4 + 0xffff;

/// All disks by name.
pub(crate) fn collect(read: &mut Reader<'_>, pci: &[PciDevice], ioctls: &dyn Ioctls) -> Vec<Disk> {
    let mut disks = Vec::new();
    for name in read.names(DIRECTORY) {
        let directory = format!("{DIRECTORY}/{name}");
        let other = ["sr", "fd"].iter().any(|prefix| is_numbered(&name, prefix));
        if other
            || !read.exists(&format!("{directory}/device"))
            || is_set(read, &format!("{directory}/hidden"))
        {
            continue;
        }
        // A card reader without a card has size 0.
        let size = read.count(&format!("{directory}/size")).filter(|sectors| *sectors > 0);
        let Some(sectors) = size else { continue };
        disks.push(disk(read, name, sectors, pci, ioctls));
    }
    disks
}

fn disk(
    read: &mut Reader<'_>,
    name: String,
    sectors: u64,
    pci: &[PciDevice],
    ioctls: &dyn Ioctls,
) -> Disk {
    let directory = format!("{DIRECTORY}/{name}");
    let device = format!("{directory}/device");
    let pci_address = read.pci_address(&device).or_else(|| {
        let controller = nvme_controllers(read, &name).into_iter().next()?;
        read.pci_address(&format!("{device}/{controller}"))
    });
    let bytes = |read: &mut Reader<'_>, name: &str| {
        read.count(&format!("{directory}/queue/{name}")).and_then(|bytes| u32::try_from(bytes).ok())
    };
    Disk {
        size_bytes: sectors.saturating_mul(SECTOR_BYTES),
        vendor: read.text(&format!("{device}/vendor")),
        model: first(read, &[&format!("{device}/model"), &format!("{device}/name")]),
        serial: serial(read, &directory),
        firmware: first(
            read,
            &["firmware_rev", "rev", "fwrev"].map(|name| format!("{device}/{name}")),
        ),
        wwid: first(read, &[&format!("{directory}/wwid"), &format!("{device}/wwid")]),
        transport: transport::of(read, &name).map(str::to_owned),
        rotational: is_set(read, &format!("{directory}/queue/rotational")),
        read_only: is_set(read, &format!("{directory}/ro")),
        removable: is_set(read, &format!("{directory}/removable")),
        logical_sector_bytes: bytes(read, "logical_block_size"),
        physical_sector_bytes: bytes(read, "physical_block_size"),
        numa_node: pci::numa_node(pci, pci_address.as_ref()),
        pci: pci_address,
        health: health::of(read, &name, ioctls),
        partitions: partitions(read, &name),
        name,
    }
}

/// Controllers of an NVMe namespace: one, or one for each of its paths, those that work first.
fn nvme_controllers(read: &mut Reader<'_>, disk: &str) -> Vec<String> {
    let device = format!("{DIRECTORY}/{disk}/device");
    let is_controller = |name: &str| !name.is_empty() && is_numbered(name, "nvme");
    if !disk.starts_with("nvme") {
        return Vec::new();
    }
    if let Some(only) = read.link_name(&device).filter(|name| is_controller(name)) {
        return vec![only];
    }
    let mut controllers = read.names(&device);
    controllers.retain(|name| is_controller(name));
    controllers.sort_by_key(|name| {
        read.text(&format!("{device}/{name}/state")).as_deref() != Some("live")
    });
    controllers
}

/// virtio has it beside the disk, NVMe and eMMC in the device, SCSI and SATA as vital product
/// data page 0x80.
fn serial(read: &mut Reader<'_>, directory: &str) -> Option<String> {
    first(read, &[&format!("{directory}/serial"), &format!("{directory}/device/serial")]).or_else(
        || {
            let page = read.bytes(&format!("{directory}/device/vpd_pg80"), MAX_VPD_BYTES)?;
            unit_serial_number(&page)
        },
    )
}

/// SPC-4 7.8.18: peripheral, page code 0x80, length (2 bytes), then the serial number in ASCII.
fn unit_serial_number(page: &[u8]) -> Option<String> {
    let [_, 0x80, high, low, rest @ ..] = page else { return None };
    let serial = rest.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
    let text = std::str::from_utf8(serial).ok()?.trim_matches([' ', '\0']);
    (!text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic() || c == b' '))
        .then(|| text.to_owned())
}

/// Directories of a disk that have a `partition`, which is its number.
fn partitions(read: &mut Reader<'_>, disk: &str) -> Vec<Partition> {
    let directory = format!("{DIRECTORY}/{disk}");
    let mut partitions = Vec::new();
    for name in read.names(&directory).into_iter().filter(|name| name.starts_with(disk)) {
        let mut fact = |fact: &str| read.count(&format!("{directory}/{name}/{fact}"));
        let number = fact("partition").and_then(|number| u32::try_from(number).ok());
        // It may have gone since it was listed.
        let (Some(number), Some(start), Some(size)) = (number, fact("start"), fact("size")) else {
            continue;
        };
        partitions.push(Partition {
            name,
            number,
            start_bytes: start.saturating_mul(SECTOR_BYTES),
            size_bytes: size.saturating_mul(SECTOR_BYTES),
        });
    }
    partitions.sort_by_key(|partition| partition.number);
    partitions
}

fn first(read: &mut Reader<'_>, paths: &[impl AsRef<str>]) -> Option<String> {
    paths.iter().find_map(|path| read.text(path.as_ref()))
}

fn is_set(read: &mut Reader<'_>, path: &str) -> bool {
    read.number(path) == Some(1)
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn serial_numbers_of_scsi_disks() {
        assert_eq!(unit_serial_number(b"\0\x80\0\x0a  ZC1A2B3C").as_deref(), Some("ZC1A2B3C"));
        assert_eq!(unit_serial_number(b"\0\x80\0\x10short"), None);
        assert_eq!(unit_serial_number(b"\0\x83\0\x02xx"), None);
        assert_eq!(unit_serial_number(b""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_page(page: Vec<u8>) {
            unit_serial_number(&page);
        }
    }
}
