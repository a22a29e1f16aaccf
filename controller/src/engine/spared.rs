//! What is on nodes and in the tables, and cannot be read: it is left alone until somebody has
//! mended the database, or stops its workflow.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    ids::NodeId,
    run::{RunId, WorkflowId},
};

use super::{Engine, effects::stop_run};
use crate::record::SparedRows;

/// What is left alone.
#[derive(Debug, Default)]
pub(super) struct SparedState {
    runs: BTreeMap<RunId, SparedRun>,
    volumes: BTreeSet<WorkflowId>,
    any_run: bool,
    any_volumes: bool,
}

#[derive(Debug)]
struct SparedRun {
    /// Whose it is, if that can be read.
    workflow: Option<WorkflowId>,
    /// The node that has it, once it has said so.
    node: Option<NodeId>,
}

impl SparedState {
    /// Whether a run that is not known is left alone on the node that tells of it.
    pub(super) fn has_run(&mut self, run: RunId, node: NodeId) -> bool {
        match self.runs.get_mut(&run) {
            Some(spared) => {
                spared.node = Some(node);
                true
            }
            None => self.any_run,
        }
    }

    /// Whether something is left alone.
    pub(super) fn is_any(&self) -> bool {
        self.any_run || self.any_volumes || !self.runs.is_empty() || !self.volumes.is_empty()
    }

    /// Whether the volumes of a workflow that is not known are left alone.
    pub(super) fn has_volumes(&self, workflow: WorkflowId) -> bool {
        self.any_volumes || self.volumes.contains(&workflow)
    }
}

impl Engine {
    /// Leaves runs and volumes alone. `workflow`: whose they are, if it can be read.
    pub(crate) fn spare(&mut self, workflow: Option<WorkflowId>, spared: SparedRows) {
        let SparedRows { runs, workflows, any_run, any_workflow } = spared;
        let of = workflow
            .map_or_else(|| "workflows that cannot be read".to_owned(), |id| format!("{id}"));
        if !runs.is_empty() {
            tracing::error!(
                "{} runs of {of} cannot be read: on nodes they are left alone",
                runs.len()
            );
        }
        if any_run {
            tracing::error!(
                "the id of a run of {of} cannot be read: runs that are not known here are left alone on \
                 all nodes until the database is mended"
            );
        }
        let now = &mut self.spared;
        now.runs.extend(runs.into_iter().map(|run| (run, SparedRun { workflow, node: None })));
        now.volumes.extend(workflows);
        now.any_run |= any_run;
        now.any_volumes |= any_workflow;
    }

    /// Somebody stops a workflow: what of it cannot be read is to end too.
    pub(super) fn spare_no_more(&mut self, workflow: WorkflowId, why: &str) {
        let (ends, others): (BTreeMap<_, _>, _) = std::mem::take(&mut self.spared.runs)
            .into_iter()
            .partition(|(_, spared)| spared.workflow == Some(workflow));
        self.spared.runs = others;
        for (run, spared) in ends {
            if let Some(node) = spared.node {
                self.effects.send(node, stop_run(run, why));
            }
        }
    }
}
