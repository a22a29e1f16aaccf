//! What nodes say of runs. A node is believed about its own runs only.

use std::collections::BTreeMap;

use api::{
    channel::FromServer,
    ids::{NodeId, Timestamp},
    run::{Outcome, RunEnd, RunId, RunReport, RunState, Usage},
    workflow::{EventKind, StageKind},
};
use document::plan::{StageAction, StageId, TaskId};

use super::{
    Effects, Engine, WorkflowState,
    effects::{pause_run, stop_run},
    task::describe,
};

impl Engine {
    /// A run went forward.
    pub(crate) fn handle_report(&mut self, node: NodeId, report: &RunReport, now: Timestamp) {
        let mut effects = Effects::default();
        let sequence = self.runs.get(&report.run).copied();
        let is_its = |workflow_state: &WorkflowState| {
            workflow_state.runs.get(&report.run).is_some_and(|run| run.node == node)
        };
        let ours =
            sequence.filter(|sequence| self.workflow_states.get(*sequence).is_some_and(is_its));
        let Some(workflow_state) = ours.and_then(|sequence| self.workflow_states.get_mut(sequence))
        else {
            if !self.spared.has_run(report.run, node) {
                stop_unknown_run(&mut effects, node, report);
            }
            self.take(effects);
            return;
        };
        let ended = workflow_state.handle_report(&mut effects, report, now);
        self.take(effects);
        if ended {
            self.cluster.release(report.run);
            self.stale = true;
        }
        if let Some(sequence) = sequence {
            self.advance_workflow(sequence, now);
            self.forget_if_done(sequence, report.run);
        }
    }

    /// All runs that a node holds were told, and which of them are paused there. Those of ours that
    /// are not among them are told it again, or are lost.
    pub(crate) fn runs_listed(
        &mut self,
        node: NodeId,
        boot: &str,
        listed: &BTreeMap<RunId, bool>,
        now: Timestamp,
    ) {
        self.correct_pauses(node, listed);
        self.repeat_stops(node, listed);
        // Volumes of earlier boots: of a workflow that was blocked when the node booted, too.
        if !boot.is_empty() {
            self.volumes_lost(node, boot, now);
        }
        let missing: Vec<(u64, RunId)> = self
            .workflow_states
            .iter()
            .flat_map(|(sequence, workflow_state)| {
                workflow_state.runs.values().map(move |run| (sequence, run))
            })
            .filter(|(_, run)| {
                run.node == node && run.ended.is_none() && !listed.contains_key(&run.id)
            })
            .map(|(sequence, run)| (sequence, run.id))
            .collect();
        for (sequence, run) in missing {
            let Some(workflow_state) = self.workflow_states.get_mut(sequence) else { continue };
            let Some(entry) = workflow_state.runs.get_mut(&run) else { continue };
            let is_over = workflow_state.stages[entry.stage].state.is_ended();
            if entry.accepted || is_over {
                let rebooted = entry.boot != boot;
                let why = if rebooted {
                    format!("{} was rebooted", entry.node_name)
                } else {
                    "its node does not know it any more".to_owned()
                };
                self.lose(run, &why, rebooted, now);
                continue;
            }
            if let Some(why) = &workflow_state.blocked {
                // What it was to do is not known, so it cannot be told again; and what it was
                // granted is free, for nothing runs. When the plan can be read, it is tried again.
                let why = format!("its node never got it, and the workflow is blocked: {why}");
                self.end_here(run, Outcome::Refused { why }, now);
                continue;
            }
            // The node never got it: it is told again, in whatever boot it is.
            let mut effects = Effects::default();
            boot.clone_into(&mut entry.boot);
            workflow_state.save_run(&mut effects, run);
            self.take(effects);
            self.send_start(sequence, run);
        }
        self.abandon_logs_not_listed(node, listed);
    }

    /// What a node was not told of pauses, it is told now.
    fn correct_pauses(&mut self, node: NodeId, listed: &BTreeMap<RunId, bool>) {
        for workflow_state in self.workflow_states.values() {
            let should = workflow_state.paused.is_some() && workflow_state.stop.is_none();
            let runs =
                workflow_state.runs.values().filter(|run| run.node == node && run.ended.is_none());
            for run in runs.map(|run| run.id) {
                if listed.get(&run).is_some_and(|is| *is != should) {
                    self.effects.send(node, pause_run(run, should));
                }
            }
        }
    }

    /// What a server that was killed did not say any more: that these runs are to end.
    fn repeat_stops(&mut self, node: NodeId, listed: &BTreeMap<RunId, bool>) {
        for workflow_state in self.workflow_states.values() {
            let runs =
                workflow_state.runs.values().filter(|run| run.node == node && run.ended.is_none());
            for run in runs.filter(|run| listed.contains_key(&run.id)) {
                if let Some(why) = workflow_state.why_stop(run) {
                    self.effects.send(node, stop_run(run.id, &why));
                }
            }
        }
    }

    /// A run is over because its node is.
    pub(super) fn lose(&mut self, run: RunId, why: &str, rebooted: bool, now: Timestamp) {
        self.end_here(run, Outcome::Lost { why: why.to_owned(), rebooted }, now);
    }

    /// A run is over, and no node says so.
    pub(super) fn end_here(&mut self, run: RunId, outcome: Outcome, now: Timestamp) {
        let Some(node) = self
            .workflow_state_of(run)
            .and_then(|workflow_state| workflow_state.runs.get(&run))
            .map(|run| run.node)
        else {
            return;
        };
        let end =
            RunEnd { started: None, ended: now, outcome, log_bytes: 0, usage: Usage::default() };
        self.handle_report(node, &RunReport { run, state: RunState::Ended(Box::new(end)) }, now);
    }

    pub(super) fn workflow_state_of(&self, run: RunId) -> Option<&WorkflowState> {
        self.workflow_states.get(*self.runs.get(&run)?)
    }

    /// Puts a run's order on its way, if its node is there. If it is not, its list will ask for it.
    pub(super) fn send_start(&mut self, sequence: u64, run: RunId) {
        let Some(workflow_state) = self.workflow_states.get(sequence) else { return };
        let Some(spec) = workflow_state.spec(run, &self.surroundings) else { return };
        if let Some(entry) = workflow_state.runs.get(&run) {
            self.effects.send(entry.node, FromServer::StartRun { spec: Box::new(spec) });
            if let Some(why) = workflow_state.why_stop(entry) {
                self.effects.send(entry.node, stop_run(run, &why));
            } else if workflow_state.paused.is_some() {
                self.effects.send(entry.node, FromServer::PauseRun { run });
            }
        }
    }
}

/// A run that was never given to this node, or is forgotten here: it is ended and forgotten there.
fn stop_unknown_run(effects: &mut Effects, node: NodeId, report: &RunReport) {
    match &report.state {
        RunState::Ended(_) => effects.forget.push((node, None, report.run)),
        _ => {
            tracing::warn!("node {node} reports run {}, which it was never given", report.run);
            effects.send(node, stop_run(report.run, "this server knows of no such run"));
        }
    }
}

impl WorkflowState {
    /// `true` if the run is over now and was not before.
    fn handle_report(&mut self, effects: &mut Effects, report: &RunReport, now: Timestamp) -> bool {
        let Some(run) = self.runs.get_mut(&report.run) else { return false };
        if run.ended.is_some() {
            return false;
        }
        run.accepted = true;
        match &report.state {
            // Written with what comes next: a server that is killed before is told it again, by
            // the node's list.
            RunState::Preparing {} | RunState::Prepared {} => {
                let is_prepared = report.state == RunState::Prepared {};
                self.member_prepared(effects, report.run, is_prepared, now);
                false
            }
            // A newer agent reports more than this release knows; what comes next is enough.
            RunState::Unknown => false,
            RunState::Running { .. } | RunState::Ready { .. } => {
                if self.run_started(effects, report.run, now) {
                    self.save_run(effects, report.run);
                }
                false
            }
            RunState::Ended(end) => {
                self.run_ended(effects, report.run, end, now);
                true
            }
        }
    }

    /// `true` if it was not known to have started.
    fn run_started(&mut self, effects: &mut Effects, id: RunId, at: Timestamp) -> bool {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.started.is_none()) else {
            return false;
        };
        run.started = Some(at);
        let (stage, where_from) = (run.stage, run.node_name.clone());
        let event = match self.plan.stages[stage].work.kind() {
            StageKind::Job => EventKind::ContainerStarted,
            StageKind::File => EventKind::FileTransferStarted,
            StageKind::Volume | StageKind::Image => EventKind::VolumeCreateStarted,
        };
        self.member_started(effects, id, at);
        let message = format!("{} runs on {where_from}", self.subject(id));
        self.event(effects, at, event, Some(stage), message);
        true
    }

    fn run_ended(&mut self, effects: &mut Effects, id: RunId, end: &RunEnd, now: Timestamp) {
        // What is short is told of when it is over only. The clocks of nodes are their own; times
        // of one workflow are by one.
        if let (Some(started), Some(run)) = (end.started, self.runs.get(&id)) {
            let lasted = end.ended.0.saturating_sub(started.0).max(0);
            let at = now.0.saturating_sub(lasted).max(run.placed.0);
            self.run_started(effects, id, Timestamp(at));
        }
        let subject = self.subject(id);
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.ended = Some(now);
        run.outcome = Some(end.outcome.clone());
        run.usage = end.usage.clone();
        run.log_bytes = end.log_bytes;
        let (stage, task, has_started) = (run.stage, run.task, run.started.is_some());
        self.save_run(effects, id);
        self.member_ended(effects, id, &end.outcome, now);
        let (attempt, is_stopped) =
            (self.stages[stage].tasks.running.get(&task), self.stop.is_some());
        let attempt_end = attempt.and_then(|attempt| attempt.end(is_stopped));
        if attempt_end.is_some() {
            self.keep_attempt(effects, stage, task);
        }
        let plan = &self.plan.stages[stage];
        let (kind, retries) = (plan.work.kind(), plan.retries);
        let event = match (kind, end.outcome.is_success(), &plan.work) {
            (_, true, StageAction::Volume { .. }) => EventKind::VolumeCreated,
            (StageKind::File, true, _) => EventKind::FileTransferCompleted,
            (StageKind::Job, _, _) if has_started => EventKind::ContainerExited,
            _ => EventKind::Error,
        };
        let goes_on = self.stop.is_none() && self.stages[stage].reason.is_none();
        let book = &mut self.stages[stage].tasks;
        let before = book.retries.size();
        if let Some(end) = attempt_end {
            book.record_outcome(task, &end, retries, now);
        }
        if !goes_on {
            book.cancel_waiting();
        }
        let mut message = match kind {
            StageKind::Job => format!("{subject} {}", describe(&end.outcome)),
            _ if end.outcome.is_success() => format!("{subject} is done"),
            _ => format!("{subject}: {}", describe(&end.outcome)),
        };
        if book.retries.size() > before
            && let Some(retry) = book.retries.get(&task)
        {
            let pause = retry.retry_at.seconds() - now.seconds();
            message += &format!("; attempt {} in {pause} s", retry.attempt);
        }
        self.event(effects, now, event, Some(stage), message);
    }

    /// A run for people: `job sleeper[7]`, `job mpi member 1`.
    pub(super) fn subject(&self, run: RunId) -> String {
        let Some(run) = self.runs.get(&run) else { return run.to_string() };
        let plan = &self.plan.stages[run.stage];
        let name = self.task_name(run.stage, run.task);
        if plan.members > 1 { format!("{name} member {}", run.member) } else { name }
    }

    /// A task for people: `job sleeper[7]`.
    pub(super) fn task_name(&self, stage: StageId, task: TaskId) -> String {
        let plan = &self.plan.stages[stage];
        let task = plan.tasks.first.map(|_| format!("[{}]", plan.tasks.number(task)));
        format!("{} {}{}", plan.work.kind().as_str(), plan.name, task.unwrap_or_default())
    }
}
