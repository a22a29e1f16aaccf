//! Jobs and workflows while agent or server are away.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::{
    run::Outcome,
    workflow::{StageKind, State},
};

use crate::{
    check::Memory,
    clock,
    cluster::{ADDRESSES, Cluster, MACHINES},
    workflow,
};

/// How long a job may take to begin, where the processor itself runs the node.
const BEGIN_LIMIT: Duration = Duration::from_secs(30);

/// How long the server stays away.
const AWAY: Duration = Duration::from_secs(5);

/// A job that exits with 7 while the agent is down: 7 is told, with the whole log.
pub(crate) fn agent_away(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let id = workflow::start(cluster, "seven")?;
    let node = begun(cluster, &id, "seven")?;
    let address = address(&node)?;
    cluster.on_node(address, "systemctl stop bedplate-substrate")?;
    let limit = cluster.accelerator().stretch(BEGIN_LIMIT);
    clock::wait_for("the job to end without the agent", limit, || {
        let ends =
            cluster.on_node(address, "ls /run/bedplate/runs/*/end.json 2>/dev/null | wc -l")?;
        Ok((ends.trim() != "0").then_some(()))
    })?;
    let running = workflow::view(cluster, &id)?;
    ensure!(running.summary.ended.is_none(), "the server knows of the end without the agent");
    cluster.on_node(address, "systemctl start bedplate-substrate")?;
    let ended = workflow::wait(cluster, &id)?;
    ensure!(ended.summary.state == State::Failed, "it is {:?}", ended.summary);
    let attempts = workflow::attempts(cluster, &id)?;
    let outcomes: Vec<_> = attempts.iter().map(|attempt| attempt.outcome.clone()).collect();
    ensure!(outcomes == [Some(Outcome::Exited { code: 7 })], "it ended by {outcomes:?}");
    let lines = |word: &str| (1..=1500).map(|n| format!("{word} {n}\n")).collect::<String>();
    let log = workflow::log(cluster, &id, "seven")?;
    ensure!(log == lines("before") + &lines("after"), "of its log came {} bytes", log.len());
    cluster.wait_until_ready(name(&node)?)?;
    Ok(())
}

/// Two jobs fill a volume of 1 MiB, the second one after its agent started again: both get
/// `ENOSPC`, the node tells what its volumes hold, and nothing is left when the workflow is over.
pub(crate) fn full_volume(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    const MOUNTS: &str = "grep -c bedplate-volume: /proc/mounts || true";
    let id = workflow::start(cluster, "full")?;
    let node = begun(cluster, &id, "again")?;
    let address = address(&node)?;
    cluster.on_node(address, "systemctl restart bedplate-substrate")?;
    cluster.wait_until_ready(name(&node)?)?;
    let limit = cluster.accelerator().stretch(BEGIN_LIMIT);
    clock::wait_for("the node to tell of its volume", limit, || {
        let told = cluster.node(name(&node)?)?.status.volumes;
        Ok(told.is_some_and(|told| told.volumes == 1 && told.left_bytes > 0).then_some(()))
    })?;
    let mounts = cluster.on_node(address, MOUNTS)?;
    ensure!(mounts.trim() == "1", "mounted are {mounts:?} volumes");
    cluster.on_node(address, "touch \"$(echo /var/lib/bedplate/volumes/*/data)/go\"")?;
    let ended = workflow::wait(cluster, &id)?;
    ensure!(ended.summary.state == State::Finished, "it is {:?}", ended.summary);
    for job in ["fill", "again"] {
        let log = workflow::log(cluster, &id, job)?;
        let is_full = log.contains("No space left on device");
        let written = log.lines().last().and_then(|line| line.trim().parse::<u64>().ok());
        // The second job's `go` takes no page of its own.
        ensure!(is_full && written == Some(1 << 20), "the log of {job} is {log:?}");
    }
    clock::wait_for("the volume to be gone", limit, || {
        let left = cluster.on_node(address, &format!("{MOUNTS}; ls /var/lib/bedplate/volumes"))?;
        Ok((left.trim() == "0").then_some(()))
    })
}

/// `kill -9` of the server in the middle of a workflow: it finishes, and no job ran twice.
pub(crate) fn server_away(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let id = workflow::start(cluster, "chain")?;
    begun(cluster, &id, "two")?;
    cluster.server.kill()?;
    clock::pause(AWAY);
    cluster.server.restart().context("after kill -9 in the middle of a workflow")?;
    let ended = workflow::wait(cluster, &id)?;
    ensure!(ended.summary.state == State::Finished, "it is {:?}", ended.summary);
    let ledger = cluster.files.content("ledger").context("no ledger came")?;
    ensure!(ledger == "one\ntwo\nthree\nfour\n", "the jobs wrote {ledger:?}");
    let attempts = workflow::attempts(cluster, &id)?;
    ensure!(
        attempts.iter().all(|attempt| attempt.attempt == 1),
        "a job was tried again: {attempts:?}"
    );
    Ok(())
}

/// Waits until a job runs; the node that it runs on.
pub(super) fn begun(cluster: &Cluster, id: &str, job: &str) -> anyhow::Result<String> {
    let limit = cluster.accelerator().stretch(BEGIN_LIMIT);
    clock::wait_for(&format!("job {job} to begin"), limit, || {
        let workflow = workflow::view(cluster, id)?;
        let is_it = |kind: StageKind, name: &str| kind == StageKind::Job && name == job;
        let stage = workflow
            .stages
            .iter()
            .find(|stage| is_it(stage.kind, &stage.name))
            .context("no such job")?;
        let attempts = workflow::attempts(cluster, id)?;
        let begun = attempts
            .iter()
            .find(|attempt| attempt.stage == stage.index && attempt.started.is_some());
        Ok(begun.map(|attempt| attempt.node.to_string()))
    })
}

/// The address of a node by its name.
pub(super) fn address(node: &str) -> anyhow::Result<&'static str> {
    let found = MACHINES.iter().zip(ADDRESSES).find(|(machine, _)| machine.name == node);
    Ok(found.context("a node that is not ours")?.1)
}

fn name(node: &str) -> anyhow::Result<&'static str> {
    let found = MACHINES.iter().find(|machine| machine.name == node);
    Ok(found.context("a node that is not ours")?.name)
}
