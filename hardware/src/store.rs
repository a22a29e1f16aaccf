//! Where inventories and topologies are kept: a narrow trait, and one conformance suite for
//! whatever implements it.
//!
//! The tables are made by the fleet's migrations and hang on its rows of nodes: with a node goes
//! what is kept of its hardware. Nothing but this reads and writes them.

pub(crate) mod sql;

#[cfg(test)]
mod conformance;

use api::ids::{Digest, NodeId, Timestamp};
use async_trait::async_trait;
use fleet::StoreError;

/// Inventories kept of one node, to see what changed. One is some 20 KB as JSON, of the
/// largest nodes 100 KB.
pub(crate) const MAX_INVENTORIES: u64 = 8;

/// An inventory as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InventoryRow {
    pub(crate) at: Timestamp,
    pub(crate) digest: Digest,
    /// JSON.
    pub(crate) document: String,
}

/// A topology as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopologyRow {
    pub(crate) at: Timestamp,
    /// Bytes of the XML.
    pub(crate) size: u64,
    /// The XML, compressed ([`crate::topology`]).
    pub(crate) document: Vec<u8>,
}

/// What the store offers. Every write is durable when its future ends.
#[async_trait]
pub(crate) trait Store: Send + Sync + std::fmt::Debug {
    /// Keeps an inventory. `false` if it is the one that was kept last.
    async fn put_inventory(
        &self,
        node: NodeId,
        inventory: &InventoryRow,
    ) -> Result<bool, StoreError>;
    /// The newest inventories of a node, newest first.
    async fn inventories(&self, node: NodeId, limit: u32) -> Result<Vec<InventoryRow>, StoreError>;
    /// The newest inventory of each node, by the nodes' ids, from behind one.
    async fn newest_inventories(
        &self,
        after: Option<NodeId>,
        limit: u32,
    ) -> Result<Vec<(NodeId, InventoryRow)>, StoreError>;
    /// Keeps the topology of a node in place of the one before.
    async fn put_topology(&self, node: NodeId, topology: &TopologyRow) -> Result<(), StoreError>;
    /// The topology of a node.
    async fn topology(&self, node: NodeId) -> Result<Option<TopologyRow>, StoreError>;
}
