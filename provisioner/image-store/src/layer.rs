//! One layer of an image: what is recorded of it, and its tar stream.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
};

use api::ids::Digest;
use serde::{Deserialize, Serialize};

use crate::store::{Store, StoreError};

/// Largest layer, bytes of tar. Against decompression bombs; a root image that is larger could not be held in RAM.
pub const MAX_LAYER_BYTES: u64 = 64 << 30;

/// Most layers of an image; Docker's own limit is 127.
pub const MAX_LAYERS: usize = 512;

/// What an image version records of each of its layers, lowest first: enough to build it again from the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layer {
    /// Digest of the blob as the registry has it.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type. What it is compressed with is read from its first bytes.
    pub media_type: String,
}

impl Layer {
    /// `layer 1a2b3c4d`: what progress calls it.
    #[must_use]
    pub fn label(&self) -> String {
        format!("layer {}", &self.digest.hex()[..8])
    }

    /// Opens the tar stream of the layer: gzip, zstd or plain, told by the first bytes.
    pub(crate) fn open(&self, store: &Store) -> Result<Box<dyn Read + Send>, LayerError> {
        let file = store.reader(&self.digest)?;
        let inflated = inflated(file).map_err(|source| self.unreadable(source))?;
        Ok(Box::new(Limited { inner: inflated, left: MAX_LAYER_BYTES }))
    }

    pub(crate) fn unreadable(&self, source: io::Error) -> LayerError {
        LayerError::Unreadable { digest: self.digest, source }
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
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

fn inflated(file: File) -> io::Result<Box<dyn Read + Send>> {
    let mut reader = BufReader::with_capacity(crate::store::CHUNK_BYTES, file);
    Ok(match *reader.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        // A frame, or one to be skipped (RFC 8878, 3.1.2), which `pzstd` begins with.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(reader)?)
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
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other(format!("it unpacks to more than {MAX_LAYER_BYTES} bytes")))?;
        Ok(count)
    }
}
