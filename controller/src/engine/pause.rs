//! A workflow that is paused: its jobs stand still where they are, with all that they were granted,
//! and nothing of it begins: an attempt whose members are prepared is not released. Transfers that
//! are under way go to their end.

use api::{
    ids::{NodeId, Timestamp},
    run::{RunId, WorkflowId},
    workflow::{EventKind, StageKind},
};
use document::plan::StageId;

use super::{Effects, Engine, WorkflowState, effects::pause_run};

impl Engine {
    /// Pauses a workflow, or lets it go on. `false` if it is so already, is over, or is
    /// not known here.
    pub(crate) fn pause(&mut self, id: WorkflowId, paused: bool, by: &str, now: Timestamp) -> bool {
        let fits = |workflow_state: &&mut WorkflowState| {
            workflow_state.ended.is_none()
                && workflow_state.stop.is_none()
                && workflow_state.paused.is_some() != paused
        };
        let Some(workflow_state) = self.workflow_state_mut(id).filter(fits) else { return false };
        let mut effects = Effects::default();
        workflow_state.paused = paused.then(|| by.to_owned());
        for (node, run) in workflow_state.jobs_on_nodes() {
            effects.send(node, pause_run(run, paused));
        }
        let (event, message) = if paused {
            (EventKind::WorkflowPaused, format!("paused by {by}"))
        } else {
            (EventKind::WorkflowResumed, format!("resumed by {by}"))
        };
        workflow_state.event(&mut effects, now, event, None, message);
        workflow_state.release_all(&mut effects, now);
        workflow_state.save(&mut effects);
        self.take(effects);
        self.stale = true;
        true
    }
}

impl WorkflowState {
    /// Its jobs that are not over, with their nodes.
    fn jobs_on_nodes(&self) -> Vec<(NodeId, RunId)> {
        let is_job = |stage: StageId| self.plan.stages[stage].work.kind() == StageKind::Job;
        let jobs = self.runs.values().filter(|run| run.ended.is_none() && is_job(run.stage));
        jobs.map(|run| (run.node, run.id)).collect()
    }
}
