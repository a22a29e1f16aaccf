//! Jobs that stand still, the site's programs around jobs, and nodes that begin none.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use api::{
    run::Outcome,
    status::Phase,
    workflow::{State, TaskUsage},
};

use super::interruptions::{address, begun};
use crate::{
    check::Memory,
    clock,
    cluster::{ADDRESSES, Cluster},
    process, workflow,
};

/// How long something may take that the node itself does, where the processor itself runs it.
const LIMIT: Duration = Duration::from_secs(20);

/// How long a job that stands still is looked at.
const STILL: Duration = Duration::from_secs(3);

/// Where the site's programs stand.
const SITE: &str = "/etc/bedplate";

/// Puts a program before and one after each job, which write down what they are told.
const PLACE: &str = r#"
for when in prolog epilog; do
  mkdir -p SITE/$when.d
  { echo '#!/bin/sh'; echo "echo $when"' $BEDPLATE_SUBJECT $BEDPLATE_USER $BEDPLATE_UID >> /run/told'; } > SITE/$when.d/10-tell
  chmod 755 SITE/$when.d/10-tell
done
"#;

/// A paused job does not go on, a resumed one does, and both can be looked at.
pub(crate) fn paused(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let id = workflow::start(cluster, "ticks")?;
    let node = begun(cluster, &id, "ticks")?;
    let limit = cluster.accelerator().stretch(LIMIT);
    let length = |cluster: &Cluster| workflow::log(cluster, &id, "ticks").map(|log| log.len());
    let grows = |cluster: &Cluster, than: usize| {
        clock::wait_for("the log to grow", limit, || Ok((length(cluster)? > than).then_some(())))
    };
    grows(cluster, 20)?;
    let top = cluster.server.cli(&["-o", "json", "workflow", "top", &id])?;
    let [usage]: [TaskUsage; 1] =
        serde_json::from_str(&top).with_context(|| format!("top told {top}"))?;
    let told = usage.usage.with_context(|| format!("top told no figures: {top}"))?;
    ensure!(
        told.total.cpu_micros > 0 && told.memory_bytes > 0 && told.processes > 0,
        "top told {told:?}"
    );

    cluster.server.cli(&["workflow", "pause", &id])?;
    let frozen = "cat /sys/fs/cgroup/system.slice/bedplate-jobs.service/runs/*/cgroup.events | grep -c 'frozen 1'";
    let is_frozen = format!("{frozen} || true");
    clock::wait_for("the job to stand still", limit, || {
        Ok((cluster.on_node(address(&node)?, &is_frozen)?.trim() == "1").then_some(()))
    })?;
    // What it wrote before may still be on its way.
    clock::pause(STILL);
    let before = length(cluster)?;
    clock::pause(STILL);
    ensure!(length(cluster)? == before, "it goes on while it is paused");
    let status = cluster.server.cli(&["workflow", "status", &id])?;
    ensure!(status.contains("paused by"), "its status is\n{status}");

    cluster.server.cli(&["workflow", "resume", &id])?;
    grows(cluster, before)?;
    cluster.server.cli(&["workflow", "pause", &id])?;
    cluster.server.cli(&["workflow", "stop", &id])?;
    let ended = workflow::wait(cluster, &id)?;
    ensure!(ended.summary.state == State::Canceled, "it is {:?}", ended.summary);
    Ok(())
}

/// Programs before and after a job know it; one that fails keeps the job from its node and is no
/// fault of the job's.
pub(crate) fn site_programs(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let place = PLACE.replace("SITE", SITE);
    for address in ADDRESSES {
        cluster.on_node(address, &place)?;
    }
    let id = workflow::finish(cluster, "short")?;
    let attempts = workflow::attempts(cluster, &id)?;
    let ran_on = attempts.first().context("no attempt")?.node.to_string();
    let told = cluster.on_node(address(&ran_on)?, "cat /run/told")?;
    let uid = workflow::NUMBERS.0;
    let expected = format!("prolog job short ann {uid}\nepilog job short ann {uid}\n");
    ensure!(told == expected, "the programs were told {told:?}");

    let break_it = format!(
        "printf '#!/bin/sh\\necho scratch is not mounted\\nexit 1\\n' > {SITE}/prolog.d/10-tell"
    );
    cluster.on_node(address(&ran_on)?, &break_it)?;
    let id = workflow::finish(cluster, "short").context("with a prolog that fails on one node")?;
    let outcomes: Vec<Option<Outcome>> =
        workflow::attempts(cluster, &id)?.into_iter().map(|attempt| attempt.outcome).collect();
    let [Some(Outcome::Refused { why }), Some(Outcome::Exited { code: 0 })] = outcomes.as_slice()
    else {
        anyhow::bail!("its attempts ended by {outcomes:?}")
    };
    ensure!(why.ends_with("scratch is not mounted"), "the reason is {why:?}");
    let listed = cluster.server.cli(&["node", "list"])?;
    ensure!(listed.contains("begins no jobs") && listed.contains("scratch"), "nodes are\n{listed}");
    for address in ADDRESSES {
        cluster.on_node(
            address,
            &format!("rm -r {SITE}/prolog.d {SITE}/epilog.d; systemctl restart bedplate-substrate"),
        )?;
    }
    workflow::finish(cluster, "hello").context("after the programs are gone")?;
    Ok(())
}

/// The agent becomes another program under a running job; one that does not run here
/// changes nothing.
pub(crate) fn upgraded(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let id = workflow::start(cluster, "ticks")?;
    let node = begun(cluster, &id, "ticks")?;
    let (address, program) = (address(&node)?, cluster.checkout_paths().substrate());
    let built = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    // What stands behind the last section of a program is read by nobody.
    fs::write(&program, [&built[..], b"another version"].concat())?;
    cluster.server.cli(&["node", "upgrade", &node])?;
    let wanted = process::run("sha256sum", &[&program.display().to_string()])?;
    let wanted = wanted.split_whitespace().next().context("no digest")?.to_owned();
    let limit = cluster.accelerator().stretch(LIMIT);
    let agent = "sha256sum /proc/$(systemctl show -p MainPID --value bedplate-substrate)/exe";
    clock::wait_for("the agent to be the other program", limit, || {
        let runs = cluster.on_node(address, &format!("{agent} || true"))?;
        let is_ready = cluster.node(&node)?.status.phase == Phase::Ready;
        Ok((is_ready && runs.starts_with(&wanted)).then_some(()))
    })?;
    let before = workflow::log(cluster, &id, "ticks")?.len();
    clock::wait_for("the log to grow", limit, || {
        Ok((workflow::log(cluster, &id, "ticks")?.len() > before).then_some(()))
    })?;

    fs::write(&program, "#!/bin/false\n")?;
    cluster.server.cli(&["node", "upgrade", &node])?;
    clock::wait_for("the node to say that its agent stays", limit, || {
        let history = cluster.server.cli(&["node", "history", &node])?;
        Ok(history.contains("stays as it is: the program does not run here").then_some(()))
    })?;
    fs::write(&program, built)?;
    cluster.server.cli(&["workflow", "stop", &id])?;
    let ended = workflow::wait(cluster, &id)?;
    ensure!(ended.summary.state == State::Canceled, "it is {:?}", ended.summary);
    let attempts = workflow::attempts(cluster, &id)?;
    ensure!(attempts.len() == 1, "it was begun more than once: {attempts:?}");
    Ok(())
}

/// A node without room refuses, says why, and begins again when there is room; no job fails of it.
pub(crate) fn refuses(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    cluster.server.cli(&["node", "drain", "n2", "--reason", "for a check"])?;
    let fill = "fallocate -l $(( $(df --output=avail -B1 /run | tail -n 1) - 16777216 )) /run/fill";
    cluster.on_node(ADDRESSES[0], fill)?;
    let id = workflow::start(cluster, "short")?;
    let limit = cluster.accelerator().stretch(LIMIT);
    let refused = clock::wait_for("the node to say why it begins no jobs", limit, || {
        let why = cluster.server.cli(&["workflow", "why", &id])?;
        Ok((why.contains("refusing jobs") && why.contains("MiB free")).then_some(()))
    });
    cluster.on_node(ADDRESSES[0], "rm /run/fill")?;
    refused?;
    let ended = workflow::wait(cluster, &id)?;
    cluster.server.cli(&["node", "undrain", "n2"])?;
    ensure!(ended.summary.state == State::Finished, "it is {:?}", ended.summary);
    let attempts = workflow::attempts(cluster, &id)?;
    let refusal = attempts.first().and_then(|attempt| attempt.outcome.clone());
    ensure!(matches!(refusal, Some(Outcome::Refused { .. })), "its attempts are {attempts:?}");
    Ok(())
}
