//! What is not well, over several looks at a machine that changes between them.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use api::inventory::{FaultLevel, Inventory};
use expect_test::expect;
use inventory::{
    Collector, Parts,
    health::kernel_log,
    ioctls::{Captured, Ioctls, SMART_LOG_BYTES},
};

use crate::unpack;

fn collector(root: &Path) -> Collector {
    Collector::new(root, Box::new(Captured::new(root)))
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{text}\n")).unwrap();
}

/// Faults of some subjects, and the devices that are out of service.
fn told(inventory: &Inventory, of: &str) -> String {
    let faults = inventory.faults.iter().filter(|fault| fault.subject.starts_with(of));
    let mut lines: Vec<String> = faults
        .map(|fault| format!("{:?} {}: {}", fault.level, fault.subject, fault.message))
        .collect();
    let unhealthy = inventory
        .devices
        .iter()
        .filter_map(|device| Some((&device.name, device.unhealthy.as_ref()?)));
    lines.extend(
        unhealthy
            .filter(|(_, why)| why.starts_with(of))
            .map(|(name, _)| format!("{name} is unhealthy")),
    );
    lines.join("\n")
}

#[test]
fn an_interface_is_told_of_when_it_loses_its_link() {
    let root = unpack("notebook");
    let mut collector = collector(root.path());
    assert_eq!(told(&collector.collect(Parts::ALL), "nic"), "");
    let wireless = "sys/class/net/wlp0s20f3/carrier";
    write(root.path(), wireless, "0");
    let inventory = collector.collect(Parts::HEALTH);
    assert_eq!(told(&inventory, "nic"), "Warning nic wlp0s20f3: has no link");
    assert!(inventory.nics.iter().any(|nic| nic.name == "wlp0s20f3" && nic.carrier == Some(false)));
    // Switched off: the kernel refuses to tell, here by an entry that is not there.
    fs::remove_file(root.path().join(wireless)).unwrap();
    assert_eq!(told(&collector.collect(Parts::HEALTH), "nic"), "");
    write(root.path(), wireless, "1");
    assert_eq!(told(&collector.collect(Parts::HEALTH), "nic"), "");
    fs::remove_file(root.path().join("sys/class/net/wlp0s20f3")).unwrap();
    assert_eq!(told(&collector.collect(Parts::NICS), "nic"), "");
}

#[test]
fn an_adapter_without_active_port_is_out_of_service_until_it_has_one() {
    let root = unpack("dgx-h100");
    let mut collector = collector(root.path());
    let polling = expect![[r"
        Warning infiniband mlx5_3: its PCI Express link has 8 of 16 lanes
        Error infiniband mlx5_3 port 1: finds no link partner
        rdma/hca=mlx5_3 is unhealthy"]];
    polling.assert_eq(&told(&collector.collect(Parts::ALL), "infiniband"));
    let port = |name: &str| format!("sys/class/infiniband/mlx5_0/ports/1/{name}");
    write(root.path(), &port("state"), "1: DOWN");
    write(root.path(), &port("phys_state"), "3: Disabled");
    expect![[r"
        Warning infiniband mlx5_3: its PCI Express link has 8 of 16 lanes
        Error infiniband mlx5_0 port 1: is DOWN, its link Disabled
        Error infiniband mlx5_3 port 1: finds no link partner
        rdma/hca=mlx5_0 is unhealthy
        rdma/hca=mlx5_3 is unhealthy"]]
    .assert_eq(&told(&collector.collect(Parts::HEALTH), "infiniband"));
    write(root.path(), &port("state"), "2: INIT");
    write(root.path(), &port("phys_state"), "5: LinkUp");
    let waits = told(&collector.collect(Parts::HEALTH), "infiniband mlx5_0");
    assert_eq!(
        waits.lines().next(),
        Some("Error infiniband mlx5_0 port 1: has a link, and no subnet manager makes it active")
    );
    write(root.path(), &port("state"), "4: ACTIVE");
    polling.assert_eq(&told(&collector.collect(Parts::HEALTH), "infiniband"));
}

#[test]
fn a_port_beside_an_active_one_is_a_warning() {
    let root = unpack("infiniband");
    let mut collector = collector(root.path());
    // mlx5_1 is an Ethernet port that nobody plugged in.
    assert_eq!(told(&collector.collect(Parts::ALL), "infiniband"), "");
    for (name, value) in
        [("state", "1: DOWN"), ("phys_state", "2: Polling"), ("link_layer", "InfiniBand")]
    {
        write(root.path(), &format!("sys/class/infiniband/mlx5_0/ports/2/{name}"), value);
    }
    let inventory = collector.collect(Parts::INFINIBAND);
    assert_eq!(
        told(&inventory, "infiniband"),
        "Warning infiniband mlx5_0 port 2: finds no link partner"
    );
}

#[test]
fn errors_of_memory_name_the_module_and_pass() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        write(root.path(), &format!("sys/devices/system/edac/mc/mc0/{name}"), text)
    };
    for (name, text) in [("ce_count", "5"), ("ue_count", "0"), ("ce_noinfo_count", "0")] {
        file(name, text);
    }
    for (dimm, label) in
        [("dimm0", "CPU_SrcID#0_MC#0_Chan#0_DIMM#0"), ("dimm3", "CPU_SrcID#0_MC#0_Chan#1_DIMM#0")]
    {
        file(&format!("{dimm}/dimm_label"), label);
        file(&format!("{dimm}/dimm_ce_count"), "5");
        file(&format!("{dimm}/dimm_ue_count"), "0");
    }
    let mut collector = collector(root.path());
    // What was counted before anybody looked is nobody's business now.
    assert_eq!(told(&collector.collect(Parts::ALL), "memory"), "");
    file("ce_count", "6");
    file("dimm3/dimm_ce_count", "6");
    let grows = "Warning memory: corrected errors in CPU_SrcID#0_MC#0_Chan#1_DIMM#0";
    for look in 0..10 {
        assert_eq!(told(&collector.collect(Parts::HEALTH), "memory"), grows, "{look}");
        // Looks for another reason are not minutes.
        collector.collect(Parts::NICS);
    }
    assert_eq!(told(&collector.collect(Parts::HEALTH), "memory"), "");
    file("ce_count", "7");
    assert_eq!(
        told(&collector.collect(Parts::HEALTH), "memory"),
        "Warning memory: corrected errors at controller mc0"
    );
    file("ue_count", "1");
    file("dimm0/dimm_ue_count", "1");
    for _ in 0..20 {
        collector.collect(Parts::HEALTH);
    }
    let stays = "Error memory: uncorrected errors in CPU_SrcID#0_MC#0_Chan#0_DIMM#0";
    assert_eq!(told(&collector.collect(Parts::HEALTH), "memory"), stays);
}

#[test]
fn heat_and_errors_of_the_bus_are_told_while_they_grow() {
    let root = unpack("notebook");
    let throttled = "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count";
    let fatal = "sys/bus/pci/devices/0000:01:00.0/aer_dev_fatal";
    write(root.path(), throttled, "100");
    write(root.path(), fatal, "Undefined 0\nDLP 0\nTOTAL_ERR_FATAL 0");
    let mut collector = collector(root.path());
    let first = collector.collect(Parts::ALL);
    assert_eq!((told(&first, "cpu"), told(&first, "pci")), (String::new(), String::new()));
    write(root.path(), throttled, "101");
    write(root.path(), fatal, "Undefined 0\nDLP 1\nTOTAL_ERR_FATAL 1");
    let second = collector.collect(Parts::HEALTH);
    assert_eq!(told(&second, "cpu"), "Warning cpu package 0: is slowed down for its heat");
    let later: Vec<String> =
        (0..8).map(|_| told(&collector.collect(Parts::HEALTH), "pci")).collect();
    assert_eq!(
        later[6..],
        ["", "Warning pci 0000:01:00.0: fatal errors on PCI Express"],
        "at the tenth look"
    );
}

#[test]
fn a_gpu_that_is_gone_is_out_of_service() {
    let root = unpack("dgx-h100");
    let mut collector = collector(root.path());
    let before = told(&collector.collect(Parts::ALL), "gpu 0000:1b");
    assert_eq!(before, "");
    let config = root.path().join("sys/bus/pci/devices/0000:1b:00.0/config");
    fs::write(&config, [0xff; 64]).unwrap();
    expect![[r"
        Error gpu 0000:1b:00.0: has fallen off the bus
        nvidia.com/gpu=0 is unhealthy"]]
    .assert_eq(&told(&collector.collect(Parts::HEALTH), "gpu 0000:1b"));
    fs::write(&config, [0xde, 0x10, 0x30, 0x23]).unwrap();
    assert_eq!(told(&collector.collect(Parts::HEALTH), "gpu 0000:1b"), "");
    fs::remove_file(root.path().join("proc/driver/nvidia/gpus/0000:43:00.0/information")).unwrap();
    let lost = told(&collector.collect(Parts::HEALTH), "gpu 0000:43");
    assert_eq!(lost.lines().next(), Some("Error gpu 0000:43:00.0: its driver has lost it"));
}

#[test]
fn a_sleeping_gpu_is_not_woken_and_not_missed() {
    let root = unpack("notebook");
    let mut collector = collector(root.path());
    assert_eq!(told(&collector.collect(Parts::ALL), "gpu"), "");
    write(root.path(), "sys/bus/pci/devices/0000:03:00.0/power/runtime_status", "active");
    assert_eq!(
        told(&collector.collect(Parts::HEALTH), "gpu"),
        "Error gpu 0000:03:00.0: has fallen off the bus"
    );
}

#[test]
fn what_the_log_told_of_a_gpu_lasts_until_its_driver_is_bound_again() {
    let root = unpack("dgx-h100");
    let mut collector = collector(root.path());
    collector.collect(Parts::ALL);
    let record = "4,1,2,-;NVRM: Xid (PCI:0000:1b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.";
    let fatal = kernel_log(record).unwrap();
    let mild =
        kernel_log("4,1,2,-;NVRM: Xid (PCI:0000:61:00): 63, Row Remapper: New row marked").unwrap();
    assert_eq!((fatal.level, mild.level), (FaultLevel::Error, FaultLevel::Warning));
    for incident in [&fatal, &fatal, &mild] {
        collector.incident(incident);
    }
    let expected =
        "Error gpu 0000:1b:00.0: Xid 79: has fallen off the bus\nnvidia.com/gpu=0 is unhealthy";
    for parts in [Parts::HEALTH, Parts::DEVICES, Parts::ALL] {
        let inventory = collector.collect(parts);
        assert_eq!(told(&inventory, "gpu 0000:1b"), expected);
        let mild = "Warning gpu 0000:61:00.0: Xid 63: a page or row of its memory is to be taken out of use at its next reset";
        assert_eq!(told(&inventory, "gpu 0000:61"), mild);
    }
    for _ in 0..10 {
        collector.collect(Parts::HEALTH);
    }
    let later = collector.collect(Parts::DEVICES);
    assert_eq!(
        (told(&later, "gpu 0000:1b").as_str(), told(&later, "gpu 0000:61").as_str()),
        (expected, "")
    );
    collector.rebound("0000:1b:00.0");
    assert_eq!(told(&collector.collect(Parts::HEALTH), "gpu 0000:1b"), "");
}

/// Parts of a GPU share its node and have others of their own, which tell no address.
#[test]
fn parts_of_a_unhealthy_gpu_are_unhealthy() {
    let root = unpack("dgx-h100");
    let part = |gpu: u32, part: u32| {
        let cap = format!("/dev/nvidia-caps/nvidia-cap{}", 10 * gpu + part);
        write(root.path(), cap.trim_start_matches('/'), "");
        format!(
            "  - {{name: \"{gpu}:{part}\", containerEdits: {{deviceNodes: [{{path: /dev/nvidia{gpu}}}, {{path: {cap}}}]}}}}\n"
        )
    };
    let parts = [part(6, 0), part(6, 1), part(7, 0), part(7, 1)].concat();
    let spec = format!(
        "cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ncontainerEdits: {{deviceNodes: [{{path: /dev/nvidiactl}}]}}\ndevices:\n{parts}"
    );
    write(root.path(), "etc/cdi/nvidia.yaml", &spec);
    let mut collector = collector(root.path());
    let inventory = collector.collect(Parts::ALL);
    let at = |name: &str| {
        let device = inventory.devices.iter().find(|device| device.name.name() == name).unwrap();
        (device.pci.as_deref(), device.numa_node)
    };
    assert_eq!(
        (at("6:1"), at("7:0")),
        ((Some("0000:d1:00.0"), Some(1)), (Some("0000:df:00.0"), Some(1)))
    );
    collector.incident(&kernel_log("4,1,2,-;NVRM: Xid (PCI:0000:df:00): 95, Uncontained").unwrap());
    expect![[r"
        Error gpu 0000:df:00.0: Xid 95: uncorrected error of its memory that may have met several programs
        nvidia.com/gpu=7:0 is unhealthy
        nvidia.com/gpu=7:1 is unhealthy"]]
    .assert_eq(&told(&collector.collect(Parts::HEALTH), "gpu 0000:df"));
}

#[test]
fn counts_of_a_driver_are_asked_again_after_an_incident() {
    let root = unpack("dgx-h100");
    let mut collector = collector(root.path());
    let uncorrected = |inventory: &Inventory| inventory.gpus[0].ecc.clone().unwrap().uncorrected;
    assert_eq!(uncorrected(&collector.collect(Parts::ALL)), Some(0));
    let report = root.path().join("nvidia-smi.xml");
    let changed = fs::read_to_string(&report).unwrap();
    fs::write(&report, changed.replacen("<dram_uncorrectable>0<", "<dram_uncorrectable>2<", 1))
        .unwrap();
    assert_eq!(uncorrected(&collector.collect(Parts::GPUS)), Some(0));
    collector
        .incident(&kernel_log("4,1,2,-;NVRM: Xid (PCI:0000:1b:00): 94, pid=1, Contained").unwrap());
    let inventory = collector.collect(Parts::GPUS);
    assert_eq!(uncorrected(&inventory), Some(2));
    assert!(told(&inventory, "gpu 0000:1b").contains("it needs a reset"), "{:?}", inventory.faults);
}

#[test]
fn parts_of_a_gpu_are_asked_for_again_when_they_change() {
    let root = unpack("dgx-h100");
    let mut collector = collector(root.path());
    assert_eq!(collector.collect(Parts::ALL).gpus[7].mig.len(), 2);
    let report = root.path().join("nvidia-smi.xml");
    let changed = fs::read_to_string(&report).unwrap();
    fs::write(&report, changed.replace("<gpu_instance_id>2<", "<gpu_instance_id>5<")).unwrap();
    let directory = root.path().join("proc/driver/nvidia/capabilities/gpu7/mig");
    fs::rename(directory.join("gi2"), directory.join("gi5")).unwrap();
    assert_eq!(collector.collect(Parts::GPUS).gpus[7].mig[1].gpu_instance, 5);
}

/// Counts how often disks are asked.
#[derive(Debug)]
struct Counting(Arc<AtomicU32>);

impl Ioctls for Counting {
    fn nvme_smart_log(&self, controller: &str) -> io::Result<[u8; SMART_LOG_BYTES]> {
        assert_eq!(controller, "nvme0");
        self.0.fetch_add(1, Ordering::Relaxed);
        let mut log = [0; SMART_LOG_BYTES];
        // Well at first, then read-only.
        (log[0], log[3]) = (if self.0.load(Ordering::Relaxed) > 1 { 0b1000 } else { 0 }, 100);
        Ok(log)
    }

    fn ethtool_firmware(&self, _: &str) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn ipmi(&self, _: u8, _: u8, _: &[u8]) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

#[test]
fn disks_are_asked_at_every_tenth_look() {
    let root = unpack("notebook");
    let asked = Arc::new(AtomicU32::new(0));
    let mut collector = Collector::new(root.path(), Box::new(Counting(Arc::clone(&asked))));
    for look in 1..=30 {
        let inventory = collector.collect(if look == 1 { Parts::ALL } else { Parts::HEALTH });
        assert_eq!(asked.load(Ordering::Relaxed), 1 + look / 10, "{look}");
        let expected = if look < 10 { "" } else { "Error disk nvme0n1: has made itself read-only" };
        assert_eq!(told(&inventory, "disk"), expected, "{look}");
    }
    write(root.path(), "sys/block/nvme0n1/device/state", "dead");
    let dead = told(&collector.collect(Parts::HEALTH), "disk");
    assert!(
        dead.starts_with(
            "Error disk nvme0n1: has made itself read-only\nError disk nvme0n1: is dead"
        ),
        "{dead}"
    );
}

#[test]
fn requests_that_fail_are_told() {
    let root = unpack("storage");
    let mut collector = collector(root.path());
    assert_eq!(told(&collector.collect(Parts::ALL), "disk sda"), "");
    write(root.path(), "sys/block/sda/device/ioerr_cnt", "0x1f");
    let inventory = collector.collect(Parts::HEALTH);
    assert_eq!(told(&inventory, "disk sda"), "Warning disk sda: requests to it fail");
}
