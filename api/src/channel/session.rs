//! One end's half of a session: numbering, acknowledging, resending. Pure, and the same for both
//! ends; the agent and the server own one each.
//!
//! A session outlives connections. What was sent is kept until the peer acknowledges it; after a
//! break both sides say in their hellos how far they received, and resend the rest. What arrives
//! twice is dropped.
//!
//! ```text
//!   send ──► unacknowledged ──► (connection) ──► receive ──► message, once and in order ──► done
//!                  ▲                                                                         │
//!                  └──────────────────────────── acknowledge ◄──────────────────────────────┘
//! ```

use std::collections::VecDeque;

use super::{Capabilities, Capability, Frame, MAX_UNACKNOWLEDGED};

/// A message of either side.
pub trait Message: Clone {
    /// What the other side must have offered before this may be sent to it. `None`: every
    /// supported version knows the message.
    fn needs(&self) -> Option<Capability>;
}

/// The peer broke the rules of the session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A frame is missing. A new connection that resumes the session brings it again.
    #[error("frame {found} came where {expected} was expected")]
    Gap {
        /// Number of the next frame in order.
        expected: u64,
        /// Number of the frame that came.
        found: u64,
    },
    /// The peer is in another session. Only a new one helps.
    #[error("frame {acknowledged} was acknowledged, but only {sent} were sent")]
    OtherSession {
        /// Number of the last message that the peer acknowledges.
        acknowledged: u64,
        /// Number of the last message that was sent.
        sent: u64,
    },
    /// A message with the number of a hello.
    #[error("a message without a number came after the hello")]
    Unnumbered,
}

/// Why a message was not sent. The session is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer acknowledges nothing: the connection is of no use.
    #[error("{MAX_UNACKNOWLEDGED} frames are not acknowledged")]
    Full,
    /// The peer did not offer what the message needs.
    #[error("the other side doesn't know {:?}: it is of an older release", .0.name())]
    NotOffered(Capability),
}

/// Messages `Out` go out, messages of the peer come in.
#[derive(Debug, Clone)]
pub struct Session<Out> {
    /// Number of the last message that was received in order and dealt with.
    received: u64,
    /// Number of the last message sent.
    sent: u64,
    /// Sent and not acknowledged, oldest first; numbers without a gap up to `sent`.
    unacknowledged: VecDeque<(u64, Out)>,
    /// Capabilities that both sides have agreed on.
    agreed: Capabilities,
}

impl<Out> Default for Session<Out> {
    fn default() -> Self {
        Self {
            received: 0,
            sent: 0,
            unacknowledged: VecDeque::new(),
            agreed: Capabilities::default(),
        }
    }
}

impl<Out: Message> Session<Out> {
    /// Sets what both sides know. Nothing that needs a capability is sent before.
    pub fn agree(&mut self, capabilities: Capabilities) {
        self.agreed = capabilities;
    }

    /// Whether both sides know it.
    #[must_use]
    pub fn has_agreed(&self, capability: Capability) -> bool {
        self.agreed.has(capability)
    }

    /// Numbers a message and keeps it until it is acknowledged.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&mut self, message: Out) -> Result<Frame<Out>, SendError> {
        if let Some(needed) = message.needs().filter(|needed| !self.agreed.has(*needed)) {
            return Err(SendError::NotOffered(needed));
        }
        if self.unacknowledged.len() >= MAX_UNACKNOWLEDGED {
            return Err(SendError::Full);
        }
        self.sent += 1;
        self.unacknowledged.push_back((self.sent, message.clone()));
        Ok(Frame { seq: self.sent, ack: self.received, message: Some(message) })
    }

    /// Takes a frame that came after the hellos. `Some` if its message is new: deal with it, then
    /// call [`Self::done`]. A frame that was seen before and a bare acknowledgement give `None`.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn receive<In>(&mut self, frame: Frame<In>) -> Result<Option<In>, SessionError> {
        self.acknowledge(frame.ack)?;
        let Some(message) = frame.message else { return Ok(None) };
        let expected = self.received + 1;
        match frame.seq {
            0 => Err(SessionError::Unnumbered),
            seq if seq < expected => Ok(None),
            seq if seq > expected => Err(SessionError::Gap { expected, found: seq }),
            _ => Ok(Some(message)),
        }
    }

    /// The message that [`Self::receive`] gave was dealt with: it may be acknowledged. Without
    /// this the peer resends it on the next connection.
    pub fn done(&mut self) {
        self.received += 1;
    }

    /// The peer has everything up to this number. An old number changes nothing.
    ///
    /// # Errors
    /// [`SessionError::OtherSession`].
    pub fn acknowledge(&mut self, ack: u64) -> Result<(), SessionError> {
        if ack > self.sent {
            return Err(SessionError::OtherSession { acknowledged: ack, sent: self.sent });
        }
        while self.unacknowledged.front().is_some_and(|(seq, _)| *seq <= ack) {
            self.unacknowledged.pop_front();
        }
        Ok(())
    }

    /// Number of the last message that was dealt with: the `ack` of every frame sent.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// A frame that only acknowledges.
    #[must_use]
    pub fn acknowledgement(&self) -> Frame<Out> {
        Frame { seq: 0, ack: self.received, message: None }
    }

    /// What the peer has not acknowledged: resent when the session is resumed.
    pub fn unacknowledged(&self) -> impl Iterator<Item = Frame<Out>> {
        let ack = self.received;
        self.unacknowledged.iter().map(move |(seq, message)| Frame {
            seq: *seq,
            ack,
            message: Some(message.clone()),
        })
    }

    /// `true` if the peer has everything.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// Drops what waits to be acknowledged. The session can't be resumed after it.
    pub fn abandon(&mut self) {
        self.unacknowledged.clear();
    }

    /// Begins a new session with a peer that doesn't know this one, or no longer. What it had not
    /// acknowledged gets new numbers, so it may receive a message twice; messages that `keep`
    /// refuses are dropped, and so are those that the new peer didn't offer to understand.
    pub fn restart(&mut self, agreed: Capabilities, keep: impl Fn(&Out) -> bool) {
        let waiting = std::mem::take(self).unacknowledged;
        self.agreed = agreed;
        for (_, message) in waiting.into_iter().filter(|(_, message)| keep(message)) {
            // As many as were kept before, so there is room; what isn't offered is dropped.
            let _ = self.send(message);
        }
    }
}

#[cfg(test)]
mod tests;
