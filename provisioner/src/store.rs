//! What the provisioner keeps: nodes, profiles, image versions, operations.
//!
//! A narrow trait, one module for each engine, and one conformance suite that every engine passes. A change is a list
//! of [`Write`]s that happen all or not at all; when [`Store::commit`] returns, they survive a power cut.

use std::future::Future;

use api::{
    ids::{Digest, ImageName, NodeId, NodeName, ProfileName},
    image::{ImageVersion, ImportImage, Operation},
    machine::MachineSpec,
};
use image_store::Layer;

pub mod sqlite;

#[cfg(test)]
mod conformance;

/// Operations kept, newest first: enough to look back a year of weekly imports many times over.
pub const MAX_OPERATIONS: u32 = 1_000;

/// A node as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its identity.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// As declared.
    pub spec: MachineSpec,
    /// Counts changes, from 1.
    pub version: u64,
}

/// A profile as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileRecord {
    /// Its name.
    pub name: ProfileName,
    /// As declared.
    pub spec: MachineSpec,
    /// Counts changes, from 1.
    pub version: u64,
}

/// A version of an image as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// The image.
    pub name: ImageName,
    /// What it is made of.
    pub version: ImageVersion,
    /// SHA-256 of the substrate binary that its stage 1 holds.
    pub substrate: Digest,
    /// Its layers, lowest first: stage 1 is made of them again when the substrate binary has changed.
    pub layers: Vec<Layer>,
}

/// An operation as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRecord {
    /// What a client sees.
    pub operation: Operation,
    /// What was asked for, so that it can start again.
    pub request: ImportImage,
}

/// One write of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Adds a node (`version` 1) or replaces the one with the same id, whose version must be one less.
    PutNode(NodeRecord),
    /// Removes a node, whose version must be the one given.
    DeleteNode {
        /// Which.
        id: NodeId,
        /// Its version.
        version: u64,
    },
    /// Adds a profile (`version` 1) or replaces the one with that name, whose version must be one less.
    PutProfile(ProfileRecord),
    /// Removes a profile, whose version must be the one given.
    DeleteProfile {
        /// Which.
        name: ProfileName,
        /// Its version.
        version: u64,
    },
    /// Adds or replaces an image version.
    PutImage(ImageRecord),
    /// Removes an image version.
    DeleteImage {
        /// The image.
        name: ImageName,
        /// The version.
        version: u32,
    },
    /// Adds or replaces an operation; the oldest ended ones past [`MAX_OPERATIONS`] go.
    PutOperation(OperationRecord),
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
    /// The database refused.
    #[error("cannot {action}")]
    Database {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// The tables could not be made or brought up to date.
    #[error("cannot bring the provisioner's tables up to date")]
    Migrate {
        /// Why it failed.
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// A row that this version cannot read.
    #[error("{subject} in the database cannot be read")]
    Decode {
        /// Which row.
        subject: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What an engine can do.
pub trait Store: Send + Sync {
    /// All nodes, by name.
    fn nodes(&self) -> impl Future<Output = Result<Vec<NodeRecord>, StoreError>> + Send;
    /// All profiles, by name.
    fn profiles(&self) -> impl Future<Output = Result<Vec<ProfileRecord>, StoreError>> + Send;
    /// All image versions, by name, newest first.
    fn images(&self) -> impl Future<Output = Result<Vec<ImageRecord>, StoreError>> + Send;
    /// The version number that the next version of an image gets: never one that was used before.
    fn next_image_version(&self, name: &ImageName) -> impl Future<Output = Result<u32, StoreError>> + Send;
    /// All operations, newest first.
    fn operations(&self) -> impl Future<Output = Result<Vec<OperationRecord>, StoreError>> + Send;
    /// Writes all, or nothing.
    fn commit(&self, writes: &[Write]) -> impl Future<Output = Result<(), StoreError>> + Send;
}
