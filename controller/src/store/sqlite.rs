//! The store on SQLite. The pool's owner sets WAL and `synchronous = FULL`.

mod batch;

use api::{
    ids::{Digest, Timestamp},
    run::{RunId, WorkflowId},
    workflow::{State, WorkflowEvent},
};
use sqlx::{
    Connection as _, Row, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteRow,
};

use self::batch::Batch;
use super::{JobImage, RunRow, StageRow, Store, StoreError, StoredPlan, WorkflowRow, Write};

/// Name of the table that counts this crate's migrations; the database is shared with other owners.
const MIGRATIONS_TABLE: &str = "controller_migrations";

const WORKFLOW: &str =
    "id, place, name, owner, submitted, started, ended, state, reason, stop, homes, view, paused";
const RUN: &str = "run, workflow, stage, task, attempt, node, node_name, boot, placement, placed, accepted, started, \
                   ended, outcome, used, log_bytes";

/// Workflows, stages, runs and their history in SQLite.
#[derive(Debug, Clone)]
pub(crate) struct SqliteStore {
    pool: SqlitePool,
}

impl SqliteStore {
    /// Opens the store and brings its tables up to date.
    pub(crate) async fn open(pool: SqlitePool) -> Result<Self, StoreError> {
        let step = |number, name: &'static str, text: &'static str| {
            let text = sqlx::SqlStr::from_static(text);
            Migration::new(number, name.into(), MigrationType::Simple, text, false)
        };
        let mut migrator = Migrator::with_migrations(vec![
            step(1, "first", include_str!("../../migrations/0001_first.sql")),
            step(2, "usage and pause", include_str!("../../migrations/0002_usage_and_pause.sql")),
            step(3, "names", include_str!("../../migrations/0003_names.sql")),
            step(4, "plans", include_str!("../../migrations/0004_plans.sql")),
        ]);
        migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
        let migrated = migrator.run(&pool).await;
        migrated.map_err(|source| StoreError::Migrate { source: Box::new(source) })?;
        Ok(Self { pool })
    }
}

/// Names the action of a failed statement.
fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { action, source }
}

fn decode(subject: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Decode { subject: subject.to_owned(), source: source.into() }
}

/// A row with the word for what it is.
struct Reader<'a> {
    row: &'a SqliteRow,
    subject: &'static str,
}

impl Reader<'_> {
    fn text(&self, column: &str) -> Result<String, StoreError> {
        self.row.try_get(column).map_err(failed("read a row"))
    }

    fn optional_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        self.row.try_get(column).map_err(failed("read a row"))
    }

    fn flag(&self, column: &str) -> Result<bool, StoreError> {
        self.row.try_get(column).map_err(failed("read a row"))
    }

    fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T, StoreError> {
        let value: i64 = self.row.try_get(column).map_err(failed("read a row"))?;
        T::try_from(value).map_err(|_| decode(self.subject, format!("{column} {value} is out of range")))
    }

    fn optional_number<T: TryFrom<i64>>(&self, column: &str) -> Result<Option<T>, StoreError> {
        let value: Option<i64> = self.row.try_get(column).map_err(failed("read a row"))?;
        let out_of_range = |_| decode(self.subject, format!("{column} is out of range"));
        value.map(|value| T::try_from(value).map_err(out_of_range)).transpose()
    }

    fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        Ok(Timestamp(self.number(column)?))
    }

    fn optional_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.optional_number(column)?.map(Timestamp))
    }

    fn parsed<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        self.text(column)?.parse().map_err(|source: T::Err| decode(self.subject, source))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|source| decode(self.subject, source))
    }

    fn optional_json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError> {
        let text = self.optional_text(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|source| decode(self.subject, source)))
            .transpose()
    }

    fn state(&self) -> Result<State, StoreError> {
        let text = self.text("state")?;
        let all = [State::Pending, State::Started, State::Finished, State::Failed, State::Canceled];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| decode(self.subject, format!("{text} is no state")))
    }
}

fn json(value: &impl serde::Serialize, subject: &str) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|source| decode(subject, source))
}

fn optional_json(value: Option<&impl serde::Serialize>, subject: &str) -> Result<Option<String>, StoreError> {
    value.map(|value| json(value, subject)).transpose()
}

/// SQLite has signed integers only; no count or size here gets near the sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn workflow_row(row: &SqliteRow) -> Result<WorkflowRow, StoreError> {
    let reader = Reader { row, subject: "a workflow" };
    Ok(WorkflowRow {
        id: reader.parsed("id")?,
        place: reader.number("place")?,
        name: reader.text("name")?,
        owner: reader.json("owner")?,
        submitted: reader.time("submitted")?,
        started: reader.optional_time("started")?,
        ended: reader.optional_time("ended")?,
        state: reader.state()?,
        reason: reader.optional_text("reason")?,
        stop: reader.optional_text("stop")?,
        paused: reader.optional_text("paused")?,
        homes: reader.json("homes")?,
        view: reader.optional_json("view")?,
    })
}

fn stage_row(row: &SqliteRow) -> Result<StageRow, StoreError> {
    let reader = Reader { row, subject: "a stage" };
    Ok(StageRow {
        workflow: reader.parsed("workflow")?,
        stage: reader.number("stage")?,
        state: reader.state()?,
        reason: reader.optional_text("reason")?,
        started: reader.optional_time("started")?,
        ended: reader.optional_time("ended")?,
        result: reader.optional_json("result")?,
    })
}

fn run_row(row: &SqliteRow) -> Result<RunRow, StoreError> {
    let reader = Reader { row, subject: "a run" };
    Ok(RunRow {
        run: reader.parsed("run")?,
        workflow: reader.parsed("workflow")?,
        stage: reader.number("stage")?,
        task: reader.number("task")?,
        attempt: reader.number("attempt")?,
        node: reader.parsed("node")?,
        node_name: reader.parsed("node_name")?,
        boot: reader.text("boot")?,
        grant: reader.optional_json("placement")?,
        placed: reader.time("placed")?,
        accepted: reader.flag("accepted")?,
        started: reader.optional_time("started")?,
        ended: reader.optional_time("ended")?,
        outcome: reader.optional_json("outcome")?,
        usage: reader.json("used")?,
        log_bytes: reader.number("log_bytes")?,
    })
}

fn event_row(row: &SqliteRow) -> Result<WorkflowEvent, StoreError> {
    let reader = Reader { row, subject: "an event" };
    Ok(WorkflowEvent {
        number: reader.number("number")?,
        at: reader.time("at")?,
        event: reader.text("event")?,
        stage: reader.optional_number("stage")?,
        name: reader.optional_text("name")?,
        message: reader.text("message")?,
    })
}

impl Store for SqliteStore {
    async fn unfinished(&self, since: Timestamp) -> Result<Vec<WorkflowRow>, StoreError> {
        let text = format!(
            "SELECT {WORKFLOW} FROM controller_workflows WHERE ended IS NULL OR ended >= $1 ORDER BY place"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(text)).bind(since.0).fetch_all(&self.pool).await;
        rows.map_err(failed("read workflows"))?.iter().map(workflow_row).collect()
    }

    async fn finished(&self, owner: Option<&str>, limit: u32) -> Result<Vec<WorkflowRow>, StoreError> {
        let whose = if owner.is_some() { "owner_name = $2" } else { "$2 IS NULL" };
        let text = format!(
            "SELECT {WORKFLOW} FROM controller_workflows WHERE ended IS NOT NULL AND {whose} ORDER BY place DESC LIMIT $1"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(i64::from(limit))
            .bind(owner)
            .fetch_all(&self.pool)
            .await;
        rows.map_err(failed("read workflows"))?.iter().map(workflow_row).collect()
    }

    async fn newest(&self, name: &str, owner: Option<&str>) -> Result<Option<WorkflowId>, StoreError> {
        let row = sqlx::query(
            "SELECT id FROM controller_workflows WHERE name = $1 AND ($2 IS NULL OR owner_name = $2)
             ORDER BY place DESC LIMIT 1",
        )
        .bind(name)
        .bind(owner)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("read workflows"))?;
        row.map(|row| Reader { row: &row, subject: "a workflow" }.parsed("id")).transpose()
    }

    async fn plan(&self, id: WorkflowId) -> Result<Option<StoredPlan>, StoreError> {
        let row = sqlx::query(
            "SELECT plan, CASE WHEN plan IS NULL THEN document END AS document
             FROM controller_workflows WHERE id = $1",
        )
        .bind(id.to_string())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("read the plan of a workflow"))?;
        let Some(row) = row else { return Ok(None) };
        let reader = Reader { row: &row, subject: "the plan of a workflow" };
        Ok(Some(match reader.optional_text("plan")? {
            Some(plan) => StoredPlan::Plan(plan),
            None => StoredPlan::Document(reader.text("document")?),
        }))
    }

    async fn without_plan(&self) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS number, COALESCE(SUM(OCTET_LENGTH(document)), 0) AS bytes
             FROM controller_workflows WHERE ended IS NULL AND plan IS NULL",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(failed("count workflows without a plan"))?;
        let reader = Reader { row: &row, subject: "a count" };
        Ok((reader.number("number")?, reader.number("bytes")?))
    }

    async fn stage_names(&self, id: WorkflowId) -> Result<Vec<(u32, String)>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT stage, name FROM controller_events
             WHERE workflow = $1 AND stage IS NOT NULL AND name IS NOT NULL ORDER BY stage",
        )
        .bind(id.to_string())
        .fetch_all(&self.pool)
        .await;
        let rows = rows.map_err(failed("read the history of a workflow"))?;
        let name = |row: &SqliteRow| {
            let reader = Reader { row, subject: "an event" };
            Ok((reader.number("stage")?, reader.text("name")?))
        };
        rows.iter().map(name).collect()
    }

    async fn outdated(&self, keep: u32) -> Result<Vec<WorkflowId>, StoreError> {
        let rows = sqlx::query(
            "SELECT id FROM controller_workflows WHERE ended IS NOT NULL ORDER BY place DESC LIMIT 1000 OFFSET $1",
        )
        .bind(i64::from(keep))
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read workflows"))?;
        rows.iter().map(|row| Reader { row, subject: "a workflow" }.parsed("id")).collect()
    }

    async fn workflow(&self, id: WorkflowId) -> Result<Option<WorkflowRow>, StoreError> {
        let text = format!("SELECT {WORKFLOW} FROM controller_workflows WHERE id = $1");
        let row =
            sqlx::query(sqlx::AssertSqlSafe(text)).bind(id.to_string()).fetch_optional(&self.pool).await;
        row.map_err(failed("read a workflow"))?.as_ref().map(workflow_row).transpose()
    }

    async fn next_place(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(place), 0) + 1 AS place FROM controller_workflows")
            .fetch_one(&self.pool)
            .await
            .map_err(failed("read workflows"))?;
        Reader { row: &row, subject: "a workflow" }.number("place")
    }

    async fn stages(&self, id: WorkflowId) -> Result<Vec<StageRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT workflow, stage, state, reason, started, ended, result FROM controller_stages
             WHERE workflow = $1 ORDER BY stage",
        )
        .bind(id.to_string())
        .fetch_all(&self.pool)
        .await;
        rows.map_err(failed("read stages"))?.iter().map(stage_row).collect()
    }

    async fn runs(&self, id: WorkflowId, stage: Option<u32>, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        let text = format!(
            "SELECT {RUN} FROM controller_runs WHERE workflow = $1 AND ($2 IS NULL OR stage = $2)
             ORDER BY stage, task, attempt LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(id.to_string())
            .bind(stage.map(i64::from))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await;
        rows.map_err(failed("read runs"))?.iter().map(run_row).collect()
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRow>, StoreError> {
        let text = format!("SELECT {RUN} FROM controller_runs WHERE run = $1");
        let row =
            sqlx::query(sqlx::AssertSqlSafe(text)).bind(id.to_string()).fetch_optional(&self.pool).await;
        row.map_err(failed("read a run"))?.as_ref().map(run_row).transpose()
    }

    async fn events(&self, id: WorkflowId, after: u64, limit: u32) -> Result<Vec<WorkflowEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT number, at, event, stage, name, message FROM controller_events
             WHERE workflow = $1 AND number > $2 ORDER BY number LIMIT $3",
        )
        .bind(id.to_string())
        .bind(signed(after))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await;
        rows.map_err(failed("read the history of a workflow"))?.iter().map(event_row).collect()
    }

    async fn last_event(&self, id: WorkflowId) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT COALESCE(MAX(number), 0) AS number FROM controller_events WHERE workflow = $1",
        )
        .bind(id.to_string())
        .fetch_one(&self.pool)
        .await
        .map_err(failed("read the history of a workflow"))?;
        Reader { row: &row, subject: "an event" }.number("number")
    }

    async fn image(&self, manifest: Digest) -> Result<Option<JobImage>, StoreError> {
        let row = sqlx::query("SELECT image FROM controller_images WHERE manifest = $1")
            .bind(manifest.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("read a job image"))?;
        row.map(|row| Reader { row: &row, subject: "a job image" }.json("image")).transpose()
    }

    async fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let batch = Batch::of(writes);
        let mut connection = self.pool.acquire().await.map_err(failed("begin a transaction"))?;
        let written = async {
            let mut transaction = connection.begin().await.map_err(failed("begin a transaction"))?;
            batch.write(&mut transaction).await?;
            transaction.commit().await.map_err(failed("commit"))
        }
        .await;
        if written.is_err() {
            // Nobody knows what SQLite has ended of it by itself: the next one on it might write into a
            // transaction that is never committed.
            connection.close_on_drop();
        }
        written
    }
}
