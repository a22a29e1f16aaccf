//! What the kernel tells of NUMA nodes beyond hwloc: nodes without memory, which hwloc leaves out;
//! distances, kinds and tiers of memory, HMAT (`Documentation/admin-guide/mm/numaperf.rst`).

use std::collections::BTreeMap;

use api::inventory::{NumaNode, PageType, Topology};

use crate::{read::Reader, system::mem_total};

const DIRECTORY: &str = "/sys/devices/system/node";
const TIERS: &str = "/sys/devices/virtual/memory_tiering";
const DAX: &str = "/sys/bus/dax/devices";
const NVIDIA: &str = "/proc/driver/nvidia/gpus";

/// Most NUMA nodes looked at: the kernel's own limit (`NODES_SHIFT` is at most 10).
const MAX_NODES: usize = 1024;

/// How many times faster than a processor's own memory is HBM at the least, in per cent: that
/// of Xeon Max and of Knights Landing is three to four times as fast, DRAM of two kinds
/// differs by less.
const HBM_PER_CENT: u64 = 200;

/// Processors with HBM of their own, whose firmware often leaves out HMAT; its nodes
/// have no processors.
const MODEL_WITH_HBM: &str = "Xeon(R) CPU Max";

/// Completes the NUMA nodes that hwloc found, in the order of their indexes.
pub(crate) fn add(read: &mut Reader<'_>, topology: &mut Topology) {
    let Some(mut online) = read.list(&format!("{DIRECTORY}/online")) else { return };
    if online.len() > MAX_NODES {
        read.gap(&format!("{DIRECTORY}/online"), format!("more than {MAX_NODES} NUMA nodes"));
        online.truncate(MAX_NODES);
    }
    let nodes = &mut topology.numa_nodes;
    let page_bytes = nodes.iter().flat_map(|node| &node.pages).map(|pages| pages.size_bytes).min();
    let missing: Vec<_> = online
        .iter()
        .copied()
        .filter(|index| nodes.iter().all(|node| node.index != *index))
        .collect();
    nodes.extend(missing.iter().map(|index| left_out(read, *index, page_bytes)));
    nodes.sort_by_key(|node| node.index);
    if online.len() > 1 {
        for node in nodes.iter_mut().filter(|node| online.contains(&node.index)) {
            // hwloc counts to memory without processors those that are near it.
            node.pus =
                read.list(&format!("{DIRECTORY}/node{}/cpulist", node.index)).unwrap_or_default();
        }
    }
    for node in nodes.iter_mut() {
        (node.bandwidth_mibs, node.latency_ns) = performance(read, node.index);
    }
    tiers(read, nodes);
    kinds(read, nodes, topology.cpu_model.as_deref());
    topology.distances = distances(read, &topology.numa_nodes, &online);
    if online.len() > 1 {
        place_cores(topology);
    }
}

/// hwloc counts a core also to memory without processors that is near it, whose index may
/// be the lower one.
fn place_cores(topology: &mut Topology) {
    let pairs = topology
        .numa_nodes
        .iter()
        .flat_map(|node| node.pus.iter().map(move |pu| (*pu, node.index)));
    let of_pu: BTreeMap<u32, u32> = pairs.collect();
    for core in &mut topology.cores {
        core.numa_node = core.pus.first().and_then(|pu| of_pu.get(pu)).copied().or(core.numa_node);
    }
}

/// A node that hwloc leaves out.
fn left_out(read: &mut Reader<'_>, index: u32, page_bytes: Option<u64>) -> NumaNode {
    let directory = format!("{DIRECTORY}/node{index}");
    let text = read.text(&format!("{directory}/meminfo"));
    let memory_bytes = text.as_deref().and_then(mem_total).unwrap_or_else(|| {
        read.gap(&format!("{directory}/meminfo"), "no MemTotal");
        0
    });
    let mut pages = Vec::new();
    if memory_bytes > 0 {
        for name in read.names(&format!("{directory}/hugepages")) {
            let size = name.strip_prefix("hugepages-").and_then(|size| size.strip_suffix("kB"));
            let size = size.and_then(|size| size.parse::<u64>().ok()?.checked_mul(1024));
            let count = read.count(&format!("{directory}/hugepages/{name}/nr_hugepages"));
            if let (Some(size_bytes), Some(count)) = (size, count) {
                pages.push(PageType { size_bytes, count });
            }
        }
        pages.sort_by_key(|pages| pages.size_bytes);
        let huge = pages.iter().fold(0_u64, |sum, pages| {
            sum.saturating_add(pages.size_bytes.saturating_mul(pages.count))
        });
        if let Some(size_bytes) = page_bytes.filter(|size| *size > 0) {
            pages.insert(
                0,
                PageType { size_bytes, count: memory_bytes.saturating_sub(huge) / size_bytes },
            );
        }
    }
    NumaNode { index, memory_bytes, pages, ..NumaNode::default() }
}

/// Bandwidth and latency of reads, of the processors nearest to the node: class 1 of access is that
/// of processors alone, class 0, which older kernels have alone, also of devices.
fn performance(read: &mut Reader<'_>, index: u32) -> (Option<u64>, Option<u64>) {
    let Some(directory) = ["access1", "access0"]
        .map(|class| format!("{DIRECTORY}/node{index}/{class}/initiators"))
        .into_iter()
        .find(|directory| read.exists(directory))
    else {
        return (None, None);
    };
    let mut fact =
        |name: &str| read.count(&format!("{directory}/{name}")).filter(|value| *value > 0);
    (fact("read_bandwidth"), fact("read_latency"))
}

/// `memory_tierN/nodelist` (`Documentation/ABI/testing/sysfs-kernel-mm-memory-tiers`).
fn tiers(read: &mut Reader<'_>, nodes: &mut [NumaNode]) {
    for name in read.names(TIERS) {
        let Some(tier) = name.strip_prefix("memory_tier").and_then(|tier| tier.parse().ok()) else {
            continue;
        };
        let members = read.list(&format!("{TIERS}/{name}/nodelist")).unwrap_or_default();
        nodes
            .iter_mut()
            .filter(|node| members.contains(&node.index))
            .for_each(|node| node.tier = Some(tier));
    }
}

/// Kinds that hwloc does not tell: memory of drivers, HBM by its bandwidth or its processor; and
/// then the rest that has processors is DRAM.
fn kinds(read: &mut Reader<'_>, nodes: &mut [NumaNode], cpu_model: Option<&str>) {
    let with_hbm = cpu_model.is_some_and(|model| model.contains(MODEL_WITH_HBM));
    if nodes.len() > 1 {
        let of_drivers = memory_of_drivers(read);
        let own = nodes
            .iter()
            .filter(|node| !node.pus.is_empty())
            .filter_map(|node| node.bandwidth_mibs)
            .max();
        for node in nodes.iter_mut().filter(|node| node.kind.is_none() && node.pus.is_empty()) {
            let fast = |bandwidth: u64| {
                own.is_some_and(|own| bandwidth >= own.saturating_mul(HBM_PER_CENT) / 100)
            };
            let hbm = node.memory_bytes > 0 && (with_hbm || node.bandwidth_mibs.is_some_and(fast));
            let hbm = hbm.then_some("HBM");
            node.kind = of_drivers.get(&node.index).copied().or(hbm).map(str::to_owned);
        }
        if nodes.iter().any(|node| node.kind.is_some()) {
            for node in nodes.iter_mut().filter(|node| node.kind.is_none() && !node.pus.is_empty())
            {
                node.kind = Some("DRAM".to_owned());
            }
        }
    }
}

/// NUMA nodes made of memory that a driver gave to the kernel: CXL and persistent memory
/// (`target_node` of a DAX device, `Documentation/ABI/testing/sysfs-bus-dax`), memory of NVIDIA's
/// GPUs (`Node: 1` in `numa_status`).
fn memory_of_drivers(read: &mut Reader<'_>) -> BTreeMap<u32, &'static str> {
    let mut kinds = BTreeMap::new();
    for name in read.names(DAX) {
        let Some(node) = read.number(&format!("{DAX}/{name}/target_node")) else { continue };
        let parents = read.real_path(&format!("{DAX}/{name}"));
        let under = |driver: &str| parents.iter().any(|parent| parent.starts_with(driver));
        let kind = match (under("ndbus"), under("decoder")) {
            (true, _) => "NVM",
            (_, true) => "CXL-DRAM",
            _ => continue,
        };
        kinds.extend(u32::try_from(node).ok().map(|node| (node, kind)));
    }
    for gpu in read.names(NVIDIA) {
        let Some(status) = read.text(&format!("{NVIDIA}/{gpu}/numa_status")) else { continue };
        let node =
            status.lines().find_map(|line| line.trim().strip_prefix("Node:")?.trim().parse().ok());
        kinds.extend(node.map(|node| (node, "GPUMemory")));
    }
    kinds
}

/// A row for each node, in which the kernel lists the nodes that are online.
fn distances(read: &mut Reader<'_>, nodes: &[NumaNode], online: &[u32]) -> Vec<Vec<u32>> {
    if !nodes.iter().map(|node| node.index).eq(online.iter().copied()) {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for index in online {
        let path = format!("{DIRECTORY}/node{index}/distance");
        let Some(text) = read.text(&path) else { return Vec::new() };
        let row: Option<Vec<u32>> =
            text.split_whitespace().map(|distance| distance.parse().ok()).collect();
        let Some(row) = row.filter(|row| row.len() == online.len()) else {
            read.gap(&path, format!("not {} distances", online.len()));
            return Vec::new();
        };
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests;
