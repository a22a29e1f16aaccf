//! `node inventory`: hardware as people describe it.

mod tables;

use std::{collections::BTreeMap, fmt::Write as _};

use api::inventory::{Bmc, Fault, FaultLevel, Firmware, Inventory, MemoryModule, Topology};
use client::Client;
use comfy_table::Color;

use super::{
    super::{
        context::Session,
        table::{Cell, Style, pairs, table},
        words::{count, size},
    },
    Nodes,
    show::{inventories, one_or_many},
};

pub(super) async fn run(session: &Session, client: &Client, nodes: &Nodes) -> anyhow::Result<()> {
    let found = inventories(client, nodes).await?;
    one_or_many(session, &found, |style, found| {
        format!("{}\n{}", found.name, summary(style, &found.inventory))
    })
}

/// The whole of it on a page.
fn summary(style: Style, inventory: &Inventory) -> String {
    let Inventory { system, firmware, os, topology, .. } = inventory;
    let mut lines = Vec::new();
    let mut add = |name, value: String| {
        if !value.is_empty() {
            lines.push((name, Cell::new(value)));
        }
    };
    add("system", words([&system.vendor, &system.product]));
    add("serial number", system.serial.clone().unwrap_or_default());
    add("firmware", boots(firmware));
    add("BMC", inventory.bmc.as_ref().map(controller).unwrap_or_default());
    add("system software", words([&os.name, &os.kernel, &os.architecture]));
    add("processors", processors(topology));
    add("caches", caches(topology));
    add(
        "memory",
        if inventory.memory_bytes == 0 { String::new() } else { size(inventory.memory_bytes) },
    );
    add("memory modules", modules(&inventory.memory_modules));
    add(
        "PCI devices",
        if inventory.pci.is_empty() { String::new() } else { inventory.pci.len().to_string() },
    );
    let mut text = faults(style, &inventory.faults);
    text.push_str(&pairs(style, &lines));
    for part in [
        tables::numa(style, topology),
        tables::nics(style, &inventory.nics),
        tables::disks(style, &inventory.disks),
        tables::gpus(style, &inventory.gpus),
        tables::infiniband(style, &inventory.infiniband),
        tables::devices(style, &inventory.devices),
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

/// What is not well, the worst first; nothing if all is.
fn faults(style: Style, faults: &[Fault]) -> String {
    let row = |fault: &&Fault| {
        let (word, color) = match fault.level {
            FaultLevel::Error => ("error", Color::Red),
            FaultLevel::Warning => ("warning", Color::Yellow),
            FaultLevel::Unknown => ("unknown", Color::Yellow),
        };
        vec![
            style.colored(word.to_owned(), color),
            Cell::new(&fault.subject),
            style.colored(fault.message.clone(), color),
        ]
    };
    if faults.is_empty() {
        return String::new();
    }
    let mut sorted: Vec<&Fault> = faults.iter().collect();
    sorted.sort_by(|one, other| other.level.cmp(&one.level).then_with(|| one.cmp(other)));
    table(style, &["FAULT", "OF", "WHAT"], sorted.iter().map(row)) + "\n"
}

/// `uefi, AMI, 1.4, 04/01/2024, Secure Boot on, TPM 2.0`.
fn boots(firmware: &Firmware) -> String {
    let secure =
        firmware.secure_boot.map(|on| format!("Secure Boot {}", if on { "on" } else { "off" }));
    let tpm = firmware.tpm.as_ref().map(|version| format!("TPM {version}"));
    words([&firmware.boot_mode, &firmware.vendor, &firmware.version, &firmware.date, &secure, &tpm])
}

/// `10.9.0.11 (dhcp), 3c:ec:ef:00:00:01, firmware 2.10, IPMI 2.0`.
fn controller(bmc: &Bmc) -> String {
    let source =
        bmc.address_source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
    let address = bmc.address.map(|address| format!("{address}{source}"));
    let mac = bmc.mac.map(|mac| mac.to_string());
    let firmware = bmc.firmware.as_ref().map(|version| format!("firmware {version}"));
    let ipmi = bmc.ipmi.as_ref().map(|version| format!("IPMI {version}"));
    words([&address, &mac, &firmware, &ipmi])
}

/// `16 × 32 GiB DDR5 4800 MT/s, 8 slots empty`.
fn modules(modules: &[MemoryModule]) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for module in modules {
        let Some(bytes) = module.size_bytes else { continue };
        let speed = module.speed_mts.map(|speed| format!("{speed} MT/s"));
        let parts = [Some(size(bytes)), module.kind.clone(), speed];
        *kinds.entry(parts.into_iter().flatten().collect::<Vec<_>>().join(" ")).or_default() += 1;
    }
    let mut told: Vec<String> =
        kinds.iter().map(|(kind, number)| format!("{number} × {kind}")).collect();
    let empty = modules.iter().filter(|module| module.size_bytes.is_none()).count();
    if empty > 0 {
        told.push(format!("{} empty", count(empty, "slot")));
    }
    told.join(", ")
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
    let text = |((level, bytes), number): (&(u8, u64), &usize)| {
        format!("{number} × {} L{level}", size(*bytes))
    };
    kinds.iter().rev().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::{super::devices::device_counts, *};

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

            NIC   STATE  MAC                SPEED         DRIVER      NUMA  PART  ADDRESSES
            lan0  up     52:54:00:12:34:56  25000 Mbit/s  virtio_net  0     -     10.1.0.11 fe80::1

            DISK     SIZE     KIND   MODEL  SERIAL  FIRMWARE  HEALTH
            nvme0n1  931 GiB  solid  PM9A3  D1      -         -

            GPU           MODEL        MEMORY   DRIVER  NUMA  ECC  MIG  UUID
            0000:01:00.0  nvidia H200  140 GiB  570.1   0     -    -    GPU-1

            INFINIBAND     LINK        STATE   RATE                 FIRMWARE  NUMA  GUID
            mlx5_0 port 1  InfiniBand  ACTIVE  400 Gb/sec (4X NDR)  28.4      0     0011:2233

            DEVICE            NUMA  PCI           STATE       KNOWN FROM
            nvidia.com/gpu=0  0     0000:01:00.0  in service  /etc/cdi/nvidia.yaml
            rdma/hca=mlx5_0   -     -             in service  built-in

            not known:
              nvidia-smi: not found
        "#]]
        .assert_eq(&summary(Style::PLAIN, &inventory));
        assert_eq!(device_counts(&inventory.devices), "1 nvidia.com/gpu, 1 rdma/hca");
    }

    #[test]
    fn what_is_not_well_comes_first_and_details_have_their_place() {
        let inventory: Inventory = serde_json::from_value(json!({
            "faults": [{"level": "warning", "subject": "nic lan1", "message": "no link"},
                {"level": "error", "subject": "gpu 0000:01:00.0", "message": "uncorrected memory errors"}],
            "firmware": {"boot-mode": "uefi", "version": "1.4", "date": "04/01/2024", "secure-boot": true, "tpm": "2.0"},
            "bmc": {"address": "10.9.0.11", "address-source": "dhcp", "mac": "3c:ec:ef:00:00:01", "firmware": "2.10", "ipmi": "2.0"},
            "memory-modules": [
                {"locator": "A1", "size-bytes": 34_359_738_368_u64, "kind": "DDR5", "speed-mts": 4800},
                {"locator": "B1", "size-bytes": 34_359_738_368_u64, "kind": "DDR5", "speed-mts": 4800}, {"locator": "C1"}],
            "nics": [{"name": "lan1", "state": "up", "carrier": false, "bond": "bond0"},
                {"name": "bond0", "kind": "bond", "bond-mode": "802.3ad", "state": "up"},
                {"name": "bond0.7", "kind": "vlan", "vlan": {"id": 7, "parent": "bond0"}, "state": "up"}],
            "disks": [{"name": "nvme0n1", "size-bytes": 1_000_204_886_016_u64, "transport": "nvme", "firmware": "GDC5",
                "read-only": true, "health": {"state": "live", "critical-warning": 4, "used-percent": 3, "media-errors": 2}}],
            "gpus": [{"pci": "0000:01:00.0", "vendor": "nvidia", "ecc": {"enabled": true, "corrected": 3, "pending": true},
                "mig-enabled": true, "mig": [{"gpu-instance": 1}]}],
            "devices": [{"name": "nvidia.com/gpu=0", "numa-node": 0, "pci": "0000:01:00.0", "source": "built-in",
                "sick": "uncorrected memory errors"}]
        }))
        .unwrap();
        expect![[r#"
            FAULT    OF                WHAT
            error    gpu 0000:01:00.0  uncorrected memory errors
            warning  nic lan1          no link

              firmware        uefi, 1.4, 04/01/2024, Secure Boot on, TPM 2.0
              BMC             10.9.0.11 (dhcp), 3c:ec:ef:00:00:01, firmware 2.10, IPMI 2.0
              memory modules  2 × 32 GiB DDR5 4800 MT/s, 1 slot empty

            NIC      STATE        MAC  SPEED  DRIVER  NUMA  PART             ADDRESSES
            lan1     up, no link  -    -      -       -     in bond0         -
            bond0    up           -    -      -       -     802.3ad bond     -
            bond0.7  up           -    -      -       -     VLAN 7 on bond0  -

            DISK     SIZE     KIND                    MODEL  SERIAL  FIRMWARE  HEALTH
            nvme0n1  931 GiB  nvme, solid, read-only  -      -       GDC5      live, critical warning 0x04, 3 % used, 2 media errors

            GPU           MODEL   MEMORY  DRIVER  NUMA  ECC                            MIG        UUID
            0000:01:00.0  nvidia  -       -       -     on, 3 corrected, reset wanted  1 devices  -

            DEVICE            NUMA  PCI           STATE                                      KNOWN FROM
            nvidia.com/gpu=0  0     0000:01:00.0  out of service: uncorrected memory errors  built-in
        "#]].assert_eq(&summary(Style::PLAIN, &inventory));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let inventory = Inventory { memory_bytes: 1 << 30, ..Inventory::default() };
        assert_eq!(summary(Style::PLAIN, &inventory), "  memory  1 GiB\n");
    }
}
