//! A row before it has a number. It is inserted into `access_audit_pending` by the transaction of
//! the change that it tells of; the chainer gives it its place afterwards.

use std::sync::{Arc, Mutex, PoisonError};

use api::ids::Timestamp;
use database::{
    Statement,
    outbox::{Insert, OutboxRow, WrittenWith},
    statement,
};

use super::Details;

/// The outcome of a change that is on disk, if the server ended before it had answered.
const COMMITTED: &str = "committed";

/// The outcome of what the server ended in the middle of: it may be done or not.
const BEGUN: &str = "begun";

/// Characters of a text of a row; of the difference four times as many.
pub(super) const MAX_TEXT_CHARS: usize = 1_024;

tokio::task_local! {
    /// The request that runs.
    pub(crate) static REQUEST: Arc<PendingRow>;
}

/// A row that waits for its change, or for its number.
#[derive(Debug)]
pub(crate) struct PendingRow {
    /// Unique, and larger than those before it: pending rows are chained in this order.
    pub(crate) id: u64,
    pub(crate) at: Timestamp,
    principal: String,
    action: String,
    subject: String,
    /// How it ended, if that is known when it is written.
    outcome: Option<String>,
    source: String,
    token: String,
    notes: Mutex<RequestNotes>,
}

/// What the work says of itself while it runs.
#[derive(Debug, Default, Clone)]
pub(super) struct RequestNotes {
    pub(super) object: String,
    pub(super) difference: String,
}

/// Who asks for what, and from where.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    pub(crate) principal: &'a str,
    pub(crate) action: &'a str,
    pub(crate) subject: &'a str,
    /// The address, if there is a connection.
    pub(crate) source: String,
    /// The name of the token, if there is one.
    pub(crate) token: String,
}

impl PendingRow {
    /// A row. `outcome`: how it ended; `None`: it has only begun.
    pub(crate) fn new(id: u64, at: Timestamp, request: Request<'_>, outcome: Option<&str>) -> Self {
        let Request { principal, action, subject, source, token } = request;
        Self {
            id,
            at,
            principal: cut(principal, MAX_TEXT_CHARS),
            action: cut(action, MAX_TEXT_CHARS),
            subject: cut(subject, MAX_TEXT_CHARS),
            outcome: outcome.map(|outcome| cut(outcome, MAX_TEXT_CHARS)),
            source,
            token,
            notes: Mutex::default(),
        }
    }

    /// Adds to what the row tells. What comes after it was written is lost.
    pub(super) fn annotate(&self, tell: impl FnOnce(&mut RequestNotes)) {
        tell(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The request that it is the row of.
    pub(super) fn request(&self) -> Request<'_> {
        Request {
            principal: &self.principal,
            action: &self.action,
            subject: &self.subject,
            source: self.source.clone(),
            token: self.token.clone(),
        }
    }

    /// What it tells now.
    pub(crate) fn details(&self) -> Details {
        let RequestNotes { object, difference } =
            self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Details { object, difference, source: self.source.clone(), token: self.token.clone() }
    }

    /// For a transaction.
    pub(crate) fn into_outbox(self) -> OutboxRow {
        OutboxRow::new(Arc::new(self))
    }
}

impl Insert for PendingRow {
    fn insert(&self, with: WrittenWith) -> Statement {
        let text = "INSERT INTO access_audit_pending
                      (id, at, principal, action, subject, outcome, object, difference, source, token)
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                    ON CONFLICT (id) DO UPDATE SET outcome = excluded.outcome
                     WHERE access_audit_pending.at = excluded.at
                       AND access_audit_pending.principal = excluded.principal
                       AND access_audit_pending.action = excluded.action
                       AND access_audit_pending.subject = excluded.subject
                       AND access_audit_pending.source = excluded.source
                       AND access_audit_pending.token = excluded.token
                       AND (access_audit_pending.outcome = excluded.outcome
                         OR access_audit_pending.outcome IN ('begun', 'committed'))";
        let unknown = match with {
            WrittenWith::Change => COMMITTED,
            WrittenWith::Nothing => BEGUN,
        };
        let details = self.details();
        statement("write the audit log", text)
            .bind(self.id)
            .bind(self.at.0)
            .bind(&self.principal)
            .bind(&self.action)
            .bind(&self.subject)
            .bind(self.outcome.as_deref().unwrap_or(unknown))
            .bind(details.object)
            .bind(details.difference)
            .bind(details.source)
            .bind(details.token)
    }
}

/// At most so many characters; what is cut off is said by an ellipsis.
pub(super) fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
