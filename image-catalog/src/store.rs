//! What the catalog keeps: versions of OS images, operations, job images.
//!
//! A narrow trait, and one conformance suite for whatever implements it. A change is a list of
//! [`Write`]s that happen all or not at all; when [`Store::commit`] returns, they survive a power
//! cut.

use api::{
    ids::{Digest, ImageName, Timestamp},
    image::{ImageVersion, ImportImage, Operation, OperationState},
    sources::{holds_secret, shown, without_secrets},
};
use async_trait::async_trait;
use database::DatabaseError;
use image_store::Layer;

use crate::jobs::JobImage;

pub(crate) mod sql;

#[cfg(test)]
pub(crate) mod conformance;

/// Operations kept, newest first: enough to look back a year of weekly imports many times over.
pub(crate) const MAX_OPERATIONS: u32 = 1_000;

/// A version of an image whose row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnreadableImage {
    /// The image.
    pub name: ImageName,
    /// Number of the version.
    pub version: u32,
    /// Why, for people.
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
pub struct ImageRecord {
    /// The image.
    pub name: ImageName,
    /// What it is made of.
    pub version: ImageVersion,
    /// SHA-256 of the substrate binary that its stage 1 holds.
    pub substrate: Digest,
    /// Its layers, lowest first: stage 1 is made of them again when the substrate binary has
    /// changed.
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
    /// Without logins and queries in what a person or a registry wrote: a release of before kept
    /// them.
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

/// Operations as they may be shown, and the writes after which no login that a release of before
/// kept is in a row of theirs.
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

/// A job image as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptImage {
    /// The image.
    pub image: JobImage,
    /// When somebody used it last, to an hour.
    pub used: Timestamp,
}

/// One write of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
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
    /// Adds or replaces the job image of a manifest.
    PutJobImage {
        /// The image.
        image: Box<JobImage>,
        /// When it was used last.
        used: Timestamp,
    },
    /// Removes what is known of the job image of a manifest, if anything is.
    ForgetJobImage(Digest),
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else changed the object in between. Nothing was written.
    #[error("{subject} was changed by somebody else in the meantime")]
    Conflict {
        /// `image debian@1`.
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
    /// All image versions.
    async fn images(&self) -> Result<StoredImages, StoreError>;
    /// The version number that the next version of an image gets: never one that was used before.
    async fn next_image_version(&self, name: &ImageName) -> Result<u32, StoreError>;
    /// All operations, newest first.
    async fn operations(&self) -> Result<Vec<OperationRecord>, StoreError>;
    /// The job image made of a manifest.
    async fn job_image(&self, manifest: Digest) -> Result<Option<JobImage>, StoreError>;
    /// All job images. One that cannot be read is logged and left out.
    async fn job_images(&self) -> Result<Vec<KeptImage>, StoreError>;
    /// Writes all, or nothing.
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
