//! What jobs may use of a node, from its inventory. Pure.

use api::{device::GrantableDevice, inventory::Inventory};
use planner::{Capacity, Core, Device, NumaMemory};

/// Memory that a node keeps for its system and the root image in RAM: a part of all of it, and at
/// least so much, bytes.
const SYSTEM_SHARE: u64 = 8;
const SYSTEM_LEAST_BYTES: u64 = 512 << 20;

/// Memory of a GPU that the kernel shows as a NUMA node (Grace Hopper): its GPU's, not the jobs'.
const GPU_MEMORY: &str = "GPUMemory";

/// The cores with their PUs, the memory of each NUMA node less what the system keeps of it, and the
/// devices, marked if they are out of service. PUs that are switched off are in no core.
pub(crate) fn of(inventory: &Inventory) -> Capacity {
    let topology = &inventory.topology;
    let core = |core: &api::inventory::Core| {
        let mut pus = core.pus.clone();
        pus.sort_unstable();
        let numa = core.numa_node.unwrap_or(0);
        (!pus.is_empty()).then(|| Core { pus, package: core.package.unwrap_or(0), numa })
    };
    let mut cores: Vec<Core> = topology.cores.iter().filter_map(core).collect();
    if cores.is_empty() {
        // A machine that does not tell its cores: each PU is one.
        cores = (0..topology.pus).map(|pu| Core { pus: vec![pu], package: 0, numa: 0 }).collect();
    }
    let mut memory: Vec<NumaMemory> = topology
        .numa_nodes
        .iter()
        .filter(|node| node.memory_bytes > 0 && node.kind.as_deref() != Some(GPU_MEMORY))
        .map(|node| NumaMemory { numa: node.index, bytes: node.memory_bytes })
        .collect();
    if memory.is_empty() && inventory.memory_bytes > 0 {
        memory.push(NumaMemory { numa: 0, bytes: inventory.memory_bytes });
    }
    let all: u64 = memory.iter().map(|memory| memory.bytes).sum();
    let kept = (all / SYSTEM_SHARE).max(SYSTEM_LEAST_BYTES).min(all);
    for part in &mut memory {
        let share = u128::from(kept) * u128::from(part.bytes) / u128::from(all.max(1));
        part.bytes = part.bytes.saturating_sub(u64::try_from(share).unwrap_or(u64::MAX));
    }
    let device = |device: &GrantableDevice| Device {
        kind: device.name.kind().to_string(),
        name: device.name.to_string(),
        numa: device.numa_node,
        unhealthy: device.unhealthy.is_some(),
    };
    Capacity { cores, memory, devices: inventory.devices.iter().map(device).collect() }
}

#[cfg(test)]
mod tests {
    use api::inventory::{Core as Found, NumaNode, Topology};

    use super::*;

    #[test]
    fn the_system_keeps_its_share_of_each_numa_node() {
        let numa = |index| NumaNode { index, memory_bytes: 8 << 30, ..NumaNode::default() };
        let core = |index| Found {
            index,
            package: Some(0),
            numa_node: Some(index),
            pus: vec![index + 2, index],
            ..Found::default()
        };
        let topology = Topology {
            numa_nodes: vec![numa(0), numa(1)],
            cores: vec![core(0), core(1)],
            pus: 4,
            ..Topology::default()
        };
        let capacity = of(&Inventory { topology, memory_bytes: 16 << 30, ..Inventory::default() });
        assert_eq!(capacity.cores[1], Core { pus: vec![1, 3], package: 0, numa: 1 });
        assert_eq!(capacity.memory, [0, 1].map(|numa| NumaMemory { numa, bytes: 7 << 30 }));
    }

    #[test]
    fn memory_of_gpus_is_not_the_jobs() {
        let numa = |index, kind: &str| NumaNode {
            index,
            memory_bytes: 8 << 30,
            kind: Some(kind.to_owned()),
            ..NumaNode::default()
        };
        let topology = Topology {
            numa_nodes: vec![numa(0, "DRAM"), numa(4, "GPUMemory")],
            ..Topology::default()
        };
        let memory = of(&Inventory { topology, ..Inventory::default() }).memory;
        assert_eq!(memory, [NumaMemory { numa: 0, bytes: 7 << 30 }]);
    }

    #[test]
    fn devices_are_known_by_their_whole_names() {
        let device = |name: &str, numa_node, unhealthy: Option<&str>| GrantableDevice {
            name: name.parse().unwrap(),
            numa_node,
            pci: None,
            source: "built-in".to_owned(),
            unhealthy: unhealthy.map(str::to_owned),
        };
        let devices = vec![
            device("nvidia.com/gpu=0", Some(1), Some("ECC")),
            device("rdma/hca=mlx5_0", None, None),
        ];
        let expected = [
            ("nvidia.com/gpu", "nvidia.com/gpu=0", Some(1), true),
            ("rdma/hca", "rdma/hca=mlx5_0", None, false),
        ]
        .map(|(kind, name, numa, unhealthy)| Device {
            kind: kind.to_owned(),
            name: name.to_owned(),
            numa,
            unhealthy,
        });
        assert_eq!(of(&Inventory { devices, ..Inventory::default() }).devices, expected);
    }

    #[test]
    fn a_machine_that_tells_little_can_still_be_used() {
        let topology = Topology { pus: 2, ..Topology::default() };
        let capacity = of(&Inventory { topology, memory_bytes: 1 << 30, ..Inventory::default() });
        assert_eq!(capacity.cores.len(), 2);
        assert_eq!(capacity.memory, [NumaMemory { numa: 0, bytes: 512 << 20 }]);
        assert_eq!(of(&Inventory::default()), Capacity::default());
    }
}
