//! What the provisioner keeps: nodes and profiles.
//!
//! A narrow trait, and one conformance suite for whatever implements it. A change is a list of
//! [`Write`]s that happen all or not at all; when [`Store::commit`] returns, they survive a power
//! cut.

use api::{
    ids::{NodeId, NodeName, ProfileName},
    machine::MachineSpec,
};
use async_trait::async_trait;
use database::{DatabaseError, Transaction};

pub(crate) mod sql;

#[cfg(test)]
pub(crate) mod conformance;

/// A node as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeRecord {
    /// Its identity.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Specification as an admin declared it, without defaults.
    pub spec: MachineSpec,
    /// Counts changes, from 1.
    pub version: u64,
    /// Why the stored specification cannot be read. `spec` is empty then, and must be taken for
    /// nothing that anybody wants.
    pub unreadable: Option<String>,
}

/// A profile as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProfileRecord {
    /// Its name.
    pub name: ProfileName,
    /// Specification as an admin declared it, without defaults.
    pub spec: MachineSpec,
    /// Counts changes, from 1.
    pub version: u64,
    /// Why the stored specification cannot be read; see [`NodeRecord::unreadable`].
    pub unreadable: Option<String>,
}

/// One write of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// Adds a node (`version` 1) or replaces the one with the same id, whose version
    /// must be one less.
    PutNode(NodeRecord),
    /// Removes a node, whose version must be the one given.
    DeleteNode {
        /// Which.
        id: NodeId,
        /// Its version.
        version: u64,
    },
    /// Adds a profile (`version` 1) or replaces the one with that name, whose version
    /// must be one less.
    PutProfile(ProfileRecord),
    /// Removes a profile, whose version must be the one given.
    DeleteProfile {
        /// Which.
        name: ProfileName,
        /// Its version.
        version: u64,
    },
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else changed the object in between. Nothing was written.
    #[error("{subject} was changed by somebody else in the meantime")]
    Conflict {
        /// `node n1`, `profile base`.
        subject: String,
    },
    /// The database refused, or holds what this release cannot read. Nothing was written.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What a store can do. Rows that cannot be read are returned as what they are or, where not even
/// their key can be read, logged and left out: none keeps the others from being read.
#[async_trait]
pub(crate) trait Store: Send + Sync + std::fmt::Debug {
    /// All nodes, by name.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError>;
    /// All profiles, by name.
    async fn profiles(&self) -> Result<Vec<ProfileRecord>, StoreError>;
    /// Nodes that were deleted and not yet forgotten.
    async fn removed_nodes(&self) -> Result<Vec<NodeId>, StoreError>;
    /// Nothing is left of these deleted nodes.
    async fn forget_removed(&self, nodes: &[NodeId]) -> Result<(), StoreError>;
    /// Writes all into a transaction. After an error nothing of the transaction may be committed.
    async fn write(
        &self,
        transaction: &mut Transaction,
        writes: &[Write],
    ) -> Result<(), StoreError>;
    /// Writes all in a transaction of its own, or nothing.
    #[cfg(test)]
    async fn commit(&self, writes: &[Write]) -> Result<(), StoreError>;
}
