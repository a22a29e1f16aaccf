//! A batch of writes as few statements: each one is a message to SQLite's thread and back, which
//! takes longer than its work.

use std::collections::BTreeMap;

use api::{
    ids::Digest,
    run::{RunId, WorkflowId},
    workflow::WorkflowEvent,
};
use database::{DatabaseError, Transaction, Value, json, statement};
use document::plan::StageId;
use sqlx::AssertSqlSafe;

use super::{super::KEY_LIFE_SECONDS, ATTEMPT, RUN, WORKFLOW};
use crate::record::{
    AttemptKey, AttemptRow, RunRow, StageRow, SubmissionKey, SubmittedRow, WorkflowRow, Write,
};

/// Rows of one statement at most. Tables are written in pieces of powers of two, so that few
/// statements are prepared and kept.
const MAX_ROWS: usize = 64;

/// What is left of some [`Write`]s when each row is written once, as it is in the end.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    submitted: BTreeMap<WorkflowId, &'a SubmittedRow>,
    workflows: BTreeMap<WorkflowId, &'a WorkflowRow>,
    stages: BTreeMap<(WorkflowId, StageId), &'a StageRow>,
    attempts: BTreeMap<(WorkflowId, AttemptKey), &'a AttemptRow>,
    runs: BTreeMap<RunId, &'a RunRow>,
    plans: Vec<(WorkflowId, &'a str)>,
    events: Vec<(WorkflowId, &'a WorkflowEvent)>,
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
                Write::Attempt(row) => {
                    batch.attempts.insert((row.workflow, row.key()), row);
                }
                Write::Run(row) => {
                    batch.runs.insert(row.run, row);
                }
                Write::Event(workflow, event) => batch.events.push((*workflow, event)),
                Write::Forget(id) => batch.forgotten.push(*id),
            }
        }
        batch
    }

    /// Leaves out the stages of which this is true.
    pub(super) fn leave_out_stages(
        &mut self,
        is_left_out: impl Fn(&(WorkflowId, StageId)) -> bool,
    ) {
        self.stages.retain(|stage, _| !is_left_out(stage));
    }

    /// Writes it, workflows before what refers to them.
    pub(super) async fn write(&self, transaction: &mut Transaction) -> Result<(), DatabaseError> {
        for submitted in self.submitted.values() {
            let newest = self.workflows.get(&submitted.row.id);
            put_submitted(transaction, submitted, newest.unwrap_or(&&submitted.row)).await?;
            if let Some((key, request)) = &submitted.key {
                put_key(transaction, key, *request, &submitted.row).await?;
            }
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
        for row in self.attempts.values() {
            put_attempt(transaction, row).await?;
        }
        let runs: Vec<&RunRow> = self.runs.values().copied().collect();
        for rows in pieces(&runs) {
            put_runs(transaction, rows).await?;
        }
        for events in pieces(&self.events) {
            put_events(transaction, events).await?;
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
    transaction: &mut Transaction,
    submitted: &SubmittedRow,
    row: &WorkflowRow,
) -> Result<(), DatabaseError> {
    const ACTION: &str = "add a workflow";
    let text = format!(
        "INSERT INTO controller_workflows ({WORKFLOW}, document, plan)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
    );
    statement(ACTION, AssertSqlSafe(text))
        .bind(row.id.to_string())
        .bind(row.sequence)
        .bind(&row.name)
        .bind(json(ACTION, &row.owner)?)
        .bind(row.submitted.0)
        .bind(row.started.map(|at| at.0))
        .bind(row.ended.map(|at| at.0))
        .bind(row.state.as_str())
        .bind(row.reason.as_ref())
        .bind(row.stop.as_ref())
        .bind(json(ACTION, &row.volume_placements)?)
        .bind(optional_json(ACTION, row.view.as_ref())?)
        .bind(row.paused.as_ref())
        .bind(&submitted.document)
        .bind(&submitted.plan)
        .execute(transaction)
        .await
        .map(drop)
}

/// Notes which workflow a key of a submission stands for, and drops the keys that are too old to
/// count: there are never more than were used within [`KEY_LIFE_SECONDS`]. Whoever hands in has
/// seen that the key is free or too old; where a clock was set back it may still be here.
async fn put_key(
    transaction: &mut Transaction,
    key: &SubmissionKey,
    request: Digest,
    row: &WorkflowRow,
) -> Result<(), DatabaseError> {
    let text = "DELETE FROM controller_idempotency_keys WHERE at < $1";
    statement("drop old idempotency keys", text)
        .bind(row.submitted.plus_seconds(-KEY_LIFE_SECONDS).0)
        .execute(&mut *transaction)
        .await?;
    let text = "INSERT INTO controller_idempotency_keys
                  (principal, idempotency_key, request, workflow, at)
                VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT (principal, idempotency_key) DO UPDATE SET
                  request = excluded.request, workflow = excluded.workflow, at = excluded.at";
    statement("write an idempotency key", text)
        .bind(&key.principal)
        .bind(&key.key)
        .bind(request.to_string())
        .bind(row.id.to_string())
        .bind(row.submitted.0)
        .execute(transaction)
        .await
        .map(drop)
}

/// Replaces what changes of a workflow; document and plan are not among it. What could not be read
/// stays as it is, for somebody who mends it. Of one that was forgotten nothing is
/// there to replace.
async fn put_workflow(
    transaction: &mut Transaction,
    row: &WorkflowRow,
) -> Result<(), DatabaseError> {
    const ACTION: &str = "write a workflow";
    let text = "UPDATE controller_workflows SET started = $2, ended = $3,
                  state = COALESCE($4, state), reason = $5, stop = $6,
                  homes = COALESCE($7, homes), view = COALESCE($8, view), paused = $9
                WHERE id = $1";
    let was_read =
        |column| row.unreadable.as_ref().is_none_or(|damage| !damage.columns.contains(&column));
    let volume_placements =
        was_read("homes").then(|| json(ACTION, &row.volume_placements)).transpose()?;
    let view = row.view.as_ref().filter(|_| was_read("view"));
    statement(ACTION, text)
        .bind(row.id.to_string())
        .bind(row.started.map(|at| at.0))
        .bind(row.ended.map(|at| at.0))
        .bind(was_read("state").then(|| row.state.as_str()))
        .bind(row.reason.as_ref())
        .bind(row.stop.as_ref())
        .bind(volume_placements)
        .bind(optional_json(ACTION, view)?)
        .bind(row.paused.as_ref())
        .execute(transaction)
        .await
        .map(drop)
}

/// Stores what a workflow of before plans was converted to.
async fn put_plan(
    transaction: &mut Transaction,
    workflow: WorkflowId,
    plan: &str,
) -> Result<(), DatabaseError> {
    let text = "UPDATE controller_workflows SET plan = $2 WHERE id = $1 AND plan IS NULL";
    let update = statement("store the plan of a workflow", text).bind(workflow.to_string());
    update.bind(plan).execute(transaction).await.map(drop)
}

async fn put_stage(transaction: &mut Transaction, row: &StageRow) -> Result<(), DatabaseError> {
    const ACTION: &str = "write a stage";
    let text = "INSERT INTO controller_stages
                  (workflow, stage, state, reason, started, ended, result)
                VALUES ($1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (workflow, stage) DO UPDATE SET
                  state = excluded.state, reason = excluded.reason, started = excluded.started,
                  ended = excluded.ended, result = excluded.result";
    statement(ACTION, text)
        .bind(row.workflow.to_string())
        .bind(row.stage.0)
        .bind(row.state.as_str())
        .bind(row.reason.as_ref())
        .bind(row.started.map(|at| at.0))
        .bind(row.ended.map(|at| at.0))
        .bind(optional_json(ACTION, row.result.as_ref())?)
        .execute(transaction)
        .await
        .map(drop)
}

async fn put_attempt(transaction: &mut Transaction, row: &AttemptRow) -> Result<(), DatabaseError> {
    const ACTION: &str = "write an attempt";
    let text = format!(
        "INSERT INTO controller_attempts ({ATTEMPT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (workflow, stage, task, attempt) DO UPDATE SET
           released = excluded.released, ended = excluded.ended, outcome = excluded.outcome"
    );
    statement(ACTION, AssertSqlSafe(text))
        .bind(row.workflow.to_string())
        .bind(row.stage.0)
        .bind(row.task)
        .bind(row.attempt)
        .bind(row.members)
        .bind(row.placed.0)
        .bind(row.released.map(|at| at.0))
        .bind(row.ended.map(|at| at.0))
        .bind(optional_json(ACTION, row.outcome.as_ref())?)
        .execute(transaction)
        .await
        .map(drop)
}

async fn put_runs(transaction: &mut Transaction, rows: &[&RunRow]) -> Result<(), DatabaseError> {
    const ACTION: &str = "write runs";
    let mut values: Vec<[Value; 17]> = Vec::with_capacity(rows.len());
    for row in rows {
        values.push([
            row.run.to_string().into(),
            row.workflow.to_string().into(),
            row.stage.0.into(),
            row.task.into(),
            row.attempt.into(),
            row.member.into(),
            row.node.to_string().into(),
            row.node_name.as_str().into(),
            (&row.boot).into(),
            optional_json(ACTION, row.grant.as_ref())?.into(),
            row.placed.0.into(),
            row.accepted.into(),
            row.started.map(|at| at.0).into(),
            row.ended.map(|at| at.0).into(),
            optional_json(ACTION, row.outcome.as_ref())?.into(),
            json(ACTION, &row.usage)?.into(),
            row.log_bytes.into(),
        ]);
    }
    let rest = "ON CONFLICT (run) DO UPDATE SET
                  boot = excluded.boot, accepted = excluded.accepted, started = excluded.started,
                  ended = excluded.ended, outcome = excluded.outcome, used = excluded.used,
                  log_bytes = excluded.log_bytes";
    let text = format!("INSERT INTO controller_runs ({RUN})");
    let insert = statement(ACTION, AssertSqlSafe(text)).rows(values, rest);
    insert.execute(transaction).await.map(drop)
}

async fn put_events(
    transaction: &mut Transaction,
    events: &[(WorkflowId, &WorkflowEvent)],
) -> Result<(), DatabaseError> {
    let rows = events.iter().map(|(workflow, event)| -> [Value; 7] {
        [
            workflow.to_string().into(),
            event.number.into(),
            event.at.0.into(),
            event.event.as_str().into(),
            event.stage.into(),
            event.name.as_ref().into(),
            (&event.message).into(),
        ]
    });
    let text = "INSERT INTO controller_events (workflow, number, at, event, stage, name, message)";
    let insert = statement("write the history of workflows", text).rows(rows, "");
    insert.execute(transaction).await.map(drop)
}

/// Removes a workflow and notes that what is on disk of it may go.
async fn forget(transaction: &mut Transaction, id: WorkflowId) -> Result<(), DatabaseError> {
    let text = "INSERT INTO controller_forgotten (workflow)
                SELECT id FROM controller_workflows WHERE id = $1 AND ended IS NOT NULL
                ON CONFLICT (workflow) DO NOTHING";
    let note = statement("note that a workflow is forgotten", text).bind(id.to_string());
    note.execute(&mut *transaction).await?;
    let text = "DELETE FROM controller_workflows WHERE id = $1 AND ended IS NOT NULL";
    let delete = statement("forget a workflow", text).bind(id.to_string());
    delete.execute(transaction).await.map(drop)
}

fn optional_json(
    action: &'static str,
    value: Option<&impl serde::Serialize>,
) -> Result<Option<String>, DatabaseError> {
    value.map(|value| json(action, value)).transpose()
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
