//! Job images: pulled by reference, converted once to squashfs, kept by the digest of their
//! manifest.
//!
//! Their files, and small files that their user keeps with them, are in the store `jobs/` of
//! [`crate::blobs`]. Nodes fetch from it by digest and need no way to a registry. What nothing has
//! needed for long goes ([`unused`]).

mod error;
mod image;
mod pulls;
mod unused;
mod users;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use api::{
    ids::{Digest, Timestamp},
    image::Platform,
};
use database::{Database, DatabaseError};
use image_store::{Converter, OciImage, Removed, progress::stoppable};
use metrics::{Exposition, Work};
use oci_pull::{Audience, Clients, Permit, PullError, PullOptions, Registries, Turns};
use rest::causes;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

pub use error::FetchError;
pub use image::{FetchedImage, ImagesInUse, JobImage};
pub use pulls::{Delivery, Pulls, Requester};
pub use unused::ImageLimits;
pub use users::{ImageCharge, JobImageUsers};

use pulls::PullUnderWay;

use crate::{
    MAX_CONVERSIONS, blobs, clock,
    store::{KeptImage, Store, StoreError, Write, sql::SqlStore},
};

/// Handle to the job images. Clones share everything.
#[derive(Debug, Clone)]
pub struct JobImages {
    blobs: image_store::Store,
    converter: Converter,
    store: Arc<dyn Store>,
    registries: Arc<Registries>,
    clients: Clients,
    pulls: Pulls,
    platform: Platform,
    /// Images that were used since the last removal wrote that down, by manifest.
    used: Arc<Mutex<BTreeMap<Digest, Timestamp>>>,
    /// Told when a fetch has failed: what it brought is of no use.
    failed: Arc<Notify>,
    meter: Arc<Work<3>>,
    /// Whoever needs them, once that is known.
    users: Arc<OnceLock<Arc<dyn JobImageUsers>>>,
    shutdown: CancellationToken,
}

/// What job images must be told.
#[derive(Debug, Clone)]
pub struct JobImagesConfig {
    /// The server's state directory; see [`crate::blobs`].
    pub state_dir: PathBuf,
    /// How registries are reached.
    pub registries: Arc<Registries>,
    /// Reads what images hold.
    pub converter: Converter,
    /// What images are pulled for.
    pub platform: Platform,
}

impl JobImages {
    /// Job images of a server that has no OS images. Their table must be up to date.
    ///
    /// # Errors
    /// The store's of their files.
    pub fn open(
        database: Database,
        config: JobImagesConfig,
    ) -> Result<Self, image_store::StoreError> {
        let store = Arc::new(SqlStore::new(database));
        Self::beside(store, config, Turns::new(MAX_CONVERSIONS))
    }

    /// Job images that are converted in turn with others.
    pub(crate) fn beside(
        store: Arc<dyn Store>,
        config: JobImagesConfig,
        conversions: Turns,
    ) -> Result<Self, image_store::StoreError> {
        let JobImagesConfig { state_dir, registries, converter, platform } = config;
        Ok(Self {
            blobs: image_store::Store::open(blobs::of_job_images(&state_dir))?,
            converter,
            store,
            registries,
            clients: Clients::default(),
            pulls: Pulls::new(pulls::MAX_PULLS, conversions),
            platform,
            used: Arc::default(),
            failed: Arc::default(),
            meter: Arc::new(Work::new(["converted", "cached", "failed"])),
            users: Arc::default(),
            shutdown: CancellationToken::new(),
        })
    }

    /// Ends all pulls. Whoever wanted an image is told that it failed, so they must be gone before.
    pub fn close(&self) {
        self.shutdown.cancel();
    }

    /// All images that are kept and can be read, by manifest.
    ///
    /// # Errors
    /// The database's.
    pub async fn kept_images(&self) -> Result<Vec<KeptImage>, StoreError> {
        self.store.job_images().await
    }

    /// A handle whose images and files nobody removes while it or a clone of it is there: for work
    /// until what it brought is named by its user.
    #[must_use]
    pub fn leased(&self) -> Self {
        Self { blobs: self.blobs.leased(), ..self.clone() }
    }

    /// A fetch has failed, and its lease is gone.
    pub fn fetch_failed(&self) {
        self.failed.notify_one();
    }

    /// The pulls that are not over.
    #[must_use]
    pub fn pulls(&self) -> &Pulls {
        &self.pulls
    }

    /// Brings an image here. `reference`: `HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`. While its
    /// registry is away it is waited for, and `requester` is told. What came of it is received, or
    /// nothing if its group has left ([`Pulls::leave`]).
    pub fn fetch(
        &self,
        reference: &str,
        requester: Requester,
        now: Timestamp,
    ) -> oneshot::Receiver<Delivery> {
        let user = requester.user.clone();
        let (pull, told) = self.pulls.enqueue(reference, requester, self.shutdown.child_token());
        let (pull, lease, unleased) = (Arc::new(pull), self.leased(), self.clone());
        let reference = reference.to_owned();
        tokio::spawn(async move {
            let (images, of) = (lease.clone(), pull.clone());
            let work =
                tokio::spawn(async move { images.carry_out(&reference, &user, &of, now).await });
            // Nobody must wait for a pull that panicked.
            let fetched = work.await.map_err(FetchError::broken("pull")).flatten();
            let is_wanted = pull.deliver(&fetched.map_err(Arc::new), &lease);
            // What a pull has joined is brought by another, which is wanted.
            let is_of_no_use = !is_wanted && !pull.has_joined();
            drop((pull, lease));
            if is_of_no_use {
                unleased.fetch_failed();
            }
        });
        told
    }

    /// A pull, until it is over or nobody wants it.
    async fn carry_out(
        &self,
        reference: &str,
        user: &Arc<str>,
        pull: &Arc<PullUnderWay>,
        now: Timestamp,
    ) -> Result<FetchedImage, FetchError> {
        // Dropped on the way, it counts as failed.
        let (counted, begun) = (self.meter.begin(), clock::uptime());
        let fetched = tokio::select! {
            fetched = self.bring(reference, user, pull, now) => fetched,
            () = pull.unwanted() => Err(PullError::Cancelled.into()),
        };
        let took = clock::uptime().saturating_sub(begun);
        let outcome = match &fetched {
            Ok(FetchedImage { was_cached: false, .. }) => Some("converted"),
            Ok(_) => Some("cached"),
            Err(_) => pull.has_joined().then_some("cached"),
        };
        if let Some(outcome) = outcome {
            counted.end(outcome, took);
        }
        fetched
    }

    async fn bring(
        &self,
        reference: &str,
        user: &Arc<str>,
        pull: &Arc<PullUnderWay>,
        now: Timestamp,
    ) -> Result<FetchedImage, FetchError> {
        if let Some(image) = self.stored(reference).await? {
            self.note_use(image.manifest, now);
            return Ok(FetchedImage { image, was_cached: true });
        }
        let options = PullOptions {
            registries: self.registries.clone(),
            clients: self.clients.clone(),
            turn: Some(pull.transfer().clone()),
            platform: self.platform.clone(),
            waits: pull.clone(),
            wanted_by: Audience::User,
            ..PullOptions::default()
        };
        let image = tokio::select! {
            image = oci_pull::pull(reference, &options, &self.blobs, pull.clone()) => image?,
            refused = self.refused(user, pull) => return Err(refused),
        };
        self.note_use(image.manifest, now);
        let place = pull.conversion().permit().await;
        if let Some(mut kept) = self.kept(image.manifest).await? {
            if kept.found_by(&image.indexes) {
                let (image, used) = (Box::new(kept.clone()), clock::now());
                self.store.commit(&[Write::PutJobImage { image, used }]).await?;
            }
            return Ok(FetchedImage { image: kept, was_cached: true });
        }
        // Where its layers were here already, it was not asked before.
        self.check_room(user).await?;
        pull.convert();
        let (image, place) = self.convert(image, pull.clone(), place).await?;
        let (images, user) = (self.clone(), user.clone());
        // Whoever wants it no more does not cut this off between what is charged and what is kept.
        let keeping = tokio::spawn(async move {
            // Until it is kept, so that whoever gets the place next finds it.
            let _place = place;
            images.charge_and_keep(image, &user).await
        });
        let image = keeping.await.map_err(FetchError::broken("commit"))??;
        Ok(FetchedImage { image, was_cached: false })
    }

    async fn charge_and_keep(
        &self,
        image: JobImage,
        user: &Arc<str>,
    ) -> Result<JobImage, FetchError> {
        let (image, charge) = self.charge(image, user).await?;
        let write = Write::PutJobImage { image: Box::new(image.clone()), used: clock::now() };
        self.store.commit(&[write]).await?;
        if let Some(charge) = charge {
            charge.keep();
        }
        Ok(image)
    }

    /// Why a pull is refused before its layers are fetched, once it is known what it brings; never,
    /// if that costs nothing or there is room.
    async fn refused(&self, user: &Arc<str>, pull: &PullUnderWay) -> FetchError {
        let checked = match self.kept(pull.manifest().await).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => self.check_room(user).await,
            Err(error) => Err(error),
        };
        match checked {
            Err(error) => error,
            Ok(()) => std::future::pending().await,
        }
    }

    /// Keeps in mind that an image was wanted: the next removal writes it down.
    fn note_use(&self, manifest: Digest, now: Timestamp) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(manifest, now);
    }

    /// The image of a reference by digest, if it is here already. Then no registry is asked.
    ///
    /// This is the one place where an image is given to somebody without a registry's word that
    /// they may have it. Whoever may have job images may have what is here: all pulls are made with
    /// the site's logins, whoever wants them, so each user could pull it too. Only what came from a
    /// registry counts (a row in the database), not every blob that somebody put here as a file.
    /// Once users have logins of their own, this must ask whose pull it is, and let the registry
    /// decide for whoever has not pulled the image with their own login before.
    async fn stored(&self, reference: &str) -> Result<Option<JobImage>, FetchError> {
        let (blobs, reference, platform) =
            (self.blobs.clone(), reference.to_owned(), self.platform.clone());
        let looking = tokio::task::spawn_blocking(move || {
            oci_pull::manifest_in_store(&reference, &platform, &blobs)
        });
        match looking.await.map_err(FetchError::broken("lookup"))? {
            Some(manifest) => self.kept(manifest).await,
            None => Ok(None),
        }
    }

    /// What was made of a manifest before, if it is whole. What is left of it otherwise is made
    /// again.
    async fn kept(&self, manifest: Digest) -> Result<Option<JobImage>, FetchError> {
        let kept = match self.store.job_image(manifest).await {
            Ok(kept) => kept,
            Err(error @ StoreError::Database(DatabaseError::Decode { .. })) => {
                tracing::warn!("{}; the image is converted again", causes(&error));
                None
            }
            Err(error) => return Err(error.into()),
        };
        let Some(kept) = kept else { return Ok(None) };
        match self.blobs.size(&kept.root.digest) {
            Ok(size) if size == kept.root.size => Ok(Some(kept)),
            // The store takes a file under its digest for whole.
            Ok(_) => Ok(self.blobs.remove(&kept.root.digest).map(|_| None)?),
            Err(_) => Ok(None),
        }
    }

    /// `place` is held until the work is over, which ends soon after nobody waits for it any more,
    /// and is given back with the image.
    async fn convert(
        &self,
        image: OciImage,
        progress: Arc<PullUnderWay>,
        place: Permit,
    ) -> Result<(JobImage, Permit), FetchError> {
        let (blobs, converter) = (self.blobs.clone(), self.converter.clone());
        let (progress, _waiting) = stoppable(progress);
        let converting = tokio::task::spawn_blocking(move || {
            let root = converter.job_root(&blobs, &image.manifest, &image.layers, &progress);
            root.map(|root| {
                let (manifest, run, indexes) = (image.manifest, image.run, Some(image.indexes));
                (JobImage { manifest, root, run, indexes, pulled_by: None }, place)
            })
        });
        Ok(converting.await.map_err(FetchError::broken("conversion"))??)
    }

    /// Keeps a small file beside the images. Returns its digest.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep(&self, contents: Vec<u8>) -> Result<Digest, image_store::StoreError> {
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

    /// Writes what is told of pulls.
    pub(crate) fn expose(&self, out: &mut Exposition) {
        let help = "Job images that are pulled, converted, or wait for that.";
        let running = ("bedplate_job_image_pulls_running", help);
        let help = "Pulls of job images that are over, by their outcome; cached ones needed no conversion.";
        let took = (
            "bedplate_job_image_pull_seconds",
            "How long pulls of job images took that succeeded.",
        );
        out.work([running, ("bedplate_job_image_pulls", help), took], &self.meter);
        let help = "Job images that wait for their turn to be pulled or converted.";
        out.gauge("bedplate_job_image_pulls_queued", help).value(self.pulls.queued());
        let help = "Bytes of layers of job images that were pulled, by failed pulls too.";
        out.counter("bedplate_job_image_pulled_bytes", help).value(self.blobs.brought_bytes());
        let Removed { blobs, partial, bytes } = self.blobs.removed();
        let help = "Files of job images that were removed because nothing needs them.";
        let mut removed = out.counter("bedplate_job_image_removed_files", help);
        removed.sample(&[("kind", "blob")], blobs).sample(&[("kind", "partial")], partial);
        let help = "Bytes of the files of job images that were removed because nothing needs them.";
        out.counter("bedplate_job_image_removed_bytes", help).value(bytes);
    }

    /// An artifact in memory.
    ///
    /// # Errors
    /// The store's.
    pub fn map(&self, digest: &Digest) -> Result<image_store::Mapped, image_store::StoreError> {
        self.blobs.map(digest)
    }
}

#[cfg(test)]
pub(crate) mod tests;
