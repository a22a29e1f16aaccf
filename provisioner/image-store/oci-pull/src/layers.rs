//! Transfers the layers of an image: several at a time, each streamed to disk, taken up again when it breaks.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use image_store::{BlobWriter, Layer, OciImage, Progress, Store, StoreError};
use oci_client::{client::BlobResponse, errors::OciDistributionError};
use tokio::sync::mpsc;

use crate::{
    PARALLEL_LAYERS, PullError, Source,
    error::{is_past_the_end, is_transient},
    in_background,
};

/// Chunks (of some 16 KiB) that wait between the network and the disk, for each layer.
const CHUNKS_WAITING: usize = 64;

/// Transfers the layers that the store does not have.
pub(crate) async fn pull_layers(
    source: &Source,
    image: &OciImage,
    store: &Store,
    progress: &Arc<dyn Progress>,
) -> Result<(), PullError> {
    // Collected first: a closure within the stream would keep the future from being `Send` for its callers.
    let transfers: Vec<_> =
        image.layers.iter().map(|layer| Transfer { source, layer, progress }.run(store)).collect();
    stream::iter(transfers).buffer_unordered(PARALLEL_LAYERS).try_collect::<Vec<()>>().await.map(|_| ())
}

/// One layer on its way.
struct Transfer<'a> {
    source: &'a Source,
    layer: &'a Layer,
    progress: &'a Arc<dyn Progress>,
}

/// How an attempt ended: the network's end, with the writer for the next attempt.
type Attempt = (BlobWriter, Result<(), OciDistributionError>);

impl Transfer<'_> {
    async fn run(self, store: &Store) -> Result<(), PullError> {
        let (digest, size) = (self.layer.digest, self.layer.size);
        let not_stored = self.not_stored();
        let writer =
            in_background(store, move |store| store.writer(&digest, size).map_err(not_stored)).await?;
        if let Some(mut writer) = writer {
            let mut failures = 0;
            while writer.offset() < size {
                let before = writer.offset();
                let (same, result) = self.attempt(writer).await?;
                writer = same;
                let Err(error) = result else { continue };
                failures = if writer.offset() > before { 1 } else { failures + 1 };
                if is_past_the_end(&error) {
                    return Err(self.truncated(writer.offset()));
                }
                if !is_transient(&error) {
                    return Err(self.source.failed("a layer", error));
                }
                if failures >= self.source.retry.attempts {
                    return Err(self.interrupted(failures, writer.offset(), error));
                }
                tracing::info!(layer = %digest, offset = writer.offset(), %error, "transfer broke, trying again");
                tokio::time::sleep(self.source.retry.pause(failures)).await;
            }
            let not_stored = self.not_stored();
            in_background(store, move |_| writer.finish().map_err(not_stored)).await?;
        }
        self.progress.advance(&self.layer.label(), size, size);
        Ok(())
    }

    /// Transfers from where the writer stands to the end, or to where it breaks.
    async fn attempt(&self, mut writer: BlobWriter) -> Result<Attempt, PullError> {
        let digest = self.layer.digest.to_string();
        let (client, reference) = (&self.source.client, &self.source.reference);
        let response =
            client.pull_blob_stream_partial(reference, digest.as_str(), writer.offset(), None).await;
        let mut incoming = match response {
            Ok(BlobResponse::Partial(sized)) => sized.stream,
            Ok(BlobResponse::Full(sized)) => {
                // The registry knows no ranges.
                writer.restart().map_err(self.not_stored())?;
                sized.stream
            }
            Err(error) => return Ok((writer, Err(error))),
        };
        let missing = self.layer.size - writer.offset();
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let (label, progress) = (self.layer.label(), Arc::clone(self.progress));
        let disk = tokio::task::spawn_blocking(move || write_all(writer, receiver, &label, &*progress));
        let mut sent = 0;
        let mut result = Ok(());
        // What comes after the announced size is not asked for; one byte too many in a chunk is told by the writer.
        while sent < missing {
            let chunk = match incoming.next().await {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => {
                    result = Err(error.into());
                    break;
                }
                None => {
                    result = Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
                    break;
                }
            };
            sent += chunk.len() as u64;
            if sender.send(chunk).await.is_err() {
                // The disk's side ended; it says why.
                break;
            }
        }
        drop(sender);
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

    fn interrupted(&self, attempts: u32, got: u64, error: OciDistributionError) -> PullError {
        PullError::Interrupted {
            registry: self.source.registry(),
            repository: self.source.repository(),
            what: self.layer.label(),
            got,
            size: self.layer.size,
            attempts,
            source: Box::new(error),
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
