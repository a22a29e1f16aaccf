//! What a disk tells of its health: the state of its device, the counters of SCSI, the
//! SMART log of NVMe.

use std::io;

use api::inventory::{Disk, DiskHealth};

use crate::{
    ioctls::{Ioctls, SMART_LOG_BYTES},
    read::{Reader, is_absence},
};

use super::{DIRECTORY, nvme_controllers};

/// All of it; `None` for a disk that tells nothing (virtio, eMMC).
pub(super) fn of(read: &mut Reader<'_>, disk: &str, ioctls: &dyn Ioctls) -> Option<DiskHealth> {
    let mut health = DiskHealth::default();
    cheap(read, disk, &mut health);
    if let Some((controller, error)) = smart_of(read, disk, ioctls, &mut health) {
        read.gap(&format!("SMART log of {controller}"), error);
    }
    (health != DiskHealth::default()).then_some(health)
}

/// Reads again what costs nothing, if the disk told of its health before.
pub(crate) fn refresh(read: &mut Reader<'_>, disk: &mut Disk) {
    if let Some(health) = &mut disk.health {
        cheap(read, &disk.name, health);
    }
}

/// Asks NVMe again, which is a command to the disk. That it cannot be asked was told
/// when it was first.
pub(crate) fn smart(read: &mut Reader<'_>, disk: &mut Disk, ioctls: &dyn Ioctls) {
    if let Some(health) = &mut disk.health {
        let _ = smart_of(read, &disk.name, ioctls, health);
    }
}

fn cheap(read: &mut Reader<'_>, disk: &str, health: &mut DiskHealth) {
    let device = format!("{DIRECTORY}/{disk}/device");
    if !disk.starts_with("nvme") {
        health.state = read.text(&format!("{device}/state"));
        health.io_errors =
            read.text(&format!("{device}/ioerr_cnt")).as_deref().and_then(hexadecimal);
        return;
    }
    let state = read.text(&format!("{device}/state"));
    health.state = state.or_else(|| {
        let controller = nvme_controllers(read, disk).into_iter().next()?;
        read.text(&format!("{device}/{controller}/state"))
    });
}

/// The controller that could not be asked, and why.
fn smart_of(
    read: &mut Reader<'_>,
    disk: &str,
    ioctls: &dyn Ioctls,
    health: &mut DiskHealth,
) -> Option<(String, io::Error)> {
    let controller = nvme_controllers(read, disk).into_iter().next()?;
    match ioctls.nvme_smart_log(&controller) {
        Ok(log) => {
            fill(health, &log);
            None
        }
        // Controllers of virtual machines may have no such log.
        Err(error) if is_absence(&error) => None,
        Err(error) => Some((controller, error)),
    }
}

/// Log page 02h: critical warning at 0, available spare at 3, percentage used at 5, media errors at
/// 160 (16 bytes).
fn fill(health: &mut DiskHealth, log: &[u8; SMART_LOG_BYTES]) {
    health.critical_warning = Some(u32::from(log[0]));
    health.spare_percent = Some(u32::from(log[3]));
    health.used_percent = Some(u32::from(log[5]));
    let errors = log[160..176].try_into().map_or(0, u128::from_le_bytes);
    health.media_errors = Some(u64::try_from(errors).unwrap_or(u64::MAX));
}

/// `0x1f`, as SCSI writes its counters.
fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counters_of_scsi() {
        assert_eq!(
            [hexadecimal("0x1f"), hexadecimal("31"), hexadecimal("0x")],
            [Some(31), None, None]
        );
    }

    #[test]
    fn a_log_of_nvme() {
        let mut log = [0xff; SMART_LOG_BYTES];
        (log[0], log[3], log[5]) = (0b101, 98, 103);
        log[160..176].copy_from_slice(&7_u128.to_le_bytes());
        let mut health = DiskHealth::default();
        fill(&mut health, &log);
        let expected = DiskHealth {
            critical_warning: Some(5),
            spare_percent: Some(98),
            used_percent: Some(103),
            media_errors: Some(7),
            ..DiskHealth::default()
        };
        assert_eq!(health, expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_log(bytes: [u8; 32]) {
            let mut log = [0; SMART_LOG_BYTES];
            log[..32].copy_from_slice(&bytes);
            log[150..182].copy_from_slice(&bytes);
            fill(&mut DiskHealth::default(), &log);
        }
    }
}
