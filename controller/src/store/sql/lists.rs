//! Lists of workflows that are over: filtered, sorted, a page at a time.

use api::{run::WorkflowId, workflow::WorkflowSort};
use database::{Parsed, Statement, statement};
use sqlx::AssertSqlSafe;

use super::{Listed, Listing, PageCursor, SqlStore, StoreError, WORKFLOW, WorkflowColumns};

impl SqlStore {
    pub(super) async fn list_over(
        &self,
        listing: &Listing,
        behind: Option<&PageCursor>,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError> {
        let states = listing.final_states();
        if states.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Vec::new());
        }
        let state = |index: usize| states.as_ref()?.get(index).map(|state| state.as_str());
        let text = text(listing);
        let start = if listing.is_reversed { 0 } else { u64::MAX };
        let over = |limit: u32, seen: u32| -> Statement {
            statement("read the workflows that are over", AssertSqlSafe(text.clone()))
                .bind(limit)
                .bind(listing.owner.as_deref())
                .bind(behind.map_or(start, |behind| behind.sequence))
                .bind(behind.map_or(i64::MAX, |behind| behind.at.0))
                .bind(seen)
                .bind(behind.map(|behind| behind.key.as_str()))
                .bind(listing.name.as_ref().map(super::super::NamePattern::glob))
                .bind(state(0))
                .bind(state(1))
                .bind(state(2))
                .bind(listing.since.map(|since| since.0))
                .bind(listing.until.map(|until| until.0))
        };
        let rows: Vec<WorkflowColumns> = self.page(limit, over).await?;
        let listed = |row: WorkflowColumns| Listed { key: row.sort_key.clone(), row: row.into() };
        Ok(rows.into_iter().map(listed).collect())
    }

    pub(super) async fn list_named(
        &self,
        name: &str,
        owner: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(WorkflowId, Option<String>)>, StoreError> {
        let text = "SELECT id, owner_name FROM controller_workflows
                     WHERE name = $1 AND ($2 IS NULL OR owner_name = $2)
                     ORDER BY place DESC LIMIT $3";
        let named =
            statement("look up workflows by their name", text).bind(name).bind(owner).bind(limit);
        let rows: Vec<(Parsed<WorkflowId>, Option<String>)> =
            named.fetch_all(&self.database).await?;
        Ok(rows.into_iter().map(|(id, owner)| (id.0, owner)).collect())
    }
}

/// The statement of a list. It depends on no value, so that few are prepared and kept.
///
/// The rows are found by their places in an index that has what stands behind a row's document,
/// which may be megabytes; past it only the rows of the page are read.
pub(in super::super) fn text(listing: &Listing) -> String {
    let (before, after, down) =
        if listing.is_reversed { (">", "<", "ASC") } else { ("<", ">", "DESC") };
    let up = if listing.is_reversed { "DESC" } else { "ASC" };
    let key = match listing.sort {
        WorkflowSort::Created => "''",
        // As it is not in the index of names, which would be gone through instead.
        WorkflowSort::Name => "COALESCE(name, '')",
        WorkflowSort::State => "state",
        // Of an owner that cannot be read nobody knows the name.
        WorkflowSort::User => "COALESCE(owner_name, '')",
    };
    let (behind, order) = match listing.sort {
        WorkflowSort::Created => {
            (format!("place {before} $3 AND ($6 IS NULL OR $6 = '')"), format!("place {down}"))
        }
        _ => (
            format!("($6 IS NULL OR {key} {after} $6 OR ({key} = $6 AND place {before} $3))"),
            format!("{key} {up}, place {down}"),
        ),
    };
    let is_plain = listing.sort == WorkflowSort::Created && !listing.has_filters();
    let whose = match (&listing.owner, is_plain) {
        (None, _) => "$2 IS NULL",
        // A text of its own, so that the index of the owner's own is used.
        (Some(_), true) => "owner_name = $2",
        // So that it is not: it has nothing to sort and filter by.
        (Some(_), false) => "COALESCE(owner_name, '') = $2",
    };
    let filters = if listing.has_filters() {
        "($7 IS NULL OR name GLOB $7) AND ($8 IS NULL OR state IN ($8, $9, $10))
                AND ($11 IS NULL OR submitted >= $11) AND ($12 IS NULL OR submitted <= $12)"
    } else {
        "COALESCE($7, $8, $9, $10, $11, $12) IS NULL"
    };
    format!(
        "SELECT {WORKFLOW}, {key} AS sort_key FROM controller_workflows
          WHERE place IN (
            SELECT place FROM controller_workflows
              WHERE ended IS NOT NULL AND ended <= $4 AND {whose} AND {behind} AND {filters}
              ORDER BY {order} LIMIT $1 OFFSET $5)
          ORDER BY {order}"
    )
}
