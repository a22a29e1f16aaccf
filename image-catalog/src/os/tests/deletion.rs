//! An image of many versions is deleted: how long each transaction is, and what boots see of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    jobs::JobImage,
    store::{KeptImage, StoredImages, Write, conformance::image, sql::SqlStore},
};

const VERSIONS: u32 = 150;

/// A store whose transactions wait until they are let, and are counted; once the gate is closed
/// they fail.
#[derive(Debug)]
struct Gated {
    store: SqlStore,
    gate: Semaphore,
    /// Statements of each transaction.
    statements: Mutex<Vec<usize>>,
    reads: AtomicUsize,
}

#[async_trait]
impl Store for Gated {
    async fn images(&self) -> Result<StoredImages, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.images().await
    }

    async fn next_image_version(&self, name: &ImageName) -> Result<u32, StoreError> {
        self.store.next_image_version(name).await
    }

    async fn operations(&self) -> Result<Vec<OperationRecord>, StoreError> {
        self.store.operations().await
    }

    async fn job_image(&self, manifest: Digest) -> Result<Option<JobImage>, StoreError> {
        self.store.job_image(manifest).await
    }

    async fn job_images(&self) -> Result<Vec<KeptImage>, StoreError> {
        self.store.job_images().await
    }

    async fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        match self.gate.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(StoreError::Conflict { subject: "all".to_owned() }),
        }
        self.statements.lock().unwrap().push(writes.len());
        self.store.commit(writes).await
    }
}

/// OsImages with `debian@1` to `debian@150`.
async fn many_versions(site: &Site) -> (OsImages, Arc<Gated>) {
    let store = SqlStore::in_directory(&site.path("state")).await;
    let put = |version| Write::PutImage(image(version, "a"));
    store.commit(&(1..=VERSIONS).map(put).collect::<Vec<_>>()).await.unwrap();
    let (gate, statements, reads) = (Semaphore::new(0), Mutex::default(), AtomicUsize::new(0));
    let store = Arc::new(Gated { store, gate, statements, reads });
    (OsImages::open(store.clone(), site.config()).await.unwrap(), store)
}

fn debian() -> ImageName {
    "debian".parse().unwrap()
}

/// Begins the deletion of all versions, and waits until boots see none of them.
async fn begin(images: &OsImages) -> tokio::task::JoinHandle<Result<(), DeleteError>> {
    let deleting = images.deleting().await.unwrap();
    let of_another = images.clone();
    let deletion = tokio::spawn(async move {
        of_another.delete(debian(), (1..=VERSIONS).collect(), deleting).await
    });
    becomes("boots still see the versions", || images.table().names().is_empty()).await;
    deletion
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_many_versions_goes_in_short_transactions_and_no_boot_waits_for_them() {
    let site = Site::new();
    let (images, store) = many_versions(&site).await;
    let deletion = begin(&images).await;
    // Not one transaction has come through, and boots choose.
    drop(
        tokio::time::timeout(PATIENCE, images.choosing())
            .await
            .expect("boots wait for the database"),
    );
    assert!(!deletion.is_finished() && store.statements.lock().unwrap().is_empty());
    assert!(images.table().find("debian").is_err());
    store.gate.add_permits(VERSIONS as usize);
    deletion.await.unwrap().unwrap();
    assert_eq!(*store.statements.lock().unwrap(), [64, 64, 22]);
    // At the start, after the deletion, and for the files that nobody needs any more.
    assert!(store.reads.load(Ordering::Relaxed) <= 3);
    assert_eq!(store.images().await.unwrap(), StoredImages::default());
    assert!(images.table().names().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_could_not_be_deleted_are_there_again() {
    let site = Site::new();
    let (images, store) = many_versions(&site).await;
    let deletion = begin(&images).await;
    store.gate.add_permits(1);
    becomes("nothing is deleted", || store.statements.lock().unwrap().len() == 1).await;
    store.gate.close();
    assert!(matches!(
        deletion.await.unwrap(),
        Err(DeleteError::Store(StoreError::Conflict { .. }))
    ));
    let left: Vec<u32> = images.table().versions(&debian()).collect();
    assert_eq!(left, (65..=VERSIONS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_goes_on_when_nobody_waits_for_it() {
    let site = Site::new();
    let (images, store) = many_versions(&site).await;
    begin(&images).await.abort();
    store.gate.add_permits(VERSIONS as usize);
    becomes("it ended with its client", || store.statements.lock().unwrap().len() == 3).await;
    // Whoever changes versions next waits for it.
    drop(images.0.numbering.lock().await);
    assert_eq!(store.images().await.unwrap(), StoredImages::default());
}
