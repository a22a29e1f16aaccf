//! InfiniBand and RoCE devices: `/sys/class/infiniband/NAME/{node_guid,fw_ver,ports/N/…}`
//! (`Documentation/ABI/stable/sysfs-class-infiniband`).

use api::inventory::{Infiniband, InfinibandPort, PciDevice};

use crate::{pci, read::Reader};

const FOLDER: &str = "/sys/class/infiniband";

/// All devices by name.
pub(crate) fn collect(read: &mut Reader<'_>, pci: &[PciDevice]) -> Vec<Infiniband> {
    let names = read.names(FOLDER);
    names.into_iter().map(|name| device(read, name, pci)).collect()
}

fn device(read: &mut Reader<'_>, name: String, pci: &[PciDevice]) -> Infiniband {
    let folder = format!("{FOLDER}/{name}");
    let pci_address = read.pci_address(&format!("{folder}/device"));
    let mut numbers: Vec<u32> =
        read.names(&format!("{folder}/ports")).iter().filter_map(|number| number.parse().ok()).collect();
    numbers.sort_unstable();
    Infiniband {
        guid: read.text(&format!("{folder}/node_guid")),
        firmware: read.text(&format!("{folder}/fw_ver")),
        numa_node: pci::numa_node(pci, pci_address.as_ref()),
        pci: pci_address,
        ports: numbers.into_iter().map(|number| port(read, &folder, number)).collect(),
        name,
        ..Infiniband::default()
    }
}

fn port(read: &mut Reader<'_>, folder: &str, number: u32) -> InfinibandPort {
    let mut fact = |name: &str| read.text(&format!("{folder}/ports/{number}/{name}"));
    InfinibandPort {
        number,
        state: fact("state").map(|state| word(&state)),
        physical_state: fact("phys_state").map(|state| word(&state)),
        rate: fact("rate"),
        link_layer: fact("link_layer"),
        lid: fact("lid"),
        ..InfinibandPort::default()
    }
}

/// `4: ACTIVE` → `ACTIVE`.
fn word(state: &str) -> String {
    state.split_once(": ").map_or(state, |(_, word)| word).to_owned()
}
