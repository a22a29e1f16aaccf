//! The account after a campaign.

use std::fmt;

use anyhow::{Context as _, ensure};
use api::{
    run::Outcome,
    workflow::{Attempt, Stage, StageKind, State},
};

use super::Victim;
use crate::{
    clock,
    cluster::{ADDRESSES, Cluster},
    workflow,
};

/// Lines that each job writes.
const LINES: u32 = 300;

/// What a node holds of jobs, one line each: runs, groups, processes, mounts of
/// containers and volumes.
const REMAINS: &str = r"
ls /run/bedplate/runs | wc -l
find /sys/fs/cgroup/system.slice/bedplate-jobs.service/runs -mindepth 1 -type d | wc -l
cat /sys/fs/cgroup/system.slice/bedplate-jobs.service/inits/cgroup.procs | wc -l
grep -c /run/bedplate/runs /proc/mounts
ls /var/lib/bedplate/volumes 2>/dev/null | wc -l
";

/// What a campaign came to.
#[derive(Debug, Default)]
pub(super) struct Account {
    workflows: usize,
    tasks: usize,
    attempts: usize,
    killed: usize,
    lost: usize,
    requeued: usize,
    kills: Vec<(Victim, usize)>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workflows, tasks, attempts, killed, lost, requeued, kills } = self;
        let kills: Vec<String> =
            kills.iter().map(|(victim, count)| format!("{count} {victim:?}")).collect();
        write!(
            f,
            "{workflows} workflows, {tasks} tasks each ended once in {attempts} attempts ({killed} killed, {lost} lost, \
             {requeued} requeued after a reboot), logs whole, nothing left; kills: {}",
            kills.join(", ")
        )
    }
}

/// Looks at everything that was started.
pub(super) fn draw_up(
    cluster: &Cluster,
    workflows: &[String],
    kills: &[Victim],
) -> anyhow::Result<Account> {
    let mut account = Account { workflows: workflows.len(), ..Account::default() };
    for victim in kills {
        match account.kills.iter_mut().find(|(other, _)| other == victim) {
            Some((_, count)) => *count += 1,
            None => account.kills.push((*victim, 1)),
        }
    }
    account.kills.sort_unstable();
    for id in workflows {
        account.add(cluster, id).with_context(|| {
            let described = cluster.server.cli(&["workflow", "describe", id]).unwrap_or_default();
            format!("workflow {id}:\n{described}")
        })?;
    }
    let at_most = |victim: Victim| kills.iter().filter(|other| **other == victim).count();
    ensure!(
        account.killed <= at_most(Victim::Job),
        "{account}: more jobs were killed than we killed"
    );
    for address in ADDRESSES {
        nothing_left(cluster, address)?;
    }
    Ok(account)
}

impl Account {
    fn add(&mut self, cluster: &Cluster, id: &str) -> anyhow::Result<()> {
        let ended = workflow::view(cluster, id)?;
        let attempts = workflow::attempts(cluster, id)?;
        for stage in ended.stages.iter().filter(|stage| stage.kind == StageKind::Job) {
            let of_stage: Vec<&Attempt> =
                attempts.iter().filter(|attempt| attempt.stage == stage.index).collect();
            let counts = stage.tasks;
            ensure!(
                counts.pending + counts.started == 0,
                "{} has tasks that are not over",
                stage.name
            );
            let mut tasks: Vec<u32> = of_stage.iter().map(|attempt| attempt.task).collect();
            tasks.dedup();
            for task in &tasks {
                let of_task: Vec<&Attempt> =
                    of_stage.iter().copied().filter(|attempt| attempt.task == *task).collect();
                self.add_task(cluster, id, stage, &of_task)?;
            }
            self.tasks += tasks.len();
        }
        Ok(())
    }

    fn add_task(
        &mut self,
        cluster: &Cluster,
        id: &str,
        stage: &Stage,
        attempts: &[&Attempt],
    ) -> anyhow::Result<()> {
        let code = if stage.name == "seven" { 7 } else { 0 };
        for (number, attempt) in (1..).zip(attempts) {
            let is_last = number as usize == attempts.len();
            ensure!(attempt.attempt == number, "{} has no attempt {number}", stage.name);
            let outcome = attempt.outcome.as_ref().context("an attempt without an end")?;
            let by_itself = *outcome == Outcome::Exited { code };
            match outcome {
                Outcome::Exited { .. } => {
                    ensure!(by_itself && is_last, "{}: {outcome:?}", stage.name)
                }
                Outcome::Signaled { signal: 9 } => self.killed += 1,
                Outcome::Lost { rebooted: true, .. } => self.requeued += 1,
                Outcome::Lost { .. } => self.lost += 1,
                other => {
                    anyhow::bail!("{} ended by {other:?}, and nobody did that to it", stage.name)
                }
            }
            self.attempts += 1;
            check_log(cluster, id, stage, attempt, by_itself)?;
        }
        let should_finish = stage.name != "seven";
        let finished = stage.state == State::Finished;
        ensure!(finished == should_finish, "{} is {}", stage.name, stage.state.as_str());
        Ok(())
    }
}

/// The log of an attempt that ended by itself is whole; of another it is a beginning, and of a lost
/// one the command line says that it is not whole.
fn check_log(
    cluster: &Cluster,
    id: &str,
    stage: &Stage,
    attempt: &Attempt,
    is_whole: bool,
) -> anyhow::Result<()> {
    let (task, number) = (attempt.task.to_string(), attempt.attempt.to_string());
    let words = ["workflow", "log", id, &stage.name, "--task", &task, "--attempt", &number];
    let output = cluster.server.try_cli(&words)?;
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let whole: String = (1..=LINES).map(|line| format!("{} {task} {line}\n", stage.name)).collect();
    let subject = format!("the log of {} task {task} attempt {number}", stage.name);
    let is_lost = matches!(attempt.outcome, Some(Outcome::Lost { .. }));
    ensure!(output.status.success() != is_lost, "{subject}: {}: {said}", output.status);
    ensure!(
        !is_lost || said.contains("not whole"),
        "{subject} was lost, and that is not said: {said}"
    );
    if is_whole {
        ensure!(log == whole, "{subject} has {} bytes and should have {}", log.len(), whole.len());
    } else {
        ensure!(whole.starts_with(&log), "{subject} is no beginning of what was written:\n{log}");
    }
    Ok(())
}

/// The node holds nothing of any job, when the last runs are forgotten.
fn nothing_left(cluster: &Cluster, address: &str) -> anyhow::Result<()> {
    let limit = cluster.accelerator().stretch(std::time::Duration::from_secs(20));
    let mut remains = String::new();
    let waited = clock::wait_for("a node to forget its jobs", limit, || {
        remains = cluster.on_node(address, REMAINS)?;
        Ok((remains.split_whitespace().all(|count| count == "0")).then_some(()))
    });
    waited.with_context(|| {
        format!("left on {address} (runs, groups, inits, mounts, volumes): {remains}")
    })
}
