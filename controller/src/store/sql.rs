//! The store in the shared [`Database`].

mod batch;
mod columns;
mod held;
pub(super) mod lists;
mod reading;

use std::collections::BTreeSet;

use api::{
    ids::{Digest, Timestamp},
    run::{RunId, WorkflowId},
    workflow::WorkflowEvent,
};
use async_trait::async_trait;
#[cfg(test)]
use database::MigrateError;
use database::{Database, Number, Parsed, Schema, Step, statement};
use document::plan::StageId;
use sqlx::AssertSqlSafe;

use self::{
    batch::Batch,
    columns::{AttemptColumns, EventColumns, RunColumns, StageColumns, WorkflowColumns},
    reading::UnreadStages,
};
use super::{
    HeldWorkflow, KeyedSubmission, Listed, Listing, PageCursor, Store, StoreError, StoredPlan,
};
use crate::record::{
    AttemptRow, Rows, RunKey, RunRow, SparedRows, StageRow, SubmissionKey, WorkflowRow, Write,
};

/// The tables of this crate, and that of job images, which `image-catalog` reads and writes: it was
/// made in one step with the others.
pub static SCHEMA: Schema = Schema::new(
    "controller",
    "controller_migrations",
    &[
        Step::sql("first", include_str!("../../migrations/0001_first.sql")),
        Step::sql("usage and pause", include_str!("../../migrations/0002_usage_and_pause.sql")),
        Step::sql("names", include_str!("../../migrations/0003_names.sql")),
        Step::sql("plans", include_str!("../../migrations/0004_plans.sql")),
        Step::sql("idempotency keys", include_str!("../../migrations/0005_idempotency_keys.sql")),
        Step::sql("damaged owners", include_str!("../../migrations/0006_damaged_owners.sql")),
        Step::sql("lists", include_str!("../../migrations/0007_lists.sql")),
        Step::sql("forgotten", include_str!("../../migrations/0008_forgotten.sql")),
        Step::sql("attempts", include_str!("../../migrations/0009_attempts.sql")),
    ],
);

/// Columns of a [`WorkflowColumns`].
const WORKFLOW: &str = "id, place, name, owner, submitted, started, ended, state, reason, stop, \
                        homes, view, paused";

/// Columns of a [`RunColumns`].
const RUN: &str = "run, workflow, stage, task, attempt, member, node, node_name, boot, placement, placed, \
                   accepted, started, ended, outcome, used, log_bytes";

/// Columns of an [`AttemptColumns`].
const ATTEMPT: &str = "workflow, stage, task, attempt, members, placed, released, ended, outcome";

/// Workflows found at most that are beyond those that are kept.
const MAX_OUTDATED: u32 = 1_000;

/// Workflows, stages, runs and their history in the database.
#[derive(Debug)]
pub(crate) struct SqlStore {
    database: Database,
    /// Stages whose rows could not be read: these keep what they hold, for somebody who mends them.
    unread_stages: UnreadStages,
}

impl SqlStore {
    /// Opens the store and brings its tables up to date.
    #[cfg(test)]
    pub(crate) async fn open(database: Database) -> Result<Self, MigrateError> {
        database.migrate(&SCHEMA).await?;
        Ok(Self::new(database))
    }

    /// The store in a database whose tables are up to date.
    pub(crate) fn new(database: Database) -> Self {
        Self { database, unread_stages: UnreadStages::default() }
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn unfinished(
        &self,
        since: Timestamp,
    ) -> Result<(Vec<WorkflowRow>, SparedRows), StoreError> {
        let text = format!(
            "SELECT {WORKFLOW} FROM controller_workflows WHERE ended IS NULL OR ended >= $1
              ORDER BY place"
        );
        let open = statement("read the workflows that are not over", AssertSqlSafe(text));
        let (rows, count): (Vec<WorkflowColumns>, u32) = self.logged(open.bind(since.0)).await?;
        let rows: Vec<WorkflowRow> = rows.into_iter().map(WorkflowRow::from).collect();
        if usize::try_from(count).is_ok_and(|count| count == rows.len()) {
            return Ok((rows, SparedRows::default()));
        }
        let read = rows.iter().map(|row| row.id).collect();
        let spared = self.spare_workflows(since, &read).await?;
        Ok((rows, spared))
    }

    async fn newest_end(&self) -> Result<Option<Timestamp>, StoreError> {
        let text = "SELECT MAX(ended) FROM controller_workflows";
        let newest = statement("look for the workflow that ended last", text);
        let (ended,): (Option<i64>,) = newest.fetch_one(&self.database).await?;
        Ok(ended.map(Timestamp))
    }

    async fn over(
        &self,
        listing: &Listing,
        behind: Option<&PageCursor>,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError> {
        self.list_over(listing, behind, limit).await
    }

    async fn newest(
        &self,
        name: &str,
        owner: Option<&str>,
    ) -> Result<Option<WorkflowId>, StoreError> {
        let text = "SELECT id FROM controller_workflows
                     WHERE name = $1 AND ($2 IS NULL OR owner_name = $2)
                     ORDER BY place DESC LIMIT 1";
        let newest = statement("look up a workflow by its name", text).bind(name).bind(owner);
        let row: Option<(Parsed<WorkflowId>,)> = newest.fetch_optional(&self.database).await?;
        Ok(row.map(|(id,)| id.0))
    }

    async fn named(
        &self,
        name: &str,
        owner: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(WorkflowId, Option<String>)>, StoreError> {
        self.list_named(name, owner, limit).await
    }

    async fn outdated(
        &self,
        owner: Option<&str>,
        keep: u32,
    ) -> Result<Vec<WorkflowId>, StoreError> {
        let text = "SELECT id FROM controller_workflows
                     WHERE ended IS NOT NULL AND ($3 IS NULL OR owner_name = $3)
                     ORDER BY place DESC LIMIT $2 OFFSET $1";
        let old =
            statement("read the oldest workflows", text).bind(keep).bind(MAX_OUTDATED).bind(owner);
        let rows: Vec<(Parsed<WorkflowId>,)> = old.fetch_all(&self.database).await?;
        Ok(rows.into_iter().map(|(id,)| id.0).collect())
    }

    async fn workflow(&self, id: WorkflowId) -> Result<Option<WorkflowRow>, StoreError> {
        let text = format!("SELECT {WORKFLOW} FROM controller_workflows WHERE id = $1");
        let one = statement("read a workflow", AssertSqlSafe(text)).bind(id.to_string());
        let row: Option<WorkflowColumns> = one.fetch_optional(&self.database).await?;
        Ok(row.map(WorkflowRow::from))
    }

    async fn plan(&self, id: WorkflowId) -> Result<Option<StoredPlan>, StoreError> {
        // The document of a workflow that has a plan is not read: it may be a megabyte.
        let text = "SELECT id, plan, CASE WHEN plan IS NULL THEN document END AS document
                      FROM controller_workflows WHERE id = $1";
        let row: Option<(String, Option<String>, Option<String>)> =
            statement("read the plan of a workflow", text)
                .bind(id.to_string())
                .fetch_optional(&self.database)
                .await?;
        Ok(row.and_then(|(_, plan, document)| {
            plan.map(StoredPlan::Plan).or_else(|| document.map(StoredPlan::Document))
        }))
    }

    async fn document(&self, id: WorkflowId) -> Result<Option<String>, StoreError> {
        let text = "SELECT document FROM controller_workflows WHERE id = $1";
        let document = statement("read the document of a workflow", text).bind(id.to_string());
        let row: Option<(String,)> = document.fetch_optional(&self.database).await?;
        Ok(row.map(|(document,)| document))
    }

    async fn without_plan(&self) -> Result<(u64, u64), StoreError> {
        let text = "SELECT COUNT(*), COALESCE(SUM(OCTET_LENGTH(document)), 0)
                      FROM controller_workflows WHERE ended IS NULL AND plan IS NULL";
        let (Number(workflows), Number(bytes)) =
            statement("count the workflows without a plan", text).fetch_one(&self.database).await?;
        Ok((workflows, bytes))
    }

    async fn stage_names(&self, id: WorkflowId) -> Result<Vec<(StageId, String)>, StoreError> {
        let text = "SELECT DISTINCT stage, name FROM controller_events
                     WHERE workflow = $1 AND stage IS NOT NULL AND name IS NOT NULL ORDER BY stage";
        let rows: Vec<(Number<u32>, String)> = statement("read the names of stages", text)
            .bind(id.to_string())
            .fetch_all(&self.database)
            .await?;
        Ok(rows.into_iter().map(|(stage, name)| (StageId(stage.0), name)).collect())
    }

    async fn held(&self) -> Result<(Vec<HeldWorkflow>, bool), StoreError> {
        self.each_held().await
    }

    async fn forgotten(&self) -> Result<Vec<WorkflowId>, StoreError> {
        self.each_forgotten().await
    }

    async fn removed(&self, workflows: &[WorkflowId]) -> Result<(), StoreError> {
        self.drop_forgotten(workflows).await
    }

    async fn next_sequence(&self) -> Result<u64, StoreError> {
        // What is no number any more is greater than all.
        let text = "SELECT COALESCE(MAX(place), 0) + 1 FROM controller_workflows
                     WHERE place < 9223372036854775807";
        let (Number(place),) =
            statement("count the workflows", text).fetch_one(&self.database).await?;
        Ok(place)
    }

    async fn rows(
        &self,
        id: WorkflowId,
        ended_since: Option<Timestamp>,
    ) -> Result<Rows, StoreError> {
        let mut unreadable = None;
        let text = "SELECT workflow, stage, state, reason, started, ended, result
                      FROM controller_stages WHERE workflow = $1 ORDER BY stage";
        let stages = statement("read the stages of a workflow", text).bind(id.to_string());
        let (stages, is_all): (Vec<StageColumns>, bool) =
            self.readable(stages, &mut unreadable).await?;
        self.note_unread_stages(id, stages.iter().map(|row| StageId(row.stage.0)), is_all).await?;
        let text = format!("SELECT {ATTEMPT} FROM controller_attempts WHERE workflow = $1");
        let attempts =
            statement("read the attempts of a workflow", AssertSqlSafe(text)).bind(id.to_string());
        let (attempts, _): (Vec<AttemptColumns>, bool) =
            self.readable(attempts, &mut unreadable).await?;
        let text = format!(
            "SELECT {RUN} FROM controller_runs WHERE workflow = $1 AND ($2 IS NULL OR ended >= $2)
              ORDER BY stage, task, attempt, member"
        );
        let runs = statement("read the runs of a workflow", AssertSqlSafe(text))
            .bind(id.to_string())
            .bind(ended_since.map(|since| since.0));
        let (runs, is_all): (Vec<RunColumns>, bool) = self.readable(runs, &mut unreadable).await?;
        let mut spared = SparedRows::default();
        if !is_all {
            let read: BTreeSet<RunId> = runs.iter().map(|run| run.run.0).collect();
            self.spare_runs(&id.to_string(), ended_since, &read, &mut spared).await?;
        }
        let stages = stages.into_iter().map(StageRow::from).collect();
        let attempts = attempts.into_iter().map(AttemptRow::from).collect();
        let runs = runs.into_iter().map(RunRow::from).collect();
        Ok(Rows { stages, attempts, runs, unreadable, spared })
    }

    async fn runs(
        &self,
        id: WorkflowId,
        stage: Option<StageId>,
        after: Option<RunKey>,
        limit: u32,
    ) -> Result<Vec<RunRow>, StoreError> {
        // No attempt has the number 0, so this key is before all.
        let after = after.unwrap_or_default();
        let text = format!(
            "SELECT {RUN} FROM controller_runs
              WHERE workflow = $1 AND ($2 IS NULL OR stage = $2)
                AND (stage, task, attempt, member) > ($4, $5, $6, $7)
              ORDER BY stage, task, attempt, member LIMIT $3 OFFSET $8"
        );
        let runs = |limit: u32, seen: u32| {
            statement("read the runs of a workflow", AssertSqlSafe(text.clone()))
                .bind(id.to_string())
                .bind(stage.map(|stage| stage.0))
                .bind(limit)
                .bind(after.stage.0)
                .bind(after.task)
                .bind(after.attempt)
                .bind(after.member)
                .bind(seen)
        };
        let rows: Vec<RunColumns> = self.page(limit, runs).await?;
        Ok(rows.into_iter().map(RunRow::from).collect())
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError> {
        let text = format!("SELECT {RUN} FROM controller_runs WHERE run = $1");
        let one = statement("read a run", AssertSqlSafe(text)).bind(id.to_string());
        let row: Option<RunColumns> = one.fetch_optional(&self.database).await?;
        Ok(row.map(RunRow::from))
    }

    async fn events(
        &self,
        id: WorkflowId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<WorkflowEvent>, StoreError> {
        let text = "SELECT number, at, event, stage, name, message FROM controller_events
                     WHERE workflow = $1 AND number > $2 ORDER BY number LIMIT $3";
        let rows: Vec<EventColumns> = statement("read the history of a workflow", text)
            .bind(id.to_string())
            .bind(after)
            .bind(limit)
            .fetch_all(&self.database)
            .await?;
        Ok(rows.into_iter().map(WorkflowEvent::from).collect())
    }

    async fn last_event(&self, id: WorkflowId) -> Result<u64, StoreError> {
        let text = "SELECT COALESCE(MAX(number), 0) FROM controller_events WHERE workflow = $1";
        let last = statement("read the history of a workflow", text).bind(id.to_string());
        let (Number(number),) = last.fetch_one(&self.database).await?;
        Ok(number)
    }

    async fn submission(
        &self,
        key: &SubmissionKey,
        since: Timestamp,
    ) -> Result<Option<KeyedSubmission>, StoreError> {
        let text = "SELECT idempotency_key, request, workflow FROM controller_idempotency_keys
                     WHERE principal = $1 AND idempotency_key = $2 AND at >= $3";
        let row: Option<(String, Parsed<Digest>, Parsed<WorkflowId>)> =
            statement("look up an idempotency key", text)
                .bind(&key.principal)
                .bind(&key.key)
                .bind(since.0)
                .fetch_optional(&self.database)
                .await?;
        Ok(row.map(|(_, request, workflow)| KeyedSubmission {
            request: request.0,
            workflow: workflow.0,
        }))
    }

    async fn keys_of(&self, principal: &str, since: Timestamp) -> Result<u64, StoreError> {
        let text = "SELECT COUNT(*) FROM controller_idempotency_keys
                     WHERE principal = $1 AND at >= $2";
        let count = statement("count idempotency keys", text).bind(principal).bind(since.0);
        let (Number(keys),) = count.fetch_one(&self.database).await?;
        Ok(keys)
    }

    async fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut batch = Batch::of(writes);
        self.unread_stages.leave_out(&mut batch);
        // On a disk that stalls, a batch that is given up is only larger at the next attempt.
        let mut transaction = self.database.begin_long().await?;
        batch.write(&mut transaction).await?;
        transaction.commit("commit changes of workflows").await
    }
}
