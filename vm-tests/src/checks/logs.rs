//! Logs of jobs that write more than is kept (`vm-tests/documents/flood.yaml`).

use std::{process::Output, time::Duration};

use anyhow::{Context as _, ensure};
use api::workflow::State;

use crate::{
    check::Memory,
    clock,
    cluster::{ADDRESSES, Cluster},
    workflow,
};

/// How long the job that counts may take.
const LIMIT: Duration = Duration::from_secs(120);

/// How long a job that floods may take to hear that it must end, with its grace.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// What is kept of one log at most: the default of `jobs.log-mib`, the block that a file begins,
/// and when it was written (24 KiB).
const KEPT_KIB: u64 = (64 << 10) + 64 + 32;

/// The cgroup of the container inits on a node.
const INITS: &str = "/sys/fs/cgroup/system.slice/bedplate-jobs.service/inits";

/// How far the kernel's count may be behind: each processor has its own for a while.
const UNCOUNTED_KIB: u64 = 4 << 10;

/// Head and tail are there, to the byte, for whoever reads later and whoever follows; what is left
/// out is told. A node's memory is not filled, and who floods is stopped as everybody is.
pub(crate) fn both_ends(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let id = workflow::start(cluster, "flood")?;
    let followed = cluster.server.try_cli(&["workflow", "log", &id, "counts", "--follow"])?;
    holds_both_ends(&followed).context("followed")?;
    let later = cluster.server.try_cli(&["workflow", "log", &id, "counts"])?;
    holds_both_ends(&later).context("read when it was over")?;

    for address in ADDRESSES {
        node_is_spared(cluster, address)?;
    }
    let ended = clock::wait_for(
        "the job that counts to be over",
        cluster.accelerator().stretch(LIMIT),
        || {
            let attempts = workflow::attempts(cluster, &id)?;
            Ok(attempts.into_iter().find(|attempt| attempt.ended.is_some()))
        },
    )?;
    // The numbers with their line ends, and the last words.
    ensure!(ended.log_bytes == 168_888_897 + 11, "it wrote {} bytes", ended.log_bytes);
    since_a_time(cluster, &id)?;
    let server = &cluster.server;
    let attached = std::thread::scope(|scope| {
        let attached =
            scope.spawn(|| server.try_cli(&["workflow", "attach", &id, "endless", "--all"]));
        clock::pause(Duration::from_secs(3));
        server.cli(&["workflow", "stop", &id])?;
        attached.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
    })?;
    let told = String::from_utf8_lossy(&attached.stderr);
    ensure!(attached.stdout.starts_with(b"y\ny\n"), "attach has no beginning");
    // On an emulated machine the node may have forgotten the job before all of it was sent: that is
    // told.
    if attached.status.success() || !told.contains("the job is over, and ") {
        ensure!(told.contains(" left out here (offset "), "attach told {told:?}");
        let last = attached.stdout.rsplit(|byte| *byte == b'\n').nth(1).unwrap_or_default();
        let shown = String::from_utf8_lossy(last);
        ensure!(
            shown.starts_with("bedplate: stopped: "),
            "attach ended with {shown:?} and told {told:?}"
        );
    }
    let limit = cluster.accelerator().stretch(STOP_LIMIT);
    let state = clock::wait_for("the flood to end", limit, || {
        let summary = workflow::view(cluster, &id)?.summary;
        Ok(summary.ended.map(|_| summary.state))
    })?;
    ensure!(matches!(state, State::Canceled | State::Failed), "it is {}", state.as_str());
    Ok(())
}

/// Tasks of `talkers`.
const TALKERS: usize = 40;

/// All tasks of an array are followed to their ends (`vm-tests/documents/talkers.yaml`), also those
/// that begin later, and no line is torn by those of others.
pub(crate) fn array(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let id = workflow::start(cluster, "talkers")?;
    let followed = cluster.server.try_cli(&["workflow", "log", &id, "--follow"])?;
    let told = String::from_utf8_lossy(&followed.stderr);
    ensure!(followed.status.success(), "{}: {told}", followed.status);
    let text = String::from_utf8_lossy(&followed.stdout);
    for task in 1..=TALKERS {
        let label = format!("talker[{task}] | ");
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(&label)).collect();
        ensure!(lines == ["begins", "goes on", "ends"], "task {task} wrote {lines:?}");
    }
    ensure!(text.lines().count() == 3 * TALKERS, "there are other lines in {text:?}");
    let state = workflow::view(cluster, &id)?.summary.state;
    ensure!(state.is_ended(), "it is {}, and was not followed to its end", state.as_str());
    Ok(())
}

/// A log that is over: all of it is of after its beginning, and nothing of after its end.
fn since_a_time(cluster: &Cluster, id: &str) -> anyhow::Result<()> {
    let since =
        |time: &str| cluster.server.try_cli(&["workflow", "log", id, "counts", "--since", time]);
    holds_both_ends(&since("1d")?).context("since yesterday")?;
    // The clocks of nodes are right to some seconds.
    let after = clock::wait_for("its end to be long ago", STOP_LIMIT, || {
        let after = since("10s")?;
        Ok((after.stdout.is_empty() && after.status.success()).then_some(after))
    })?;
    let told = String::from_utf8_lossy(&after.stderr);
    ensure!(!told.contains("is not known"), "told is {told:?}");
    Ok(())
}

/// What a run has is bounded, and the kernel counts it as that of the container inits: so the logs
/// of a node know how much room is left for them.
fn node_is_spared(cluster: &Cluster, address: &str) -> anyhow::Result<()> {
    let script = format!(
        "echo $(du -sk /run/bedplate/runs/*/ 2>/dev/null | sort -n | tail -1 | cut -f1)
         grep '^shmem ' {INITS}/memory.stat | cut -d ' ' -f 2"
    );
    let told = cluster.on_node(address, &script)?;
    let mut lines = told.lines();
    let most: u64 = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    ensure!(most <= KEPT_KIB, "a run's directory on {address} has {most} KiB");
    let counted = lines.next().and_then(|line| line.parse::<u64>().ok());
    let counted = counted.with_context(|| format!("no count of {INITS} in {told:?}"))? >> 10;
    ensure!(
        counted + UNCOUNTED_KIB >= most,
        "a run's directory on {address} has {most} KiB, of which the kernel counts {counted} KiB"
    );
    Ok(())
}

/// Lines from 1 on, and to the last one, without a line that is torn or added but where the gap is.
fn holds_both_ends(output: &Output) -> anyhow::Result<()> {
    let told = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}: {told}", output.status);
    ensure!(
        told.contains("bedplate: ") && told.contains(" MiB left out here (offset "),
        "told is {told:?}"
    );
    ensure!(text.starts_with("1\n2\n3\n"), "it begins with {:?}", text.get(..20));
    ensure!(text.ends_with("\n19999999\n20000000\nlast words\n"), "it ends otherwise");
    let numbers = text.lines().filter_map(|line| line.parse::<u64>().ok());
    let jumps = numbers.clone().zip(numbers.skip(1)).filter(|(one, next)| one + 1 != *next).count();
    let gaps = told.matches("left out here").count();
    ensure!(jumps <= 2 * gaps, "{jumps} jumps and {gaps} gaps");
    Ok(())
}
