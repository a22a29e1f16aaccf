//! One layer of an image: what is recorded of it, and its tar stream.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use api::ids::Digest;
use serde::{Deserialize, Serialize};

use crate::store::{Store, StoreError};

/// Largest layer, bytes of tar. Against decompression bombs; a root image that is larger could not
/// be held in RAM.
pub const MAX_LAYER_BYTES: u64 = 64 << 30;

/// Most layers of an image; Docker's own limit is 127.
pub const MAX_LAYERS: usize = 512;

/// Largest window of a layer that zstd compressed, as a power of two: 32 MiB, which each layer
/// that is read holds in memory. What makes images uses 8 MiB and less; `zstd --long` and
/// levels past 20 more.
const MAX_ZSTD_WINDOW_LOG: u32 = 25;

/// What an image version records of each of its layers, lowest first: enough to build it again
/// from the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layer {
    /// Digest of the blob as the registry has it.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type. What it is compressed with is read from its first bytes.
    pub media_type: String,
    /// Digest of its tar, which the image's configuration says (`rootfs.diff_ids`); `None` where it
    /// says none, and for images that were taken before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
}

/// A layer and the open file that it is read from, by as many readers as there are.
#[derive(Debug, Clone)]
pub(crate) struct LayerFile {
    pub layer: Layer,
    pub file: Arc<File>,
}

impl Layer {
    /// `layer 1a2b3c4d`: what progress calls it.
    #[must_use]
    pub fn label(&self) -> String {
        format!("layer {}", &self.digest.hex()[..8])
    }

    /// Opens the layers' files in the store.
    pub(crate) fn open_all(layers: &[Self], store: &Store) -> Result<Vec<LayerFile>, StoreError> {
        let open = |layer: &Self| {
            let file = Arc::new(store.reader(&layer.digest)?);
            Ok::<_, StoreError>(LayerFile { layer: layer.clone(), file })
        };
        layers.iter().map(open).collect()
    }

    pub(crate) fn unreadable(&self, source: io::Error) -> LayerError {
        LayerError::Unreadable { digest: self.digest, source }
    }
}

impl LayerFile {
    /// The tar stream of the layer: gzip, zstd or plain, told by the first bytes.
    pub(crate) fn read(&self) -> Result<Box<dyn Read + Send>, LayerError> {
        let bytes = FromStart { file: self.file.clone(), offset: 0 };
        let inflated = inflated(bytes).map_err(|source| self.layer.unreadable(source))?;
        Ok(Box::new(Limited { inner: inflated, left: MAX_LAYER_BYTES }))
    }
}

/// Reads a file from its start, whatever others read of it.
struct FromStart {
    file: Arc<File>,
    offset: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Why a layer cannot be read or merged.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It is not in the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its compression or its tar framing is broken.
    #[error("layer {digest} cannot be read")]
    Unreadable {
        /// The layer.
        digest: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// One of its entries cannot be taken.
    #[error("layer {digest}: {path}: {problem}")]
    Entry {
        /// The layer.
        digest: Digest,
        /// Name of the entry.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Its tar is not the one that the image's configuration names.
    #[error(
        "layer {number} ({digest}) unpacks to {got}, and the image's configuration says {expected}; the \
         image is damaged or was tampered with: push it again"
    )]
    DiffId {
        /// Its place in the image, from 0 for the lowest.
        number: usize,
        /// The layer.
        digest: Digest,
        /// `rootfs.diff_ids` of the configuration.
        expected: Digest,
        /// What the tar has.
        got: Digest,
    },
    /// With this entry the image needs too much memory.
    #[error(
        "layer {digest}: {path}: with it the names, attributes and directories of the image take more than \
         {limit} bytes of memory; make an image of fewer files"
    )]
    OverBudget {
        /// The layer.
        digest: Digest,
        /// Name of the entry.
        path: String,
        /// The limit, bytes.
        limit: u64,
    },
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

fn inflated(file: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut reader = BufReader::with_capacity(crate::store::CHUNK_BYTES, file);
    Ok(match *reader.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        // A frame, or one to be skipped (RFC 8878, 3.1.2), which `pzstd` begins with.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(not_a_compression("xz")),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => return Err(not_a_compression("bzip2")),
        _ => Box::new(reader),
    })
}

fn not_a_compression(found: &str) -> io::Error {
    io::Error::other(format!(
        "it is compressed with {found}; layers are compressed with gzip, zstd or not at all"
    ))
}

/// Fails where a stream grows past what is sane, instead of ending quietly as [`Read::take`] does.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(format!("it unpacks to more than {MAX_LAYER_BYTES} bytes"))
        })?;
        Ok(count)
    }
}
