//! What nodes say of runs. A node is believed about its own runs only.

use std::collections::BTreeMap;

use api::{
    channel::FromServer,
    ids::{NodeId, Timestamp},
    run::{Outcome, RunEnd, RunId, RunReport, RunState, Usage},
    workflow::StageKind,
};
use document::plan::Planned;

use super::{Engine, Flow, Output, advance::stop_run, news::one_line};

/// An outcome for people.
pub(super) fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("exited with status {code}"),
        Outcome::Signaled { signal } => format!("ended by signal {signal}"),
        Outcome::OutOfMemory { limit_bytes } => {
            format!("killed for memory: it reached its limit of {limit_bytes} bytes")
        }
        Outcome::TimedOut { seconds, cause } => {
            let cause = cause.as_ref().map(|cause| format!(": {}", one_line(cause))).unwrap_or_default();
            format!("ended by its timeout of {seconds} s{cause}")
        }
        Outcome::Stopped { why } => format!("stopped: {why}"),
        Outcome::Failed { why, .. } => why.clone(),
        Outcome::Lost { why, .. } => format!("lost: {why}"),
        Outcome::Refused { why } => format!("not begun: {why}"),
        Outcome::Unknown => "ended in a way that this release doesn't know: its agent is newer".to_owned(),
    }
}

impl Engine {
    /// A run went forward.
    pub(crate) fn run_told(&mut self, node: NodeId, report: &RunReport, now: Timestamp) {
        let mut output = Output::default();
        let place = self.runs.get(&report.run).copied();
        let flow = place.and_then(|place| self.flows.get_mut(&place));
        let ours = flow.filter(|flow| flow.runs.get(&report.run).is_some_and(|run| run.row.node == node));
        let Some(flow) = ours else {
            if !self.spared.has_run(report.run, node) {
                disown(&mut output, node, report);
            }
            self.take(output);
            return;
        };
        let ended = flow.run_told(&mut output, report, now);
        self.take(output);
        if ended {
            self.cluster.release(report.run);
            self.stale = true;
        }
        if let Some(place) = place {
            self.settle_flow(place, now);
            self.forget_if_done(place, report.run);
        }
    }

    /// All runs that a node holds were told, and which of them are paused there. Those of ours that are not among them are
    /// told it again, or are lost.
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
            .flows
            .iter()
            .flat_map(|(place, flow)| flow.runs.values().map(move |run| (*place, run)))
            .filter(|(_, run)| {
                run.row.node == node && run.row.ended.is_none() && !listed.contains_key(&run.row.run)
            })
            .map(|(place, run)| (place, run.row.run))
            .collect();
        for (place, run) in missing {
            let Some(flow) = self.flows.get_mut(&place) else { continue };
            let Some(entry) = flow.runs.get_mut(&run) else { continue };
            let is_over = flow.stages[entry.row.stage as usize].state.is_ended();
            if entry.row.accepted || is_over {
                let rebooted = entry.row.boot != boot;
                let why = if rebooted {
                    format!("{} was rebooted", entry.row.node_name)
                } else {
                    "its node does not know it any more".to_owned()
                };
                self.lose(run, &why, rebooted, now);
                continue;
            }
            if let Some(why) = &flow.blocked {
                // What it was to do is not known, so it cannot be told again; and what it was
                // granted is free, for nothing runs. When the plan can be read, it is tried again.
                let why = format!("its node never got it, and the workflow is blocked: {why}");
                self.end_here(run, Outcome::Refused { why }, now);
                continue;
            }
            // The node never got it: it is told again, in whatever boot it is.
            let mut output = Output::default();
            boot.clone_into(&mut entry.row.boot);
            flow.keep_run(&mut output, run);
            self.take(output);
            self.tell_start(place, run);
        }
        self.give_up_logs_not_listed(node, listed);
    }

    /// What a node was not told of pauses, it is told now.
    fn correct_pauses(&mut self, node: NodeId, listed: &BTreeMap<RunId, bool>) {
        for flow in self.flows.values() {
            let should = flow.row.paused.is_some() && flow.row.stop.is_none();
            let runs = flow.runs.values().filter(|run| run.row.node == node && run.row.ended.is_none());
            for run in runs.map(|run| run.row.run) {
                if listed.get(&run).is_some_and(|is| *is != should) {
                    self.output.say(node, super::pause::pause_run(run, should));
                }
            }
        }
    }

    /// What a server that was killed did not say any more: that these runs are to end.
    fn repeat_stops(&mut self, node: NodeId, listed: &BTreeMap<RunId, bool>) {
        for flow in self.flows.values() {
            let Some(why) = &flow.row.stop else { continue };
            let runs = flow.runs.values().filter(|run| run.row.node == node && run.row.ended.is_none());
            for run in runs.map(|run| run.row.run).filter(|run| listed.contains_key(run)) {
                self.output.say(node, stop_run(run, why));
            }
        }
    }

    /// A run is over because its node is.
    pub(super) fn lose(&mut self, run: RunId, why: &str, rebooted: bool, now: Timestamp) {
        self.end_here(run, Outcome::Lost { why: why.to_owned(), rebooted }, now);
    }

    /// A run is over, and no node says so.
    fn end_here(&mut self, run: RunId, outcome: Outcome, now: Timestamp) {
        let Some(node) = self.flow_of(run).and_then(|flow| flow.runs.get(&run)).map(|run| run.row.node)
        else {
            return;
        };
        let end = RunEnd { started: None, ended: now, outcome, log_bytes: 0, usage: Usage::default() };
        self.run_told(node, &RunReport { run, state: RunState::Ended(Box::new(end)) }, now);
    }

    pub(super) fn flow_of(&self, run: RunId) -> Option<&Flow> {
        self.flows.get(self.runs.get(&run)?)
    }

    /// Puts a run's order on its way, if its node is there. If it is not, its list will ask for it.
    pub(super) fn tell_start(&mut self, place: u64, run: RunId) {
        let Some(flow) = self.flows.get(&place) else { return };
        let Some(spec) = flow.spec(run, &self.surroundings) else { return };
        if let Some(entry) = flow.runs.get(&run) {
            self.output.say(entry.row.node, FromServer::StartRun { spec: Box::new(spec) });
            if let Some(why) = &flow.row.stop {
                self.output.say(entry.row.node, stop_run(run, why));
            } else if flow.row.paused.is_some() {
                self.output.say(entry.row.node, FromServer::PauseRun { run });
            }
        }
    }
}

/// A run that was never given to this node, or is forgotten here: it is ended and forgotten there.
fn disown(output: &mut Output, node: NodeId, report: &RunReport) {
    match &report.state {
        RunState::Ended(_) => output.forget.push((node, None, report.run)),
        RunState::Preparing {} | RunState::Running { .. } | RunState::Unknown => {
            tracing::warn!("node {node} reports run {}, which it was never given", report.run);
            output.say(node, stop_run(report.run, "this server knows of no such run"));
        }
    }
}

impl Flow {
    /// `true` if the run is over now and was not before.
    fn run_told(&mut self, output: &mut Output, report: &RunReport, now: Timestamp) -> bool {
        let Some(run) = self.runs.get_mut(&report.run) else { return false };
        if run.row.ended.is_some() {
            return false;
        }
        run.row.accepted = true;
        match &report.state {
            // Written with what comes next: a server that is killed before is told it again, by the node's list.
            RunState::Preparing {} => false,
            // A newer agent reports more than this release knows; what comes next is enough.
            RunState::Unknown => false,
            RunState::Running { .. } => {
                if self.run_started(output, report.run, now) {
                    self.keep_run(output, report.run);
                }
                false
            }
            RunState::Ended(end) => {
                self.run_ended(output, report.run, end, now);
                true
            }
        }
    }

    /// `true` if it was not known to have started.
    fn run_started(&mut self, output: &mut Output, id: RunId, at: Timestamp) -> bool {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.row.started.is_none()) else { return false };
        run.row.started = Some(at);
        let (stage, where_from) = (run.row.stage, run.row.node_name.clone());
        let event = match self.plan.stages[stage as usize].work.kind() {
            StageKind::Job => "CONTAINER_STARTED",
            StageKind::File => "FILE_TRANSFER_STARTED",
            StageKind::Volume | StageKind::Image => "VOLUME_CREATE_STARTED",
        };
        let message = format!("{} runs on {where_from}", self.subject(id));
        self.event(output, at, event, Some(stage), message);
        true
    }

    fn run_ended(&mut self, output: &mut Output, id: RunId, end: &RunEnd, now: Timestamp) {
        // What is short is told of when it is over only. The clocks of nodes are their own; times of one workflow are by one.
        if let (Some(started), Some(run)) = (end.started, self.runs.get(&id)) {
            let lasted = end.ended.0.saturating_sub(started.0).max(0);
            let at = now.0.saturating_sub(lasted).max(run.row.placed.0);
            self.run_started(output, id, Timestamp(at));
        }
        let subject = self.subject(id);
        let Some(run) = self.runs.get_mut(&id) else { return };
        let row = &mut run.row;
        row.ended = Some(now);
        row.outcome = Some(end.outcome.clone());
        row.usage = end.usage.clone();
        row.log_bytes = end.log_bytes;
        let (stage, task, has_started) = (row.stage, row.task, row.started.is_some());
        self.keep_run(output, id);
        let plan = &self.plan.stages[stage as usize];
        let (kind, retries, task) = (plan.work.kind(), plan.retries, task - plan.tasks.first.unwrap_or(0));
        let event = match (kind, end.outcome.is_success(), &plan.work) {
            (_, true, Planned::Volume { .. }) => "VOLUME_CREATED",
            (StageKind::File, true, _) => "FILE_TRANSFER_COMPLETED",
            (StageKind::Job, _, _) if has_started => "CONTAINER_EXITED",
            _ => "ERROR",
        };
        let goes_on = self.row.stop.is_none() && self.stages[stage as usize].reason.is_none();
        let book = &mut self.stages[stage as usize].tasks;
        let before = book.again.len();
        book.settle(task, &end.outcome, retries, now, has_started);
        if !goes_on {
            book.cancel_waiting();
        }
        let mut message = match kind {
            StageKind::Job => format!("{subject} {}", told(&end.outcome)),
            _ if end.outcome.is_success() => format!("{subject} is done"),
            _ => format!("{subject}: {}", told(&end.outcome)),
        };
        if book.again.len() > before
            && let Some(again) = book.again.get(&task)
        {
            let pause = again.not_before.seconds() - now.seconds();
            message += &format!("; attempt {} in {pause} s", again.attempt);
        }
        self.event(output, now, event, Some(stage), message);
    }

    /// A run for people: `job sleeper[7]`.
    pub(super) fn subject(&self, run: RunId) -> String {
        let Some(run) = self.runs.get(&run) else { return run.to_string() };
        let plan = &self.plan.stages[run.row.stage as usize];
        let task = plan.tasks.first.map(|_| format!("[{}]", run.row.task)).unwrap_or_default();
        format!("{} {}{task}", plan.work.kind().as_str(), plan.name)
    }
}
