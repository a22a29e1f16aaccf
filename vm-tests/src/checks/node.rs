//! What a booted node is like.

use anyhow::{Context as _, ensure};
use api::ids::NodeName;

use crate::{
    check::Memory,
    clock,
    cluster::{ADDRESSES, Cluster, MACHINES},
};

/// How far a node's clock may be off: ssh and a busy emulator take some seconds.
const CLOCK_SECONDS: u64 = 60;

/// 2002-01-01, in seconds since 1970.
const YEAR_2002: u64 = 1_009_843_200;

/// 2037-01-01, in seconds since 1970.
const YEAR_2037: u64 = 2_114_380_800;

/// The hardware clocks still show 2001 and 2037, the systems' clocks are right.
pub(crate) fn clock_healed(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    for (address, wrong) in ADDRESSES.iter().zip([0..YEAR_2002, YEAR_2037..u64::MAX]) {
        let shown = cluster.on_node(address, "cat /sys/class/rtc/rtc0/since_epoch; date +%s")?;
        let mut numbers = shown.lines().map(str::parse::<u64>);
        let hardware = numbers.next().context("no hardware clock")??;
        let system = numbers.next().context("no system clock")??;
        ensure!(
            wrong.contains(&hardware),
            "the hardware clock of {address} shows {hardware}: the check proves nothing"
        );
        let off = system.abs_diff(clock::unix_seconds());
        ensure!(off <= CLOCK_SECONDS, "the clock of {address} is {off} s off");
    }
    Ok(())
}

/// Both nodes let the key of the overlay in and show the host keys that the server made for them.
pub(crate) fn ssh_works(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    for address in ADDRESSES {
        let who = cluster.ssh.run(address, "id -un; stat -c '%a %U' /root/.ssh/authorized_keys")?;
        ensure!(who == "root\n600 root\n", "ssh to {address} says {who:?}");
    }
    Ok(())
}

/// Host names, and every node in `/etc/hosts` of every node.
pub(crate) fn names_and_hosts(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    for (machine, address) in MACHINES.iter().zip(ADDRESSES) {
        let name = cluster.on_node(address, "uname -n")?;
        ensure!(name.trim() == machine.name, "{address} calls itself {name:?}");
        for (other, expected) in MACHINES.iter().zip(ADDRESSES) {
            let found = cluster.on_node(
                address,
                &format!("getent ahostsv4 {} | cut -d' ' -f1 | sort -u", other.name),
            )?;
            ensure!(
                found.trim() == expected,
                "{} takes {} for {found:?}",
                machine.name,
                other.name
            );
        }
    }
    Ok(())
}

/// Declared interfaces have their declared names; what is not declared has the name that udev of
/// the image gives it.
pub(crate) fn udev_names_hold(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    const LIST: &str = r#"for path in /sys/class/net/*; do
  [ -e "$path/device/driver" ] || continue
  predictable=$(udevadm test-builtin net_id "${path}" 2>/dev/null </dev/null | sed -n 's/^ID_NET_NAME_\(ONBOARD\|SLOT\|PATH\)=//p' | head -n 1)
  driver=$(basename "$(readlink "$path/device/driver")")
  echo "${path##*/} $(cat "$path/address") $driver ${predictable:-none}"
done"#;
    let [n1, n2] = &MACHINES;
    let listed = cluster.on_node(ADDRESSES[0], LIST)?;
    let first = interfaces(&listed);
    for (name, mac) in [("lan0", n1.boot_mac), ("lan1", n1.second_mac)] {
        ensure!(
            first.iter().any(|interface| interface.name == name && interface.mac == mac),
            "n1 has no {name} with {mac}: {first:?}"
        );
    }
    ensure!(
        first.iter().any(|interface| interface.driver == "e1000"),
        "n1 has no e1000: {first:?}"
    );
    let listed = cluster.on_node(ADDRESSES[1], LIST)?;
    let second = interfaces(&listed);
    let undeclared = second.iter().find(|interface| interface.mac == n2.second_mac);
    let undeclared =
        undeclared.with_context(|| format!("n2 has no {}: {second:?}", n2.second_mac))?;
    ensure!(undeclared.driver == "e1000", "the second interface of n2 is no e1000: {undeclared:?}");
    ensure!(
        undeclared.name == undeclared.predictable,
        "udev of the image would call it {}: {undeclared:?}",
        undeclared.predictable
    );
    Ok(())
}

/// One line of the list above.
#[derive(Debug)]
struct Interface<'a> {
    name: &'a str,
    mac: &'a str,
    driver: &'a str,
    predictable: &'a str,
}

fn interfaces(listed: &str) -> Vec<Interface<'_>> {
    let lines = listed.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines
        .filter_map(|words| match words.as_slice() {
            &[name, mac, driver, predictable] => Some(Interface { name, mac, driver, predictable }),
            _ => None,
        })
        .collect()
}

/// The inventory has what the machine was bought with.
pub(crate) fn inventory(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let name: NodeName = "n1".parse()?;
    let inventory = cluster.server.ask(|client| async move { client.inventory(&name).await })?;
    ensure!(inventory.topology.pus == 4, "n1 has {} processing units", inventory.topology.pus);
    let numa = &inventory.topology.numa_nodes;
    ensure!(
        numa.len() == 2 && numa.iter().all(|node| node.pus.len() == 2),
        "n1 has NUMA nodes {numa:?}"
    );
    let mebibytes = inventory.memory_bytes >> 20;
    ensure!((5700..=6144).contains(&mebibytes), "n1 has {mebibytes} MiB of memory");
    ensure!(
        inventory.firmware.boot_mode.as_deref() == Some("bios"),
        "n1 booted by {:?}",
        inventory.firmware.boot_mode
    );
    for (mac, driver) in [(MACHINES[0].boot_mac, "virtio_net"), (MACHINES[0].second_mac, "e1000")] {
        let mac = mac.parse()?;
        let fits = |nic: &&api::inventory::Nic| {
            nic.mac == Some(mac) && nic.driver.as_deref() == Some(driver)
        };
        ensure!(
            inventory.nics.iter().any(|nic| fits(&nic)),
            "no {driver} with {mac}: {:?}",
            inventory.nics
        );
    }
    ensure!(!inventory.pci.is_empty(), "n1 has no PCI device");
    Ok(())
}
