//! One import from its source to a new version, and the making again of stage 1.

mod error;

use std::{pin::pin, sync::Arc, time::Duration};

use api::{
    ids::ImageName,
    image::{ImageVersion, ImportImage, Operation, OperationState},
    sources::without_secrets,
};
use database::outbox;
use image_store::{BuildOptions, Built, OciImage, Progress, progress::stoppable};
use oci_pull::{Audience, Claim, Permit, PullOptions};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{OperationEntry, OsImages, Source, StartError, causes, progress::Bars};
use crate::{
    clock,
    store::{ImageRecord, OperationRecord, Write},
};

pub(super) use error::ImportError;

/// How often the place in the queue of conversions is looked at.
const LOOK_AT_QUEUE: Duration = Duration::from_secs(1);

/// What came of an import.
pub(super) enum Outcome {
    /// A new version.
    New(Box<ImageRecord>),
    /// This version has the content already: what is told of it.
    Same(Arc<ImageRecord>, &'static str),
}

/// Runs an operation to its end and keeps what came of it. An operation that the shutdown cut off
/// stays as it is, and starts again with the server.
pub(super) async fn run(images: &OsImages, id: u64) {
    let Some(job) = Job::of(images, id) else { return };
    let Job { request, operation, bars, cancelled, .. } = job.clone();
    let blobs = images.0.blobs.leased();
    // An import that the last server left tries nothing again: it may be what that server died of.
    let retry = request.retry && !images.lock_resumed().contains(&id);
    let (work, begun) = (images.0.meter.begin(), Instant::now());
    let outcome = tokio::select! {
        outcome = import(images, &blobs, &job, retry) => outcome,
        // What a thread does goes on until it looks, with the lease and the place that it has.
        () = cancelled.cancelled() => Err(ImportError::Cancelled { by: String::new() }),
    };
    bars.finish();
    if images.0.shutdown.is_cancelled() {
        return;
    }
    let outcome = outcome.map_err(|error| match images.cancelled_by(id) {
        Some(by) => ImportError::Cancelled { by },
        None => error,
    });
    let last = operation.borrow().clone();
    let is_new = matches!(outcome, Ok(Outcome::New(_)));
    let ended = end(images, &last, &request, outcome).await;
    let word = match &ended.state {
        OperationState::Failed { .. } => "failed",
        _ if is_new => "new",
        _ => "unchanged",
    };
    work.end(word, begun.elapsed());
    // From here on its version names them, or nothing does.
    drop(blobs);
    match &ended.state {
        OperationState::Failed { error } => tracing::error!("{} failed: {error}", ended.title),
        OperationState::Done { result } => tracing::info!("{}: {result}", ended.title),
        OperationState::Running { .. } => {}
    }
    let has_failed = matches!(ended.state, OperationState::Failed { .. });
    images.release_end_rows(id);
    // Somebody waits for this, and nobody for the removal.
    operation.send_replace(ended);
    if has_failed {
        images.remove_unused().await;
    }
    images.resumed_has_ended(id).await;
}

/// An operation as it is carried out.
#[derive(Debug, Clone)]
struct Job {
    request: ImportImage,
    operation: watch::Sender<Operation>,
    bars: Arc<Bars>,
    cancelled: CancellationToken,
    /// For a place among the pulls, and one among the conversions.
    pull: Claim,
    conversion: Claim,
}

impl Job {
    fn of(images: &OsImages, id: u64) -> Option<Self> {
        let entries = images.lock_operations();
        let OperationEntry { request, operation, by, cancelled, .. } = entries.get(&id)?;
        Some(Self {
            request: request.clone(),
            operation: operation.clone(),
            bars: Arc::new(Bars::new(operation.clone(), cancelled.clone())),
            cancelled: cancelled.clone(),
            pull: images.0.pulls.claim(by),
            conversion: images.0.conversions.claim(by),
        })
    }
}

impl Job {
    /// Waits for a place among the conversions, and shows what is before it meanwhile: images of
    /// jobs may be, which no list of operations has.
    async fn converting(&self) -> Permit {
        let mut permit = pin!(self.conversion.permit());
        let mut look = tokio::time::interval(LOOK_AT_QUEUE);
        let permit = loop {
            tokio::select! {
                biased;
                permit = &mut permit => break permit,
                _ = look.tick() => self.bars.waits_for(
                    self.conversion
                        .standing()
                        .map(|at| format!("in the queue of conversions: {}", at.told("this user"))),
                ),
            }
        };
        self.bars.waits_for(None);
        permit
    }
}

async fn import(
    images: &OsImages,
    blobs: &image_store::Store,
    job: &Job,
    retry: bool,
) -> Result<Outcome, ImportError> {
    let request = &job.request;
    let source = Source::parse(&request.source)?;
    let name = request.name.clone().map_or_else(|| source.default_name(), Ok)?;
    images.discard_damaged(&name);
    let image = fetch(images, blobs, &source, job).await?;
    let same = same_content(images, &name, &image);
    if let Some(record) = same.as_ref().filter(|record| images.check_files(record, None).is_ok()) {
        return Ok(Outcome::Same(
            record.clone(),
            "has this content already; no new version was made",
        ));
    }
    if retry {
        images.0.converter.allow_again(&image.manifest)?;
    }
    let built = build(images, blobs, &image, job).await?;
    // The same content makes the same files: what was missing of the version is there again.
    if let Some(record) = same.filter(|record| images.check_files(record, None).is_ok()) {
        return Ok(Outcome::Same(record, "is whole again; no new version was made"));
    }
    Ok(Outcome::New(Box::new(ImageRecord {
        version: ImageVersion {
            version: 0, // numbered at the end, so that failures leave no gaps
            source: request.source.clone(),
            manifest: image.manifest,
            architecture: image.architecture,
            variant: image.variant,
            imported: clock::now(),
            root: built.root,
            kernels: built.kernels,
            warnings: built.warnings,
        },
        name,
        substrate: images.0.substrate_digest,
        layers: image.layers,
    })))
}

/// Layers into the store. A registry that is away is waited for without a place, so that other
/// imports go on.
async fn fetch(
    images: &OsImages,
    blobs: &image_store::Store,
    source: &Source,
    job: &Job,
) -> Result<OciImage, ImportError> {
    let (blobs, request, bars) = (blobs.clone(), &job.request, job.bars.clone());
    let platform = request.platform.clone().unwrap_or_else(|| images.0.boots.clone());
    match source.clone() {
        Source::Registry(reference) => {
            let options = PullOptions {
                insecure: request.insecure,
                registries: images.0.registries.clone(),
                turn: Some(job.pull.clone()),
                platform,
                waits: bars.clone(),
                wanted_by: Audience::Admin,
                ..PullOptions::default()
            };
            Ok(oci_pull::pull(&reference, &options, &blobs, bars).await?)
        }
        Source::Layout(reference) => {
            // A copy of what is on the disk here, which nobody can interrupt.
            let place = job.converting().await;
            blocking(move || {
                let _place = place;
                Ok(image_store::oci::import_layout(&blobs, &reference, &platform, bars.as_ref())?)
            })
            .await
        }
    }
}

/// The version that has this content already. The substrate program is a part of those that are
/// booted here, and of no other.
fn same_content(images: &OsImages, name: &ImageName, image: &OciImage) -> Option<Arc<ImageRecord>> {
    let table = images.table();
    let is_current = |record: &ImageRecord| {
        record.substrate == images.0.substrate_digest || table.check_architecture(record).is_err()
    };
    let mut records = table.images.get(name)?.values().rev();
    let is_same = |record: &&Arc<ImageRecord>| {
        record.version.manifest == image.manifest && is_current(record)
    };
    records.find(is_same).cloned()
}

async fn build(
    images: &OsImages,
    blobs: &image_store::Store,
    image: &OciImage,
    job: &Job,
) -> Result<Built, ImportError> {
    let (blobs, layers, manifest) = (blobs.clone(), image.layers.clone(), image.manifest);
    let converter = images.0.converter.clone();
    // With this future goes the work.
    let (bars, _waiting) = stoppable(job.bars.clone());
    let place = job.converting().await;
    if image.architecture != images.0.boots.architecture() {
        // Our stage 1 could not run on its kernels.
        return blocking(move || {
            let _place = place;
            let root = converter.job_root(&blobs, &manifest, &layers, &bars)?;
            Ok(Built { root, kernels: Vec::new(), warnings: Vec::new() })
        })
        .await;
    }
    let options = BuildOptions { substrate: images.0.substrate.clone() };
    blocking(move || {
        let _place = place;
        Ok(converter.image(&blobs, &manifest, &layers, &options, &bars)?)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImportError> + Send + 'static,
) -> Result<T, ImportError> {
    tokio::task::spawn_blocking(work).await.map_err(ImportError::Broken)?
}

/// Numbers and keeps a new version together with the end of its operation.
pub(super) async fn end(
    images: &OsImages,
    operation: &Operation,
    request: &ImportImage,
    outcome: Result<Outcome, ImportError>,
) -> Operation {
    let ended = |state| Operation { state, ..operation.clone() };
    let failed = |error| ended(OperationState::Failed { error });
    let _turn = images.0.numbering.lock().await;
    let (state, record) = match outcome {
        Err(error) => (OperationState::Failed { error: without_secrets(&causes(&error)) }, None),
        Ok(Outcome::Same(record, told)) => (end_of_same(images, &record, told), None),
        Ok(Outcome::New(mut record)) => match number_of(images, &record).await {
            Err(error) => {
                (OperationState::Failed { error: without_secrets(&causes(&error)) }, None)
            }
            Ok(number) => {
                record.version.version = number;
                (
                    OperationState::Done { result: format!("{}@{number}", record.name) },
                    Some(*record),
                )
            }
        },
    };
    let last = ended(state);
    let mut writes: Vec<Write> = record.into_iter().map(Write::PutImage).collect();
    writes.push(Write::PutOperation(OperationRecord {
        operation: last.clone(),
        request: request.clone(),
    }));
    let told = images.commit_end_rows(&last);
    if let Err(error) = outbox::scope(told, images.0.store.commit(&writes)).await {
        return failed(causes(&error));
    }
    if let Err(error) = images.reload().await {
        return failed(causes(&error));
    }
    last
}

/// The end of an import that found a version with its content. With `numbering` held, so that what
/// is told still holds: the version may have been deleted during the work.
fn end_of_same(images: &OsImages, record: &ImageRecord, told: &str) -> OperationState {
    let version = record.version.version;
    let title = format!("{}@{version}", record.name);
    if images.table().has(&record.name, version) {
        OperationState::Done { result: format!("{title} {told}") }
    } else {
        OperationState::Failed { error: format!("{title} was deleted meanwhile; import it again") }
    }
}

/// The number of a new version. Another import may have given the image another architecture
/// meanwhile.
async fn number_of(images: &OsImages, record: &ImageRecord) -> Result<u32, StartError> {
    images.table().takes(&record.name, &record.version.platform())?;
    images.0.store.next_image_version(&record.name).await.map_err(StartError::Store)
}

/// Makes stage 1 of every version again that holds another substrate than the server has now. The
/// old one is served until the new one is there. Versions for other machines than the substrate's
/// are left as they are.
pub(super) async fn rebuild_all(images: &OsImages) {
    let table = images.table();
    let stale = table.images.values().flat_map(std::collections::BTreeMap::values).rev();
    let stale = stale.filter(|record| record.substrate != images.0.substrate_digest);
    // The server's own work takes turns with that of people.
    let claim = images.0.conversions.claim("");
    for record in stale.filter(|record| table.check_architecture(record).is_ok()) {
        let _place = claim.permit().await;
        let title = format!("{}@{}", record.name, record.version.version);
        match rebuild(images, record).await {
            Ok(()) => tracing::info!("{title}: stage 1 was rebuilt for the new substrate program"),
            Err(_) if images.0.shutdown.is_cancelled() => return,
            Err(error) => {
                tracing::error!(
                    "{title}: stage 1 keeps the old substrate program; making it again failed: {}",
                    causes(&error)
                );
            }
        }
    }
}

async fn rebuild(images: &OsImages, record: &Arc<ImageRecord>) -> Result<(), ImportError> {
    struct UntilShutdown(tokio_util::sync::CancellationToken);
    impl Progress for UntilShutdown {
        fn advance(&self, _label: &str, _done: u64, _total: u64) {}
        fn cancelled(&self) -> bool {
            self.0.is_cancelled()
        }
    }
    // Until the new files are named by the version.
    let lease = images.0.blobs.leased();
    let (blobs, layers) = (lease.clone(), record.layers.clone());
    let options = BuildOptions { substrate: images.0.substrate.clone() };
    let (progress, _waiting) = stoppable(UntilShutdown(images.0.shutdown.clone()));
    let (converter, manifest) = (images.0.converter.clone(), record.version.manifest);
    let rebuilding =
        blocking(move || Ok(converter.stage1(&blobs, &manifest, &layers, &options, &progress)?));
    let kernels = rebuilding.await?;
    let _turn = images.0.numbering.lock().await;
    let mut next = record.as_ref().clone();
    next.substrate = images.0.substrate_digest;
    next.version.kernels = kernels;
    // A version that was deleted in the meantime stays deleted.
    if images.table().has(&next.name, next.version.version) {
        images.0.store.commit(&[Write::PutImage(next)]).await?;
        images.reload().await?;
    }
    drop(lease);
    Ok(())
}
