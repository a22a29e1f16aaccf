//! All images that a server has: those that nodes boot, and those that jobs run in.
//!
//! `bedplate server` opens one [`ImageCatalog`] on the shared database, gives [`OsImages`] to the
//! provisioner and [`JobImages`] to the controller, merges [`ImageCatalog::rest`] into the REST API
//! and lets it [`ImageCatalog::serve`]. Reasons: [decision
//! 0016](../../docs/decisions/0016-image-catalog.md).
//!
//! | module | is |
//! |---|---|
//! | `os` | OS images: versions, and the operations that import them |
//! | `jobs` | job images: pulls that are wanted, what is kept of them, whom it is charged to |
//! | `reference` | `NAME` or `NAME@VERSION`, as nodes have it |
//! | `blobs` | where the files of both lie |
//! | `removal` | the one task that removes what nothing needs of both |
//! | `store` | rows of both |
//! | `stored` | what of the database cannot be read, for a check |
//! | `rest` | what people ask for |
//!
//! Invariants: it knows no node and no workflow. Who uses images tells it what is in use
//! ([`NodeImages`], [`JobImageUsers`]), and while that is not known nothing is removed; no version
//! of an image is changed but for its stage 1; conversions of both take turns.

pub mod blobs;
mod clock;
mod jobs;
mod os;
mod reference;
mod removal;
mod rest;
mod store;
mod stored;

use std::{path::PathBuf, sync::Arc};

use access::{Access, Routes};
use database::Database;
use image_store::Converter;
use metrics::Exposition;
use oci_pull::{Registries, Turns};
use tokio_util::sync::CancellationToken;

pub use jobs::{
    Delivery, FetchError, FetchedImage, ImageCharge, ImageLimits, ImagesInUse, JobImage,
    JobImageUsers, JobImages, JobImagesConfig, Pulls, Requester,
};
pub use os::{
    DamagedImage, DeleteError, DeletionRefused, ImageTable, NoImage, NoKernel, NoSubstrate,
    NodeImages, NotBootable, OsImages, Unbootable, VersionsInUse,
};
pub use reference::{ImageReference, ImageReferenceError};
pub use store::{ImageRecord, KeptImage, StoreError};
pub use stored::{StoredJobImages, os_image_files, problems, stored_job_images};

use os::OsImagesConfig;
use store::{Store, sql::SqlStore};

/// Images that are converted at once, of both kinds, copies of layouts among them. Each conversion
/// uses all cores; those of one person are two at most.
const MAX_CONVERSIONS: usize = 3;

/// What the catalog must be told.
#[derive(Debug, Clone)]
pub struct CatalogConfig {
    /// The server's state directory; see [`blobs`].
    pub state_dir: PathBuf,
    /// The static `substrate` binary that becomes `/init` of stage 1.
    pub substrate: PathBuf,
    /// How registries are reached.
    pub registries: Arc<Registries>,
    /// Reads what images hold.
    pub converter: Converter,
    /// What is kept of job images that nobody needs.
    pub job_images: ImageLimits,
}

/// Why the catalog cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store of the files of OS images.
    #[error("cannot open the image store")]
    OsBlobs(#[source] image_store::StoreError),
    /// The store of the files of job images.
    #[error("cannot open the store of job images")]
    JobBlobs(#[source] image_store::StoreError),
    /// The substrate binary.
    #[error(transparent)]
    Substrate(#[from] NoSubstrate),
}

/// Handle to all images. Clones share everything.
#[derive(Debug, Clone)]
pub struct ImageCatalog {
    os: OsImages,
    jobs: JobImages,
    job_limits: ImageLimits,
}

impl ImageCatalog {
    /// Opens the catalog on a database whose tables are up to date: the provisioner's and the
    /// controller's, which hold those of images.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        database: Database,
        config: CatalogConfig,
        access: Access,
    ) -> Result<Self, OpenError> {
        let CatalogConfig { state_dir, substrate, registries, converter, job_images } = config;
        let store: Arc<dyn Store> = Arc::new(SqlStore::new(database));
        let conversions = Turns::new(MAX_CONVERSIONS);
        let of_os = OsImagesConfig {
            state_dir: state_dir.clone(),
            substrate,
            registries: registries.clone(),
            converter: converter.clone(),
            conversions: conversions.clone(),
            access: Some(access),
        };
        let os = OsImages::open(store.clone(), of_os).await?;
        let of_jobs = JobImagesConfig { state_dir, registries, converter, platform: os.boots() };
        let jobs = JobImages::beside(store, of_jobs, conversions).map_err(OpenError::JobBlobs)?;
        Ok(Self { os, jobs, job_limits: job_images })
    }

    /// What nodes boot.
    #[must_use]
    pub fn os_images(&self) -> &OsImages {
        &self.os
    }

    /// What jobs run in.
    #[must_use]
    pub fn job_images(&self) -> &JobImages {
        &self.jobs
    }

    /// The REST routes. `users`: who has versions of OS images in use.
    #[must_use]
    pub fn rest(&self, users: Arc<dyn NodeImages>) -> Routes {
        crate::rest::routes(self.os.clone(), users)
    }

    /// Writes what is told of images, imports and pulls.
    pub fn expose(&self, out: &mut Exposition) {
        self.os.expose(out);
        self.jobs.expose(out);
    }

    /// Goes on with what the last run of the server left, and removes what nothing needs, until
    /// `shutdown`; then imports end. Pulls of job images end with [`JobImages::close`]. Call it
    /// once.
    pub async fn serve(&self, shutdown: CancellationToken) {
        self.os.resume();
        let (os, jobs) = (self.os.clone(), self.jobs.clone());
        let mut removing = tokio::spawn(removal::remove_unused_for_ever(os, jobs, self.job_limits));
        tokio::select! {
            () = shutdown.cancelled() => removing.abort(),
            // Files that stay are no reason to stop what serves nodes and jobs.
            Err(error) = &mut removing => {
                tracing::error!("unused images are removed no more: {error}");
                shutdown.cancelled().await;
            }
        }
        self.os.close();
    }
}

#[cfg(test)]
mod tests;
