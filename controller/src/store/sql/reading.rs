//! Rows read one by one: one that cannot be read takes no other with it, and is not forgotten.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use api::{
    ids::Timestamp,
    run::{RunId, WorkflowId},
};
use database::{Number, Parsed, Record, Statement, statement};
use document::plan::StageId;
use rest::causes;

use super::{SqlStore, StoreError, batch::Batch};
use crate::record::SparedRows;

/// Stages whose rows could not be read, when their workflows were read last. The engine has them
/// not, and what it writes of them when somebody stops the workflow is made up.
#[derive(Debug, Default)]
pub(super) struct UnreadStages(Mutex<BTreeSet<(WorkflowId, StageId)>>);

impl UnreadStages {
    fn set(&self, workflow: WorkflowId, stages: BTreeSet<StageId>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(of, _)| *of != workflow);
        all.extend(stages.into_iter().map(|stage| (workflow, stage)));
    }

    /// Takes their rows out of a batch.
    pub(super) fn leave_out(&self, batch: &mut Batch<'_>) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.is_empty() {
            batch.leave_out_stages(|stage| all.contains(stage));
        }
    }
}

impl SqlStore {
    /// The rows that a statement finds, and whether that is all. One that cannot be read is logged
    /// and left out.
    pub(super) async fn logged<T: Record>(
        &self,
        found: Statement,
    ) -> Result<(Vec<T>, u32), StoreError> {
        let rows: Vec<Result<T, StoreError>> = found.fetch_each(&self.database).await?;
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let logged = |row: Result<T, StoreError>| {
            row.inspect_err(|error| tracing::error!("{}; it is left out", causes(error))).ok()
        };
        Ok((rows.into_iter().filter_map(logged).collect(), count))
    }

    /// As [`Self::logged`], `limit` rows: others take the place of those that are left out, for
    /// fewer say that there are no more. `found`: the statement for so many rows behind so many.
    pub(super) async fn page<T: Record>(
        &self,
        limit: u32,
        found: impl Fn(u32, u32) -> Statement + Send + Sync,
    ) -> Result<Vec<T>, StoreError> {
        let (mut page, mut wanted, mut seen) = (Vec::new(), limit, 0_u32);
        loop {
            let (rows, count) = self.logged(found(wanted, seen)).await?;
            let readable = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            page.extend(rows);
            if count < wanted || readable >= wanted {
                return Ok(page);
            }
            (wanted, seen) = (wanted - readable, seen.saturating_add(count));
        }
    }

    /// The rows that can be read; the first that cannot goes to `unreadable`.
    pub(super) async fn readable<T: Record>(
        &self,
        found: Statement,
        unreadable: &mut Option<String>,
    ) -> Result<(Vec<T>, bool), StoreError> {
        let rows = found.fetch_each(&self.database).await?;
        let count = rows.len();
        let kept = |row: Result<T, StoreError>| {
            row.map_err(|error| unreadable.get_or_insert_with(|| causes(&error)).clone()).ok()
        };
        let rows: Vec<T> = rows.into_iter().filter_map(kept).collect();
        let is_all = rows.len() == count;
        Ok((rows, is_all))
    }

    /// Notes which stages of a workflow have rows that are not among those that were `read`.
    pub(super) async fn note_unread_stages(
        &self,
        id: WorkflowId,
        read: impl Iterator<Item = StageId> + Send,
        is_all: bool,
    ) -> Result<(), StoreError> {
        let mut unread = BTreeSet::new();
        if !is_all {
            let text = "SELECT stage FROM controller_stages WHERE workflow = $1";
            let stages = statement("read the numbers of stages", text).bind(id.to_string());
            for row in stages.fetch_each::<(Number<u32>,)>(&self.database).await? {
                match row {
                    Ok((Number(stage),)) => {
                        unread.insert(StageId(stage));
                    }
                    // No write of a stage is of this row.
                    Err(StoreError::Decode { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            for stage in read {
                unread.remove(&stage);
            }
        }
        self.unread_stages.set(id, unread);
        Ok(())
    }

    /// Adds the runs of a workflow to `spared` that are not among those that were `read`.
    /// `workflow` is its id, which may be none any more.
    pub(super) async fn spare_runs(
        &self,
        workflow: &str,
        ended_since: Option<Timestamp>,
        read: &BTreeSet<RunId>,
        spared: &mut SparedRows,
    ) -> Result<(), StoreError> {
        let text =
            "SELECT run FROM controller_runs WHERE workflow = $1 AND ($2 IS NULL OR ended >= $2)";
        let runs = statement("read the names of runs", text)
            .bind(workflow)
            .bind(ended_since.map(|since| since.0));
        for row in runs.fetch_each::<(Parsed<RunId>,)>(&self.database).await? {
            match row {
                Ok((Parsed(run),)) if read.contains(&run) => {}
                Ok((Parsed(run),)) => drop(spared.runs.insert(run)),
                Err(StoreError::Decode { .. }) => spared.any_run = true,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Workflows that are not over, or were not at `since`, and are not among those that were
    /// `read`; with all their runs.
    pub(super) async fn spare_workflows(
        &self,
        since: Timestamp,
        read: &BTreeSet<WorkflowId>,
    ) -> Result<SparedRows, StoreError> {
        let mut spared = SparedRows::default();
        let text = "SELECT id FROM controller_workflows WHERE ended IS NULL OR ended >= $1";
        let names = statement("read the names of workflows", text).bind(since.0);
        for row in names.fetch_each::<(String,)>(&self.database).await? {
            let text = match row {
                Ok((text,)) => text,
                Err(StoreError::Decode { .. }) => {
                    (spared.any_run, spared.any_workflow) = (true, true);
                    continue;
                }
                Err(error) => return Err(error),
            };
            match text.parse() {
                Ok(id) if read.contains(&id) => continue,
                Ok(id) => drop(spared.workflows.insert(id)),
                Err(_) => spared.any_workflow = true,
            }
            self.spare_runs(&text, None, &BTreeSet::new(), &mut spared).await?;
        }
        Ok(spared)
    }
}
