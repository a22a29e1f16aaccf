//! `node show --topology`: processors, memory and what hangs on them as a tree.
//!
//! Packages, dies, NUMA nodes and L3 caches are nested by the PUs that they have, whichever of them
//! is the larger: there are machines with several NUMA nodes in a package, and with several
//! packages in a NUMA node.

use std::collections::{BTreeMap, BTreeSet};

use api::inventory::{Core, Gpu, Inventory, NumaNode, PciDevice, PciLink, Topology, connection};

use super::super::{
    table::{Cell, Style, table},
    tree::Tree,
    words::{count, ranges, size},
};

/// Something that has PUs.
struct Part {
    label: String,
    pus: BTreeSet<u32>,
    /// Order of those with the same PUs: packages are outside of dies, those of NUMA nodes,
    /// those of caches.
    rank: u8,
    numa: Option<u32>,
    inside: Option<usize>,
}

/// The tree, the distances of NUMA nodes, and how near devices are to each other.
pub(super) fn draw(style: Style, name: &str, inventory: &Inventory) -> String {
    let topology = &inventory.topology;
    let mut text = tree(name, inventory).draw();
    let distances = distances(style, topology);
    if !distances.is_empty() {
        text.push_str("\ndistances of NUMA nodes\n");
        text.push_str(&distances);
    }
    let nearness = nearness(style, inventory);
    if !nearness.is_empty() {
        text.push_str("\nhow near GPUs and adapters are\n");
        text.push_str(&nearness);
    }
    text
}

fn tree(name: &str, inventory: &Inventory) -> Tree {
    let topology = &inventory.topology;
    let mut head = vec![name.to_owned()];
    head.extend(topology.cpu_model.as_ref().map(|model| model.trim().to_owned()));
    if inventory.memory_bytes > 0 {
        head.push(size(inventory.memory_bytes));
    }
    let mut machine = Tree::new(head.join(", "));
    let mut devices = devices(inventory);
    let parts = nested(topology);
    for (place, part) in parts.iter().enumerate() {
        if part.inside.is_none() {
            machine.children.push(grow(&parts, place, topology, &mut devices));
        }
    }
    machine.children.extend(cores_of(topology, &parts, None));
    for node in topology.numa_nodes.iter().filter(|node| node.pus.is_empty()) {
        let mut alone = Tree::new(format!("{}, without processors", numa_label(node)));
        alone.children = devices.remove(&Some(node.index)).unwrap_or_default();
        machine.children.push(alone);
    }
    // Near no NUMA node, or to one that the topology does not have.
    machine.children.extend(devices.into_values().flatten());
    machine
}

/// All parts, the larger before the smaller, and in which each is.
fn nested(topology: &Topology) -> Vec<Part> {
    let part = |label: String, pus: &[u32], rank, numa| Part {
        label,
        pus: pus.iter().copied().collect(),
        rank,
        numa,
        inside: None,
    };
    let mut parts = Vec::new();
    for package in &topology.packages {
        let cores =
            topology.cores.iter().filter(|core| core.package == Some(package.index)).count();
        let cores = if cores > 0 { format!(": {}", count(cores, "core")) } else { String::new() };
        parts.push(part(format!("package {}{cores}", package.index), &package.pus, 0, None));
    }
    for die in &topology.dies {
        parts.push(part(format!("die {}", die.index), &die.pus, 1, None));
    }
    for node in &topology.numa_nodes {
        parts.push(part(numa_label(node), &node.pus, 2, Some(node.index)));
    }
    for cache in topology.caches.iter().filter(|cache| cache.level == 3) {
        parts.push(part(format!("L3 {}", size(cache.size_bytes)), &cache.pus, 3, None));
    }
    parts.retain(|part| !part.pus.is_empty());
    parts.sort_by_key(|part| {
        (std::cmp::Reverse(part.pus.len()), part.rank, part.pus.first().copied(), part.numa)
    });
    for place in 0..parts.len() {
        let outer = (0..place).rev().find(|&outer| parts[outer].pus.is_superset(&parts[place].pus));
        parts[place].inside = outer;
    }
    parts
}

fn grow(
    parts: &[Part],
    place: usize,
    topology: &Topology,
    devices: &mut BTreeMap<Option<u32>, Vec<Tree>>,
) -> Tree {
    let part = &parts[place];
    let mut tree = Tree::new(part.label.clone());
    let mut inner: Vec<usize> =
        (0..parts.len()).filter(|&other| parts[other].inside == Some(place)).collect();
    inner.sort_by_key(|&other| parts[other].pus.first().copied());
    tree.children = inner.iter().map(|&other| grow(parts, other, topology, devices)).collect();
    let cores = cores_of(topology, parts, Some(place));
    match cores.as_slice() {
        [only] if tree.children.is_empty() => {
            tree.label = format!("{}: {}", tree.label.replace(": ", ", "), only.label);
        }
        _ => tree.children.extend(cores),
    }
    if part.numa.is_some() {
        tree.children.extend(devices.remove(&part.numa).unwrap_or_default());
    }
    tree
}

/// Cores that are in this part (`None`: in the machine) and in none within it; a line for
/// each kind of cores.
fn cores_of(topology: &Topology, parts: &[Part], place: Option<usize>) -> Vec<Tree> {
    let innermost = |pus: &[u32]| {
        // The smaller come later.
        parts.iter().rposition(|part| pus.iter().any(|pu| part.pus.contains(pu)))
    };
    let mut kinds: BTreeMap<Option<u32>, Vec<&Core>> = BTreeMap::new();
    for core in topology.cores.iter().filter(|core| innermost(&core.pus) == place) {
        kinds.entry(core.kind).or_default().push(core);
    }
    let line = |(kind, cores): (Option<u32>, Vec<&Core>)| {
        let indexes: Vec<u32> = cores.iter().map(|core| core.index).collect();
        let pus: Vec<u32> = cores.iter().flat_map(|core| core.pus.iter().copied()).collect();
        let plural = |numbers: &[u32]| if numbers.len() == 1 { "" } else { "s" };
        let (cores, threads) = (plural(&indexes), plural(&pus));
        let label = format!("core{cores} {} (thread{threads} {})", ranges(&indexes), ranges(&pus));
        let kind = kind
            .and_then(|kind| topology.cpu_kinds.get(usize::try_from(kind).ok()?)?.name.as_deref());
        Tree::new(kind.into_iter().fold(label, |label, kind| format!("{label} {kind}")))
    };
    kinds.into_iter().map(line).collect()
}

/// `NUMA node 0: 256 GiB DRAM, tier 4, 200 GiB/s, 90 ns`.
fn numa_label(node: &NumaNode) -> String {
    let mut words = vec![match &node.kind {
        Some(kind) => format!("{} {kind}", size(node.memory_bytes)),
        None => size(node.memory_bytes),
    }];
    words.extend(node.tier.map(|tier| format!("tier {tier}")));
    words.extend(node.bandwidth_mibs.map(|mibs| format!("{}/s", size(mibs << 20))));
    words.extend(node.latency_ns.map(|ns| format!("{ns} ns")));
    let huge = node.pages.iter().filter(|pages| pages.size_bytes > 4096 && pages.count > 0);
    words.extend(huge.map(|pages| format!("{} × {} pages", pages.count, size(pages.size_bytes))));
    format!("NUMA node {}: {}", node.index, words.join(", "))
}

/// What hangs where, by NUMA node; devices behind one PCI switch are below its bridge.
fn devices(inventory: &Inventory) -> BTreeMap<Option<u32>, Vec<Tree>> {
    let pci: BTreeMap<&str, &PciDevice> =
        inventory.pci.iter().map(|device| (device.address.as_str(), device)).collect();
    let known: BTreeSet<u32> =
        inventory.topology.numa_nodes.iter().map(|node| node.index).collect();
    let mut groups: BTreeMap<(Option<u32>, String), Vec<Tree>> = BTreeMap::new();
    for (label, address, numa) in leaves(inventory) {
        let device = address.as_deref().and_then(|address| pci.get(address)).copied();
        let numa = numa.or_else(|| device?.numa_node).filter(|numa| known.contains(numa));
        let bridge = device.map_or_else(String::new, |device| root_of(&pci, device));
        let link = device.and_then(|device| device.link.as_ref()).map(link_label);
        let label = link.into_iter().fold(label, |label, link| format!("{label}, {link}"));
        groups.entry((numa, bridge)).or_default().push(Tree::new(label));
    }
    let mut near: BTreeMap<Option<u32>, Vec<Tree>> = BTreeMap::new();
    for ((numa, bridge), leaves) in groups {
        let trees = near.entry(numa).or_default();
        if bridge.is_empty() || leaves.len() == 1 {
            trees.extend(leaves);
        } else {
            trees.push(Tree { label: format!("PCI {bridge}"), children: leaves });
        }
    }
    near
}

/// The bridge at the root of the branch that a device is on, itself if there is none: a loop in
/// what a machine tells ends.
fn root_of(pci: &BTreeMap<&str, &PciDevice>, device: &PciDevice) -> String {
    let mut root = device;
    for _ in 0..pci.len() {
        match root.parent.as_deref().and_then(|parent| pci.get(parent)) {
            Some(parent) => root = parent,
            None => break,
        }
    }
    root.address.clone()
}

/// What people look for: its line, PCI address, NUMA node.
fn leaves(inventory: &Inventory) -> Vec<(String, Option<String>, Option<u32>)> {
    let granted = |address: &str| -> String {
        let names =
            inventory.devices.iter().filter(|device| device.pci.as_deref() == Some(address));
        let told = names.map(|device| match device.unhealthy {
            Some(_) => format!("{} out of service", device.name),
            None => device.name.to_string(),
        });
        told.map(|name| format!(" [{name}]")).collect()
    };
    let mut leaves = Vec::new();
    for gpu in &inventory.gpus {
        leaves.push((gpu_label(gpu) + &granted(&gpu.pci), Some(gpu.pci.clone()), gpu.numa_node));
    }
    for device in &inventory.infiniband {
        let ports: Vec<String> = device
            .ports
            .iter()
            .map(|port| {
                [&port.state, &port.rate]
                    .into_iter()
                    .flatten()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        let granted = device.pci.as_deref().map(&granted).unwrap_or_default();
        let label =
            format!("infiniband {} {}", device.name, ports.join("; ")).trim_end().to_owned();
        leaves.push((label + &granted, device.pci.clone(), device.numa_node));
    }
    for nic in inventory.nics.iter().filter(|nic| nic.pci.is_some()) {
        let speed = nic.speed_mbits.map(|speed| format!(" {speed} Mbit/s")).unwrap_or_default();
        leaves.push((
            format!("nic {} {}{speed}", nic.name, nic.state),
            nic.pci.clone(),
            nic.numa_node,
        ));
    }
    for disk in &inventory.disks {
        let model =
            disk.model.as_ref().map(|model| format!(" {}", model.trim())).unwrap_or_default();
        leaves.push((
            format!("disk {} {}{model}", disk.name, size(disk.size_bytes)),
            disk.pci.clone(),
            disk.numa_node,
        ));
    }
    leaves
}

fn gpu_label(gpu: &Gpu) -> String {
    let mut words = vec![format!("gpu {}", gpu.pci), gpu.vendor.clone()];
    words.extend(gpu.model.clone());
    words.extend(gpu.memory_bytes.map(size));
    let mut label = words.join(" ");
    let mut links: BTreeMap<&str, u32> = BTreeMap::new();
    for link in &gpu.links {
        *links.entry(&link.kind).or_default() += link.lanes;
    }
    for (kind, lanes) in links {
        label = format!("{label}, {lanes} × {kind}");
    }
    label
}

/// `PCIe 5 ×16 63 GB/s`, and what it could do if that is more.
pub(super) fn link_label(link: &PciLink) -> String {
    let name = |mts, width| format!("PCIe {} ×{width}", generation(mts));
    let now = format!("{} {}", name(link.speed_mts, link.width), bandwidth(link));
    if link.width < link.max_width || link.speed_mts < link.max_speed_mts {
        format!("{now} (can do {})", name(link.max_speed_mts, link.max_width))
    } else {
        now
    }
}

fn generation(mts: u32) -> String {
    match mts {
        2_500 => "1".to_owned(),
        5_000 => "2".to_owned(),
        8_000 => "3".to_owned(),
        16_000 => "4".to_owned(),
        32_000 => "5".to_owned(),
        64_000 => "6".to_owned(),
        other => format!("{other} MT/s"),
    }
}

/// Bytes each way: 8 of 10 bits are data up to generation 2, 128 of 130 up to 5, 242 of 256 after
/// (PCI Express Base Specification 6, sections 4.2.1 to 4.2.3).
fn bandwidth(link: &PciLink) -> String {
    let (data, of) = match link.speed_mts {
        0..8_000 => (8, 10),
        8_000..64_000 => (128, 130),
        _ => (242, 256),
    };
    let mbits = u64::from(link.speed_mts) * u64::from(link.width) * data / of;
    match mbits / 8 {
        mbytes @ 0..10_000 => format!("{}.{} GB/s", mbytes / 1000, mbytes % 1000 / 100),
        mbytes => format!("{} GB/s", mbytes / 1000),
    }
}

/// What is between each two GPUs and adapters, in the words of `nvidia-smi topo -m`; nothing of
/// fewer than two.
fn nearness(style: Style, inventory: &Inventory) -> String {
    let gpus = inventory.gpus.iter().map(|gpu| (gpu.pci.as_str(), gpu.pci.as_str()));
    let adapters = inventory.infiniband.iter();
    let adapters =
        adapters.filter_map(|device| Some((device.name.as_str(), device.pci.as_deref()?)));
    let all: Vec<(&str, &str)> = gpus.chain(adapters).collect();
    if all.len() < 2 {
        return String::new();
    }
    let header: Vec<&str> = std::iter::once("").chain(all.iter().map(|(name, _)| *name)).collect();
    let row = |(name, from): &(&str, &str)| {
        let cell = |(_, to): &(&str, &str)| Cell::new(connection(inventory, from, to));
        std::iter::once(Cell::new(name)).chain(all.iter().map(cell)).collect()
    };
    table(style, &header, all.iter().map(row))
}

fn distances(style: Style, topology: &Topology) -> String {
    if topology.distances.is_empty() || topology.numa_nodes.len() < 2 {
        return String::new();
    }
    let indexes: Vec<String> =
        topology.numa_nodes.iter().map(|node| node.index.to_string()).collect();
    let header: Vec<&str> =
        std::iter::once("NUMA").chain(indexes.iter().map(String::as_str)).collect();
    let row = |(index, distances): (&String, &Vec<u32>)| {
        std::iter::once(Cell::new(index)).chain(distances.iter().map(Cell::new)).collect()
    };
    table(style, &header, indexes.iter().zip(&topology.distances).map(row))
}

#[cfg(test)]
mod tests;
