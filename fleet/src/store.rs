//! Where nodes, their history and their inventories are kept. One module per engine; one conformance suite for all.

pub(crate) mod sqlite;

#[cfg(test)]
mod conformance;

use std::future::Future;

use api::{
    ids::{Digest, NodeId, NodeName, Timestamp},
    status::NodeEvent,
};

use crate::{arming::Arming, lifecycle::Life};

/// Events kept of one node: some 40 boots. Up to [`TRIM_EVERY`] more until the next trim.
pub(crate) const MAX_HISTORY: u64 = 1_000;

/// History is trimmed at every hundredth event of a node, not at each.
pub(crate) const TRIM_EVERY: u64 = 100;

/// Inventories kept of one node, to see what changed. An inventory is some 20 KB.
pub(crate) const MAX_INVENTORIES: u64 = 8;

/// A failed action on the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement failed.
    #[error("the database could not {action}")]
    Database {
        /// What it was to do.
        action: &'static str,
        /// Why it could not.
        #[source]
        source: sqlx::Error,
    },
    /// The tables could not be brought up to date.
    #[error("the tables of the fleet could not be brought up to date")]
    Migrate {
        /// Why.
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// A row does not hold what it should.
    #[error("the database holds an invalid {subject}")]
    Decode {
        /// What.
        subject: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What changed could not be written; it is tried again.
    #[error("the state of the fleet could not be written to the database: {why}")]
    NotWritten {
        /// The error of the last attempt with its causes.
        why: String,
    },
}

/// One node as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeRow {
    pub(crate) id: NodeId,
    pub(crate) name: NodeName,
    pub(crate) life: Life,
    pub(crate) arming: Arming,
    /// Number of the newest event.
    pub(crate) history: u64,
}

/// Changes that are written together, in one transaction: first the forgotten nodes, then the others, then the events.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Batch {
    pub(crate) forgotten: Vec<NodeId>,
    pub(crate) nodes: Vec<NodeRow>,
    /// With the event's number in its node's history.
    pub(crate) events: Vec<(u64, NodeEvent)>,
}

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
pub(crate) trait Store: Send + Sync {
    /// All nodes.
    fn nodes(&self) -> impl Future<Output = Result<Vec<NodeRow>, StoreError>> + Send;
    /// Writes all of it or nothing.
    fn write(&self, batch: &Batch) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The newest events of a node, newest first.
    fn history(
        &self,
        node: NodeId,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<NodeEvent>, StoreError>> + Send;
    /// Keeps an inventory. `false` if it is the one that was kept last.
    fn put_inventory(
        &self,
        node: NodeId,
        inventory: &InventoryRow,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// The newest inventories of a node, newest first.
    fn inventories(
        &self,
        node: NodeId,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<InventoryRow>, StoreError>> + Send;
    /// Keeps the topology of a node in place of the one before.
    fn put_topology(
        &self,
        node: NodeId,
        topology: &TopologyRow,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The topology of a node.
    fn topology(&self, node: NodeId) -> impl Future<Output = Result<Option<TopologyRow>, StoreError>> + Send;
}
