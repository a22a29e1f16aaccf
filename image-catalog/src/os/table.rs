//! All image versions at one moment, as boots, checks and answers see them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use api::{
    ids::{Digest, ImageName},
    image::Platform,
};

use crate::{
    reference::ImageReference,
    store::{ImageRecord, StoredImages, UnreadableImage},
};

/// All image versions at one moment.
#[derive(Debug, Clone, Default)]
pub struct ImageTable {
    /// By name and version.
    pub(crate) images: BTreeMap<ImageName, BTreeMap<u32, Arc<ImageRecord>>>,
    /// Versions whose rows cannot be read, and why.
    pub(crate) unreadable: BTreeMap<ImageName, BTreeMap<u32, String>>,
    /// Rows that are left out: not even their name and version can be read.
    pub(crate) nameless: usize,
    pub(super) artifacts: HashSet<Digest>,
    /// What this server boots.
    pub(super) boots: Platform,
}

/// Why a reference to an image leads to none that can be booted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoImage {
    /// It cannot be understood, or there is no such image or version.
    #[error("there is no image {reference:?}; `bedplate image list` shows those that there are")]
    Unknown {
        /// As the node has it.
        reference: String,
    },
    /// The row of the version cannot be read. An older version is not booted in its place.
    #[error(
        "image {name}@{version} cannot be read from the database ({cause}); import it again, or \
         delete this version"
    )]
    Unreadable {
        /// The image.
        name: ImageName,
        /// The version that the reference stands for.
        version: u32,
        /// What the decoder says.
        cause: String,
    },
}

impl ImageTable {
    pub(super) fn new(stored: StoredImages, boots: Platform) -> Self {
        let mut table = Self { nameless: stored.nameless.len(), boots, ..Self::default() };
        for UnreadableImage { name, version, cause } in stored.unreadable {
            table.unreadable.entry(name).or_default().insert(version, cause);
        }
        for record in stored.images {
            table.artifacts.extend(artifacts_of(&record));
            let version = &record.version;
            let name = record.name.clone();
            table.images.entry(name).or_default().insert(version.version, Arc::new(record));
        }
        table
    }

    /// The table when some versions are gone.
    pub(super) fn without(&self, name: &ImageName, versions: &[u32]) -> Self {
        let mut table = self.clone();
        forget(&mut table.images, name, versions);
        forget(&mut table.unreadable, name, versions);
        // Versions share files: what one of the others has is served on.
        let left = table.images.values().flat_map(BTreeMap::values);
        table.artifacts = left.flat_map(|record| artifacts_of(record)).collect();
        table
    }

    /// Whether there is such a version that can be read.
    pub(super) fn has(&self, name: &ImageName, version: u32) -> bool {
        self.images.get(name).is_some_and(|versions| versions.contains_key(&version))
    }

    /// The version that a node's `image` stands for.
    ///
    /// # Errors
    /// See [`NoImage`].
    pub fn find(&self, reference: &str) -> Result<&Arc<ImageRecord>, NoImage> {
        let unknown = || NoImage::Unknown { reference: reference.to_owned() };
        let (name, version) = self.version_of(reference).ok_or_else(unknown)?;
        if let Some(cause) = self.unreadable.get(&name).and_then(|versions| versions.get(&version))
        {
            return Err(NoImage::Unreadable { name, version, cause: cause.clone() });
        }
        self.images.get(&name).and_then(|versions| versions.get(&version)).ok_or_else(unknown)
    }

    /// Name and number of the version that a node's `image` stands for, whether or not it can be
    /// read.
    #[must_use]
    pub fn version_of(&self, reference: &str) -> Option<(ImageName, u32)> {
        let ImageReference { name, version } = ImageReference::parse(reference).ok()?;
        let newest = || self.versions(&name).max();
        let version = version.or_else(newest)?;
        Some((name, version))
    }

    /// Numbers of all versions of an image, those included that cannot be read.
    pub fn versions(&self, name: &ImageName) -> impl Iterator<Item = u32> {
        let readable = self.images.get(name).into_iter().flat_map(BTreeMap::keys);
        let unreadable = self.unreadable.get(name).into_iter().flat_map(BTreeMap::keys);
        readable.chain(unreadable).copied()
    }

    /// Names of all images, by name.
    #[must_use]
    pub(crate) fn names(&self) -> BTreeSet<&ImageName> {
        self.images.keys().chain(self.unreadable.keys()).collect()
    }

    /// Whether a blob is a root image, kernel or stage 1 of some version: only those are served to
    /// anybody.
    #[must_use]
    pub fn is_artifact(&self, digest: &Digest) -> bool {
        self.artifacts.contains(digest)
    }

    /// Names and version numbers, for checks.
    #[must_use]
    pub fn known(&self) -> BTreeMap<ImageName, BTreeSet<u32>> {
        self.names().into_iter().map(|name| (name.clone(), self.versions(name).collect())).collect()
    }
}

/// Files that are served of a version.
fn artifacts_of(record: &ImageRecord) -> impl Iterator<Item = Digest> {
    let version = &record.version;
    let kernels = version.kernels.iter();
    let boots = kernels.flat_map(|kernel| [kernel.kernel.digest, kernel.stage1.digest]);
    boots.chain([version.root.digest])
}

/// Takes out versions, and their image with the last one.
fn forget<T>(images: &mut BTreeMap<ImageName, BTreeMap<u32, T>>, name: &ImageName, gone: &[u32]) {
    let Some(versions) = images.get_mut(name) else { return };
    for version in gone {
        versions.remove(version);
    }
    if versions.is_empty() {
        images.remove(name);
    }
}
