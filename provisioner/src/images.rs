//! OS images: their versions, the operations that import them, and the blobs that they are made of.
//!
//! An import is an operation: kept in the database from the moment it is asked for, so that one that a `kill -9` cut
//! off starts again with the server and takes up the blobs that it had. A version and the end of its operation are one
//! transaction. Versions never change, but for stage 1, which is made again when the server brings another `substrate`.
//!
//! Blobs that no version names go: when a version is deleted or an import fails, when the imports
//! that the last run of the server left have ended, and every hour. What an import uses stays until
//! it has ended ([`image_store::Store::leased`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use access::Access;
use api::{
    ids::{Digest, ImageName},
    image::{ImportImage, Operation, OperationState, Platform},
};
use database::outbox;
use image_store::{Converter, Removed};
use metrics::{Exposition, Work};
use oci_pull::{Registries, Turns};
use rest::causes;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{OwnedMutexGuard, OwnedRwLockWriteGuard, RwLock, RwLockReadGuard, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    store::{MAX_OPERATIONS, OperationRecord, Store, StoreError, Write, without_secrets_of_before},
};

mod architecture;
mod cancel;
mod damage;
mod import;
mod progress;
mod source;
mod table;
mod told;
mod unused;

pub(crate) use architecture::not_bootable;
pub(crate) use architecture::{NotBootable, OtherArchitecture};
pub(crate) use cancel::CancelError;
pub(crate) use damage::Unbootable;
pub(crate) use source::{Source, SourceError};
pub(crate) use table::ImageTable;
use told::Cancellers;

/// Imports that pull at once. Those whose registry is waited for do not count.
const MAX_PULLS: usize = 4;

/// Imports that build, or copy a layout, at once. Each uses all cores; those of one person are two at
/// most.
const MAX_BUILDS: usize = 3;

/// How long a deletion waits for the boots that are choosing a version, and lets others wait.
const BOOT_PATIENCE: Duration = Duration::from_secs(2);

/// Versions that one transaction deletes: their rows are a few KiB each, so it is far from
/// [`database::MAX_TRANSACTION`], and whoever else writes has a turn in between.
const MAX_DELETED_AT_ONCE: usize = 64;

/// Imports that wait or run. More at once is a script gone wild.
pub(crate) const MAX_UNFINISHED: usize = 64;

/// Why images cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blob store.
    #[error("cannot open the image store")]
    Blobs(#[source] image_store::StoreError),
    /// The substrate binary.
    #[error("cannot read the substrate program {}; set its path in the configuration", path.display())]
    Substrate {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Why an import was not begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The source or the name.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Another operating system.
    #[error(
        "images for {0} cannot be imported: nodes run Linux; write --platform linux/ARCHITECTURE"
    )]
    OtherSystem(Platform),
    /// The image has versions for another architecture.
    #[error(transparent)]
    OtherArchitecture(#[from] OtherArchitecture),
    /// Too many at once.
    #[error("{MAX_UNFINISHED} imports are under way; wait until one has ended")]
    TooMany,
    /// The database.
    #[error("the operation cannot be kept")]
    Store(#[source] StoreError),
}

/// Why versions were not deleted, or not all of them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work panicked, or the server ends.
    #[error("the deletion ended badly")]
    Broken(#[from] tokio::task::JoinError),
}

/// What images must be told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImagesConfig<'a> {
    /// The server's state directory; the files of images are in `images/`.
    pub state_dir: &'a Path,
    /// The program that becomes `/init` of stage 1.
    pub substrate: &'a Path,
    /// How registries are reached.
    pub registries: &'a Arc<Registries>,
    /// Reads what images hold.
    pub converter: &'a Converter,
}

/// No boot chooses a version, and nobody else changes which there are: [`Images::deleting`].
#[derive(Debug)]
pub(crate) struct Deleting {
    choosing: OwnedRwLockWriteGuard<()>,
    numbering: OwnedMutexGuard<()>,
}

/// Handle to images and operations. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Images(Arc<Inner>);

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
    builds: Turns,
    registries: Arc<Registries>,
    converter: Converter,
    /// Imports that the last run of the server left and that have not ended: they take up the blobs
    /// that they had.
    resumed: Mutex<BTreeSet<u64>>,
    recently_verified: damage::RecentlyVerified,
    /// Read by boots from the choice of a version until it is known to be in use; written by deletions
    /// from the look at who uses a version until no boot can choose it any more.
    choosing: Arc<RwLock<()>>,
    /// Held over every change of versions, from what it is decided by to the new table: a version
    /// number from its choice to its commit, a deletion from its look at who uses the version. Taken
    /// after the server's turn and before `choosing`.
    numbering: Arc<tokio::sync::Mutex<()>>,
    meter: Work<4>,
    /// Where the ends of operations are recorded.
    access: OnceLock<Access>,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct OperationEntry {
    request: ImportImage,
    operation: watch::Sender<Operation>,
    /// In whose turn it pulls and builds. Of one that the last run of the server left nobody knows:
    /// all of those take turns as one person.
    by: String,
    /// Cancelled with the server too.
    cancelled: CancellationToken,
    /// By whom, if it was somebody.
    cancelled_by: Option<String>,
    /// Rows of the requests that cancelled it, committed with its end.
    told: Cancellers,
}

impl OperationEntry {
    fn new(
        request: ImportImage,
        operation: watch::Sender<Operation>,
        by: &str,
        shutdown: &CancellationToken,
    ) -> Self {
        let cancelled = shutdown.child_token();
        let told = Cancellers::default();
        Self { request, operation, by: by.to_owned(), cancelled, cancelled_by: None, told }
    }
}

impl Images {
    /// Opens images and operations. [`Images::resume`] then starts what was cut off.
    ///
    /// # Errors
    /// See [`ImagesError`].
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        config: ImagesConfig<'_>,
        shutdown: CancellationToken,
    ) -> Result<Self, ImagesError> {
        let ImagesConfig { state_dir, substrate, registries, converter } = config;
        let blobs =
            image_store::Store::open(state_dir.join("images")).map_err(ImagesError::Blobs)?;
        let program = fs::read(substrate)
            .map_err(|source| ImagesError::Substrate { path: substrate.to_owned(), source })?;
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
            substrate: substrate.to_owned(),
            substrate_digest: Digest(Sha256::digest(&program).into()),
            boots,
            table: watch::channel(Arc::new(table)).0,
            operations: Mutex::new(operations),
            pulls: Turns::new(MAX_PULLS),
            builds: Turns::new(MAX_BUILDS),
            registries: registries.clone(),
            converter: converter.clone(),
            resumed: Mutex::default(),
            recently_verified: damage::RecentlyVerified::default(),
            choosing: Arc::default(),
            numbering: Arc::default(),
            meter: Work::new(["new", "unchanged", "failed", "cut-off"]),
            access: OnceLock::new(),
            shutdown,
        })))
    }

    /// The substrate program as it is on disk now: it may be newer than the one that this server began with.
    ///
    /// # Errors
    /// [`ImagesError::Substrate`].
    pub(crate) fn substrate(&self) -> Result<Vec<u8>, ImagesError> {
        let path = &self.0.substrate;
        fs::read(path).map_err(|source| ImagesError::Substrate { path: path.clone(), source })
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
    pub(crate) fn table(&self) -> Arc<ImageTable> {
        self.0.table.borrow().clone()
    }

    /// Tells whenever a version came or went.
    #[must_use]
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<ImageTable>> {
        self.0.table.subscribe()
    }

    /// Where the files of images lie.
    pub(crate) fn blobs(&self) -> &image_store::Store {
        &self.0.blobs
    }

    /// A blob in memory.
    ///
    /// # Errors
    /// The blob store's.
    pub(crate) fn map(
        &self,
        digest: &Digest,
    ) -> Result<image_store::Mapped, image_store::StoreError> {
        self.0.blobs.map(digest)
    }

    /// Operations, newest first.
    #[must_use]
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let entries = self.lock_operations();
        entries.values().rev().map(|entry| entry.operation.borrow().clone()).collect()
    }

    /// One operation, to look at and to follow.
    #[must_use]
    pub(crate) fn operation(&self, id: u64) -> Option<watch::Receiver<Operation>> {
        self.lock_operations().get(&id).map(|entry| entry.operation.subscribe())
    }

    /// Begins an import. `by`: who asks, in whose turn it is carried out.
    ///
    /// # Errors
    /// See [`StartError`].
    pub(crate) async fn start(
        &self,
        mut request: ImportImage,
        by: &str,
    ) -> Result<Operation, StartError> {
        let source = Source::parse(&request.source)?;
        let name = match request.name.take() {
            Some(name) => name,
            None => source.default_name()?,
        };
        let platform = request.platform.as_ref().unwrap_or(&self.0.boots);
        if platform.os() != "linux" {
            return Err(StartError::OtherSystem(platform.clone()));
        }
        self.table().takes(&name, platform)?;
        request.name = Some(name.clone());
        let operation = {
            let mut entries = self.lock_operations();
            let running = |entry: &&OperationEntry| is_running(&entry.operation.borrow());
            if entries.values().filter(running).count() >= MAX_UNFINISHED {
                return Err(StartError::TooMany);
            }
            let operation = Operation {
                id: entries.last_key_value().map_or(1, |(id, _)| id + 1),
                title: format!("import {} as {name}", request.source),
                created: clock::now(),
                state: OperationState::Running { bars: Vec::new(), waiting: None },
            };
            forget_oldest(&mut entries);
            let (sender, _) = watch::channel(operation.clone());
            let entry = OperationEntry::new(request.clone(), sender, by, &self.0.shutdown);
            entries.insert(operation.id, entry);
            operation
        };
        access::record_object(&format!("operation {}", operation.id));
        let record = OperationRecord { operation: operation.clone(), request };
        if let Err(error) = self.0.store.commit(&[Write::PutOperation(record)]).await {
            self.lock_operations().remove(&operation.id);
            return Err(StartError::Store(error));
        }
        self.spawn(operation.id);
        Ok(operation)
    }

    /// Starts what the last run of the server left undone: imports, stage 1 of versions that hold
    /// another substrate, the removal of blobs that nothing needs.
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
        tokio::spawn(async move { images.remove_unused_for_ever().await });
        let images = self.clone();
        tokio::spawn(async move { import::rebuild_all(&images).await });
    }

    /// Keeps versions from being deleted while a boot chooses one.
    pub(crate) async fn choosing(&self) -> RwLockReadGuard<'_, ()> {
        self.0.choosing.read().await
    }

    /// Keeps boots from choosing a version while one is looked at and deleted. `None` if they take too
    /// long: what they choose is on disk before they go on.
    pub(crate) async fn deleting(&self) -> Option<Deleting> {
        let both = async {
            // First: an import that holds it waits for the database, and boots must not.
            let numbering = self.0.numbering.clone().lock_owned().await;
            Deleting { choosing: self.0.choosing.clone().write_owned().await, numbering }
        };
        timeout(BOOT_PATIENCE, both).await.ok()
    }

    /// Removes versions of an image and, in the background, the blobs that no version needs any more.
    /// The caller has seen to it that no node uses them, while it held `deleting`.
    ///
    /// Boots see the versions no more from the beginning, and wait for no transaction. It goes on when
    /// nobody waits for it; a server that ends on the way leaves those that were not yet deleted.
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
        let Deleting { choosing, numbering: _turn } = deleting;
        let before = self.table();
        self.0.table.send_replace(Arc::new(before.without(name, versions)));
        drop(choosing);
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

    async fn reload(&self) -> Result<(), StoreError> {
        let table = ImageTable::new(self.0.store.images().await?, self.0.boots.clone());
        self.0.table.send_replace(Arc::new(table));
        Ok(())
    }

    fn spawn(&self, id: u64) {
        let images = self.clone();
        tokio::spawn(async move { import::run(&images, id).await });
    }

    fn lock_operations(&self) -> MutexGuard<'_, BTreeMap<u64, OperationEntry>> {
        self.0.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_resumed(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.resumed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps as many as the database does once another is added.
fn forget_oldest(entries: &mut BTreeMap<u64, OperationEntry>) {
    while entries.len() >= MAX_OPERATIONS as usize {
        let ended = entries.iter().find(|(_, entry)| !is_running(&entry.operation.borrow()));
        let Some(id) = ended.map(|(id, _)| *id) else { return };
        entries.remove(&id);
    }
}

fn is_running(operation: &Operation) -> bool {
    matches!(operation.state, OperationState::Running { .. })
}

#[cfg(test)]
mod tests;
