//! The store in the shared [`Database`].

use api::{
    ids::{NodeId, NodeName, Timestamp},
    status::{NodeEvent, Phase, Severity},
};
use async_trait::async_trait;
use database::{
    Database, DatabaseError, Json, Kept, MigrateError, Number, Parsed, Schema, Step, Transaction,
    Unreadable, Value, Word, json, statement,
};
use sqlx::FromRow;

use super::{
    Batch, MAX_HISTORY, NodeRow, RegisterChange, Store, StoreError, StoredNode, TRIM_EVERY,
};
use crate::{arming::Arming, enrolments::Enrolments, lifecycle::NodeLifecycle};

/// The tables of this crate.
pub static SCHEMA: Schema = Schema::new(
    "fleet",
    "fleet_migrations",
    &[
        Step::sql("first", include_str!("../../migrations/0001_first.sql")),
        Step::sql("topologies", include_str!("../../migrations/0002_topologies.sql")),
        Step::sql("enrolments", include_str!("../../migrations/0003_enrolments.sql")),
    ],
);

/// Rows in one statement: SQLite takes 32,766 values, an event has 7.
const ROWS_PER_STATEMENT: usize = 1_000;

/// The fleet's tables in the database.
#[derive(Debug, Clone)]
pub(crate) struct SqlStore {
    database: Database,
}

impl SqlStore {
    /// Opens the store and brings its tables up to date.
    pub(crate) async fn open(database: Database) -> Result<Self, MigrateError> {
        database.migrate(&SCHEMA).await?;
        Ok(Self::new(database))
    }

    /// The store in a database whose tables are up to date.
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// All nodes; an error in place of one whose name or id cannot be read.
    pub(crate) async fn each_node(
        &self,
    ) -> Result<Vec<Result<StoredNode, DatabaseError>>, DatabaseError> {
        let text = "SELECT id, name, life, arming, enrolments, history FROM fleet_nodes";
        let rows =
            statement("read the nodes", text).fetch_each::<NodeColumns>(&self.database).await?;
        Ok(rows.into_iter().map(|row| row.map(StoredNode::from)).collect())
    }
}

#[derive(FromRow)]
struct NodeColumns {
    id: Parsed<NodeId>,
    name: Parsed<NodeName>,
    life: Kept<Json<NodeLifecycle>>,
    arming: Kept<Json<Arming>>,
    enrolments: Kept<Json<Enrolments>>,
    history: Number<u64>,
}

impl From<NodeColumns> for StoredNode {
    /// What cannot be read of a node's state begins again, and its token is taken for misused, its
    /// certificates for doubtful: they may have been.
    fn from(row: NodeColumns) -> Self {
        let mut unreadable = None;
        let mut note = |error: Unreadable| unreadable = Some(error.to_string());
        let life = row
            .life
            .0
            .map_err(&mut note)
            .map_or_else(|()| NodeLifecycle::new(Timestamp(0)), |life| life.0);
        let arming =
            row.arming.0.map_err(&mut note).map_or_else(|()| Arming::disarmed(), |arming| arming.0);
        let enrolments = row.enrolments.0.map_err(&mut note);
        let enrolments =
            enrolments.map_or_else(|()| Enrolments::unreadable(life.since), |kept| kept.0);
        let (id, name, history) = (row.id.0, row.name.0, row.history.0);
        Self { row: NodeRow { id, name, life, arming, enrolments, history }, unreadable }
    }
}

#[derive(FromRow)]
struct EventColumns {
    number: Number<u64>,
    at: i64,
    name: Parsed<NodeName>,
    phase: Kept<Word<Phase>>,
    severity: Kept<Word<Severity>>,
    message: Kept<String>,
}

impl EventColumns {
    fn event(self, id: NodeId) -> (u64, NodeEvent) {
        let damaged =
            |error: Unreadable| format!("this line cannot be read from the database: {error}");
        let (phase, severity, message) = match (self.phase.0, self.severity.0, self.message.0) {
            (Ok(phase), Ok(severity), Ok(message)) => (phase.0, severity.0, message),
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
                (Phase::Unseen, Severity::Error, damaged(error))
            }
        };
        let event =
            NodeEvent { id, at: Timestamp(self.at), name: self.name.0, phase, severity, message };
        (self.number.0, event)
    }
}

/// Adds nodes, or writes what they lived through.
async fn write_nodes(
    transaction: &mut Transaction,
    nodes: &[NodeRow],
) -> Result<(), DatabaseError> {
    const ACTION: &str = "write nodes";
    for chunk in nodes.chunks(ROWS_PER_STATEMENT) {
        let mut rows: Vec<[Value; 6]> = Vec::with_capacity(chunk.len());
        for node in chunk {
            rows.push([
                node.id.to_string().into(),
                node.name.as_str().into(),
                json(ACTION, &node.life)?.into(),
                json(ACTION, &node.arming)?.into(),
                json(ACTION, &node.enrolments)?.into(),
                node.history.into(),
            ]);
        }
        let rest = "ON CONFLICT (id) DO UPDATE SET name = excluded.name, life = excluded.life,
                      arming = excluded.arming, enrolments = excluded.enrolments,
                      history = excluded.history";
        statement(ACTION, "INSERT INTO fleet_nodes (id, name, life, arming, enrolments, history)")
            .rows(rows, rest)
            .execute(&mut *transaction)
            .await?;
    }
    Ok(())
}

async fn write_events(
    transaction: &mut Transaction,
    events: &[(u64, NodeEvent)],
) -> Result<(), DatabaseError> {
    for chunk in events.chunks(ROWS_PER_STATEMENT) {
        let rows = chunk.iter().map(|(number, event)| -> [Value; 7] {
            [
                event.id.to_string().into(),
                (*number).into(),
                event.at.0.into(),
                event.name.as_str().into(),
                event.phase.as_str().into(),
                event.severity.as_str().into(),
                (&event.message).into(),
            ]
        });
        let text = "INSERT INTO fleet_history (node, number, at, name, phase, severity, message)";
        statement("write events", text).rows(rows, "").execute(&mut *transaction).await?;
    }
    for (number, event) in events.iter().filter(|(number, _)| number.is_multiple_of(TRIM_EVERY)) {
        let text = "DELETE FROM fleet_history WHERE node = $1 AND number <= $2";
        statement("trim the history", text)
            .bind(event.id.to_string())
            .bind(number.saturating_sub(MAX_HISTORY))
            .execute(&mut *transaction)
            .await?;
    }
    Ok(())
}

#[async_trait]
impl Store for SqlStore {
    async fn nodes(&self) -> Result<Vec<StoredNode>, StoreError> {
        let logged = |row: Result<StoredNode, DatabaseError>| {
            row.inspect_err(|error| tracing::error!("{}; it is left out", rest::causes(error))).ok()
        };
        Ok(self.each_node().await?.into_iter().filter_map(logged).collect())
    }

    async fn change_register(
        &self,
        transaction: &mut Transaction,
        change: &RegisterChange,
    ) -> Result<(), DatabaseError> {
        for chunk in change.removed.chunks(ROWS_PER_STATEMENT) {
            let rows = chunk.iter().map(|node| [Value::from(node.to_string())]);
            statement("forget nodes", "DELETE FROM fleet_nodes WHERE id IN (")
                .rows(rows, ")")
                .execute(&mut *transaction)
                .await?;
        }
        for (node, name) in &change.renamed {
            statement("rename a node", "UPDATE fleet_nodes SET name = $2 WHERE id = $1")
                .bind(node.to_string())
                .bind(name.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        write_nodes(transaction, &change.added).await
    }

    async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        // On a disk that stalls, a batch that is given up is only larger at the next attempt.
        let mut transaction = self.database.begin_long().await?;
        write_nodes(&mut transaction, &batch.nodes).await?;
        write_events(&mut transaction, &batch.events).await?;
        Ok(transaction.commit("commit changes of nodes").await?)
    }

    async fn history(
        &self,
        node: NodeId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, NodeEvent)>, StoreError> {
        let text = "SELECT number, at, name, phase, severity, message FROM fleet_history
                     WHERE node = $1 AND number < $2 ORDER BY number DESC LIMIT $3";
        let events = statement("read the history", text)
            .bind(node.to_string())
            // Events are counted from 1, so none has the largest number that there is.
            .bind(before.unwrap_or(u64::MAX))
            .bind(limit);
        let rows: Vec<EventColumns> = events.fetch_all(&self.database).await?;
        Ok(rows.into_iter().map(|row| row.event(node)).collect())
    }
}
