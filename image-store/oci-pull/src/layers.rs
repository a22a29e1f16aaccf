//! Transfers the layers of an image: several at a time, each streamed to disk, taken up again when
//! it breaks. How fast they must come, and in how long: [`crate::Limits`].

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use image_store::{Beginning, BlobWriter, Layer, OciImage, Progress, Store, StoreError};
use reqwest::StatusCode;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, timeout},
};

use crate::{
    PARALLEL_LAYERS, PullError,
    error::RequestError,
    pace::{LayerPace, ParallelLayer},
    source::{Source, in_background},
};

/// Chunks (of some 16 KiB) that wait between the network and the disk, for each layer.
const CHUNKS_WAITING: usize = 64;

/// What an attempt must bring for the next one to follow at once, bytes. Less is as
/// good as nothing.
pub(crate) const LEAST_BYTES: u64 = 256 << 10;

/// Attempts in a row of which the last brought too little.
const MAX_FRUITLESS: u32 = 3;

/// How often it is looked whether another pull that transfers a layer is done with it.
const LOOK: Duration = Duration::from_millis(50);

/// After how many bytes it is looked again whether another pull has brought a layer meanwhile.
const LOOK_BYTES: u64 = 4 << 20;

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
    let mut seen = BTreeSet::new();
    let layers: Vec<&Layer> =
        image.layers.iter().filter(|layer| seen.insert(layer.digest)).collect();
    progress.layers(layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size)));
    // Collected first: a closure within the stream would keep the future from being `Send`
    // for its callers.
    let transfers: Vec<_> =
        layers.into_iter().map(|layer| Transfer { source, layer, progress }.run(store)).collect();
    stream::iter(transfers)
        .buffer_unordered(PARALLEL_LAYERS)
        .try_collect::<Vec<()>>()
        .await
        .map(|_| ())
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
            // What was here may be of a mirror that lies, and is gone now: once more, all
            // of it from here.
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
                let Some((same, result)) = self.attempt(writer).await? else {
                    self.progress.advance(&self.layer.label(), size, size);
                    return Ok(());
                };
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

    /// Waits for another pull that transfers the layer, as long as it comes fast enough.
    /// `None`: it is here.
    async fn writer(&self, store: &Store) -> Result<Option<BlobWriter>, PullError> {
        let (digest, size) = (self.layer.digest, self.layer.size);
        let mut other = ParallelLayer::new(store.partial_bytes(&digest), Instant::now());
        loop {
            let here = store.partial_bytes(&digest);
            let beside = other.is_too_slow(here, size, self.source.limits, Instant::now());
            let not_stored = self.not_stored();
            let begin =
                move |store: &Store| store.try_writer(&digest, size, beside).map_err(not_stored);
            match in_background(store, begin).await? {
                Beginning::Stored => return Ok(None),
                Beginning::Writer(writer) => return Ok(Some(*writer)),
                Beginning::Busy if self.progress.cancelled() => return Err(PullError::Cancelled),
                Beginning::Busy => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Transfers from where the writer stands to the end, or to where it breaks. `None`: another
    /// pull has brought the layer meanwhile.
    async fn attempt(&self, mut writer: BlobWriter) -> Result<Option<Attempt>, PullError> {
        let digest = self.layer.digest.to_string();
        let mut response = match self.source.endpoint.blob(&digest, writer.offset()).await {
            Ok(response) => response,
            Err(error) => return Ok(Some((writer, Err(error)))),
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
        let disk =
            tokio::task::spawn_blocking(move || write_all(writer, receiver, &label, &*progress));
        let mut pace = self.source.traffic.begins(Instant::now());
        let mut sent = 0;
        let mut result = Ok(());
        // What comes after the announced size is not asked for; one byte too many in a chunk is
        // told by the writer.
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
            let came = pace.came(length, Instant::now());
            if !hand_over(&sender, chunk, &mut pace).await {
                // The disk's side ended; it says why.
                break;
            }
            if came.is_err() {
                result = came;
                break;
            }
        }
        drop((sender, pace));
        match disk.await {
            Ok(Ok(writer)) => Ok(Some((writer, result))),
            Ok(Err(Stopped::Stored)) => Ok(None),
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
    /// Another pull has brought the layer.
    Stored,
    Cancelled,
}

/// Hands a chunk to the disk's side; `false` if that has ended. While it is waited for,
/// the pace stands.
async fn hand_over(sender: &mpsc::Sender<Bytes>, chunk: Bytes, pace: &mut LayerPace) -> bool {
    match sender.try_send(chunk) {
        Ok(()) => true,
        Err(TrySendError::Closed(_)) => false,
        Err(TrySendError::Full(chunk)) => {
            pace.stands(Instant::now());
            let sent = sender.send(chunk).await;
            pace.goes_on(Instant::now());
            sent.is_ok()
        }
    }
}

fn write_all(
    mut writer: BlobWriter,
    mut receiver: mpsc::Receiver<Bytes>,
    label: &str,
    progress: &dyn Progress,
) -> Result<BlobWriter, Stopped> {
    let mut look_at = writer.offset() + LOOK_BYTES;
    while let Some(chunk) = receiver.blocking_recv() {
        writer.write(&chunk).map_err(Stopped::Store)?;
        if writer.offset() >= look_at {
            look_at = writer.offset() + LOOK_BYTES;
            if writer.is_stored() {
                writer.discard();
                return Err(Stopped::Stored);
            }
        }
        progress.advance(label, writer.offset(), writer.size());
        if progress.cancelled() {
            return Err(Stopped::Cancelled);
        }
    }
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use api::ids::Digest;
    use image_store::NoProgress;
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn who_transfers_a_layer_ends_once_another_has_brought_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let bytes = vec![7_u8; usize::try_from(2 * LOOK_BYTES).unwrap()];
        let digest = Digest(Sha256::digest(&bytes).into());
        let begin = |beside| match store.try_writer(&digest, 2 * LOOK_BYTES, beside).unwrap() {
            Beginning::Writer(writer) => *writer,
            other => panic!("{other:?}"),
        };
        let (first, mut second) = (begin(false), begin(true));
        second.write(&bytes).unwrap();
        assert!(!first.is_stored());
        second.finish().unwrap();
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        for chunk in bytes.chunks(1 << 20) {
            sender.try_send(Bytes::copy_from_slice(chunk)).unwrap();
        }
        drop(sender);
        let ended = write_all(first, receiver, "layer", &NoProgress);
        assert!(matches!(ended, Err(Stopped::Stored)));
        assert_eq!(fs::read_dir(directory.path().join("partial")).unwrap().count(), 0);
    }
}
