//! The account at the end: what the server says of every task, held against what the nodes did.
//!
//! | held | of |
//! |---|---|
//! | all tasks are there and finished | each array |
//! | attempts are numbered without a gap, all are over, the last one and no other was a success | each task |
//! | a run is on one node, and begun once in each boot of it | each run |
//! | no two runs of it at once | each task |
//! | no node ran more of it than the server knows, and every exit that the server knows was one | each task and node |
//! | its log is whole; a beginning, where the node lost its power before the server had all of it | each task that wrote one |

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    time::Duration,
};

use anyhow::{Context as _, bail};
use api::{
    ids::{NodeName, Timestamp},
    run::{Outcome, RunId, WorkflowId},
    workflow::{Attempt, Stage, StageKind, State, Workflow},
};
use client::{Client, LogOf, StreamEnd};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::load::{LINES, Submitted, TALK};
use crate::{
    figures::Sample,
    journal::{Entry, Journal},
    simulated_node::talk,
};

/// Attempts that one answer of the server holds at most.
const MAX_ATTEMPTS: u32 = 10_000;

/// Questions to the server at once.
const ASKING: usize = 8;

/// Mistakes that are told.
const MAX_TOLD: usize = 20;

/// What it all came to.
#[derive(Debug, Default)]
pub(super) struct Account {
    tasks: u64,
    attempts: u64,
    failed: u64,
    lost: u64,
    logs: u64,
    logs_lost: u64,
    submit_to_start: Sample,
    start_to_known: Sample,
    end_to_known: Sample,
    diagnostics: Vec<String>,
}

/// What the nodes did of each task.
type TaskHistory = HashMap<(WorkflowId, String), Vec<Entry>>;

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:24} {}", "submit to start", self.submit_to_start)?;
        writeln!(f, "  {:24} {}", "start to end known", self.start_to_known)?;
        writeln!(f, "  {:24} {}", "end to end known", self.end_to_known)?;
        write!(
            f,
            "  {} attempts: {} failed by themselves, {} lost with their nodes; {} logs whole, {} lost with their nodes",
            self.attempts, self.failed, self.lost, self.logs, self.logs_lost
        )
    }
}

impl Account {
    /// Asks the server for everything, and holds it against the journal.
    ///
    /// # Errors
    /// If the server does not answer. What does not add up is in the account.
    pub(super) async fn draw_up(
        client: &Client,
        submitted: &[Submitted],
        journal: &Journal,
    ) -> anyhow::Result<Self> {
        let mut deeds = TaskHistory::new();
        for entry in journal.entries() {
            deeds.entry((entry.workflow, entry.subject.clone())).or_default().push(entry);
        }
        let mut account = Self::default();
        let mut asked = stream::iter(submitted)
            .map(|submitted| async move { told(client, submitted).await })
            .buffer_unordered(ASKING);
        let mut talkers = Vec::new();
        while let Some((submitted, workflow, attempts)) = asked.try_next().await? {
            account.workflow(submitted, &workflow, &attempts, &mut deeds, &mut talkers);
        }
        account.diagnostics.extend(strangers(&deeds));
        account.logs(client, talkers, &journal.logged()).await?;
        Ok(account)
    }

    /// Fails if something does not add up.
    ///
    /// # Errors
    /// The first of it.
    pub(super) fn refuse_diagnostics(&self, tasks: u32) -> anyhow::Result<()> {
        let mut diagnostics = self.diagnostics.clone();
        if self.tasks != u64::from(tasks) {
            diagnostics.push(format!("{} tasks are finished, {tasks} were submitted", self.tasks));
        }
        if diagnostics.is_empty() {
            return Ok(());
        }
        let told: Vec<&str> = diagnostics.iter().take(MAX_TOLD).map(String::as_str).collect();
        bail!("{} things do not add up:\n{}", diagnostics.len(), told.join("\n"))
    }

    fn workflow(
        &mut self,
        submitted: &Submitted,
        workflow: &Workflow,
        attempts: &BTreeMap<(u32, u32), Vec<Attempt>>,
        deeds: &mut TaskHistory,
        talkers: &mut Vec<LoggingAttempt>,
    ) {
        let summary = &workflow.summary;
        if summary.state != State::Finished {
            let why = summary.reason.clone().unwrap_or_default();
            self.diagnostics.push(format!("{} is {}: {why}", summary.name, summary.state.as_str()));
        }
        let jobs: Vec<&Stage> =
            workflow.stages.iter().filter(|stage| stage.kind == StageKind::Job).collect();
        let finished: u32 = jobs.iter().map(|stage| stage.tasks.finished).sum();
        if finished != submitted.tasks {
            self.diagnostics
                .push(format!("{} has {finished} of {} tasks", summary.name, submitted.tasks));
        }
        self.tasks += u64::from(finished);
        for stage in jobs {
            let of_stage = attempts.range((stage.index, 0)..=(stage.index, u32::MAX));
            let mut known = 0;
            for ((_, task), attempts) in of_stage {
                known += 1;
                let subject = format!("job {}[{task}]", stage.name);
                let did = deeds.remove(&(summary.id, subject.clone())).unwrap_or_default();
                let wrong = check(attempts, &did);
                self.diagnostics.extend(
                    wrong.into_iter().map(|why| format!("{} {subject}: {why}", summary.name)),
                );
                self.count(summary.submitted, attempts, &did);
                if let Some(last) = attempts.last().filter(|_| stage.name == TALK) {
                    let run = success(last, &did).map(|entry| entry.run);
                    let (workflow, attempt) = (summary.id, last.attempt);
                    talkers.push(LoggingAttempt { workflow, task: *task, attempt, run });
                }
            }
            if known != stage.tasks.finished {
                self.diagnostics
                    .push(format!("{} {} has attempts of {known} tasks", summary.name, stage.name));
            }
        }
    }

    fn count(&mut self, submitted: Timestamp, attempts: &[Attempt], did: &[Entry]) {
        self.attempts += attempts.len() as u64;
        for outcome in attempts.iter().filter_map(|attempt| attempt.outcome.as_ref()) {
            match outcome {
                Outcome::Lost { .. } => self.lost += 1,
                other if !other.is_success() => self.failed += 1,
                _ => {}
            }
        }
        if let Some(started) = attempts.iter().find_map(|attempt| attempt.started) {
            self.submit_to_start.add(between(submitted, started));
        }
        let Some((last, known)) = attempts.last().and_then(|last| Some((last, last.ended?))) else {
            return;
        };
        if let Some(run) = success(last, did) {
            self.start_to_known.add(between(run.began, known));
            self.end_to_known.add(between(run.ended, known));
        }
    }

    /// What tasks wrote is at the server, to the last byte.
    async fn logs(
        &mut self,
        client: &Client,
        talkers: Vec<LoggingAttempt>,
        logged: &HashSet<RunId>,
    ) -> anyhow::Result<()> {
        let mut asked = stream::iter(talkers)
            .map(|talker| async move { anyhow::Ok((talker.log(client).await?, talker)) })
            .buffer_unordered(ASKING);
        while let Some((log, talker)) = asked.try_next().await.context("reading logs")? {
            let whole = talk(&talker.subject(), LINES);
            let was_taken = talker.run.is_some_and(|run| logged.contains(&run));
            if log == whole.as_bytes() {
                self.logs += 1;
            } else if !was_taken && whole.as_bytes().starts_with(&log) {
                self.logs_lost += 1;
            } else {
                let (workflow, subject) = (talker.workflow, talker.subject());
                let wrong =
                    format!("its log has {} of {} bytes, or others", log.len(), whole.len());
                self.diagnostics.push(format!("workflow {workflow} {subject}: {wrong}"));
            }
        }
        Ok(())
    }
}

/// The last attempt of a task that wrote a log.
#[derive(Debug)]
struct LoggingAttempt {
    workflow: WorkflowId,
    task: u32,
    attempt: u32,
    run: Option<RunId>,
}

impl LoggingAttempt {
    fn subject(&self) -> String {
        format!("job {TALK}[{}]", self.task)
    }

    async fn log(&self, client: &Client) -> anyhow::Result<Vec<u8>> {
        let (job, task, attempt) = (Some(TALK.to_owned()), Some(self.task), Some(self.attempt));
        let of = LogOf { job, task, attempt, ..LogOf::default() };
        let mut content = client.workflow_log(&self.workflow.to_string(), &of).await?;
        let mut log = Vec::new();
        loop {
            match content.next().await {
                Ok(bytes) => log.extend(bytes),
                Err(StreamEnd::Closed) => return Ok(log),
                Err(StreamEnd::Broken) => bail!("the log of {} broke off", self.subject()),
            }
        }
    }
}

/// The run that an attempt was, if it succeeded.
fn success<'a>(attempt: &Attempt, did: &'a [Entry]) -> Option<&'a Entry> {
    let is_it = |entry: &&Entry| {
        entry.node == attempt.node && entry.outcome.as_ref().is_some_and(Outcome::is_success)
    };
    did.iter().filter(is_it).max_by_key(|entry| entry.began)
}

/// A workflow and all attempts of its tasks, by stage and task.
async fn told<'a>(
    client: &Client,
    submitted: &'a Submitted,
) -> anyhow::Result<(&'a Submitted, Workflow, BTreeMap<(u32, u32), Vec<Attempt>>)> {
    let id = submitted.id.to_string();
    let workflow = client.workflow(&id).await.with_context(|| format!("workflow {id}"))?;
    let mut attempts: BTreeMap<(u32, u32), Vec<Attempt>> = BTreeMap::new();
    for stage in workflow.stages.iter().filter(|stage| stage.kind == StageKind::Job) {
        for attempt in client.attempts(&id, Some(stage.index), MAX_ATTEMPTS).await? {
            attempts.entry((stage.index, attempt.task)).or_default().push(attempt);
        }
    }
    Ok((submitted, workflow, attempts))
}

/// What nodes did for nobody that the server knows.
fn strangers(left: &TaskHistory) -> impl Iterator<Item = String> + '_ {
    left.iter().map(|((workflow, subject), did)| {
        let nodes: BTreeSet<String> = did.iter().map(|entry| entry.node.to_string()).collect();
        format!("workflow {workflow} {subject} ran on {nodes:?} and the server knows of no attempt")
    })
}

/// What does not add up of one task.
fn check(attempts: &[Attempt], did: &[Entry]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, attempt) in (1..).zip(attempts) {
        if attempt.attempt != number {
            wrong.push(format!("attempt {} comes where {number} should", attempt.attempt));
        }
        let is_last = usize::try_from(number).is_ok_and(|number| number == attempts.len());
        match &attempt.outcome {
            None => wrong.push(format!("attempt {number} is not over")),
            Some(outcome) if outcome.is_success() != is_last => {
                wrong.push(format!("attempt {number} of {} is {outcome:?}", attempts.len()));
            }
            Some(_) => {}
        }
    }
    wrong.extend(check_runs(did));
    wrong.extend(check_nodes(attempts, did));
    wrong
}

/// Runs are where they were put, and no two at once.
fn check_runs(did: &[Entry]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut sorted: Vec<&Entry> = did.iter().collect();
    sorted.sort_by_key(|entry| entry.began);
    for pair in sorted.windows(2) {
        if pair[1].began < pair[0].ended {
            wrong.push(format!("it ran on {} and {} at once", pair[0].node, pair[1].node));
        }
    }
    for (index, entry) in sorted.iter().enumerate() {
        for earlier in sorted[..index].iter().filter(|earlier| earlier.run == entry.run) {
            if earlier.node != entry.node {
                wrong.push(format!("run {} was on {} and {}", entry.run, earlier.node, entry.node));
            } else if earlier.boot == entry.boot {
                wrong.push(format!("run {} was begun twice on {}", entry.run, entry.node));
            }
        }
    }
    wrong
}

/// What each node did is what the server says of it.
fn check_nodes(attempts: &[Attempt], did: &[Entry]) -> Vec<String> {
    let mut wrong = Vec::new();
    let nodes: BTreeSet<&NodeName> = did.iter().map(|entry| &entry.node).collect();
    for node in nodes {
        let runs: BTreeSet<_> =
            did.iter().filter(|entry| entry.node == *node).map(|entry| entry.run).collect();
        let known = attempts.iter().filter(|attempt| attempt.node == *node).count();
        if runs.len() > known {
            wrong.push(format!("{node} ran it {} times, the server knows of {known}", runs.len()));
        }
    }
    let exits = |attempt: &&Attempt| matches!(attempt.outcome, Some(Outcome::Exited { .. }));
    for attempt in attempts.iter().filter(exits) {
        let same = |node: &NodeName, outcome: &Option<Outcome>| {
            *node == attempt.node && *outcome == attempt.outcome
        };
        let told = attempts.iter().filter(|other| same(&other.node, &other.outcome)).count();
        let real = did.iter().filter(|entry| same(&entry.node, &entry.outcome)).count();
        if told > real {
            let (node, outcome) = (&attempt.node, &attempt.outcome);
            wrong.push(format!("{told} attempts on {node} ended as {outcome:?}, and {real} did"));
        }
    }
    wrong
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0))
}

#[cfg(test)]
#[path = "account/tests.rs"]
mod tests;
