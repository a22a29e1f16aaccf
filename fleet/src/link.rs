//! A node's link to its agent: the session, which outlives connections, and the connection if there
//! is one. Nothing of it is on disk, so what passes over it takes no part in the writing of nodes
//! (`registry.rs`).

use std::{net::SocketAddr, sync::Arc};

use api::{
    channel::{Agreement, Capability, Frame, FromServer, SendError, Session, SessionError},
    ids::Timestamp,
    overlay::Generation,
    run::VolumeUse,
};

use crate::connection::{Connection, Outgoing};

/// Why a message was not sent to an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotSent {
    /// There is no connection.
    #[error("it is not connected")]
    NotConnected,
    /// It acknowledges nothing, or reads nothing. The connection is being closed.
    #[error("it takes no more messages")]
    Stalled,
    /// It is of a release that doesn't know the message.
    #[error(transparent)]
    NotOffered(SendError),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Link {
    session: Session<FromServer>,
    /// A session has begun, and nothing of it was dropped.
    resumable: bool,
    /// The agent sent something in this session. Until then it may not even know that it has begun:
    /// its connection may have broken before the welcome, and it would never list its runs.
    joined: bool,
    connection: Option<Connection>,
    /// Held by the connection whose frames are dealt with: there is only one at a time.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    /// Runtime overlays that the node should have.
    wanted: Option<Generation>,
    /// It is not known who the node is, and overlays have secrets.
    withheld: bool,
    /// What the connected agent said last of volumes.
    volumes: Option<VolumeUse>,
}

impl Link {
    /// A link without a session. `withheld`: see [`Self::withhold_overlays`].
    pub(crate) fn new(withheld: bool) -> Self {
        Self { withheld, ..Self::default() }
    }

    /// Whether the agent is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether the connected agent and this server have agreed on a capability; `None` while it is
    /// away: another one may come back.
    pub(crate) fn knows(&self, capability: Capability) -> Option<bool> {
        self.is_connected().then(|| self.session.has_agreed(capability))
    }

    /// Which enrolment of the node the connected agent is of.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.connection.as_ref().map(|connection| connection.epoch)
    }

    /// Ends the connection, if there is one, with a reason for the agent's log.
    pub(crate) fn close(&self, why: &str) {
        if let Some(connection) = &self.connection {
            connection.close(why.to_owned());
        }
    }

    /// Takes a new connection, whose agent said hello. It goes on with the session if the agent
    /// does (`same_agent`) and acknowledges what was sent in it; else both begin a new one. Returns
    /// whether the session goes on.
    pub(crate) fn connect(
        &mut self,
        connection: Connection,
        agreement: &Agreement,
        same_agent: bool,
        ack: u64,
    ) -> bool {
        let goes_on = same_agent && self.resumable && self.joined;
        let resumed = goes_on && self.session.acknowledge(ack).is_ok();
        if !resumed {
            self.session = Session::default();
            self.joined = false;
        }
        self.session.agree(agreement.capabilities.clone());
        self.resumable = true;
        self.connection = Some(connection);
        resumed
    }

    /// What volumes hold on the node, as its connected agent said it last.
    pub(crate) fn volumes(&self) -> Option<VolumeUse> {
        self.volumes.filter(|_| self.is_connected())
    }

    /// The agent said what volumes hold.
    pub(crate) fn volumes_told(&mut self, volumes: Option<VolumeUse>) {
        self.volumes = volumes;
    }

    /// The connection has ended. The session waits for the agent.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
        self.volumes = None;
    }

    /// Highest frame number of the agent that was dealt with: the `ack` of every frame sent.
    pub(crate) fn received(&self) -> u64 {
        self.session.received()
    }

    /// What a resumed session resends.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = Frame<FromServer>> {
        self.session.unacknowledged()
    }

    /// Takes a frame of the agent; see [`Session::receive`].
    pub(crate) fn receive<M>(&mut self, frame: Frame<M>) -> Result<Option<M>, SessionError> {
        let received = self.session.receive(frame)?;
        self.joined = true;
        Ok(received)
    }

    /// The message of the last frame was dealt with.
    pub(crate) fn done(&mut self) {
        self.session.done();
    }

    /// Sends a message to the connected agent.
    pub(crate) fn send(&mut self, message: FromServer) -> Result<(), NotSent> {
        let Some(connection) = &self.connection else { return Err(NotSent::NotConnected) };
        let sent = match self.session.send(message) {
            Ok(frame) => connection.outgoing.try_send(Outgoing::Frame(frame)).is_ok(),
            Err(error @ SendError::NotOffered(_)) => return Err(NotSent::NotOffered(error)),
            Err(SendError::Full) => {
                self.abandon();
                false
            }
        };
        if sent {
            return Ok(());
        }
        self.close("the agent takes no more messages");
        Err(NotSent::Stalled)
    }

    /// As [`Self::send`]; for an agent that is away the message waits for its return. If the
    /// session goes on, it is sent then; if another begins, the agent reports at once what it has,
    /// and is sent what it lacks.
    pub(crate) fn enqueue(&mut self, message: FromServer) {
        let sent = match (&self.connection, self.resumable) {
            (Some(_), _) => self.send(message),
            (None, true) => match self.session.send(message) {
                Ok(_) => Ok(()),
                Err(error @ SendError::NotOffered(_)) => Err(NotSent::NotOffered(error)),
                Err(SendError::Full) => {
                    self.abandon();
                    Err(NotSent::Stalled)
                }
            },
            (None, false) => Err(NotSent::NotConnected),
        };
        if let Err(error @ NotSent::NotOffered(_)) = sent {
            tracing::warn!("a message was not sent to an agent: {error}");
        }
    }

    /// What can't be resent must not be missing from a session that goes on: there will be another.
    fn abandon(&mut self) {
        self.resumable = false;
        self.session.abandon();
    }

    /// Tells the connected agent where the servers are, if it can keep that; a
    /// session is told once.
    pub(crate) fn send_servers(&mut self, fleet_servers: &[SocketAddr]) {
        if !fleet_servers.is_empty() {
            // An agent of before keeps those that it booted with. One that takes nothing is told
            // again when it is back.
            let _ = self.send(FromServer::Servers { fleet_servers: fleet_servers.to_vec() });
        }
    }

    /// Asks the connected agent for a sign of life.
    pub(crate) fn probe(&self) {
        if let Some(connection) = &self.connection {
            // A full queue has frames in it, whose acknowledgements are signs of life too.
            let _ = connection.outgoing.try_send(Outgoing::Probe);
        }
    }

    /// Sets which runtime overlays the node should have.
    pub(crate) fn want_overlays(&mut self, generation: Generation) {
        self.wanted = Some(generation);
        self.push_overlays();
    }

    /// Tells the agent nothing of overlays, or tells it again.
    pub(crate) fn withhold_overlays(&mut self, withheld: bool) {
        if std::mem::replace(&mut self.withheld, withheld) && !withheld {
            self.push_overlays();
        }
    }

    /// Sends the agent which runtime overlays it should have, unless it has them or was sent it.
    pub(crate) fn push_overlays(&mut self) {
        if self.withheld {
            return;
        }
        let (Some(wanted), Some(connection)) = (self.wanted, &self.connection) else { return };
        if connection.told.or(connection.applied) == Some(wanted) {
            return;
        }
        let sent = self.send(FromServer::Overlays { generation: wanted });
        if let (Ok(()), Some(connection)) = (sent, &mut self.connection) {
            connection.told = Some(wanted);
        }
    }

    /// The agent has applied overlays.
    pub(crate) fn overlays_applied(&mut self, generation: Generation) {
        if let Some(connection) = &mut self.connection {
            connection.applied = Some(generation);
        }
    }

    /// The agent could not apply overlays: it is sent them again at this time.
    pub(crate) fn retry_overlays(&mut self, at: Timestamp) {
        if let Some(connection) = &mut self.connection {
            connection.tell_again = Some(at);
        }
    }

    /// Sends overlays again that could not be applied, if it is time.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        let due = |connection: &Connection| connection.tell_again.is_some_and(|at| now >= at);
        if let Some(connection) = self.connection.as_mut().filter(|connection| due(connection)) {
            connection.tell_again = None;
            connection.told = None;
            self.push_overlays();
        }
    }
}

#[cfg(test)]
impl Link {
    /// Both sides have said hello, and the agent is away.
    pub(crate) fn begin(&mut self) {
        self.resumable = true;
    }

    /// Whether the session may be resumed.
    pub(crate) fn is_resumable(&self) -> bool {
        self.resumable
    }
}
