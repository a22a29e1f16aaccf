//! Disks: `/sys/block/NAME` with a `device` link. Loop devices, RAM disks, zram, device mapper and md arrays have none;
//! CD and floppy drives have one and are no disks.

use api::inventory::{Disk, PciDevice};

use crate::{ioctls::Ioctls, pci, read::Reader};

const FOLDER: &str = "/sys/block";

/// Unit of `size`, whatever the disk's own sector size (`Documentation/ABI/stable/sysfs-block`).
const SECTOR_BYTES: u64 = 512;

/// Largest page of vital product data, bytes (SPC-4: a length of 16 bits after 4 bytes of header).
const MAX_VPD_BYTES: u64 = 4 + 0xffff;

/// All disks by name.
pub(crate) fn collect(read: &mut Reader<'_>, pci: &[PciDevice], _ioctls: &dyn Ioctls) -> Vec<Disk> {
    let mut disks = Vec::new();
    for name in read.names(FOLDER) {
        let folder = format!("{FOLDER}/{name}");
        let other = ["sr", "fd"].iter().any(|prefix| is_numbered(&name, prefix));
        if other || !read.exists(&format!("{folder}/device")) {
            continue;
        }
        let sectors = read.number(&format!("{folder}/size")).and_then(|size| u64::try_from(size).ok());
        // A card reader without a card has size 0.
        let Some(sectors) = sectors.filter(|sectors| *sectors > 0) else { continue };
        let pci_address = read.pci_address(&format!("{folder}/device"));
        disks.push(Disk {
            size_bytes: sectors.saturating_mul(SECTOR_BYTES),
            model: read
                .text(&format!("{folder}/device/model"))
                .or_else(|| read.text(&format!("{folder}/device/name"))),
            serial: serial(read, &folder),
            rotational: read.number(&format!("{folder}/queue/rotational")) == Some(1),
            numa_node: pci::numa_node(pci, pci_address.as_ref()),
            pci: pci_address,
            name,
            ..Disk::default()
        });
    }
    disks
}

/// virtio has it beside the disk, NVMe and eMMC in the device, SCSI and SATA as vital product data page 0x80.
fn serial(read: &mut Reader<'_>, folder: &str) -> Option<String> {
    read.text(&format!("{folder}/serial")).or_else(|| read.text(&format!("{folder}/device/serial"))).or_else(
        || {
            let page = read.bytes(&format!("{folder}/device/vpd_pg80"), MAX_VPD_BYTES)?;
            unit_serial_number(&page)
        },
    )
}

/// SPC-4 7.8.18: peripheral, page code 0x80, length (2 bytes), then the serial number in ASCII.
fn unit_serial_number(page: &[u8]) -> Option<String> {
    let [_, 0x80, high, low, rest @ ..] = page else { return None };
    let serial = rest.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
    let text = std::str::from_utf8(serial).ok()?.trim_matches([' ', '\0']);
    (!text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic() || c == b' ')).then(|| text.to_owned())
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_of_scsi_disks() {
        assert_eq!(unit_serial_number(b"\0\x80\0\x0a  ZC1A2B3C").as_deref(), Some("ZC1A2B3C"));
        assert_eq!(unit_serial_number(b"\0\x80\0\x10short"), None);
        assert_eq!(unit_serial_number(b"\0\x83\0\x02xx"), None);
        assert_eq!(unit_serial_number(b""), None);
    }
}
