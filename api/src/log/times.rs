//! When the bytes of a log were written: *time marks*, which are kept and travel beside them.
//!
//! A node sends the marks of a piece of a log with the piece ([`crate::run`]):
//! `&times=OFFSET:MICROS,OFFSET:MICROS`, in order, at most [`MAX_MARKS_PER_PIECE`]; none to a
//! server that did not ask for them ([`crate::run::JobSpec::log_times`]).

use std::fmt::Write as _;

use crate::ids::Timestamp;

/// Marks that come with one piece of a log, at most: as text they take less than half of a URL that
/// everybody reads (8,000 bytes: RFC 9110, section 4.1). Of a piece that has more, some are left
/// out.
pub const MAX_MARKS_PER_PIECE: usize = 64;

/// Header of the answer to a request with `since`: that time as the server read it, RFC 3339 in
/// UTC. A server of before, which knows no `since`, sends no such header.
pub const SINCE_HEADER: &str = "bedplate-log-since";

/// Header of the same answer: [`KEPT`], or [`NOT_KEPT`] if there are no time marks of this log.
/// Then the answer is as one without `since`.
pub const TIMES_HEADER: &str = "bedplate-log-times";

/// The answer begins where `since` says.
pub const KEPT: &str = "kept";

/// Nobody knows when the log was written.
pub const NOT_KEPT: &str = "none";

/// How long a log was at a time: all before `offset` was written at `time` or earlier, and the rest
/// came into the log later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeMark {
    /// Bytes from the log's beginning.
    pub offset: u64,
    /// By the clock of the node that has the log from its job.
    pub time: Timestamp,
}

impl TimeMark {
    /// Some marks as they travel: the first [`MAX_MARKS_PER_PIECE`].
    #[must_use]
    pub fn query(marks: &[Self]) -> String {
        let mut text = String::new();
        for Self { offset, time } in marks.iter().take(MAX_MARKS_PER_PIECE) {
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(text, "{comma}{offset}:{}", time.0);
        }
        text
    }

    /// Reads what travelled. What is no mark is left out: a log is taken without times rather than
    /// not at all.
    #[must_use]
    pub fn from_query(text: &str) -> Vec<Self> {
        let read = |mark: &str| {
            let (offset, micros) = mark.split_once(':')?;
            Some(Self { offset: offset.parse().ok()?, time: Timestamp(micros.parse().ok()?) })
        };
        text.split(',').take(MAX_MARKS_PER_PIECE).filter_map(read).collect()
    }
}
