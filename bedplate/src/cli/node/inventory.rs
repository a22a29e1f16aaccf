//! `node inventory`: hardware as people describe it.

use std::{collections::BTreeMap, fmt::Write as _};

use api::{
    device::GrantableDevice,
    inventory::{Disk, Gpu, Infiniband, Inventory, Nic, Topology},
};
use client::Client;
use comfy_table::Cell;

use super::{
    super::{
        context::Session,
        table::{Look, cells, pairs, table},
        words::{count, or_dash, ranges, size},
    },
    Nodes,
    show::one_or_many,
};

pub(super) async fn run(session: &Session, client: &Client, nodes: &Nodes) -> anyhow::Result<()> {
    let names = nodes.names()?;
    let mut inventories = Vec::new();
    for name in &names {
        inventories.push(client.inventory(name).await?);
    }
    let mut names = names.iter();
    let names = std::cell::RefCell::new(&mut names);
    one_or_many(session, &inventories, |look, inventory| {
        let name = names.borrow_mut().next().map(ToString::to_string).unwrap_or_default();
        format!("{name}\n{}", summary(look, inventory))
    })
}

/// The whole of it on a page.
fn summary(look: Look, inventory: &Inventory) -> String {
    let Inventory { system, firmware, os, topology, .. } = inventory;
    let mut lines = Vec::new();
    let mut add = |name, value: String| {
        if !value.is_empty() {
            lines.push((name, Cell::new(value)));
        }
    };
    add("system", words([&system.vendor, &system.product]));
    add("serial number", system.serial.clone().unwrap_or_default());
    add("firmware", words([&firmware.boot_mode, &firmware.vendor, &firmware.version]));
    add("system software", words([&os.name, &os.kernel, &os.architecture]));
    add("processors", processors(topology));
    add("caches", caches(topology));
    add("memory", if inventory.memory_bytes == 0 { String::new() } else { size(inventory.memory_bytes) });
    add(
        "PCI devices",
        if inventory.pci.is_empty() { String::new() } else { inventory.pci.len().to_string() },
    );
    let mut text = pairs(look, &lines);
    for part in [
        numa(look, topology),
        nics(look, &inventory.nics),
        disks(look, &inventory.disks),
        gpus(look, &inventory.gpus),
        infiniband(look, &inventory.infiniband),
        devices(look, &inventory.devices),
    ] {
        if !part.is_empty() {
            text.push('\n');
            text.push_str(&part);
        }
    }
    if !inventory.gaps.is_empty() {
        text.push_str("\nnot known:\n");
        for gap in &inventory.gaps {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {}: {}", gap.subject, gap.cause);
        }
    }
    text
}

fn words<const N: usize>(parts: [&Option<String>; N]) -> String {
    parts.into_iter().flatten().map(|part| part.trim()).collect::<Vec<_>>().join(", ")
}

/// `2 packages, 64 cores, 128 threads, AMD EPYC 9354`.
fn processors(topology: &Topology) -> String {
    if topology.pus == 0 {
        return String::new();
    }
    let counts = format!(
        "{}, {}, {}",
        count(topology.packages.len(), "package"),
        count(topology.cores.len(), "core"),
        count(usize::try_from(topology.pus).unwrap_or(usize::MAX), "thread")
    );
    topology.cpu_model.iter().fold(counts, |counts, model| format!("{counts}, {}", model.trim()))
}

/// `2 × 32 MiB L3, 16 × 1 MiB L2`: caches of data, largest first.
fn caches(topology: &Topology) -> String {
    let mut kinds: BTreeMap<(u8, u64), usize> = BTreeMap::new();
    for cache in topology.caches.iter().filter(|cache| cache.kind != "instruction") {
        *kinds.entry((cache.level, cache.size_bytes)).or_default() += 1;
    }
    let text =
        |((level, bytes), number): (&(u8, u64), &usize)| format!("{number} × {} L{level}", size(*bytes));
    kinds.iter().rev().map(text).collect::<Vec<_>>().join(", ")
}

fn numa(look: Look, topology: &Topology) -> String {
    let row = |node: &api::inventory::NumaNode| {
        let cores = topology.cores.iter().filter(|core| core.numa_node == Some(node.index)).count();
        let pages = node.pages.iter().filter(|pages| pages.size_bytes > 4096 && pages.count > 0);
        let pages: Vec<String> =
            pages.map(|pages| format!("{} × {}", pages.count, size(pages.size_bytes))).collect();
        cells([
            node.index.to_string(),
            size(node.memory_bytes),
            cores.to_string(),
            ranges(&node.pus),
            if pages.is_empty() { "-".to_owned() } else { pages.join(", ") },
        ])
    };
    if topology.numa_nodes.is_empty() {
        return String::new();
    }
    table(look, &["NUMA", "MEMORY", "CORES", "THREADS", "HUGE PAGES"], topology.numa_nodes.iter().map(row))
}

fn nics(look: Look, nics: &[Nic]) -> String {
    let row = |nic: &Nic| {
        let addresses: Vec<String> = nic.addresses.iter().map(ToString::to_string).collect();
        cells([
            nic.name.clone(),
            nic.state.clone(),
            or_dash(nic.mac),
            nic.speed_mbits.map_or_else(|| "-".to_owned(), |speed| format!("{speed} Mbit/s")),
            or_dash(nic.driver.as_ref()),
            or_dash(nic.numa_node),
            if addresses.is_empty() { "-".to_owned() } else { addresses.join(" ") },
        ])
    };
    if nics.is_empty() {
        return String::new();
    }
    table(look, &["NIC", "STATE", "MAC", "SPEED", "DRIVER", "NUMA", "ADDRESSES"], nics.iter().map(row))
}

fn disks(look: Look, disks: &[Disk]) -> String {
    let row = |disk: &Disk| {
        cells([
            disk.name.clone(),
            size(disk.size_bytes),
            if disk.rotational { "rotating" } else { "solid" }.to_owned(),
            or_dash(disk.model.as_ref()),
            or_dash(disk.serial.as_ref()),
        ])
    };
    if disks.is_empty() {
        return String::new();
    }
    table(look, &["DISK", "SIZE", "KIND", "MODEL", "SERIAL"], disks.iter().map(row))
}

fn gpus(look: Look, gpus: &[Gpu]) -> String {
    let row = |gpu: &Gpu| {
        cells([
            gpu.pci.clone(),
            format!("{} {}", gpu.vendor, gpu.model.as_deref().unwrap_or_default()).trim_end().to_owned(),
            or_dash(gpu.memory_bytes.map(size)),
            or_dash(gpu.driver_version.as_ref()),
            or_dash(gpu.numa_node),
            or_dash(gpu.uuid.as_ref()),
        ])
    };
    if gpus.is_empty() {
        return String::new();
    }
    table(look, &["GPU", "MODEL", "MEMORY", "DRIVER", "NUMA", "UUID"], gpus.iter().map(row))
}

fn infiniband(look: Look, devices: &[Infiniband]) -> String {
    let rows = devices.iter().flat_map(|device| {
        device.ports.iter().map(|port| {
            cells([
                format!("{} port {}", device.name, port.number),
                or_dash(port.link_layer.as_ref()),
                or_dash(port.state.as_ref()),
                or_dash(port.rate.as_ref()),
                or_dash(device.firmware.as_ref()),
                or_dash(device.numa_node),
                or_dash(device.guid.as_ref()),
            ])
        })
    });
    if devices.is_empty() {
        return String::new();
    }
    table(look, &["INFINIBAND", "LINK", "STATE", "RATE", "FIRMWARE", "NUMA", "GUID"], rows)
}

/// What jobs can ask for.
fn devices(look: Look, devices: &[GrantableDevice]) -> String {
    let row = |device: &GrantableDevice| {
        cells([
            device.name.to_string(),
            or_dash(device.numa_node),
            or_dash(device.pci.as_ref()),
            device.source.clone(),
        ])
    };
    if devices.is_empty() {
        return String::new();
    }
    table(look, &["DEVICE", "NUMA", "PCI", "KNOWN FROM"], devices.iter().map(row))
}

/// `8 nvidia.com/gpu, 2 rdma/hca`.
pub(super) fn device_counts(devices: &[GrantableDevice]) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for device in devices {
        *kinds.entry(device.name.kind().as_str()).or_default() += 1;
    }
    kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_with_everything() {
        let inventory: Inventory = serde_json::from_value(json!({
            "system": {"vendor": "Supermicro", "product": "AS-4125", "serial": "S1"},
            "firmware": {"boot-mode": "uefi", "vendor": "AMI", "version": "1.4"},
            "os": {"name": "Debian GNU/Linux 12", "kernel": "6.1.0-38-amd64", "architecture": "x86_64"},
            "topology": {
                "cpu-model": "AMD EPYC 9354 ",
                "packages": [{"index": 0, "pus": [0, 1]}],
                "numa-nodes": [{"index": 0, "memory-bytes": 8_589_934_592_u64, "pus": [0, 1],
                    "pages": [{"size-bytes": 4096, "count": 5}, {"size-bytes": 2_097_152, "count": 16}]}],
                "caches": [{"level": 3, "kind": "unified", "size-bytes": 33_554_432, "pus": [0, 1]},
                    {"level": 1, "kind": "data", "size-bytes": 32768, "pus": [0]},
                    {"level": 1, "kind": "data", "size-bytes": 32768, "pus": [1]},
                    {"level": 1, "kind": "instruction", "size-bytes": 32768, "pus": [1]}],
                "cores": [{"index": 0, "package": 0, "numa-node": 0, "pus": [0]},
                    {"index": 1, "package": 0, "numa-node": 0, "pus": [1]}],
                "pus": 2
            },
            "memory-bytes": 8_589_934_592_u64,
            "nics": [{"name": "lan0", "mac": "52:54:00:12:34:56", "driver": "virtio_net", "pci": null, "speed-mbits": 25000,
                "state": "up", "addresses": ["10.1.0.11", "fe80::1"], "numa-node": 0}],
            "disks": [{"name": "nvme0n1", "size-bytes": 1_000_204_886_016_u64, "model": "PM9A3", "serial": "D1",
                "rotational": false, "pci": null}],
            "gpus": [{"pci": "0000:01:00.0", "vendor": "nvidia", "model": "H200", "uuid": "GPU-1",
                "memory-bytes": 150_754_820_096_u64, "driver-version": "570.1", "numa-node": 0}],
            "infiniband": [{"name": "mlx5_0", "guid": "0011:2233", "firmware": "28.4", "pci": null, "numa-node": 0,
                "ports": [{"number": 1, "state": "ACTIVE", "physical-state": "LinkUp", "rate": "400 Gb/sec (4X NDR)",
                    "link-layer": "InfiniBand", "lid": "0x1"}]}],
            "devices": [{"name": "nvidia.com/gpu=0", "numa-node": 0, "pci": "0000:01:00.0", "source": "/etc/cdi/nvidia.yaml"},
                {"name": "rdma/hca=mlx5_0", "numa-node": null, "pci": null, "source": "built-in"}],
            "gaps": [{"subject": "nvidia-smi", "cause": "not found"}]
        }))
        .unwrap();
        expect![[r#"
              system           Supermicro, AS-4125
              serial number    S1
              firmware         uefi, AMI, 1.4
              system software  Debian GNU/Linux 12, 6.1.0-38-amd64, x86_64
              processors       1 package, 2 cores, 2 threads, AMD EPYC 9354
              caches           1 × 32 MiB L3, 2 × 32 KiB L1
              memory           8 GiB

            NUMA  MEMORY  CORES  THREADS  HUGE PAGES
            0     8 GiB   2      0-1      16 × 2 MiB

            NIC   STATE  MAC                SPEED         DRIVER      NUMA  ADDRESSES
            lan0  up     52:54:00:12:34:56  25000 Mbit/s  virtio_net  0     10.1.0.11 fe80::1

            DISK     SIZE     KIND   MODEL  SERIAL
            nvme0n1  931 GiB  solid  PM9A3  D1

            GPU           MODEL        MEMORY   DRIVER  NUMA  UUID
            0000:01:00.0  nvidia H200  140 GiB  570.1   0     GPU-1

            INFINIBAND     LINK        STATE   RATE                 FIRMWARE  NUMA  GUID
            mlx5_0 port 1  InfiniBand  ACTIVE  400 Gb/sec (4X NDR)  28.4      0     0011:2233

            DEVICE            NUMA  PCI           KNOWN FROM
            nvidia.com/gpu=0  0     0000:01:00.0  /etc/cdi/nvidia.yaml
            rdma/hca=mlx5_0   -     -             built-in

            not known:
              nvidia-smi: not found
        "#]]
        .assert_eq(&summary(Look::PLAIN, &inventory));
        assert_eq!(device_counts(&inventory.devices), "1 nvidia.com/gpu, 1 rdma/hca");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let inventory = Inventory { memory_bytes: 1 << 30, ..Inventory::default() };
        assert_eq!(summary(Look::PLAIN, &inventory), "  memory  1 GiB\n");
    }
}
