//! Why a job image is not here.

use access::QuotaExceeded;
use api::sources::without_secrets;
use image_store::ConvertError;
use oci_pull::PullError;
use tokio::task::JoinError;

use crate::{record::ToldFetchError, store::StoreError};

/// Why a job image is not here. With its sources it is the reason of the stage that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The registry, or what came from it; or nobody wants the image any more.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The layers make no squashfs.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// Its user has no room for it.
    #[error(transparent)]
    Quota(QuotaExceeded),
    /// The table of job images.
    #[error(transparent)]
    Table(#[from] StoreError),
    /// The files of job images.
    #[error(transparent)]
    Files(#[from] image_store::StoreError),
    /// A thread or task panicked.
    #[error("the {work} ended badly: {error}; see the server's log")]
    Broken {
        /// What it did: `pull`, `lookup`, `conversion`, `commit`.
        work: &'static str,
        /// How it ended.
        error: JoinError,
    },
}

impl From<&FetchError> for ToldFetchError {
    fn from(error: &FetchError) -> Self {
        Self::new(without_secrets(&rest::causes(error)))
    }
}

impl FetchError {
    /// For work that panicked.
    pub(crate) fn broken(work: &'static str) -> impl FnOnce(JoinError) -> Self {
        move |error| Self::Broken { work, error }
    }
}
