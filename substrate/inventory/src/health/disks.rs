//! What disks tell of themselves.

use api::inventory::{Disk, DiskHealth, Inventory};

use super::{ScanFaults, Target, counters::Counters};
use crate::{disk, ioctls::Ioctls, read::Reader};

/// Bits of NVMe's critical warning (NVM Express Base Specification, log page 02h), whether the disk
/// still does its work, and what they mean.
const WARNINGS: [(u32, bool, &str); 6] = [
    (1, true, "its spare blocks are below the threshold"),
    (1 << 1, true, "its temperature is beyond a threshold"),
    (1 << 2, false, "is not reliable any more, for errors of its medium or inside it"),
    (1 << 3, false, "has made itself read-only"),
    (1 << 4, true, "its backup of volatile memory has failed"),
    (1 << 5, true, "its persistent memory region is read-only or not reliable"),
];

/// States in which a disk works.
const WELL: [&str; 2] = ["live", "running"];

/// Asks NVMe for its SMART log where there is somebody to ask.
pub(super) fn check(
    read: &mut Reader<'_>,
    inventory: &mut Inventory,
    ioctls: Option<&dyn Ioctls>,
    counters: &mut Counters,
    found: &mut ScanFaults,
) {
    for disk in &mut inventory.disks {
        disk::refresh(read, disk);
        if let Some(ioctls) = ioctls {
            disk::smart(read, disk, ioctls);
        }
        if let Some(health) = &disk.health {
            one(disk, health, counters, found);
        }
    }
}

fn one(disk: &Disk, health: &DiskHealth, counters: &mut Counters, found: &mut ScanFaults) {
    let subject = format!("disk {}", disk.name);
    let target =
        || disk.pci.clone().filter(|_| disk.transport.as_deref() == Some("nvme")).map(Target::Pci);
    if let Some(state) = health.state.as_deref().filter(|state| !WELL.contains(state)) {
        found.error(&subject, format!("is {state}"), target());
    }
    let bits = health.critical_warning.unwrap_or(0);
    for (bit, works, message) in WARNINGS {
        match (bits & bit != 0, works) {
            (false, _) => {}
            (true, true) => found.warning(&subject, message),
            (true, false) => found.error(&subject, message, target()),
        }
    }
    if health.used_percent.is_some_and(|used| used >= 100) {
        found.warning(&subject, "has lived as long as its maker expects");
    }
    if health.media_errors.is_some_and(|errors| errors > 0) {
        found.warning(&subject, "has had errors of its medium");
    }
    if let Some(errors) = health.io_errors {
        counters.observe(&subject, errors);
    }
    if counters.grows(&subject) {
        found.warning(&subject, "requests to it fail");
    }
}
