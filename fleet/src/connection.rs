//! What the rest of fleet holds of a connected agent: the ways to its connection's task
//! (`port/channel.rs`).

use api::{
    channel::{Frame, FromServer},
    ids::Timestamp,
    overlay::Generation,
};
use tokio::sync::{mpsc, watch};

/// Messages on the way to one agent. As many as may be unacknowledged.
pub(crate) const MAX_OUTGOING: usize = api::channel::MAX_UNACKNOWLEDGED;

/// What the connection's task sends.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A numbered message.
    Frame(Frame<FromServer>),
    /// A ping, whose answer must come soon.
    Probe,
}

/// A connected agent.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Which enrolment of the node its certificate is of.
    pub(crate) epoch: u64,
    pub(crate) outgoing: mpsc::Sender<Outgoing>,
    /// Set once, to the reason, when the connection must end.
    pub(crate) closing: watch::Sender<Option<String>>,
    /// Runtime overlays that the agent says it has.
    pub(crate) applied: Option<Generation>,
    /// Runtime overlays that it was told last over this connection.
    pub(crate) told: Option<Generation>,
    /// When to tell it again after it failed to apply them.
    pub(crate) tell_again: Option<Timestamp>,
}

impl Connection {
    /// Ends the connection, with a reason for the agent's log.
    pub(crate) fn close(&self, why: String) {
        self.closing.send_if_modified(|reason| {
            let first = reason.is_none();
            if first {
                *reason = Some(why);
            }
            first
        });
    }
}
