//! Processors that the hardware slows down for heat: `cpuN/thermal_throttle/package_throttle_count`
//! counts how often, the same on all PUs of a package
//! (`Documentation/ABI/testing/sysfs-devices-system-cpu`; Intel only).

use api::inventory::Inventory;

use super::{ScanFaults, counters::Counters};
use crate::read::Reader;

/// A package and where its counter is.
#[derive(Debug)]
pub(super) struct Package {
    index: u32,
    path: String,
}

pub(super) fn packages(read: &Reader<'_>, inventory: &Inventory) -> Vec<Package> {
    let of_topology = inventory.topology.packages.iter();
    let mut first: Vec<(u32, u32)> =
        of_topology.filter_map(|package| Some((package.index, *package.pus.first()?))).collect();
    if first.is_empty() {
        first.push((0, 0));
    }
    let path = |pu: u32| {
        format!("/sys/devices/system/cpu/cpu{pu}/thermal_throttle/package_throttle_count")
    };
    let packages = first.into_iter().map(|(index, pu)| Package { index, path: path(pu) });
    packages.filter(|package| read.exists(&package.path)).collect()
}

pub(super) fn check(
    read: &mut Reader<'_>,
    packages: &[Package],
    counters: &mut Counters,
    found: &mut ScanFaults,
) {
    for Package { index, path } in packages {
        if let Some(count) = read.count(path) {
            counters.observe(path, count);
        }
        if counters.grows(path) {
            found.warning(format!("cpu package {index}"), "is slowed down for its heat");
        }
    }
}
