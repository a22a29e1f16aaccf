//! The tables of `node inventory`; each is empty text where there is nothing to tell.

use api::{
    device::GrantableDevice,
    inventory::{Disk, DiskHealth, Ecc, Gpu, Infiniband, Nic, NicKind, Topology},
};
use comfy_table::Color;

use super::super::super::{
    table::{Cell, Style, cells, table},
    words::{or_dash, ranges, size},
};

pub(super) fn numa(style: Style, topology: &Topology) -> String {
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
    table(
        style,
        &["NUMA", "MEMORY", "CORES", "THREADS", "HUGE PAGES"],
        topology.numa_nodes.iter().map(row),
    )
}

pub(super) fn nics(style: Style, nics: &[Nic]) -> String {
    let row = |nic: &Nic| {
        let addresses: Vec<String> = nic.addresses.iter().map(ToString::to_string).collect();
        cells([
            nic.name.clone(),
            if nic.carrier == Some(false) {
                format!("{}, no link", nic.state)
            } else {
                nic.state.clone()
            },
            or_dash(nic.mac),
            nic.speed_mbits.map_or_else(|| "-".to_owned(), |speed| format!("{speed} Mbit/s")),
            or_dash(nic.driver.as_ref()),
            or_dash(nic.numa_node),
            part_of(nic),
            if addresses.is_empty() { "-".to_owned() } else { addresses.join(" ") },
        ])
    };
    if nics.is_empty() {
        return String::new();
    }
    table(
        style,
        &["NIC", "STATE", "MAC", "SPEED", "DRIVER", "NUMA", "PART", "ADDRESSES"],
        nics.iter().map(row),
    )
}

/// `802.3ad bond`, `in bond0`, `VLAN 7 on lan0`.
fn part_of(nic: &Nic) -> String {
    let bond = nic.bond.as_ref().map(|bond| format!("in {bond}"));
    let mode = (nic.kind == NicKind::Bond)
        .then(|| format!("{} bond", nic.bond_mode.as_deref().unwrap_or_default()));
    let vlan = nic.vlan.as_ref().map(|vlan| format!("VLAN {} on {}", vlan.id, vlan.parent));
    let ipoib = (nic.kind == NicKind::Infiniband).then(|| "IP over InfiniBand".to_owned());
    let parts: Vec<String> = [mode, vlan, ipoib, bond]
        .into_iter()
        .flatten()
        .map(|part| part.trim().to_owned())
        .collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

pub(super) fn disks(style: Style, disks: &[Disk]) -> String {
    let row = |disk: &Disk| {
        cells([
            disk.name.clone(),
            size(disk.size_bytes),
            disk_kind(disk),
            or_dash(disk.model.as_ref()),
            or_dash(disk.serial.as_ref()),
            or_dash(disk.firmware.as_ref()),
            or_dash(disk.health.as_ref().map(health)),
        ])
    };
    if disks.is_empty() {
        return String::new();
    }
    table(
        style,
        &["DISK", "SIZE", "KIND", "MODEL", "SERIAL", "FIRMWARE", "HEALTH"],
        disks.iter().map(row),
    )
}

/// `nvme, solid, read-only`.
fn disk_kind(disk: &Disk) -> String {
    let words = [
        disk.transport.as_deref(),
        Some(if disk.rotational { "rotating" } else { "solid" }),
        disk.read_only.then_some("read-only"),
        disk.removable.then_some("removable"),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `live, 3 % used, 2 media errors`.
fn health(health: &DiskHealth) -> String {
    let some = |number: Option<u64>| number.filter(|number| *number > 0);
    let words = [
        health.state.clone(),
        health
            .critical_warning
            .filter(|bits| *bits > 0)
            .map(|bits| format!("critical warning {bits:#04x}")),
        health.used_percent.map(|percent| format!("{percent} % used")),
        health.spare_percent.map(|percent| format!("{percent} % spare")),
        some(health.media_errors).map(|errors| format!("{errors} media errors")),
        some(health.io_errors).map(|errors| format!("{errors} I/O errors")),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

pub(super) fn gpus(style: Style, gpus: &[Gpu]) -> String {
    let row = |gpu: &Gpu| {
        cells([
            gpu.pci.clone(),
            format!("{} {}", gpu.vendor, gpu.model.as_deref().unwrap_or_default())
                .trim_end()
                .to_owned(),
            or_dash(gpu.memory_bytes.map(size)),
            or_dash(gpu.driver_version.as_ref()),
            or_dash(gpu.numa_node),
            or_dash(gpu.ecc.as_ref().map(ecc)),
            or_dash(gpu.mig_enabled.map(|on| {
                if on { format!("{} devices", gpu.mig.len()) } else { "off".to_owned() }
            })),
            or_dash(gpu.uuid.as_ref()),
        ])
    };
    if gpus.is_empty() {
        return String::new();
    }
    table(
        style,
        &["GPU", "MODEL", "MEMORY", "DRIVER", "NUMA", "ECC", "MIG", "UUID"],
        gpus.iter().map(row),
    )
}

/// `on, 3 corrected, 1 uncorrected, 2 pages retired`.
fn ecc(ecc: &Ecc) -> String {
    let some = |number: Option<u64>, what: &str| {
        number.filter(|number| *number > 0).map(|number| format!("{number} {what}"))
    };
    let words = [
        Some(if ecc.enabled { "on" } else { "off" }.to_owned()),
        some(ecc.corrected, "corrected"),
        some(ecc.uncorrected, "uncorrected"),
        some(ecc.retired_pages, "pages retired"),
        ecc.pending.filter(|pending| *pending).map(|_| "reset wanted".to_owned()),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

pub(super) fn infiniband(style: Style, devices: &[Infiniband]) -> String {
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
    table(style, &["INFINIBAND", "LINK", "STATE", "RATE", "FIRMWARE", "NUMA", "GUID"], rows)
}

/// What jobs can ask for.
pub(super) fn devices(style: Style, devices: &[GrantableDevice]) -> String {
    let row = |device: &GrantableDevice| {
        let (state, color) = match &device.unhealthy {
            Some(why) => (format!("out of service: {why}"), Color::Red),
            None => ("in service".to_owned(), Color::Reset),
        };
        let mut row = cells([
            device.name.to_string(),
            or_dash(device.numa_node),
            or_dash(device.pci.as_ref()),
        ]);
        row.extend([style.colored(state, color), Cell::new(&device.source)]);
        row
    };
    if devices.is_empty() {
        return String::new();
    }
    table(style, &["DEVICE", "NUMA", "PCI", "STATE", "KNOWN FROM"], devices.iter().map(row))
}
