//! Disks, GPUs, PCI devices, devices that jobs are granted.

use std::collections::BTreeMap;

use api::{
    device::GrantableDevice,
    inventory::{Disk, Gpu, Inventory, PciDevice},
};

use super::{ChangeLines, in_parentheses, paired, size};

pub(super) fn compare(news: &mut ChangeLines, before: &Inventory, after: &Inventory) {
    disks(news, &before.disks, &after.disks);
    for pair in paired(&before.gpus, &after.gpus, |gpu| gpu.pci.clone()) {
        let name = |gpu: &Gpu| format!("gpu {}", gpu.pci);
        match pair {
            (Some(before), Some(after)) => gpu(news, &name(after), before, after),
            (Some(gpu), None) => {
                news.gone_or_late(&name(gpu), &in_parentheses([gpu.model.clone()]), Some(&gpu.pci))
            }
            (None, Some(gpu)) => {
                news.appeared(&name(gpu), &in_parentheses([gpu.model.clone()]), Some(&gpu.pci))
            }
            (None, None) => {}
        }
    }
    grantable(news, &before.devices, &after.devices);
    // Last: what has a line of its own is not told again as a PCI device.
    pci(news, &before.pci, &after.pci);
}

fn disks(news: &mut ChangeLines, before: &[Disk], after: &[Disk]) {
    let key = |disk: &Disk| {
        let known = disk.wwid.clone().or_else(|| disk.serial.clone());
        known
            .unwrap_or_else(|| format!("{} {}", disk.name, disk.pci.as_deref().unwrap_or_default()))
    };
    for pair in paired(before, after, key) {
        let name = |disk: &Disk| format!("disk {}", disk.name);
        let described = |disk: &Disk| {
            in_parentheses([Some(size(disk.size_bytes)), disk.model.clone(), disk.serial.clone()])
        };
        match pair {
            (Some(before), Some(after)) => disk(news, &name(after), before, after),
            // A controller with several disks is there still; one of NVMe is gone with its disk.
            (Some(disk), None) => news.missing(&name(disk), &described(disk), disk.pci.as_deref()),
            (None, Some(disk)) => news.appeared(&name(disk), &described(disk), disk.pci.as_deref()),
            (None, None) => {}
        }
    }
}

fn disk(news: &mut ChangeLines, name: &str, before: &Disk, after: &Disk) {
    if before.name != after.name {
        news.info(format!("{name} was called {}", before.name));
    }
    if before.size_bytes != after.size_bytes {
        news.info(format!("{name}: {}, was {}", size(after.size_bytes), size(before.size_bytes)));
    }
    if before.read_only != after.read_only {
        let line = |word: &str| format!("{name}: can {word} be written");
        if after.read_only { news.warn(line("no longer")) } else { news.info(line("again")) }
    }
    news.version(&format!("{name}: firmware"), before.firmware.as_ref(), after.firmware.as_ref());
    let state = |disk: &Disk| disk.health.as_ref().and_then(|health| health.state.clone());
    let (then, now) = (state(before), state(after));
    let is_well = matches!(now.as_deref(), Some("live" | "running"));
    news.state(name, then.as_deref(), now.as_deref(), is_well);
}

fn gpu(news: &mut ChangeLines, name: &str, before: &Gpu, after: &Gpu) {
    news.version(&format!("{name}: model"), before.model.as_ref(), after.model.as_ref());
    news.version(&format!("{name}: serial number"), before.serial.as_ref(), after.serial.as_ref());
    news.version(
        &format!("{name}: driver"),
        before.driver_version.as_ref(),
        after.driver_version.as_ref(),
    );
    news.version(&format!("{name}: firmware"), before.firmware.as_ref(), after.firmware.as_ref());
    let watts = |gpu: &Gpu| gpu.power_limit_watts.map(|watts| format!("{watts} W"));
    news.version(&format!("{name}: power limit"), watts(before).as_ref(), watts(after).as_ref());
    if let (Some(then), Some(now)) = (before.mig_enabled, after.mig_enabled)
        && (then, before.mig.len()) != (now, after.mig.len())
    {
        let mode = if now { "on" } else { "off" };
        news.info(format!(
            "{name}: MIG is {mode}, {} devices, were {}",
            after.mig.len(),
            before.mig.len()
        ));
    }
    if let (Some(then), Some(now)) = (&before.ecc, &after.ecc)
        && then.enabled != now.enabled
    {
        let line = |word: &str| format!("{name}: ECC is {word}");
        if now.enabled { news.info(line("on")) } else { news.warn(line("off")) }
    }
}

/// Devices of one kind that came or went are told together.
fn grantable(news: &mut ChangeLines, before: &[GrantableDevice], after: &[GrantableDevice]) {
    let mut groups: BTreeMap<(String, DeviceChange), Vec<String>> = BTreeMap::new();
    for pair in paired(before, after, |device| device.name.to_string()) {
        let (device, fate) = match pair {
            (Some(before), Some(after)) => {
                service(news, before, after);
                continue;
            }
            (Some(device), None) => {
                let is_there = device.pci.as_ref().is_none_or(|pci| news.pci.contains(pci));
                let is_late = news.moment == super::InventoryMoment::Start && is_there;
                (device, if is_late { DeviceChange::Late } else { DeviceChange::Gone })
            }
            (None, Some(device)) => (device, DeviceChange::New),
            (None, None) => continue,
        };
        let kind = device.name.kind().to_string();
        groups.entry((kind, fate)).or_default().push(device.name.name().to_owned());
    }
    for ((kind, fate), names) in groups {
        let (count, list) = (names.len(), names.join(", "));
        match fate {
            DeviceChange::Gone => {
                news.warn(format!("{count} {kind} can no longer be granted: {list}"))
            }
            DeviceChange::Late => {
                news.info(format!(
                    "{count} {kind} cannot be granted yet after the start of the agent: {list}"
                ));
            }
            DeviceChange::New => news.info(format!("{count} {kind} can be granted: {list}")),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum DeviceChange {
    Gone,
    Late,
    New,
}

fn service(news: &mut ChangeLines, before: &GrantableDevice, after: &GrantableDevice) {
    let name = &after.name;
    match (&before.unhealthy, &after.unhealthy) {
        (None, Some(why)) => news.warn(format!("{name} is out of service: {why}")),
        (Some(_), None) => news.info(format!("{name} is in service again")),
        (Some(then), Some(now)) if then != now => {
            news.warn(format!("{name} is still out of service: {now}"));
        }
        _ => {}
    }
}

fn pci(news: &mut ChangeLines, before: &[PciDevice], after: &[PciDevice]) {
    let described = |device: &PciDevice| {
        let ids = format!("{}:{}", device.vendor, device.device);
        let driver = device.driver.as_ref().map(|driver| format!("driver {driver}"));
        in_parentheses([Some(ids), driver])
    };
    for pair in paired(before, after, |device| device.address.clone()) {
        let name = |device: &PciDevice| format!("PCI device {}", device.address);
        // Virtual functions come and go with the number of their physical one's.
        let is_told = |device: &PciDevice| {
            news.told_pci.contains(&device.address) || device.physical_function.is_some()
        };
        match pair {
            (Some(before), Some(after)) => function(news, &name(after), before, after),
            (Some(device), None) if !is_told(device) => {
                news.missing(&name(device), &described(device), None)
            }
            (None, Some(device)) if !is_told(device) => {
                news.appeared(&name(device), &described(device), None)
            }
            _ => {}
        }
    }
}

/// Base class of bridges (PCI Code and ID Assignment).
const BRIDGES: &str = "06";

fn function(news: &mut ChangeLines, name: &str, before: &PciDevice, after: &PciDevice) {
    let ids = |device: &PciDevice| Some(format!("{}:{}", device.vendor, device.device));
    news.version(name, ids(before).as_ref(), ids(after).as_ref());
    // The rate of a lane falls while a device has nothing to do; lanes are lost for good. Those of
    // a bridge follow what is plugged into it.
    if !after.class.starts_with(BRIDGES)
        && let (Some(then), Some(now)) = (&before.link, &after.link)
        && then.width != now.width
    {
        let line = format!("{name}: link of {} lanes, were {}", now.width, then.width);
        if now.width < then.width { news.warn(line) } else { news.info(line) }
    }
    let functions = |device: &PciDevice| device.virtual_functions.map(|count| count.to_string());
    news.version(
        &format!("{name}: number of virtual functions"),
        functions(before).as_ref(),
        functions(after).as_ref(),
    );
}
