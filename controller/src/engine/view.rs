//! What people see of a workflow that is not over, and why it waits.

use api::{
    ids::{NodeId, Timestamp},
    run::{RunId, WorkflowId},
    workflow::{Attempt, ClientFile, Stage, State, TaskUsage, Waiting, Workflow, WorkflowSummary},
};
use document::plan::{Destination, Planned};

use super::{Engine, Flow};
use crate::store::{RunRow, WorkflowRow};

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

/// A workflow in a list, from its row.
pub(crate) fn summary(row: &WorkflowRow, stages_finished: u32, stages: u32) -> WorkflowSummary {
    WorkflowSummary {
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
        blocked: None,
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
        Some(view)
    }

    /// Why a workflow goes no faster; `None` if it is not in memory.
    pub(crate) fn why(&self, id: WorkflowId, now: Timestamp) -> Option<Vec<Waiting>> {
        let place = *self.places.get(&id)?;
        let flow = self.flows.get(&place)?;
        if let Some(why) = flow.blocked.as_ref().filter(|_| flow.row.ended.is_none()) {
            let reasons = vec![format!("the workflow is blocked: {why}")];
            return Some(vec![Waiting { stage: 0, name: flow.row.name.clone(), reasons }]);
        }
        let mut waiting = Vec::new();
        for (index, plan) in (0..).zip(&flow.plan.stages) {
            let stage = &flow.stages[index as usize];
            if stage.state.is_ended() {
                continue;
            }
            let reasons = if let (Planned::Image { .. }, State::Started) = (&plan.work, stage.state) {
                vec![stage.reason.clone().unwrap_or_else(|| format!("{} is being pulled", plan.name))]
            } else if stage.is_ready {
                self.why_not_placed(flow, index, now)
            } else {
                vec![flow.waits_for(index)]
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

impl Flow {
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
        let summary = summary(&self.row, count(finished), count(self.stages.len()));
        // One that is over goes nowhere, whatever stood in its way.
        let blocked = self.blocked.clone().filter(|_| self.row.ended.is_none());
        WorkflowSummary { blocked, ..summary }
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
                Some(ClientFile { stage, destination: path.clone(), size: None })
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
