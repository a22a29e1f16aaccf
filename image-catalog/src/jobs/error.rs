//! Why a job image is not here.

use access::QuotaExceeded;
use image_store::ConvertError;
use oci_pull::PullError;
use tokio::task::JoinError;

use crate::store::StoreError;

/// Why a job image is not here. With its sources it is the reason for whoever wanted it; the
/// sources may have secrets in them ([`api::sources::without_secrets`]).
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
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

impl FetchError {
    /// For work that panicked.
    pub(crate) fn broken(work: &'static str) -> impl FnOnce(JoinError) -> Self {
        move |error| Self::Broken { work, error }
    }
}
