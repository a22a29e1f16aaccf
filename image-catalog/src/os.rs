//! OS images: their versions, the operations that import them, and the blobs that they are made of.
//!
//! A version and the end of the operation that made it are one transaction. Versions never change,
//! but for stage 1, which is made again when the server brings another `substrate`.
//!
//! Blobs that no version names go: when a version is deleted or an import fails, when the imports
//! that the last run of the server left have ended, and every hour ([`crate::removal`]). What an
//! import uses stays until it has ended ([`image_store::Store::leased`]).
//!
//! | module | is |
//! |---|---|
//! | `table` | all versions at one moment |
//! | `operations`, `cancel`, `told` | operations: their begin, their early end, their lines in the audit log |
//! | `source`, `import`, `progress` | from a source to a new version, and what is told on the way |
//! | `architecture`, `damage` | what cannot be booted here |
//! | `deletion`, `unused` | versions that go, and the files that nothing needs any more |

mod architecture;
mod cancel;
mod damage;
mod deletion;
mod import;
mod operations;
mod progress;
mod source;
mod table;
mod told;
mod unused;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use access::Access;
use api::{ids::Digest, image::Platform};
use image_store::{Converter, Removed};
use metrics::{Exposition, Work};
use oci_pull::{Registries, Turns};
use rest::causes;
use sha2::{Digest as _, Sha256};
use tokio::sync::{RwLock, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    OpenError, blobs,
    store::{OperationRecord, Store, StoreError, without_secrets_of_before},
};

pub use architecture::NotBootable;
pub(crate) use architecture::{OtherArchitecture, not_bootable};
pub(crate) use cancel::CancelError;
pub use damage::{DamagedImage, NoKernel, Unbootable};
pub use deletion::{DeleteError, DeletionRefused, NodeImages, VersionsInUse};
pub(crate) use operations::StartError;
pub(crate) use source::{Source, SourceError};
pub use table::{ImageTable, NoImage};

use operations::{OperationEntry, is_running};

/// Imports that pull at once. Those whose registry is waited for do not count.
const MAX_PULLS: usize = 4;

/// The substrate program cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the substrate program {}; set its path in the configuration", path.display())]
pub struct NoSubstrate {
    /// Where it should be.
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// What OS images are made with.
#[derive(Debug)]
pub(crate) struct OsImagesConfig {
    /// The server's state directory; see [`blobs`].
    pub(crate) state_dir: PathBuf,
    /// The program that becomes `/init` of stage 1.
    pub(crate) substrate: PathBuf,
    /// How registries are reached.
    pub(crate) registries: Arc<Registries>,
    /// Reads what images hold.
    pub(crate) converter: Converter,
    /// For places among the conversions; a copy of a layout on the disk takes one too.
    pub(crate) conversions: Turns,
    /// Where the ends of operations are recorded.
    pub(crate) access: Option<Access>,
}

/// Handle to images and operations. Clones share everything.
#[derive(Debug, Clone)]
pub struct OsImages(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    blobs: image_store::Store,
    substrate: PathBuf,
    substrate_digest: Digest,
    /// What the substrate program runs on.
    boots: Platform,
    table: watch::Sender<Arc<ImageTable>>,
    operations: Mutex<BTreeMap<u64, OperationEntry>>,
    pulls: Turns,
    conversions: Turns,
    registries: Arc<Registries>,
    converter: Converter,
    /// Imports that the last run of the server left and that have not ended: they take up the blobs
    /// that they had.
    resumed: Mutex<BTreeSet<u64>>,
    recently_verified: damage::RecentlyVerified,
    /// Read by boots from the choice of a version until it is known to be in use; written by
    /// deletions from the look at who uses a version until no boot can choose it any more.
    choosing: Arc<RwLock<()>>,
    /// Held over every change of versions, from what it is decided by to the new table: a version
    /// number from its choice to its commit, a deletion from its look at who uses the version.
    /// Taken after the server's turn and before `choosing`.
    numbering: Arc<tokio::sync::Mutex<()>>,
    meter: Work<4>,
    /// Where the ends of operations are recorded.
    access: Option<Access>,
    shutdown: CancellationToken,
}

impl OsImages {
    /// Opens images and operations. [`OsImages::resume`] then starts what was cut off.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        config: OsImagesConfig,
    ) -> Result<Self, OpenError> {
        let OsImagesConfig { state_dir, substrate, registries, converter, conversions, access } =
            config;
        let blobs = image_store::Store::open(blobs::of_os_images(&state_dir))
            .map_err(OpenError::OsBlobs)?;
        let shutdown = CancellationToken::new();
        let program = read_substrate(&substrate)?;
        let boots = architecture::booted_by(&program);
        let table = ImageTable::new(store.images().await?, boots.clone());
        let entry = |record: OperationRecord| {
            let (id, (operation, _)) = (record.operation.id, watch::channel(record.operation));
            (id, OperationEntry::new(record.request, operation, "", &shutdown))
        };
        let (records, cut) = without_secrets_of_before(store.operations().await?);
        if !cut.is_empty() {
            store.commit(&cut).await?;
        }
        let operations = records.into_iter().map(entry).collect();
        Ok(Self(Arc::new(Inner {
            store,
            blobs,
            substrate,
            substrate_digest: Digest(Sha256::digest(&program).into()),
            boots,
            table: watch::channel(Arc::new(table)).0,
            operations: Mutex::new(operations),
            pulls: Turns::new(MAX_PULLS),
            conversions,
            registries,
            converter,
            resumed: Mutex::default(),
            recently_verified: damage::RecentlyVerified::default(),
            choosing: Arc::default(),
            numbering: Arc::default(),
            meter: Work::new(["new", "unchanged", "failed", "cut-off"]),
            access,
            shutdown,
        })))
    }

    /// The substrate program as it is on disk now: it may be newer than the one that this server
    /// began with.
    ///
    /// # Errors
    /// [`NoSubstrate`].
    pub fn substrate(&self) -> Result<Vec<u8>, NoSubstrate> {
        read_substrate(&self.0.substrate)
    }

    /// What nodes of this server are: what its substrate program runs on.
    #[must_use]
    pub(crate) fn boots(&self) -> Platform {
        self.0.boots.clone()
    }

    /// Writes what is told of images and imports.
    pub(crate) fn expose(&self, out: &mut Exposition) {
        let running = ("bedplate_imports_running", "Imports of images that run now.");
        let help = "Imports of images that are over, by their outcome; cut-off ones go on at the next start.";
        let took = ("bedplate_import_seconds", "How long imports of images took.");
        out.work([running, ("bedplate_imports", help), took], &self.0.meter);
        let unfinished =
            self.lock_operations().values().filter(|e| is_running(&e.operation.borrow())).count();
        out.gauge("bedplate_imports_unfinished", "Imports that run or wait for their turn.")
            .value(unfinished);
        let help = "Bytes of layers of images that were pulled or copied, by failed imports too.";
        out.counter("bedplate_import_pulled_bytes", help).value(self.0.blobs.brought_bytes());
        let Removed { blobs, partial, bytes } = self.0.blobs.removed();
        let help = "Files of images of nodes that were removed because nothing needs them.";
        let mut removed = out.counter("bedplate_image_removed_files", help);
        removed.sample(&[("kind", "blob")], blobs).sample(&[("kind", "partial")], partial);
        let help =
            "Bytes of the files of images of nodes that were removed because nothing needs them.";
        out.counter("bedplate_image_removed_bytes", help).value(bytes);
        let versions: usize = self.table().images.values().map(BTreeMap::len).sum();
        out.gauge("bedplate_image_versions", "Versions of images that can be booted.")
            .value(versions);
    }

    /// All versions now.
    #[must_use]
    pub fn table(&self) -> Arc<ImageTable> {
        self.0.table.borrow().clone()
    }

    /// Tells whenever a version came or went.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<ImageTable>> {
        self.0.table.subscribe()
    }

    /// Where the files of images lie.
    #[must_use]
    pub fn blobs(&self) -> &image_store::Store {
        &self.0.blobs
    }

    /// A blob in memory.
    ///
    /// # Errors
    /// The blob store's.
    pub fn map(&self, digest: &Digest) -> Result<image_store::Mapped, image_store::StoreError> {
        self.0.blobs.map(digest)
    }

    /// Starts what the last run of the server left undone: imports, and stage 1 of versions that
    /// hold another substrate.
    pub(crate) fn resume(&self) {
        let unfinished: Vec<u64> = self
            .lock_operations()
            .iter()
            .filter(|(_, entry)| is_running(&entry.operation.borrow()))
            .map(|(id, _)| *id)
            .collect();
        self.lock_resumed().extend(&unfinished);
        for id in unfinished {
            tracing::info!("operation {id} was cut off and starts again");
            self.spawn(id);
        }
        let images = self.clone();
        tokio::spawn(async move { import::rebuild_all(&images).await });
    }

    /// Ends imports, which go on at the next start, and whoever follows one.
    pub(crate) fn close(&self) {
        self.0.shutdown.cancel();
    }

    /// Cancelled when the server ends.
    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    async fn reload(&self) -> Result<(), StoreError> {
        let table = ImageTable::new(self.0.store.images().await?, self.0.boots.clone());
        self.0.table.send_replace(Arc::new(table));
        Ok(())
    }

    fn lock_resumed(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.resumed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_substrate(path: &Path) -> Result<Vec<u8>, NoSubstrate> {
    fs::read(path).map_err(|source| NoSubstrate { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
