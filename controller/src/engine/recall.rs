//! The runs of a workflow out of the store, into the books of its stages.

use api::{ids::Timestamp, run::RunId};

use super::{WorkflowState, attempt::Attempt, task::RetryState, workflow_state::Run};
use crate::record::{AttemptRow, RunRow};

impl WorkflowState {
    /// Takes the runs of an attempt out of the store into the book of their stage. Those of one
    /// task come in the order of their attempts. `of`: the row of an attempt of several members.
    pub(super) fn recall(
        &mut self,
        rows: &[RunRow],
        of: Option<&AttemptRow>,
        log_here: &impl Fn(RunId) -> u64,
    ) {
        let Some(first) = rows.first() else { return };
        let Some(plan) = self.plan.stages.get(first.stage.index()) else { return };
        let Some(stage) = self.stages.get_mut(first.stage) else { return };
        let Some(task) = plan.tasks.task(first.task) else { return };
        let before =
            stage.tasks.retries.get(&task).copied().unwrap_or(RetryState::first(first.placed));
        let retry = RetryState { attempt: first.attempt, ..before };
        let attempt = recalled(rows, of, retry, plan.members);
        rows.iter().for_each(|row| stage.note_node(&row.node_name));
        stage.has_run |= attempt.has_run();
        let end = attempt.end(self.stop.is_some());
        stage.tasks.begin(task, attempt);
        if let Some(end) = end {
            let last = rows.iter().filter_map(|row| row.ended).max();
            stage.tasks.record_outcome(task, &end, plan.retries, last.unwrap_or(first.placed));
        }
        for row in rows {
            let here = log_here(row.run);
            if row.ended.is_none() || here < row.log_bytes {
                self.runs.insert_mut(row.run, Run::restore(row.clone(), task, here));
            }
        }
    }
}

/// An attempt out of the rows of its runs. `members`: how many its stage has in the plan.
fn recalled(rows: &[RunRow], of: Option<&AttemptRow>, retry: RetryState, members: u32) -> Attempt {
    let placed = rows.iter().map(|row| row.placed).min().unwrap_or(Timestamp(0));
    let mut attempt = Attempt::new(rows.iter().map(|row| row.run).collect(), retry, placed);
    let seen = rows.iter().map(|row| row.member.saturating_add(1)).max().unwrap_or(1);
    attempt.members = of.map_or(members, |row| row.members).max(seen) as usize;
    match of {
        Some(row) => {
            attempt.released = row.released;
            if let Some(outcome) = row.outcome.as_ref().filter(|outcome| !outcome.is_success()) {
                let ended_so = rows.iter().find(|member| member.outcome.as_ref() == Some(outcome));
                attempt.fail(ended_so.map_or(0, |row| row.member), outcome.clone());
            }
        }
        // It was written with the first of its runs.
        None => attempt.is_unread = attempt.has_barrier(),
    }
    for row in rows {
        if let Some(started) = row.started {
            attempt.note_started(row.member, started);
        }
    }
    let mut over: Vec<_> =
        rows.iter().filter_map(|row| Some((row, row.outcome.as_ref()?))).collect();
    over.sort_by_key(|(row, _)| row.ended);
    for (row, outcome) in over {
        attempt.note_ended(row.member, outcome, row.ended.unwrap_or(placed));
    }
    attempt
}
