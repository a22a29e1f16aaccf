//! Machines that are very large, and machines that lie.

use std::{fmt::Write, fs, path::Path};

use hwlocality::{Topology, topology::export::xml::XMLExportFlags};

fn write(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_machine_with_1024_pus() {
    let root = tempfile::tempdir().unwrap();
    let machine = "pack:8 numa:2 l3:4(size=33554432) core:8 pu:2";
    let hwloc = Topology::builder().from_synthetic(machine).unwrap().build().unwrap();
    write(root.path(), "topology.xml", hwloc.export_xml(XMLExportFlags::empty()).unwrap());
    let flags: Vec<_> = (0..150).map(|flag| format!("flag{flag:03}")).collect();
    let cpuinfo = (0..1024).fold(String::new(), |mut text, pu| {
        let flags = flags.join(" ");
        write!(text, "processor\t: {pu}\nvendor_id\t: GenuineIntel\nflags\t\t: {flags}\n\n")
            .unwrap();
        text
    });
    assert!(cpuinfo.len() > 1 << 20);
    write(root.path(), "proc/cpuinfo", cpuinfo);
    write(root.path(), "sys/devices/system/cpu/present", "0-1023\n");
    write(root.path(), "sys/devices/system/cpu/offline", "1024-8191\n");
    write(root.path(), "sys/devices/system/node/online", "0-15\n");
    for node in 0..16 {
        let directory = format!("sys/devices/system/node/node{node}");
        let distances: Vec<_> =
            (0..16).map(|other| if other == node { "10" } else { "21" }).collect();
        write(root.path(), &format!("{directory}/distance"), distances.join(" "));
        write(
            root.path(),
            &format!("{directory}/cpulist"),
            format!("{}-{}", node * 64, node * 64 + 63),
        );
    }
    let inventory = inventory::collect(root.path());
    assert_eq!(inventory.gaps, []);
    let topology = &inventory.topology;
    assert_eq!((topology.pus, topology.cores.len(), topology.packages.len()), (1024, 512, 8));
    assert_eq!(
        (topology.cpu_vendor.as_deref(), topology.cpu_flags.len()),
        (Some("GenuineIntel"), 150)
    );
    assert_eq!(topology.numa_nodes[15].pus, (960..1024).collect::<Vec<_>>());
    assert_eq!((topology.distances.len(), topology.offline_pus.len()), (16, 0));
    assert_eq!(topology.cores[511].numa_node, Some(15));
}

#[test]
fn what_lies_is_named_and_the_rest_is_told() {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, bytes: &[u8]| write(root.path(), path, bytes);
    put("topology.xml", b"<topology><object type=\"Machine\">");
    put("proc/cpuinfo", &[0xff; 100_000]);
    put("sys/devices/system/cpu/offline", b"5-1\n");
    put("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", b"-1\n");
    put("sys/devices/system/node/online", b"all\n");
    put("sys/firmware/dmi/tables/DMI", &vec![17; 2 << 20]);
    put("sys/class/dmi/id/chassis_type", b"99\n");
    put("sys/class/dmi/id/sys_vendor", b"ACME\n");
    put("sys/class/dmi/id/board_name", &vec![b'x'; 100_000]);
    put("sys/class/dmi/id/board_serial", b"\x01\x02");
    put("sys/class/tpm/tpm0/tpm_version_major", b"two\n");
    let device = "sys/bus/pci/devices/0000:01:00.0";
    for (name, value) in [("class", "0x020000"), ("vendor", "0x15b3"), ("device", "0x1021")] {
        put(&format!("{device}/{name}"), value.as_bytes());
    }
    for (name, value) in [
        ("subsystem_vendor", "junk"),
        ("revision", "0xfffff"),
        ("max_link_speed", "1e9 GT/s"),
        ("max_link_width", "255"),
        ("sriov_numvfs", "99999999999999999999"),
        ("numa_node", "4294967296"),
    ] {
        put(&format!("{device}/{name}"), value.as_bytes());
    }
    put("sys/bus/pci/devices/0000:02:00.0/class", b"0x0");
    let inventory = inventory::collect(root.path());
    assert_eq!(inventory.system.vendor.as_deref(), Some("ACME"));
    assert_eq!((inventory.pci.len(), inventory.pci[0].link.as_ref()), (1, None));
    let gaps: Vec<_> =
        inventory.gaps.iter().map(|gap| format!("{}: {}", gap.subject, gap.cause)).collect();
    expect_test::expect![[r#"
        /sys/class/dmi/id/chassis_type: no known type of chassis: 99
        /sys/class/dmi/id/board_name: larger than 65536 bytes
        /sys/class/dmi/id/board_serial: binary, not text
        /sys/class/tpm/tpm0/tpm_version_major: not a number: "two"
        /sys/firmware/dmi/tables/DMI: larger than 1048576 bytes
        hwloc: hwloc_topology_load failed with errno Some(Errno { code: 22, description: Some("Invalid argument") })
        /proc/cpuinfo: a line that is too long
        /sys/devices/system/cpu/offline: not a list: "5-1"
        /sys/devices/system/node/online: not a list: "all"
        /sys/bus/pci/devices/0000:01:00.0/subsystem_vendor: not 4 hexadecimal digits
        /sys/bus/pci/devices/0000:01:00.0/revision: not 2 hexadecimal digits
        /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs: not a number: "99999999999999999999"
        /sys/bus/pci/devices/0000:02:00.0/class: not 6 hexadecimal digits"#]].assert_eq(&gaps.join("\n"));
}
