//! Why an import failed, or the making again of stage 1.

use image_store::{ConvertError, oci::OciError};
use oci_pull::PullError;
use tokio::task::JoinError;

use crate::{os::SourceError, store::StoreError};

/// Why there is no new version. With its sources it is the text of the operation that failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::os) enum ImportError {
    /// What was named is no source of images, or no image can be named after it.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The registry, or what came from it.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The layout on the server's disk.
    #[error(transparent)]
    Layout(#[from] OciError),
    /// The layers make no root image, kernel or stage 1.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The database.
    #[error(transparent)]
    Table(#[from] StoreError),
    /// Somebody wanted its end.
    #[error("cancelled by {by}")]
    Cancelled {
        /// Who.
        by: String,
    },
    /// A thread panicked.
    #[error("the work ended badly: {0}; see the server's log")]
    Broken(JoinError),
}
