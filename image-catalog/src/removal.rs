//! The removal of files that nothing needs: one task for OS images and job images.
//!
//! ```text
//! at the start            OS images: what a killed import left, unless it goes on
//! after a minute          both; what was being fetched when the server ended is taken up by then
//! then every hour         both; what one removal could not do, the next one does
//! a fetch has failed      job images, a minute after the removal before at the earliest
//! an import has failed,   OS images, at once ([`crate::os`])
//! a version is deleted
//! ```
//! Each begins before it asks what is needed, so that what begins to be needed meanwhile stays
//! ([`image_store::Store::begin_removal`]). While that is not known of one kind of images, nothing
//! of that kind goes, and the other goes on.

use std::{collections::HashSet, convert::Infallible, time::Duration};

use api::ids::Digest;
use image_store::{Removal, Removed};
use rest::causes;

use crate::{
    clock,
    jobs::{ImageLimits, JobImages},
    os::OsImages,
    store::StoreError,
};

/// How often unused files are looked for; so exact is the time of the last use of a job image.
const EVERY: Duration = Duration::from_secs(3_600);

/// When that begins after the start: images that were being fetched take up by then what they had.
const FIRST: Duration = Duration::from_secs(60);

/// Pause between two looks, however many fetches fail.
const LEAST_PAUSE: Duration = Duration::from_secs(60);

/// Why unused files could not be removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemovalError {
    /// The tables of images.
    #[error(transparent)]
    Table(#[from] StoreError),
    /// The store of their files.
    #[error(transparent)]
    Blobs(#[from] image_store::StoreError),
    /// The work panicked.
    #[error("the removal of unused images ended badly")]
    Broken(#[from] tokio::task::JoinError),
}

/// Removes all files of a store but those that are needed or in use.
pub(crate) async fn remove_all_but(
    removal: Removal,
    needed: HashSet<Digest>,
) -> Result<Removed, RemovalError> {
    Ok(tokio::task::spawn_blocking(move || removal.remove_all_but(&needed)).await??)
}

/// Removes what nothing needs, now and again. Dropped, it begins nothing new; a removal of files
/// that goes on then comes to its end.
pub(crate) async fn remove_unused_for_ever(
    os: OsImages,
    jobs: JobImages,
    limits: ImageLimits,
) -> Infallible {
    os.remove_unused().await;
    let mut pause = FIRST;
    // A new warning is a line of the log; the same one every hour is none.
    let mut told = None;
    loop {
        // Users' fetches may fail as often as they like: OS images are not looked through for them.
        let is_time = tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = jobs.failed(), if pause == EVERY => false,
        };
        if is_time {
            os.remove_unused().await;
        }
        match jobs.remove_unused(clock::now(), limits).await {
            Ok(None) => told = None,
            Ok(Some(unknown)) if told.as_ref() == Some(&unknown) => {}
            Ok(Some(unknown)) => {
                tracing::warn!("no unused job images are removed: {unknown}");
                told = Some(unknown);
            }
            Err(error) => {
                tracing::error!("cannot remove unused job images: {}", causes(&error));
            }
        }
        tokio::time::sleep(LEAST_PAUSE).await;
        pause = EVERY;
    }
}
