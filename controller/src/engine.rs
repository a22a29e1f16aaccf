//! All workflows that are not over, and what to do next. Pure: events and `now` in, [`Output`] out.
//!
//! The [`crate::conductor`] owns the one [`Engine`], calls its verbs, commits [`Output::writes`] in one transaction, and
//! only then does the rest of the output. So nothing is told to a node that a `kill -9` could make the server forget.
//!
//! A workflow is a graph of stages ([`document::plan`]); a stage is a number of tasks (one, but for
//! arrays); a task is tried in one or more *runs* on nodes.
//!
//! ```text
//! stage:  pending ─ all stages before it finished, first run placed ─▶ started ─▶ finished | failed
//!            └──────── a stage before it failed, or the workflow stops ─▶ canceled
//! run:    placed ─▶ accepted (the node has it) ─▶ running ─▶ ended ─▶ forgotten (its log is here)
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`flow`] | a workflow in memory, and its rows |
//! | [`advance`] | stages begin, end, and take others with them |
//! | [`runs`] | what nodes say of runs |
//! | [`in_use`] | what workflows need of the store of job images |
//! | [`news`] | what nodes say of runs before they are over, and what failed and is tried again |
//! | [`logs`] | logs of runs that are over, until they are whole or given up |
//! | [`nodes`] | nodes come, go, boot anew |
//! | [`pause`] | workflows stand still and go on |
//! | [`schedule`] | ready tasks are put on nodes |
//! | [`spared`] | what cannot be read is left alone on nodes |
//! | [`spec`] | what a node is told of a run |
//! | [`view`] | what people see |

mod advance;
mod flow;
mod in_use;
mod logs;
mod news;
mod nodes;
mod pause;
mod runs;
mod schedule;
mod spared;
mod spec;
mod turns;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use api::{
    channel::FromServer,
    ids::{NodeId, Timestamp},
    run::{RunId, WorkflowId},
    workflow::{State, WorkflowEvent},
};
use document::plan::Plan;

pub(crate) use flow::{Flow, Home, Known, Submission};
pub(crate) use nodes::NodeFacts;
pub(crate) use schedule::{not_near, too_large};
pub(crate) use view::{RunningJob, attempt, summary};

use crate::{
    images::{Fetched, ToldFetchError},
    store::Write,
};

/// A node that does not answer for so long is given up, with its runs, seconds. Long enough for a switch to be replaced.
pub(crate) const LOST_AFTER_SECONDS: i64 = 900;

/// Time that the rest of a log has to come after its run ended. Then the run is forgotten without it.
pub(crate) const LOG_PATIENCE: Duration = Duration::from_secs(600);

/// Attempts of a run that never began for reasons of its node (a full disk, a reboot before it started). They do not
/// count as attempts of the user's.
pub(crate) const MAX_FALSE_STARTS: u32 = 5;

/// Times that a task begins again because its node was booted anew. They do not count as attempts of the user's; but one that
/// takes its node down must end some day.
pub(crate) const MAX_REQUEUES: u32 = 5;

/// First pause before a failed task is tried again, seconds. It doubles with each failure.
const FIRST_PAUSE_SECONDS: i64 = 1;

/// Longest such pause, seconds.
const LONGEST_PAUSE_SECONDS: i64 = 300;

/// What is to be done after a verb, in this order: [`Self::writes`] in one transaction, then the rest.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) writes: Vec<Write>,
    pub(crate) tell: Vec<(NodeId, FromServer)>,
    /// Images to fetch, by workflow and stage: `(workflow, stage, reference)`.
    pub(crate) fetch: Vec<(WorkflowId, u32, String)>,
    /// Ended runs whose logs are to be synced, then forgotten by their node. Without a workflow: forgotten here, perhaps by a
    /// server that was killed before it synced the log.
    pub(crate) forget: Vec<(NodeId, Option<WorkflowId>, RunId)>,
    /// Workflows that look different now.
    pub(crate) changed: BTreeSet<WorkflowId>,
}

/// What the server knows of itself that runs must know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// Addresses and ports that jobs must not reach.
    pub(crate) forbidden: Vec<SocketAddr>,
    /// How much is kept of the log of a job, bytes.
    pub(crate) log_limit_bytes: Option<u64>,
}

/// See the module.
pub(crate) struct Engine {
    /// By place in the order of submission.
    flows: BTreeMap<u64, Flow>,
    places: HashMap<WorkflowId, u64>,
    /// Runs that are not forgotten, with the place of their workflow.
    runs: HashMap<RunId, u64>,
    /// What nodes have that the store has and cannot read.
    spared: spared::SparedNow,
    nodes: BTreeMap<NodeId, nodes::Node>,
    cluster: planner::Cluster,
    surroundings: Surroundings,
    /// Makes identities that were never used.
    new_run: Box<dyn FnMut() -> RunId + Send>,
    /// Place and stage of the oldest job that waits, if it could have begun and others did: it is next.
    passed_over: Option<(u64, u32)>,
    /// A run ended, a node came or changed, a stage went on, or a task became due: placing anew may bring something.
    stale: bool,
    output: Output,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("flows", &self.flows.len()).field("runs", &self.runs.len()).finish()
    }
}

impl Engine {
    /// An engine without workflows. `new_run` makes identities that were never used.
    pub(crate) fn new(surroundings: Surroundings, new_run: Box<dyn FnMut() -> RunId + Send>) -> Self {
        Self {
            flows: BTreeMap::new(),
            places: HashMap::new(),
            runs: HashMap::new(),
            spared: spared::SparedNow::default(),
            nodes: BTreeMap::new(),
            cluster: planner::Cluster::default(),
            surroundings,
            new_run,
            passed_over: None,
            stale: false,
            output: Output::default(),
        }
    }

    /// Takes a workflow.
    pub(crate) fn submit(&mut self, submission: Submission, now: Timestamp) {
        let (mut flow, write) = Flow::new(submission, now);
        self.output.writes.push(write);
        let name = flow.row.name.clone();
        flow.event(&mut self.output, now, "WORKFLOW_STARTED", None, format!("{name} was handed in"));
        self.adopt(flow);
    }

    /// Takes a workflow that the last run of the server left. Call [`Self::proceed`] when all are in.
    pub(crate) fn adopt(&mut self, flow: Flow) {
        self.places.insert(flow.row.id, flow.row.place);
        for (run, row) in &flow.runs {
            self.runs.insert(*run, flow.row.place);
            if row.row.ended.is_none()
                && let (Some(grant), Some(node)) = (&row.row.grant, Some(row.row.node))
            {
                self.cluster.occupy(schedule::placement(*run, node, grant));
            }
        }
        self.flows.insert(flow.row.place, flow);
        self.stale = true;
    }

    /// Ends a workflow because somebody wants it. `false` if it is over or not known here.
    pub(crate) fn stop(&mut self, id: WorkflowId, why: &str, now: Timestamp) -> bool {
        let Some(flow) = self.flow_mut(id).filter(|flow| flow.row.ended.is_none() && flow.row.stop.is_none())
        else {
            return false;
        };
        flow.row.stop = Some(why.to_owned());
        flow.row.paused = None;
        let (place, mut output) = (flow.row.place, Output::default());
        flow.stop_all(&mut output, why, now);
        flow.keep(&mut output);
        self.take(output);
        self.spare_no_more(id, why);
        self.stale = true;
        self.settle_flow(place, now);
        true
    }

    /// Forgets workflows that are over, if none of them is here any more. `false`: one is, and nothing
    /// is forgotten.
    pub(crate) fn forget(&mut self, ids: &[WorkflowId]) -> bool {
        if ids.iter().any(|id| self.places.contains_key(id)) {
            return false;
        }
        self.output.writes.extend(ids.iter().map(|id| Write::Forget(*id)));
        self.output.changed.extend(ids);
        true
    }

    /// An image is here, or cannot be had.
    pub(crate) fn image_fetched(
        &mut self,
        id: WorkflowId,
        stage: u32,
        fetched: Result<Fetched, ToldFetchError>,
        now: Timestamp,
    ) {
        let Some(&place) = self.places.get(&id) else { return };
        let Some(flow) = self.flows.get_mut(&place) else { return };
        let mut output = Output::default();
        flow.image_fetched(&mut output, stage, fetched, now);
        self.take(output);
        self.stale = true;
        self.settle_flow(place, now);
    }

    /// The registry of an image is waited for, and why; or the pull goes on. It is shown and not
    /// kept: a server that starts again pulls again.
    pub(crate) fn image_waits(&mut self, id: WorkflowId, stage: u32, why: Option<String>) {
        let Some(flow) = self.flow_mut(id) else { return };
        let Some(now) = flow.stages.get_mut(stage as usize) else { return };
        if now.state == State::Started && now.reason != why {
            now.reason = why;
            self.output.changed.insert(id);
        }
    }

    /// For which user an image is still to be fetched for a stage; `None` if it is not.
    pub(crate) fn wants_image(&self, id: WorkflowId, stage: u32) -> Option<Arc<str>> {
        let flow = self.flows.get(self.places.get(&id)?)?;
        let is_wanted = flow.stages.get(stage as usize)?.state == State::Started;
        is_wanted.then(|| Arc::from(flow.row.owner.name.as_str()))
    }

    /// Time has passed: pauses end, nodes are given up, logs are waited for no more. `uptime`: by a
    /// clock that nobody sets.
    pub(crate) fn tick(&mut self, now: Timestamp, uptime: Duration) {
        self.give_up_nodes(now);
        self.give_up_late_logs(uptime);
        let due = self.flows.values().any(|flow| flow.has_task_due(now));
        self.stale |= due;
        for flow in self.flows.values_mut() {
            if flow.end_pauses_of_tries(now) {
                self.output.changed.insert(flow.row.id);
            }
        }
    }

    /// Lets everything that can begin begin. Returns what is to be done since the last call.
    pub(crate) fn proceed(&mut self, now: Timestamp) -> Output {
        if self.stale {
            let places: Vec<u64> = self.flows.keys().copied().collect();
            for place in places {
                self.settle_flow(place, now);
            }
            self.stale = self.place_all(now);
        }
        std::mem::take(&mut self.output)
    }

    /// The plan of a workflow in memory.
    pub(crate) fn plan(&self, id: WorkflowId) -> Option<Arc<Plan>> {
        self.flows.get(self.places.get(&id)?).map(|flow| flow.plan.clone())
    }

    fn flow_mut(&mut self, id: WorkflowId) -> Option<&mut Flow> {
        self.flows.get_mut(self.places.get(&id)?)
    }

    fn take(&mut self, more: Output) {
        let output = &mut self.output;
        output.writes.extend(more.writes);
        output.tell.extend(more.tell);
        output.fetch.extend(more.fetch);
        output.forget.extend(more.forget);
        output.changed.extend(more.changed);
    }
}

impl Output {
    /// Tells a node to begin or go on with something.
    fn say(&mut self, node: NodeId, message: FromServer) {
        self.tell.push((node, message));
    }

    fn history(&mut self, workflow: WorkflowId, event: WorkflowEvent) {
        self.writes.push(Write::Event(workflow, Box::new(event)));
    }
}

#[cfg(test)]
mod tests;
