//! Whole machines: captures in, inventory out.
//!
//! `captures/NAME/tree` is a file system, one entry a line: `path = text`, `path = hex DIGITS`,
//! `path -> target` for a link, `path <<` for lines up to a single `.`; `#` starts a comment.
//! Directories are made as needed. What else lies in `captures/NAME` is copied beside it. The
//! values are public facts of such machines, written down by hand.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod health;
mod matrix;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

mod limits;

use api::inventory::Inventory;
use expect_test::{Expect, expect_file};

fn unpack(name: &str) -> tempfile::TempDir {
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/captures").join(name);
    let root = tempfile::tempdir().unwrap();
    let make = |path: &str| -> PathBuf {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    let text = fs::read_to_string(capture.join("tree")).unwrap();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('#') {
        } else if let Some((path, target)) = line.split_once(" -> ") {
            symlink(target, make(path)).unwrap();
        } else if let Some(path) = line.strip_suffix(" <<") {
            let lines: Vec<_> = lines.by_ref().take_while(|line| *line != ".").collect();
            fs::write(make(path), lines.join("\n")).unwrap();
        } else if let Some((path, digits)) = line.split_once(" = hex ") {
            let digits: Vec<_> = digits.chars().filter_map(|c| c.to_digit(16)).collect();
            let bytes: Vec<_> = digits
                .chunks(2)
                .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
                .collect();
            fs::write(make(path), bytes).unwrap();
        } else {
            let (path, value) =
                line.split_once(" = ").unwrap_or_else(|| panic!("{name}: {line:?}"));
            fs::write(make(path), format!("{value}\n")).unwrap();
        }
    }
    for file in fs::read_dir(&capture).unwrap().map(Result::unwrap) {
        if file.path().extension().is_none_or(|suffix| suffix == "xml" || suffix == "txt") {
            fs::copy(file.path(), root.path().join(file.file_name())).unwrap();
        }
    }
    root
}

fn text(inventory: &Inventory) -> String {
    let text = serde_json::to_string_pretty(inventory).unwrap();
    // What goes over the wire comes back as it was.
    assert_eq!(&serde_json::from_str::<Inventory>(&text).unwrap(), inventory);
    text
}

fn check(name: &str, expected: &expect_test::ExpectFile) {
    expected.assert_eq(&text(&inventory::collect(unpack(name).path())));
}

#[test]
fn an_infiniband_node() {
    check("infiniband", &expect_file!["captures/infiniband/expected.json"]);
}

#[test]
fn an_eight_gpu_server() {
    check("nvidia", &expect_file!["captures/nvidia/expected.json"]);
}

#[test]
fn a_virtual_machine() {
    check("qemu", &expect_file!["captures/qemu/expected.json"]);
}

#[test]
fn a_node_with_amd_gpus() {
    check("amd", &expect_file!["captures/amd/expected.json"]);
}

#[test]
fn a_dgx_with_its_fabric() {
    check("dgx-h100", &expect_file!["captures/dgx-h100/expected.json"]);
}

#[test]
fn a_storage_node() {
    check("storage", &expect_file!["captures/storage/expected.json"]);
}

#[test]
fn a_notebook_with_its_disk() {
    check("notebook", &expect_file!["captures/notebook/expected.json"]);
}

#[test]
fn a_node_with_eight_numa_nodes() {
    check("epyc-nps4", &expect_file!["captures/epyc-nps4/expected.json"]);
}

#[test]
fn a_node_with_hbm_beside_its_dram() {
    check("xeon-max", &expect_file!["captures/xeon-max/expected.json"]);
}

#[test]
fn a_node_with_the_memory_of_its_gpu() {
    check("grace-hopper", &expect_file!["captures/grace-hopper/expected.json"]);
}

#[test]
fn a_laptop_with_two_kinds_of_cores() {
    check("laptop", &expect_file!["captures/laptop/expected.json"]);
}

#[test]
fn numa_nodes_without_memory_or_processors() {
    check("vm-sockets", &expect_file!["captures/vm-sockets/expected.json"]);
}

#[test]
fn devices_of_cdi_specs() {
    check("cdi", &expect_file!["captures/cdi/expected.json"]);
}

/// What a job gets with one GPU of the spec in the directory that counts more.
#[test]
fn a_granted_gpu_brings_its_driver() {
    let offers = inventory::devices::offers(unpack("cdi").path());
    let gpu = offers.iter().find(|offer| offer.name.to_string() == "nvidia.com/gpu=1").unwrap();
    expect_file!["captures/cdi/gpu-1.txt"].assert_debug_eq(gpu);
}

#[test]
fn the_driver_is_asked_again_only_when_its_gpus_change() {
    let root = unpack("nvidia");
    let memory = |inventory: &Inventory| inventory.gpus[0].memory_bytes;
    let mut collector =
        inventory::Collector::new(root.path(), Box::new(inventory::ioctls::Captured::default()));
    assert_eq!(memory(&collector.collect(inventory::Parts::ALL)), Some(81_559 << 20));

    let report = root.path().join("nvidia-smi.xml");
    let changed = fs::read_to_string(&report).unwrap().replace("81559 MiB", "40000 MiB");
    fs::write(&report, changed).unwrap();
    assert_eq!(memory(&collector.collect(inventory::Parts::ALL)), Some(81_559 << 20));

    fs::remove_file(root.path().join("proc/driver/nvidia/gpus/0000:d1:00.0/information")).unwrap();
    assert_eq!(memory(&collector.collect(inventory::Parts::ALL)), Some(40_000 << 20));
}

#[test]
fn a_driver_that_does_not_answer_is_left_in_peace() {
    let root = unpack("nvidia");
    let (report, away) = (root.path().join("nvidia-smi.xml"), root.path().join("away.xml"));
    fs::rename(&report, &away).unwrap();
    let mut collector =
        inventory::Collector::new(root.path(), Box::new(inventory::ioctls::Captured::default()));
    for _ in 0..3 {
        let inventory = collector.collect(inventory::Parts::ALL);
        assert_eq!(inventory.gpus[0].model.as_deref(), Some("NVIDIA H100 80GB HBM3"));
        assert!(
            inventory.gaps.iter().any(|gap| gap.subject == "nvidia-smi"),
            "{:?}",
            inventory.gaps
        );
    }
    // It was asked often enough, so that it could answer now is not noticed, and the gap stays.
    fs::rename(&away, &report).unwrap();
    let inventory = collector.collect(inventory::Parts::ALL);
    assert_eq!(inventory.gpus[0].memory_bytes, None);
    assert!(inventory.gaps.iter().any(|gap| gap.subject == "nvidia-smi"), "{:?}", inventory.gaps);
}

#[test]
fn an_empty_root_gives_an_empty_inventory() {
    let root = tempfile::tempdir().unwrap();
    let inventory = inventory::collect(root.path());
    let expected: Expect = expect_test::expect![[r#"
        [
            Gap {
                subject: "/topology.xml",
                cause: "not in the capture, or larger than 16 MiB",
            },
        ]
    "#]];
    expected.assert_debug_eq(&inventory.gaps);
    assert_eq!((inventory.memory_bytes, inventory.pci.len(), inventory.nics.len()), (0, 0, 0));
}

#[test]
fn this_machine() {
    let inventory = inventory::collect(Path::new("/"));
    assert!(inventory.memory_bytes > 0 && inventory.topology.pus > 0, "{inventory:?}");
    assert!(inventory.os.kernel.is_some() && inventory.os.architecture.is_some(), "{inventory:?}");
    text(&inventory);
}
