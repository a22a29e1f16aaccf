//! An admin accepts a cut that another key signed: that of this server, which was lost after it and
//! is in no backup. `bedplate server accept-audit-cut` calls it, on the server's machine and with
//! the server stopped.
//!
//! The cut is signed again with the key of now, in one transaction with a row that names the key of
//! before. Nothing proves that the lost key signed it: whoever decides does so. What is asked for
//! is that the log fits it, line by line, and tells of it, and that the key of now is not known to
//! be older: no earlier cut and no head in `audit.head-file` is signed by it.

use api::{
    access::{AuditCut, AuditHead},
    ids::Timestamp,
};
use database::outbox;

use super::{AuditChain, CUT, PAGE, Request, sign_cut, subject};
use crate::{Access, AccessError};

/// The action of the row that tells of it.
const ACCEPTED: &str = "audit-cut-accept";

/// Why a cut is not accepted. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AcceptCutError {
    /// There is no such alarm.
    #[error(
        "the newest cut of the audit log is signed by this server, or there is none: nothing is to be accepted"
    )]
    NotNeeded,
    /// It is another one than whoever decides has looked at.
    #[error(
        "the cut that this server did not sign is up to line {found}, and not up to line {wanted}"
    )]
    OtherCut {
        /// The last line of the newest cut.
        found: u64,
        /// What was said.
        wanted: u64,
    },
    /// The key was not lost: it is older than the cut, so this server would have signed it.
    #[error(
        "the audit.key of now is older than the cut up to line {number}, and did not sign it: find out who \
         changed the database"
    )]
    KeyIsOlder {
        /// The last line of the cut.
        number: u64,
    },
    /// The file of heads tells how old the key is.
    #[error("the heads of the audit log cannot be read")]
    Heads(#[source] std::io::Error),
    /// The server did not make it.
    #[error(
        "no line of the audit log tells of the cut up to line {number}, as one does of each that the server \
         makes: find out who changed the database"
    )]
    Untold {
        /// The last line of the cut.
        number: u64,
    },
    /// The log does not begin behind it, is broken, or cannot be read or written.
    #[error(transparent)]
    Log(#[from] AccessError),
}

impl Access {
    /// Signs the newest cut, which must be up to line `number`, with the key of now. Returns the
    /// key that had signed it. `principal`: who decides, for the log.
    ///
    /// # Errors
    /// [`AcceptCutError`].
    pub async fn accept_audit_cut(
        &self,
        number: u64,
        principal: &str,
        now: Timestamp,
    ) -> Result<String, AcceptCutError> {
        let Some(heads) = &self.audit_heads else { return Err(AcceptCutError::NotNeeded) };
        let (newest, signed_one) = {
            let keeping = self.keeping();
            let newest = keeping.cuts.forged().and_then(|_| keeping.cuts.newest().cloned());
            (newest, keeping.cuts.that_counts().is_some())
        };
        let Some(cut) = newest else { return Err(AcceptCutError::NotNeeded) };
        if cut.number != number {
            return Err(AcceptCutError::OtherCut { found: cut.number, wanted: number });
        }
        let head = heads.newest_of_file().await.map_err(AcceptCutError::Heads)?;
        let is_before =
            |head: AuditHead| head.number <= number && head.key.eq_ignore_ascii_case(&heads.key());
        if signed_one || head.is_some_and(is_before) {
            return Err(AcceptCutError::KeyIsOlder { number });
        }
        self.chain_pending().await?;
        if !self.is_whole_and_told(&cut).await? {
            return Err(AcceptCutError::Untold { number });
        }
        let key = cut.key.clone();
        let cut = sign_cut(heads, AuditCut { cut_at: now, ..cut });
        let subject = subject(number);
        let request =
            Request { principal, action: ACCEPTED, subject: &subject, ..Request::default() };
        let row = self.event_of_object(request, &key, "signed again");
        self.keeping().is_unsettled = true;
        let signed = outbox::scope(vec![row], self.inner.store.sign_cut_again(&cut)).await;
        let settled = self.settle_cuts(heads).await;
        signed.map_err(AccessError::from)?;
        settled?;
        self.chain_pending().await?;
        Ok(key)
    }

    /// Walks the log behind a cut. `false` if no line tells of it.
    async fn is_whole_and_told(&self, cut: &AuditCut) -> Result<bool, AccessError> {
        let (mut chain, mut told, subject) = (AuditChain::after(cut)?, false, subject(cut.number));
        loop {
            let page = self.inner.store.audit_after(chain.number(), PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            for line in page {
                chain.take_line(&line)?;
                let is_its = line.action == CUT && line.subject == subject;
                told |= is_its && line.details.object.eq_ignore_ascii_case(&cut.hash);
            }
            if is_last {
                return Ok(told);
            }
        }
    }
}
