//! What the provisioner keeps: nodes, profiles, image versions, operations.
//!
//! A narrow trait, and one conformance suite for whatever implements it. A change is a list of
//! [`Write`]s that happen all or not at all; when [`Store::commit`] returns, they survive a power
//! cut.

use api::{
    ids::{Digest, ImageName, NodeId, NodeName, ProfileName},
    image::{ImageVersion, ImportImage, Operation, OperationState},
    machine::MachineSpec,
    sources::{holds_secret, shown, without_secrets},
};
use async_trait::async_trait;
use database::{DatabaseError, Transaction};
use image_store::Layer;

pub(crate) mod sql;

#[cfg(test)]
pub(crate) mod conformance;

/// Operations kept, newest first: enough to look back a year of weekly imports many times over.
pub(crate) const MAX_OPERATIONS: u32 = 1_000;

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

/// A version of an image whose row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnreadableImage {
    /// Name of the image.
    pub name: ImageName,
    /// Number of the version.
    pub version: u32,
    /// Why it cannot be read, for people.
    pub cause: String,
}

/// All image versions as stored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredImages {
    /// By name, newest first.
    pub images: Vec<ImageRecord>,
    /// Those that cannot be read.
    pub unreadable: Vec<UnreadableImage>,
    /// Rows of which not even name and version can be read: why, for people.
    pub nameless: Vec<String>,
}

/// A version of an image as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageRecord {
    /// Name of the image.
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
pub(crate) struct OperationRecord {
    /// What a client sees.
    pub operation: Operation,
    /// What was asked for, so that it can start again.
    pub request: ImportImage,
}

impl OperationRecord {
    /// Without logins and queries in what a person or a registry wrote: a release of before kept them.
    pub(crate) fn without_secrets(mut self) -> Self {
        let Self { operation, request } = &mut self;
        let source = std::mem::take(&mut request.source);
        request.source = shown(&source).into_owned();
        // White space in a password ends the URL for whoever finds it in a text.
        let cut = |text: &str| without_secrets(&without_source(text, &source, &request.source));
        operation.title = cut(&operation.title);
        if let OperationState::Failed { error } = &mut operation.state {
            *error = cut(error);
        }
        self
    }
}

/// A text with a source as it may be shown, also where it is quoted as Rust does.
fn without_source(text: &str, source: &str, public: &str) -> String {
    if source == public {
        return text.to_owned();
    }
    let quoted = format!("{source:?}");
    text.replace(&quoted, &format!("{public:?}")).replace(source, public)
}

/// Operations as they may be shown, and the writes after which no login that a release of before kept
/// is in a row of theirs.
pub(crate) fn without_secrets_of_before(
    records: Vec<OperationRecord>,
) -> (Vec<OperationRecord>, Vec<Write>) {
    let mut writes = Vec::new();
    let cut = |record: OperationRecord| {
        let is_kept = holds_secret(&record.request.source);
        let record = record.without_secrets();
        // A row that cannot be read has no source, and stays as it is.
        writes.extend(is_kept.then(|| Write::PutOperation(record.clone())));
        record
    };
    (records.into_iter().map(cut).collect(), writes)
}

/// One write of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
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
        /// Name of the image.
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
    /// All image versions.
    async fn images(&self) -> Result<StoredImages, StoreError>;
    /// The version number that the next version of an image gets: never one that was used before.
    async fn next_image_version(&self, name: &ImageName) -> Result<u32, StoreError>;
    /// All operations, newest first.
    async fn operations(&self) -> Result<Vec<OperationRecord>, StoreError>;
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
    async fn commit(&self, writes: &[Write]) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use api::ids::Timestamp;

    use super::*;

    #[test]
    fn what_a_release_of_before_kept_is_cut_and_written_again() {
        let source = "docker://user:PASSWORD@host/x".to_owned();
        let title = format!("import {source} as x");
        let state =
            OperationState::Failed { error: format!("{source:?} is not an image reference") };
        let operation = Operation { id: 1, title, created: Timestamp(0), state };
        let request =
            ImportImage { source, name: None, insecure: false, platform: None, retry: false };
        let record = OperationRecord { operation, request };
        let mut plain = record.clone();
        plain.request.source = "docker://host/x".to_owned();
        plain.operation.title = "import docker://host/x as x".to_owned();
        plain.operation.state = OperationState::Done { result: "x@1".to_owned() };
        let (records, writes) = without_secrets_of_before(vec![record, plain.clone()]);
        assert!(!format!("{records:?}").contains("PASSWORD"), "{records:?}");
        assert_eq!(records[0].operation.title, "import docker://…@host/x as x");
        assert_eq!(records[0].request.source, "docker://…@host/x");
        assert_eq!(records[1], plain);
        assert_eq!(writes, [Write::PutOperation(records[0].clone())]);
    }

    #[test]
    fn a_password_with_white_space_and_quotes_is_cut_too() {
        let source = "docker://user:PASS WORD\"S )@host/x".to_owned();
        let title = format!("import {source} as x");
        let state =
            OperationState::Failed { error: format!("{source:?} is not an image reference") };
        let operation = Operation { id: 1, title, created: Timestamp(0), state };
        let request =
            ImportImage { source, name: None, insecure: false, platform: None, retry: false };
        let record = OperationRecord { operation, request }.without_secrets();
        assert_eq!(record.operation.title, "import docker://…@host/x as x");
        let error = "\"docker://…@host/x\" is not an image reference".to_owned();
        assert_eq!(record.operation.state, OperationState::Failed { error });
        assert_eq!(record.request.source, "docker://…@host/x");
    }
}
