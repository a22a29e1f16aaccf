//! How near devices are to each other, beside what `nvidia-smi topo -m` printed on
//! the same machine.

use std::{collections::BTreeMap, fs};

use api::inventory::connection;

use crate::unpack;

#[test]
fn every_cell_is_what_nvidia_smi_prints() {
    let root = unpack("dgx-h100");
    let inventory = inventory::collect(root.path());
    let text = fs::read_to_string(root.path().join("nvidia-topo.txt")).unwrap();
    let text = text.replace("\x1b[4m", "").replace("\x1b[0m", "");
    let mut addresses = BTreeMap::new();
    for gpu in &inventory.gpus {
        addresses.insert(format!("GPU{}", gpu.index.unwrap()), gpu.pci.clone());
    }
    for (column, name) in text.lines().filter_map(|line| line.trim().split_once(": mlx5_")) {
        let name = format!("mlx5_{name}");
        let device = inventory.infiniband.iter().find(|device| device.name == name).unwrap();
        addresses.insert(column.to_owned(), device.pci.clone().unwrap());
    }
    let heading: Vec<&str> =
        text.lines().next().unwrap().split_whitespace().take_while(|word| *word != "CPU").collect();
    let mut cells = 0;
    for line in text.lines().skip(1).take_while(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let from = &addresses[words.next().unwrap()];
        for (column, cell) in heading.iter().zip(words) {
            assert_eq!(
                connection(&inventory, from, &addresses[*column]).to_string(),
                cell,
                "{line}: {column}"
            );
            cells += 1;
        }
    }
    assert_eq!(cells, 16 * 16);
}
