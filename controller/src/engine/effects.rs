//! What is to be done after a verb of the engine, and the messages to nodes that are part of it.

use std::collections::BTreeSet;

use api::{
    channel::FromServer,
    ids::NodeId,
    run::{RunId, WorkflowId},
    workflow::WorkflowEvent,
};
use document::plan::StageId;

use crate::record::Write;

/// Time that a run gets between SIGTERM and SIGKILL, seconds.
const GRACE_SECONDS: u32 = 10;

/// What is to be done after a verb, in this order: [`Self::writes`] in one
/// transaction, then the rest.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) writes: Vec<Write>,
    /// Messages to nodes.
    pub(crate) messages: Vec<(NodeId, FromServer)>,
    /// Images to fetch, by workflow and stage: `(workflow, stage, reference)`.
    pub(crate) fetch: Vec<(WorkflowId, StageId, String)>,
    /// Ended runs whose logs are to be synced, then forgotten by their node. Without a workflow:
    /// forgotten here, perhaps by a server that was killed before it synced the log.
    pub(crate) forget: Vec<(NodeId, Option<WorkflowId>, RunId)>,
    /// Workflows that look different now.
    pub(crate) changed: BTreeSet<WorkflowId>,
}

impl Effects {
    /// Sends a node a message.
    pub(super) fn send(&mut self, node: NodeId, message: FromServer) {
        self.messages.push((node, message));
    }

    /// Adds a line to a workflow's history.
    pub(super) fn history(&mut self, workflow: WorkflowId, event: WorkflowEvent) {
        self.writes.push(Write::Event(workflow, Box::new(event)));
    }

    /// Adds what comes after.
    pub(super) fn append(&mut self, more: Self) {
        self.writes.extend(more.writes);
        self.messages.extend(more.messages);
        self.fetch.extend(more.fetch);
        self.forget.extend(more.forget);
        self.changed.extend(more.changed);
    }
}

/// The message that ends a run.
pub(super) fn stop_run(run: RunId, why: &str) -> FromServer {
    FromServer::StopRun { run, grace_seconds: GRACE_SECONDS, why: why.to_owned() }
}

/// The message that pauses a run, or resumes it.
pub(super) fn pause_run(run: RunId, paused: bool) -> FromServer {
    if paused { FromServer::PauseRun { run } } else { FromServer::ResumeRun { run } }
}
