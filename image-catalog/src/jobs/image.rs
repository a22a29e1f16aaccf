//! A job image, as it is kept in the database and told to whoever wanted it.

use std::collections::HashSet;

use api::{ids::Digest, image::Artifact};
use image_store::RunConfig;
use serde::{Deserialize, Serialize};

/// Indexes that are kept of an image. One that is made again every day for the same image, as those
/// with attestations are, would fill the store otherwise.
const MAX_INDEXES: usize = 16;

/// An image that jobs run in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobImage {
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Its root file system, squashfs.
    pub root: Artifact,
    /// How it runs by default.
    pub run: RunConfig,
    /// Indexes that pulls found it by, at most [`MAX_INDEXES`], the newest last: they stay with it,
    /// so that a reference by one of their digests needs no registry. `None`: a row of an earlier
    /// release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexes: Option<Vec<Digest>>,
    /// The user that it was converted for, to whom it is charged. `None`: a row of an
    /// earlier release, charged to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled_by: Option<String>,
}

impl JobImage {
    /// Adds indexes that it was found by; `true` if one of them is new.
    pub(crate) fn found_by(&mut self, indexes: &[Digest]) -> bool {
        let known = self.indexes.get_or_insert_default();
        let before = known.len();
        for index in indexes {
            if !known.contains(index) {
                known.push(*index);
            }
        }
        let is_new = known.len() > before;
        known.drain(..known.len().saturating_sub(MAX_INDEXES));
        is_new
    }
}

/// An image, and whether it had to be converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedImage {
    /// The image.
    pub image: JobImage,
    /// It was here, and nothing was converted.
    pub was_cached: bool,
}

/// What users of job images need of their store.
#[derive(Debug, Default)]
pub struct ImagesInUse {
    /// Manifests and squashfs of images, and files that were kept ([`crate::JobImages::keep`]).
    pub blobs: HashSet<Digest>,
    /// Why that may not be all.
    pub unknown: Option<String>,
}
