//! The chain of the audit log.
//!
//! `hash(n) = SHA-256(hash(n-1) ‖ number ‖ at ‖ len(principal) ‖ principal ‖ len(action) ‖ action ‖ len(subject) ‖
//! subject ‖ len(outcome) ‖ outcome)`, numbers and lengths as 8 bytes, big endian; `hash(0)` is 32 zero bytes. So no
//! line can be changed, removed from the middle or put in without every later hash changing. That the newest lines
//! were cut off shows only beside a copy of a later hash.

use api::ids::Timestamp;
use sha2::{Digest, Sha256};

/// SHA-256 of a line and all before it.
pub(crate) type ChainHash = [u8; 32];

/// One line of the log, in the shape that the store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditLine {
    /// Place in the log, from 1.
    pub(crate) number: u64,
    /// When.
    pub(crate) at: Timestamp,
    /// Who.
    pub(crate) principal: String,
    /// What was done.
    pub(crate) action: String,
    /// To what.
    pub(crate) subject: String,
    /// How it ended.
    pub(crate) outcome: String,
    /// See the head of this file.
    pub(crate) hash: ChainHash,
}

/// The log was changed behind the server's back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// A line is missing or out of its place.
    #[error("the audit log is broken: line {expected} is missing, line {found} stands in its place")]
    Gap {
        /// Number that should come.
        expected: u64,
        /// Number that came.
        found: u64,
    },
    /// A line is not what was written.
    #[error("the audit log is broken: line {number} was changed after it was written")]
    Changed {
        /// The line.
        number: u64,
    },
}

/// What is recorded of one action.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Action<'a> {
    pub(crate) principal: &'a str,
    pub(crate) action: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) outcome: &'a str,
}

/// The line that follows `last`.
pub(crate) fn next(last: Option<&AuditLine>, what: Action<'_>, at: Timestamp) -> AuditLine {
    let mut line = AuditLine {
        number: last.map_or(0, |line| line.number) + 1,
        at,
        principal: what.principal.to_owned(),
        action: what.action.to_owned(),
        subject: what.subject.to_owned(),
        outcome: what.outcome.to_owned(),
        hash: [0; 32],
    };
    line.hash = chained(last.map_or([0; 32], |line| line.hash), &line);
    line
}

/// Checks that `lines` follow `last` without a change. Returns the last of them.
pub(crate) fn verify(
    mut last: Option<AuditLine>,
    lines: Vec<AuditLine>,
) -> Result<Option<AuditLine>, BrokenChain> {
    for line in lines {
        let expected = last.as_ref().map_or(0, |line| line.number) + 1;
        if line.number != expected {
            return Err(BrokenChain::Gap { expected, found: line.number });
        }
        if chained(last.as_ref().map_or([0; 32], |line| line.hash), &line) != line.hash {
            return Err(BrokenChain::Changed { number: line.number });
        }
        last = Some(line);
    }
    Ok(last)
}

fn chained(previous: ChainHash, line: &AuditLine) -> ChainHash {
    let mut hasher = Sha256::new();
    hasher.update(previous);
    hasher.update(line.number.to_be_bytes());
    hasher.update(line.at.0.to_be_bytes());
    for text in [&line.principal, &line.action, &line.subject, &line.outcome] {
        hasher.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(lines: usize) -> Vec<AuditLine> {
        let mut chain: Vec<AuditLine> = Vec::new();
        for n in 0..lines {
            let what = Action { principal: "admin", action: "POST", subject: "/v1/nodes", outcome: "201" };
            let at = Timestamp(i64::try_from(n).unwrap());
            let line = next(chain.last(), what, at);
            chain.push(line);
        }
        chain
    }

    #[test]
    fn an_untouched_chain_holds_over_pages() {
        let lines = chain(5);
        let middle = verify(None, lines[..2].to_vec()).unwrap();
        assert_eq!(verify(middle, lines[2..].to_vec()).unwrap(), lines.last().cloned());
        assert_eq!(verify(None, Vec::new()), Ok(None));
    }

    #[test]
    fn every_change_is_seen() {
        let edits: [fn(&mut AuditLine); 5] = [
            |line| line.principal = "mallory".into(),
            |line| line.outcome = "403".into(),
            |line| line.at = Timestamp(99),
            |line| (line.action, line.subject) = ("POST/".into(), "v1/nodes".into()),
            |line| line.hash[0] ^= 1,
        ];
        for edit in edits {
            let mut lines = chain(4);
            edit(&mut lines[1]);
            assert_eq!(verify(None, lines), Err(BrokenChain::Changed { number: 2 }));
        }
        let mut lines = chain(4);
        lines.remove(1);
        assert_eq!(verify(None, lines), Err(BrokenChain::Gap { expected: 2, found: 3 }));
    }
}
