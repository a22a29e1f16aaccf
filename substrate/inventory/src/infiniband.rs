//! InfiniBand and RoCE devices: `/sys/class/infiniband/NAME/{node_guid,fw_ver,ports/N/…}`
//! (`Documentation/ABI/stable/sysfs-class-infiniband`). A software device (`rdma_rxe`) has no PCI
//! device and names the interface that it is on in `parent`.

use api::inventory::{Infiniband, InfinibandPort, PciDevice};

use crate::{pci, read::Reader};

const DIRECTORY: &str = "/sys/class/infiniband";

/// All devices by name.
pub(crate) fn collect(read: &mut Reader<'_>, pci: &[PciDevice]) -> Vec<Infiniband> {
    let names = read.names(DIRECTORY);
    names.into_iter().map(|name| device(read, name, pci)).collect()
}

/// Reads again what changes: the states of its ports, of which the kernel tells nobody.
pub(crate) fn refresh(read: &mut Reader<'_>, device: &mut Infiniband) {
    for port in &mut device.ports {
        (port.state, port.physical_state) = states(read, &device.name, port.number);
    }
}

fn device(read: &mut Reader<'_>, name: String, pci: &[PciDevice]) -> Infiniband {
    let directory = format!("{DIRECTORY}/{name}");
    // Where a software device has a device at all, it is that of the interface below it.
    let is_software = read.exists(&format!("{directory}/parent"));
    let pci_address =
        (!is_software).then(|| read.pci_address(&format!("{directory}/device"))).flatten();
    let mut numbers: Vec<u32> = read
        .names(&format!("{directory}/ports"))
        .iter()
        .filter_map(|number| number.parse().ok())
        .collect();
    numbers.sort_unstable();
    Infiniband {
        guid: read.text(&format!("{directory}/node_guid")),
        system_guid: read.text(&format!("{directory}/sys_image_guid")),
        firmware: read.text(&format!("{directory}/fw_ver")),
        model: read.text(&format!("{directory}/hca_type")),
        board_id: read.text(&format!("{directory}/board_id")),
        node_kind: read.text(&format!("{directory}/node_type")).map(|kind| word(&kind)),
        numa_node: pci::numa_node(pci, pci_address.as_ref()),
        pci: pci_address,
        ports: numbers.into_iter().map(|number| port(read, &name, number)).collect(),
        name,
    }
}

fn port(read: &mut Reader<'_>, device: &str, number: u32) -> InfinibandPort {
    let (state, physical_state) = states(read, device, number);
    let netdev = netdev(read, device, number);
    let mut fact = |name: &str| read.text(&format!("{DIRECTORY}/{device}/ports/{number}/{name}"));
    InfinibandPort {
        number,
        state,
        physical_state,
        rate: fact("rate"),
        link_layer: fact("link_layer"),
        lid: fact("lid"),
        sm_lid: fact("sm_lid"),
        lmc: fact("lid_mask_count"),
        netdev,
    }
}

fn states(read: &mut Reader<'_>, device: &str, port: u32) -> (Option<String>, Option<String>) {
    let mut fact = |name: &str| read.text(&format!("{DIRECTORY}/{device}/ports/{port}/{name}"));
    (fact("state").map(|state| word(&state)), fact("phys_state").map(|state| word(&state)))
}

/// RoCE tells the interface of its first GID. GIDs of InfiniBand have none: there it is the
/// interface of the same card whose `dev_port`, counted from 0, is the port's.
fn netdev(read: &mut Reader<'_>, device: &str, port: u32) -> Option<String> {
    let directory = format!("{DIRECTORY}/{device}");
    if let Some(name) = read.text(&format!("{directory}/ports/{port}/gid_attrs/ndevs/0")) {
        return Some(name);
    }
    let index = i64::from(port) - 1;
    let interfaces = read.names(&format!("{directory}/device/net"));
    let is_its = |read: &mut Reader<'_>, name: &str| {
        read.number(&format!("{directory}/device/net/{name}/dev_port")) == Some(index)
    };
    let found = interfaces.into_iter().find(|name| is_its(read, name));
    found.or_else(|| read.text(&format!("{directory}/parent")))
}

/// `4: ACTIVE` → `ACTIVE`.
fn word(state: &str) -> String {
    state.split_once(": ").map_or(state, |(_, word)| word).to_owned()
}
