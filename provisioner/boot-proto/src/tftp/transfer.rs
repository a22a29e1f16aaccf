//! One transfer of one file to one client.
//!
//! | state | ACK in the window | ACK of what is acknowledged already | ERROR | timeout |
//! |---|---|---|---|---|
//! | options offered | 0: first window | – | ended | OACK again |
//! | sending | next window, or done at the last block | window > 1: the window again (a block was lost, RFC 7440 section 4) | ended | window again |
//! | ended | – | – | – | – |
//!
//! With a window of one block a repeated ACK is ignored, or each duplicate in the network would
//! double all later packets (the sorcerer's apprentice, RFC 1123 section 4.2.3.1). Blocks are
//! counted from 1 without limit here; on the wire the count is taken modulo 65,536.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::packet::{Answer, ReadRequest};

/// Times a packet is sent again before the client counts as gone.
const MAX_RETRIES: u32 = 5;

/// First wait for an answer where the client named none; doubled with each retry.
pub(super) const FIRST_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest wait for an answer: a client that is still there has asked again by then.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(4);

/// A client that was silent for so long is gone, whatever interval of retransmissions it asked for:
/// a transfer without a client keeps its socket no longer.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Reports of a loss at the same block that are answered; then only the timer repeats the window.
/// Each costs a packet of the client and up to a whole window of ours.
const MAX_REPORTED_LOSSES: u32 = 32;

/// A second report of the same loss within this time is an echo of the first: the client answers
/// each block behind the gap. Some round trips of a local network.
const LOSS_ECHO: Duration = Duration::from_millis(5);

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The client has the whole file.
    Complete,
    /// The client gave up; firmware does this after it has asked for the size.
    Aborted {
        /// Its error code.
        code: u16,
        /// Its words.
        message: String,
    },
    /// The client stopped answering.
    Lost,
}

/// What the shell is to send to the client now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// This packet.
    Packet(Vec<u8>),
    /// These blocks, one DATA packet each.
    Blocks(Range<u64>),
}

/// State of a transfer.
#[derive(Debug)]
pub struct Transfer {
    size: u64,
    block_bytes: u64,
    window: u64,
    /// Number of the last block, which is shorter than the others.
    last: u64,
    /// The client has all blocks up to this one.
    acknowledged: u64,
    /// The last block that was sent.
    sent: u64,
    /// Not yet confirmed options.
    oack: Option<Vec<u8>>,
    /// The client confirmed its options.
    is_confirmed: bool,
    pending: Option<Transmit>,
    fixed_timeout: Option<Duration>,
    retries: u32,
    deadline: Instant,
    /// When the window was last repeated because of a reported loss.
    repeated: Option<Instant>,
    /// Windows that were repeated because of a reported loss since the last progress.
    reported_losses: u32,
    /// When the client last acknowledged something new, or the transfer began.
    progressed: Instant,
    outcome: Option<Outcome>,
}

impl Transfer {
    /// Begins to send a file of `size` bytes.
    #[must_use]
    pub fn new(request: &ReadRequest, size: u64, now: Instant) -> Self {
        let block_bytes = u64::from(request.block_bytes);
        let mut transfer = Self {
            size,
            block_bytes,
            window: u64::from(request.window_blocks),
            last: size / block_bytes + 1,
            acknowledged: 0,
            sent: 0,
            oack: request.oack(size),
            is_confirmed: false,
            pending: None,
            fixed_timeout: request
                .timeout_seconds
                .map(|seconds| Duration::from_secs(u64::from(seconds))),
            retries: 0,
            deadline: now,
            repeated: None,
            reported_losses: 0,
            progressed: now,
            outcome: None,
        };
        transfer.transmit(now);
        transfer
    }

    /// Takes a packet of the client.
    pub fn handle_packet(&mut self, packet: &[u8], now: Instant) {
        if self.outcome.is_some() {
            return;
        }
        match Answer::parse(packet) {
            Some(Answer::Ack(block)) => self.handle_ack(block, now),
            Some(Answer::Error { code, message }) => self.end(Outcome::Aborted { code, message }),
            None => {}
        }
    }

    /// Sends again what was not answered in time, or gives up.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.outcome.is_some() || now < self.deadline {
            return;
        }
        if self.retries == MAX_RETRIES || now >= self.progressed + LONGEST_SILENCE {
            self.end(Outcome::Lost);
            return;
        }
        self.retries += 1;
        self.transmit(now);
    }

    /// What to send now, if anything.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.pending.take()
    }

    /// When [`Self::handle_timeout`] wants to be called; `None` once the transfer has ended.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.outcome.is_none().then_some(self.deadline)
    }

    /// How it ended; `None` while it goes on.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// When the client last acknowledged something new; `None` if it never did.
    #[must_use]
    pub fn progressed(&self) -> Option<Instant> {
        (self.acknowledged > 0 || self.is_confirmed).then_some(self.progressed)
    }

    /// Bytes that the client has.
    #[must_use]
    pub fn acknowledged_bytes(&self) -> u64 {
        (self.acknowledged * self.block_bytes).min(self.size)
    }

    /// Where the data of a block lies in the file.
    #[must_use]
    pub fn bytes_of(&self, block: u64) -> Range<u64> {
        let start = (block - 1) * self.block_bytes;
        start.min(self.size)..(start + self.block_bytes).min(self.size)
    }

    /// A block's number on the wire.
    #[must_use]
    pub fn wire_number(block: u64) -> u16 {
        let [.., high, low] = block.to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    fn handle_ack(&mut self, number: u16, now: Instant) {
        if self.oack.is_some() {
            if number == 0 {
                (self.oack, self.is_confirmed) = (None, true);
                self.advance(0, now);
            }
            return;
        }
        let ahead = u64::from(number.wrapping_sub(Self::wire_number(self.acknowledged)));
        if ahead == 0 {
            let echo = self.repeated.is_some_and(|repeated| now < repeated + LOSS_ECHO);
            if self.window > 1 && !echo && self.reported_losses < MAX_REPORTED_LOSSES {
                self.reported_losses += 1;
                self.repeated = Some(now);
                self.transmit(now);
            }
        } else if self.acknowledged + ahead <= self.sent {
            self.advance(self.acknowledged + ahead, now);
        }
    }

    fn advance(&mut self, acknowledged: u64, now: Instant) {
        self.acknowledged = acknowledged;
        self.retries = 0;
        self.repeated = None;
        self.reported_losses = 0;
        self.progressed = now;
        if acknowledged == self.last {
            self.end(Outcome::Complete);
        } else {
            self.transmit(now);
        }
    }

    /// Puts the window behind the acknowledged block, or the OACK, in place for sending.
    fn transmit(&mut self, now: Instant) {
        self.pending = Some(match &self.oack {
            Some(oack) => Transmit::Packet(oack.clone()),
            None => {
                let first = self.acknowledged + 1;
                let end = self.last.min(self.acknowledged + self.window);
                self.sent = self.sent.max(end);
                Transmit::Blocks(first..end + 1)
            }
        });
        self.deadline = now
            + self
                .fixed_timeout
                .unwrap_or((FIRST_TIMEOUT * 2_u32.pow(self.retries)).min(LONGEST_TIMEOUT));
    }

    fn end(&mut self, outcome: Outcome) {
        self.pending = None;
        self.outcome = Some(outcome);
    }
}

#[cfg(test)]
mod tests;
