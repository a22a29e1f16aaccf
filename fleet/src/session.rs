//! The server's side of one session with an agent: numbers, acknowledgements, resending. Pure; the protocol is told
//! in [`api::channel`].

use std::collections::VecDeque;

use api::channel::{Frame, FromAgent, FromServer, MAX_UNACKNOWLEDGED};

/// What must hold over all connections of one session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Session {
    /// Highest frame number of the agent that was dealt with.
    received: u64,
    /// Highest frame number used.
    sent: u64,
    /// Both sides said hello.
    begun: bool,
    /// Sent and not acknowledged, oldest first.
    unacknowledged: VecDeque<Frame<FromServer>>,
}

/// A frame that breaks the protocol. The connection is closed with these words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("frame {found} came where {expected} should come")]
    Gap { expected: u64, found: u64 },
    #[error("frame {acknowledged} was acknowledged, only {sent} were sent")]
    Acknowledged { acknowledged: u64, sent: u64 },
    #[error("a message without a number")]
    Unnumbered,
    #[error("{MAX_UNACKNOWLEDGED} frames are not acknowledged")]
    Unacknowledged,
}

impl Session {
    /// Both sides have said hello: the session may be resumed.
    pub(crate) fn begin(&mut self) {
        self.begun = true;
    }

    /// It may not be resumed.
    pub(crate) fn end(&mut self) {
        self.begun = false;
        self.unacknowledged.clear();
    }

    /// May this session be resumed?
    pub(crate) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Highest frame number of the agent that was dealt with: the `ack` of every frame sent.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Frames that a resumed session sends again.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = &Frame<FromServer>> {
        self.unacknowledged.iter()
    }

    /// Numbers a message and keeps it until it is acknowledged.
    pub(crate) fn send(&mut self, message: FromServer) -> Result<Frame<FromServer>, SessionError> {
        if self.unacknowledged.len() >= MAX_UNACKNOWLEDGED {
            return Err(SessionError::Unacknowledged);
        }
        self.sent += 1;
        let frame = Frame { seq: self.sent, ack: self.received, message: Some(message) };
        self.unacknowledged.push_back(frame.clone());
        Ok(frame)
    }

    /// The agent has everything up to `ack`.
    pub(crate) fn acknowledge(&mut self, ack: u64) -> Result<(), SessionError> {
        if ack > self.sent {
            return Err(SessionError::Acknowledged { acknowledged: ack, sent: self.sent });
        }
        while self.unacknowledged.front().is_some_and(|frame| frame.seq <= ack) {
            self.unacknowledged.pop_front();
        }
        Ok(())
    }

    /// Takes a frame. `Some` if its message is new: deal with it, then call [`Self::done`]. A frame seen before and a
    /// bare acknowledgement give `None`.
    pub(crate) fn receive(&mut self, frame: Frame<FromAgent>) -> Result<Option<FromAgent>, SessionError> {
        self.acknowledge(frame.ack)?;
        let Some(message) = frame.message else {
            return Ok(None);
        };
        let expected = self.received + 1;
        match frame.seq {
            0 => Err(SessionError::Unnumbered),
            seq if seq < expected => Ok(None),
            seq if seq > expected => Err(SessionError::Gap { expected, found: seq }),
            _ => Ok(Some(message)),
        }
    }

    /// The message that [`Self::receive`] gave was dealt with: it may be acknowledged.
    pub(crate) fn done(&mut self) {
        self.received += 1;
    }
}

#[cfg(test)]
#[path = "session/tests.rs"]
mod tests;
