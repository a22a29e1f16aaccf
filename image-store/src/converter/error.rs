//! Why an image was not converted; users see these texts.

use std::io;

use api::ids::Digest;

use super::{RefusalKind, TriesError};
use crate::{build::BuildError, store::StoreError};

/// Why an image was not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// Something on the server's side: a layer that left the store, a full disk.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The converter read the image, and refuses it.
    #[error("{message}")]
    Refused {
        /// Whose fault it is.
        kind: RefusalKind,
        /// What is wrong, with its causes.
        message: String,
    },
    /// The converter cannot be started, or not be spoken to.
    #[error("cannot start the image converter")]
    Start(#[source] io::Error),
    /// It ended without a word, and nobody else ended it.
    #[error("the image converter ended badly with {image} ({cause}); {}", next(*left))]
    Crashed {
        /// Digest of the manifest.
        image: Digest,
        /// How it ended.
        cause: String,
        /// How many more tries there are.
        left: u32,
    },
    /// It crashed too often with this image.
    #[error(
        "{image} is not converted: the image converter ended badly with it {tries} times, the last time so: \
         {reason}; a newer bedplate tries it again; before that an admin can have it tried with \
         `bedplate image import --retry`, also if it is for jobs and has no kernel"
    )]
    Abandoned {
        /// Digest of the manifest.
        image: Digest,
        /// How often it was tried.
        tries: u32,
        /// How the last try ended.
        reason: String,
    },
    /// The kernel or an admin ended the converter.
    #[error(
        "the image converter was killed while it worked on {image}: the machine ran out of memory, or somebody \
         ended it; import the image again when there is more"
    )]
    Killed {
        /// Digest of the manifest.
        image: Digest,
    },
    /// It said what no converter says.
    #[error("the image converter did not do with {image} what it should: {problem}")]
    Nonsense {
        /// Digest of the manifest.
        image: Digest,
        /// What it did.
        problem: &'static str,
    },
    /// Crashes cannot be counted.
    #[error(transparent)]
    AttemptCounts(#[from] TriesError),
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

fn next(left: u32) -> &'static str {
    if left > 0 {
        "try it once more; if that ends so too, the image is refused"
    } else {
        "it is not tried again before an upgrade of bedplate, or `bedplate image import --retry` by an admin"
    }
}
