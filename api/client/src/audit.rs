//! `/v1/audit`.

use api::{
    access::{AuditCut, AuditEntry, AuditHead},
    ids::Timestamp,
};
use reqwest::Method;

use crate::{Client, ClientError};

const PATH: &str = "/v1/audit";

/// Which lines of the audit log are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only lines of this principal.
    pub user: Option<String>,
    /// Only lines of this action: `DELETE`, `operation-end`.
    pub action: Option<String>,
    /// From this time on.
    pub since: Option<Timestamp>,
}

impl Client {
    /// The last entries of the audit log, newest first.
    ///
    /// # Errors
    /// As every request.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, ClientError> {
        self.get_first(PATH, limit).await
    }

    /// The last entries of some kind, newest first, `limit` at most. A server of before 2026-12
    /// knows no filter, and answers with all.
    ///
    /// # Errors
    /// As every request.
    pub async fn audit_of(
        &self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, ClientError> {
        let wanted = limit as usize;
        let AuditFilter { user, action, since } = filter.clone();
        let since = since.map(|since| since.0.to_string());
        let query = [
            ("limit", Some(limit.to_string())),
            ("user", user),
            ("action", action),
            ("since", since),
        ];
        let query: Vec<(&str, String)> =
            query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let first = self.request(Method::GET, PATH)?.query(&query);
        let (mut entries, mut next): (Vec<AuditEntry>, _) = self.get_page(first).await?;
        while entries.len() < wanted
            && let Some(query) = next
        {
            let page = self.request(Method::GET, &format!("{PATH}{query}"))?;
            let (more, after): (Vec<AuditEntry>, _) = self.get_page(page).await?;
            entries.extend(more);
            next = after;
        }
        entries.truncate(wanted);
        Ok(entries)
    }

    /// Entries with larger numbers than `after`, oldest first, `limit` at most. Empty:
    /// there are no more.
    ///
    /// # Errors
    /// As every request.
    pub async fn audit_after(
        &self,
        after: u64,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, ClientError> {
        let query = [("after", after.to_string()), ("limit", limit.to_string())];
        self.get(PATH, &query).await
    }

    /// The last entry, signed by the server.
    ///
    /// # Errors
    /// As every request; 404 if the server signs none.
    pub async fn audit_head(&self) -> Result<AuditHead, ClientError> {
        self.get("/v1/audit/head", &[]).await
    }

    /// Up to where the server has removed the oldest entries; `None`: it has all, or is of a
    /// release that removes none.
    ///
    /// # Errors
    /// As every request.
    pub async fn audit_cut(&self) -> Result<Option<AuditCut>, ClientError> {
        match self.get("/v1/audit/cut", &[]).await {
            Ok(cut) => Ok(Some(cut)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
