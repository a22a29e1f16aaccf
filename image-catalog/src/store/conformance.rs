//! What every engine must do; called by the tests of each with an empty store.

use api::{
    ids::{Digest, Timestamp},
    image::{Artifact, ImageVersion, ImportImage, Operation, OperationState},
};
use image_store::RunConfig;

use super::{
    ImageRecord, KeptImage, MAX_OPERATIONS, OperationRecord, Store, StoreError, StoredImages, Write,
};
use crate::jobs::JobImage;

pub(super) async fn check(store: &impl Store) {
    images(store).await;
    operations(store).await;
    job_images(store).await;
}

fn is_conflict(result: &Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict { .. }))
}

pub(crate) fn image(version: u32, source: &str) -> ImageRecord {
    let digest = Digest([7; 32]);
    ImageRecord {
        name: "debian".parse().unwrap(),
        version: ImageVersion {
            version,
            source: source.into(),
            manifest: digest,
            architecture: "amd64".into(),
            variant: None,
            imported: Timestamp(1),
            root: Artifact { format: "squashfs".into(), digest, size: 9 },
            kernels: Vec::new(),
            warnings: Vec::new(),
        },
        substrate: Digest([8; 32]),
        layers: vec![image_store::Layer {
            digest,
            size: 3,
            media_type: "application/x-tar".into(),
            diff_id: None,
        }],
    }
}

async fn images(store: &impl Store) {
    let name = "debian".parse().unwrap();
    assert_eq!(store.next_image_version(&name).await.unwrap(), 1);
    store.commit(&[Write::PutImage(image(1, "a")), Write::PutImage(image(2, "b"))]).await.unwrap();
    store.commit(&[Write::PutImage(image(1, "rebuilt"))]).await.unwrap();
    let images = vec![image(2, "b"), image(1, "rebuilt")];
    let stored = StoredImages { images, ..StoredImages::default() };
    assert_eq!(store.images().await.unwrap(), stored);
    store.commit(&[Write::DeleteImage { name: name.clone(), version: 2 }]).await.unwrap();
    assert!(is_conflict(
        &store.commit(&[Write::DeleteImage { name: name.clone(), version: 2 }]).await
    ));
    // The number of a deleted version is not used again.
    assert_eq!(store.next_image_version(&name).await.unwrap(), 3);
}

async fn operations(store: &impl Store) {
    let operation = |id: u64, state| OperationRecord {
        operation: Operation { id, title: "import".into(), created: Timestamp(2), state },
        request: ImportImage {
            source: "oci:/x".into(),
            name: None,
            insecure: false,
            platform: None,
            retry: false,
        },
    };
    let running = || OperationState::Running { bars: Vec::new(), waiting: None };
    let done = || OperationState::Done { result: "debian@1".into() };
    let put = |record: &OperationRecord| [Write::PutOperation(record.clone())];
    store.commit(&put(&operation(1, running()))).await.unwrap();
    store.commit(&put(&operation(2, done()))).await.unwrap();
    assert_eq!(store.operations().await.unwrap(), [operation(2, done()), operation(1, running())]);
    // The oldest ended ones go, one that runs stays.
    let last = 3 + u64::from(MAX_OPERATIONS);
    store.commit(&put(&operation(last, done()))).await.unwrap();
    assert_eq!(
        store.operations().await.unwrap(),
        [operation(last, done()), operation(1, running())]
    );
}

async fn job_images(store: &impl Store) {
    let image = |number: u8, pulled_by: &str| JobImage {
        manifest: Digest([number; 32]),
        root: Artifact { format: "squashfs".into(), digest: Digest([9; 32]), size: 12 },
        run: RunConfig::default(),
        indexes: Some(vec![Digest([8; 32])]),
        pulled_by: Some(pulled_by.into()),
    };
    let kept = |image, used| KeptImage { image, used: Timestamp(used) };
    let put = |image: JobImage, used| Write::PutJobImage {
        image: Box::new(image),
        used: Timestamp(used),
    };
    assert!(store.job_images().await.unwrap().is_empty());
    store.commit(&[put(image(2, "ann"), 1), put(image(1, "ann"), 1)]).await.unwrap();
    store.commit(&[put(image(2, "bob"), 7)]).await.unwrap();
    let both = [kept(image(1, "ann"), 1), kept(image(2, "bob"), 7)];
    assert_eq!(store.job_images().await.unwrap(), both);
    assert_eq!(store.job_image(Digest([2; 32])).await.unwrap(), Some(image(2, "bob")));
    // What is not there is forgotten already.
    let forget = |number| Write::ForgetJobImage(Digest([number; 32]));
    store.commit(&[forget(2), forget(3)]).await.unwrap();
    assert_eq!(store.job_images().await.unwrap(), both[..1]);
    assert_eq!(store.job_image(Digest([2; 32])).await.unwrap(), None);
}
