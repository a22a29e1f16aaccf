//! The members of an attempt start together, when all are prepared, and end together, when one ends
//! badly.
//!
//! What is here to be lost is not: the release is on disk before a node hears of it, nodes that
//! list a prepared run are told again, and so are those that hold a run whose attempt is ending.

use std::sync::Arc;

use api::{
    channel::FromServer,
    ids::{NodeId, Timestamp},
    run::{Outcome, RunId},
    workflow::EventKind,
};
use document::plan::{StageId, TaskId};
use planner::Allowed;

use super::{
    Effects, Engine, View, WorkflowState, attempt::Attempt, effects::stop_run, nodes::Node,
    workflow_state::Run,
};

impl Engine {
    /// A node came, went or changed.
    pub(super) fn see_agent(&mut self, id: NodeId) {
        let is_old = |node: &Node| node.facts.is_of_before() && node.facts.is_ready;
        let is_changed = match self.nodes.get(&id).is_some_and(is_old) {
            true => self.of_before.insert(id),
            false => self.of_before.remove(&id),
        };
        // While there are none of before, all nodes will do.
        self.for_members_is_stale |= is_changed || !self.of_before.is_empty();
    }

    /// Finds out on which nodes attempts of several members may go: on all, unless agents of before
    /// are among them.
    pub(super) fn refresh_for_members(&mut self) {
        if !std::mem::take(&mut self.for_members_is_stale) {
            return;
        }
        self.for_members = match self.of_before.is_empty() {
            true => Allowed::Any,
            false => {
                let knows = |node: &&Node| !node.facts.is_of_before();
                let knowing = self.nodes.values().filter(knows).map(|node| node.facts.id);
                Allowed::Of(Arc::new(self.cluster.node_set(knowing)))
            }
        };
    }

    /// An agent that knows no attempts of several members must never get one: it would start it at
    /// once. Those that the node did not get yet are refused in its name.
    pub(super) fn refuse_members(&mut self, node: NodeId, now: Timestamp) {
        let runs = self.workflow_states.values().flat_map(|workflow_state| {
            let is_member =
                move |run: &&Run| workflow_state.attempt_of(run).is_some_and(Attempt::has_barrier);
            workflow_state.runs.values().filter(is_member)
        });
        let waiting = runs.filter(|run| run.node == node && run.ended.is_none() && !run.accepted);
        let waiting: Vec<RunId> = waiting.map(|run| run.id).collect();
        for run in waiting {
            let why = "its node's agent is older than the server and knows no attempts of several members: \
                       upgrade it with `bedplate node upgrade`";
            self.end_here(run, Outcome::Refused { why: why.to_owned() }, now);
        }
    }
}

impl View {
    /// Why there may be too few nodes for an attempt of several members.
    pub(super) fn why_not_for_members(&self) -> Option<String> {
        let (old, all) = (self.of_before, self.nodes.size());
        let why = || {
            format!(
                "the agents of {old} of {all} nodes know no attempts of several members: upgrade them"
            )
        };
        (old > 0).then(why)
    }
}

impl WorkflowState {
    /// The attempt that a run is a member of, while it is not over.
    pub(super) fn attempt_of(&self, run: &Run) -> Option<&Attempt> {
        let attempt = self.stages[run.stage].tasks.running.get(&run.task)?;
        (attempt.retry.attempt == run.attempt).then_some(attempt)
    }

    fn attempt_of_mut(&mut self, id: RunId) -> Option<(&mut Attempt, StageId, TaskId, u32)> {
        let run = self.runs.get(&id)?;
        let attempt = self.stages[run.stage].tasks.running.get_mut(&run.task)?;
        let is_its = attempt.retry.attempt == run.attempt;
        is_its.then_some((attempt, run.stage, run.task, run.member))
    }

    /// A run waits for its release, or is being prepared again.
    pub(super) fn member_prepared(
        &mut self,
        effects: &mut Effects,
        id: RunId,
        is_prepared: bool,
        now: Timestamp,
    ) {
        let Some((attempt, stage, task, member)) = self.attempt_of_mut(id) else { return };
        attempt.note_prepared(member, is_prepared);
        if attempt.is_held() {
            self.release_if_prepared(effects, stage, task, now);
        } else if is_prepared {
            self.repeat_release(effects, id);
        }
    }

    /// Tells a prepared run that its attempt is released: by a server that was killed before the
    /// node heard of it, or before somebody paused the workflow.
    fn repeat_release(&self, effects: &mut Effects, id: RunId) {
        let Some(run) = self.runs.get(&id) else { return };
        let Some(attempt) = self.attempt_of(run) else { return };
        let goes_on = self.stop.is_none() && self.paused.is_none() && attempt.why_stop().is_none();
        if goes_on && attempt.released.is_some() {
            effects.send(run.node, FromServer::ReleaseRun { run: id });
        }
    }

    /// Releases the attempts whose members are prepared, and tells those again that were
    /// released before.
    pub(super) fn release_all(&mut self, effects: &mut Effects, now: Timestamp) {
        let waits = |run: &&Run| {
            let is_released = |of: &Attempt| of.released.is_some() && of.is_prepared(run.member);
            self.attempt_of(run).is_some_and(is_released)
        };
        for run in self.runs.values().filter(waits) {
            self.repeat_release(effects, run.id);
        }
        let held = self.numbered().flat_map(|(stage, of)| {
            let held = of.tasks.running.iter().filter(|(_, attempt)| attempt.is_held());
            held.map(move |(task, _)| (stage, *task))
        });
        for (stage, task) in held.collect::<Vec<_>>() {
            self.release_if_prepared(effects, stage, task, now);
        }
    }

    fn release_if_prepared(
        &mut self,
        effects: &mut Effects,
        stage: StageId,
        task: TaskId,
        now: Timestamp,
    ) {
        if self.is_held_back() {
            return;
        }
        let attempt = self.stages[stage].tasks.running.get(&task);
        if !attempt.is_some_and(Attempt::may_be_released) {
            return;
        }
        let Some(attempt) = self.stages[stage].tasks.running.get_mut(&task) else { return };
        attempt.released = Some(now);
        let runs = attempt.runs.clone();
        self.keep_attempt(effects, stage, task);
        // That their nodes have them is on disk with the release: none that was begun
        // is begun again.
        for &run in &runs {
            self.save_run(effects, run);
        }
        for run in runs.iter().filter_map(|run| self.runs.get(run)) {
            effects.send(run.node, FromServer::ReleaseRun { run: run.id });
        }
        let message =
            format!("{}: all {} members are prepared", self.task_name(stage, task), runs.len());
        self.event(effects, now, EventKind::AttemptReleased, Some(stage), message);
    }

    /// The process of a member began.
    pub(super) fn member_started(&mut self, effects: &mut Effects, id: RunId, at: Timestamp) {
        let Some((attempt, stage, task, member)) = self.attempt_of_mut(id) else { return };
        let was_failing = attempt.why_stop().is_some();
        attempt.note_started(member, at);
        let (has_run, is_failing) = (attempt.has_run(), attempt.why_stop().is_some());
        if has_run && !self.stages[stage].has_run {
            self.stages[stage].has_run = true;
        }
        if is_failing && !was_failing {
            self.keep_attempt(effects, stage, task);
            self.stop_members(effects, stage, task);
        }
    }

    /// A member is over. The others are stopped if it is the first that ended badly.
    pub(super) fn member_ended(
        &mut self,
        effects: &mut Effects,
        id: RunId,
        outcome: &Outcome,
        now: Timestamp,
    ) {
        let Some((attempt, stage, task, member)) = self.attempt_of_mut(id) else { return };
        let was_failing = attempt.why_stop().is_some();
        attempt.note_ended(member, outcome, now);
        if attempt.why_stop().is_some() && !was_failing {
            // Which of several ended first cannot be told from their rows.
            self.keep_attempt(effects, stage, task);
            self.stop_members(effects, stage, task);
        }
    }

    /// Ends what is left of an attempt of which a member ended badly.
    fn stop_members(&self, effects: &mut Effects, stage: StageId, task: TaskId) {
        let Some(attempt) = self.stages[stage].tasks.running.get(&task) else { return };
        let Some(why) = attempt.why_stop().filter(|_| self.stop.is_none()) else { return };
        let runs = attempt.runs.iter().filter_map(|run| self.runs.get(run));
        for run in runs.filter(|run| run.ended.is_none()) {
            effects.send(run.node, stop_run(run.id, &why));
        }
    }

    /// Which members an attempt of a stage waits for before it starts.
    pub(super) fn waits_for_members(&self, stage: StageId) -> Option<String> {
        let mut attempts = self.stages[stage].tasks.running.iter();
        let (task, attempt) = attempts.find(|(_, attempt)| attempt.is_held())?;
        let (task, of) = (self.task_name(stage, *task), attempt.members);
        Some(format!("{task}: {} of {of} members are prepared", attempt.prepared()))
    }

    /// Why a run is to end, if it is.
    pub(super) fn why_stop(&self, run: &Run) -> Option<String> {
        self.stop.clone().or_else(|| self.attempt_of(run)?.why_stop())
    }
}
