//! What a node has.

use std::collections::BTreeMap;

use api::ids::NodeId;

/// A node as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node's id in the register; it is never used for another node.
    pub id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Its labels, by key.
    pub labels: BTreeMap<String, String>,
    /// What jobs may use of it.
    pub capacity: Capacity,
    /// Why nothing begins there now, if so.
    pub unavailable: Option<String>,
}

/// What jobs may use of a node. The caller keeps back what the system needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Cores; their place in this list is their name in a placement.
    pub cores: Vec<Core>,
    /// Memory by NUMA node.
    pub memory: Vec<NumaMemory>,
    /// Devices that jobs can be granted, unhealthy ones included.
    pub devices: Vec<Device>,
}

/// A physical core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Core {
    /// Its hardware threads (PUs), by OS index; the first is the one granted without `threads`.
    pub pus: Vec<u32>,
    /// OS index of its package (socket).
    pub package: u32,
    /// OS index of its NUMA node.
    pub numa: u32,
}

/// Memory of a NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumaMemory {
    /// OS index of the NUMA node.
    pub numa: u32,
    /// Memory that jobs may use, bytes.
    pub bytes: u64,
}

/// A device that is granted whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its kind: `nvidia.com/gpu`.
    pub kind: String,
    /// Its name on the node.
    pub name: String,
    /// NUMA node that it is near.
    pub numa: Option<u32>,
    /// It is out of service: not granted, and still the node's, so that what wants it waits. Who
    /// has it keeps it.
    pub unhealthy: bool,
}

impl Capacity {
    /// Memory in all, bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.iter().map(|memory| memory.bytes).sum()
    }

    /// Devices of a kind, with those that are out of service.
    pub(crate) fn count(&self, kind: &str) -> u32 {
        let count = self.devices.iter().filter(|device| device.kind == kind).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Devices of a kind that are out of service.
    pub(crate) fn count_unhealthy(&self, kind: &str) -> usize {
        self.devices.iter().filter(|device| device.kind == kind && device.unhealthy).count()
    }
}
