//! What the server says of a log beside its bytes: headers of the answer to
//! `GET /v1/workflows/{id}/log`. The bytes themselves are never changed.
//!
//! | header | value |
//! |---|---|
//! | `bedplate-log-state` | `open`, `arriving`, `complete` or `incomplete`: [`LogState`] |
//! | `bedplate-log-attempt` | `TASK/ATTEMPT` that the answer is about |
//! | `bedplate-log-here` | up to where the server has the log, bytes from its beginning |
//! | `bedplate-log-bytes` | length of the whole log, bytes; absent while it is unknown |
//! | `bedplate-log-gap` | `FROM-TO`: what is left out of a log longer than its limit ([`LogGap`]); absent if nothing is |
//! | `bedplate-log-from` | where the answer begins, to a request with `tail` or `since`: [`FROM_HEADER`] |
//! | `bedplate-log-since` | to a request with `since`: the time that it names ([`times::SINCE_HEADER`]) |
//! | `bedplate-log-times` | to the same: whether the times of this log are known ([`times::TIMES_HEADER`]) |
//! | `bedplate-log-reason` | why bytes are missing, one line of printable ASCII; absent if none are |
//!
//! Offsets count what was written. The bytes of an answer are those from the offset that was asked
//! for, without those in the gap; from an offset in the gap, they begin at its end. An answer that
//! follows a log whose gap grows past the reader ends there, and the next one names the gap.
//!
//! All of them are as of the answer's beginning. The answer to a reader who does not follow has a
//! `Content-Length`, and so has that about an attempt that is over; one that follows an `open` log
//! ends when the attempt is over, and the reader then asks once more from where it is.
//! A server of before sends none of these headers.

pub mod times;

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

/// Header of the answer to a request for the last lines (`tail`) or for what was written since a
/// time (`since`): the offset of the first byte of the answer, from which a reader who is cut off
/// counts on. A server of before, which knows neither, sends the whole log and no such header.
pub const FROM_HEADER: &str = "bedplate-log-from";

/// Longest reason in a header, characters: some proxies refuse headers of more than 4 KiB together.
const MAX_REASON: usize = 400;

/// What is left out of a log that is longer than its limit: bytes from `from` up to `to`, which is
/// greater. Shown as people are told of it; [`Self::header`] is what programs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogGap {
    /// Where it begins, bytes from the log's beginning.
    pub from: u64,
    /// Offset at which the log continues, bytes.
    pub to: u64,
}

impl LogGap {
    /// The gap as in the header `bedplate-log-gap`: `FROM-TO`, offsets in bytes.
    #[must_use]
    pub fn header(&self) -> String {
        format!("{}-{}", self.from, self.to)
    }

    /// Where a reader goes on who is at `offset`.
    #[must_use]
    pub fn past(&self, offset: u64) -> u64 {
        if (self.from..self.to).contains(&offset) { self.to } else { offset }
    }
}

impl fmt::Display for LogGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.to.saturating_sub(self.from);
        match bytes >> 20 {
            0 => write!(f, "{bytes} bytes left out here")?,
            mib => write!(f, "{mib}.{} MiB left out here", ((bytes & 0xf_ffff) * 10) >> 20)?,
        }
        write!(f, " (offset {} to {})", self.from, self.to)
    }
}

/// A header that names no gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a gap is FROM-TO, offsets in bytes of which the second is the greater")]
pub struct InvalidGap;

impl FromStr for LogGap {
    type Err = InvalidGap;

    fn from_str(text: &str) -> Result<Self, InvalidGap> {
        let ends = text
            .split_once('-')
            .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        let (from, to) = ends.filter(|(from, to)| from < to).ok_or(InvalidGap)?;
        Ok(Self { from, to })
    }
}

/// Whether a log can grow, and whether all of it has arrived at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogState {
    /// The attempt is not over.
    Open,
    /// The attempt is over, and the rest of its log may still arrive from the node.
    Arriving,
    /// The attempt is over, and all that it wrote is here.
    Complete,
    /// The attempt is over, and the rest of its log will not arrive.
    Incomplete,
    /// What a later release may say. Never sent.
    Unknown,
}

impl LogState {
    const ALL: [Self; 4] = [Self::Open, Self::Arriving, Self::Complete, Self::Incomplete];

    /// Its name in the header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Arriving => "arriving",
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Unknown => "unknown",
        }
    }
}

/// What the server knows of the log of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    /// Whether it is complete.
    pub state: LogState,
    /// `FB_TASK_ID` of an array, else 0.
    pub task: u32,
    /// Number of the attempt within the task, from 1.
    pub attempt: u32,
    /// Up to where the server has it, bytes from its beginning: what is left out counts.
    pub here: u64,
    /// Its whole length, bytes: known when the attempt is over, unless its node was lost.
    pub bytes: Option<u64>,
    /// What is left out of it because it is longer than its limit.
    pub gap: Option<LogGap>,
    /// Why bytes are missing, for people.
    pub reason: Option<String>,
}

impl LogStatus {
    /// The headers that carry it, name and value, in the order of the module's table.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("bedplate-log-state", self.state.as_str().to_owned()),
            ("bedplate-log-attempt", format!("{}/{}", self.task, self.attempt)),
            ("bedplate-log-here", self.here.to_string()),
        ];
        headers.extend(self.bytes.map(|bytes| ("bedplate-log-bytes", bytes.to_string())));
        headers.extend(self.gap.map(|gap| ("bedplate-log-gap", gap.header())));
        let reason = self.reason.as_deref().map(one_ascii_line);
        headers.extend(reason.map(|reason| ("bedplate-log-reason", reason)));
        headers
    }

    /// Reads it from the headers of an answer; `None` if they are not there or not understood.
    pub fn from_headers<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let name = header("bedplate-log-state")?;
        let state = LogState::ALL.into_iter().find(|state| state.as_str() == name);
        let (task, attempt) = header("bedplate-log-attempt")?.split_once('/')?;
        let bytes = header("bedplate-log-bytes").map(str::parse).transpose().ok()?;
        let gap = header("bedplate-log-gap").map(str::parse).transpose().ok()?;
        Some(Self {
            state: state.unwrap_or(LogState::Unknown),
            task: task.parse().ok()?,
            attempt: attempt.parse().ok()?,
            here: header("bedplate-log-here")?.parse().ok()?,
            bytes,
            gap,
            reason: header("bedplate-log-reason").map(str::to_owned),
        })
    }

    /// What is missing of the log of an attempt that is over, for people; `None` if nothing is, or
    /// if the attempt is not over.
    #[must_use]
    pub fn shortfall(&self) -> Option<String> {
        let lead = match self.state {
            LogState::Open | LogState::Complete => return None,
            LogState::Arriving => "the log has not arrived whole yet",
            LogState::Incomplete => "the log is not whole",
            LogState::Unknown => "a newer server says of the log what this client doesn't know",
        };
        let mut text = match self.bytes {
            Some(bytes) => format!("{lead}: {} of {bytes} bytes are here", self.here),
            None => format!("{lead}: {} bytes are here, of an unknown number", self.here),
        };
        if let Some(reason) = &self.reason {
            // Writing to a string does not fail.
            let _ = write!(text, "; {reason}");
        }
        Some(text)
    }
}

/// A header's value is printable ASCII (RFC 9110, section 5.5): what is not becomes `?`.
fn one_ascii_line(text: &str) -> String {
    let printable = |char: char| if char == ' ' || char.is_ascii_graphic() { char } else { '?' };
    text.chars().take(MAX_REASON).map(printable).collect()
}

#[cfg(test)]
mod tests;
