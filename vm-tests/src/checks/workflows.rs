//! Workflows on booted nodes: what ends well and what ends badly.

use anyhow::{Context as _, ensure};
use api::{
    run::Outcome,
    status::Phase,
    workflow::{StageKind, State},
};

use crate::{
    check::Memory,
    cluster::{Cluster, MACHINES},
    workflow,
};

/// Tasks of the array, and how many of them run at once.
const TASKS: u32 = 32;
const CONCURRENCY: u32 = 8;

/// The user whose workflows they are.
pub(crate) fn user(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    workflow::prepare(cluster)?;
    let shown = cluster.server.cli(&["user", "show", workflow::USER])?;
    ensure!(shown.contains(workflow::NUMBERS.0), "the user is {shown:?}");
    Ok(())
}

/// The hello of the slides: one core of one NUMA node, and its memory.
pub(crate) fn hello(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let id = workflow::finish(cluster, "hello")?;
    let attempts = workflow::attempts(cluster, &id)?;
    let [attempt] = attempts.as_slice() else { anyhow::bail!("not one attempt: {attempts:?}") };
    let (&[cpu], &[mem]) = (attempt.cpus.as_slice(), attempt.mems.as_slice()) else {
        anyhow::bail!("not one core and its NUMA node: {attempt:?}")
    };
    ensure!(mem == cpu / 2, "core {cpu} is not of NUMA node {mem}");
    let log = workflow::log(cluster, &id, "hello-world")?;
    let lines: Vec<&str> = log.lines().collect();
    ensure!(lines[0].starts_with("Hello, world! I am "), "it says {log:?}");
    ensure!(lines.get(1) == Some(&cpu.to_string().as_str()), "granted {cpu}, and it says {log:?}");
    Ok(())
}

/// Five jobs, a volume, a file from an HTTP server, and the result to that server and to the user.
pub(crate) fn diamond(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    const COUNTS: &str = "words 10\nlongest 8\ndifferent 8\n";
    let dest = cluster.checkout_paths().of_run("state/fetched").display().to_string();
    let path = workflow::path(cluster, "diamond");
    let arguments =
        ["workflow", "start", &path, "--as", workflow::USER, "--watch", "--dest", &dest];
    let told = cluster.server.cli(&arguments)?;
    for job in ["prepare", "lines", "longest", "different", "join"] {
        let finished = told.lines().any(|line| line.contains(job) && line.contains("finished"));
        ensure!(finished, "nothing was told of the end of {job}:\n{told}");
    }
    ensure!(workflow::log(cluster, "diamond", "join")? == COUNTS, "the log of join is another");
    let put = cluster.files.content("counts.txt").context("no file came to the HTTP server")?;
    ensure!(put == COUNTS, "the HTTP server got {put:?}");
    let fetched = std::fs::read_to_string(format!("{dest}/counts.txt"))
        .context("no file came to the user")?;
    ensure!(fetched == COUNTS, "the user got {fetched:?}");
    Ok(())
}

/// The array of the slides reaches its concurrency and never exceeds it.
pub(crate) fn array(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let id = workflow::start(cluster, "array")?;
    let mut most = 0;
    let ended = workflow::wait_and_look(cluster, &id, |workflow| {
        let job = workflow.stages.iter().find(|stage| stage.kind == StageKind::Job);
        most = most.max(job.context("no job")?.tasks.started);
        Ok(())
    })?;
    ensure!(ended.summary.state == State::Finished, "it is {:?}", ended.summary);
    ensure!(most == CONCURRENCY, "{most} tasks ran at once");
    let attempts = workflow::attempts(cluster, &id)?;
    let tasks: Vec<u32> = attempts.iter().map(|attempt| attempt.task).collect();
    ensure!(tasks == (1..=TASKS).collect::<Vec<_>>(), "tasks ran: {tasks:?}");
    for attempt in &attempts {
        let (Some(started), Some(ended)) = (attempt.started, attempt.ended) else {
            anyhow::bail!("no times: {attempt:?}")
        };
        let seconds = ended.seconds() - started.seconds();
        ensure!(seconds >= i64::from(attempt.task) - 1, "task {} slept {seconds} s", attempt.task);
    }
    Ok(())
}

/// Over its memory limit: killed, told so, and the node goes on.
pub(crate) fn memory(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let (id, reason) = workflow::fail(cluster, "memory")?;
    let attempts = workflow::attempts(cluster, &id)?;
    let outcome = attempts.last().and_then(|attempt| attempt.outcome.clone());
    ensure!(
        outcome == Some(Outcome::OutOfMemory { limit_bytes: 64 << 20 }),
        "it ended by {outcome:?}"
    );
    ensure!(reason.contains("memory"), "the reason is {reason:?}");
    for machine in &MACHINES {
        let phase = cluster.node(machine.name)?.status.phase;
        ensure!(phase == Phase::Ready, "{} is {}", machine.name, phase.as_str());
    }
    workflow::finish(cluster, "hello").context("after a job was killed for memory")?;
    Ok(())
}

/// Past its timeout.
pub(crate) fn timeout(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let (id, _) = workflow::fail(cluster, "timeout")?;
    let attempts = workflow::attempts(cluster, &id)?;
    let outcome = attempts.last().and_then(|attempt| attempt.outcome.clone());
    ensure!(
        outcome == Some(Outcome::TimedOut { seconds: 3, cause: None }),
        "it ended by {outcome:?}"
    );
    Ok(())
}

/// Fails twice and succeeds on its third attempt.
pub(crate) fn retry(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let id = workflow::finish(cluster, "retry")?;
    let codes: Vec<Option<Outcome>> =
        workflow::attempts(cluster, &id)?.into_iter().map(|attempt| attempt.outcome).collect();
    let expected = [1, 1, 0].map(|code| Some(Outcome::Exited { code }));
    ensure!(codes == expected, "its attempts ended by {codes:?}");
    let log = workflow::log(cluster, &id, "third-time")?;
    ensure!(log == "this is attempt 3\n", "the last attempt wrote {log:?}");
    Ok(())
}

/// An image that does not exist, and one without the command: failed, with the reason.
pub(crate) fn wrong(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let (_, reason) = workflow::fail(cluster, "wrong-images")?;
    ensure!(reason.contains("nothing:1"), "the reason names no image: {reason:?}");
    let (_, reason) = workflow::fail(cluster, "wrong-command")?;
    ensure!(
        reason.contains("has no program \"no-such-program\""),
        "the reason names no program: {reason:?}"
    );
    Ok(())
}
