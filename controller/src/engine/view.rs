//! All that people see, at one moment: workflows that are not over, and why they wait.
//!
//! A [`View`] is immutable and shares everything with the engine that it was made of. Making one
//! costs a few pointers; what the engine changes afterwards it copies first, so a commit costs its
//! readers a copy of what it touched and of the paths there: of one task of a hundred thousand its
//! run, its entry among those that run, its stage and its workflow.

use std::{collections::BTreeSet, sync::Arc};

use api::{
    ids::{NodeId, Timestamp},
    run::{RunId, WorkflowId},
    workflow::{
        ClientFile, Stage, StageKind, State, TaskUsage, Waiting, Workflow, WorkflowSummary,
    },
};
use document::plan::{Dependency, Destination, Plan, StageAction, StageId, Until};
use planner::{Allowed, ClusterView};

use super::{Engine, WorkflowState, WorkflowStates, nodes::Nodes, workflow_state::StageState};
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

/// See the module.
pub(crate) struct View {
    /// When it was made: what ended later is not over in it.
    pub(crate) at: Timestamp,
    pub(crate) workflow_states: WorkflowStates,
    pub(super) nodes: Nodes,
    pub(super) cluster: ClusterView,
    /// Where attempts of several members may go.
    pub(super) for_members: Allowed,
    /// Nodes whose agents know no attempts of several members.
    pub(super) of_before: usize,
    /// Place and stage of the job that is next, if it was passed over.
    pub(super) passed_over: Option<(u64, StageId)>,
    /// Something that is on nodes cannot be read.
    pub(super) is_any_spared: bool,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("at", &self.at)
            .field("workflows", &self.workflow_states.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Whether a workflow is not over, or the rest of a log of it may still arrive.
    pub(crate) fn has(&self, id: WorkflowId) -> bool {
        self.workflow_states.of(id).is_some()
    }

    /// What people see now. `now`: not before anything that was told to the engine.
    pub(crate) fn view(&mut self, now: Timestamp) -> View {
        View {
            at: now,
            workflow_states: self.workflow_states.clone(),
            nodes: self.nodes.clone(),
            cluster: self.cluster.view(),
            for_members: self.for_members.clone(),
            of_before: self.of_before.len(),
            passed_over: self.passed_over,
            is_any_spared: self.spared.is_any(),
        }
    }
}

impl View {
    /// The same with the workflows of another view.
    pub(crate) fn with_workflows_of(self, other: &Self) -> Self {
        Self { workflow_states: other.workflow_states.clone(), at: other.at, ..self }
    }

    /// Whether a workflow is not over, or the rest of a log of it may still arrive.
    pub(crate) fn has(&self, id: WorkflowId) -> bool {
        self.workflow_states.of(id).is_some()
    }

    /// The plan of a workflow.
    pub(crate) fn plan(&self, id: WorkflowId) -> Option<Arc<Plan>> {
        self.workflow_states.of(id).map(|workflow_state| workflow_state.plan.clone())
    }

    /// Whether a run of a workflow is not over, or the rest of its log may still arrive.
    pub(crate) fn holds(&self, id: WorkflowId, run: RunId) -> bool {
        self.workflow_states
            .of(id)
            .is_some_and(|workflow_state| workflow_state.runs.contains_key(&run))
    }

    /// The tasks of a workflow whose processes run, by stage and task.
    pub(crate) fn running_jobs(&self, id: WorkflowId) -> Vec<RunningJob> {
        let mut jobs: Vec<RunningJob> =
            self.workflow_states.of(id).into_iter().flat_map(WorkflowState::running_jobs).collect();
        jobs.sort_by_key(|job| (job.task.stage, job.task.task, job.task.attempt, job.task.member));
        jobs
    }

    /// All workflows, newest first.
    pub(crate) fn summaries(&self) -> impl Iterator<Item = WorkflowSummary> {
        self.workflow_states.values().rev().map(WorkflowState::summary)
    }

    /// A workflow.
    pub(crate) fn workflow(&self, id: WorkflowId) -> Option<Workflow> {
        let workflow_state = self.workflow_states.of(id)?;
        if let Some(view) =
            workflow_state.final_view.as_ref().filter(|_| workflow_state.ended.is_some())
        {
            // It waits for the rest of a log alone, and of what is over not all is in memory.
            return Some(Workflow::clone(view));
        }
        let mut view = workflow_state.view();
        for (stage, reason) in workflow_state.waiting_reasons() {
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

    /// Why a workflow goes no faster; `None` if it is not in memory. `of`: only this stage
    /// and those that it waits for, by number. `pulls`: the images of this workflow that
    /// are being pulled.
    pub(crate) fn why(
        &self,
        id: WorkflowId,
        of: Option<StageId>,
        pulls: &PullsOfWorkflow,
        now: Timestamp,
    ) -> Option<Vec<Waiting>> {
        let sequence = self.workflow_states.sequence_of(id)?;
        let workflow_state = self.workflow_states.get(sequence)?;
        if let Some(why) =
            workflow_state.blocked.as_ref().filter(|_| workflow_state.ended.is_none())
        {
            let reasons = vec![format!("the workflow is blocked: {why}")];
            return Some(vec![Waiting {
                stage: 0,
                name: workflow_state.name.to_string(),
                reasons,
            }]);
        }
        let wanted = of.map(|of| workflow_state.needed_by(of));
        let queue = std::cell::LazyCell::new(|| self.queue(now));
        let mut waiting = Vec::new();
        for (index, plan) in workflow_state.plan.numbered() {
            let stage = &workflow_state.stages[index];
            if stage.state.is_ended()
                || wanted.as_ref().is_some_and(|wanted| !wanted.contains(&index))
            {
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
            let reasons: Vec<String> =
                reasons.into_iter().filter(|reason| !reason.is_empty()).collect();
            if !reasons.is_empty() {
                waiting.push(Waiting { stage: index.0, name: plan.name.clone(), reasons });
            }
        }
        Some(waiting)
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
    /// A short reason for each stage that has not begun.
    fn waiting_reasons(&self) -> Vec<(StageId, String)> {
        if self.blocked.is_some() {
            return Vec::new();
        }
        let pending = |(_, stage): &(StageId, &StageState)| {
            stage.state == State::Pending && stage.reason.is_none()
        };
        let reason = |(index, stage): (StageId, &StageState)| match stage.is_ready {
            true => (index, "waits for resources".to_owned()),
            false => (index, self.waits_for(index)),
        };
        self.numbered().filter(pending).map(reason).collect()
    }

    /// A stage, and those that are not over and that it waits for, over any number of steps.
    fn needed_by(&self, stage: StageId) -> BTreeSet<StageId> {
        let mut needed = BTreeSet::new();
        let mut open = vec![stage];
        while let Some(index) = open.pop() {
            let is_open = self.stages.get(index).is_some_and(|now| now.state != State::Finished);
            if is_open && needed.insert(index) {
                let after = self.plan.stages[index].after.iter();
                open.extend(
                    after.filter(|after| !self.has_happened(**after)).map(|after| after.stage),
                );
            }
        }
        needed
    }

    /// What was stored at its end, of one whose stages are not known.
    fn stored_view(&self) -> Option<&Workflow> {
        self.final_view.as_deref().filter(|_| self.blocked.is_some())
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
            name: self.name.to_string(),
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
