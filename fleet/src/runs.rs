//! Runs pass through the fleet between the agents' channels (`port/channel.rs`) and the controller.

use std::sync::{Arc, PoisonError};

use api::{
    channel::{Capability, FromServer},
    ids::NodeId,
    run::{RunId, RunNews, RunReport, RunUsage, WorkflowId},
};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::Fleet;

/// Messages about runs that wait for a slow listener before the agents' connections wait.
const MAX_RUN_MESSAGES: usize = 1_024;

/// Answers about usage that wait for a slow listener before it misses some.
pub(crate) const MAX_USAGES: usize = 256;

/// What an agent says of its runs. The agent's frame is acknowledged when `done` is
/// used, or dropped.
#[derive(Debug)]
pub struct RunMessage {
    /// Node whose agent sent it.
    pub node: NodeId,
    /// Some of its runs.
    pub runs: Vec<RunReport>,
    /// What it tells of one that goes on.
    pub news: Option<(RunId, RunNews)>,
    /// Those of a list that are paused on the node.
    pub paused: Vec<RunId>,
    /// Workflows that have volumes on the node; only in the last message of a list.
    pub volumes: Vec<WorkflowId>,
    /// `true` if no run is on the node but those told in this session up to now; only in the last
    /// message of a list.
    pub complete: bool,
    /// `true` if the list begins with a session; `false` if a run went forward.
    pub list: bool,
    /// To be used when what it says is on disk.
    pub done: oneshot::Sender<()>,
}

/// What an agent tells of the use of its runs.
#[derive(Debug)]
pub struct NodeUsage {
    /// Node whose agent sent it.
    pub node: NodeId,
    /// Use of each of its runs that is going on.
    pub runs: Vec<RunUsage>,
}

impl Fleet {
    /// What agents say of their runs from now on, for the one who gives them runs. A second call
    /// takes the place of the first. Until there is one, it is acknowledged and dropped.
    #[must_use]
    pub fn run_messages(&self) -> mpsc::Receiver<RunMessage> {
        let (sender, receiver) = mpsc::channel(MAX_RUN_MESSAGES);
        *self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Puts a message on its way to a connected agent. `false` if it is not connected or takes
    /// nothing: say it again when [`Self::online`] tells that it is back. A message may come twice,
    /// or never, if the connection ends.
    #[must_use]
    pub fn try_send(&self, id: NodeId, message: FromServer) -> bool {
        self.registry().link(id, |link| link.send(message)).is_some_and(|sent| sent.is_ok())
    }

    /// Leaves a message for an agent, which gets it now or when its session goes on, perhaps twice.
    /// If another session begins before it has the message, it never comes, and the agent lists its
    /// runs ([`api::channel::FromAgent::Runs`]).
    pub fn enqueue(&self, id: NodeId, message: FromServer) {
        // A node that was forgotten in this moment needs no message.
        let _ = self.registry().link(id, |link| link.enqueue(message));
    }

    /// The boot that a node's agent runs in (`/proc/sys/kernel/random/boot_id`), if it
    /// ever was connected.
    #[must_use]
    pub fn boot_of(&self, id: NodeId) -> Option<String> {
        self.read(id, |entry| entry.life.agent.as_ref().map(|agent| agent.boot_id.clone()))
            .ok()
            .flatten()
    }

    /// Whether a node's connected agent and this server have agreed on a capability; `None` while
    /// it is not connected.
    #[must_use]
    pub fn agent_knows(&self, id: NodeId, capability: Capability) -> Option<bool> {
        self.registry().link(id, |link| link.knows(capability)).flatten()
    }

    /// What agents tell of the use of their runs from now on, when they are asked
    /// ([`FromServer::SendUsage`]).
    #[must_use]
    pub fn usages(&self) -> broadcast::Receiver<Arc<NodeUsage>> {
        self.inner.usages.subscribe()
    }

    pub(crate) fn handle_usage(&self, node: NodeId, runs: Vec<RunUsage>) {
        // Who asked may be gone.
        let _ = self.inner.usages.send(Arc::new(NodeUsage { node, runs }));
    }

    /// Hands on what an agent says of a run, and waits until it is dealt with.
    pub(crate) async fn handle_run_message(
        &self,
        node: NodeId,
        runs: Vec<RunReport>,
        news: Option<(RunId, RunNews)>,
    ) {
        let (paused, volumes, complete, list) = (Vec::new(), Vec::new(), false, false);
        self.handle_run_list(|done| RunMessage {
            node,
            runs,
            news,
            paused,
            volumes,
            complete,
            list,
            done,
        })
        .await;
    }

    /// Hands what an agent says of its runs on, and waits until it is dealt with.
    pub(crate) async fn handle_run_list(
        &self,
        message: impl FnOnce(oneshot::Sender<()>) -> RunMessage,
    ) {
        let listener = self.inner.runs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(listener) = listener else { return };
        let (done, dealt_with) = oneshot::channel();
        if listener.send(message(done)).await.is_ok() {
            // Dropped: whoever listened is gone; the agent will tell the next one.
            let _ = dealt_with.await;
        }
    }
}
