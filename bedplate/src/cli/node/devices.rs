//! `node show --devices`: PCI devices as they hang on each other, and what jobs can be
//! granted of them.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    device::GrantableDevice,
    inventory::{Inventory, PciDevice},
};
use comfy_table::Color;

use super::{
    super::{
        table::{Cell, Style, table},
        words::or_dash,
    },
    topology::link_label,
};

/// The devices of a node.
pub(super) fn draw(style: Style, name: &str, inventory: &Inventory) -> String {
    let mut text = format!("{name}\n");
    if !inventory.pci.is_empty() {
        let header = ["PCI", "CLASS", "DEVICE", "DRIVER", "NUMA", "LINK", "GRANTED AS"];
        text.push_str(&table(style, &header, rows(style, inventory)));
    }
    let known: BTreeSet<&str> =
        inventory.pci.iter().map(|device| device.address.as_str()).collect();
    let is_elsewhere =
        |device: &&GrantableDevice| device.pci.as_deref().is_none_or(|pci| !known.contains(pci));
    let others: Vec<&GrantableDevice> = inventory.devices.iter().filter(is_elsewhere).collect();
    if !others.is_empty() {
        let row = |device: &&GrantableDevice| {
            let state = service(style, std::slice::from_ref(device));
            vec![state, Cell::new(or_dash(device.numa_node)), Cell::new(&device.source)]
        };
        text.push('\n');
        text.push_str(&table(style, &["DEVICE", "NUMA", "KNOWN FROM"], others.iter().map(row)));
    }
    if inventory.pci.is_empty() && others.is_empty() {
        text.push_str("  no devices\n");
    }
    text
}

fn rows(style: Style, inventory: &Inventory) -> Vec<Vec<Cell>> {
    let row = |(depth, device): (usize, &PciDevice)| {
        let granted: Vec<&GrantableDevice> = inventory
            .devices
            .iter()
            .filter(|grant| grant.pci.as_ref() == Some(&device.address))
            .collect();
        vec![
            Cell::new(format!("{}{}", "  ".repeat(depth), device.address)),
            Cell::new(device.class_name.as_ref().unwrap_or(&device.class)),
            Cell::new(named(device)),
            Cell::new(or_dash(device.driver.as_ref())),
            Cell::new(or_dash(device.numa_node)),
            Cell::new(or_dash(device.link.as_ref().map(link_label))),
            service(style, &granted),
        ]
    };
    in_order(&inventory.pci).into_iter().map(row).collect()
}

/// Each below the bridge that it is behind, with its depth. A loop in what a machine tells is cut.
fn in_order(pci: &[PciDevice]) -> Vec<(usize, &PciDevice)> {
    let known: BTreeSet<&str> = pci.iter().map(|device| device.address.as_str()).collect();
    let mut behind: BTreeMap<Option<&str>, Vec<&PciDevice>> = BTreeMap::new();
    for device in pci {
        let parent = device.parent.as_deref().filter(|parent| known.contains(parent));
        behind.entry(parent).or_default().push(device);
    }
    for devices in behind.values_mut() {
        devices.sort_by(|one, other| one.address.cmp(&other.address));
    }
    let mut ordered = Vec::with_capacity(pci.len());
    let mut next: Vec<(usize, &PciDevice)> = Vec::new();
    let push = |next: &mut Vec<_>, depth, devices: Vec<_>| {
        next.extend(devices.into_iter().rev().map(|device| (depth, device)));
    };
    push(&mut next, 0, behind.remove(&None).unwrap_or_default());
    while let Some((depth, device)) = next.pop() {
        ordered.push((depth, device));
        push(
            &mut next,
            depth + 1,
            behind.remove(&Some(device.address.as_str())).unwrap_or_default(),
        );
    }
    ordered.extend(behind.into_values().flatten().map(|device| (0, device)));
    ordered
}

/// `NVIDIA Corporation GH100 [H100 SXM5 80GB]`, or the numbers where they have no names.
fn named(device: &PciDevice) -> String {
    let vendor = device.vendor_name.as_ref().unwrap_or(&device.vendor);
    let number = format!("device {}", device.device);
    format!("{vendor} {}", device.device_name.as_ref().unwrap_or(&number))
}

fn service(style: Style, granted: &[&GrantableDevice]) -> Cell {
    let name = |device: &&GrantableDevice| match &device.unhealthy {
        Some(why) => format!("{} (out of service: {why})", device.name),
        None => device.name.to_string(),
    };
    if granted.is_empty() {
        return Cell::new("-");
    }
    let text = granted.iter().map(name).collect::<Vec<_>>().join(", ");
    let is_unhealthy = granted.iter().any(|device| device.unhealthy.is_some());
    style.colored(text, if is_unhealthy { Color::Red } else { Color::Reset })
}

/// `8 nvidia.com/gpu (1 out of service), 2 rdma/hca`.
pub(super) fn device_counts(devices: &[GrantableDevice]) -> String {
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for device in devices {
        let (all, unhealthy) = kinds.entry(device.name.kind().as_str()).or_default();
        *all += 1;
        *unhealthy += usize::from(device.unhealthy.is_some());
    }
    let told = |(kind, (all, unhealthy)): (&&str, &(usize, usize))| match unhealthy {
        0 => format!("{all} {kind}"),
        unhealthy => format!("{all} {kind} ({unhealthy} out of service)"),
    };
    kinds.iter().map(told).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tree_of_devices() {
        let inventory: Inventory = serde_json::from_value(json!({
            "pci": [
                {"address": "0000:02:00.0", "parent": "0000:00:01.0", "class": "030200", "vendor": "10de", "device": "2330",
                    "class-name": "3D controller", "vendor-name": "NVIDIA Corporation", "device-name": "GH100",
                    "driver": "nvidia", "numa-node": 0,
                    "link": {"speed-mts": 32000, "width": 8, "max-speed-mts": 32000, "max-width": 16}},
                {"address": "0000:00:01.0", "class": "060400", "vendor": "8086", "device": "352a", "class-name": "PCI bridge"},
                {"address": "0000:00:02.0", "class": "020000", "vendor": "1af4", "device": "1041", "driver": "virtio-pci"},
                {"address": "0000:07:00.0", "parent": "0000:08:00.0", "class": "ff0000", "vendor": "ffff", "device": "0000"},
                {"address": "0000:08:00.0", "parent": "0000:07:00.0", "class": "ff0000", "vendor": "ffff", "device": "0001"}],
            "devices": [
                {"name": "nvidia.com/gpu=0", "numa-node": 0, "pci": "0000:02:00.0", "source": "built-in", "sick": "uncorrected errors"},
                {"name": "acme.test/thing=a", "numa-node": null, "pci": null, "source": "/etc/cdi/acme.yaml"}]
        }))
        .unwrap();
        expect![[r#"
            n1
            PCI             CLASS          DEVICE                    DRIVER      NUMA  LINK                                   GRANTED AS
            0000:00:01.0    PCI bridge     8086 device 352a          -           -     -                                      -
              0000:02:00.0  3D controller  NVIDIA Corporation GH100  nvidia      0     PCIe 5 ×8 31 GB/s (can do PCIe 5 ×16)  nvidia.com/gpu=0 (out of service: uncorrected errors)
            0000:00:02.0    020000         1af4 device 1041          virtio-pci  -     -                                      -
            0000:08:00.0    ff0000         ffff device 0001          -           -     -                                      -
            0000:07:00.0    ff0000         ffff device 0000          -           -     -                                      -

            DEVICE             NUMA  KNOWN FROM
            acme.test/thing=a  -     /etc/cdi/acme.yaml
        "#]]
        .assert_eq(&draw(Style::PLAIN, "n1", &inventory));
        assert_eq!(draw(Style::PLAIN, "n1", &Inventory::default()), "n1\n  no devices\n");
    }
}
