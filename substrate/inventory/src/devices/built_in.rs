//! Devices that are known without a CDI spec: GPUs of NVIDIA and AMD, and InfiniBand
//! and RoCE adapters.
//!
//! | kind | one for each | its own node | with all of the kind |
//! |---|---|---|---|
//! | `nvidia.com/gpu` | GPU of `/proc/driver/nvidia/gpus` | `/dev/nvidiaN`, by `Device Minor` | `/dev/nvidiactl` and others |
//! | `amd.com/gpu` | DRM render node with the driver `amdgpu` | `/dev/dri/renderDN` | `/dev/kfd` |
//! | `rdma/hca` | adapter of `/sys/class/infiniband_verbs` | `/dev/infiniband/uverbsN` | `/dev/infiniband/rdma_cm` |
//!
//! Libraries of a driver are not brought along: what belongs to it only its vendor's tools know.

use std::collections::BTreeMap;

use api::device::DeviceName;

use crate::{
    edits::{Edits, Node},
    read::{Reader, is_pci_address},
};

const NVIDIA: &str = "/proc/driver/nvidia/gpus";
const DRM: &str = "/sys/class/drm";
const VERBS: &str = "/sys/class/infiniband_verbs";

/// Nodes of NVIDIA's driver that every program of it opens; which of them exist depends on the
/// modules loaded.
const OF_NVIDIA: [&str; 4] =
    ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];

/// Classes in which a device node has a directory of its name.
const CLASSES: [&str; 3] = [DRM, VERBS, "/sys/class/accel"];

/// All of them: name, what is its own, and what all of its kind get.
pub(super) fn all(read: &mut Reader<'_>) -> Vec<(DeviceName, Edits, Edits)> {
    let mut found = Vec::new();
    for (minor, _) in nvidia_minors(read) {
        let mut of_all = nodes_that_exist(read, &OF_NVIDIA);
        // As CDI specs do it: the image's own wish, often `all`, is not what the job gets.
        of_all.env.push("NVIDIA_VISIBLE_DEVICES=void".to_owned());
        add(
            &mut found,
            "nvidia.com/gpu",
            &minor.to_string(),
            &format!("/dev/nvidia{minor}"),
            of_all,
        );
    }
    let mut renderers: Vec<u32> = Vec::new();
    for name in read.names(DRM) {
        let is_amd =
            read.link_name(&format!("{DRM}/{name}/device/driver")).as_deref() == Some("amdgpu");
        renderers.extend(
            name.strip_prefix("renderD")
                .and_then(|minor| minor.parse::<u32>().ok())
                .filter(|_| is_amd),
        );
    }
    renderers.sort_unstable();
    for (index, minor) in renderers.iter().enumerate() {
        let of_all = nodes_that_exist(read, &["/dev/kfd"]);
        add(
            &mut found,
            "amd.com/gpu",
            &index.to_string(),
            &format!("/dev/dri/renderD{minor}"),
            of_all,
        );
    }
    for verb in read.names(VERBS) {
        let Some(adapter) = read.text(&format!("{VERBS}/{verb}/ibdev")) else { continue };
        let of_all = nodes_that_exist(read, &["/dev/infiniband/rdma_cm"]);
        add(&mut found, "rdma/hca", &adapter, &format!("/dev/infiniband/{verb}"), of_all);
    }
    found
}

fn add(
    found: &mut Vec<(DeviceName, Edits, Edits)>,
    kind: &str,
    name: &str,
    node: &str,
    of_all: Edits,
) {
    // Kernel names are names; an adapter whose is none cannot be asked for.
    let name = kind.parse().and_then(|kind| DeviceName::new(kind, name));
    if let Ok(name) = name {
        found.push((
            name,
            Edits { nodes: vec![Node::at(node, false)], ..Edits::default() },
            of_all,
        ));
    }
}

fn nodes_that_exist(read: &Reader<'_>, paths: &[&str]) -> Edits {
    let nodes = paths.iter().filter(|path| read.exists(path)).map(|path| Node::at(path, true));
    Edits { nodes: nodes.collect(), ..Edits::default() }
}

/// PCI addresses of NVIDIA's GPUs by the minor number of their nodes.
pub(super) fn nvidia_minors(read: &mut Reader<'_>) -> BTreeMap<u32, String> {
    let mut minors = BTreeMap::new();
    for address in read.names(NVIDIA).into_iter().filter(|name| is_pci_address(name)) {
        let text = read.text(&format!("{NVIDIA}/{address}/information")).unwrap_or_default();
        let minor = text
            .lines()
            .find_map(|line| line.strip_prefix("Device Minor")?.trim_start().strip_prefix(':'));
        if let Some(minor) = minor.and_then(|minor| minor.trim().parse().ok()) {
            minors.insert(minor, address);
        }
    }
    minors
}

/// PCI address of the device behind a node, as far as the kernel tells.
pub(super) fn pci_address(
    read: &Reader<'_>,
    node: &str,
    minors: &BTreeMap<u32, String>,
) -> Option<String> {
    let name = node.rsplit('/').next()?;
    if let Some(minor) = name.strip_prefix("nvidia").and_then(|minor| minor.parse::<u32>().ok()) {
        return minors.get(&minor).cloned();
    }
    CLASSES.iter().find_map(|class| read.pci_address(&format!("{class}/{name}/device")))
}
