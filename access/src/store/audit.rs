//! Where the audit log is kept.

use api::{access::AuditCut, ids::Timestamp};
use async_trait::async_trait;

use super::StoreError;
use crate::audit::{AuditLine, AuditQuery, Details, PendingRow};

/// A row that has no number yet, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingLine {
    pub(crate) id: u64,
    pub(crate) at: Timestamp,
    pub(crate) principal: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    /// What is said if nobody knows more.
    pub(crate) outcome: String,
    pub(crate) details: Details,
}

/// What the store offers of the audit log. Every write is durable when its future ends.
#[async_trait]
pub(crate) trait AuditStore: Send + Sync {
    /// Writes a row that has no number yet. `false` if there is one of that id.
    async fn put_pending(&self, row: &PendingRow) -> Result<bool, StoreError>;
    /// Rows without a number, with an id above `after`, in the order of their ids, at most `limit`.
    async fn pending(&self, after: u64, limit: u32) -> Result<Vec<PendingLine>, StoreError>;
    /// The largest id of a row without a number; 0 if there is none.
    async fn newest_pending(&self) -> Result<u64, StoreError>;
    /// Adds rows and removes the pending ones that they were; fails if a number is taken. Their
    /// bytes are counted.
    async fn chain(&self, lines: &[(u64, AuditLine)]) -> Result<(), StoreError>;
    /// The newest row.
    async fn last_audit(&self) -> Result<Option<AuditLine>, StoreError>;
    /// Rows with a number above `after`, oldest first, at most `limit`.
    async fn audit_after(&self, after: u64, limit: u32) -> Result<Vec<AuditLine>, StoreError>;
    /// Rows that a query wants, of numbers between these two and neither of them, newest first,
    /// at most `limit`.
    async fn audit_between(
        &self,
        bottom: u64,
        top: u64,
        query: &AuditQuery,
        limit: u32,
    ) -> Result<Vec<AuditLine>, StoreError>;
    /// The sum of [`AuditLine::bytes`] of the rows that are no part of a cut.
    async fn audit_bytes(&self) -> Result<u64, StoreError>;
    /// The cuts, newest first, whoever wrote them.
    async fn audit_cuts(&self) -> Result<Vec<AuditCut>, StoreError>;
    /// Writes a cut of rows of so many bytes: those up to its number are no part of the log from
    /// now on.
    async fn cut_audit(&self, cut: &AuditCut, bytes: u64) -> Result<(), StoreError>;
    /// Puts a signature in the place of the one that this cut has.
    async fn sign_cut_again(&self, cut: &AuditCut) -> Result<(), StoreError>;
    /// Removes rows up to a number, at most `limit`. How many it removed.
    async fn remove_audit(&self, number: u64, limit: u32) -> Result<u64, StoreError>;
}
