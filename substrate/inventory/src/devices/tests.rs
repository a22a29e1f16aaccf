//! Which names count as devices, and which nodes are theirs alone.

use super::*;

/// A node with a spec of devices `(name, nodes)` of one kind, and nodes for all of them.
fn offered(devices: &[(&str, &[&str])]) -> Vec<Offer> {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc/cdi")).unwrap();
    std::fs::create_dir_all(root.path().join("dev")).unwrap();
    let mut text =
        "cdiVersion: 0.6.0\nkind: v.com/c\ncontainerEdits: {deviceNodes: [{path: /dev/ctl}]}\ndevices:\n"
            .to_owned();
    std::fs::write(root.path().join("dev/ctl"), "").unwrap();
    for (name, nodes) in devices {
        let paths: Vec<String> =
            nodes.iter().map(|node| format!("{{path: /dev/{node}}}")).collect();
        text += &format!(
            "  - {{name: \"{name}\", containerEdits: {{deviceNodes: [{}]}}}}\n",
            paths.join(", ")
        );
        for node in *nodes {
            std::fs::write(root.path().join("dev").join(node), "").unwrap();
        }
    }
    std::fs::write(root.path().join("etc/cdi/v.yaml"), text).unwrap();
    offers(root.path())
}

/// Names that count with the nodes that are theirs alone.
fn own(offers: &[Offer]) -> Vec<String> {
    let told = |offer: &Offer| {
        let own = offer
            .edits
            .nodes
            .iter()
            .filter(|node| !node.shared)
            .map(|node| node.path.trim_start_matches("/dev/"));
        format!("{}: {}", offer.name.name(), own.collect::<Vec<_>>().join(" "))
    };
    offers.iter().filter(|offer| offer.counts).map(told).collect()
}

#[test]
fn other_names_and_groups_do_not_count() {
    let offers = offered(&[
        ("all", &["gpu0", "gpu1", "gpu10"]),
        ("10", &["gpu10"]),
        ("GPU-x", &["gpu0"]),
        ("1", &["gpu1"]),
        ("0", &["gpu0"]),
    ]);
    assert_eq!(own(&offers), ["0: gpu0", "1: gpu1", "10: gpu10"]);
    // What is asked for by another name is still what it is.
    let all = offers.iter().find(|offer| offer.name.name() == "all").unwrap();
    assert_eq!(all.edits.nodes.iter().filter(|node| !node.shared).count(), 3);
    // One GPU alone has three names.
    assert_eq!(
        own(&offered(&[("all", &["gpu0"]), ("GPU-x", &["gpu0"]), ("0", &["gpu0"])])),
        ["0: gpu0"]
    );
}

#[test]
fn parts_of_a_gpu_share_its_node() {
    let offers = offered(&[
        ("0:0", &["gpu0", "cap1", "cap2"]),
        ("0:1", &["gpu0", "cap3", "cap4"]),
        ("MIG-x", &["gpu0", "cap1", "cap2"]),
        ("all", &["gpu0", "cap1", "cap2", "cap3", "cap4"]),
    ]);
    assert_eq!(own(&offers), ["0:0: cap1 cap2", "0:1: cap3 cap4"]);
}

#[test]
fn devices_without_nodes_count_by_name() {
    assert_eq!(own(&offered(&[("a", &[]), ("b", &[]), ("c", &["x"])])), ["a: ", "b: ", "c: x"]);
}
