//! What people see of a workflow that is not over, and why it waits.

use std::collections::BTreeSet;

use api::{
    ids::{NodeId, Timestamp},
    run::{RunId, WorkflowId},
    workflow::{ClientFile, Stage, StageKind, State, TaskUsage, Waiting, Workflow, WorkflowSummary},
};
use document::plan::{Dependency, Destination, StageAction, StageId, Until};

use super::{Engine, WorkflowState};
use crate::record::{PullsOfWorkflow, workflow_status};

/// Stages named in one reason.
const MAX_NAMED: usize = 5;

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
        let workflow_state = self.sequences.get(&id).and_then(|sequence| self.workflow_states.get(sequence));
        let mut jobs: Vec<RunningJob> =
            workflow_state.into_iter().flat_map(WorkflowState::running_jobs).collect();
        jobs.sort_by_key(|job| (job.task.stage, job.task.task, job.task.attempt, job.task.member));
        jobs
    }

    /// All workflows in memory, newest first.
    pub(crate) fn summaries(&self) -> Vec<WorkflowSummary> {
        self.workflow_states.values().rev().map(WorkflowState::summary).collect()
    }

    /// A workflow in memory.
    pub(crate) fn view(&self, id: WorkflowId) -> Option<Workflow> {
        let workflow_state = self.workflow_states.get(self.sequences.get(&id)?)?;
        if let Some(view) = workflow_state.final_view.as_ref().filter(|_| workflow_state.ended.is_some()) {
            // It waits for the rest of a log alone, and of what is over not all is in memory.
            return Some(view.clone());
        }
        let mut view = workflow_state.view();
        let waiting = self.waiting_reasons(id);
        for (stage, reason) in waiting {
            if let Some(stage) = view.stages.get_mut(stage.index()) {
                stage.reason = Some(reason);
            }
        }
        for (stage, trouble) in workflow_state.troubles() {
            if let Some(stage) = view.stages.get_mut(stage.index())
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
        of: Option<StageId>,
        pulls: &PullsOfWorkflow,
        now: Timestamp,
    ) -> Option<Vec<Waiting>> {
        let sequence = *self.sequences.get(&id)?;
        let workflow_state = self.workflow_states.get(&sequence)?;
        if let Some(why) = workflow_state.blocked.as_ref().filter(|_| workflow_state.ended.is_none()) {
            let reasons = vec![format!("the workflow is blocked: {why}")];
            return Some(vec![Waiting { stage: 0, name: workflow_state.name.clone(), reasons }]);
        }
        let wanted = of.map(|of| workflow_state.needed_by(of));
        let queue = std::cell::LazyCell::new(|| self.queue(now));
        let mut waiting = Vec::new();
        for (index, plan) in workflow_state.plan.numbered() {
            let stage = &workflow_state.stages[index];
            if stage.state.is_ended() || wanted.as_ref().is_some_and(|wanted| !wanted.contains(&index)) {
                continue;
            }
            let reasons = if !stage.is_ready {
                vec![workflow_state.waits_for(index)]
            } else if plan.work.kind() == StageKind::Image {
                // While it waits for something before the pull, its reason says for what.
                let told: Vec<String> =
                    pulls.get(&index).cloned().into_iter().chain(stage.reason.clone()).collect();
                if told.is_empty() { vec![format!("{} is being pulled", plan.name)] } else { told }
            } else {
                let mut reasons = self.why_not_placed(workflow_state, index, now);
                if plan.work.kind() == StageKind::Job && workflow_state.may_begin(index) {
                    reasons.extend(position_in(&queue, (sequence, index)));
                }
                reasons
            };
            let reasons: Vec<String> = reasons.into_iter().filter(|reason| !reason.is_empty()).collect();
            if !reasons.is_empty() {
                waiting.push(Waiting { stage: index.0, name: plan.name.clone(), reasons });
            }
        }
        Some(waiting)
    }

    /// A short reason for each stage that has not begun.
    fn waiting_reasons(&self, id: WorkflowId) -> Vec<(StageId, String)> {
        let Some(workflow_state) =
            self.sequences.get(&id).and_then(|sequence| self.workflow_states.get(sequence))
        else {
            return Vec::new();
        };
        if workflow_state.blocked.is_some() {
            return Vec::new();
        }
        let pending = |index: &StageId| {
            let stage = &workflow_state.stages[*index];
            stage.state == State::Pending && stage.reason.is_none()
        };
        StageId::first(workflow_state.stages.len())
            .filter(pending)
            .map(|index| {
                let ready = workflow_state.stages[index].is_ready;
                (
                    index,
                    if ready { "waits for resources".to_owned() } else { workflow_state.waits_for(index) },
                )
            })
            .collect()
    }
}

/// Where a job stands in the queue of all jobs; nothing if none of its tasks is due.
fn position_in(queue: &[(u64, StageId)], job: (u64, StageId)) -> Option<String> {
    Some(match queue.iter().position(|queued| *queued == job)? {
        0 => "it is the first in the queue of jobs".to_owned(),
        1 => "1 job is before it in the queue of jobs".to_owned(),
        before => format!("{before} jobs are before it in the queue of jobs"),
    })
}

impl WorkflowState {
    /// A stage, and those that are not over and that it waits for, over any number of steps.
    fn needed_by(&self, stage: StageId) -> BTreeSet<StageId> {
        let mut needed = BTreeSet::new();
        let mut open = vec![stage];
        while let Some(index) = open.pop() {
            let is_open = self.stages.get(index.index()).is_some_and(|now| now.state != State::Finished);
            if is_open && needed.insert(index) {
                let after = self.plan.stages[index].after.iter();
                open.extend(after.filter(|after| !self.has_happened(**after)).map(|after| after.stage));
            }
        }
        needed
    }

    /// What was stored at its end, of one whose stages are not known.
    fn stored_view(&self) -> Option<&Workflow> {
        self.final_view.as_ref().filter(|_| self.blocked.is_some())
    }

    pub(super) fn summary(&self) -> WorkflowSummary {
        if let Some(view) = self.stored_view() {
            return view.summary.clone();
        }
        let finished = self.stages.iter().filter(|stage| stage.state == State::Finished).count();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        // One that is over goes nowhere, whatever stood in its way.
        let blocked = self.blocked.clone().filter(|_| self.ended.is_none());
        let is_on_nodes = self.stages.iter().any(|stage| !stage.tasks.running.is_empty());
        let (stop, paused) = (self.stop.as_ref(), self.paused.as_ref());
        WorkflowSummary {
            status: Some(workflow_status(self.state, stop, paused, blocked.as_ref(), is_on_nodes)),
            id: self.id,
            name: self.name.clone(),
            user: self.owner.name.clone(),
            state: self.state,
            stages_finished: count(finished),
            stages: count(self.stages.len()),
            submitted: self.submitted,
            started: self.started,
            ended: self.ended,
            reason: self.reason.clone(),
            paused: self.paused.clone(),
            blocked,
        }
    }

    fn running_jobs(&self) -> impl Iterator<Item = RunningJob> + '_ {
        self.runs.values().filter(|run| run.ended.is_none()).filter_map(|run| {
            let (started, grant) = (run.started?, run.grant.as_ref()?);
            let plan = &self.plan.stages[run.stage];
            let task = TaskUsage {
                stage: run.stage.0,
                name: plan.name.clone(),
                task: plan.tasks.number(run.task),
                attempt: run.attempt,
                member: run.member,
                node: run.node_name.clone(),
                cpus: u32::try_from(grant.cpus.len()).unwrap_or(u32::MAX),
                memory_limit_bytes: grant.memory.iter().map(|(_, bytes)| bytes).sum(),
                started,
                at: None,
                usage: None,
            };
            Some(RunningJob { run: run.id, node: run.node, task })
        })
    }

    pub(super) fn view(&self) -> Workflow {
        if let Some(view) = self.stored_view() {
            return view.clone();
        }
        let stages = self.numbered().zip(&self.plan.stages).map(|((index, now), plan)| Stage {
            index: index.0,
            kind: plan.work.kind(),
            name: plan.name.clone(),
            state: now.state,
            after: plan.after.iter().map(|after| after.stage.0).collect(),
            reason: now.reason.clone(),
            started: now.started,
            ended: now.ended,
            nodes: now.nodes_shown(),
            tasks: now.tasks.counts(),
        });
        let files = self.plan.numbered().filter_map(|(stage, plan)| match &plan.work {
            StageAction::Egress { destination: Destination::Local { path }, .. } => {
                let destination = path.clone();
                Some(ClientFile { stage: stage.0, destination, size: None, directory: false })
            }
            _ => None,
        });
        Workflow { summary: self.summary(), stages: stages.collect(), files: files.collect() }
    }

    /// The stages that a stage waits for.
    fn waits_for(&self, index: StageId) -> String {
        let open = self.plan.stages[index].after.iter().filter(|after| !self.has_happened(**after));
        let mut names: Vec<String> = open
            .map(|&Dependency { stage, until }| {
                let plan = &self.plan.stages[stage];
                let until = match until {
                    Until::Finished => "",
                    Until::Failed => " to fail",
                    Until::Any => " to end",
                    Until::Running => " to run",
                };
                format!("{} {}{until}", plan.work.kind().as_str(), plan.name)
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
