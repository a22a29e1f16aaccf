//! The store on SQLite. The pool's owner sets WAL and `synchronous = FULL`.

use api::{
    ids::{NodeId, Timestamp},
    status::{NodeEvent, Phase, Severity},
};
use sqlx::{
    QueryBuilder, Row, Sqlite, SqlitePool, Transaction,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteRow,
};

use super::{
    Batch, InventoryRow, MAX_HISTORY, MAX_INVENTORIES, NodeRow, Store, StoreError, TRIM_EVERY, TopologyRow,
};

/// Name of the table that counts this crate's migrations; the database is shared with other owners.
const MIGRATIONS_TABLE: &str = "fleet_migrations";

/// Versions of the tables, in their order.
const MIGRATIONS: [(&str, &str); 2] = [
    ("first", include_str!("../../migrations/0001_first.sql")),
    ("topologies", include_str!("../../migrations/0002_topologies.sql")),
];

/// Rows in one statement: SQLite takes 32,766 values, an event has 7.
const ROWS_PER_STATEMENT: usize = 1_000;

/// The fleet's tables in SQLite.
#[derive(Debug, Clone)]
pub(crate) struct SqliteStore {
    pool: SqlitePool,
}

impl SqliteStore {
    /// Opens the store and brings its tables up to date.
    pub(crate) async fn open(pool: SqlitePool) -> Result<Self, StoreError> {
        let migration = |(version, (name, text)): (i64, (&'static str, &'static str))| {
            let text = sqlx::SqlStr::from_static(text);
            Migration::new(version, name.into(), MigrationType::Simple, text, false)
        };
        let mut migrator = Migrator::with_migrations((1..).zip(MIGRATIONS).map(migration).collect());
        migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
        let migrated = migrator.run(&pool).await;
        migrated.map_err(|source| StoreError::Migrate { source: Box::new(source) })?;
        Ok(Self { pool })
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        // Immediate: a transaction that turns into a writer later can only fail where it could have waited.
        self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed("begin a transaction"))
    }
}

/// Names the action of a failed statement.
fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { action, source }
}

/// SQLite has signed integers only; counters never get near the sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn text(row: &SqliteRow, column: usize) -> Result<String, StoreError> {
    row.try_get(column).map_err(failed("read a row"))
}

fn integer(row: &SqliteRow, column: usize) -> Result<i64, StoreError> {
    row.try_get(column).map_err(failed("read a row"))
}

fn parsed<T>(text: &str, subject: &str) -> Result<T, StoreError>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text.parse()
        .map_err(|source: T::Err| StoreError::Decode { subject: subject.to_owned(), source: source.into() })
}

fn decoded<T: serde::de::DeserializeOwned>(json: &str, subject: &str) -> Result<T, StoreError> {
    serde_json::from_str(json)
        .map_err(|source| StoreError::Decode { subject: subject.to_owned(), source: source.into() })
}

fn encoded<T: serde::Serialize>(value: &T, subject: &str) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|source| StoreError::Decode { subject: subject.to_owned(), source: source.into() })
}

/// A word of a unit enum, as its JSON without the quotes.
fn word<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    encoded(value, "event").map(|json| json.trim_matches('"').to_owned())
}

fn from_word<T: serde::de::DeserializeOwned>(word: &str) -> Result<T, StoreError> {
    decoded(&format!("\"{word}\""), "event")
}

fn event(row: &SqliteRow, node: NodeId) -> Result<NodeEvent, StoreError> {
    Ok(NodeEvent {
        id: node,
        at: Timestamp(integer(row, 0)?),
        name: parsed(&text(row, 1)?, "event")?,
        phase: from_word::<Phase>(&text(row, 2)?)?,
        severity: from_word::<Severity>(&text(row, 3)?)?,
        message: text(row, 4)?,
    })
}

async fn write_nodes(tx: &mut Transaction<'_, Sqlite>, nodes: &[NodeRow]) -> Result<(), StoreError> {
    for chunk in nodes.chunks(ROWS_PER_STATEMENT) {
        let mut rows = Vec::with_capacity(chunk.len());
        for node in chunk {
            rows.push((node, encoded(&node.life, "node")?, encoded(&node.arming, "node")?));
        }
        let mut query = QueryBuilder::new("INSERT INTO fleet_nodes (id, name, life, arming, history) ");
        query.push_values(rows, |mut row, (node, life, arming)| {
            row.push_bind(node.id.to_string()).push_bind(node.name.to_string());
            row.push_bind(life).push_bind(arming).push_bind(signed(node.history));
        });
        query.push(
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name, life = excluded.life, \
             arming = excluded.arming, history = excluded.history",
        );
        query.build().execute(&mut **tx).await.map_err(failed("write nodes"))?;
    }
    Ok(())
}

async fn write_events(
    tx: &mut Transaction<'_, Sqlite>,
    events: &[(u64, NodeEvent)],
) -> Result<(), StoreError> {
    for chunk in events.chunks(ROWS_PER_STATEMENT) {
        let mut rows = Vec::with_capacity(chunk.len());
        for (number, event) in chunk {
            rows.push((*number, event, word(&event.phase)?, word(&event.severity)?));
        }
        let mut query = QueryBuilder::new(
            "INSERT INTO fleet_history (node, number, at, name, phase, severity, message) ",
        );
        query.push_values(rows, |mut row, (number, event, phase, severity)| {
            row.push_bind(event.id.to_string()).push_bind(signed(number)).push_bind(event.at.0);
            row.push_bind(event.name.to_string()).push_bind(phase).push_bind(severity);
            row.push_bind(event.message.clone());
        });
        query.build().execute(&mut **tx).await.map_err(failed("write events"))?;
    }
    for (number, event) in events.iter().filter(|(number, _)| number.is_multiple_of(TRIM_EVERY)) {
        sqlx::query("DELETE FROM fleet_history WHERE node = $1 AND number <= $2")
            .bind(event.id.to_string())
            .bind(signed(number.saturating_sub(MAX_HISTORY)))
            .execute(&mut **tx)
            .await
            .map_err(failed("trim the history"))?;
    }
    Ok(())
}

impl Store for SqliteStore {
    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        let rows = sqlx::query("SELECT id, name, life, arming, history FROM fleet_nodes")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read the nodes"))?;
        let node = |row: &SqliteRow| {
            let name = text(row, 1)?;
            let subject = format!("node {name}");
            Ok(NodeRow {
                id: parsed(&text(row, 0)?, &subject)?,
                life: decoded(&text(row, 2)?, &subject)?,
                arming: decoded(&text(row, 3)?, &subject)?,
                history: u64::try_from(integer(row, 4)?).unwrap_or_default(),
                name: parsed(&name, &subject)?,
            })
        };
        rows.iter().map(node).collect()
    }

    async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for node in &batch.forgotten {
            sqlx::query("DELETE FROM fleet_nodes WHERE id = $1")
                .bind(node.to_string())
                .execute(&mut *tx)
                .await
                .map_err(failed("forget a node"))?;
        }
        write_nodes(&mut tx, &batch.nodes).await?;
        write_events(&mut tx, &batch.events).await?;
        tx.commit().await.map_err(failed("commit changes of nodes"))
    }

    async fn history(&self, node: NodeId, limit: u32) -> Result<Vec<NodeEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT at, name, phase, severity, message FROM fleet_history WHERE node = $1 \
             ORDER BY number DESC LIMIT $2",
        )
        .bind(node.to_string())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read the history"))?;
        rows.iter().map(|row| event(row, node)).collect()
    }

    async fn put_inventory(&self, node: NodeId, inventory: &InventoryRow) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let last = sqlx::query(
            "SELECT number, digest FROM fleet_inventories WHERE node = $1 ORDER BY number DESC LIMIT 1",
        )
        .bind(node.to_string())
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed("read an inventory"))?;
        let mut number = 1;
        if let Some(last) = last {
            if text(&last, 1)? == inventory.digest.to_string() {
                return Ok(false);
            }
            number = integer(&last, 0)? + 1;
        }
        sqlx::query(
            "INSERT INTO fleet_inventories (node, number, at, digest, document) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(node.to_string())
        .bind(number)
        .bind(inventory.at.0)
        .bind(inventory.digest.to_string())
        .bind(&inventory.document)
        .execute(&mut *tx)
        .await
        .map_err(failed("write an inventory"))?;
        sqlx::query("DELETE FROM fleet_inventories WHERE node = $1 AND number <= $2")
            .bind(node.to_string())
            .bind(number.saturating_sub(signed(MAX_INVENTORIES)))
            .execute(&mut *tx)
            .await
            .map_err(failed("trim the inventories"))?;
        tx.commit().await.map_err(failed("commit an inventory"))?;
        Ok(true)
    }

    async fn inventories(&self, node: NodeId, limit: u32) -> Result<Vec<InventoryRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT at, digest, document FROM fleet_inventories WHERE node = $1 \
             ORDER BY number DESC LIMIT $2",
        )
        .bind(node.to_string())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read the inventories"))?;
        let inventory = |row: &SqliteRow| {
            Ok(InventoryRow {
                at: Timestamp(integer(row, 0)?),
                digest: parsed(&text(row, 1)?, "inventory")?,
                document: text(row, 2)?,
            })
        };
        rows.iter().map(inventory).collect()
    }

    async fn put_topology(&self, node: NodeId, topology: &TopologyRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO fleet_topologies (node, at, size, document) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (node) DO UPDATE SET at = excluded.at, size = excluded.size, document = excluded.document",
        )
        .bind(node.to_string())
        .bind(topology.at.0)
        .bind(signed(topology.size))
        .bind(topology.document.as_slice())
        .execute(&self.pool)
        .await
        .map_err(failed("write a topology"))?;
        Ok(())
    }

    async fn topology(&self, node: NodeId) -> Result<Option<TopologyRow>, StoreError> {
        let row = sqlx::query("SELECT at, size, document FROM fleet_topologies WHERE node = $1")
            .bind(node.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("read a topology"))?;
        let topology = |row: SqliteRow| {
            Ok(TopologyRow {
                at: Timestamp(integer(&row, 0)?),
                size: u64::try_from(integer(&row, 1)?).unwrap_or_default(),
                document: row.try_get(2).map_err(failed("read a row"))?,
            })
        };
        row.map(topology).transpose()
    }
}
