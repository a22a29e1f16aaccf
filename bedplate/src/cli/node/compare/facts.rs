//! What should be the same on equal machines: name and value of each fact. Pure.

use std::collections::BTreeMap;

use api::inventory::{Inventory, MemoryModule, Nic, NicKind};

use super::super::super::words::{ranges, size};

/// Memory is told to this many bytes: the kernel keeps some MB more or less at each boot.
const MEMORY_STEP_BYTES: u64 = 256 << 20;

/// Facts whose value is a set of words.
pub(super) fn is_set(fact: &str) -> bool {
    fact == "topology.cpu-flags"
}

/// All facts of an inventory.
pub(super) fn of(inventory: &Inventory) -> BTreeMap<String, String> {
    let mut facts = Facts::default();
    machine(&mut facts, inventory);
    processors(&mut facts, inventory);
    memory(&mut facts, inventory);
    for nic in &inventory.nics {
        network(&mut facts, nic);
    }
    disks(&mut facts, inventory);
    gpus(&mut facts, inventory);
    infiniband(&mut facts, inventory);
    pci(&mut facts, inventory);
    service(&mut facts, inventory);
    facts.0
}

#[derive(Default)]
struct Facts(BTreeMap<String, String>);

impl Facts {
    fn add(&mut self, name: impl Into<String>, value: Option<impl ToString>) {
        if let Some(value) =
            value.map(|value| value.to_string()).filter(|value| !value.trim().is_empty())
        {
            self.0.insert(name.into(), value.trim().to_owned());
        }
    }

    /// `2 × A, 1 × B`, however they are ordered.
    fn add_counted(&mut self, name: impl Into<String>, values: impl Iterator<Item = String>) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for value in values {
            *counts.entry(value).or_default() += 1;
        }
        let told: Vec<String> =
            counts.iter().map(|(value, count)| format!("{count} × {value}")).collect();
        self.add(name, Some(told.join(", ")));
    }
}

fn words<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().map(|part| part.trim().to_owned()).collect::<Vec<_>>().join(" ")
}

fn machine(facts: &mut Facts, inventory: &Inventory) {
    let Inventory { system, firmware, os, bmc, .. } = inventory;
    facts.add("system.vendor", system.vendor.as_ref());
    facts.add("system.product", system.product.as_ref());
    facts.add("system.version", system.version.as_ref());
    facts.add("system.sku", system.sku.as_ref());
    facts.add("system.family", system.family.as_ref());
    facts.add("system.chassis", system.chassis.as_ref());
    facts.add("system.board.product", system.board.product.as_ref());
    facts.add("system.board.version", system.board.version.as_ref());
    facts.add("firmware.vendor", firmware.vendor.as_ref());
    facts.add("firmware.version", firmware.version.as_ref());
    facts.add("firmware.date", firmware.date.as_ref());
    facts.add("firmware.boot-mode", firmware.boot_mode.as_ref());
    facts.add("firmware.secure-boot", firmware.secure_boot);
    facts.add("firmware.tpm", firmware.tpm.as_ref());
    facts.add("os.name", os.name.as_ref());
    facts.add("os.kernel", os.kernel.as_ref());
    facts.add("os.architecture", os.architecture.as_ref());
    let bmc = bmc.as_ref();
    facts.add("bmc.firmware", bmc.and_then(|bmc| bmc.firmware.as_ref()));
    facts.add("bmc.ipmi", bmc.and_then(|bmc| bmc.ipmi.as_ref()));
    facts.add("bmc.manufacturer-id", bmc.and_then(|bmc| bmc.manufacturer_id));
    facts.add("bmc.address-source", bmc.and_then(|bmc| bmc.address_source.as_ref()));
}

fn processors(facts: &mut Facts, inventory: &Inventory) {
    let topology = &inventory.topology;
    facts.add("topology.cpu-model", topology.cpu_model.as_ref());
    facts.add("topology.cpu-stepping", topology.cpu_stepping);
    facts.add("topology.microcode", topology.microcode.as_ref());
    facts.add("topology.cpu-flags", Some(topology.cpu_flags.join(" ")));
    facts.add("topology.max-mhz", topology.max_mhz);
    facts.add("topology.packages", Some(topology.packages.len()));
    facts.add("topology.dies", Some(topology.dies.len()));
    facts.add("topology.cores", Some(topology.cores.len()));
    facts.add("topology.pus", Some(topology.pus));
    facts.add("topology.offline-pus", Some(ranges(&topology.offline_pus)));
    facts.add_counted(
        "topology.caches",
        topology
            .caches
            .iter()
            .map(|cache| format!("{} L{} {}", size(cache.size_bytes), cache.level, cache.kind)),
    );
    let rows = topology
        .distances
        .iter()
        .map(|row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    facts.add("topology.distances", Some(rows.collect::<Vec<_>>().join(" | ")));
}

fn memory(facts: &mut Facts, inventory: &Inventory) {
    let rounded =
        |bytes: u64| size((bytes + MEMORY_STEP_BYTES / 2) / MEMORY_STEP_BYTES * MEMORY_STEP_BYTES);
    facts.add("memory-bytes", Some(rounded(inventory.memory_bytes)));
    for node in &inventory.topology.numa_nodes {
        let memory = words([Some(rounded(node.memory_bytes)), node.kind.clone()]);
        facts.add(format!("topology.numa-nodes.{}", node.index), Some(memory));
        let huge = node.pages.iter().filter(|pages| pages.size_bytes > 4096 && pages.count > 0);
        let pages: Vec<String> =
            huge.map(|pages| format!("{} × {}", pages.count, size(pages.size_bytes))).collect();
        facts.add(format!("topology.numa-nodes.{}.pages", node.index), Some(pages.join(", ")));
    }
    let module = |module: &MemoryModule| {
        let speed = module.speed_mts.map(|speed| format!("{speed} MT/s"));
        let size = module.size_bytes.map(size).or_else(|| Some("empty".to_owned()));
        words([size, module.kind.clone(), speed, module.vendor.clone(), module.part_number.clone()])
    };
    facts.add_counted("memory-modules", inventory.memory_modules.iter().map(module));
}

fn network(facts: &mut Facts, nic: &Nic) {
    let kind = match nic.kind {
        NicKind::Ethernet => "ethernet",
        NicKind::Infiniband => "infiniband",
        NicKind::Bond => "bond",
        NicKind::Vlan => "vlan",
        NicKind::Unknown => "unknown",
    };
    let mut add =
        |field: &str, value: Option<String>| facts.add(format!("nics.{}.{field}", nic.name), value);
    add("kind", Some(kind.to_owned()));
    add("driver", nic.driver.clone());
    add("firmware", nic.firmware.clone());
    add("pci", nic.pci.clone());
    add("speed-mbits", nic.speed_mbits.map(|speed| speed.to_string()));
    add("duplex", nic.duplex.clone());
    add("mtu", nic.mtu.map(|mtu| mtu.to_string()));
    add("state", Some(nic.state.clone()));
    add("bond", nic.bond.clone());
    add("bond-mode", nic.bond_mode.clone());
    add("vlan", nic.vlan.as_ref().map(|vlan| format!("{} on {}", vlan.id, vlan.parent)));
    add("numa-node", nic.numa_node.map(|node| node.to_string()));
}

fn disks(facts: &mut Facts, inventory: &Inventory) {
    let disk = |disk: &api::inventory::Disk| {
        words([
            Some(size(disk.size_bytes)),
            disk.vendor.clone(),
            disk.model.clone(),
            disk.transport.clone(),
        ])
    };
    facts.add_counted("disks", inventory.disks.iter().map(disk));
    let mut firmware: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for disk in &inventory.disks {
        let model = disk.model.as_deref().unwrap_or("without a model").trim().to_owned();
        firmware.entry(model).or_default().extend(disk.firmware.clone());
    }
    for (model, versions) in firmware {
        facts.add_counted(format!("disks.{model}.firmware"), versions.into_iter());
    }
}

fn gpus(facts: &mut Facts, inventory: &Inventory) {
    let gpus = || inventory.gpus.iter();
    facts.add_counted(
        "gpus",
        gpus().map(|gpu| {
            words([Some(gpu.vendor.clone()), gpu.model.clone(), gpu.memory_bytes.map(size)])
        }),
    );
    facts.add_counted("gpus.driver-version", gpus().filter_map(|gpu| gpu.driver_version.clone()));
    facts.add_counted("gpus.firmware", gpus().filter_map(|gpu| gpu.firmware.clone()));
    facts.add_counted(
        "gpus.power-limit-watts",
        gpus().filter_map(|gpu| gpu.power_limit_watts.map(|watts| format!("{watts} W"))),
    );
    let on = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
    facts.add_counted(
        "gpus.ecc",
        gpus().filter_map(|gpu| gpu.ecc.as_ref().map(|ecc| on(ecc.enabled))),
    );
    facts.add_counted(
        "gpus.mig",
        gpus().filter_map(|gpu| {
            gpu.mig_enabled.map(|mig| format!("{}, {} devices", on(mig), gpu.mig.len()))
        }),
    );
    let links = |gpu: &api::inventory::Gpu| {
        let lanes: u32 = gpu.links.iter().map(|link| link.lanes).sum();
        format!("{lanes} links to {} others", gpu.links.len())
    };
    facts.add_counted("gpus.links", gpus().filter(|gpu| !gpu.links.is_empty()).map(links));
}

fn infiniband(facts: &mut Facts, inventory: &Inventory) {
    for device in &inventory.infiniband {
        let name = format!("infiniband.{}", device.name);
        facts.add(format!("{name}.model"), device.model.as_ref());
        facts.add(format!("{name}.board-id"), device.board_id.as_ref());
        facts.add(format!("{name}.firmware"), device.firmware.as_ref());
        facts.add(format!("{name}.pci"), device.pci.as_ref());
        facts.add(format!("{name}.numa-node"), device.numa_node);
        for port in &device.ports {
            let name = format!("{name}.port{}", port.number);
            facts.add(format!("{name}.state"), port.state.as_ref());
            facts.add(format!("{name}.rate"), port.rate.as_ref());
            facts.add(format!("{name}.link-layer"), port.link_layer.as_ref());
        }
    }
}

fn pci(facts: &mut Facts, inventory: &Inventory) {
    // Virtual functions are counted by their physical one.
    for device in inventory.pci.iter().filter(|device| device.physical_function.is_none()) {
        let name = format!("pci.{}", device.address);
        let ids = format!("{}:{}", device.vendor, device.device);
        let revision = device.revision.as_ref().map(|revision| format!("revision {revision}"));
        facts.add(&name, Some(words([Some(ids), revision, device.device_name.clone()])));
        facts.add(format!("{name}.driver"), device.driver.as_ref());
        facts.add(format!("{name}.link-width"), device.link.as_ref().map(|link| link.width));
        facts.add(format!("{name}.virtual-functions"), device.virtual_functions);
    }
}

fn service(facts: &mut Facts, inventory: &Inventory) {
    let kinds = |is_unhealthy: bool| {
        let devices = inventory
            .devices
            .iter()
            .filter(move |device| device.unhealthy.is_some() == is_unhealthy);
        devices.map(|device| device.name.kind().to_string())
    };
    facts.add_counted("devices", kinds(false));
    facts.add_counted("devices.out-of-service", kinds(true));
    let faults: Vec<String> = inventory
        .faults
        .iter()
        .map(|fault| format!("{}: {}", fault.subject, fault.message))
        .collect();
    facts.add("faults", Some(faults.join("; ")));
    let gaps: Vec<&str> = inventory.gaps.iter().map(|gap| gap.subject.as_str()).collect();
    facts.add("gaps", Some(gaps.join(", ")));
}
