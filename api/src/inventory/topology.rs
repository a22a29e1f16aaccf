//! Processors and memory. All indexes are hwloc's *physical* (OS) indexes unless said otherwise.

use serde::{Deserialize, Serialize};

/// Processors and memory, from hwloc, `/proc/cpuinfo` and sysfs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Topology {
    /// Model name of the processor.
    pub cpu_model: Option<String>,
    /// Its vendor as CPUID tells: `GenuineIntel`; of Arm who made the core: `ARM`.
    pub cpu_vendor: Option<String>,
    /// CPUID family; of Arm the version of the architecture.
    pub cpu_family: Option<u32>,
    /// CPUID model; of Arm the part number of the core.
    pub cpu_model_number: Option<u32>,
    /// CPUID stepping; of Arm 16 × variant + revision (`r1p2` = 18).
    pub cpu_stepping: Option<u32>,
    /// Revision of its microcode: `0xd0003b9`.
    pub microcode: Option<String>,
    /// Features of the first processor, sorted: `avx512f`, `sve`…
    pub cpu_flags: Vec<String>,
    /// Highest clock rate, MHz.
    pub max_mhz: Option<u32>,
    /// Packages (sockets).
    pub packages: Vec<Package>,
    /// Dies, where a package has several.
    pub dies: Vec<Die>,
    /// NUMA nodes.
    pub numa_nodes: Vec<NumaNode>,
    /// Distances between NUMA nodes as the firmware tells (10 = local): a row for each of
    /// `numa_nodes`, in their order.
    pub distances: Vec<Vec<u32>>,
    /// Caches of the processors.
    pub caches: Vec<Cache>,
    /// Cores of the processors.
    pub cores: Vec<Core>,
    /// Kinds of cores, where there are several, the least powerful first.
    pub cpu_kinds: Vec<CpuKind>,
    /// Processing units (hardware threads) in all.
    pub pus: u32,
    /// PUs that exist and are switched off.
    pub offline_pus: Vec<u32>,
}

/// A package (socket).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Package {
    /// Physical index.
    pub index: u32,
    /// OS indices of its PUs (hardware threads).
    pub pus: Vec<u32>,
}

/// A die of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Die {
    /// Physical index.
    pub index: u32,
    /// Package that it is in.
    pub package: Option<u32>,
    /// OS indices of its PUs (hardware threads).
    pub pus: Vec<u32>,
}

/// A NUMA node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct NumaNode {
    /// Physical index.
    pub index: u32,
    /// Size of its local memory, bytes.
    pub memory_bytes: u64,
    /// PUs that are in it, as the kernel tells; none for memory alone (CXL, HBM in flat
    /// mode, GPU memory).
    pub pus: Vec<u32>,
    /// What memory it is, where there are several kinds, as hwloc or its driver tells or its
    /// bandwidth suggests: `DRAM`, `HBM`, `GPUMemory`, `CXL-DRAM`, `NVM`.
    pub kind: Option<String>,
    /// The kernel's memory tier, the fastest has the lowest number.
    pub tier: Option<u32>,
    /// Read bandwidth from its local PUs, MiB/s, as the firmware tells (HMAT).
    pub bandwidth_mibs: Option<u64>,
    /// Read latency from its local PUs, ns, as the firmware tells (HMAT).
    pub latency_ns: Option<u64>,
    /// Pages by size.
    pub pages: Vec<PageType>,
}

/// Pages of one size in one NUMA node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct PageType {
    /// Size of a page, bytes.
    pub size_bytes: u64,
    /// Number of pages of this size.
    pub count: u64,
}

/// A cache of a processor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Cache {
    /// 1, 2, 3…
    pub level: u8,
    /// `unified`, `data` or `instruction`.
    pub kind: String,
    /// Size of the cache, bytes.
    pub size_bytes: u64,
    /// Size of a cache line, bytes.
    pub line_bytes: Option<u32>,
    /// Associativity, ways; absent if full or not known.
    pub ways: Option<u32>,
    /// PUs that share it.
    pub pus: Vec<u32>,
}

/// A physical core.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Core {
    /// Logical index over the machine.
    pub index: u32,
    /// Package that it is in.
    pub package: Option<u32>,
    /// NUMA node that is local to it.
    pub numa_node: Option<u32>,
    /// Which of `cpu-kinds` it is of.
    pub kind: Option<u32>,
    /// OS indices of its PUs (hardware threads).
    pub pus: Vec<u32>,
}

/// A kind of cores of a hybrid processor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct CpuKind {
    /// `IntelAtom`, `IntelCore`, where known.
    pub name: Option<String>,
    /// Highest clock rate, MHz.
    pub max_mhz: Option<u32>,
    /// OS indices of its PUs (hardware threads).
    pub pus: Vec<u32>,
}
