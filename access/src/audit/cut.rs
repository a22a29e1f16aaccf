//! The log is kept for a time and within a size: past them its oldest rows go.
//!
//! A cut is written with its row of the log, in one transaction: up to which row, and that row's
//! hash, signed. From then on rows up to there are no part of the log; they are removed afterwards,
//! some at a time, also by the next run of the server where one was killed between. The chain goes
//! on behind the cut:
//!
//! ```text
//! 1 … N │ N+1 …   cut: N, hash(N), signature        hash(N+1) covers hash(N), as ever
//! ```
//!
//! A cut has a context of its own when it is signed, so that no head of the log can be used as one:
//! who has the database and not the key removes no rows unseen. Rows are checked before they go,
//! and those of a broken chain stay: they are what shows it.

use std::{sync::PoisonError, time::Duration};

use api::{
    access::{AuditCut, AuditEntry},
    ids::Timestamp,
};
use database::outbox;

use super::{AuditChain, AuditHeads, AuditLine, HeadError, Request, head};
use crate::{Access, AccessError};

/// The action of the row that tells of a cut.
const CUT: &str = "audit-cut";

/// What every signed text begins with.
const CONTEXT: &[u8] = b"bedplate audit cut 1\n";

/// A day in seconds. Rows go once a day, and not one by one: each cut is a row itself.
const DAY_SECONDS: i64 = 86_400;

/// Rows that one cut removes, at most: in a minute the next one comes.
const MAX_ROWS: u64 = 100_000;

/// Rows that are read and checked at a time.
const PAGE: u32 = 1_000;

/// Rows that one transaction removes; others write in between.
const REMOVED_AT_ONCE: u32 = 5_000;

/// Pause between two of these.
const PAUSE: Duration = Duration::from_millis(20);

/// Largest part of its size, in hundredths, that the log may have before an admin is told; and what
/// is left of it when it was cut.
const FILLING_PERCENT: u64 = 80;
const LEFT_PERCENT: u64 = 90;

/// How long and how large the log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditKeep {
    /// Rows that are older go, days. `None`: none goes for its age.
    pub days: Option<u32>,
    /// The oldest rows go where all have more bytes. `None`: none goes for that.
    pub max_bytes: Option<u64>,
}

impl AuditKeep {
    /// Nothing goes until the site says so: who can fill the log must not remove what it shows.
    pub const DEFAULT: Self = Self { days: None, max_bytes: None };
}

impl Default for AuditKeep {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Size at which an admin is told of a log without a limit, bytes. A site whose admins change 10,000
/// things a day gets there in ten years, and one user who never rests in two weeks.
const TOLD_BYTES: u64 = 16 << 30;

/// The rows that are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Due {
    /// The last of them.
    last: AuditLine,
    /// Bytes of all of them.
    bytes: u64,
    /// The key of the configuration that says so.
    why: &'static str,
}

/// What of the rows at the beginning of the log is to go.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Rows before this time.
    before: Option<Timestamp>,
    /// As many as have so many bytes.
    excess: u64,
}

impl Limits {
    fn of(keep: AuditKeep, bytes: u64, first: &AuditLine, now: Timestamp) -> Self {
        let before = keep.days.map(|days| now.plus_seconds(-DAY_SECONDS * i64::from(days)));
        let before = before.filter(|before| first.at < before.plus_seconds(-DAY_SECONDS));
        let excess = keep.max_bytes.filter(|max| bytes > *max);
        let excess = excess.map_or(0, |max| bytes - max / 100 * LEFT_PERCENT);
        Self { before, excess }
    }

    /// Why a row is to go, before which rows of so many bytes go.
    fn why(&self, line: &AuditLine, bytes: u64) -> Option<&'static str> {
        if self.before.is_some_and(|before| line.at < before) {
            return Some("audit.keep-days");
        }
        (bytes < self.excess).then_some("audit.max-gib")
    }
}

impl Access {
    /// The same that keeps the audit log for another time or size.
    #[must_use]
    pub fn with_audit_keep(self, audit_keep: AuditKeep) -> Self {
        Self { audit_keep, ..self }
    }

    /// Up to where the log was cut.
    pub(crate) fn audit_cut(&self) -> Option<AuditCut> {
        self.inner.audit.cut.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of the last row that was cut; 0 if none was.
    pub(super) fn cut_number(&self) -> u64 {
        self.audit_cut().map_or(0, |cut| cut.number)
    }

    /// The chain before the first row that is left.
    pub(super) fn chain_begin(&self) -> Result<AuditChain, AccessError> {
        Ok(self.audit_cut().map_or(Ok(AuditChain::default()), |cut| AuditChain::after(&cut))?)
    }

    /// Cuts what is due, and removes what was cut. A server that signs nothing cuts nothing.
    pub(super) async fn keep_within_limits(&self, now: Timestamp) -> Result<(), AccessError> {
        let Some(heads) = &self.audit_heads else { return Ok(()) };
        if let Some(due) = self.due(now).await? {
            self.cut(heads, due, now).await?;
        }
        self.remove_what_was_cut(heads).await
    }

    async fn due(&self, now: Timestamp) -> Result<Option<Due>, AccessError> {
        let store = &self.inner.store;
        let newest = self.chain_pending().await?.map_or(0, |line| line.number);
        let mut chain = self.chain_begin()?;
        let Some(first) = store.audit_after(chain.number(), 1).await?.pop() else { return Ok(None) };
        let limits = Limits::of(self.audit_keep, store.audit_bytes().await?, &first, now);
        let mut due: Option<Due> = None;
        // The newest row stays, whatever it is: numbers go on behind it.
        let end = newest.min(first.number.saturating_add(MAX_ROWS));
        loop {
            let page = store.audit_after(chain.number(), PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            for line in page {
                let bytes = due.as_ref().map_or(0, |due| due.bytes);
                let Some(why) = limits.why(&line, bytes).filter(|_| line.number < end) else {
                    return Ok(due);
                };
                chain.take_line(&line)?;
                due = Some(Due { bytes: bytes + line.bytes(), last: line, why });
            }
            if is_last {
                return Ok(due);
            }
        }
    }

    async fn cut(&self, heads: &AuditHeads, due: Due, now: Timestamp) -> Result<(), AccessError> {
        let Due { last, bytes, why } = due;
        let cut = sign(heads, &last, now, why);
        let subject = subject(cut.number);
        let request = Request { principal: "server", action: CUT, subject: &subject, ..Request::default() };
        let row = self.event_of_object(request, &cut.hash, why);
        outbox::scope(vec![row], self.inner.store.cut_audit(&cut, bytes)).await?;
        tracing::warn!("lines of the audit log up to {} were removed, for {why}", cut.number);
        *self.inner.audit.cut.lock().unwrap_or_else(PoisonError::into_inner) = Some(cut);
        Ok(())
    }

    /// Only what this server cut: who can write a cut into the database has no signature for it.
    async fn remove_what_was_cut(&self, heads: &AuditHeads) -> Result<(), AccessError> {
        let Some(cut) = self.audit_cut() else { return Ok(()) };
        if let Err(error) = verify_cut(&cut, &heads.key()) {
            tracing::debug!("lines of the audit log up to {} stay: {error}", cut.number);
            return Ok(());
        }
        let number = cut.number;
        while self.inner.store.remove_audit(number, REMOVED_AT_ONCE).await? > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Notes how full the log is, for the alarms.
    pub(super) async fn note_audit_size(&self) -> Result<(), AccessError> {
        let bytes = self.inner.store.audit_bytes().await?;
        let text = match self.audit_keep.max_bytes {
            Some(max) => filling(bytes, max),
            None => large(bytes),
        };
        *self.inner.audit.filling.lock().unwrap_or_else(PoisonError::into_inner) = text;
        Ok(())
    }
}

/// What is said of a log of so many bytes, if it comes near the most that it may have.
fn filling(bytes: u64, max: u64) -> Option<String> {
    let percent = bytes.saturating_mul(100) / max.max(1);
    (percent >= FILLING_PERCENT).then(|| {
        format!(
            "the audit log has {percent} % of audit.max-gib: its oldest lines are removed when it is full. Find out \
             who changes so much (`bedplate audit list`), keep a copy, or raise the limit"
        )
    })
}

/// What is said of a log of so many bytes that nothing limits, if it is large.
fn large(bytes: u64) -> Option<String> {
    (bytes >= TOLD_BYTES).then(|| {
        format!(
            "the audit log has {} GiB, and nothing is removed from it. Find out who changes so much \
             (`bedplate audit list`), and set audit.keep-days or audit.max-gib",
            bytes >> 30
        )
    })
}

/// The subject of the row that tells of a cut.
fn subject(number: u64) -> String {
    format!("lines up to {number}")
}

/// Does this row tell of this cut?
#[must_use]
pub fn is_told(cut: &AuditCut, entry: &AuditEntry) -> bool {
    entry.number > cut.number
        && entry.action == CUT
        && entry.subject == subject(cut.number)
        && entry.object.eq_ignore_ascii_case(&cut.hash)
}

fn sign(heads: &AuditHeads, last: &AuditLine, now: Timestamp, why: &str) -> AuditCut {
    let mut cut = AuditCut {
        number: last.number,
        at: last.at,
        hash: hex::encode(last.hash),
        cut_at: now,
        why: why.to_owned(),
        key: heads.key(),
        signature: String::new(),
    };
    cut.signature = heads.sign_text(&signed_text(&cut));
    cut
}

/// Checks the signature of a cut. `key`: the public key that must have signed it, 64 hexadecimal
/// digits.
///
/// # Errors
/// [`HeadError`]: a cut is the head of what it removed.
pub fn verify_cut(cut: &AuditCut, key: &str) -> Result<(), HeadError> {
    head::check_signature(cut.number, (&cut.key, key), &signed_text(cut), &cut.signature)
}

/// The hash goes in as it is written: of 64 digits, or it is none that a chain begins with.
fn signed_text(cut: &AuditCut) -> Vec<u8> {
    let mut text = CONTEXT.to_vec();
    text.extend(cut.number.to_be_bytes());
    text.extend(cut.at.0.to_be_bytes());
    text.extend(hex::decode(&cut.hash).unwrap_or_default());
    text.extend(cut.cut_at.0.to_be_bytes());
    text.extend((cut.why.len() as u64).to_be_bytes());
    text.extend(cut.why.as_bytes());
    text
}

#[cfg(test)]
mod tests;
