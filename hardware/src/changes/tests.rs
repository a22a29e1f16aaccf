//! Two inventories in, lines out.

use api::inventory::{Disk, Gpu, Inventory};
use expect_test::expect;
use serde_json::{Value, json};

use super::*;

/// A GPU server.
fn server() -> Value {
    json!({
        "system": {"serial": "S1"},
        "firmware": {"version": "1.4", "boot-mode": "uefi", "secure-boot": true},
        "os": {"kernel": "6.1.0-38-amd64"},
        "topology": {"microcode": "0xa101148", "packages": [{"index": 0}, {"index": 1}], "pus": 4,
            "numa-nodes": [{"index": 0}, {"index": 1}],
            "cores": [{"index": 0, "pus": [0, 1]}, {"index": 1, "pus": [2, 3]}]},
        "memory-bytes": 68_719_476_736_u64,
        "memory-modules": [
            {"locator": "DIMM_A1", "size-bytes": 34_359_738_368_u64, "serial": "M1"},
            {"locator": "DIMM_B1", "size-bytes": 34_359_738_368_u64, "serial": "M2"},
            {"locator": "DIMM_C1"}],
        "pci": [
            {"address": "0000:01:00.0", "vendor": "15b3", "device": "1021", "driver": "mlx5_core",
                "link": {"speed-mts": 32000, "width": 16, "max-speed-mts": 32000, "max-width": 16}},
            {"address": "0000:02:00.0", "vendor": "144d", "device": "a80a", "driver": "nvme"},
            {"address": "0000:3b:00.0", "vendor": "10de", "device": "2330", "driver": "nvidia",
                "link": {"speed-mts": 32000, "width": 16, "max-speed-mts": 32000, "max-width": 16}},
            {"address": "0000:00:1f.4", "vendor": "8086", "device": "a323"}],
        "nics": [{"name": "lan0", "mac": "52:54:00:00:00:01", "pci": "0000:01:00.0", "state": "up", "carrier": true,
            "speed-mbits": 25000, "addresses": ["10.1.0.11", "fe80::1"], "firmware": "28.4"}],
        "disks": [{"name": "nvme0n1", "size-bytes": 1_000_204_886_016_u64, "model": "PM9A3", "serial": "D1",
            "pci": "0000:02:00.0", "health": {"state": "live", "media-errors": 0}}],
        "gpus": [{"pci": "0000:3b:00.0", "vendor": "nvidia", "model": "H100", "driver-version": "550.90",
            "ecc": {"enabled": true, "corrected": 3}}],
        "infiniband": [{"name": "mlx5_0", "guid": "0011:2233", "firmware": "28.4", "pci": "0000:01:00.0",
            "ports": [{"number": 1, "state": "ACTIVE", "rate": "400 Gb/sec (4X NDR)"}]}],
        "devices": [{"name": "nvidia.com/gpu=0", "numa-node": 0, "pci": "0000:3b:00.0", "source": "/etc/cdi/nvidia.yaml"}]
    })
}

fn read(value: Value) -> Inventory {
    serde_json::from_value(value).unwrap()
}

fn text(news: &[(Severity, String)]) -> String {
    news.iter()
        .fold(String::new(), |text, (severity, line)| text + severity.as_str() + ": " + line + "\n")
}

fn told(before: &Inventory, after: &Inventory, moment: InventoryMoment) -> String {
    text(&changes(before, after, moment))
}

fn running(change: impl Fn(&mut Inventory)) -> String {
    let before = read(server());
    let mut after = before.clone();
    change(&mut after);
    told(&before, &after, InventoryMoment::Running)
}

#[test]
fn nothing_new_has_no_line() {
    assert_eq!(running(|_| {}), "");
    let counters = |inventory: &mut Inventory| {
        inventory.gpus[0].ecc.as_mut().unwrap().corrected = Some(9);
        inventory.disks[0].health.as_mut().unwrap().media_errors = Some(1);
        inventory.pci[2].link.as_mut().unwrap().speed_mts = 2500;
    };
    assert_eq!(running(counters), "");
    let (before, mut after) = (read(server()), read(server()));
    counters(&mut after);
    assert!(is_only_counters(&before, &after));
    after.nics[0].duplex = Some("half".to_owned());
    assert!(!is_only_counters(&before, &after));
}

#[test]
fn what_is_pulled_out_is_told_once() {
    let unplugged = running(|now| {
        now.disks.clear();
        now.pci.remove(1);
        now.nics.clear();
        now.infiniband.clear();
        now.pci.remove(0);
    });
    expect![[r#"
        warning: nic lan0 (52:54:00:00:00:01) is gone
        warning: infiniband mlx5_0 is gone
        warning: disk nvme0n1 (931.5 GiB, PM9A3, D1) is gone
    "#]]
    .assert_eq(&unplugged);
    let (before, mut after) = (read(server()), read(server()));
    after.disks.clear();
    after.pci.pop();
    expect![[r#"
        info: disk nvme0n1 (931.5 GiB, PM9A3, D1) is new
        info: PCI device 0000:00:1f.4 (8086:a323) is new
    "#]]
    .assert_eq(&told(&after, &before, InventoryMoment::Running));
}

#[test]
fn links_addresses_and_versions() {
    let changed = running(|now| {
        now.nics[0].carrier = Some(false);
        now.nics[0].addresses = vec!["10.1.0.12".parse().unwrap()];
        now.nics[0].firmware = Some("28.5".to_owned());
        now.infiniband[0].ports[0].state = Some("DOWN".to_owned());
        now.infiniband[0].ports[0].rate = Some("10 Gb/sec (4X SDR)".to_owned());
        now.os.kernel = Some("6.1.0-39-amd64".to_owned());
        now.topology.microcode = Some("0xa10114c".to_owned());
        now.firmware.secure_boot = Some(false);
        now.gpus[0].driver_version = Some("560.28".to_owned());
        now.pci[2].link.as_mut().unwrap().width = 8;
    });
    expect![[r#"
        warning: Secure Boot is off, was on
        warning: nic lan0: link down, was link up
        warning: infiniband mlx5_0 port 1: DOWN, was ACTIVE
        warning: PCI device 0000:3b:00.0: link of 8 lanes, were 16
        info: kernel is 6.1.0-39-amd64, was 6.1.0-38-amd64
        info: microcode is 0xa10114c, was 0xa101148
        info: nic lan0: 10.1.0.12, was 10.1.0.11
        info: nic lan0: firmware is 28.5, was 28.4
        info: gpu 0000:3b:00.0: driver is 560.28, was 550.90
    "#]]
    .assert_eq(&changed);
}

#[test]
fn memory_less_than_yesterday() {
    let changed = running(|now| {
        now.memory_bytes -= 34_359_738_368;
        now.memory_modules[1].size_bytes = None;
        now.memory_modules[0].serial = Some("M7".to_owned());
        now.topology.offline_pus = vec![3];
        now.topology.pus = 3;
    });
    expect![[r#"
        warning: memory: 32 GiB, 32 GiB less than before
        warning: memory module DIMM_B1 (32 GiB, M2) is gone
        warning: hardware threads: 3, were 4
        warning: hardware threads switched off: 1, were 0
        info: memory module DIMM_A1: serial number is M7, was M1
    "#]]
    .assert_eq(&changed);
    assert_eq!(running(|now| now.memory_bytes -= 4 << 20), "", "the kernel's own share moves");
    assert_eq!(
        running(|now| now.memory_modules.clear()),
        "",
        "SMBIOS that cannot be read is a gap"
    );
}

fn fault(level: FaultLevel, subject: &str, message: &str) -> Fault {
    Fault { level, subject: subject.to_owned(), message: message.to_owned() }
}

#[test]
fn faults_come_and_go() {
    let unhealthy = |now: &mut Inventory| {
        now.faults = vec![
            fault(FaultLevel::Error, "gpu 0000:3b:00.0", "uncorrected memory errors"),
            fault(FaultLevel::Warning, "nic lan0", "no link"),
            fault(FaultLevel::Warning, "disk nvme0n1", "little spare is left"),
        ];
        now.nics[0].carrier = Some(false);
        now.devices[0].unhealthy = Some("uncorrected memory errors".to_owned());
    };
    expect![[r#"
        error: gpu 0000:3b:00.0: uncorrected memory errors
        warning: disk nvme0n1: little spare is left
        warning: nic lan0: no link
        warning: nvidia.com/gpu=0 is out of service: uncorrected memory errors
    "#]]
    .assert_eq(&running(unhealthy));
    let (well, mut ill) = (read(server()), read(server()));
    unhealthy(&mut ill);
    expect![[r#"
        info: nvidia.com/gpu=0 is in service again
        info: disk nvme0n1 is well again (was: little spare is left)
        info: gpu 0000:3b:00.0 is well again (was: uncorrected memory errors)
        info: nic lan0 is well again (was: no link)
    "#]]
    .assert_eq(&told(&ill, &well, InventoryMoment::Running));

    // A disk that was pulled is not well again; a fault that got worse is not over.
    let mut pulled = ill.clone();
    pulled.disks.clear();
    pulled.faults.pop();
    pulled.faults[1].level = FaultLevel::Error;
    expect![[r#"
        error: nic lan0: no link
        warning: disk nvme0n1 (931.5 GiB, PM9A3, D1) is gone
    "#]]
    .assert_eq(&told(&ill, &pulled, InventoryMoment::Running));
}

#[test]
fn a_driver_that_is_not_loaded_yet_is_no_alarm() {
    let booted = |now: &mut Inventory| {
        let Gpu { model, driver_version, .. } = &mut now.gpus[0];
        (*model, *driver_version) = (None, None);
        now.pci[2].driver = None;
        now.devices.clear();
        now.infiniband.clear();
        now.nics[0].carrier = Some(false);
    };
    let (before, mut early) = (read(server()), read(server()));
    booted(&mut early);
    expect![[r#"
        info: nic lan0: link down, was link up
        info: infiniband mlx5_0 is not there yet after the start of the agent
        info: 1 nvidia.com/gpu cannot be granted yet after the start of the agent: 0
    "#]]
    .assert_eq(&told(&before, &early, InventoryMoment::Start));

    // The new driver is compared with the one before the boot.
    let mut loaded = before.clone();
    loaded.gpus[0].driver_version = Some("560.28".to_owned());
    let known = remembered(vec![early.clone(), before.clone()]).unwrap();
    expect![[r#"
        info: nic lan0: link up, was link down
        info: infiniband mlx5_0 is new
        info: gpu 0000:3b:00.0: driver is 560.28, was 550.90
        info: 1 nvidia.com/gpu can be granted: 0
    "#]]
    .assert_eq(&told(&known, &loaded, InventoryMoment::Running));

    // One that fell off the bus takes its PCI device with it.
    let mut fallen = before.clone();
    fallen.gpus.clear();
    fallen.pci.remove(2);
    fallen.devices.clear();
    expect![[r#"
        warning: gpu 0000:3b:00.0 (H100) is gone
        warning: 1 nvidia.com/gpu can no longer be granted: 0
    "#]]
    .assert_eq(&told(&before, &fallen, InventoryMoment::Start));
}

#[test]
fn things_are_known_by_more_than_their_names() {
    let disk = |name: &str, serial: Option<&str>| Disk {
        name: name.to_owned(),
        serial: serial.map(str::to_owned),
        size_bytes: 1 << 30,
        ..Disk::default()
    };
    let with = |disks: Vec<Disk>| Inventory { disks, ..Inventory::default() };
    // The kernel found them in another order.
    let swapped = told(
        &with(vec![disk("sda", Some("A")), disk("sdb", Some("B"))]),
        &with(vec![disk("sda", Some("B")), disk("sdb", Some("A"))]),
        InventoryMoment::Start,
    );
    expect![[r#"
        info: disk sdb was called sda
        info: disk sda was called sdb
    "#]]
    .assert_eq(&swapped);
    // Serial numbers that lie.
    let twins = told(
        &with(vec![disk("sda", Some("0")), disk("sdb", Some("0"))]),
        &with(vec![disk("sda", Some("0"))]),
        InventoryMoment::Running,
    );
    assert_eq!(twins, "warning: disk sdb (1 GiB, 0) is gone\n");
}

#[test]
fn lines_are_bounded_and_the_worst_come_first() {
    let mut ill = read(server());
    ill.disks.extend((0..100).map(|n| Disk { name: format!("sd{n}"), ..Disk::default() }));
    let mut after = read(server());
    after.faults = vec![fault(FaultLevel::Error, "memory", "uncorrected errors")];
    let news = changes(&ill, &after, InventoryMoment::Running);
    assert_eq!(news.len(), MAX_LINES);
    assert_eq!(news[0].0, Severity::Error);
    expect![[r#"
        warning: and 82 more changes of its hardware, 0 of them errors and 82 warnings: see its inventory
    "#]]
    .assert_eq(&text(&news[MAX_LINES - 1..]));
}

/// A machine in which all that only admins read is marked.
fn marked(number: u8) -> Inventory {
    let marker = format!("MARKER {number}");
    let mac = |nic: u8| format!("52:54:00:aa:{number:02x}:{nic:02x}");
    let inventory = json!({
        "system": {"serial": marker, "uuid": marker, "asset-tag": marker},
        "memory-modules": [{"locator": "A (1)", "size-bytes": 1_073_741_824, "serial": marker}],
        "bmc": {"address": format!("10.99.99.{number}"), "mac": mac(9)},
        "nics": [{"name": "lan0", "state": "up", "mac": mac(0), "pci": "0000:01:00.0"},
            {"name": "lan1", "state": "up", "mac": mac(1)}],
        "disks": [{"name": "sda", "size-bytes": 1_073_741_824, "model": "M (2)", "serial": marker}],
        "gpus": [{"pci": "0000:3b:00.0", "vendor": "nvidia", "model": "H100", "serial": marker}],
        "infiniband": [{"name": "mlx5_0", "guid": marker, "model": "MT4129"}]
    });
    serde_json::from_value(inventory).unwrap()
}

#[test]
fn no_change_of_hardware_tells_what_only_admins_read() {
    let empty = json!({"memory-modules": [{"locator": "A (1)"}]});
    let empty: Inventory = serde_json::from_value(empty).unwrap();
    let is_private =
        |line: &str| ["MARKER", "52:54:00", "10.99.99"].iter().any(|part| line.contains(part));
    let mut private = 0;
    for (before, after) in [(marked(1), marked(2)), (marked(1), empty.clone()), (empty, marked(2))]
    {
        for moment in [InventoryMoment::Start, InventoryMoment::Running] {
            for (_, line) in changes(&before, &after, moment) {
                private += usize::from(is_private(&line));
                let told = access::public_line(&line);
                assert!(!is_private(&told), "{line:?} becomes {told:?}");
            }
        }
    }
    assert!(private >= 12, "the lines of the history no longer tell it: {private}");
}
