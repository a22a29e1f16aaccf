//! Job images: pulled by reference, converted once to squashfs, kept by the digest of their manifest.
//!
//! `state-dir/jobs/` is an [`image_store::Store`] of the controller's own; inline files of documents lie in it too. Nodes
//! fetch from it by digest and need no way to a registry.

use std::{path::Path, sync::Arc};

use api::{
    ids::{Digest, Timestamp},
    image::Artifact,
};
use image_store::{OciImage, Progress, RunConfig};
use oci_pull::{Clients, PullOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub(crate) use rest::causes;

use crate::store::{Store, StoreError, Write};

/// Images that are pulled and converted at once. Each conversion uses all cores.
const MAX_CONVERSIONS: usize = 2;

/// An image that jobs run in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct JobImage {
    /// Digest of its manifest.
    pub(crate) manifest: Digest,
    /// Its root file system, squashfs.
    pub(crate) root: Artifact,
    /// How it runs by default.
    pub(crate) run: RunConfig,
}

/// An image, and whether it had to be converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) image: JobImage,
    pub(crate) was_cached: bool,
}

/// Handle to the job images. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct JobImages {
    blobs: image_store::Store,
    store: Arc<dyn Store>,
    clients: Clients,
    slots: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// Stops work when the server stops; progress is told by events, not by bars.
#[derive(Debug)]
struct UntilShutdown(CancellationToken);

impl Progress for UntilShutdown {
    fn advance(&self, _step: &str, _done: u64, _total: u64) {}

    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl JobImages {
    pub(crate) fn open(
        state_dir: &Path,
        store: Arc<dyn Store>,
        shutdown: CancellationToken,
    ) -> Result<Self, image_store::StoreError> {
        let blobs = image_store::Store::open(state_dir.join("jobs"))?;
        let (clients, slots) = (Clients::default(), Arc::new(Semaphore::new(MAX_CONVERSIONS)));
        Ok(Self { blobs, store, clients, slots, shutdown })
    }

    /// Brings an image here. `reference`: `HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`. A pull tries again by itself for as long
    /// as a registry takes to be restarted.
    ///
    /// # Errors
    /// Why there is no image, for people.
    pub(crate) async fn fetch(&self, reference: &str, now: Timestamp) -> Result<Fetched, String> {
        let _slot = self.slots.acquire().await.map_err(|error| causes(&error))?;
        let progress = Arc::new(UntilShutdown(self.shutdown.clone()));
        let options = PullOptions { clients: self.clients.clone(), ..PullOptions::default() };
        let pulled = oci_pull::pull(reference, &options, &self.blobs, progress.clone()).await;
        let image = pulled.map_err(|error| causes(&error))?;
        if let Some(kept) = self.kept(image.manifest).await? {
            return Ok(Fetched { image: kept, was_cached: true });
        }
        let image = self.convert(image, progress).await?;
        let write = Write::Image { manifest: image.manifest, image: Box::new(image.clone()), used: now };
        self.store.commit(&[write]).await.map_err(|error| causes(&error))?;
        Ok(Fetched { image, was_cached: false })
    }

    /// What was made of a manifest before, if it is whole. What is left of it otherwise is made
    /// again.
    async fn kept(&self, manifest: Digest) -> Result<Option<JobImage>, String> {
        let kept = match self.store.image(manifest).await {
            Ok(kept) => kept,
            Err(error @ StoreError::Decode { .. }) => {
                tracing::warn!("{}; the image is converted again", causes(&error));
                None
            }
            Err(error) => return Err(causes(&error)),
        };
        let Some(kept) = kept else { return Ok(None) };
        match self.blobs.size(&kept.root.digest) {
            Ok(size) if size == kept.root.size => Ok(Some(kept)),
            // The store takes a file under its digest for whole.
            Ok(_) => self.blobs.remove(&kept.root.digest).map(|_| None).map_err(|error| causes(&error)),
            Err(_) => Ok(None),
        }
    }

    async fn convert(&self, image: OciImage, progress: Arc<UntilShutdown>) -> Result<JobImage, String> {
        let blobs = self.blobs.clone();
        let converting = tokio::task::spawn_blocking(move || {
            let root = image_store::build_job_root(&blobs, &image.layers, progress.as_ref());
            root.map(|root| JobImage { manifest: image.manifest, root, run: image.run })
        });
        match converting.await {
            Ok(Ok(image)) => Ok(image),
            Ok(Err(error)) => Err(causes(&error)),
            Err(error) => Err(format!("the conversion ended badly: {error}; see the server's log")),
        }
    }

    /// Keeps a small file of a document. Returns its digest.
    pub(crate) async fn keep(&self, contents: Vec<u8>) -> Result<Digest, image_store::StoreError> {
        let blobs = self.blobs.clone();
        let keeping = tokio::task::spawn_blocking(move || blobs.put(contents.as_slice()));
        match keeping.await {
            Ok(kept) => kept.map(|(digest, _)| digest),
            Err(error) => Err(image_store::StoreError::Io {
                operation: "write into",
                path: self.blobs.root().to_owned(),
                source: std::io::Error::other(error),
            }),
        }
    }

    /// An artifact in memory.
    pub(crate) fn map(&self, digest: &Digest) -> Result<image_store::Mapped, image_store::StoreError> {
        self.blobs.map(digest)
    }
}
