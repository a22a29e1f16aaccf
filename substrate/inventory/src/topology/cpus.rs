//! Kinds of cores, clock rates, and PUs that are switched off.

use std::collections::BTreeMap;

use api::inventory::{CpuKind, Topology};
use hwlocality::{Topology as Hwloc, cpu::kind::CpuKind as HwlocKind};

use super::small;
use crate::read::Reader;

const DIRECTORY: &str = "/sys/devices/system/cpu";

/// Fills in the kinds of cores that hwloc found and the highest clock rate.
pub(crate) fn kinds(hwloc: &Hwloc, topology: &mut Topology) {
    let Ok(kinds) = hwloc.cpu_kinds() else { return };
    let kinds: Vec<CpuKind> = kinds.map(|kind| cpu_kind(&kind)).collect();
    topology.max_mhz = kinds.iter().filter_map(|kind| kind.max_mhz).max();
    if kinds.len() < 2 {
        return;
    }
    let numbered = (0_u32..).zip(&kinds);
    let of_pu: BTreeMap<u32, u32> =
        numbered.flat_map(|(number, kind)| kind.pus.iter().map(move |pu| (*pu, number))).collect();
    for core in &mut topology.cores {
        core.kind = core.pus.first().and_then(|pu| of_pu.get(pu)).copied();
    }
    topology.cpu_kinds = kinds;
}

/// hwloc sorts kinds by power, the least first.
fn cpu_kind(kind: &HwlocKind<'_>) -> CpuKind {
    let info = |name: &str| {
        let mut infos = kind.infos.iter();
        let info = infos.find(|info| info.name().to_str() == Ok(name))?;
        info.value().to_str().ok().map(str::to_owned)
    };
    CpuKind {
        name: info("CoreType"),
        max_mhz: info("FrequencyMaxMHz").and_then(|mhz| mhz.parse().ok()),
        pus: kind.cpuset.iter_set().map(|pu| small(pu.into())).collect(),
    }
}

/// Fills in what only sysfs tells (`Documentation/ABI/testing/sysfs-devices-system-cpu`).
pub(crate) fn add(read: &mut Reader<'_>, topology: &mut Topology) {
    if topology.max_mhz.is_none() {
        let khz = read.number(&format!("{DIRECTORY}/cpu0/cpufreq/cpuinfo_max_freq"));
        topology.max_mhz =
            khz.and_then(|khz| u32::try_from(khz / 1000).ok()).filter(|mhz| *mhz > 0);
    }
    // Also lists what could be plugged in.
    let Some(offline) = read.list(&format!("{DIRECTORY}/offline")) else { return };
    let present = read.list(&format!("{DIRECTORY}/present")).unwrap_or_default();
    topology.offline_pus =
        offline.into_iter().filter(|pu| present.binary_search(pu).is_ok()).collect();
}
