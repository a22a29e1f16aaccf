//! Transfers the layers of an image: several at a time, each streamed to disk, taken up again when it breaks. How fast
//! they must come, and in how long: [`crate::Limits`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use image_store::{Beginning, BlobWriter, Layer, OciImage, Progress, Store, StoreError};
use reqwest::StatusCode;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{PARALLEL_LAYERS, PullError, Source, error::RequestError, in_background};

/// Chunks (of some 16 KiB) that wait between the network and the disk, for each layer.
const CHUNKS_WAITING: usize = 64;

/// What an attempt must bring for the next one to follow at once, bytes. Less is as good as nothing.
pub(crate) const LEAST_BYTES: u64 = 256 << 10;

/// Attempts in a row of which the last brought too little.
const MAX_FRUITLESS: u32 = 3;

/// How often it is looked whether another pull that transfers a layer is done with it.
const LOOK: Duration = Duration::from_millis(50);

/// Pause after an attempt that broke off, before the next one.
const PAUSE: Duration = Duration::from_millis(250);

/// Transfers the layers that the store does not have.
pub(crate) async fn pull_layers(
    source: &Source<'_>,
    image: &OciImage,
    store: &Store,
    progress: &Arc<dyn Progress>,
) -> Result<(), PullError> {
    // A layer that the image has twice is transferred once.
    let different: BTreeMap<_, _> = image.layers.iter().map(|layer| (layer.digest, layer.size)).collect();
    progress.layers(different.values().fold(0, |sum: u64, size| sum.saturating_add(*size)));
    // Collected first: a closure within the stream would keep the future from being `Send` for its callers.
    let transfers: Vec<_> =
        image.layers.iter().map(|layer| Transfer { source, layer, progress }.run(store)).collect();
    stream::iter(transfers).buffer_unordered(PARALLEL_LAYERS).try_collect::<Vec<()>>().await.map(|_| ())
}

/// One layer on its way.
struct Transfer<'a> {
    source: &'a Source<'a>,
    layer: &'a Layer,
    progress: &'a Arc<dyn Progress>,
}

/// How an attempt ended: the network's end, with the writer for the next attempt.
type Attempt = (BlobWriter, Result<(), RequestError>);

impl Transfer<'_> {
    async fn run(self, store: &Store) -> Result<(), PullError> {
        let limit = self.source.limits.layer;
        match timeout(limit, self.transfer(store)).await {
            Ok(result) => result,
            Err(_) => {
                let got = self.source.moved.highest_of(&self.layer.digest);
                Err(self.interrupted(got, RequestError::Overdue { seconds: limit.as_secs() }))
            }
        }
    }

    async fn transfer(&self, store: &Store) -> Result<(), PullError> {
        let mut was_begun = false;
        match self.go_on(store, &mut was_begun).await {
            // What was here may be of a mirror that lies, and is gone now: once more, all of it from here.
            Err(error) if was_begun && error.is_of_other_content() => {
                tracing::warn!(layer = %self.layer.digest, "what an earlier try left of it was of something else");
                self.go_on(store, &mut was_begun).await
            }
            result => result,
        }
    }

    /// Transfers what is missing. `was_begun`: something of it was here.
    async fn go_on(&self, store: &Store, was_begun: &mut bool) -> Result<(), PullError> {
        let (digest, size) = (self.layer.digest, self.layer.size);
        if let Some(mut writer) = self.writer(store).await? {
            *was_begun = writer.offset() > 0;
            let mut fruitless = 0;
            while writer.offset() < size {
                let before = writer.offset();
                let (same, result) = self.attempt(writer).await?;
                writer = same;
                let Err(error) = result else { continue };
                let brought = writer.offset().saturating_sub(before);
                fruitless = if brought >= LEAST_BYTES { 0 } else { fruitless + 1 };
                if error.is_past_the_end() {
                    return Err(self.truncated(writer.offset()));
                }
                if !error.is_transient() {
                    return Err(self.source.failed("a layer", error));
                }
                // Longer pauses are for the whole pull, which has one clock.
                let is_slow = matches!(error, RequestError::Slow { .. });
                if brought == 0 || is_slow || fruitless >= MAX_FRUITLESS {
                    return Err(self.interrupted(writer.offset(), error));
                }
                tracing::info!(layer = %digest, offset = writer.offset(), %error, "transfer broke, going on");
                tokio::time::sleep(PAUSE).await;
            }
            let not_stored = self.not_stored();
            in_background(store, move |_| writer.finish().map_err(not_stored)).await?;
            self.source.moved.add(LEAST_BYTES);
        }
        self.progress.advance(&self.layer.label(), size, size);
        Ok(())
    }

    /// Waits for another pull that transfers the layer, and for so long only.
    async fn writer(&self, store: &Store) -> Result<Option<BlobWriter>, PullError> {
        let (digest, size, began) = (self.layer.digest, self.layer.size, Instant::now());
        loop {
            let beside = began.elapsed() >= self.source.limits.beside;
            let not_stored = self.not_stored();
            let begin = move |store: &Store| store.try_writer(&digest, size, beside).map_err(not_stored);
            match in_background(store, begin).await? {
                Beginning::Stored => return Ok(None),
                Beginning::Writer(writer) => return Ok(Some(*writer)),
                Beginning::Busy if self.progress.cancelled() => return Err(PullError::Cancelled),
                Beginning::Busy => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Transfers from where the writer stands to the end, or to where it breaks.
    async fn attempt(&self, mut writer: BlobWriter) -> Result<Attempt, PullError> {
        let digest = self.layer.digest.to_string();
        let mut response = match self.source.endpoint.blob(&digest, writer.offset()).await {
            Ok(response) => response,
            Err(error) => return Ok((writer, Err(error))),
        };
        if response.status() != StatusCode::PARTIAL_CONTENT {
            // The registry knows no ranges, or the whole was asked for.
            writer.restart().map_err(self.not_stored())?;
        }
        let start = writer.offset();
        let missing = self.layer.size - start;
        self.source.moved.begins(&self.layer.digest, start);
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let (label, progress) = (self.layer.label(), Arc::clone(self.progress));
        let disk = tokio::task::spawn_blocking(move || write_all(writer, receiver, &label, &*progress));
        let mut pace = self.source.traffic.begins(Instant::now());
        let mut sent = 0;
        let mut result = Ok(());
        // What comes after the announced size is not asked for; one byte too many in a chunk is told by the writer.
        while sent < missing {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => {
                    result = Err(RequestError::ended_early());
                    break;
                }
                Err(error) => {
                    result = Err(RequestError::of(&error));
                    break;
                }
            };
            let length = chunk.len() as u64;
            sent += length;
            self.source.moved.reaches(&self.layer.digest, start + sent.min(missing));
            if sender.send(chunk).await.is_err() {
                // The disk's side ended; it says why.
                break;
            }
            if let Err(slow) = pace.came(length, Instant::now()) {
                result = Err(slow);
                break;
            }
        }
        drop((sender, pace));
        match disk.await {
            Ok(Ok(writer)) => Ok((writer, result)),
            Ok(Err(Stopped::Store(source))) => Err(self.not_stored()(source)),
            Ok(Err(Stopped::Cancelled)) => Err(PullError::Cancelled),
            Err(join) => match join.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(PullError::Cancelled),
            },
        }
    }

    /// Names a failure of the store.
    fn not_stored(&self) -> impl FnOnce(StoreError) -> PullError + Send + use<> {
        let (registry, repository, what) =
            (self.source.registry(), self.source.repository(), self.layer.label());
        |source| PullError::Layer { registry, repository, what, source: Box::new(source) }
    }

    fn truncated(&self, got: u64) -> PullError {
        PullError::Truncated {
            registry: self.source.registry(),
            repository: self.source.repository(),
            what: self.layer.label(),
            got,
            size: self.layer.size,
        }
    }

    fn interrupted(&self, got: u64, source: RequestError) -> PullError {
        PullError::Interrupted {
            registry: self.source.registry(),
            repository: self.source.repository(),
            what: self.layer.label(),
            got,
            size: self.layer.size,
            source: Box::new(source),
        }
    }
}

/// Why the disk's side ended early.
enum Stopped {
    Store(StoreError),
    Cancelled,
}

fn write_all(
    mut writer: BlobWriter,
    mut receiver: mpsc::Receiver<Bytes>,
    label: &str,
    progress: &dyn Progress,
) -> Result<BlobWriter, Stopped> {
    while let Some(chunk) = receiver.blocking_recv() {
        writer.write(&chunk).map_err(Stopped::Store)?;
        progress.advance(label, writer.offset(), writer.size());
        if progress.cancelled() {
            return Err(Stopped::Cancelled);
        }
    }
    Ok(writer)
}
