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
//! who has the database and not the key removes no rows unseen. A cut counts if this server signed
//! it. Rows are checked before they go, and those of a broken chain stay, and those of a log that
//! does not fit its heads or has a cut that does not count: they are what shows it.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use api::{
    access::{AuditCut, AuditEntry},
    ids::Timestamp,
};
use database::outbox;

use super::{AuditChain, AuditHeads, AuditLine, HeadError, Request, head};
use crate::{Access, AccessError};

mod accept;
mod cuts;

pub use accept::AcceptCutError;
pub(crate) use cuts::Cuts;

/// The action of the row that tells of a cut.
pub(super) const CUT: &str = "audit-cut";

/// What every signed text begins with.
const CONTEXT: &[u8] = b"bedplate audit cut 1\n";

/// A day in seconds. Rows go once a day, and not one by one: each cut is a row itself.
const DAY_SECONDS: i64 = 86_400;

/// Of the log's own time goes at most so much in a day of the server's: a clock that is ahead says
/// that all rows are old, and must not remove the log before somebody sees it.
const MAX_DAYS_A_DAY: i64 = 2;

/// How long the server has been up before rows go for their age: until then a clock that was wrong
/// at the start is set, or an admin sees what the server says of it.
const FIRST_AGE_TURN: Duration = Duration::from_secs(3_600);

/// How long after that the next ones go.
const BETWEEN_AGE_TURNS: Duration = Duration::from_secs(86_400);

/// Rows that one cut removes, at most: in a minute the next one comes.
const MAX_ROWS: u64 = 100_000;

/// Rows that are read and checked at a time.
const PAGE: u32 = 1_000;

/// Rows that one transaction removes; others write in between.
const REMOVED_AT_ONCE: u32 = 5_000;

/// Such transactions in a minute: the chain waits for them, and a server that stops.
const REMOVALS: u32 = 5;

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

/// Size at which an admin is told of a log without a limit, bytes. A site whose admins change
/// 10,000 things a day gets there in ten years, and one user who never rests in two weeks.
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
    fn of(keep: AuditKeep, bytes: u64, before: Option<Timestamp>) -> Self {
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

/// Rows that may go for their age.
#[derive(Debug, Clone, Copy)]
struct AgeTurn {
    /// When it began, in time that the server is up.
    begun: Duration,
    /// Rows before this time.
    before: Timestamp,
}

/// What is known of the cuts and the size of the log.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    pub(super) cuts: Cuts,
    /// The database may have a cut that these have not: nobody knows how its commit ended.
    is_unsettled: bool,
    age_turn: Option<AgeTurn>,
    /// Why rows that are to go do not fit the chain, if they do not.
    pub(super) broken: Option<String>,
    /// See [`super::AuditAlarms::filling`].
    pub(super) filling: Option<String>,
}

impl Keeping {
    /// `cuts`: those of the database, newest first.
    pub(super) fn of(cuts: Vec<AuditCut>) -> Self {
        Self { cuts: Cuts::new(cuts, None), ..Self::default() }
    }

    /// Rows before this time may go for their age, the first of which is of `first`. `up`: how long
    /// the server is up.
    fn aged(
        &mut self,
        days: u32,
        first: Timestamp,
        now: Timestamp,
        up: Duration,
    ) -> Option<Timestamp> {
        let before = now.plus_seconds(-DAY_SECONDS * i64::from(days));
        let next = self.age_turn.map_or(FIRST_AGE_TURN, |turn| turn.begun + BETWEEN_AGE_TURNS);
        if up >= next && first < before.plus_seconds(-DAY_SECONDS) {
            let most = first.plus_seconds(MAX_DAYS_A_DAY * DAY_SECONDS);
            self.age_turn = Some(AgeTurn { begun: up, before: before.min(most) });
        }
        // The clock may have been set back since.
        self.age_turn.map(|turn| turn.before.min(before))
    }
}

impl Access {
    /// The same that keeps the audit log for another time or size.
    #[must_use]
    pub fn with_audit_keep(self, audit_keep: AuditKeep) -> Self {
        Self { audit_keep, ..self }
    }

    pub(super) fn keeping(&self) -> MutexGuard<'_, Keeping> {
        self.inner.audit.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest cut that the database has, whoever signed it: who verifies the log is to see it.
    pub(crate) fn audit_cut(&self) -> Option<AuditCut> {
        self.keeping().cuts.newest().cloned()
    }

    /// Up to where this server cut the log.
    pub(super) fn cut_that_counts(&self) -> Option<AuditCut> {
        self.keeping().cuts.that_counts().cloned()
    }

    /// From now on only cuts that this key signed count.
    pub(crate) fn judge_cuts(&self, heads: &AuditHeads) {
        let mut keeping = self.keeping();
        keeping.cuts.judge(&heads.key());
        if let Some(why) = keeping.cuts.forged() {
            tracing::warn!("{why}");
        }
    }

    /// The number of the last row that was cut; 0 if none was.
    pub(super) fn cut_number(&self) -> u64 {
        self.cut_that_counts().map_or(0, |cut| cut.number)
    }

    /// The chain before the first row that is left.
    pub(super) fn chain_begin(&self) -> Result<AuditChain, AccessError> {
        Ok(self
            .cut_that_counts()
            .map_or(Ok(AuditChain::default()), |cut| AuditChain::after(&cut))?)
    }

    /// Cuts what is due, and notes for the alarms how full the log is, also where it cannot be cut.
    /// `up`: how long the server is up, by a clock that nobody sets.
    pub(super) async fn tend_size(&self, now: Timestamp, up: Duration) -> Result<(), AccessError> {
        let kept = self.keep_within_limits(now, up).await;
        if let Err(AccessError::Broken(broken)) = &kept {
            let why = format!("{broken}: find out who changed the database. No line is removed");
            self.keeping().broken = Some(why);
        }
        self.note_audit_size().await?;
        kept
    }

    /// Cuts what is due, and removes what was cut. A server that signs nothing cuts nothing.
    async fn keep_within_limits(&self, now: Timestamp, up: Duration) -> Result<(), AccessError> {
        let Some(heads) = &self.audit_heads else { return Ok(()) };
        self.settle_cuts(heads).await?;
        if heads.broken().is_some() || self.keeping().cuts.forged().is_some() {
            return Ok(());
        }
        if let Some(due) = self.due(now, up).await? {
            self.cut(heads, due, now).await?;
        }
        // Only what this server cut: who can write a cut into the database has no signature for it.
        self.remove_up_to(self.cut_number(), REMOVED_AT_ONCE).await
    }

    /// Takes over the cuts of the database, if it may have others.
    async fn settle_cuts(&self, heads: &AuditHeads) -> Result<(), AccessError> {
        if !self.keeping().is_unsettled {
            return Ok(());
        }
        let cuts = Cuts::new(self.inner.store.audit_cuts().await?, Some(&heads.key()));
        let mut keeping = self.keeping();
        (keeping.cuts, keeping.is_unsettled) = (cuts, false);
        Ok(())
    }

    async fn due(&self, now: Timestamp, up: Duration) -> Result<Option<Due>, AccessError> {
        let store = &self.inner.store;
        let newest = self.chain_pending().await?.map_or(0, |line| line.number);
        let mut chain = self.chain_begin()?;
        let Some(first) = store.audit_after(chain.number(), 1).await?.pop() else {
            return Ok(None);
        };
        let aged = |days| self.keeping().aged(days, first.at, now, up);
        let before = self.audit_keep.days.and_then(aged);
        let limits = Limits::of(self.audit_keep, store.audit_bytes().await?, before);
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
        let request =
            Request { principal: "server", action: CUT, subject: &subject, ..Request::default() };
        let row = self.event_of_object(request, &cut.hash, why);
        // Also of one who is given up in the middle.
        self.keeping().is_unsettled = true;
        let committed = outbox::scope(vec![row], self.inner.store.cut_audit(&cut, bytes)).await;
        // A commit that failed may have been carried out: what it cut is not to be counted twice.
        let settled = self.settle_cuts(heads).await;
        committed?;
        tracing::warn!("lines of the audit log up to {} were removed, for {why}", cut.number);
        self.keeping().broken = None;
        settled
    }

    /// Removes rows up to a number, some of them; the rest in a minute.
    async fn remove_up_to(&self, number: u64, at_once: u32) -> Result<(), AccessError> {
        for _ in 0..REMOVALS {
            if number == 0 || self.inner.store.remove_audit(number, at_once).await? == 0 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Notes how full the log is, for the alarms.
    async fn note_audit_size(&self) -> Result<(), AccessError> {
        let bytes = self.inner.store.audit_bytes().await?;
        let text = match self.audit_keep.max_bytes {
            Some(max) => filling(bytes, max),
            None => large(bytes),
        };
        self.keeping().filling = text;
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
pub(super) fn subject(number: u64) -> String {
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
    let cut = AuditCut {
        number: last.number,
        at: last.at,
        hash: hex::encode(last.hash),
        cut_at: now,
        why: why.to_owned(),
        key: String::new(),
        signature: String::new(),
    };
    sign_cut(heads, cut)
}

/// The same cut, signed with this key.
fn sign_cut(heads: &AuditHeads, mut cut: AuditCut) -> AuditCut {
    cut.key = heads.key();
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
