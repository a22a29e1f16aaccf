//! The log as it is read and checked. Whoever reads takes a turn of the chainer first, and so sees
//! all that is on disk by then.

use api::{
    access::{AuditEntry, AuditHead},
    ids::Timestamp,
};

use super::AuditLine;
use crate::{Access, AccessError};

/// Rows that are checked at a time: bounds the memory of a check.
const VERIFY_PAGE: u32 = 1_000;

/// Rows that one request for rows of some kind looks through; the next page goes on behind them.
const MAX_SCANNED: u64 = 50_000;

/// What the log's rows must be to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only lines of this principal; `None`: of all.
    pub principal: Option<String>,
    /// Only lines of this action; `None`: of all.
    pub action: Option<String>,
    /// Only lines whose requests arrived at this time or later.
    pub since: Option<Timestamp>,
}

impl Access {
    /// Checks the whole chain of the audit log, from where it was cut. Returns the number of its
    /// last row.
    ///
    /// # Errors
    /// [`AccessError::Broken`] with the first row that does not fit; [`AccessError::Store`].
    pub async fn verify_audit(&self) -> Result<u64, AccessError> {
        self.chain_pending().await?;
        let mut chain = self.chain_begin()?;
        loop {
            let page = self.inner.store.audit_after(chain.number(), VERIFY_PAGE).await?;
            if page.is_empty() {
                return Ok(chain.number());
            }
            page.iter().try_for_each(|line| chain.take_line(line))?;
        }
    }

    /// The newest rows of the audit log, newest first.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, AccessError> {
        Ok(self.audit_page(None, &AuditQuery::default(), limit).await?.0)
    }

    /// Rows of the audit log that a query wants, newest first, before the row of a number; and the
    /// number before which the next page begins. A page may have less than `limit` rows, even none,
    /// and another one behind it.
    pub(crate) async fn audit_page(
        &self,
        before: Option<u64>,
        query: &AuditQuery,
        limit: u32,
    ) -> Result<(Vec<AuditEntry>, Option<u64>), AccessError> {
        let newest = self.chain_pending().await?.map_or(0, |line| line.number);
        let top = before.unwrap_or(u64::MAX).min(newest.saturating_add(1));
        let cut = self.cut_number();
        let bottom = top.saturating_sub(MAX_SCANNED + 1).max(cut);
        let lines = self.inner.store.audit_between(bottom, top, query, limit).await?;
        let is_full = u32::try_from(lines.len()).is_ok_and(|count| count >= limit);
        let seen = lines.last().filter(|_| is_full).map_or(bottom + 1, |line| line.number);
        Ok((entries(lines), (seen > cut + 1).then_some(seen)))
    }

    /// Rows of the audit log with larger numbers than `after`, oldest first.
    pub(crate) async fn audit_after(
        &self,
        after: u64,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, AccessError> {
        self.chain_pending().await?;
        let after = after.max(self.cut_number());
        Ok(entries(self.inner.store.audit_after(after, limit).await?))
    }

    /// The last row of the audit log, signed; `None` if this server signs none.
    pub(crate) async fn audit_head(&self) -> Result<Option<AuditHead>, AccessError> {
        let last = self.chain_pending().await?;
        let (number, at, hash) =
            last.map_or((0, Timestamp(0), [0; 32]), |line| (line.number, line.at, line.hash));
        Ok(self.audit_heads.as_ref().map(|heads| heads.sign(number, at, hash)))
    }
}

fn entries(lines: Vec<AuditLine>) -> Vec<AuditEntry> {
    let entry = |line: AuditLine| AuditEntry {
        number: line.number,
        at: line.at,
        principal: line.principal,
        action: line.action,
        subject: line.subject,
        outcome: line.outcome,
        object: line.details.object,
        difference: line.details.difference,
        source: line.details.source,
        token: line.details.token,
        form: line.form,
        hash: hex::encode(line.hash),
    };
    lines.into_iter().map(entry).collect()
}
