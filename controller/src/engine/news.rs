//! What nodes say of runs that are not over, and what people are told of failures that are not the
//! end: the tries that a node makes by itself, and attempts that are followed by another.

use std::collections::BTreeMap;

use api::{
    ids::{NodeId, Timestamp},
    run::{FailedTry, MAX_NEWS_CHARS, RunId, RunNews},
    workflow::EventKind,
};
use document::plan::StageId;

use super::{Effects, Engine, WorkflowState, task::FailedAttempt, workflow_state::Run};

/// Lines that one run adds to the history: an agent of ours makes six tries of a file, and remarks
/// once. What a node says beyond is shown and not written down.
const MAX_LINES_OF_RUN: u32 = 64;

/// What is shown of a stage while something of it is not taken, for a quota of its user.
const SHORT: &str =
    "a part of it is not kept, for a quota of its user: `bedplate workflow describe` says which";

/// What somebody else wrote, as a part of a line: bounded, without control characters.
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.chars().take(MAX_NEWS_CHARS).map(plain).collect();
    if text.chars().nth(MAX_NEWS_CHARS).is_some() {
        line.push('…');
    }
    line
}

impl Engine {
    /// A node tells of a run that is not over, or remarks on one that ended while it was away. What
    /// it tells is not kept: it tells again when its next session begins.
    pub(crate) fn run_news(&mut self, node: NodeId, run: RunId, news: &RunNews, now: Timestamp) {
        let mut effects = Effects::default();
        let sequence = self.runs.get(&run).copied();
        let Some(workflow_state) =
            sequence.and_then(|sequence| self.workflow_states.get_mut(sequence))
        else {
            return;
        };
        let is_remark = matches!(news, RunNews::Remark { .. });
        let may_tell = |run: &Run| run.node == node && (is_remark || run.ended.is_none());
        if workflow_state.runs.get(&run).is_some_and(may_tell) {
            workflow_state.run_news(&mut effects, run, news, now);
            self.take(effects);
        }
    }
}

impl WorkflowState {
    /// The pause of a try that a node makes by itself is over.
    pub(super) fn has_pause_over(&self, now: Timestamp) -> bool {
        self.runs.values().any(|run| is_pause_over(run, now))
    }

    /// Ends the pauses of tries that nodes make by themselves; `true` if one has ended.
    pub(super) fn end_pauses_of_tries(&mut self, now: Timestamp) -> bool {
        let over = self.runs.values().filter(|run| is_pause_over(run, now)).map(|run| run.id);
        let mut has_ended = false;
        for id in over.collect::<Vec<_>>() {
            let Some(run) = self.runs.get_mut(&id) else { continue };
            run.next_try = None;
            has_ended |= run.ended.is_none();
        }
        has_ended
    }

    fn run_news(&mut self, effects: &mut Effects, id: RunId, news: &RunNews, now: Timestamp) {
        let subject = self.subject(id);
        let Some(run) = self.runs.get_mut(&id) else { return };
        let (event, message) = match news {
            RunNews::FailedTry(failed) => {
                let failed = FailedTry { why: one_line(&failed.why), ..failed.clone() };
                if run.failed_try.as_ref() == Some(&failed) {
                    return;
                }
                let FailedTry { number, of, why, pause_seconds } = &failed;
                let message =
                    format!("{subject}: try {number} of {of}: {why}; next in {pause_seconds} s");
                let pause = i64::try_from(*pause_seconds).unwrap_or(i64::MAX);
                run.next_try =
                    Some(Timestamp(now.0.saturating_add(pause.saturating_mul(1_000_000))));
                run.failed_try = Some(failed);
                (EventKind::Error, message)
            }
            RunNews::Remark { text } => {
                let text = one_line(text);
                if run.news >= MAX_LINES_OF_RUN || run.remarks.contains(&text) {
                    return;
                }
                let message = format!("{subject}: {text}");
                run.remarks.push(text);
                (EventKind::FileTransferInfo, message)
            }
            RunNews::Unknown => return,
        };
        let stage = run.stage;
        run.news = run.news.saturating_add(1);
        if run.news <= MAX_LINES_OF_RUN {
            self.event(effects, now, event, Some(stage), message);
        }
        effects.changed.insert(self.id);
    }

    /// What failed and is tried again, by stage. The words stay the same while nothing happens: who
    /// watches is told once.
    pub(super) fn troubles(&self) -> BTreeMap<StageId, String> {
        let retried = self.numbered().filter_map(|(index, stage)| {
            let retried = stage.tasks.retried.as_ref()?;
            Some((index, self.retry_event(index, retried)))
        });
        let short = self.runs.values().filter(|run| is_short(run));
        let mut troubles: BTreeMap<StageId, String> =
            short.map(|run| (run.stage, SHORT.to_owned())).collect();
        troubles.extend(retried);
        // Transfers are no arrays: of each stage one run at most.
        let going = self.runs.values().filter(|run| run.ended.is_none());
        troubles.extend(going.filter_map(|run| Some((run.stage, failed_try_event(run)?))));
        troubles
    }

    /// The same of one stage.
    pub(super) fn trouble(&self, stage: StageId) -> Option<String> {
        let of_it = |run: &&Run| run.stage == stage && run.ended.is_none();
        let told = self.runs.values().filter(of_it).find_map(failed_try_event);
        let retried = || Some(self.retry_event(stage, self.stages[stage].tasks.retried.as_ref()?));
        let short =
            || self.runs.values().filter(of_it).find(|run| is_short(run)).map(|_| SHORT.to_owned());
        told.or_else(retried).or_else(short)
    }

    fn retry_event(&self, stage: StageId, retried: &FailedAttempt) -> String {
        let FailedAttempt { task, attempt, why, pause_seconds } = retried;
        let next = self.stages[stage].tasks.running.get(task).map(|attempt| attempt.retry.attempt);
        let tasks = self.plan.stages[stage].tasks;
        let task =
            tasks.first.map(|_| format!(" of task {}", tasks.number(*task))).unwrap_or_default();
        if let Some(next) = next {
            return format!("attempt {next}{task} is under way; attempt {attempt} failed: {why}");
        }
        format!("attempt {attempt}{task} failed: {why}; the next {pause_seconds} s later")
    }
}

fn is_pause_over(run: &Run, now: Timestamp) -> bool {
    run.next_try.is_some_and(|due| due <= now)
}

/// Something of a run that goes on was not taken, for a quota of its user.
fn is_short(run: &Run) -> bool {
    run.is_quota_told && run.ended.is_none()
}

fn failed_try_event(run: &Run) -> Option<String> {
    let FailedTry { number, of, why, pause_seconds } = run.failed_try.as_ref()?;
    let attempt = match run.attempt {
        1 => String::new(),
        attempt => format!("attempt {attempt}, "),
    };
    if run.next_try.is_none() {
        let next = number.saturating_add(1).min(*of);
        return Some(format!(
            "{attempt}try {next} of {of} is under way; try {number} failed: {why}"
        ));
    }
    Some(format!("{attempt}try {number} of {of} failed: {why}; the next {pause_seconds} s later"))
}
