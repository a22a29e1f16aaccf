//! A batch of writes as few statements: each one is a message to SQLite's thread and back, which takes longer than its work.

use std::collections::BTreeMap;

use api::{
    ids::{Digest, Timestamp},
    run::{RunId, WorkflowId},
    workflow::WorkflowEvent,
};
use sqlx::{QueryBuilder, Sqlite, Transaction};

use super::{
    super::{JobImage, RunRow, StageRow, StoreError, SubmittedRow, WorkflowRow, Write},
    RUN, WORKFLOW, failed, json, optional_json, signed,
};

/// Rows of one statement at most. Tables are written in pieces of powers of two, so that few statements are prepared and kept.
const MAX_ROWS: usize = 64;

/// What is left of some [`Write`]s when each row is written once, as it is in the end.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    submitted: BTreeMap<WorkflowId, &'a SubmittedRow>,
    workflows: BTreeMap<WorkflowId, &'a WorkflowRow>,
    stages: BTreeMap<(WorkflowId, u32), &'a StageRow>,
    runs: BTreeMap<RunId, &'a RunRow>,
    plans: Vec<(WorkflowId, &'a str)>,
    events: Vec<(WorkflowId, &'a WorkflowEvent)>,
    images: Vec<(Digest, &'a JobImage, Timestamp)>,
    forgotten: Vec<WorkflowId>,
}

impl<'a> Batch<'a> {
    /// Sorts writes by table.
    pub(super) fn of(writes: &'a [Write]) -> Self {
        let mut batch = Self::default();
        for write in writes {
            match write {
                Write::Submit(submitted) => {
                    batch.submitted.insert(submitted.row.id, submitted);
                }
                Write::Workflow(row) => {
                    batch.workflows.insert(row.id, row);
                }
                Write::Plan { workflow, plan } => batch.plans.push((*workflow, plan)),
                Write::Stage(row) => {
                    batch.stages.insert((row.workflow, row.stage), row);
                }
                Write::Run(row) => {
                    batch.runs.insert(row.run, row);
                }
                Write::Event(workflow, event) => batch.events.push((*workflow, event)),
                Write::Image { manifest, image, used } => batch.images.push((*manifest, image, *used)),
                Write::Forget(id) => batch.forgotten.push(*id),
            }
        }
        batch
    }

    /// Writes it, workflows before what refers to them.
    pub(super) async fn write(&self, transaction: &mut Transaction<'_, Sqlite>) -> Result<(), StoreError> {
        for submitted in self.submitted.values() {
            let newest = self.workflows.get(&submitted.row.id);
            put_submitted(transaction, submitted, newest.unwrap_or(&&submitted.row)).await?;
        }
        for row in self.workflows.values().filter(|row| !self.submitted.contains_key(&row.id)) {
            put_workflow(transaction, row).await?;
        }
        for (workflow, plan) in &self.plans {
            put_plan(transaction, *workflow, plan).await?;
        }
        for row in self.stages.values() {
            put_stage(transaction, row).await?;
        }
        let runs: Vec<&RunRow> = self.runs.values().copied().collect();
        for rows in pieces(&runs) {
            put_runs(transaction, rows).await?;
        }
        for events in pieces(&self.events) {
            put_events(transaction, events).await?;
        }
        for (manifest, image, used) in &self.images {
            put_image(transaction, *manifest, image, *used).await?;
        }
        for id in &self.forgotten {
            forget(transaction, *id).await?;
        }
        Ok(())
    }
}

/// Cuts rows into pieces whose lengths are powers of two, at most [`MAX_ROWS`].
fn pieces<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = 1 << rows.len().min(MAX_ROWS).checked_ilog2()?;
        let (piece, rest) = rows.split_at(length);
        rows = rest;
        Some(piece)
    })
}

/// Adds a workflow. `row`: as it is by the end of the batch.
async fn put_submitted(
    transaction: &mut Transaction<'_, Sqlite>,
    submitted: &SubmittedRow,
    row: &WorkflowRow,
) -> Result<(), StoreError> {
    let text = format!(
        "INSERT INTO controller_workflows ({WORKFLOW}, document, plan)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
    );
    let done = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(row.id.to_string())
        .bind(signed(row.place))
        .bind(&row.name)
        .bind(json(&row.owner, "a workflow")?)
        .bind(row.submitted.0)
        .bind(row.started.map(|at| at.0))
        .bind(row.ended.map(|at| at.0))
        .bind(row.state.as_str())
        .bind(&row.reason)
        .bind(&row.stop)
        .bind(json(&row.homes, "a workflow")?)
        .bind(optional_json(row.view.as_ref(), "a workflow")?)
        .bind(&row.paused)
        .bind(&submitted.document)
        .bind(&submitted.plan)
        .execute(&mut **transaction)
        .await;
    done.map(drop).map_err(failed("add a workflow"))
}

/// Replaces what changes of a workflow; document and plan are not among it. Of one that was
/// forgotten nothing is there to replace.
async fn put_workflow(
    transaction: &mut Transaction<'_, Sqlite>,
    row: &WorkflowRow,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "UPDATE controller_workflows SET started = $2, ended = $3, state = $4, reason = $5, stop = $6,
           homes = $7, view = $8, paused = $9
         WHERE id = $1",
    )
    .bind(row.id.to_string())
    .bind(row.started.map(|at| at.0))
    .bind(row.ended.map(|at| at.0))
    .bind(row.state.as_str())
    .bind(&row.reason)
    .bind(&row.stop)
    .bind(json(&row.homes, "a workflow")?)
    .bind(optional_json(row.view.as_ref(), "a workflow")?)
    .bind(&row.paused)
    .execute(&mut **transaction)
    .await;
    done.map(drop).map_err(failed("save a workflow"))
}

/// Stores what a workflow of before plans was converted to.
async fn put_plan(
    transaction: &mut Transaction<'_, Sqlite>,
    workflow: WorkflowId,
    plan: &str,
) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE controller_workflows SET plan = $2 WHERE id = $1 AND plan IS NULL")
        .bind(workflow.to_string())
        .bind(plan)
        .execute(&mut **transaction)
        .await;
    done.map(drop).map_err(failed("store the plan of a workflow"))
}

async fn put_stage(transaction: &mut Transaction<'_, Sqlite>, row: &StageRow) -> Result<(), StoreError> {
    let done = sqlx::query(
        "INSERT INTO controller_stages (workflow, stage, state, reason, started, ended, result)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (workflow, stage) DO UPDATE SET state = excluded.state, reason = excluded.reason,
           started = excluded.started, ended = excluded.ended, result = excluded.result",
    )
    .bind(row.workflow.to_string())
    .bind(i64::from(row.stage))
    .bind(row.state.as_str())
    .bind(&row.reason)
    .bind(row.started.map(|at| at.0))
    .bind(row.ended.map(|at| at.0))
    .bind(optional_json(row.result.as_ref(), "a stage")?)
    .execute(&mut **transaction)
    .await;
    done.map(drop).map_err(failed("keep a stage"))
}

/// A run as text and numbers, the documents in it made ready.
struct RunColumns<'a> {
    row: &'a RunRow,
    placement: Option<String>,
    outcome: Option<String>,
    used: String,
}

impl<'a> RunColumns<'a> {
    fn of(row: &'a RunRow) -> Result<Self, StoreError> {
        Ok(Self {
            row,
            placement: optional_json(row.grant.as_ref(), "a run")?,
            outcome: optional_json(row.outcome.as_ref(), "a run")?,
            used: json(&row.usage, "a run")?,
        })
    }
}

async fn put_runs(transaction: &mut Transaction<'_, Sqlite>, rows: &[&RunRow]) -> Result<(), StoreError> {
    let rows: Vec<RunColumns<'_>> = rows.iter().map(|row| RunColumns::of(row)).collect::<Result<_, _>>()?;
    let mut statement = QueryBuilder::new(format!("INSERT INTO controller_runs ({RUN}) "));
    statement.push_values(rows, |mut values, RunColumns { row, placement, outcome, used }| {
        values
            .push_bind(row.run.to_string())
            .push_bind(row.workflow.to_string())
            .push_bind(i64::from(row.stage))
            .push_bind(i64::from(row.task))
            .push_bind(i64::from(row.attempt))
            .push_bind(row.node.to_string())
            .push_bind(row.node_name.to_string())
            .push_bind(row.boot.clone())
            .push_bind(placement)
            .push_bind(row.placed.0)
            .push_bind(row.accepted)
            .push_bind(row.started.map(|at| at.0))
            .push_bind(row.ended.map(|at| at.0))
            .push_bind(outcome)
            .push_bind(used)
            .push_bind(signed(row.log_bytes));
    });
    statement.push(
        " ON CONFLICT (run) DO UPDATE SET boot = excluded.boot, accepted = excluded.accepted,
           started = excluded.started, ended = excluded.ended, outcome = excluded.outcome,
           used = excluded.used, log_bytes = excluded.log_bytes",
    );
    let done = statement.build().execute(&mut **transaction).await;
    done.map(drop).map_err(failed("keep runs"))
}

async fn put_events(
    transaction: &mut Transaction<'_, Sqlite>,
    events: &[(WorkflowId, &WorkflowEvent)],
) -> Result<(), StoreError> {
    let mut statement = QueryBuilder::new(
        "INSERT INTO controller_events (workflow, number, at, event, stage, name, message) ",
    );
    statement.push_values(events, |mut values, (workflow, event)| {
        values
            .push_bind(workflow.to_string())
            .push_bind(signed(event.number))
            .push_bind(event.at.0)
            .push_bind(event.event.clone())
            .push_bind(event.stage.map(i64::from))
            .push_bind(event.name.clone())
            .push_bind(event.message.clone());
    });
    let done = statement.build().execute(&mut **transaction).await;
    done.map(drop).map_err(failed("write the history of workflows"))
}

async fn put_image(
    transaction: &mut Transaction<'_, Sqlite>,
    manifest: Digest,
    image: &JobImage,
    used: Timestamp,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "INSERT INTO controller_images (manifest, image, used) VALUES ($1, $2, $3)
         ON CONFLICT (manifest) DO UPDATE SET image = excluded.image, used = excluded.used",
    )
    .bind(manifest.to_string())
    .bind(json(image, "a job image")?)
    .bind(used.0)
    .execute(&mut **transaction)
    .await;
    done.map(drop).map_err(failed("keep a job image"))
}

async fn forget(transaction: &mut Transaction<'_, Sqlite>, id: WorkflowId) -> Result<(), StoreError> {
    let done = sqlx::query("DELETE FROM controller_workflows WHERE id = $1 AND ended IS NOT NULL")
        .bind(id.to_string())
        .execute(&mut **transaction)
        .await;
    done.map(drop).map_err(failed("forget a workflow"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_into_powers_of_two() {
        let rows = vec![(); 171];
        assert_eq!(pieces(&rows).map(<[()]>::len).collect::<Vec<_>>(), [64, 64, 32, 8, 2, 1]);
        assert_eq!(pieces::<()>(&[]).count(), 0);
    }
}
