//! The logs of runs that are over: awaited until they are whole, given up when they cannot be any
//! more. A run is held here until then, and on its node until this server forgets it.

use std::{collections::BTreeMap, time::Duration};

use api::{
    ids::{NodeId, Timestamp},
    run::RunId,
    workflow::EventKind,
};

use super::{Effects, Engine, LOG_PATIENCE, workflow_state::Run};

impl Engine {
    /// The server has a run's log up to `length`.
    pub(crate) fn log_grew(&mut self, run: RunId, length: u64) {
        let Some(&sequence) = self.runs.get(&run) else { return };
        if let Some(entry) = self
            .workflow_states
            .get_mut(sequence)
            .and_then(|workflow_state| workflow_state.runs.get_mut(&run))
        {
            entry.log_here = entry.log_here.max(length);
        }
        self.forget_if_done(sequence, run);
    }

    /// The server does not take something of a run, because of a quota of its user: a part of its
    /// log, a file. It stands in the history once.
    pub(crate) fn quota_met(&mut self, run: RunId, what: &str, now: Timestamp) {
        let sequence = self.runs.get(&run).copied();
        let Some(workflow_state) =
            sequence.and_then(|sequence| self.workflow_states.get_mut(sequence))
        else {
            return;
        };
        let subject = workflow_state.subject(run);
        let Some(entry) = workflow_state.runs.get_mut(&run) else { return };
        if std::mem::replace(&mut entry.is_quota_told, true) {
            return;
        }
        let stage = entry.stage;
        let mut effects = Effects::default();
        let message = format!("{subject}: {what}");
        workflow_state.event(&mut effects, now, EventKind::Error, Some(stage), message);
        self.take(effects);
    }

    /// Logs that do not come in time are not waited for. The time is counted from the first look
    /// after the end of the run, so for one that an earlier server left, from the start of this
    /// one: nothing could arrive before.
    pub(super) fn abandon_late_logs(&mut self, uptime: Duration) {
        for (sequence, run) in
            self.runs_where(|run| run.ended.is_some() && run.log_awaited.is_none())
        {
            if let Some(run) = self
                .workflow_states
                .get_mut(sequence)
                .and_then(|workflow_state| workflow_state.runs.get_mut(&run))
            {
                run.log_awaited = Some(uptime);
            }
        }
        self.abandon_logs(
            &format!("they did not come within {} s", LOG_PATIENCE.as_secs()),
            |run| run.log_awaited.is_some_and(|since| uptime.saturating_sub(since) >= LOG_PATIENCE),
        );
    }

    /// A node keeps each run until this server has its log: what it does not list it does not have.
    pub(super) fn abandon_logs_not_listed(&mut self, node: NodeId, listed: &BTreeMap<RunId, bool>) {
        self.abandon_logs("their node has them no more", |run| {
            run.node == node && !listed.contains_key(&run.id)
        });
    }

    /// Logs are in a node's memory, and gone with the boot that they were written in.
    pub(super) fn abandon_logs_of_other_boots(&mut self, node: NodeId, boot: &str) {
        self.abandon_logs("their node was rebooted", |run| run.node == node && run.boot != boot);
    }

    /// Nothing more comes from a node that was deleted.
    pub(super) fn abandon_logs_of(&mut self, node: NodeId) {
        self.abandon_logs("their node was deleted", |run| run.node == node);
    }

    /// Runs of which something holds, with the sequences of their workflows.
    fn runs_where(&self, holds: impl Fn(&Run) -> bool) -> Vec<(u64, RunId)> {
        let of_workflows = self.workflow_states.iter().flat_map(|(sequence, workflow_state)| {
            workflow_state.runs.values().map(move |run| (sequence, run))
        });
        of_workflows
            .filter(|(_, run)| holds(run))
            .map(|(sequence, run)| (sequence, run.id))
            .collect()
    }

    /// Waits no more for the rest of these logs of runs that are over: the runs are forgotten.
    fn abandon_logs(&mut self, why: &str, which: impl Fn(&Run) -> bool) {
        for (sequence, id) in self.runs_where(|run| run.ended.is_some() && which(run)) {
            if let Some(run) = self.run_of(sequence, id) {
                let (here, bytes) = (run.log_here, run.log_bytes);
                let node = &run.node_name;
                tracing::warn!(
                    "the log of run {id} on {node} is not whole: {here} of {bytes} bytes came; of the \
                     others {why}"
                );
            }
            self.forget_run(sequence, id);
        }
    }

    /// A run that is over and whose log is here is forgotten, here and on its node.
    pub(super) fn forget_if_done(&mut self, sequence: u64, run: RunId) {
        let is_done = |run: &Run| run.ended.is_some() && run.log_here >= run.log_bytes;
        if self.run_of(sequence, run).is_some_and(is_done) {
            self.forget_run(sequence, run);
        }
    }

    fn run_of(&self, sequence: u64, run: RunId) -> Option<&Run> {
        self.workflow_states.get(sequence)?.runs.get(&run)
    }

    /// Forgets a run that is over, and tells its node to do the same.
    fn forget_run(&mut self, sequence: u64, run: RunId) {
        let Some(node) = self.run_of(sequence, run).map(|run| run.node) else { return };
        if let Some(workflow_state) = self.workflow_states.get_mut(sequence) {
            workflow_state.runs.remove_mut(&run);
            self.effects.forget.push((node, Some(workflow_state.id), run));
            self.runs.remove(&run);
        }
        self.drop_if_done(sequence);
    }
}
