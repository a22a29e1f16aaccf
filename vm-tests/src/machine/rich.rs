//! A machine with everything that an inventory tells of: two sockets with threads, four NUMA nodes
//! of which one has memory alone, three kinds of network interface and of disk, a TPM, a BMC, named
//! memory modules, two free slots.
//!
//! ```text
//! socket 0   core 0   NUMA 0      socket 1   cores 2, 3   NUMA 2
//!            core 1   NUMA 1                 -            NUMA 3
//! ```

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;

use super::Hardware;
use crate::{
    checkout_paths::CheckoutPaths,
    clock,
    namespace::Namespace,
    process::{Service, run},
};

/// Free slots for what is plugged in later: devices that the monitor's `device_add`
/// calls `bus=slot0`.
pub(crate) const SLOTS: u32 = 2;

/// Memory of each NUMA node, MiB. The image in RAM takes 250 MiB.
const MEMORY_MIB: u32 = 768;

/// Threads of the NUMA nodes that have some.
const THREADS: [&str; 3] = ["0-1", "2-3", "4-7"];

/// Distances between NUMA nodes, as the firmware tells.
const DISTANCES: [[u32; 4]; 4] =
    [[10, 12, 21, 17], [12, 10, 21, 17], [21, 21, 10, 28], [17, 17, 28, 10]];

/// What SMBIOS says of the machine.
const SMBIOS: [&str; 5] = [
    "type=0,vendor=Bedplate,version=1.2,date=11/25/2026",
    "type=1,manufacturer=Example Machines,product=Rack 4,version=B,serial=S-0004,uuid=6d2f7a5e-0004-4c1b-9a77-0a4be1d00004,sku=R4-2S,family=Rack",
    "type=2,manufacturer=Example Boards,product=B4,version=C,serial=B-0004",
    "type=3,manufacturer=Example Machines,version=D,serial=C-0004,asset=A-0004",
    "type=17,loc_pfx=DIMM_,bank=BANK 0,manufacturer=Example Memory,serial=M-0004,asset=M4,part=EM-4800,speed=4800",
];

/// Its disks: name of the file, size in MiB, QEMU's device.
const DISKS: [(&str, u32, &str); 4] = [
    ("nvme", 96, "nvme,serial=NV-0004"),
    ("virtio-a", 64, "virtio-blk-pci,serial=VA-0004"),
    ("virtio-b", 48, "virtio-blk-pci,serial=VB-0004,physical_block_size=4096"),
    ("sata", 80, "ide-hd,serial=SA-0004,wwn=0x5000c50015ea71ac,rotation_rate=7200"),
];

/// Everything but what all machines have.
pub(super) fn arguments(
    checkout_paths: &CheckoutPaths,
    namespace: &Namespace,
    hardware: &Hardware,
    add: &mut impl FnMut(&[&str]),
) -> anyhow::Result<()> {
    add(&["-smp", "8,sockets=2,cores=2,threads=2", "-m", &(4 * MEMORY_MIB).to_string()]);
    for numa in 0..4_usize {
        add(&["-object", &format!("memory-backend-ram,id=ram{numa},size={MEMORY_MIB}M")]);
        let cpus = THREADS.get(numa).map_or_else(String::new, |threads| format!("cpus={threads},"));
        add(&["-numa", &format!("node,nodeid={numa},{cpus}memdev=ram{numa}")]);
    }
    for (from, row) in DISTANCES.iter().enumerate() {
        for (to, distance) in row.iter().enumerate() {
            add(&["-numa", &format!("dist,src={from},dst={to},val={distance}")]);
        }
    }
    for table in SMBIOS {
        add(&["-smbios", table]);
    }
    let tpm = tpm_socket(checkout_paths, hardware);
    add(&[
        "-chardev",
        &format!("socket,id=tpm,path={tpm}"),
        "-tpmdev",
        "emulator,id=tpm0,chardev=tpm",
    ]);
    add(&["-device", "tpm-tis,tpmdev=tpm0"]);
    add(&["-device", "ipmi-bmc-sim,id=bmc0", "-device", "isa-ipmi-kcs,bmc=bmc0"]);
    for (name, mebibytes, device) in DISKS {
        let file = checkout_paths.of_run(&format!("pids/{}-{name}.img", hardware.name));
        let image =
            fs::File::create(&file).with_context(|| format!("cannot write {}", file.display()))?;
        image
            .set_len(u64::from(mebibytes) << 20)
            .with_context(|| format!("cannot size {}", file.display()))?;
        add(&["-drive", &format!("if=none,id={name},format=raw,file={}", file.display())]);
        add(&["-device", &format!("{device},drive={name}")]);
    }
    let third = format!("{}-third", hardware.name);
    namespace.add_port(&third)?;
    add(&["-netdev", &format!("tap,id=third,ifname={third},script=no,downscript=no")]);
    add(&["-device", "e1000e,netdev=third,mac=52:54:00:77:02:14,romfile="]);
    for slot in 0..SLOTS {
        add(&[
            "-device",
            &format!("pcie-root-port,id=slot{slot},chassis={},slot={}", slot + 1, slot + 1),
        ]);
    }
    Ok(())
}

fn tpm_socket(checkout_paths: &CheckoutPaths, hardware: &Hardware) -> String {
    checkout_paths.of_run(&format!("pids/{}.tpm", hardware.name)).display().to_string()
}

/// Starts the machine's TPM (package swtpm), which must be there before it.
pub(super) fn start_tpm(
    checkout_paths: &CheckoutPaths,
    hardware: &Hardware,
) -> anyhow::Result<Service> {
    let (directory, socket) =
        (checkout_paths.of_run("pids/tpm-state"), tpm_socket(checkout_paths, hardware));
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let words = format!(
        "socket --tpm2 --tpmstate dir={} --ctrl type=unixio,path={socket}",
        directory.display()
    );
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let program = run("which", &["swtpm"]).context("swtpm is missing: run xtask/setup.sh")?;
    let log = checkout_paths.of_run("consoles/tpm.log");
    let service = Service::start(checkout_paths, "tpm", Path::new(program.trim()), &words, &log)?;
    clock::wait_for("the TPM", Duration::from_secs(10), || {
        Ok(Path::new(&socket).exists().then_some(()))
    })?;
    Ok(service)
}
