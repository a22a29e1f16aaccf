//! A network card and a disk are plugged in and out by QEMU's monitor while the node runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use api::inventory::Inventory;
use serde_json::json;

use super::{ADDRESS, RICH, wait_until_known};
use crate::{
    check::Memory, clock, cluster::Cluster, monitor::Monitor, process, report::say, workflow,
};

/// From the moment at which the node's kernel has or has not the device to the server's knowing it.
const NOTICE_LIMIT: Duration = Duration::from_secs(2);

/// How long the kernel may take for its part.
const KERNEL_LIMIT: Duration = Duration::from_secs(30);

const CARD: &str = "52:54:00:77:03:14";
const SERIAL: &str = "HP-0004";

/// A spec that offers the disk to jobs; no name is offered for as long as there is no disk.
const OFFER: &str = r#"
cat > /etc/cdi/scratch.json <<'END'
{"cdiVersion": "0.6.0", "kind": "example.com/scratch",
  "devices": [{"name": "hot", "containerEdits": {"deviceNodes": [{"path": "/dev/vdc"}]}}]}
END
"#;

/// Both come, are told, can be used, go, are told, and are not used any more.
pub(crate) fn plugged_in_and_out(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    cluster.on_node(ADDRESS, OFFER)?;
    let mut monitor = cluster.monitor(RICH.name)?;
    let image = cluster.checkout_paths().of_run("pids/hot.img");
    std::fs::write(&image, vec![0; 32 << 20])
        .with_context(|| format!("cannot write {}", image.display()))?;
    monitor.command("netdev_add", json!({"type": "hubport", "id": "hot", "hubid": 7}))?;
    let file = json!({"driver": "file", "filename": image, "node-name": "hot-file"});
    monitor.command("blockdev-add", file)?;
    let raw = json!({"driver": "raw", "file": "hot-file", "node-name": "hot-disk"});
    monitor.command("blockdev-add", raw)?;

    let (card, disk) = (Device::card(), Device::disk());
    card.plug_in(cluster, &mut monitor)?;
    disk.plug_in(cluster, &mut monitor)?;
    workflow::finish(cluster, "scratch")?;
    card.plug_out(cluster, &mut monitor)?;
    disk.plug_out(cluster, &mut monitor)?;

    let history = cluster.server.cli(&["node", "show", RICH.name, "--history"])?;
    for (word, serial) in
        [("is new", CARD), ("is gone", CARD), ("is new", SERIAL), ("is gone", SERIAL)]
    {
        let told = history.lines().any(|line| line.contains(word) && line.contains(serial));
        ensure!(told, "the history does not tell of {serial} {word}:\n{history}");
    }
    is_refused_what_went(cluster)
}

/// No node has it any more, so that no job gets it.
fn is_refused_what_went(cluster: &Cluster) -> anyhow::Result<()> {
    let document = workflow::path(cluster, "scratch");
    let refused =
        cluster.server.try_cli(&["workflow", "start", &document, "--as", workflow::USER])?;
    let words = process::words(&refused);
    ensure!(!refused.status.success(), "a job for what went was taken: {words}");
    ensure!(words.contains("example.com/scratch"), "the refusal does not name it: {words}");
    Ok(())
}

/// What is plugged in and out.
struct Device {
    /// In the monitor, and in what is said of it.
    name: &'static str,
    /// What the monitor plugs in.
    driver: serde_json::Value,
    /// Succeeds on the node while its kernel has the device.
    probe: String,
    /// What the inventory has while the device is there, and nothing of it afterwards.
    known: fn(&Inventory) -> Vec<bool>,
}

impl Device {
    fn card() -> Self {
        Self {
            name: "card",
            driver: json!({
                "driver": "virtio-net-pci",
                "id": "card",
                "netdev": "hot",
                "mac": CARD,
                "bus": "slot0",
            }),
            probe: format!("grep -ls {CARD} /sys/class/net/*/address"),
            known: |inventory| {
                let mut macs = inventory.nics.iter().filter_map(|nic| nic.mac);
                vec![macs.any(|mac| mac.to_string() == CARD)]
            },
        }
    }

    fn disk() -> Self {
        Self {
            name: "disk",
            driver: json!({
                "driver": "virtio-blk-pci",
                "id": "disk",
                "drive": "hot-disk",
                "serial": SERIAL,
                "bus": "slot1",
            }),
            probe: format!("grep -ls {SERIAL} /sys/block/*/serial"),
            known: |inventory| {
                let mut serials = inventory.disks.iter().map(|disk| disk.serial.as_deref());
                let mut offered = inventory.devices.iter().map(|device| device.name.to_string());
                vec![
                    serials.any(|serial| serial == Some(SERIAL)),
                    offered.any(|name| name == "example.com/scratch=hot"),
                ]
            },
        }
    }

    fn plug_in(&self, cluster: &Cluster, monitor: &mut Monitor) -> anyhow::Result<()> {
        monitor.command("device_add", self.driver.clone())?;
        self.noticed(cluster, true)
    }

    fn plug_out(&self, cluster: &Cluster, monitor: &mut Monitor) -> anyhow::Result<()> {
        monitor.command("device_del", json!({"id": self.name}))?;
        self.noticed(cluster, false)
    }

    /// Waits until the node's kernel has it (or has it no more), and then for the server, which has
    /// two seconds.
    fn noticed(&self, cluster: &Cluster, comes: bool) -> anyhow::Result<()> {
        let (name, probe) = (self.name, &self.probe);
        let (what, until) =
            if comes { (format!("the {name}"), "until") } else { (format!("no {name}"), "while") };
        // One script that watches on the node: ssh alone takes a second under emulation.
        let limit = cluster.accelerator().stretch(KERNEL_LIMIT).as_secs() * 20;
        let script = format!(
            "n=0; {until} {probe} >/dev/null; do \
             n=$((n+1)); [ $n -lt {limit} ] || exit 7; sleep 0.05; done"
        );
        cluster
            .on_node(ADDRESS, &script)
            .with_context(|| format!("the node's kernel does not see {what}"))?;
        let seen: Instant = clock::now();
        let fits = |inventory: &Inventory| (self.known)(inventory).iter().all(|is| *is == comes);
        wait_until_known(cluster, &what, cluster.accelerator().stretch(NOTICE_LIMIT), fits)?;
        let took = seen.elapsed();
        let late = if took > NOTICE_LIMIT { ": late, is this machine busy?" } else { "" };
        say(format!("  {what}: known within {} ms of the node's kernel{late}", took.as_millis()));
        Ok(())
    }
}
