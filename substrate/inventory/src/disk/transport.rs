//! How a disk is attached, in the words and by the rules of `lsblk`'s column TRAN (util-linux,
//! `misc-utils/lsblk.c`).

use crate::read::Reader;

/// `None` where `lsblk` has nothing to say: behind a RAID controller, of virtio-scsi.
pub(super) fn of(read: &mut Reader<'_>, disk: &str) -> Option<&'static str> {
    let device = format!("/sys/block/{disk}/device");
    let address = read.link_name(&device).unwrap_or_default();
    let Some(host) = scsi_host(&address) else { return by_name(disk) };
    let is_of = |read: &Reader<'_>, class: &str| {
        read.exists(&format!("/sys/class/{class}_host/host{host}"))
    };
    if is_of(read, "spi") {
        return Some("spi");
    }
    if is_of(read, "fc") {
        let name =
            read.text(&format!("/sys/class/fc_host/host{host}/symbolic_name")).unwrap_or_default();
        return Some(if name.contains(" over ") { "fcoe" } else { "fc" });
    }
    if is_of(read, "sas") || read.exists(&format!("{device}/sas_device")) {
        return Some("sas");
    }
    if read.exists(&format!("{device}/ieee1394_id")) {
        return Some("sbp");
    }
    if is_of(read, "iscsi") {
        return Some("iscsi");
    }
    if read.is_below(&device, "usb") {
        return Some("usb");
    }
    let driver = read.text(&format!("/sys/class/scsi_host/host{host}/proc_name"))?;
    if driver.starts_with("ahci") || driver.starts_with("sata") {
        return Some("sata");
    }
    driver.contains("ata").then_some("ata")
}

/// Host of a SCSI address, HOST:CHANNEL:TARGET:LUN.
fn scsi_host(address: &str) -> Option<u32> {
    let parts: Vec<u64> =
        address.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [host, _, _, _] = *parts.as_slice() else { return None };
    u32::try_from(host).ok()
}

fn by_name(disk: &str) -> Option<&'static str> {
    [("nvme", "nvme"), ("vd", "virtio"), ("mmcblk", "mmc")]
        .into_iter()
        .find_map(|(prefix, transport)| disk.starts_with(prefix).then_some(transport))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scsi_addresses() {
        assert_eq!(scsi_host("12:0:3:0"), Some(12));
        for other in ["", "nvme0", "virtio1", "0:0:0", "0:0:0:0:0", "a:0:0:0", "mmc0:0001"] {
            assert_eq!(scsi_host(other), None, "{other}");
        }
    }
}
