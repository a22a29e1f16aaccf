//! Processors, caches and memory from hwloc, what the kernel adds to it, and which NUMA node a PCI
//! device is near.

mod cpuinfo;
mod cpus;
mod numa;

use std::{collections::BTreeMap, fs, sync::Arc};

use api::inventory::{Cache, Core, Die, NumaNode, Package, PageType, Topology};
use hwlocality::{
    Topology as Hwloc,
    errors::{FlagsError, HybridError, NulError, RawHwlocError},
    object::{
        TopologyObject,
        attributes::{CacheAssociativity, ObjectAttributes},
        types::{CacheType, ObjectType},
    },
    topology::{
        builder::{BuildFlags, FileInputError, TopologyBuilder, TypeFilter, TypeFilterError},
        export::xml::XMLExportFlags,
    },
};

use crate::read::Reader;

/// Largest `topology.xml` of a capture, bytes: a machine with 1,024 PUs needs 2 MiB.
const MAX_XML_BYTES: u64 = 16 << 20;

/// CPU caches as hwloc names them.
const CACHES: [ObjectType; 8] = [
    ObjectType::L1Cache,
    ObjectType::L1ICache,
    ObjectType::L2Cache,
    ObjectType::L2ICache,
    ObjectType::L3Cache,
    ObjectType::L3ICache,
    ObjectType::L4Cache,
    ObjectType::L5Cache,
];

/// Why hwloc tells nothing, in its own words.
#[derive(Debug, thiserror::Error)]
enum HwlocError {
    #[error(transparent)]
    Capture(#[from] FileInputError),
    #[error(transparent)]
    Component(#[from] HybridError<NulError>),
    #[error(transparent)]
    Flags(#[from] HybridError<FlagsError<BuildFlags>>),
    #[error(transparent)]
    Filter(#[from] HybridError<TypeFilterError>),
    #[error(transparent)]
    Hwloc(#[from] RawHwlocError),
}

/// What hwloc tells.
#[derive(Debug, Default)]
pub(crate) struct HwlocTopology {
    pub(crate) topology: Topology,
    pub(crate) locality: Locality,
    /// All of it as hwloc writes it.
    pub(crate) xml: Option<Arc<str>>,
}

/// NUMA node of PCI devices.
#[derive(Debug, Default)]
pub(crate) struct Locality {
    by_address: BTreeMap<String, u32>,
    /// Of a machine that has one.
    only: Option<u32>,
}

impl Locality {
    /// Of the device at `address`, also of one that came later than the topology was read.
    pub(crate) fn of(&self, address: &str) -> Option<u32> {
        self.by_address.get(address).copied().or(self.only)
    }
}

/// With a gap and little else if hwloc cannot tell.
pub(crate) fn collect(read: &mut Reader<'_>) -> HwlocTopology {
    let mut found = match load(read) {
        Ok(Some(hwloc)) => {
            let xml = hwloc.export_xml(XMLExportFlags::empty()).map(|xml| Arc::from(xml.as_ref()));
            let xml = xml.inspect_err(|cause| read.gap("hwloc's XML", cause)).ok();
            HwlocTopology { topology: describe(&hwloc), locality: locality(&hwloc), xml }
        }
        Ok(None) => HwlocTopology::default(),
        Err(cause) => {
            read.gap("hwloc", cause);
            HwlocTopology::default()
        }
    };
    cpuinfo::add(read, &mut found.topology);
    cpus::add(read, &mut found.topology);
    numa::add(read, &mut found.topology);
    found
}

fn load(read: &mut Reader<'_>) -> Result<Option<Hwloc>, HwlocError> {
    let builder = if read.is_live() {
        kernel_only(Hwloc::builder())?
    } else {
        let path = "/topology.xml";
        if !fs::metadata(read.at(path)).is_ok_and(|file| file.len() <= MAX_XML_BYTES) {
            read.gap(path, "not in the capture, or larger than 16 MiB");
            return Ok(None);
        }
        Hwloc::builder().from_xml_file(read.at(path))?
    };
    build(builder).map(Some)
}

/// Without hwloc's own look at x86 by CPUID, for which it moves its thread to each PU in turn: it
/// takes most of hwloc's time and tells nothing here that the kernel does not.
fn kernel_only(builder: TopologyBuilder) -> Result<TopologyBuilder, HwlocError> {
    if cfg!(target_arch = "x86_64") {
        return Ok(builder.without_component("x86")?);
    }
    Ok(builder)
}

/// Everything that the machine has, also what this process may not use.
fn build(builder: TopologyBuilder) -> Result<Hwloc, HwlocError> {
    let builder = builder.with_flags(BuildFlags::INCLUDE_DISALLOWED)?;
    let builder = builder.with_io_type_filter(TypeFilter::KeepImportant)?;
    let builder = builder.with_cpu_icache_type_filter(TypeFilter::KeepAll)?;
    // Memory modules, for who opens the XML.
    let builder = builder.with_type_filter(ObjectType::Misc, TypeFilter::KeepAll)?;
    Ok(builder.build()?)
}

fn describe(hwloc: &Hwloc) -> Topology {
    let of_type = |kind| hwloc.objects_with_type(kind);
    let packages: Vec<_> = of_type(ObjectType::Package)
        .map(|object| Package { index: index(object), pus: pus(object) })
        .collect();
    let fact = |name: &str| {
        let mut facts =
            of_type(ObjectType::Package).filter_map(|object| object.info(name)?.to_str().ok());
        facts.next().map(str::to_owned)
    };
    let number = |name: &str| fact(name)?.parse().ok();
    let mut topology = Topology {
        cpu_model: fact("CPUModel"),
        cpu_vendor: fact("CPUVendor"),
        cpu_family: number("CPUFamilyNumber"),
        cpu_model_number: number("CPUModelNumber"),
        cpu_stepping: number("CPUStepping"),
        dies: dies(hwloc, packages.len()),
        packages,
        numa_nodes: of_type(ObjectType::NUMANode).map(numa_node).collect(),
        caches: CACHES.into_iter().flat_map(of_type).filter_map(cache).collect(),
        cores: of_type(ObjectType::Core).map(core).collect(),
        pus: small(of_type(ObjectType::PU).count()),
        ..Topology::default()
    };
    cpus::kinds(hwloc, &mut topology);
    topology
}

/// None where each package is one die.
fn dies(hwloc: &Hwloc, packages: usize) -> Vec<Die> {
    let dies: Vec<_> = hwloc
        .objects_with_type(ObjectType::Die)
        .map(|object| Die {
            index: index(object),
            package: object.first_ancestor_with_type(ObjectType::Package).map(index),
            pus: pus(object),
        })
        .collect();
    if dies.len() > packages { dies } else { Vec::new() }
}

fn numa_node(object: &TopologyObject) -> NumaNode {
    let Some(ObjectAttributes::NUMANode(node)) = object.attributes() else {
        return NumaNode { index: index(object), pus: pus(object), ..NumaNode::default() };
    };
    NumaNode {
        index: index(object),
        kind: object.subtype().and_then(|kind| kind.to_str().ok()).map(str::to_owned),
        memory_bytes: node.local_memory().map_or(0, Into::into),
        pus: pus(object),
        pages: node
            .page_types()
            .iter()
            .map(|pages| PageType { size_bytes: pages.size().into(), count: pages.count() })
            .collect(),
        ..NumaNode::default()
    }
}

fn cache(object: &TopologyObject) -> Option<Cache> {
    let Some(ObjectAttributes::Cache(cache)) = object.attributes() else { return None };
    let kind = match cache.cache_type() {
        CacheType::Unified => "unified",
        CacheType::Data => "data",
        CacheType::Instruction => "instruction",
        CacheType::Unknown(_) => return None,
    };
    Some(Cache {
        level: u8::try_from(cache.depth()).ok()?,
        kind: kind.to_owned(),
        size_bytes: cache.size().map_or(0, Into::into),
        line_bytes: cache.line_size().map(|bytes| small(bytes.get())),
        ways: match cache.associativity() {
            CacheAssociativity::Ways(ways) => Some(small(ways.get())),
            _ => None,
        },
        pus: pus(object),
    })
}

fn core(object: &TopologyObject) -> Core {
    let nodes = object
        .nodeset()
        .map(|set| set.iter_set().map(|node| small(node.into())).collect::<Vec<_>>());
    Core {
        index: small(object.logical_index()),
        package: object.first_ancestor_with_type(ObjectType::Package).map(index),
        // With memory of two kinds (HBM beside DRAM) a core has two; the kernel numbers
        // the DRAM first.
        numa_node: nodes.and_then(|nodes| nodes.first().copied()),
        pus: pus(object),
        ..Core::default()
    }
}

/// Where hwloc knows one NUMA node near a device. It also tells what the kernel leaves at -1: on a
/// machine with one.
fn locality(hwloc: &Hwloc) -> Locality {
    let mut near = BTreeMap::new();
    for device in hwloc.pci_devices() {
        let Some(ObjectAttributes::PCIDevice(pci)) = device.attributes() else { continue };
        let Some(nodes) = device.first_non_io_ancestor().and_then(TopologyObject::nodeset) else {
            continue;
        };
        let nodes: Vec<usize> = nodes.iter_set().map(Into::into).take(2).collect();
        if let [node] = nodes[..] {
            let address = format!(
                "{:04x}:{:02x}:{:02x}.{:x}",
                pci.domain(),
                pci.bus_id(),
                pci.bus_device(),
                pci.function()
            );
            near.insert(address, small(node));
        }
    }
    let mut nodes = hwloc.objects_with_type(ObjectType::NUMANode);
    let only = nodes.next().filter(|_| nodes.next().is_none()).map(index);
    Locality { by_address: near, only }
}

fn index(object: &TopologyObject) -> u32 {
    small(object.os_index().unwrap_or_else(|| object.logical_index()))
}

fn pus(object: &TopologyObject) -> Vec<u32> {
    object
        .cpuset()
        .map(|set| set.iter_set().map(|pu| small(pu.into())).collect())
        .unwrap_or_default()
}

/// Indexes and counts of hwloc are `unsigned` in C.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_two_socket_machine_with_hyperthreads() {
        let builder = Hwloc::builder()
            .from_synthetic("pack:2 numa:2 l3:1(size=33554432) core:2 pu:2")
            .unwrap();
        let topology = describe(&build(builder).unwrap());
        assert_eq!((topology.packages.len(), topology.numa_nodes.len(), topology.pus), (2, 4, 16));
        assert_eq!(topology.packages[1].pus, (8..16).collect::<Vec<_>>());
        assert_eq!(topology.numa_nodes[3].pus, [12, 13, 14, 15]);
        assert_eq!(topology.numa_nodes[3].memory_bytes, 1 << 30);
        let l3: Vec<_> = topology.caches.iter().filter(|cache| cache.level == 3).collect();
        assert_eq!((l3.len(), l3[0].kind.as_str(), l3[0].size_bytes), (4, "unified", 32 << 20));
        assert_eq!(
            topology.cores[7],
            Core {
                index: 7,
                package: Some(1),
                numa_node: Some(3),
                pus: vec![14, 15],
                ..Core::default()
            }
        );
    }

    #[test]
    fn dies_are_told_where_a_package_has_several() {
        let of = |machine| {
            describe(&build(Hwloc::builder().from_synthetic(machine).unwrap()).unwrap()).dies
        };
        let dies = of("pack:2 die:2 core:2 pu:1");
        assert_eq!(dies.len(), 4);
        assert_eq!((dies[3].package, dies[3].pus.as_slice()), (Some(1), [6, 7].as_slice()));
        assert_eq!(of("pack:2 die:1 core:2 pu:1"), []);
    }

    #[test]
    fn this_machine_has_processors_and_memory() {
        let mut read = Reader::new(Path::new("/"));
        let topology = collect(&mut read).topology;
        assert!(topology.pus >= 1 && !topology.cores.is_empty(), "{topology:?}");
        assert!(topology.numa_nodes.iter().any(|node| node.memory_bytes > 0), "{topology:?}");
        assert!(topology.cores.iter().all(|core| !core.pus.is_empty()), "{topology:?}");
        assert_eq!(read.into_gaps(), []);
    }
}
