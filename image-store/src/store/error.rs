//! What can go wrong with the store; users see these texts.

use std::{io, path::PathBuf};

use api::ids::Digest;

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file system is full. Nothing was left behind.
    #[error(
        "no space left in {}: {}{available} bytes are free; make room, or remove image versions that no node uses, and try \
         again", path.display(), wanted(*needed)
    )]
    NoSpace {
        /// The store.
        path: PathBuf,
        /// Bytes that were still to be written; 0 where that is not known.
        needed: u64,
        /// Bytes free.
        available: u64,
    },
    /// The bytes are not those that were announced. Nothing was published.
    #[error(
        "digest mismatch: expected {expected}, got {got}; the source is damaged or was tampered with"
    )]
    DigestMismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        got: Digest,
    },
    /// The number of bytes is not the one announced. Nothing was published.
    #[error("{digest} should have {expected} bytes, got {got}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came, at least.
        got: u64,
    },
    /// There is no such blob.
    #[error("{digest} is not in the store {}; import the image again", path.display())]
    Missing {
        /// The blob.
        digest: Digest,
        /// The store.
        path: PathBuf,
    },
}

fn wanted(needed: u64) -> String {
    if needed == 0 { String::new() } else { format!("{needed} bytes are needed and ") }
}
