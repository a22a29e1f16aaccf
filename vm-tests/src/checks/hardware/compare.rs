//! The inventory's devices beside what `lspci`, `ip`, `lsblk` and `ibv_devinfo` say of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use api::inventory::{Disk, Infiniband, Inventory, Nic, PciDevice};
use serde_json::Value;

use super::tools::{Tools, word};

/// What was compared, and what was not the same.
#[derive(Debug, Default)]
pub(super) struct Tally {
    compared: usize,
    wrong: Vec<String>,
}

impl Tally {
    /// One field of both.
    pub(super) fn same(&mut self, field: &str, ours: Option<String>, theirs: Option<String>) {
        self.compared += 1;
        if ours != theirs {
            self.wrong.push(format!("{field}: {ours:?} is {theirs:?} to the tool"));
        }
    }

    /// Fields compared.
    pub(super) fn compared(&self) -> usize {
        self.compared
    }

    /// Fails if anything was not the same.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        if self.wrong.is_empty() {
            return Ok(());
        }
        bail!("{} of {} fields differ:\n{}", self.wrong.len(), self.compared, self.wrong.join("\n"))
    }
}

/// All of them.
pub(super) fn devices(
    tally: &mut Tally,
    inventory: &Inventory,
    tools: &Tools,
) -> anyhow::Result<()> {
    let pci = tools.blocks("lspci")?;
    tally.same("PCI devices", text(inventory.pci.len()), text(pci.len()));
    for theirs in &pci {
        let ours = inventory.pci.iter().find(|device| theirs.get("Slot") == Some(&device.address));
        pci_device(
            tally,
            ours.with_context(|| format!("not in the inventory: {theirs:?}"))?,
            theirs,
        );
    }
    let (links, addresses) = (tools.json("links")?, tools.json("addresses")?);
    let counted = |link: &&Value| link["ifname"] != "lo";
    let links: Vec<&Value> = links.as_array().context("no links")?.iter().filter(counted).collect();
    tally.same("network interfaces", text(inventory.nics.len()), text(links.len()));
    for theirs in links {
        let ours = inventory.nics.iter().find(|nic| theirs["ifname"] == nic.name.as_str());
        nic(
            tally,
            ours.with_context(|| format!("not in the inventory: {theirs}"))?,
            theirs,
            &addresses,
        );
    }
    let block = tools.json("lsblk")?;
    let is_disk = |device: &&Value| {
        device["type"] == "disk"
            && !device["name"].as_str().is_some_and(|name| name.starts_with("loop"))
    };
    let disks: Vec<&Value> =
        block["blockdevices"].as_array().context("no disks")?.iter().filter(is_disk).collect();
    tally.same("disks", text(inventory.disks.len()), text(disks.len()));
    for theirs in disks {
        let ours = inventory.disks.iter().find(|disk| theirs["name"] == disk.name.as_str());
        disk(tally, ours.with_context(|| format!("not in the inventory: {theirs}"))?, theirs);
    }
    let ibv = tools.text("ibv")?;
    for ours in &inventory.infiniband {
        infiniband(tally, ours, ibv);
    }
    tally.same(
        "RDMA devices",
        text(inventory.infiniband.len()),
        text(ibv.matches("hca_id:").count()),
    );
    Ok(())
}

pub(super) fn text(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

/// `Virtio network device [1000]` → both.
fn named(value: Option<&String>) -> (Option<String>, Option<String>) {
    let Some((name, id)) = value.and_then(|value| value.strip_suffix(']')?.rsplit_once(" ["))
    else {
        return (None, None);
    };
    (text(name), text(id))
}

fn pci_device(tally: &mut Tally, ours: &PciDevice, theirs: &BTreeMap<String, String>) {
    let mut same = |field: &str, ours, theirs| tally.same(&format!("pci {field}"), ours, theirs);
    let at = &ours.address;
    let (class_name, class) = named(theirs.get("Class"));
    let interface = theirs.get("ProgIf").map_or("00", String::as_str);
    same(
        &format!("{at} class"),
        text(&ours.class),
        class.map(|class| format!("{class}{interface}")),
    );
    same(&format!("{at} class name"), ours.class_name.clone(), class_name);
    let ids = [
        ("Vendor", Some(&ours.vendor), Some(&ours.vendor_name)),
        ("Device", Some(&ours.device), Some(&ours.device_name)),
        ("SVendor", ours.subsystem_vendor.as_ref(), None),
        ("SDevice", ours.subsystem_device.as_ref(), None),
    ];
    for (key, id, our_name) in ids {
        let (name, number) = named(theirs.get(key));
        same(&format!("{at} {key}"), id.cloned(), number);
        if let Some(our_name) = our_name {
            same(&format!("{at} {key} name"), our_name.clone(), name);
        }
    }
    let revision = theirs.get("Rev").map_or("00", String::as_str);
    same(&format!("{at} revision"), ours.revision.clone(), text(revision));
    same(&format!("{at} driver"), ours.driver.clone(), theirs.get("Driver").cloned());
    same(
        &format!("{at} NUMA node"),
        ours.numa_node.map(|node| node.to_string()),
        theirs.get("NUMANode").cloned(),
    );
    let group = ours.iommu_group.map(|group| group.to_string());
    same(&format!("{at} IOMMU group"), group, theirs.get("IOMMUGroup").cloned());
}

fn nic(tally: &mut Tally, ours: &Nic, theirs: &Value, addresses: &Value) {
    let mut same = |field: &str, ours, theirs| tally.same(&format!("nic {field}"), ours, theirs);
    let name = &ours.name;
    let own = word(&theirs["permaddr"]).or_else(|| word(&theirs["address"]));
    same(&format!("{name} mac"), ours.mac.map(|mac| mac.to_string()), own);
    same(&format!("{name} mtu"), ours.mtu.map(|mtu| mtu.to_string()), word(&theirs["mtu"]));
    same(
        &format!("{name} state"),
        text(&ours.state),
        word(&theirs["operstate"]).map(|state| state.to_lowercase()),
    );
    same(&format!("{name} bond"), ours.bond.clone(), word(&theirs["master"]));
    let carrier =
        theirs["flags"].as_array().map(|flags| flags.iter().any(|flag| flag == "LOWER_UP"));
    same(
        &format!("{name} carrier"),
        text(ours.carrier == Some(true)),
        carrier.map(|up| up.to_string()),
    );
    let data = &theirs["linkinfo"]["info_data"];
    let vlan = ours.vlan.as_ref();
    same(&format!("{name} VLAN"), vlan.map(|vlan| vlan.id.to_string()), word(&data["id"]));
    same(&format!("{name} VLAN on"), vlan.map(|vlan| vlan.parent.clone()), word(&theirs["link"]));
    same(&format!("{name} bond's mode"), ours.bond_mode.clone(), word(&data["mode"]));
    let kind = match theirs["linkinfo"]["info_kind"].as_str() {
        Some("bond") => "Bond",
        Some("vlan") => "Vlan",
        _ => "Ethernet",
    };
    same(&format!("{name} kind"), text(format!("{:?}", ours.kind)), text(kind));
    let theirs =
        addresses.as_array().into_iter().flatten().filter(|link| link["ifname"] == name.as_str());
    let theirs = theirs.flat_map(|link| link["addr_info"].as_array().into_iter().flatten());
    let theirs: BTreeSet<String> = theirs
        .filter(|address| address["scope"] == "global")
        .filter_map(|a| word(&a["local"]))
        .collect();
    let found: BTreeSet<String> = ours.addresses.iter().map(ToString::to_string).collect();
    same(&format!("{name} addresses"), text(format!("{found:?}")), text(format!("{theirs:?}")));
}

fn disk(tally: &mut Tally, ours: &Disk, theirs: &Value) {
    let mut same = |field: &str, ours, theirs| tally.same(&format!("disk {field}"), ours, theirs);
    let name = &ours.name;
    same(&format!("{name} size"), text(ours.size_bytes), word(&theirs["size"]));
    same(&format!("{name} vendor"), ours.vendor.clone(), word(&theirs["vendor"]));
    same(&format!("{name} model"), ours.model.clone(), word(&theirs["model"]));
    same(&format!("{name} serial"), ours.serial.clone(), word(&theirs["serial"]));
    // Debian's lsblk has no revision of NVMe and no transport of virtio.
    if let Some(revision) = word(&theirs["rev"]) {
        same(&format!("{name} firmware"), ours.firmware.clone(), Some(revision));
    }
    if let Some(transport) = word(&theirs["tran"]) {
        same(&format!("{name} transport"), ours.transport.clone(), Some(transport));
    }
    let number = ours.wwid.as_ref().map(|wwid| wwid.replacen("naa.", "0x", 1));
    same(&format!("{name} wwid"), number, word(&theirs["wwn"]));
    same(&format!("{name} rotational"), text(ours.rotational), word(&theirs["rota"]));
    same(&format!("{name} read-only"), text(ours.read_only), word(&theirs["ro"]));
    same(&format!("{name} removable"), text(ours.removable), word(&theirs["rm"]));
    let sectors = [("log-sec", ours.logical_sector_bytes), ("phy-sec", ours.physical_sector_bytes)];
    for (key, bytes) in sectors {
        same(&format!("{name} {key}"), bytes.map(|bytes| bytes.to_string()), word(&theirs[key]));
    }
    // lsblk looks for the state at the disk's device. That of NVMe is a subsystem, which has none,
    // from QEMU 8 on; its controllers have.
    if let Some(state) = word(&theirs["state"]) {
        let ours = ours.health.as_ref().and_then(|health| health.state.clone());
        same(&format!("{name} state"), ours, Some(state));
    }
    let parts = theirs["children"].as_array().map_or(&[][..], Vec::as_slice);
    same(&format!("{name} partitions"), text(ours.partitions.len()), text(parts.len()));
    for (ours, theirs) in ours.partitions.iter().zip(parts) {
        let name = &ours.name;
        same(&format!("{name} name"), text(name), word(&theirs["name"]));
        same(&format!("{name} size"), text(ours.size_bytes), word(&theirs["size"]));
        let start = theirs["start"].as_u64().map(|sectors| sectors * 512);
        same(
            &format!("{name} start"),
            text(ours.start_bytes),
            start.map(|start| start.to_string()),
        );
        same(
            &format!("{name} number"),
            text(ours.number),
            word(&theirs["partn"]).or_else(|| text(ours.number)),
        );
    }
}

fn infiniband(tally: &mut Tally, ours: &Infiniband, ibv: &str) {
    let mut same = |field: &str, ours, theirs| tally.same(&format!("rdma {field}"), ours, theirs);
    let name = &ours.name;
    let of_device = ibv.split("hca_id:").find(|part| part.trim_start().starts_with(name.as_str()));
    let value = |key: &str| {
        let lines = of_device.unwrap_or_default().lines();
        lines
            .filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'))
            .next()
            .map(|v| v.trim().to_owned())
    };
    same(&format!("{name} guid"), ours.guid.clone(), value("node_guid"));
    same(&format!("{name} system guid"), ours.system_guid.clone(), value("sys_image_guid"));
    same(
        &format!("{name} firmware"),
        ours.firmware.clone(),
        value("fw_ver").filter(|version| !["", "0.0.0"].contains(&version.as_str())),
    );
    same(&format!("{name} ports"), text(ours.ports.len()), value("phys_port_cnt"));
    for port in &ours.ports {
        let hex = |lid: &Option<String>| {
            let digits = lid.as_ref()?.strip_prefix("0x")?;
            u32::from_str_radix(digits, 16).ok().map(|lid| lid.to_string())
        };
        let state = value("state")
            .and_then(|state| Some(state.strip_prefix("PORT_")?.split(' ').next()?.to_owned()));
        same(&format!("{name} state"), port.state.clone(), state);
        let physical =
            value("phys_state").and_then(|state| Some(state.split(' ').next()?.replace('_', "")));
        same(
            &format!("{name} physical state"),
            port.physical_state.as_ref().map(|s| s.to_uppercase()),
            physical,
        );
        same(&format!("{name} lid"), hex(&port.lid), value("port_lid"));
        same(&format!("{name} sm lid"), hex(&port.sm_lid), value("sm_lid"));
        same(
            &format!("{name} lmc"),
            port.lmc.clone(),
            value("port_lmc").map(|lmc| lmc.trim_start_matches("0x0").to_owned()),
        );
        same(&format!("{name} link layer"), port.link_layer.clone(), value("link_layer"));
        same(&format!("{name} netdev"), port.netdev.clone(), text("lan0"));
    }
}
