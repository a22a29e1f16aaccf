//! All workflows that are not over, and what to do next. Pure: events and `now` in,
//! [`Effects`] out.
//!
//! The [`crate::conductor`] owns the one [`Engine`], calls its verbs, commits [`Effects::writes`]
//! in one transaction, and only then does the rest. So nothing is sent to a node that a `kill -9`
//! could make the server forget.
//!
//! A workflow is a graph of stages ([`document::plan`]); a stage is a number of tasks (one, but for
//! arrays); a task is tried in one or more *attempts*; an attempt has a *run* on a node for each of
//! its members (one, but for stages whose plan says more).
//!
//! ```text
//! stage:   pending ─ what it waits for has happened, first run placed ─▶ started ─▶ finished | failed
//!             └──────── it cannot happen any more, or the workflow stops ─▶ canceled
//! attempt: placed ─▶ released (of several members: when all are prepared) ─▶ over, with its last run
//! run:     placed ─▶ accepted (the node has it) ─▶ prepared, running ─▶ ended ─▶ forgotten (its log is here)
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`effects`] | what is to be done |
//! | [`workflow_state`] | a workflow in memory |
//! | [`workflow_states`] | all of them, and the stages of one, shared with views |
//! | [`task`] | the tasks of a stage, and when one is tried again |
//! | [`advance`] | stages begin, end, and take others with them |
//! | [`attempt`], [`members`] | runs that start and end together |
//! | [`runs`] | what nodes say of runs |
//! | [`in_use`] | what workflows need of the store of job images |
//! | [`news`] | what nodes say of runs before they are over, and what failed and is tried again |
//! | [`logs`] | logs of runs that are over, until they are whole or given up |
//! | [`nodes`] | nodes come, go, reboot |
//! | [`pause`] | workflows stand still and go on |
//! | [`recall`] | runs that the last run of the server left |
//! | [`schedule`] | ready tasks are put on nodes |
//! | [`spared`] | what cannot be read is left alone on nodes |
//! | [`spec`] | what a node is told of a run |
//! | [`view`] | all that people see, at one moment |

mod advance;
mod attempt;
mod effects;
mod in_use;
mod logs;
mod members;
mod news;
mod nodes;
mod pause;
mod recall;
mod runs;
mod schedule;
mod spared;
mod spec;
mod task;
mod turns;
mod view;
mod workflow_state;
mod workflow_states;

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use api::{
    ids::{NodeId, Timestamp},
    run::{RunId, WorkflowId},
    workflow::{EventKind, State},
};
use document::plan::StageId;
use image_catalog::FetchedImage;
use rpds::RedBlackTreeMapSync;

pub(crate) use effects::Effects;
pub(crate) use nodes::NodeFacts;
pub(crate) use schedule::{not_near, too_large};
pub(crate) use view::{RunningJob, View};
pub(crate) use workflow_state::{KnownPlan, Submission, WorkflowState};
pub(crate) use workflow_states::WorkflowStates;

use crate::record::{ToldFetchError, Write};

/// A node that does not answer for so long is given up, with its runs, seconds. Long enough for a
/// switch to be replaced.
pub(crate) const LOST_AFTER_SECONDS: i64 = 900;

/// Time that the rest of a log has to come after its run ended. Then the run is
/// forgotten without it.
pub(crate) const LOG_PATIENCE: Duration = Duration::from_secs(600);

/// What the server knows of itself that runs must know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// Addresses and ports that jobs must not reach.
    pub(crate) forbidden: Vec<SocketAddr>,
    /// Those that transfers must not reach.
    pub(crate) transfers_forbidden: Vec<SocketAddr>,
    /// How much is kept of the log of a job, bytes.
    pub(crate) log_limit_bytes: Option<u64>,
}

/// See the module.
pub(crate) struct Engine {
    workflow_states: WorkflowStates,
    /// Runs that are not forgotten, with the place of their workflow.
    runs: HashMap<RunId, u64>,
    /// What nodes have that the store has and cannot read.
    spared: spared::SparedState,
    nodes: nodes::Nodes,
    cluster: planner::Cluster,
    /// Where attempts of several members may go.
    for_members: planner::Allowed,
    /// Other nodes may be among them now.
    for_members_is_stale: bool,
    /// Nodes whose agents know no attempts of several members.
    of_before: BTreeSet<NodeId>,
    surroundings: Surroundings,
    /// Makes identities that were never used.
    new_run: Box<dyn FnMut() -> RunId + Send>,
    /// Place and stage of the oldest job that waits, if it could have begun and others
    /// did: it is next.
    passed_over: Option<(u64, StageId)>,
    /// A run ended, a node came or changed, a stage went on, or a task became due: placing again
    /// may bring something.
    stale: bool,
    effects: Effects,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("flows", &self.workflow_states.len())
            .field("runs", &self.runs.len())
            .finish()
    }
}

impl Engine {
    /// An engine without workflows. `new_run` makes identities that were never used.
    pub(crate) fn new(
        surroundings: Surroundings,
        new_run: Box<dyn FnMut() -> RunId + Send>,
    ) -> Self {
        Self {
            workflow_states: WorkflowStates::default(),
            runs: HashMap::new(),
            spared: spared::SparedState::default(),
            nodes: RedBlackTreeMapSync::new_sync(),
            cluster: planner::Cluster::default(),
            for_members: planner::Allowed::Any,
            for_members_is_stale: false,
            of_before: BTreeSet::new(),
            surroundings,
            new_run,
            passed_over: None,
            stale: false,
            effects: Effects::default(),
        }
    }

    /// Takes a workflow.
    pub(crate) fn submit(&mut self, submission: Submission, now: Timestamp) {
        let (mut workflow_state, write) = WorkflowState::new(submission, now);
        self.effects.writes.push(write);
        let message = format!("{} was handed in", workflow_state.name);
        workflow_state.event(&mut self.effects, now, EventKind::WorkflowStarted, None, message);
        self.adopt(workflow_state);
    }

    /// Takes a workflow that the last run of the server left. Call [`Self::proceed`]
    /// when all are in.
    pub(crate) fn adopt(&mut self, workflow_state: WorkflowState) {
        for run in workflow_state.runs.values() {
            self.runs.insert(run.id, workflow_state.sequence);
            if run.ended.is_none()
                && let Some(grant) = &run.grant
            {
                let ends = schedule::ends(&workflow_state, run);
                self.cluster.occupy(schedule::placement(run.id, run.node, grant, ends));
            }
        }
        self.workflow_states.insert(workflow_state);
        self.stale = true;
    }

    /// Ends a workflow because somebody wants it. `false` if it is over or not known here.
    pub(crate) fn stop(&mut self, id: WorkflowId, why: &str, now: Timestamp) -> bool {
        let Some(workflow_state) = self.workflow_state_mut(id).filter(|workflow_state| {
            workflow_state.ended.is_none() && workflow_state.stop.is_none()
        }) else {
            return false;
        };
        workflow_state.stop = Some(why.to_owned());
        workflow_state.paused = None;
        let (sequence, mut effects) = (workflow_state.sequence, Effects::default());
        workflow_state.stop_all(&mut effects, why, now);
        workflow_state.save(&mut effects);
        self.take(effects);
        self.spare_no_more(id, why);
        self.stale = true;
        self.advance_workflow(sequence, now);
        true
    }

    /// Forgets workflows that are over, if none of them is here any more. `false`: one is, and
    /// nothing is forgotten.
    pub(crate) fn forget(&mut self, ids: &[WorkflowId]) -> bool {
        if ids.iter().any(|id| self.workflow_states.of(*id).is_some()) {
            return false;
        }
        self.effects.writes.extend(ids.iter().map(|id| Write::Forget(*id)));
        self.effects.changed.extend(ids);
        true
    }

    /// An image is here, or cannot be had.
    pub(crate) fn image_fetched(
        &mut self,
        id: WorkflowId,
        stage: StageId,
        fetched: Result<FetchedImage, ToldFetchError>,
        now: Timestamp,
    ) {
        let Some(sequence) = self.workflow_states.sequence_of(id) else { return };
        let Some(workflow_state) = self.workflow_states.get_mut(sequence) else { return };
        let mut effects = Effects::default();
        workflow_state.image_fetched(&mut effects, stage, fetched, now);
        self.take(effects);
        self.stale = true;
        self.advance_workflow(sequence, now);
    }

    /// The registry of an image is waited for, and why; or the pull goes on. It is shown and not
    /// kept: a server that starts again pulls again.
    pub(crate) fn image_waits(&mut self, id: WorkflowId, stage: StageId, why: Option<String>) {
        let Some(workflow_state) = self.workflow_state_mut(id) else { return };
        let Some(now) = workflow_state.stages.get_mut(stage) else { return };
        if now.state == State::Started && now.reason != why {
            now.reason = why;
            self.effects.changed.insert(id);
        }
    }

    /// For which user an image is still to be fetched for a stage; `None` if it is not.
    pub(crate) fn wants_image(&self, id: WorkflowId, stage: StageId) -> Option<Arc<str>> {
        let workflow_state = self.workflow_states.of(id)?;
        let is_wanted = workflow_state.stages.get(stage)?.state == State::Started;
        is_wanted.then(|| Arc::from(workflow_state.owner.name.as_str()))
    }

    /// Time has passed: pauses end, nodes are given up, logs are waited for no more. `uptime`: by a
    /// clock that nobody sets.
    pub(crate) fn tick(&mut self, now: Timestamp, uptime: Duration) {
        self.abandon_nodes(now);
        self.abandon_late_logs(uptime);
        let due =
            self.workflow_states.values().any(|workflow_state| workflow_state.has_task_due(now));
        self.stale |= due;
        for sequence in self
            .workflow_states
            .sequences_where(|workflow_state| workflow_state.has_pause_over(now))
        {
            let Some(workflow_state) = self.workflow_states.get_mut(sequence) else { continue };
            if workflow_state.end_pauses_of_tries(now) {
                self.effects.changed.insert(workflow_state.id);
            }
        }
    }

    /// Lets everything that can begin begin. Returns what is to be done since the last call.
    pub(crate) fn proceed(&mut self, now: Timestamp) -> Effects {
        if self.stale {
            for sequence in self.workflow_states.sequences() {
                self.advance_workflow(sequence, now);
            }
            self.stale = self.schedule_all(now);
        }
        std::mem::take(&mut self.effects)
    }

    fn workflow_state_mut(&mut self, id: WorkflowId) -> Option<&mut WorkflowState> {
        self.workflow_states.get_mut(self.workflow_states.sequence_of(id)?)
    }

    fn take(&mut self, more: Effects) {
        self.effects.append(more);
    }
}

#[cfg(test)]
mod tests;
