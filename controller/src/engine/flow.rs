//! A workflow in memory: its rows, its stages, its tasks. Every change goes through a method that also writes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use api::{
    ids::{Digest, NodeId, NodeName, Timestamp},
    run::{FailedTry, Outcome, RunId, WorkflowId},
    workflow::{State, TaskCounts, WorkflowEvent},
};
use document::plan::{Plan, Planned, StagePlan};
use serde::{Deserialize, Serialize};

use super::{FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Output};
use crate::{
    images::JobImage,
    store::{Owner, RunRow, StageRow, SubmissionKey, SubmittedRow, WorkflowRow, Write},
};

/// Nodes of a stage that are shown.
const MAX_NODES_SHOWN: usize = 8;

/// Where the volumes of a group are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Home {
    pub(crate) node: NodeId,
    pub(crate) name: NodeName,
    /// The boot that they live in.
    pub(crate) boot: String,
}

/// A workflow that was handed in, checked.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) id: WorkflowId,
    pub(crate) place: u64,
    pub(crate) name: String,
    pub(crate) owner: Owner,
    /// The document as it was handed in.
    pub(crate) document: String,
    pub(crate) plan: Plan,
    /// The plan as it is stored.
    pub(crate) stored_plan: String,
    /// See [`SubmittedRow::key`].
    pub(crate) key: Option<(SubmissionKey, Digest)>,
}

/// A workflow.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) row: WorkflowRow,
    /// Of a blocked workflow: stages that stand in for those that are not known.
    pub(crate) plan: Arc<Plan>,
    /// Why its plan is not known to this release. Then what is on nodes is followed to its end, and
    /// nothing else happens but that somebody stops it.
    pub(crate) blocked: Option<String>,
    pub(crate) stages: Vec<StageNow>,
    /// Runs that are not forgotten.
    pub(crate) runs: BTreeMap<RunId, RunNow>,
    /// Lines of its history.
    pub(crate) events: u64,
}

/// What is known of a workflow that the last run of the server left.
#[derive(Debug)]
pub(crate) enum Known {
    /// Its plan; all stages and runs in the store are of it.
    Plan(Plan),
    /// Its plan is not known.
    Blocked {
        /// Why not, for people.
        why: String,
        /// Stages that stand in for those that the store has rows of.
        stand_in: Plan,
    },
}

/// A run in memory.
#[derive(Debug, Clone)]
pub(crate) struct RunNow {
    pub(crate) row: RunRow,
    /// Up to where its log is here.
    pub(crate) log_here: u64,
    /// Of a run that is over: since when the rest of its log is awaited, by the clock of
    /// [`super::Engine::tick`] that nobody sets.
    pub(crate) log_awaited: Option<Duration>,
    /// The last try that failed, of those that its node makes by itself.
    pub(crate) failed_try: Option<FailedTry>,
    /// When the pause after it is over; `None` once it is.
    pub(crate) next_try: Option<Timestamp>,
    /// Remarks on it; each stands in the history once.
    pub(crate) remarks: Vec<String>,
    /// Lines about it in the history, beside those of its beginning and end.
    pub(crate) news: u32,
    /// The history says that something of it was not taken, for a quota.
    pub(crate) is_quota_told: bool,
}

impl RunNow {
    pub(crate) fn new(row: RunRow, log_here: u64) -> Self {
        let (log_awaited, failed_try, next_try, remarks) = (None, None, None, Vec::new());
        Self { row, log_here, log_awaited, failed_try, next_try, remarks, news: 0, is_quota_told: false }
    }
}

/// A stage in memory.
#[derive(Debug, Clone)]
pub(crate) struct StageNow {
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) image: Option<JobImage>,
    /// All stages before it have finished.
    pub(crate) is_ready: bool,
    pub(crate) tasks: TaskBook,
    pub(crate) nodes: BTreeSet<NodeName>,
}

/// The tasks of a stage, by their number from 0. Those that were never tried are a range, not a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskBook {
    pub(crate) count: u32,
    /// Tasks from here on were never tried.
    pub(crate) next: u32,
    /// To be tried again: what attempt, and not before when.
    pub(crate) again: BTreeMap<u32, Again>,
    /// With the attempt that it is.
    pub(crate) running: BTreeMap<u32, (RunId, Again)>,
    pub(crate) finished: u32,
    pub(crate) failed: u32,
    pub(crate) canceled: u32,
    /// Why one of them failed.
    pub(crate) failure: Option<String>,
    /// The attempt that failed last, while its task is tried again.
    pub(crate) retried: Option<Retried>,
}

/// An attempt that failed, of a task that is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retried {
    /// The task, from 0.
    pub(crate) task: u32,
    /// The attempt that failed, from 1.
    pub(crate) attempt: u32,
    /// Why, for people.
    pub(crate) why: String,
    /// From its end to the next attempt, seconds.
    pub(crate) pause_seconds: i64,
}

/// The next attempt of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Again {
    /// From 1.
    pub(crate) attempt: u32,
    /// Attempts that failed for the task's own reasons.
    pub(crate) failures: u32,
    /// Attempts that never began.
    pub(crate) false_starts: u32,
    /// Attempts that ended because their node was booted anew.
    pub(crate) requeues: u32,
    /// Times in a row that nodes did not begin it.
    pub(crate) refusals: u32,
    pub(crate) not_before: Timestamp,
}

impl Again {
    fn first(now: Timestamp) -> Self {
        Self { attempt: 1, failures: 0, false_starts: 0, requeues: 0, refusals: 0, not_before: now }
    }
}

impl TaskBook {
    pub(crate) fn new(count: u32) -> Self {
        Self { count, ..Self::default() }
    }

    /// Neither running, waiting nor untried: all are over.
    pub(crate) fn is_over(&self) -> bool {
        self.finished + self.failed + self.canceled == self.count
    }

    /// Tasks that may begin now, lowest first, with the attempt that it would be.
    pub(crate) fn due(&self, now: Timestamp) -> impl Iterator<Item = (u32, Again)> + '_ {
        let first = Again::first(now);
        let again = self.again.iter().filter(move |(_, again)| again.not_before <= now);
        again
            .map(|(task, again)| (*task, *again))
            .chain((self.next..self.count).map(move |task| (task, first)))
    }

    pub(crate) fn counts(&self) -> TaskCounts {
        let running = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        let over = self.finished + self.failed + self.canceled;
        TaskCounts {
            pending: self.count.saturating_sub(over + running),
            started: running,
            finished: self.finished,
            failed: self.failed,
            canceled: self.canceled,
        }
    }

    /// What never ran will not.
    pub(crate) fn cancel_waiting(&mut self) {
        let waiting = u32::try_from(self.again.len()).unwrap_or(u32::MAX);
        self.canceled += self.count - self.next + waiting;
        self.next = self.count;
        self.again.clear();
        self.retried = None;
    }
}

/// The pause after so many failures.
pub(crate) fn pause_seconds(failures: u32) -> i64 {
    let doubled = FIRST_PAUSE_SECONDS.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(LONGEST_PAUSE_SECONDS)
}

impl StageNow {
    pub(crate) fn new(plan: &StagePlan) -> Self {
        Self {
            state: State::Pending,
            reason: None,
            started: None,
            ended: None,
            image: None,
            is_ready: false,
            tasks: TaskBook::new(plan.tasks.count),
            nodes: BTreeSet::new(),
        }
    }

    /// `false` for an image that was being fetched when the server ended: it is fetched again.
    fn image_is_known(&self, plan: &StagePlan) -> bool {
        !matches!(plan.work, Planned::Image { .. }) || self.state.is_ended()
    }

    pub(crate) fn nodes_shown(&self) -> Vec<NodeName> {
        self.nodes.iter().take(MAX_NODES_SHOWN).cloned().collect()
    }
}

impl Flow {
    /// A workflow that was just handed in, and the write that stores it.
    pub(crate) fn new(submission: Submission, now: Timestamp) -> (Self, Write) {
        let Submission { id, place, name, owner, document, plan, stored_plan, key } = submission;
        let row = WorkflowRow {
            id,
            place,
            name,
            owner,
            submitted: now,
            started: None,
            ended: None,
            state: State::Pending,
            reason: None,
            stop: None,
            paused: None,
            homes: vec![None; plan.groups],
            view: None,
            unreadable: None,
        };
        let submitted = SubmittedRow { row: row.clone(), document, plan: stored_plan, key };
        (Self::of(row, Arc::new(plan), None), Write::Submit(Box::new(submitted)))
    }

    fn of(row: WorkflowRow, plan: Arc<Plan>, blocked: Option<String>) -> Self {
        let stages = plan.stages.iter().map(StageNow::new).collect();
        Self { row, plan, blocked, stages, runs: BTreeMap::new(), events: 0 }
    }

    /// A workflow out of its rows. `runs`: all, by stage, task and attempt. `log_here`: bytes that
    /// are here of a log.
    pub(crate) fn restore(
        row: WorkflowRow,
        known: Known,
        stages: Vec<StageRow>,
        runs: Vec<RunRow>,
        events: u64,
        log_here: impl Fn(RunId) -> u64,
    ) -> Self {
        let (plan, blocked) = match known {
            Known::Plan(plan) => (plan, None),
            Known::Blocked { why, stand_in } => (stand_in, Some(why)),
        };
        let mut flow = Self::of(row, Arc::new(plan), blocked);
        flow.events = events;
        for row in stages {
            let Some(stage) = flow.stages.get_mut(row.stage as usize) else { continue };
            stage.state = row.state;
            stage.reason = row.reason;
            stage.started = row.started;
            stage.ended = row.ended;
            stage.image = row.result;
        }
        for row in runs {
            let log_here = log_here(row.run);
            flow.recall(row, log_here);
        }
        for (stage, plan) in flow.stages.iter_mut().zip(&flow.plan.stages) {
            if matches!(stage.state, State::Canceled | State::Failed) || flow.row.stop.is_some() {
                stage.tasks.cancel_waiting();
            } else if plan.tasks.count > 0 && stage.state == State::Finished && stage.tasks.finished == 0 {
                // An image has no runs.
                stage.tasks.finished = stage.tasks.count;
                stage.tasks.next = stage.tasks.count;
            }
        }
        let finished: Vec<bool> = flow.stages.iter().map(|stage| stage.state == State::Finished).collect();
        for (stage, plan) in flow.stages.iter_mut().zip(&flow.plan.stages) {
            stage.is_ready =
                plan.after.iter().all(|&before| finished[before as usize]) && stage.image_is_known(plan);
        }
        flow
    }

    /// Takes a run out of the store into the book of its stage. Runs of one task come in the order of their attempts.
    fn recall(&mut self, row: RunRow, log_here: u64) {
        let Some(plan) = self.plan.stages.get(row.stage as usize) else { return };
        let Some(stage) = self.stages.get_mut(row.stage as usize) else { return };
        let task = row.task - plan.tasks.first.unwrap_or(0);
        let book = &mut stage.tasks;
        book.next = book.next.max(task + 1);
        stage.nodes.insert(row.node_name.clone());
        let before = book.again.get(&task).copied();
        let this = before.unwrap_or(Again::first(row.placed));
        book.begin(task, row.run, Again { attempt: row.attempt, ..this });
        if let Some(outcome) = &row.outcome {
            book.settle(task, outcome, plan.retries, row.ended.unwrap_or(row.placed), row.started.is_some());
        }
        if row.ended.is_none() || log_here < row.log_bytes {
            self.runs.insert(row.run, RunNow::new(row, log_here));
        }
    }

    /// Writes the workflow's own row.
    pub(crate) fn keep(&self, output: &mut Output) {
        output.writes.push(Write::Workflow(Box::new(self.row.clone())));
        output.changed.insert(self.row.id);
    }

    /// Writes a stage's row.
    pub(crate) fn keep_stage(&self, output: &mut Output, index: u32) {
        let stage = &self.stages[index as usize];
        output.writes.push(Write::Stage(Box::new(StageRow {
            workflow: self.row.id,
            stage: index,
            state: stage.state,
            reason: stage.reason.clone(),
            started: stage.started,
            ended: stage.ended,
            result: stage.image.clone(),
        })));
        output.changed.insert(self.row.id);
    }

    /// Writes a run's row.
    pub(crate) fn keep_run(&self, output: &mut Output, run: RunId) {
        if let Some(run) = self.runs.get(&run) {
            output.writes.push(Write::Run(Box::new(run.row.clone())));
            output.changed.insert(self.row.id);
        }
    }

    /// Adds a line to the history.
    pub(crate) fn event(
        &mut self,
        output: &mut Output,
        at: Timestamp,
        event: &str,
        stage: Option<u32>,
        message: String,
    ) {
        self.events += 1;
        let name = stage.map(|stage| self.plan.stages[stage as usize].name.clone());
        let event = WorkflowEvent { number: self.events, at, event: event.to_owned(), stage, name, message };
        output.history(self.row.id, event);
        output.changed.insert(self.row.id);
    }

    pub(crate) fn has_task_due(&self, now: Timestamp) -> bool {
        self.blocked.is_none() && self.next_due().is_some_and(|due| due <= now)
    }

    /// When the next pause of a task ends.
    fn next_due(&self) -> Option<Timestamp> {
        let again = self.stages.iter().flat_map(|stage| stage.tasks.again.values());
        again.map(|again| again.not_before).min()
    }
}

impl TaskBook {
    /// A task is on a node.
    pub(crate) fn begin(&mut self, task: u32, run: RunId, this: Again) {
        self.next = self.next.max(task + 1);
        self.again.remove(&task);
        self.running.insert(task, (run, this));
    }

    /// A run of a task is over: the task has finished, will be tried again, or has failed. `retries`: further attempts that
    /// the document grants. `has_started`: its process ran.
    pub(crate) fn settle(
        &mut self,
        task: u32,
        outcome: &Outcome,
        retries: u32,
        now: Timestamp,
        has_started: bool,
    ) {
        let Some((_, mut this)) = self.running.remove(&task) else { return };
        let refusals = std::mem::take(&mut this.refusals);
        self.retried.take_if(|retried| retried.task == task);
        let goes_on = match outcome {
            Outcome::Exited { code: 0 } => {
                self.finished += 1;
                return;
            }
            Outcome::Stopped { .. } => {
                self.canceled += 1;
                return;
            }
            Outcome::Failed { transient: false, .. } => false,
            Outcome::Failed { transient: true, .. } => this.starts_falsely(),
            Outcome::Lost { .. } if !has_started => this.starts_falsely(),
            Outcome::Lost { rebooted: true, .. } => {
                this.requeues += 1;
                this.requeues <= super::MAX_REQUEUES
            }
            Outcome::Refused { .. } => {
                this.refusals = refusals + 1;
                true
            }
            _ => {
                this.failures += 1;
                this.failures <= retries
            }
        };
        if goes_on {
            let pause = pause_seconds(this.failures + this.false_starts + this.requeues + this.refusals);
            let next = Again { attempt: this.attempt + 1, not_before: now.plus_seconds(pause), ..this };
            self.again.insert(task, next);
            let why = super::runs::told(outcome);
            self.retried = Some(Retried { task, attempt: this.attempt, why, pause_seconds: pause });
        } else {
            self.failed += 1;
            self.failure.get_or_insert_with(|| super::runs::told(outcome));
        }
    }
}

impl Again {
    /// Counts an attempt that never began; `true` if there may be another.
    fn starts_falsely(&mut self) -> bool {
        self.false_starts += 1;
        self.false_starts <= super::MAX_FALSE_STARTS
    }
}
