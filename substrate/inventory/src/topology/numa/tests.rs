//! NUMA nodes of made-up kernels, also of some that lie.

use std::{fs, os::unix::fs::symlink, path::Path};

use api::inventory::Core;

use super::*;

/// A kernel with two nodes, of which the second has no processors, and further files.
fn kernel(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let usual = [("online", "0-1"), ("node0/cpulist", "0-1"), ("node1/cpulist", "")];
    for (path, text) in usual.iter().chain(files) {
        let path = match path.strip_prefix('/') {
            Some(path) => root.path().join(path),
            None => root.path().join(&DIRECTORY[1..]).join(path),
        };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    root
}

/// What hwloc has of it: both nodes near both processors.
fn hwloc() -> Topology {
    let node = |index| NumaNode {
        index,
        memory_bytes: 1 << 30,
        pus: vec![0, 1],
        pages: vec![PageType { size_bytes: 4096, count: 262_144 }],
        ..NumaNode::default()
    };
    let core = |index| Core { index, numa_node: Some(0), pus: vec![index], ..Core::default() };
    Topology {
        numa_nodes: vec![node(1), node(0)],
        cores: vec![core(0), core(1)],
        ..Topology::default()
    }
}

fn completed(root: &Path, mut topology: Topology) -> (Topology, Vec<String>) {
    let mut read = Reader::new(root);
    add(&mut read, &mut topology);
    let gaps =
        read.into_gaps().iter().map(|gap| format!("{}: {}", gap.subject, gap.cause)).collect();
    (topology, gaps)
}

fn kinds_of(topology: &Topology) -> Vec<Option<&str>> {
    topology.numa_nodes.iter().map(|node| node.kind.as_deref()).collect()
}

#[test]
fn the_kernel_says_whose_processors_are_whose() {
    let root = kernel(&[("node0/distance", "10 20"), ("node1/distance", "20 10")]);
    let (topology, gaps) = completed(root.path(), hwloc());
    let nodes: Vec<_> =
        topology.numa_nodes.iter().map(|node| (node.index, node.pus.as_slice())).collect();
    assert_eq!(nodes, [(0, [0, 1].as_slice()), (1, [].as_slice())]);
    assert_eq!(topology.distances, [[10, 20], [20, 10]]);
    assert_eq!((kinds_of(&topology), gaps), (vec![None, None], vec![]));
}

#[test]
fn without_the_kernel_hwloc_stands() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(completed(root.path(), hwloc()), (hwloc(), vec![]));
}

#[test]
fn the_bandwidth_of_processors_comes_before_that_of_devices() {
    let root = kernel(&[
        ("node0/access0/initiators/read_bandwidth", "1000"),
        ("node0/access1/initiators/read_bandwidth", "800"),
        ("node0/access1/initiators/read_latency", "100"),
        ("node1/access0/initiators/read_bandwidth", "1600"),
        ("node1/access0/initiators/read_latency", "0"),
    ]);
    let (topology, gaps) = completed(root.path(), hwloc());
    let told: Vec<_> =
        topology.numa_nodes.iter().map(|node| (node.bandwidth_mibs, node.latency_ns)).collect();
    assert_eq!(told, [(Some(800), Some(100)), (Some(1600), None)]);
    assert_eq!((kinds_of(&topology), gaps), (vec![Some("DRAM"), Some("HBM")], vec![]));
}

#[test]
fn memory_of_a_processor_with_hbm() {
    let model = Some("Intel(R) Xeon(R) CPU Max 9480".to_owned());
    let (topology, _) = completed(kernel(&[]).path(), Topology { cpu_model: model, ..hwloc() });
    assert_eq!(kinds_of(&topology), [Some("DRAM"), Some("HBM")]);
}

#[test]
fn memory_that_a_driver_gave() {
    for (device, kind) in [
        (
            "sys/devices/platform/ACPI0017:00/root0/decoder0.0/region0/dax_region0/dax0.0",
            "CXL-DRAM",
        ),
        ("sys/devices/LNXSYSTM:00/ACPI0012:00/ndbus0/region0/dax0.1/dax0.0", "NVM"),
    ] {
        let root = kernel(&[(&format!("/{device}/target_node"), "1")]);
        fs::create_dir_all(root.path().join(&DAX[1..])).unwrap();
        symlink(root.path().join(device), root.path().join(&DAX[1..]).join("dax0.0")).unwrap();
        assert_eq!(kinds_of(&completed(root.path(), hwloc()).0), [Some("DRAM"), Some(kind)]);
    }
    let root =
        kernel(&[("/proc/driver/nvidia/gpus/0009:01:00.0/numa_status", "Node: 1\nStatus: online")]);
    assert_eq!(kinds_of(&completed(root.path(), hwloc()).0), [Some("DRAM"), Some("GPUMemory")]);
}

#[test]
fn a_node_that_hwloc_leaves_out() {
    let root = kernel(&[
        ("online", "0-2"),
        ("node2/cpulist", "1"),
        ("node2/meminfo", "Node 2 MemTotal:       8192 kB\nNode 2 MemFree: 1 kB"),
        ("node2/hugepages/hugepages-2048kB/nr_hugepages", "2"),
        ("node2/hugepages/hugepages-junk/nr_hugepages", "-1"),
    ]);
    let (topology, gaps) = completed(root.path(), hwloc());
    let expected = NumaNode {
        index: 2,
        memory_bytes: 8 << 20,
        pus: vec![1],
        pages: vec![
            PageType { size_bytes: 4096, count: 1024 },
            PageType { size_bytes: 2 << 20, count: 2 },
        ],
        ..NumaNode::default()
    };
    assert_eq!((topology.numa_nodes.get(2), gaps), (Some(&expected), vec![]));
    let nodes: Vec<_> = topology.cores.iter().map(|core| core.numa_node).collect();
    assert_eq!(nodes, [Some(0), Some(2)]);
}

#[test]
fn memory_without_processors_may_have_the_lowest_index() {
    let root = kernel(&[("node0/cpulist", ""), ("node1/cpulist", "0-1")]);
    let (topology, _) = completed(root.path(), hwloc());
    assert!(topology.cores.iter().all(|core| core.numa_node == Some(1)), "{:?}", topology.cores);
}

#[test]
fn lies_are_gaps() {
    let root = kernel(&[
        ("online", "0-2"),
        ("node0/cpulist", "0-4294967295"),
        ("node1/cpulist", "x"),
        ("node2/meminfo", "MemTotal: lots"),
        ("node0/access0/initiators/read_bandwidth", "-3"),
        ("node1/access1/initiators/read_latency", "fast"),
        ("node0/distance", "10 20"),
        ("/sys/devices/virtual/memory_tiering/memory_tier4/nodelist", "0,,2"),
        ("/sys/devices/virtual/memory_tiering/memory_tierX/nodelist", "0"),
        ("/proc/driver/nvidia/gpus/0009:01:00.0/numa_status", "Node: -1"),
    ]);
    let (topology, gaps) = completed(root.path(), hwloc());
    assert_eq!((topology.numa_nodes.len(), topology.distances), (3, Vec::<Vec<u32>>::new()));
    expect_test::expect![[r#"
        /sys/devices/system/node/node2/meminfo: no MemTotal
        /sys/devices/system/node/node0/cpulist: not a list: "0-4294967295"
        /sys/devices/system/node/node1/cpulist: not a list: "x"
        /sys/devices/system/node/node1/access1/initiators/read_latency: not a number: "fast"
        /sys/devices/virtual/memory_tiering/memory_tier4/nodelist: not a list: "0,,2"
        /sys/devices/system/node/node0/distance: not 3 distances"#]]
    .assert_eq(&gaps.join("\n"));
}

#[test]
fn nodes_are_bounded() {
    let root = kernel(&[("online", "0-8000")]);
    let (topology, gaps) = completed(root.path(), hwloc());
    assert_eq!(topology.numa_nodes.len(), MAX_NODES);
    assert_eq!(gaps[0], "/sys/devices/system/node/online: more than 1024 NUMA nodes");
}
