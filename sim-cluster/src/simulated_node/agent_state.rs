//! What can be seen of a simulated agent: written by the agent and by the keeper of its runs.

use api::{overlay::Generation, stream::StreamId};

/// What can be seen of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentState {
    /// It has its welcome.
    pub connected: bool,
    /// Channels that were opened.
    pub connections: u32,
    /// The runtime overlays that it applied.
    pub applied: Option<Generation>,
    /// Why the server ordered a reboot; the agent has ended.
    pub reboot: Option<String>,
    /// Why the server lets it in no more; the agent has ended.
    pub refused: Option<String>,
    /// Subjects of all runs that were started, in order; a run started twice is here twice.
    pub started: Vec<String>,
    /// Runs that are held: not yet forgotten.
    pub held: usize,
    /// Jobs that ran at once, at most.
    pub most_jobs: usize,
    /// Orders to remove the volumes of a workflow.
    pub volumes_removed: u32,
    /// Streams that it was told of.
    pub streams: Vec<StreamId>,
    /// Streams that are open.
    pub open_streams: u32,
}
