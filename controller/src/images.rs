//! Job images: pulled by reference, converted once to squashfs, kept by the digest of their manifest.
//!
//! `state-dir/jobs/` is an [`image_store::Store`] of the controller's own; inline files of documents lie in it too. Nodes
//! fetch from it by digest and need no way to a registry. What nothing has needed for long goes ([`unused`]).

mod unused;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use api::{
    ids::{Digest, Timestamp},
    image::Platform,
};
use image_store::{Converter, OciImage, Removed, progress::stoppable};
use metrics::{Exposition, Work};
use oci_pull::{Audience, Clients, Permit, PullError, PullOptions, Registries};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

mod error;
mod pulls;
mod quotas;

pub(crate) use error::FetchError;
pub(crate) use pulls::{Delivery, Pulls, Requester};
pub(crate) use rest::causes;
pub use unused::ImageLimits;

use pulls::PullUnderWay;
use quotas::ImageQuotas;

use crate::{
    clock,
    record::{FetchedImage, JobImage, Write},
    store::{Store, StoreError},
};

/// Handle to the job images. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct JobImages {
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
    /// Where images are charged to whom they were converted for; `None`: nowhere.
    quotas: Option<ImageQuotas>,
    shutdown: CancellationToken,
}

impl JobImages {
    pub(crate) fn open(
        state_dir: &Path,
        converter: Converter,
        store: Arc<dyn Store>,
        registries: Arc<Registries>,
        platform: Platform,
        shutdown: CancellationToken,
    ) -> Result<Self, image_store::StoreError> {
        Ok(Self {
            blobs: image_store::Store::open(state_dir.join("jobs"))?,
            converter,
            store,
            registries,
            clients: Clients::default(),
            pulls: Pulls::default(),
            platform,
            used: Arc::default(),
            failed: Arc::default(),
            meter: Arc::new(Work::new(["converted", "cached", "failed"])),
            quotas: None,
            shutdown,
        })
    }

    /// A handle whose images and files nobody removes while it or a clone of it is there: for work
    /// until what it brought is named by a workflow.
    pub(crate) fn leased(&self) -> Self {
        Self { blobs: self.blobs.leased(), ..self.clone() }
    }

    /// A fetch has failed, and its lease is gone.
    pub(crate) fn fetch_failed(&self) {
        self.failed.notify_one();
    }

    /// The pulls that are not over.
    pub(crate) fn pulls(&self) -> &Pulls {
        &self.pulls
    }

    /// Brings an image here. `reference`: `HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`. While its registry is
    /// away it is waited for, and `requester` is told. What came of it is received, or nothing if its
    /// workflow has left ([`Pulls::leave`]).
    pub(crate) fn fetch(
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
                let (manifest, image) = (kept.manifest, Box::new(kept.clone()));
                self.store.commit(&[Write::Image { manifest, image, used: clock::now() }]).await?;
            }
            return Ok(FetchedImage { image: kept, was_cached: true });
        }
        // Where its layers were here already, it was not asked before.
        self.has_room(user).await?;
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
        let (manifest, used) = (image.manifest, clock::now());
        self.store
            .commit(&[Write::Image { manifest, image: Box::new(image.clone()), used }])
            .await?;
        charge.keep();
        Ok(image)
    }

    /// Why a pull is refused before its layers are fetched, once it is known what it brings; never,
    /// if that costs nothing or there is room.
    async fn refused(&self, user: &Arc<str>, pull: &PullUnderWay) -> FetchError {
        let checked = match self.kept(pull.manifest().await).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => self.has_room(user).await,
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
    /// This is the one place where an image is given to somebody without a registry's word that they
    /// may have it. Whoever may start workflows may have what is here: all pulls are made with the
    /// site's logins, whoever wants them, so each user could pull it too. Only what came from a
    /// registry counts (a row in the database), not every blob that somebody put here in a file of a
    /// document. Once users have logins of their own, this must ask whose pull it is, and let the
    /// registry decide for whoever has not pulled the image with their own login before.
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
        let kept = match self.store.image(manifest).await {
            Ok(kept) => kept,
            Err(error @ StoreError::Decode { .. }) => {
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
    pub(crate) fn map(
        &self,
        digest: &Digest,
    ) -> Result<image_store::Mapped, image_store::StoreError> {
        self.blobs.map(digest)
    }
}

#[cfg(test)]
mod tests;
