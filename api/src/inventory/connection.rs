//! How near two devices are to each other, in the words of `nvidia-smi topo -m`: what a job that
//! gets a GPU and a network adapter wants to be small.

use std::fmt;

use super::Inventory;

/// Most bridges above a device that are looked at: PCI has 256 buses, and a report may lie
/// about its parents.
const MAX_BRIDGES: usize = 256;

/// What is between two devices, the nearest first. `NVLink` counts as nearer than any PCI way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Connection {
    /// They are the same device (`X`).
    Same,
    /// So many links of `NVLink`, or of xGMI between GPUs of AMD (`NV#`).
    NvLink(u32),
    /// One bridge at most: the same switch (`PIX`).
    Pix,
    /// Several bridges, and not the host bridge (`PXB`).
    Pxb,
    /// A host bridge (`PHB`).
    Phb,
    /// Several host bridges in one NUMA node (`NODE`).
    Node,
    /// The way between NUMA nodes (`SYS`).
    Sys,
}

impl fmt::Display for Connection {
    /// As `nvidia-smi topo -m` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NvLink(lanes) => f.pad(&format!("NV{lanes}")),
            Self::Same => f.pad("X"),
            Self::Pix => f.pad("PIX"),
            Self::Pxb => f.pad("PXB"),
            Self::Phb => f.pad("PHB"),
            Self::Node => f.pad("NODE"),
            Self::Sys => f.pad("SYS"),
        }
    }
}

/// How near the devices at two PCI addresses are. Of addresses that the inventory does not have, it
/// knows only whether they are the same and which bus they are on.
#[must_use]
pub fn connection(inventory: &Inventory, pci_a: &str, pci_b: &str) -> Connection {
    if pci_a == pci_b {
        return Connection::Same;
    }
    if let Some(lanes) = lanes(inventory, pci_a, pci_b).or_else(|| lanes(inventory, pci_b, pci_a)) {
        return Connection::NvLink(lanes);
    }
    let (bridges_a, bridges_b) = (bridges(inventory, pci_a), bridges(inventory, pci_b));
    let common = bridges_a.iter().enumerate().find_map(|(height, bridge)| {
        let other = bridges_b.iter().position(|other| other == bridge)?;
        Some(height.max(other))
    });
    match common {
        // Two ports of a switch below its upper port, or two functions of one card.
        Some(0 | 1) => return Connection::Pix,
        Some(_) => return Connection::Pxb,
        None => {}
    }
    if root_bus(pci_a, &bridges_a) == root_bus(pci_b, &bridges_b) {
        return Connection::Phb;
    }
    let node = |address: &str| inventory.pci_device(address).and_then(|device| device.numa_node);
    let is_one_node = match (node(pci_a), node(pci_b)) {
        (Some(one), Some(other)) => one == other,
        _ => inventory.topology.numa_nodes.len() == 1,
    };
    if is_one_node { Connection::Node } else { Connection::Sys }
}

fn lanes(inventory: &Inventory, from: &str, to: &str) -> Option<u32> {
    let gpu = inventory.gpus.iter().find(|gpu| gpu.pci == from)?;
    gpu.links.iter().find(|link| link.peer == to).map(|link| link.lanes)
}

/// The bridges above a device, the nearest first.
fn bridges<'a>(inventory: &'a Inventory, address: &str) -> Vec<&'a str> {
    let mut above = Vec::new();
    let mut next = inventory.pci_device(address).and_then(|device| device.parent.as_deref());
    while let Some(bridge) = next {
        if above.len() == MAX_BRIDGES || above.contains(&bridge) {
            break;
        }
        above.push(bridge);
        next = inventory.pci_device(bridge).and_then(|device| device.parent.as_deref());
    }
    above
}

/// Domain and bus of what is right below the host bridge: `0000:15`.
fn root_bus<'a>(address: &'a str, bridges: &[&'a str]) -> &'a str {
    let top = bridges.last().copied().unwrap_or(address);
    top.rsplit_once(':').map_or(top, |(bus, _)| bus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Gpu, GpuLink, NumaNode, PciDevice};

    /// `ADDRESS` below `PARENT`, of a NUMA node.
    fn machine(devices: &[(&str, Option<&str>, u32)]) -> Inventory {
        let device = |(address, parent, node): &(&str, Option<&str>, u32)| PciDevice {
            address: (*address).to_owned(),
            parent: parent.map(str::to_owned),
            numa_node: Some(*node),
            ..PciDevice::default()
        };
        Inventory { pci: devices.iter().map(device).collect(), ..Inventory::default() }
    }

    /// Rows and columns of devices, as `topo -m` prints them.
    fn matrix(inventory: &Inventory, devices: &[&str]) -> String {
        let row = |from: &&str| {
            let cells: Vec<String> =
                devices.iter().map(|to| connection(inventory, from, to).to_string()).collect();
            cells.join(" ")
        };
        devices.iter().map(row).collect::<Vec<_>>().join("\n")
    }

    fn link(inventory: &mut Inventory, addresses: &[&str], lanes: u32) {
        for from in addresses {
            let peers = addresses.iter().filter(|to| *to != from);
            let links = peers.map(|peer| GpuLink {
                peer: (*peer).to_owned(),
                kind: "nvlink".to_owned(),
                lanes,
            });
            inventory.gpus.push(Gpu {
                pci: (*from).to_owned(),
                links: links.collect(),
                ..Gpu::default()
            });
        }
    }

    /// Half of a DGX H100: each GPU shares a switch with its adapter.
    #[test]
    fn each_gpu_of_a_dgx_h100_is_beside_one_adapter() {
        // Root port, upper port of the switch, its lower ports, what is below these; NUMA node.
        let groups = [
            (
                [
                    "0000:15:01.0",
                    "0000:16:00.0",
                    "0000:17:00.0",
                    "0000:17:01.0",
                    "0000:18:00.0",
                    "0000:1b:00.0",
                ],
                0,
            ),
            (
                [
                    "0000:37:01.0",
                    "0000:38:00.0",
                    "0000:39:00.0",
                    "0000:39:01.0",
                    "0000:40:00.0",
                    "0000:43:00.0",
                ],
                0,
            ),
            (
                [
                    "0000:97:01.0",
                    "0000:98:00.0",
                    "0000:99:00.0",
                    "0000:99:01.0",
                    "0000:9a:00.0",
                    "0000:9d:00.0",
                ],
                1,
            ),
            (
                [
                    "0000:bd:01.0",
                    "0000:be:00.0",
                    "0000:bf:00.0",
                    "0000:bf:01.0",
                    "0000:c0:00.0",
                    "0000:c3:00.0",
                ],
                1,
            ),
        ];
        let below = [None, Some(0), Some(1), Some(1), Some(2), Some(3)];
        let devices: Vec<_> = groups
            .iter()
            .flat_map(|(group, node)| {
                group
                    .iter()
                    .zip(below)
                    .map(|(address, parent)| (*address, parent.map(|at: usize| group[at]), *node))
            })
            .collect();
        let mut inventory = machine(&devices);
        let gpus: Vec<&str> = groups.iter().map(|(group, _)| group[5]).collect();
        link(&mut inventory, &gpus, 18);
        let adapters = groups.iter().map(|(group, _)| group[4]);
        let all: Vec<&str> = gpus.iter().copied().chain(adapters).collect();
        let expected = "X NV18 NV18 NV18 PIX NODE SYS SYS\n\
                        NV18 X NV18 NV18 NODE PIX SYS SYS\n\
                        NV18 NV18 X NV18 SYS SYS PIX NODE\n\
                        NV18 NV18 NV18 X SYS SYS NODE PIX\n\
                        PIX NODE SYS SYS X NODE SYS SYS\n\
                        NODE PIX SYS SYS NODE X SYS SYS\n\
                        SYS SYS PIX NODE SYS SYS X NODE\n\
                        SYS SYS NODE PIX SYS SYS NODE X";
        assert_eq!(matrix(&inventory, &all), expected);
    }

    /// A quarter of a DGX A100: two GPUs below one switch, two adapters below another,
    /// both below a third.
    #[test]
    fn switches_below_switches_are_farther() {
        let inventory = machine(&[
            ("0000:00:01.1", None, 3),
            ("0000:01:00.0", Some("0000:00:01.1"), 3),
            ("0000:02:00.0", Some("0000:01:00.0"), 3),
            ("0000:02:04.0", Some("0000:01:00.0"), 3),
            ("0000:03:00.0", Some("0000:02:00.0"), 3),
            ("0000:04:00.0", Some("0000:03:00.0"), 3),
            ("0000:04:10.0", Some("0000:03:00.0"), 3),
            ("0000:07:00.0", Some("0000:04:00.0"), 3),
            ("0000:0f:00.0", Some("0000:04:10.0"), 3),
            ("0000:08:00.0", Some("0000:02:04.0"), 3),
            ("0000:09:00.0", Some("0000:08:00.0"), 3),
            ("0000:0c:00.0", Some("0000:09:00.0"), 3),
        ]);
        let expected = "X PIX PXB\nPIX X PXB\nPXB PXB X";
        assert_eq!(matrix(&inventory, &["0000:07:00.0", "0000:0f:00.0", "0000:0c:00.0"]), expected);
    }

    /// Adapters with two ports, each card on a root port of its own, as four GPUs are; of two host
    /// bridges in each of two nodes.
    #[test]
    fn cards_on_root_ports() {
        let inventory = machine(&[
            ("0000:00:03.1", None, 0),
            ("0000:01:00.0", Some("0000:00:03.1"), 0),
            ("0000:20:03.1", None, 0),
            ("0000:21:00.0", Some("0000:20:03.1"), 0),
            ("0000:20:01.1", None, 0),
            ("0000:22:00.0", Some("0000:20:01.1"), 0),
            ("0000:22:00.1", Some("0000:20:01.1"), 0),
            ("0000:80:03.1", None, 1),
            ("0000:81:00.0", Some("0000:80:03.1"), 1),
        ]);
        let all = ["0000:01:00.0", "0000:21:00.0", "0000:22:00.0", "0000:22:00.1", "0000:81:00.0"];
        let expected = "X NODE NODE NODE SYS\n\
                        NODE X PHB PHB SYS\n\
                        NODE PHB X PIX SYS\n\
                        NODE PHB PIX X SYS\n\
                        SYS SYS SYS SYS X";
        assert_eq!(matrix(&inventory, &all), expected);
    }

    #[test]
    fn a_virtual_machine_has_one_host_bridge_and_no_numa() {
        let mut inventory = machine(&[]);
        for address in ["0000:00:05.0", "0000:00:06.0", "0001:00:00.0"] {
            inventory.pci.push(PciDevice { address: address.to_owned(), ..PciDevice::default() });
        }
        assert_eq!(connection(&inventory, "0000:00:05.0", "0000:00:06.0"), Connection::Phb);
        assert_eq!(connection(&inventory, "0000:00:05.0", "0001:00:00.0"), Connection::Sys);
        inventory.topology.numa_nodes.push(NumaNode::default());
        assert_eq!(connection(&inventory, "0000:00:05.0", "0001:00:00.0"), Connection::Node);
    }

    #[test]
    fn parents_that_lie_end() {
        let inventory = machine(&[
            ("a:b:0", Some("a:c:0"), 0),
            ("a:c:0", Some("a:b:0"), 0),
            ("x", Some("x"), 0),
        ]);
        assert_eq!(connection(&inventory, "a:b:0", "x"), Connection::Node);
        assert_eq!(connection(&inventory, "", "nothing"), Connection::Sys);
        assert_eq!(connection(&Inventory::default(), "", ""), Connection::Same);
    }

    #[test]
    fn nearer_is_less() {
        assert!(Connection::NvLink(4) < Connection::Pix && Connection::Node < Connection::Sys);
        assert_eq!(Connection::NvLink(18).to_string(), "NV18");
    }
}
