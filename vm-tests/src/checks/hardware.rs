//! A node with everything that an inventory tells of (`machine/rich.rs`): what the server knows
//! of it is what the node's own tools say; what is plugged in and out is known at once; and
//! knowing costs little.

mod compare;
mod cost;
mod memory_and_processors;
mod plug;
mod tools;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::{ids::NodeName, inventory::Inventory};

use self::{compare::Tally, tools::Tools};
pub(crate) use self::{cost::bench, plug::plugged_in_and_out};
use crate::{
    check::Memory,
    clock,
    cluster::Cluster,
    machine::{Build, Firmware, Hardware},
    report::say,
};

/// The machine.
pub(crate) const RICH: Hardware = Hardware {
    name: "n4",
    build: Build::Rich,
    firmware: Firmware::Bios,
    address: ADDRESS,
    boot_mac: "52:54:00:77:00:14",
    second_mac: "52:54:00:77:01:14",
    clock: None,
};

const ADDRESS: &str = "10.77.0.14";

/// What cannot be known: the BMC that QEMU simulates has no LAN.
const GAPS: [&str; 1] = ["BMC: address of its LAN"];

/// Fewer compared fields mean that a tool said nothing.
const LEAST_COMPARED: usize = 400;

/// How long the server may take to know what was made on the node: of huge pages no event tells, so
/// the agent looks once a minute.
const NOTICE_LIMIT: Duration = Duration::from_secs(90);

/// An adapter of soft RoCE, a bond with a VLAN, partitions, a device of a made-up
/// vendor, huge pages.
const BUILD: &str = r#"
modprobe -a rdma_rxe ib_uverbs ipmi_si ipmi_devintf
rdma link add rxe0 type rxe netdev lan0
ip link add bond0 type bond mode active-backup miimon 100
for path in /sys/class/net/*; do
  case $(basename "$(readlink "$path/device/driver")") in
    e1000|e1000e) ip link set "${path##*/}" down; ip link set "${path##*/}" master bond0 ;;
  esac
done
ip link set bond0 up
ip link add link bond0 name bond0.5 type vlan id 5
ip link set bond0.5 up
ip address add 192.0.2.4/24 dev bond0.5
printf 'label: gpt\n,32MiB\n,\n' | sfdisk --quiet /dev/nvme0n1
echo 4 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages
mkdir -p /etc/cdi
cat > /etc/cdi/example.json <<'END'
{"cdiVersion": "0.6.0", "kind": "example.com/board",
  "devices": [{"name": "a", "containerEdits": {"deviceNodes": [{"path": "/dev/fuse"}]}}]}
END
udevadm settle
"#;

/// Boots it, and compares field by field.
pub(crate) fn equals_the_tools(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    boot(cluster)?;
    let inventory =
        wait_until_known(cluster, "all that was made on the node", NOTICE_LIMIT, |inventory| {
            inventory.nics.iter().any(|nic| nic.name == "bond0.5" && !nic.addresses.is_empty())
                && inventory.infiniband.iter().any(|device| device.name == "rxe0")
                && inventory.disks.iter().any(|disk| disk.partitions.len() == 2)
                && inventory
                    .devices
                    .iter()
                    .any(|device| device.name.to_string() == "example.com/board=a")
                && inventory
                    .topology
                    .numa_nodes
                    .iter()
                    .any(|node| node.pages.iter().any(|pages| pages.count == 4))
        })?;
    let tools = Tools::ask(cluster, ADDRESS)?;
    let mut tally = Tally::default();
    memory_and_processors::compare(&mut tally, &inventory, &tools)?;
    compare::devices(&mut tally, &inventory, &tools)?;
    let name: NodeName = RICH.name.parse()?;
    let xml = cluster.server.ask(|client| async move { client.topology(&name).await })?;
    memory_and_processors::same_topology(&mut tally, &xml, &tools)?;
    say(format!("  {} fields compared", tally.compared()));
    tally.verdict()?;
    ensure!(tally.compared() >= LEAST_COMPARED, "only {} fields were compared", tally.compared());
    let gaps: Vec<&str> = inventory.gaps.iter().map(|gap| gap.subject.as_str()).collect();
    ensure!(gaps == GAPS, "not known: {:?}", inventory.gaps);
    ensure!(inventory.faults.is_empty(), "not well: {:?}", inventory.faults);
    Ok(())
}

fn boot(cluster: &mut Cluster) -> anyhow::Result<()> {
    declare(cluster)?;
    cluster.switch_on(&RICH)?;
    cluster.wait_until_ready(RICH.name)?;
    cluster.on_node(ADDRESS, BUILD).map(drop)
}

fn declare(cluster: &Cluster) -> anyhow::Result<()> {
    let path = cluster.checkout_paths().of_run("rich.yaml");
    let document = format!(
        "nodes:
  {}:
    profiles: [default]
    interfaces:
      lan0: {{mac: '{}', address: {ADDRESS}/24}}
",
        RICH.name, RICH.boot_mac
    );
    std::fs::write(&path, document).with_context(|| format!("cannot write {}", path.display()))?;
    cluster.server.cli(&["apply", "-f", &path.display().to_string()])?;
    cluster.trust(RICH.name, ADDRESS)
}

/// What the server knows of the node, once it is as it should be. The limit is not stretched.
fn wait_until_known(
    cluster: &Cluster,
    what: &str,
    limit: Duration,
    fits: impl Fn(&Inventory) -> bool,
) -> anyhow::Result<Inventory> {
    let mut last = None;
    let waited = clock::wait_for(&format!("the server to know {what}"), limit, || {
        let name: NodeName = RICH.name.parse()?;
        let inventory =
            cluster.server.ask(|client| async move { client.inventory(&name).await })?;
        let known = fits(&inventory).then(|| inventory.clone());
        last = Some(inventory);
        Ok(known)
    });
    waited.with_context(|| {
        let last = last.unwrap_or_default();
        format!(
            "known are {:?}, {:?}, {:?}, {:?}",
            last.nics, last.disks, last.infiniband, last.devices
        )
    })
}
