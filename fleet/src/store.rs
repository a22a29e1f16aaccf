//! Where nodes and their history are kept: a narrow trait, and one conformance
//! suite for whatever implements it.

pub(crate) mod sql;

#[cfg(test)]
mod conformance;

use api::{
    ids::{NodeId, NodeName},
    status::NodeEvent,
};
use async_trait::async_trait;
use database::{DatabaseError, Transaction, outbox::OutboxRow};

use crate::{arming::Arming, enrolments::Enrolments, lifecycle::NodeLifecycle};

/// Events kept of one node: some 40 boots. Up to [`TRIM_EVERY`] more until the next trim.
pub(crate) const MAX_HISTORY: u64 = 1_000;

/// History is trimmed at every hundredth event of a node, not at each.
pub(crate) const TRIM_EVERY: u64 = 100;

/// A failed action on the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement failed, or a row cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A document does not hold what it should.
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
    pub(crate) life: NodeLifecycle,
    pub(crate) arming: Arming,
    pub(crate) enrolments: Enrolments,
    /// Number of the newest event.
    pub(crate) history: u64,
}

/// A node as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredNode {
    pub(crate) row: NodeRow,
    /// Why a part of its state cannot be read, which has begun again in `row`.
    pub(crate) unreadable: Option<String>,
}

/// What nodes lived through, written together in one transaction: first the nodes, then the events.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Batch {
    pub(crate) nodes: Vec<NodeRow>,
    /// With the event's number in its node's history.
    pub(crate) events: Vec<(u64, NodeEvent)>,
    /// What tells who asked for it, written in the same transaction.
    pub(crate) told: Vec<OutboxRow>,
}

/// Which nodes there are from now on, in a transaction of whoever declares them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RegisterChange {
    pub(crate) added: Vec<NodeRow>,
    pub(crate) renamed: Vec<(NodeId, NodeName)>,
    pub(crate) removed: Vec<NodeId>,
}

/// What the store offers. Every write but that of [`Store::change_register`] is durable when its
/// future ends.
#[async_trait]
pub(crate) trait Store: Send + Sync + std::fmt::Debug {
    /// All nodes whose names can be read; the others are logged.
    async fn nodes(&self) -> Result<Vec<StoredNode>, StoreError>;
    /// Adds, renames and removes nodes, with all that is kept of the removed ones.
    async fn change_register(
        &self,
        transaction: &mut Transaction,
        change: &RegisterChange,
    ) -> Result<(), DatabaseError>;
    /// Writes all of it or nothing. The nodes are registered.
    async fn write(&self, batch: &Batch) -> Result<(), StoreError>;
    /// The newest events of a node with their numbers in its history, newest first. With `before`
    /// only those of smaller numbers.
    async fn history(
        &self,
        node: NodeId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, NodeEvent)>, StoreError>;
}
