//! One side's half of a session of the nodes' channel ([`api::channel`]): numbering, acknowledging, resending. Pure.
//!
//! A session outlives connections. What is sent is kept until the peer says that it has it; after a cut both sides say
//! in their hellos how far they heard, and send the rest again. What arrives twice is dropped.
//!
//! ```text
//!   send ──► unacknowledged ──► (connection) ──► receive ──► message, once and in order
//!                  ▲                                 │
//!                  └────────── acknowledged ◄────────┘
//! ```

use std::collections::VecDeque;

use api::channel::{Frame, MAX_UNACKNOWLEDGED};

/// The peer broke the rules of the channel, or is too slow to be of use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Nothing was acknowledged for too long. The connection is of no use.
    #[error("the server acknowledges nothing: {MAX_UNACKNOWLEDGED} messages wait")]
    Full,
    /// A frame is missing. A new connection that resumes brings it again.
    #[error("message {got} came where {expected} was due")]
    Gap {
        /// The number that was due.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// The peer speaks of another session. Only a new one helps.
    #[error("the server acknowledges message {acknowledged} of {sent} sent")]
    Stranger {
        /// What the peer acknowledges.
        acknowledged: u64,
        /// What was sent.
        sent: u64,
    },
    /// A message that is numbered as a hello.
    #[error("a message without a number came after the hello")]
    Unnumbered,
}

/// Messages `S` go out, messages of the peer come in.
#[derive(Debug, Clone)]
pub struct Session<S> {
    /// Sent and not acknowledged, oldest first; numbers without a gap up to `sent`.
    unacknowledged: VecDeque<(u64, S)>,
    /// Number of the last message sent.
    sent: u64,
    /// Number of the last message received in order.
    received: u64,
}

impl<S> Default for Session<S> {
    fn default() -> Self {
        Self { unacknowledged: VecDeque::new(), sent: 0, received: 0 }
    }
}

impl<S: Clone> Session<S> {
    /// Numbers a message and keeps it until it is acknowledged.
    ///
    /// # Errors
    /// [`SessionError::Full`].
    pub fn send(&mut self, message: S) -> Result<Frame<S>, SessionError> {
        if self.unacknowledged.len() >= MAX_UNACKNOWLEDGED {
            return Err(SessionError::Full);
        }
        self.sent += 1;
        self.unacknowledged.push_back((self.sent, message.clone()));
        Ok(Frame { seq: self.sent, ack: self.received, message: Some(message) })
    }

    /// Takes a frame that came after the hellos. The message, if it is a new one.
    ///
    /// # Errors
    /// All but [`SessionError::Full`].
    pub fn receive<R>(&mut self, frame: Frame<R>) -> Result<Option<R>, SessionError> {
        self.acknowledged(frame.ack)?;
        let Some(message) = frame.message else { return Ok(None) };
        match frame.seq {
            0 => Err(SessionError::Unnumbered),
            seen if seen <= self.received => Ok(None),
            next if next == self.received + 1 => {
                self.received = next;
                Ok(Some(message))
            }
            got => Err(SessionError::Gap { expected: self.received + 1, got }),
        }
    }

    /// The peer has everything up to this number. An old number changes nothing.
    ///
    /// # Errors
    /// [`SessionError::Stranger`].
    pub fn acknowledged(&mut self, number: u64) -> Result<(), SessionError> {
        if number > self.sent {
            return Err(SessionError::Stranger { acknowledged: number, sent: self.sent });
        }
        while self.unacknowledged.front().is_some_and(|(seq, _)| *seq <= number) {
            self.unacknowledged.pop_front();
        }
        Ok(())
    }

    /// Number of the last message received in order: what the own hello says.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// A frame that only acknowledges.
    #[must_use]
    pub fn acknowledgement(&self) -> Frame<S> {
        Frame { seq: 0, ack: self.received, message: None }
    }

    /// What the peer has not acknowledged, to be sent again after a reconnect.
    pub fn unacknowledged(&self) -> impl Iterator<Item = Frame<S>> {
        let ack = self.received;
        self.unacknowledged.iter().map(move |(seq, message)| Frame {
            seq: *seq,
            ack,
            message: Some(message.clone()),
        })
    }

    /// `true` if the peer has everything.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// Begins a new session because the peer does not know this one. What it had not acknowledged is numbered anew, so
    /// it may get a message twice; those that `keep` refuses are dropped.
    pub fn restart(&mut self, keep: impl Fn(&S) -> bool) {
        let waiting = std::mem::take(self).unacknowledged;
        for (_, message) in waiting.into_iter().filter(|(_, message)| keep(message)) {
            self.sent += 1;
            self.unacknowledged.push_back((self.sent, message));
        }
    }
}

#[cfg(test)]
#[path = "session/tests.rs"]
mod tests;
