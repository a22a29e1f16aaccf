//! The tasks of a stage: which wait, which run, which are over, and when one is tried again.

use api::{ids::Timestamp, run::Outcome, workflow::TaskCounts};
use document::plan::TaskId;
use rpds::RedBlackTreeMapSync;

use super::{
    attempt::{Attempt, AttemptEnd},
    news::one_line,
};

/// Attempts of a task that never began for reasons of their node (a full disk, a reboot before it
/// started). They do not count as attempts of the user's.
const MAX_START_FAILURES: u32 = 5;

/// Times that a task begins again because its node was rebooted. They do not count as attempts of
/// the user's; but one that takes its node down must end some day.
const MAX_REQUEUES: u32 = 5;

/// First pause before a failed task is tried again, seconds. It doubles with each failure.
const FIRST_PAUSE_SECONDS: i64 = 1;

/// Longest such pause, seconds.
const LONGEST_PAUSE_SECONDS: i64 = 300;

/// The tasks of a stage. Those that were never tried are a range, not a list. Clones share the
/// others: a task that begins or ends costs its views no copy of those beside it.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskTable {
    pub(crate) count: u32,
    /// Tasks from here on were never tried.
    pub(crate) next: u32,
    /// To be tried again: what attempt, and not before when.
    pub(crate) retries: RedBlackTreeMapSync<TaskId, RetryState>,
    /// Tasks with an attempt on nodes, or on its way there.
    pub(crate) running: RedBlackTreeMapSync<TaskId, Attempt>,
    pub(crate) finished: u32,
    pub(crate) failed: u32,
    pub(crate) canceled: u32,
    /// Why one of them failed.
    pub(crate) failure: Option<String>,
    /// The attempt that failed last, while its task is tried again.
    pub(crate) retried: Option<FailedAttempt>,
}

/// An attempt that failed, of a task that is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedAttempt {
    pub(crate) task: TaskId,
    /// The attempt that failed, from 1.
    pub(crate) attempt: u32,
    /// Why, for people.
    pub(crate) why: String,
    /// From its end to the next attempt, seconds.
    pub(crate) pause_seconds: i64,
}

/// The next attempt of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryState {
    /// From 1.
    pub(crate) attempt: u32,
    /// Attempts that failed for the task's own reasons.
    pub(crate) failures: u32,
    /// Attempts that never began.
    pub(crate) start_failures: u32,
    /// Attempts that ended because their node was rebooted.
    pub(crate) requeues: u32,
    /// Times in a row that nodes did not begin it.
    pub(crate) refusals: u32,
    pub(crate) retry_at: Timestamp,
}

impl RetryState {
    pub(super) fn first(now: Timestamp) -> Self {
        Self { attempt: 1, failures: 0, start_failures: 0, requeues: 0, refusals: 0, retry_at: now }
    }
}

impl TaskTable {
    pub(crate) fn new(count: u32) -> Self {
        Self { count, ..Self::default() }
    }

    /// Neither running, waiting nor untried: all are over.
    pub(crate) fn is_over(&self) -> bool {
        self.finished + self.failed + self.canceled == self.count
    }

    /// Tasks that may begin now, lowest first, with the attempt that it would be.
    pub(crate) fn due(&self, now: Timestamp) -> impl Iterator<Item = (TaskId, RetryState)> + '_ {
        let first = RetryState::first(now);
        let retried = self.retries.iter().filter(move |(_, retry)| retry.retry_at <= now);
        let untried = (self.next..self.count).map(move |task| (TaskId(task), first));
        retried.map(|(task, retry)| (*task, *retry)).chain(untried)
    }

    pub(crate) fn counts(&self) -> TaskCounts {
        let running = u32::try_from(self.running.size()).unwrap_or(u32::MAX);
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
        let waiting = u32::try_from(self.retries.size()).unwrap_or(u32::MAX);
        self.canceled += self.count - self.next + waiting;
        self.next = self.count;
        self.retries = RedBlackTreeMapSync::new_sync();
        self.retried = None;
    }

    /// A task is on nodes.
    pub(crate) fn begin(&mut self, task: TaskId, attempt: Attempt) {
        self.next = self.next.max(task.0 + 1);
        if self.retries.contains_key(&task) {
            self.retries.remove_mut(&task);
        }
        self.running.insert_mut(task, attempt);
    }

    /// The workflow is stopped: attempts whose last members' rows cannot be read are over.
    pub(crate) fn give_up_unread(&mut self, retries: u32, now: Timestamp) {
        let over =
            self.running.iter().filter_map(|(task, attempt)| Some((*task, attempt.end(true)?)));
        for (task, end) in over.collect::<Vec<_>>() {
            self.record_outcome(task, &end, retries, now);
        }
    }

    /// The attempt of a task is over: the task has finished, will be tried again, or has failed.
    /// `retries`: further attempts that the document grants.
    pub(crate) fn record_outcome(
        &mut self,
        task: TaskId,
        AttemptEnd { outcome, has_started }: &AttemptEnd,
        retries: u32,
        now: Timestamp,
    ) {
        let Some(attempt) = self.running.get(&task) else { return };
        // What kept one member from beginning is no reason to forget what the others did.
        let have_others_run = *has_started && attempt.has_barrier();
        let mut this = attempt.retry;
        self.running.remove_mut(&task);
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
            Outcome::Failed { transient: true, .. } if !have_others_run => {
                this.count_start_failure()
            }
            Outcome::Lost { .. } if !*has_started => this.count_start_failure(),
            Outcome::Lost { rebooted: true, .. } => {
                this.requeues += 1;
                this.requeues <= MAX_REQUEUES
            }
            Outcome::Refused { .. } if !have_others_run => {
                this.refusals = refusals + 1;
                true
            }
            _ => {
                this.failures += 1;
                this.failures <= retries
            }
        };
        if goes_on {
            let pause =
                pause_seconds(this.failures + this.start_failures + this.requeues + this.refusals);
            let next =
                RetryState { attempt: this.attempt + 1, retry_at: now.plus_seconds(pause), ..this };
            self.retries.insert_mut(task, next);
            let why = describe(outcome);
            self.retried =
                Some(FailedAttempt { task, attempt: this.attempt, why, pause_seconds: pause });
        } else {
            self.failed += 1;
            self.failure.get_or_insert_with(|| describe(outcome));
        }
    }
}

/// The pause after so many failures.
fn pause_seconds(failures: u32) -> i64 {
    let doubled = FIRST_PAUSE_SECONDS.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(LONGEST_PAUSE_SECONDS)
}

impl RetryState {
    /// Counts an attempt that never began; `true` if there may be another.
    fn count_start_failure(&mut self) -> bool {
        self.start_failures += 1;
        self.start_failures <= MAX_START_FAILURES
    }
}

/// An outcome for people.
pub(super) fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("exited with status {code}"),
        Outcome::Signaled { signal } => format!("ended by signal {signal}"),
        Outcome::OutOfMemory { limit_bytes } => {
            format!("killed for memory: it reached its limit of {limit_bytes} bytes")
        }
        Outcome::TimedOut { seconds, cause } => {
            let cause =
                cause.as_ref().map(|cause| format!(": {}", one_line(cause))).unwrap_or_default();
            format!("ended by its timeout of {seconds} s{cause}")
        }
        Outcome::Stopped { why } => format!("stopped: {why}"),
        Outcome::Failed { why, .. } => why.clone(),
        Outcome::Lost { why, .. } => format!("lost: {why}"),
        Outcome::Refused { why } => format!("not begun: {why}"),
        Outcome::Unknown => {
            "ended in a way that this release doesn't know: its agent is newer".to_owned()
        }
    }
}
