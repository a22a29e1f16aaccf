//! The lines of the audit log beside the changes that were made.

use std::collections::BTreeMap;

use anyhow::Context as _;
use api::access::AuditEntry;
use client::{Client, ClientError};

/// Lines that are read at a time.
const PAGE: u32 = 1_000;

/// Outcome of what the server died in the middle of: it is done, or it is not.
const BEGUN: &str = "begun";

/// A request as the audit log names it: its method and its path.
pub(super) type Line = (&'static str, String);

/// What must be in the log, and what may be.
#[derive(Debug, Default)]
pub(super) struct Lines {
    must: BTreeMap<Line, u64>,
    may: BTreeMap<Line, u64>,
}

impl Lines {
    /// A change that was made.
    pub(super) fn must(&mut self, line: Line) {
        *self.must.entry(line).or_default() += 1;
    }

    /// A change that may have been made: what is there does not tell.
    pub(super) fn may(&mut self, line: Line) {
        *self.may.entry(line).or_default() += 1;
    }
}

/// How far the log went when a round began.
#[derive(Debug, Default)]
pub(super) struct Marker(u64);

impl Marker {
    /// All up to now is before the round.
    pub(super) async fn set(&mut self, client: &Client) -> anyhow::Result<()> {
        let newest = client.audit(1).await.context("the audit log")?;
        self.0 = newest.first().map_or(0, |entry| entry.number);
        Ok(())
    }

    /// All lines of the round.
    async fn entries(&self, client: &Client) -> Result<Vec<AuditEntry>, ClientError> {
        let mut entries: Vec<AuditEntry> = Vec::new();
        loop {
            let after = entries.last().map_or(self.0, |entry| entry.number);
            let page = client.audit_after(after, PAGE).await?;
            if page.is_empty() {
                return Ok(entries);
            }
            entries.extend(page);
        }
    }

    /// Tells changes without a line, and lines without a change.
    pub(super) async fn hold_against(
        &self,
        client: &Client,
        lines: &Lines,
        diagnostics: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let entries = self.entries(client).await.context("the audit log")?;
        let is_refused = |entry: &AuditEntry| entry.outcome.starts_with(['4', '5']);
        let of_round: Vec<&AuditEntry> =
            entries.iter().filter(|entry| !is_refused(entry)).collect();
        let all = counted(of_round.iter().copied());
        let done = counted(of_round.iter().copied().filter(|entry| entry.outcome != BEGUN));
        for ((method, path), must) in &lines.must {
            let has = all.get(&(*method, path.as_str())).copied().unwrap_or(0);
            if has < *must {
                diagnostics
                    .push(format!("{method} {path}: {must} changes, {has} lines in the audit log"));
            }
        }
        for ((method, path), has) in &done {
            let of = |lines: &BTreeMap<Line, u64>| {
                lines
                    .iter()
                    .find(|((m, p), _)| m == method && p == path)
                    .map_or(0, |(_, count)| *count)
            };
            let most = of(&lines.must) + of(&lines.may);
            if path.starts_with("/v1/") && *has > most {
                diagnostics
                    .push(format!("{method} {path}: {has} lines in the audit log, {most} changes"));
            }
        }
        Ok(())
    }
}

/// How many there are of each method and path.
fn counted<'a>(entries: impl Iterator<Item = &'a AuditEntry>) -> BTreeMap<(&'a str, &'a str), u64> {
    let mut counts = BTreeMap::new();
    for entry in entries {
        *counts.entry((entry.action.as_str(), entry.subject.as_str())).or_default() += 1;
    }
    counts
}
