//! The store in the shared [`Database`].

use api::ids::{Digest, NodeId, Timestamp};
use async_trait::async_trait;
use database::{Database, Kept, Number, Parsed, statement};
use fleet::StoreError;
use sqlx::FromRow;

use super::{InventoryRow, MAX_INVENTORIES, Store, TopologyRow};

/// The tables in the database.
#[derive(Debug, Clone)]
pub(crate) struct SqlStore {
    database: Database,
}

impl SqlStore {
    /// The store in a database whose tables are up to date ([`fleet::SCHEMA`]).
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }
}

#[derive(FromRow)]
struct InventoryColumns {
    at: i64,
    digest: Kept<Parsed<Digest>>,
    document: Kept<String>,
}

impl From<InventoryColumns> for InventoryRow {
    /// What cannot be read is no inventory, which whoever decodes it says.
    fn from(row: InventoryColumns) -> Self {
        let digest = row.digest.0.map_or(Digest([0; 32]), |digest| digest.0);
        Self { at: Timestamp(row.at), digest, document: row.document.0.unwrap_or_default() }
    }
}

#[derive(FromRow)]
struct NewestColumns {
    node: Parsed<NodeId>,
    #[sqlx(flatten)]
    inventory: InventoryColumns,
}

#[derive(FromRow)]
struct TopologyColumns {
    at: i64,
    size: Number<u64>,
    document: Vec<u8>,
}

impl From<TopologyColumns> for TopologyRow {
    fn from(row: TopologyColumns) -> Self {
        Self { at: Timestamp(row.at), size: row.size.0, document: row.document }
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn put_inventory(
        &self,
        node: NodeId,
        inventory: &InventoryRow,
    ) -> Result<bool, StoreError> {
        let node = node.to_string();
        let mut transaction = self.database.begin().await?;
        // The document itself is compared: one that is damaged has the digest of the whole one.
        let text = "SELECT number, document FROM fleet_inventories
                     WHERE node = $1 ORDER BY number DESC LIMIT 1";
        let last: Option<(Number<u64>, Kept<String>)> = statement("read an inventory", text)
            .bind(&node)
            .fetch_optional(&mut transaction)
            .await?;
        let mut number = 1;
        if let Some((Number(last), Kept(document))) = last {
            if document.is_ok_and(|document| document == inventory.document) {
                transaction.rollback().await?;
                return Ok(false);
            }
            number = last + 1;
        }
        let text = "INSERT INTO fleet_inventories (node, number, at, digest, document)
                    VALUES ($1, $2, $3, $4, $5)";
        statement("write an inventory", text)
            .bind(&node)
            .bind(number)
            .bind(inventory.at.0)
            .bind(inventory.digest.to_string())
            .bind(&inventory.document)
            .execute(&mut transaction)
            .await?;
        let text = "DELETE FROM fleet_inventories WHERE node = $1 AND number <= $2";
        statement("trim the inventories", text)
            .bind(&node)
            .bind(number.saturating_sub(MAX_INVENTORIES))
            .execute(&mut transaction)
            .await?;
        transaction.commit("commit an inventory").await?;
        Ok(true)
    }

    async fn inventories(&self, node: NodeId, limit: u32) -> Result<Vec<InventoryRow>, StoreError> {
        let text = "SELECT at, digest, document FROM fleet_inventories
                     WHERE node = $1 ORDER BY number DESC LIMIT $2";
        let newest = statement("read the inventories", text).bind(node.to_string()).bind(limit);
        let rows: Vec<InventoryColumns> = newest.fetch_all(&self.database).await?;
        Ok(rows.into_iter().map(InventoryRow::from).collect())
    }

    async fn newest_inventories(
        &self,
        after: Option<NodeId>,
        limit: u32,
    ) -> Result<Vec<(NodeId, InventoryRow)>, StoreError> {
        let text = "SELECT node, at, digest, document FROM fleet_inventories AS one
                     WHERE node > $1 AND number =
                       (SELECT MAX(number) FROM fleet_inventories WHERE node = one.node)
                     ORDER BY node LIMIT $2";
        let after = after.map(|node| node.to_string()).unwrap_or_default();
        let page = statement("read the newest inventories", text).bind(after).bind(limit);
        let rows: Vec<NewestColumns> = page.fetch_all(&self.database).await?;
        Ok(rows.into_iter().map(|row| (row.node.0, row.inventory.into())).collect())
    }

    async fn put_topology(&self, node: NodeId, topology: &TopologyRow) -> Result<(), StoreError> {
        let text = "INSERT INTO fleet_topologies (node, at, size, document) VALUES ($1, $2, $3, $4)
                    ON CONFLICT (node) DO UPDATE SET
                      at = excluded.at, size = excluded.size, document = excluded.document";
        statement("write a topology", text)
            .bind(node.to_string())
            .bind(topology.at.0)
            .bind(topology.size)
            .bind(topology.document.as_slice())
            .execute(&self.database)
            .await?;
        Ok(())
    }

    async fn topology(&self, node: NodeId) -> Result<Option<TopologyRow>, StoreError> {
        let text = "SELECT at, size, document FROM fleet_topologies WHERE node = $1";
        let topology = statement("read a topology", text).bind(node.to_string());
        let row: Option<TopologyColumns> = topology.fetch_optional(&self.database).await?;
        Ok(row.map(TopologyRow::from))
    }
}
