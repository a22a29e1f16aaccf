//! Nodes and servers that go away and come back.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::{run::Outcome, status::Phase, workflow::State};

use super::interruptions::begun;
use crate::{
    check::Memory,
    clock,
    cluster::{ADDRESSES, Cluster},
    workflow,
};

/// How long a node may take to leave *ready* after a reboot began, where the processor
/// itself runs it.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);

/// How long the server stays away: long enough that a transfer of the image breaks.
const AWAY: Duration = Duration::from_secs(8);

/// `bedplate node reboot`: another boot, the same machine-id.
pub(crate) fn reboot(cluster: &mut Cluster, memory: &mut Memory) -> anyhow::Result<()> {
    let before = cluster.on_node(ADDRESSES[0], "cat /proc/sys/kernel/random/boot_id")?;
    cluster.server.cli(&["node", "reboot", "n1"])?;
    cluster.wait_for_node("n1", "leave ready", LEAVE_LIMIT, |node| {
        node.status.phase != Phase::Ready
    })?;
    cluster.wait_until_ready("n1")?;
    let after = cluster.on_node(ADDRESSES[0], "cat /proc/sys/kernel/random/boot_id")?;
    ensure!(before != after, "n1 says that it did not boot again");
    let machine_id = cluster.on_node(ADDRESSES[0], "cat /etc/machine-id")?;
    let first = memory.machine_id.as_deref().context("the first boot's machine-id is not known")?;
    ensure!(machine_id == first, "the machine-id was {first:?} and is {machine_id:?}");
    Ok(())
}

/// A power cut: nobody announced a boot, the server finds out by itself and lets the node boot
/// again. The job that ran there begins again, and that is no attempt of its user's.
pub(crate) fn power_cut(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    cluster.server.cli(&["node", "drain", "n1", "--reason", "the job shall run on n2"])?;
    let id = workflow::start(cluster, "ticks")?;
    let node = begun(cluster, &id, "ticks")?;
    ensure!(node == "n2", "it runs on {node}");
    cluster.server.cli(&["node", "undrain", "n1"])?;
    let before = cluster.on_node(ADDRESSES[1], "cat /proc/sys/kernel/random/boot_id")?;
    cluster.power_cycle("n2")?;
    cluster.wait_for_node("n2", "leave ready", LEAVE_LIMIT, |node| {
        node.status.phase != Phase::Ready
    })?;
    cluster.wait_until_ready("n2")?;
    let after = cluster.on_node(ADDRESSES[1], "cat /proc/sys/kernel/random/boot_id")?;
    ensure!(before != after, "n2 says that it did not boot again");
    begun_again(cluster, &id)
}

/// The job of a node that was rebooted runs again.
fn begun_again(cluster: &Cluster, id: &str) -> anyhow::Result<()> {
    let limit = cluster.accelerator().stretch(LEAVE_LIMIT);
    let attempts = clock::wait_for("the job to begin again", limit, || {
        let attempts = workflow::attempts(cluster, id)?;
        Ok(attempts.get(1).is_some_and(|attempt| attempt.started.is_some()).then_some(attempts))
    })?;
    let lost = attempts[0].outcome.clone();
    ensure!(
        matches!(lost, Some(Outcome::Lost { rebooted: true, .. })),
        "the first attempt ended by {lost:?}"
    );
    cluster.server.cli(&["workflow", "stop", id])?;
    let ended = workflow::wait(cluster, id)?;
    ensure!(ended.summary.state == State::Canceled, "it is {:?}", ended.summary);
    Ok(())
}

/// `kill -9` of the server while a node fetches its image: that node boots, the other
/// one finds back.
pub(crate) fn server_killed(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let before = cluster.on_node(ADDRESSES[1], "cat /proc/sys/kernel/random/boot_id")?;
    cluster.server.cli(&["node", "reboot", "n2"])?;
    cluster.wait_for_node("n2", "leave ready", LEAVE_LIMIT, |node| {
        node.status.phase != Phase::Ready
    })?;
    cluster.wait_for_boot("n2", "fetch its image", |node| node.status.phase == Phase::Fetching)?;
    cluster.server.kill()?;
    clock::pause(AWAY);
    cluster.server.restart().context("after kill -9 in the middle of a boot")?;
    cluster.wait_until_ready("n2")?;
    cluster.wait_until_ready("n1")?;
    let after = cluster.on_node(ADDRESSES[1], "cat /proc/sys/kernel/random/boot_id")?;
    ensure!(before != after, "n2 says that it did not boot again");
    Ok(())
}
