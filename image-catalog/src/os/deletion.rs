//! The deletion of versions that nobody uses: no boot chooses one meanwhile, and nobody else
//! changes which there are. Who uses them says [`NodeImages`].

use std::{error::Error, fmt, sync::Arc, time::Duration};

use api::ids::ImageName;
use async_trait::async_trait;
use database::outbox;
use rest::causes;
use tokio::{
    sync::{OwnedMutexGuard, OwnedRwLockWriteGuard, RwLockReadGuard},
    time::timeout,
};

use super::OsImages;
use crate::store::{StoreError, Write};

/// How long a deletion waits for the boots that are choosing a version, and lets others wait.
const BOOT_PATIENCE: Duration = Duration::from_secs(2);

/// Versions that one transaction deletes: their rows are a few KiB each, so it is far from
/// [`database::MAX_TRANSACTION`], and whoever else writes has a turn in between.
const MAX_DELETED_AT_ONCE: usize = 64;

/// Who boots from OS images. The catalog asks, and knows nothing else of them.
#[async_trait]
pub trait NodeImages: fmt::Debug + Send + Sync {
    /// Waits for the turn to change who uses which image: while it is held, nobody else does.
    async fn turn(&self) -> OwnedMutexGuard<()>;

    /// Whether nobody uses any of these versions, with the turn held and boots kept from choosing.
    ///
    /// # Errors
    /// [`VersionsInUse`], with who uses them.
    fn check_unused(&self, image: &ImageName, versions: &[u32]) -> Result<(), VersionsInUse>;
}

/// Somebody uses a version, or it is not known that nobody does; why, for people.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct VersionsInUse(Box<dyn Error + Send + Sync>);

impl VersionsInUse {
    /// For this reason.
    pub fn new(reason: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(reason))
    }
}

/// Why an image, or a version of it, was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeletionRefused {
    /// It is not there.
    #[error(
        "image {name}{} does not exist; `bedplate image list` shows those that do",
        version.map(|version| format!("@{version}")).unwrap_or_default()
    )]
    Unknown {
        /// The image.
        name: ImageName,
        /// The version; `None`: the whole image.
        version: Option<u32>,
    },
    /// What is held over a deletion is held by others for too long.
    #[error(
        "boots of nodes are being written down, or an import or another deletion, and the server's \
         database takes its time; its log says why: try again"
    )]
    Busy,
    /// It is needed.
    #[error(transparent)]
    InUse(#[from] VersionsInUse),
    /// It was begun, and failed.
    #[error(transparent)]
    Failed(#[from] DeleteError),
}

/// Why versions were not deleted, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work panicked, or the server ends.
    #[error("the deletion ended badly")]
    Broken(#[from] tokio::task::JoinError),
}

/// No boot chooses a version, and nobody else changes which there are: [`OsImages::deleting`].
#[derive(Debug)]
pub(crate) struct Deleting {
    choosing: OwnedRwLockWriteGuard<()>,
    numbering: OwnedMutexGuard<()>,
    /// [`NodeImages::turn`].
    turn: Option<OwnedMutexGuard<()>>,
}

impl OsImages {
    /// Keeps versions from being deleted while a boot chooses one.
    pub async fn choosing(&self) -> RwLockReadGuard<'_, ()> {
        self.0.choosing.read().await
    }

    /// Deletes a version of an image, or all of them, unless `users` have one in use.
    ///
    /// # Errors
    /// [`DeletionRefused`].
    pub async fn delete_unused(
        &self,
        users: &dyn NodeImages,
        name: ImageName,
        version: Option<u32>,
    ) -> Result<(), DeletionRefused> {
        let turn = users.turn().await;
        let there = || match version {
            None => self.table().versions(&name).collect::<Vec<u32>>(),
            Some(version) => {
                self.table().versions(&name).filter(|present| *present == version).collect()
            }
        };
        let unknown = || DeletionRefused::Unknown { name: name.clone(), version };
        if there().is_empty() {
            return Err(unknown());
        }
        let mut deleting = self.deleting().await.ok_or(DeletionRefused::Busy)?;
        // An import or another deletion may have ended while it was waited for.
        let versions = there();
        if versions.is_empty() {
            return Err(unknown());
        }
        users.check_unused(&name, &versions)?;
        // It goes with the deletion, which goes on when nobody waits for it any more.
        deleting.turn = Some(turn);
        let numbers: Vec<String> = versions.iter().map(u32::to_string).collect();
        access::record_object(&format!("image {name}@{}", numbers.join(",")));
        Ok(self.delete(name, versions, deleting).await?)
    }

    /// Keeps boots from choosing a version while one is looked at and deleted. `None` if they take
    /// too long: what they choose is on disk before they go on.
    pub(crate) async fn deleting(&self) -> Option<Deleting> {
        let both = async {
            // First: an import that holds it waits for the database, and boots must not.
            let numbering = self.0.numbering.clone().lock_owned().await;
            let choosing = self.0.choosing.clone().write_owned().await;
            Deleting { choosing, numbering, turn: None }
        };
        timeout(BOOT_PATIENCE, both).await.ok()
    }

    /// Removes versions of an image and, in the background, the blobs that no version needs any
    /// more. The caller has seen to it that no node uses them, while it held `deleting`.
    ///
    /// Boots see the versions no more from the beginning, and wait for no transaction. It goes on
    /// when nobody waits for it; a server that ends on the way leaves those that were not yet
    /// deleted.
    ///
    /// # Errors
    /// The database's; versions that were not yet deleted are then there again.
    pub(crate) async fn delete(
        &self,
        name: ImageName,
        versions: Vec<u32>,
        deleting: Deleting,
    ) -> Result<(), DeleteError> {
        let images = self.clone();
        let deletion = async move { images.delete_unwatched(&name, &versions, deleting).await };
        Ok(tokio::spawn(outbox::carry(deletion)).await??)
    }

    async fn delete_unwatched(
        &self,
        name: &ImageName,
        versions: &[u32],
        deleting: Deleting,
    ) -> Result<(), StoreError> {
        // Else an import or a new stage 1 that read the table before brings one back.
        let Deleting { choosing, numbering: _numbering, turn } = deleting;
        let before = self.table();
        self.0.table.send_replace(Arc::new(before.without(name, versions)));
        // Nobody can be given them any more, and changes of who uses what wait for no transaction.
        drop((choosing, turn));
        let (mut gone, mut outcome) = (0, Ok(()));
        for some in versions.chunks(MAX_DELETED_AT_ONCE) {
            let delete =
                |version: &u32| Write::DeleteImage { name: name.clone(), version: *version };
            let writes: Vec<Write> = some.iter().map(delete).collect();
            outcome = self.0.store.commit(&writes).await;
            if outcome.is_err() {
                break;
            }
            gone += some.len();
        }
        if let Err(error) = self.reload().await {
            // Whoever still booted what is gone would find its files missing.
            tracing::warn!("the images cannot be read again: {}", causes(&error));
            self.0.table.send_replace(Arc::new(before.without(name, &versions[..gone])));
        }
        if gone > 0 {
            let images = self.clone();
            tokio::spawn(async move { images.remove_unused().await });
        }
        outcome
    }
}
