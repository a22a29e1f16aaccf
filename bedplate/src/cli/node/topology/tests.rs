//! Machines of several kinds as trees.

use api::inventory::{Cache, Package};
use expect_test::expect;
use serde_json::{Value, json};

use super::*;

fn read(value: Value) -> Inventory {
    serde_json::from_value(value).unwrap()
}

#[test]
fn two_sockets_with_gpus_behind_a_switch_and_memory_alone() {
    let inventory = read(json!({
        "memory-bytes": 17_179_869_184_u64,
        "topology": {
            "cpu-model": "AMD EPYC 9354 ",
            "packages": [{"index": 0, "pus": [0, 1, 2, 3]}, {"index": 1, "pus": [4, 5, 6, 7]}],
            "numa-nodes": [
                {"index": 0, "memory-bytes": 8_589_934_592_u64, "pus": [0, 1, 2, 3], "kind": "DRAM", "tier": 4,
                    "bandwidth-mibs": 204_800, "latency-ns": 90, "pages": [{"size-bytes": 2_097_152, "count": 16}]},
                {"index": 1, "memory-bytes": 8_589_934_592_u64, "pus": [4, 5, 6, 7], "kind": "DRAM"},
                {"index": 2, "memory-bytes": 4_294_967_296_u64, "pus": [], "kind": "CXL-DRAM", "tier": 22}],
            "distances": [[10, 21, 31], [21, 10, 31], [31, 31, 10]],
            "caches": [
                {"level": 3, "kind": "unified", "size-bytes": 33_554_432, "pus": [0, 1]},
                {"level": 3, "kind": "unified", "size-bytes": 33_554_432, "pus": [2, 3]},
                {"level": 3, "kind": "unified", "size-bytes": 33_554_432, "pus": [4, 5, 6, 7]}],
            "cores": [
                {"index": 0, "package": 0, "numa-node": 0, "pus": [0, 1]},
                {"index": 1, "package": 0, "numa-node": 0, "pus": [2, 3]},
                {"index": 2, "package": 1, "numa-node": 1, "pus": [4, 6]},
                {"index": 3, "package": 1, "numa-node": 1, "pus": [5, 7]}],
            "pus": 8
        },
        "pci": [
            {"address": "0000:00:01.0", "numa-node": 0},
            {"address": "0000:01:00.0", "parent": "0000:00:01.0", "numa-node": 0},
            {"address": "0000:02:00.0", "parent": "0000:01:00.0", "numa-node": 0,
                "link": {"speed-mts": 32000, "width": 16, "max-speed-mts": 32000, "max-width": 16}},
            {"address": "0000:03:00.0", "parent": "0000:01:00.0", "numa-node": 0,
                "link": {"speed-mts": 16000, "width": 16, "max-speed-mts": 32000, "max-width": 16}},
            {"address": "0000:81:00.0", "numa-node": 1}],
        "gpus": [{"pci": "0000:02:00.0", "vendor": "nvidia", "model": "H100", "memory-bytes": 85_899_345_920_u64, "numa-node": 0,
            "links": [{"peer": "0000:04:00.0", "kind": "nvlink", "lanes": 18}]}],
        "infiniband": [{"name": "mlx5_0", "pci": "0000:03:00.0", "numa-node": 0,
            "ports": [{"number": 1, "state": "ACTIVE", "rate": "400 Gb/sec (4X NDR)"}]}],
        "nics": [{"name": "lan0", "state": "up", "speed-mbits": 25000, "pci": "0000:81:00.0"}, {"name": "bond0", "state": "up"}],
        "disks": [{"name": "sda", "size-bytes": 1_000_204_886_016_u64, "model": "QEMU"}],
        "devices": [{"name": "nvidia.com/gpu=0", "numa-node": 0, "pci": "0000:02:00.0", "source": "built-in", "sick": "ECC"}]
    }));
    expect![[r#"
        n1, AMD EPYC 9354, 16 GiB
        ├─ package 0: 2 cores
        │  └─ NUMA node 0: 8 GiB DRAM, tier 4, 200 GiB/s, 90 ns, 16 × 2 MiB pages
        │     ├─ L3 32 MiB: core 0 (threads 0-1)
        │     ├─ L3 32 MiB: core 1 (threads 2-3)
        │     └─ PCI 0000:00:01.0
        │        ├─ gpu 0000:02:00.0 nvidia H100 80 GiB, 18 × nvlink [nvidia.com/gpu=0 out of service], PCIe 5 ×16 63 GB/s
        │        └─ infiniband mlx5_0 ACTIVE 400 Gb/sec (4X NDR), PCIe 4 ×16 31 GB/s (can do PCIe 5 ×16)
        ├─ package 1: 2 cores
        │  └─ NUMA node 1: 8 GiB DRAM
        │     ├─ L3 32 MiB: cores 2-3 (threads 4-7)
        │     └─ nic lan0 up 25000 Mbit/s
        ├─ NUMA node 2: 4 GiB CXL-DRAM, tier 22, without processors
        └─ disk sda 931 GiB QEMU

        distances of NUMA nodes
        NUMA  0   1   2
        0     10  21  31
        1     21  10  31
        2     31  31  10

        how near GPUs and adapters are
                      0000:02:00.0  mlx5_0
        0000:02:00.0  X             PIX
        mlx5_0        PIX           X
    "#]].assert_eq(&draw(Style::PLAIN, "n1", &inventory));
}

#[test]
fn a_hybrid_processor_and_several_packages_in_one_numa_node() {
    let hybrid = read(json!({"topology": {
        "packages": [{"index": 0, "pus": [0, 1, 2, 3]}],
        "numa-nodes": [{"index": 0, "memory-bytes": 1_073_741_824, "pus": [0, 1, 2, 3]}],
        "cpu-kinds": [{"name": "IntelAtom", "pus": [2, 3]}, {"name": "IntelCore", "pus": [0, 1]}],
        "cores": [{"index": 0, "kind": 1, "pus": [0, 1]}, {"index": 1, "kind": 0, "pus": [2]}, {"index": 2, "kind": 0, "pus": [3]}],
        "pus": 4}}));
    expect![[r#"
        laptop
        └─ package 0
           └─ NUMA node 0: 1 GiB
              ├─ cores 1-2 (threads 2-3) IntelAtom
              └─ core 0 (threads 0-1) IntelCore
    "#]]
    .assert_eq(&draw(Style::PLAIN, "laptop", &hybrid));
    let guest = read(json!({"topology": {
        "packages": [{"index": 0, "pus": [0]}, {"index": 1, "pus": [1]}],
        "numa-nodes": [{"index": 0, "memory-bytes": 1_073_741_824, "pus": [0, 1]}],
        "cores": [{"index": 0, "package": 0, "pus": [0]}, {"index": 1, "package": 1, "pus": [1]}],
        "pus": 2}}));
    expect![[r#"
        guest
        └─ NUMA node 0: 1 GiB
           ├─ package 0, 1 core: core 0 (thread 0)
           └─ package 1, 1 core: core 1 (thread 1)
    "#]]
    .assert_eq(&draw(Style::PLAIN, "guest", &guest));
    assert_eq!(draw(Style::PLAIN, "n1", &Inventory::default()), "n1\n");
}

/// 1,024 PUs in 16 NUMA nodes are drawn in a few lines each.
#[test]
fn a_large_machine_stays_short() {
    let range = |first: u32, count: u32| (first..first + count).collect::<Vec<u32>>();
    let topology = Topology {
        packages: vec![Package { index: 0, pus: range(0, 1024) }],
        numa_nodes: (0..16)
            .map(|index| NumaNode {
                index,
                memory_bytes: 1 << 36,
                pus: range(index * 64, 64),
                ..NumaNode::default()
            })
            .collect(),
        caches: (0..128)
            .map(|index| Cache {
                level: 3,
                size_bytes: 1 << 25,
                pus: range(index * 8, 8),
                ..Cache::default()
            })
            .collect(),
        cores: (0..512)
            .map(|index| Core { index, pus: range(index * 2, 2), ..Core::default() })
            .collect(),
        pus: 1024,
        ..Topology::default()
    };
    let text = draw(Style::PLAIN, "big", &Inventory { topology, ..Inventory::default() });
    assert_eq!(text.lines().count(), 2 + 16 + 128);
}
