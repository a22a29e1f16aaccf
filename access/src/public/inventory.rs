//! The public part of an inventory. UUIDs of GPUs stay: they name devices that jobs are granted.

use std::net::IpAddr;

use api::inventory::{
    Bmc, Board, Disk, Gpu, Infiniband, Inventory, MemoryModule, Nic, Os, System, Vlan,
};

/// Hexadecimal digits of a hardware address in the name of a device: `enx525400123456` of udev,
/// `rocex` and `ibx` of rdma-core, whose GUIDs have more.
const MAC_DIGITS: usize = 12;

pub(super) fn make_public(inventory: &mut Inventory) {
    let Inventory {
        system,
        os,
        memory_modules,
        bmc,
        nics,
        disks,
        gpus,
        infiniband,
        firmware: _,
        topology: _,
        memory_bytes: _,
        pci: _,
        devices: _,
        faults: _,
        gaps: _,
    } = inventory;
    of_system(system);
    let Os { command_line, name: _, kernel: _, architecture: _ } = os;
    // The hardware address of the interface that booted stands in it.
    *command_line = None;
    memory_modules.iter_mut().for_each(of_memory);
    bmc.iter_mut().for_each(of_bmc);
    nics.iter_mut().for_each(of_nic);
    disks.iter_mut().for_each(of_disk);
    gpus.iter_mut().for_each(of_gpu);
    infiniband.iter_mut().for_each(of_infiniband);
}

fn of_system(system: &mut System) {
    let System {
        serial,
        uuid,
        asset_tag,
        chassis_serial,
        board,
        vendor: _,
        product: _,
        version: _,
        sku: _,
        family: _,
        chassis: _,
    } = system;
    let Board { serial: board_serial, vendor: _, product: _, version: _ } = board;
    for named in [serial, uuid, asset_tag, chassis_serial, board_serial] {
        *named = None;
    }
}

fn of_memory(module: &mut MemoryModule) {
    let MemoryModule {
        serial,
        locator: _,
        bank: _,
        size_bytes: _,
        kind: _,
        speed_mts: _,
        max_speed_mts: _,
        vendor: _,
        part_number: _,
        ranks: _,
    } = module;
    *serial = None;
}

fn of_bmc(bmc: &mut Bmc) {
    let Bmc { address, mac, address_source: _, firmware: _, ipmi: _, manufacturer_id: _ } = bmc;
    (*address, *mac) = (None, None);
}

fn of_nic(nic: &mut Nic) {
    let Nic {
        mac,
        name,
        addresses,
        bond,
        vlan,
        kind: _,
        driver: _,
        firmware: _,
        pci: _,
        speed_mbits: _,
        duplex: _,
        mtu: _,
        state: _,
        carrier: _,
        bond_mode: _,
        numa_node: _,
    } = nic;
    *mac = None;
    addresses.retain(|address| !is_of_mac(*address));
    let parent = vlan.as_mut().map(|Vlan { parent, id: _ }| parent);
    [Some(name), bond.as_mut(), parent].into_iter().flatten().for_each(hide_mac);
}

/// Whether an address is made of a hardware address: `ff:fe` in the middle of the interface
/// identifier (RFC 4291, appendix A).
fn is_of_mac(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.octets()[11..13] == [0xff, 0xfe],
    }
}

/// Takes the digits of a hardware address or a GUID out of a name; those that are
/// hidden look alike.
pub(super) fn hide_mac(name: &mut String) {
    let is_other = |c: char| !matches!(c, '0'..='9' | 'a'..='f');
    let mut digits = name.match_indices('x').map(|(at, _)| {
        let behind = &name[at + 1..];
        at + 1..at + 1 + behind.find(is_other).unwrap_or(behind.len())
    });
    if let Some(mac) = digits.find(|digits| digits.len() >= MAC_DIGITS) {
        name.replace_range(mac, "…");
    }
}

fn of_infiniband(device: &mut Infiniband) {
    let Infiniband {
        guid,
        system_guid,
        name,
        firmware: _,
        model: _,
        board_id: _,
        node_kind: _,
        pci: _,
        numa_node: _,
        ports: _,
    } = device;
    (*guid, *system_guid) = (None, None);
    hide_mac(name);
}

fn of_disk(disk: &mut Disk) {
    let Disk {
        serial,
        wwid,
        name: _,
        size_bytes: _,
        vendor: _,
        model: _,
        firmware: _,
        transport: _,
        rotational: _,
        read_only: _,
        removable: _,
        logical_sector_bytes: _,
        physical_sector_bytes: _,
        pci: _,
        numa_node: _,
        health: _,
        partitions: _,
    } = disk;
    (*serial, *wwid) = (None, None);
}

fn of_gpu(gpu: &mut Gpu) {
    let Gpu {
        serial,
        pci: _,
        vendor: _,
        index: _,
        model: _,
        uuid: _,
        memory_bytes: _,
        driver_version: _,
        firmware: _,
        numa_node: _,
        power_limit_watts: _,
        ecc: _,
        mig: _,
        mig_enabled: _,
        links: _,
    } = gpu;
    *serial = None;
}
