//! The chain of the audit log: how rows are hashed, and how a chain is checked.
//!
//! `hash(n) = SHA-256(hash(n-1) ‖ mark ‖ number ‖ at ‖ len(text) ‖ text …)`; `hash(0)` is 32 zero
//! bytes; numbers and lengths are 8 bytes, big endian. The texts, by the form of the row:
//!
//! | form | mark | texts |
//! |---|---|---|
//! | 1, until 2026-12 | none | principal, action, subject, outcome |
//! | 2 | 2^64-1 and 2 | those, object, difference, source, token |
//!
//! No row has the number 2^64-1, so no row of one form is one of the other. No row of form 1
//! follows one of form 2. So no row can be changed, removed from the middle or put in without every
//! later hash changing. That the newest rows were cut off, or that the whole chain was rewritten,
//! shows only beside a [`SignedHead`] that was kept elsewhere.
//!
//! | module | |
//! |---|---|
//! | `pending` | a row before it has a number, and how it gets into the database |
//! | `chainer` | pending rows get their numbers |
//! | `read` | the log is read and checked |
//! | `unchanged` | which requests that changed nothing have rows |
//! | `cut` | the oldest rows go, and the chain begins behind them |
//! | `head` | signed heads, and the log beside those that were kept |
//! | `check` | what `bedplate server check` says of the log |
//! | `difference` | what a request changed, in few words and without secrets |

mod chainer;
mod check;
mod cut;
mod difference;
mod head;
mod open;
mod pending;
mod read;
mod unchanged;

use api::{
    access::{AuditCut, AuditEntry},
    ids::Timestamp,
};
use sha2::{Digest, Sha256};

pub(crate) use chainer::Chainer;
pub use check::audit_problems;
pub use cut::{AcceptCutError, AuditKeep, is_told, verify_cut};
pub use difference::{record_change, record_object};
pub use head::{AuditAlarms, AuditHeads, HeadError, KeyError, audit_key, verify_head};
pub(crate) use pending::{PendingRow, REQUEST, Request};
pub use read::AuditQuery;
pub(crate) use unchanged::{Requester, STRANGER, Unchanged};

/// SHA-256 of a row and all before it.
pub(crate) type ChainHash = [u8; 32];

/// The form of the rows that are written today.
const FORM: u32 = 2;

/// One row of the log, in the shape that the store keeps.
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
    /// What else is known.
    pub(crate) details: Details,
    /// What the hash covers.
    pub(crate) form: u32,
    /// See the head of this file.
    pub(crate) hash: ChainHash,
}

impl AuditLine {
    /// What it takes in the database, about: its texts, and what the columns of fixed size and the
    /// row itself take.
    pub(crate) fn bytes(&self) -> u64 {
        let Self { principal, action, subject, outcome, details, .. } = self;
        let Details { object, difference, source, token } = details;
        let texts = [principal, action, subject, outcome, object, difference, source, token];
        96 + texts.into_iter().map(|text| text.len() as u64).sum::<u64>()
    }
}

/// What rows of form 2 tell beyond those of form 1. Empty: not known, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Details {
    /// What was changed: names, identifiers.
    pub(crate) object: String,
    /// How, as JSON.
    pub(crate) difference: String,
    /// The address that the request came from.
    pub(crate) source: String,
    /// The name of the token that it came with.
    pub(crate) token: String,
}

/// The log was changed behind the server's back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// A row is missing or out of its place.
    #[error(
        "the audit log is broken: line {expected} is missing, line {found} stands in its place"
    )]
    Gap {
        /// Number that should come.
        expected: u64,
        /// Number that came.
        found: u64,
    },
    /// A row is not what was written.
    #[error("the audit log is broken: line {number} was changed after it was written")]
    Changed {
        /// The row.
        number: u64,
    },
}

/// What is recorded of one action.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    pub(crate) principal: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) outcome: String,
    pub(crate) details: Details,
}

/// The row that follows `last`.
pub(crate) fn next(last: Option<&AuditLine>, what: Action, at: Timestamp) -> AuditLine {
    let Action { principal, action, subject, outcome, details } = what;
    let number = last.map_or(0, |line| line.number) + 1;
    let mut line = AuditLine {
        number,
        at,
        principal,
        action,
        subject,
        outcome,
        details,
        form: FORM,
        hash: [0; 32],
    };
    line.hash = chained(last.map_or([0; 32], |line| line.hash), &line);
    line
}

/// A chain that is checked row by row, from the first one that is left.
#[derive(Debug, Clone)]
pub struct AuditChain {
    number: u64,
    hash: ChainHash,
    /// Of the last row.
    form: u32,
}

impl Default for AuditChain {
    fn default() -> Self {
        Self { number: 0, hash: [0; 32], form: 1 }
    }
}

impl AuditChain {
    /// A chain that goes on behind a cut. [`verify_cut`] says whether the cut is the server's.
    ///
    /// # Errors
    /// [`BrokenChain::Changed`]: it has no hash.
    pub fn after(cut: &AuditCut) -> Result<Self, BrokenChain> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&cut.hash, &mut hash)
            .map_err(|_| BrokenChain::Changed { number: cut.number })?;
        Ok(Self { number: cut.number, hash, form: 1 })
    }

    /// Takes the next row, as the API tells it.
    ///
    /// # Errors
    /// [`BrokenChain`]: it does not follow the rows that were taken before.
    pub fn take(&mut self, entry: &AuditEntry) -> Result<(), BrokenChain> {
        let changed = BrokenChain::Changed { number: entry.number };
        let mut hash = [0; 32];
        hex::decode_to_slice(&entry.hash, &mut hash).map_err(|_| changed)?;
        self.take_line(&AuditLine {
            number: entry.number,
            at: entry.at,
            principal: entry.principal.clone(),
            action: entry.action.clone(),
            subject: entry.subject.clone(),
            outcome: entry.outcome.clone(),
            details: Details {
                object: entry.object.clone(),
                difference: entry.difference.clone(),
                source: entry.source.clone(),
                token: entry.token.clone(),
            },
            form: entry.form,
            hash,
        })
    }

    pub(crate) fn take_line(&mut self, line: &AuditLine) -> Result<(), BrokenChain> {
        let expected = self.number + 1;
        if line.number != expected {
            return Err(BrokenChain::Gap { expected, found: line.number });
        }
        let is_known = (self.form..=FORM).contains(&line.form);
        // What the hash of a row does not cover was never written into it.
        let is_covered = line.form >= 2 || line.details == Details::default();
        if !is_known || !is_covered || chained(self.hash, line) != line.hash {
            return Err(BrokenChain::Changed { number: line.number });
        }
        *self = Self { number: line.number, hash: line.hash, form: line.form };
        Ok(())
    }

    /// The number of the last row that was taken; before the first that of the cut, or 0.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The hash of the last row that was taken, 64 hexadecimal digits.
    #[must_use]
    pub fn hash(&self) -> String {
        hex::encode(self.hash)
    }
}

fn chained(previous: ChainHash, line: &AuditLine) -> ChainHash {
    let mut hasher = Sha256::new();
    hasher.update(previous);
    if line.form >= 2 {
        hasher.update(u64::MAX.to_be_bytes());
        hasher.update(u64::from(line.form).to_be_bytes());
    }
    hasher.update(line.number.to_be_bytes());
    hasher.update(line.at.0.to_be_bytes());
    let AuditLine { principal, action, subject, outcome, details, .. } = line;
    let Details { object, difference, source, token } = details;
    let texts = [principal, action, subject, outcome, object, difference, source, token];
    let covered = if line.form >= 2 { texts.len() } else { 4 };
    for text in texts.into_iter().take(covered) {
        hasher.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain whose first rows are of form 1, as a database has it that is older than form 2.
    fn chain(old: usize, new: usize) -> Vec<AuditLine> {
        let mut chain: Vec<AuditLine> = Vec::new();
        for n in 0..old + new {
            let text = str::to_owned;
            let details =
                Details { source: text("192.0.2.1"), token: text("ci"), ..Details::default() };
            let what = Action {
                principal: text("admin"),
                action: text("POST"),
                subject: text("/v1/nodes"),
                outcome: text("201"),
                details: if n < old { Details::default() } else { details },
            };
            let mut line = next(chain.last(), what, Timestamp(i64::try_from(n).unwrap()));
            if n < old {
                line.form = 1;
                line.hash = chained(chain.last().map_or([0; 32], |line| line.hash), &line);
            }
            chain.push(line);
        }
        chain
    }

    fn verify(lines: Vec<AuditLine>) -> Result<u64, BrokenChain> {
        let mut chain = AuditChain::default();
        lines.iter().try_for_each(|line| chain.take_line(line))?;
        Ok(chain.number())
    }

    #[test]
    fn an_untouched_chain_of_old_and_new_rows_holds() {
        assert_eq!(verify(chain(3, 4)), Ok(7));
        assert_eq!(verify(chain(3, 0)), Ok(3));
        assert_eq!(verify(Vec::new()), Ok(0));
        // What a release before form 2 computed of its first row.
        let mut hasher = Sha256::new();
        hasher.update([0; 32]);
        hasher.update(1_u64.to_be_bytes());
        hasher.update(0_i64.to_be_bytes());
        for text in ["admin", "POST", "/v1/nodes", "201"] {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text);
        }
        let hash: ChainHash = hasher.finalize().into();
        assert_eq!(chain(1, 0)[0].hash, hash);
    }

    #[test]
    fn every_change_is_seen() {
        let edits: [fn(&mut AuditLine); 11] = [
            |line| line.principal = "mallory".into(),
            |line| line.outcome = "403".into(),
            |line| line.at = Timestamp(99),
            |line| (line.action, line.subject) = ("POST/".into(), "v1/nodes".into()),
            |line| line.hash[0] ^= 1,
            |line| line.details.object = "n1".into(),
            |line| line.details.difference = "{}".into(),
            |line| line.details.source = "192.0.2.2".into(),
            |line| line.details.token = "other".into(),
            |line| line.form = 1,
            |line| line.form = 3,
        ];
        for edit in &edits {
            let mut lines = chain(1, 4);
            edit(&mut lines[2]);
            assert_eq!(verify(lines), Err(BrokenChain::Changed { number: 3 }));
        }
        // Of a row of form 1 too, whose hash does not cover all of it.
        for edit in &edits[..edits.len() - 2] {
            let mut lines = chain(3, 2);
            edit(&mut lines[2]);
            assert_eq!(verify(lines), Err(BrokenChain::Changed { number: 3 }));
        }
        let mut lines = chain(1, 4);
        lines.remove(2);
        assert_eq!(verify(lines), Err(BrokenChain::Gap { expected: 3, found: 4 }));
    }

    #[test]
    fn no_row_of_the_old_form_follows_one_of_the_new() {
        // Whoever makes the chain again from some row on cannot leave the source out.
        let mut lines = chain(1, 2);
        lines[2].form = 1;
        lines[2].hash = chained(lines[1].hash, &lines[2]);
        assert_eq!(verify(lines), Err(BrokenChain::Changed { number: 3 }));
    }
}
