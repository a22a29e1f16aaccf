//! What people see of a workflow that is not over, and why it waits.

use std::collections::BTreeSet;

use api::{
    ids::{NodeId, Timestamp},
    run::{RunId, WorkflowId},
    workflow::{
        Attempt, ClientFile, Stage, StageKind, State, TaskUsage, Waiting, Workflow, WorkflowStatus,
        WorkflowSummary,
    },
};
use document::plan::{Destination, Planned};

use super::{Engine, Flow};
use crate::{
    images::PullsOfWorkflow,
    store::{RunRow, WorkflowRow},
};

/// Stages named in one reason.
const MAX_NAMED: usize = 5;

/// A run as an attempt of its task.
pub(crate) fn attempt(row: &RunRow) -> Attempt {
    let grant = row.grant.clone().unwrap_or_default();
    Attempt {
        stage: row.stage,
        task: row.task,
        attempt: row.attempt,
        node: row.node_name.clone(),
        cpus: grant.cpus,
        mems: grant.memory.iter().map(|(numa, _)| *numa).collect(),
        devices: grant.devices,
        placed: row.placed,
        started: row.started,
        ended: row.ended,
        outcome: row.outcome.clone(),
        usage: row.usage.clone(),
        log_bytes: row.log_bytes,
    }
}

/// What a workflow is doing: the one place that says so. `is_on_nodes`: a run of it is placed and
/// not over.
fn status(row: &WorkflowRow, is_blocked: bool, is_on_nodes: bool) -> WorkflowStatus {
    match row.state {
        State::Finished => WorkflowStatus::Finished,
        State::Failed => WorkflowStatus::Failed,
        State::Canceled => WorkflowStatus::Canceled,
        State::Pending | State::Started if row.stop.is_some() => WorkflowStatus::Stopping,
        State::Pending | State::Started if is_blocked => WorkflowStatus::Blocked,
        State::Pending | State::Started if row.paused.is_some() => WorkflowStatus::Paused,
        State::Pending | State::Started if is_on_nodes => WorkflowStatus::Running,
        State::Pending | State::Started => WorkflowStatus::Waiting,
    }
}

/// A workflow that is over and whose stages are not known, in a list, from its row.
pub(crate) fn summary(row: &WorkflowRow) -> WorkflowSummary {
    summary_of(row, (0, 0), None, false)
}

fn summary_of(
    row: &WorkflowRow,
    (stages_finished, stages): (u32, u32),
    blocked: Option<String>,
    is_on_nodes: bool,
) -> WorkflowSummary {
    WorkflowSummary {
        status: Some(status(row, blocked.is_some(), is_on_nodes)),
        id: row.id,
        name: row.name.clone(),
        user: row.owner.name.clone(),
        state: row.state,
        stages_finished,
        stages,
        submitted: row.submitted,
        started: row.started,
        ended: row.ended,
        reason: row.reason.clone(),
        paused: row.paused.clone(),
        blocked,
    }
}

/// A task of a job whose process runs.
#[derive(Debug)]
pub(crate) struct RunningJob {
    pub(crate) run: RunId,
    pub(crate) node: NodeId,
    /// Without figures.
    pub(crate) task: TaskUsage,
}

impl Engine {
    /// The tasks of a workflow whose processes run, by stage and task.
    pub(crate) fn running_jobs(&self, id: WorkflowId) -> Vec<RunningJob> {
        let flow = self.places.get(&id).and_then(|place| self.flows.get(place));
        let mut jobs: Vec<RunningJob> = flow.into_iter().flat_map(Flow::running_jobs).collect();
        jobs.sort_by_key(|job| (job.task.stage, job.task.task, job.task.attempt));
        jobs
    }

    /// All workflows in memory, newest first.
    pub(crate) fn summaries(&self) -> Vec<WorkflowSummary> {
        self.flows.values().rev().map(Flow::summary).collect()
    }

    /// A workflow in memory.
    pub(crate) fn view(&self, id: WorkflowId) -> Option<Workflow> {
        let flow = self.flows.get(self.places.get(&id)?)?;
        if let Some(view) = flow.row.view.as_ref().filter(|_| flow.row.ended.is_some()) {
            // It waits for the rest of a log alone, and of what is over not all is in memory.
            return Some(view.clone());
        }
        let mut view = flow.view();
        let waiting = self.waiting_reasons(id);
        for (stage, reason) in waiting {
            if let Some(stage) = view.stages.get_mut(stage as usize) {
                stage.reason = Some(reason);
            }
        }
        for (stage, trouble) in flow.troubles() {
            if let Some(stage) = view.stages.get_mut(stage as usize)
                && stage.state == State::Started
            {
                stage.reason.get_or_insert(trouble);
            }
        }
        Some(view)
    }

    /// Why a workflow goes no faster; `None` if it is not in memory. `of`: only this stage and those
    /// that it waits for, by number. `pulls`: the images of this workflow that are being pulled.
    pub(crate) fn why(
        &self,
        id: WorkflowId,
        of: Option<u32>,
        pulls: &PullsOfWorkflow,
        now: Timestamp,
    ) -> Option<Vec<Waiting>> {
        let place = *self.places.get(&id)?;
        let flow = self.flows.get(&place)?;
        if let Some(why) = flow.blocked.as_ref().filter(|_| flow.row.ended.is_none()) {
            let reasons = vec![format!("the workflow is blocked: {why}")];
            return Some(vec![Waiting { stage: 0, name: flow.row.name.clone(), reasons }]);
        }
        let wanted = of.map(|of| flow.needed_by(of));
        let queue = std::cell::LazyCell::new(|| self.queue(now));
        let mut waiting = Vec::new();
        for (index, plan) in (0..).zip(&flow.plan.stages) {
            let stage = &flow.stages[index as usize];
            if stage.state.is_ended() || wanted.as_ref().is_some_and(|wanted| !wanted.contains(&index)) {
                continue;
            }
            let reasons = if !stage.is_ready {
                vec![flow.waits_for(index)]
            } else if plan.work.kind() == StageKind::Image {
                // While it waits for something before the pull, its reason says for what.
                let told: Vec<String> =
                    pulls.get(&index).cloned().into_iter().chain(stage.reason.clone()).collect();
                if told.is_empty() { vec![format!("{} is being pulled", plan.name)] } else { told }
            } else {
                let mut reasons = self.why_not_placed(flow, index, now);
                if plan.work.kind() == StageKind::Job && flow.may_begin(index) {
                    reasons.extend(place_in(&queue, (place, index)));
                }
                reasons
            };
            let reasons: Vec<String> = reasons.into_iter().filter(|reason| !reason.is_empty()).collect();
            if !reasons.is_empty() {
                waiting.push(Waiting { stage: index, name: plan.name.clone(), reasons });
            }
        }
        Some(waiting)
    }

    /// A short reason for each stage that has not begun.
    fn waiting_reasons(&self, id: WorkflowId) -> Vec<(u32, String)> {
        let Some(flow) = self.places.get(&id).and_then(|place| self.flows.get(place)) else {
            return Vec::new();
        };
        if flow.blocked.is_some() {
            return Vec::new();
        }
        let pending = |index: &u32| {
            let stage = &flow.stages[*index as usize];
            stage.state == State::Pending && stage.reason.is_none()
        };
        let indexes = 0..u32::try_from(flow.stages.len()).unwrap_or(u32::MAX);
        indexes
            .filter(pending)
            .map(|index| {
                let ready = flow.stages[index as usize].is_ready;
                (index, if ready { "waits for resources".to_owned() } else { flow.waits_for(index) })
            })
            .collect()
    }
}

/// Where a job stands in the queue of all jobs; nothing if none of its tasks is due.
fn place_in(queue: &[(u64, u32)], job: (u64, u32)) -> Option<String> {
    Some(match queue.iter().position(|queued| *queued == job)? {
        0 => "it is the first in the queue of jobs".to_owned(),
        1 => "1 job is before it in the queue of jobs".to_owned(),
        before => format!("{before} jobs are before it in the queue of jobs"),
    })
}

impl Flow {
    /// A stage, and those not yet finished that it waits for, over any number of steps.
    fn needed_by(&self, stage: u32) -> BTreeSet<u32> {
        let mut needed = BTreeSet::new();
        let mut open = vec![stage];
        while let Some(index) = open.pop() {
            let is_open = self.stages.get(index as usize).is_some_and(|now| now.state != State::Finished);
            if is_open && needed.insert(index) {
                open.extend(&self.plan.stages[index as usize].after);
            }
        }
        needed
    }

    /// What was stored at its end, of one whose stages are not known.
    fn stored_view(&self) -> Option<&Workflow> {
        self.row.view.as_ref().filter(|_| self.blocked.is_some())
    }

    pub(super) fn summary(&self) -> WorkflowSummary {
        if let Some(view) = self.stored_view() {
            return view.summary.clone();
        }
        let finished = self.stages.iter().filter(|stage| stage.state == State::Finished).count();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        // One that is over goes nowhere, whatever stood in its way.
        let blocked = self.blocked.clone().filter(|_| self.row.ended.is_none());
        let is_on_nodes = self.stages.iter().any(|stage| !stage.tasks.running.is_empty());
        summary_of(&self.row, (count(finished), count(self.stages.len())), blocked, is_on_nodes)
    }

    fn running_jobs(&self) -> impl Iterator<Item = RunningJob> + '_ {
        self.runs.values().filter(|run| run.row.ended.is_none()).filter_map(|run| {
            let row = &run.row;
            let (started, grant) = (row.started?, row.grant.as_ref()?);
            let task = TaskUsage {
                stage: row.stage,
                name: self.plan.stages[row.stage as usize].name.clone(),
                task: row.task,
                attempt: row.attempt,
                node: row.node_name.clone(),
                cpus: u32::try_from(grant.cpus.len()).unwrap_or(u32::MAX),
                memory_limit_bytes: grant.memory.iter().map(|(_, bytes)| bytes).sum(),
                started,
                at: None,
                usage: None,
            };
            Some(RunningJob { run: row.run, node: row.node, task })
        })
    }

    pub(super) fn view(&self) -> Workflow {
        if let Some(view) = self.stored_view() {
            return view.clone();
        }
        let stages = (0..).zip(self.plan.stages.iter().zip(&self.stages)).map(|(index, (plan, now))| Stage {
            index,
            kind: plan.work.kind(),
            name: plan.name.clone(),
            state: now.state,
            after: plan.after.clone(),
            reason: now.reason.clone(),
            started: now.started,
            ended: now.ended,
            nodes: now.nodes_shown(),
            tasks: now.tasks.counts(),
        });
        let files = (0..).zip(&self.plan.stages).filter_map(|(stage, plan)| match &plan.work {
            Planned::Egress { destination: Destination::Local { path }, .. } => {
                let destination = path.clone();
                Some(ClientFile { stage, destination, size: None, folder: false })
            }
            _ => None,
        });
        Workflow { summary: self.summary(), stages: stages.collect(), files: files.collect() }
    }

    /// The stages that a stage waits for.
    fn waits_for(&self, index: u32) -> String {
        let open = self.plan.stages[index as usize]
            .after
            .iter()
            .filter(|&&other| self.stages[other as usize].state != State::Finished);
        let mut names: Vec<String> = open
            .map(|&other| {
                let plan = &self.plan.stages[other as usize];
                format!("{} {}", plan.work.kind().as_str(), plan.name)
            })
            .collect();
        let more = names.len().saturating_sub(MAX_NAMED);
        names.truncate(MAX_NAMED);
        if more > 0 {
            names.push(format!("{more} more"));
        }
        format!("waits for {}", names.join(", "))
    }
}
