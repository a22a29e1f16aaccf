//! Memory, processors, firmware, kernel.

use api::inventory::{Inventory, MemoryModule};

use super::{ChangeLines, in_parentheses, paired, size};

/// What the kernel calls all memory differs by less than this between boots of one machine, bytes:
/// it reserves what it needs.
const MEMORY_NOISE_BYTES: u64 = 32 << 20;

pub(super) fn compare(news: &mut ChangeLines, before: &Inventory, after: &Inventory) {
    memory(news, before.memory_bytes, after.memory_bytes);
    modules(news, &before.memory_modules, &after.memory_modules);
    processors(news, before, after);
    versions(news, before, after);
}

fn memory(news: &mut ChangeLines, before: u64, after: u64) {
    if before == 0 || after == 0 || before.abs_diff(after) < MEMORY_NOISE_BYTES {
        return;
    }
    let (now, difference) = (size(after), size(before.abs_diff(after)));
    if after < before {
        news.warn(format!("memory: {now}, {difference} less than before"));
    } else {
        news.info(format!("memory: {now}, {difference} more than before"));
    }
}

fn modules(news: &mut ChangeLines, before: &[MemoryModule], after: &[MemoryModule]) {
    if before.is_empty() || after.is_empty() {
        // SMBIOS was not read: a gap, no change.
        return;
    }
    let key = |module: &MemoryModule| {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        format!("{}\n{}", part(&module.bank), part(&module.locator))
    };
    for (before, after) in paired(before, after, key) {
        let Some(module) = after.or(before) else { continue };
        let name =
            format!("memory module {}", module.locator.as_deref().unwrap_or("without a name"));
        let filled = |module: Option<&MemoryModule>| module.and_then(|module| module.size_bytes);
        match (filled(before), filled(after)) {
            (Some(bytes), None) => {
                let serial = before.and_then(|module| module.serial.clone());
                news.missing(&name, &in_parentheses([Some(size(bytes)), serial]), None);
            }
            (None, Some(bytes)) => news.appeared(
                &name,
                &in_parentheses([Some(size(bytes)), module.serial.clone()]),
                None,
            ),
            (Some(then), Some(now)) => {
                if then != now {
                    let line = format!("{name}: {}, was {}", size(now), size(then));
                    if now < then { news.warn(line) } else { news.info(line) }
                }
                let serial =
                    |module: Option<&MemoryModule>| module.and_then(|module| module.serial.clone());
                news.version(
                    &format!("{name}: serial number"),
                    serial(before).as_ref(),
                    serial(after).as_ref(),
                );
            }
            (None, None) => {}
        }
    }
}

fn processors(news: &mut ChangeLines, before: &Inventory, after: &Inventory) {
    let (then, now) = (&before.topology, &after.topology);
    let mut counted = |what: &str, then: usize, now: usize| {
        if then == 0 || now == 0 || then == now {
            return;
        }
        let line = format!("{what}: {now}, were {then}");
        if now < then { news.warn(line) } else { news.info(line) }
    };
    counted("packages", then.packages.len(), now.packages.len());
    counted("NUMA nodes", then.numa_nodes.len(), now.numa_nodes.len());
    counted("cores", then.cores.len(), now.cores.len());
    let pus = |pus: u32| usize::try_from(pus).unwrap_or(usize::MAX);
    counted("hardware threads", pus(then.pus), pus(now.pus));
    if then.offline_pus != now.offline_pus {
        match now.offline_pus.len() {
            0 => news.info("every hardware thread is switched on again".to_owned()),
            count => {
                let line = format!(
                    "hardware threads switched off: {count}, were {}",
                    then.offline_pus.len()
                );
                if count > then.offline_pus.len() { news.warn(line) } else { news.info(line) }
            }
        }
    }
}

fn versions(news: &mut ChangeLines, before: &Inventory, after: &Inventory) {
    news.version("kernel", before.os.kernel.as_ref(), after.os.kernel.as_ref());
    news.version("operating system", before.os.name.as_ref(), after.os.name.as_ref());
    news.version("firmware", before.firmware.version.as_ref(), after.firmware.version.as_ref());
    news.version(
        "boot mode",
        before.firmware.boot_mode.as_ref(),
        after.firmware.boot_mode.as_ref(),
    );
    news.version(
        "microcode",
        before.topology.microcode.as_ref(),
        after.topology.microcode.as_ref(),
    );
    news.version(
        "processor",
        before.topology.cpu_model.as_ref(),
        after.topology.cpu_model.as_ref(),
    );
    news.version(
        "system serial number",
        before.system.serial.as_ref(),
        after.system.serial.as_ref(),
    );
    match (before.firmware.secure_boot, after.firmware.secure_boot) {
        (Some(true), Some(false)) => news.warn("Secure Boot is off, was on".to_owned()),
        (Some(false), Some(true)) => news.info("Secure Boot is on, was off".to_owned()),
        _ => {}
    }
    let (then, now) = (before.bmc.as_ref(), after.bmc.as_ref());
    let firmware = |bmc: Option<&api::inventory::Bmc>| bmc.and_then(|bmc| bmc.firmware.clone());
    news.version("BMC firmware", firmware(then).as_ref(), firmware(now).as_ref());
    let address =
        |bmc: Option<&api::inventory::Bmc>| bmc.and_then(|bmc| Some(bmc.address?.to_string()));
    news.version("BMC address", address(then).as_ref(), address(now).as_ref());
}
