//! A workflow that is paused: its jobs stand still where they are, with all that they were granted, and nothing of it begins.
//! Transfers that are under way go to their end.

use api::{
    channel::FromServer,
    ids::Timestamp,
    run::{RunId, WorkflowId},
    workflow::StageKind,
};

use super::{Engine, Flow, Output};

impl Engine {
    /// Pauses a workflow, or lets it go on. `false` if it is so already, is over, or is not known here.
    pub(crate) fn pause(&mut self, id: WorkflowId, paused: bool, by: &str, now: Timestamp) -> bool {
        let fits = |flow: &&mut Flow| {
            let row = &flow.row;
            row.ended.is_none() && row.stop.is_none() && row.paused.is_some() != paused
        };
        let Some(flow) = self.flow_mut(id).filter(fits) else { return false };
        let mut output = Output::default();
        flow.row.paused = paused.then(|| by.to_owned());
        for (node, run) in flow.jobs_on_nodes() {
            output.say(node, pause_run(run, paused));
        }
        let (event, message) = if paused {
            ("WORKFLOW_PAUSED", format!("paused by {by}"))
        } else {
            ("WORKFLOW_RESUMED", format!("resumed by {by}"))
        };
        flow.event(&mut output, now, event, None, message);
        flow.keep(&mut output);
        self.take(output);
        self.stale = true;
        true
    }
}

impl Flow {
    /// Its jobs that are not over, with their nodes.
    fn jobs_on_nodes(&self) -> Vec<(api::ids::NodeId, RunId)> {
        let is_job = |stage: u32| self.plan.stages[stage as usize].work.kind() == StageKind::Job;
        let jobs = self.runs.values().filter(|run| run.row.ended.is_none() && is_job(run.row.stage));
        jobs.map(|run| (run.row.node, run.row.run)).collect()
    }
}

/// What a node is told.
pub(super) fn pause_run(run: RunId, paused: bool) -> FromServer {
    if paused { FromServer::PauseRun { run } } else { FromServer::ResumeRun { run } }
}
