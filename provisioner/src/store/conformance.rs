//! What every engine must do; called by the tests of each with an empty store.

use api::{
    ids::{Digest, NodeId, Timestamp},
    image::{Artifact, ImageVersion, ImportImage, Operation, OperationState},
    machine::MachineSpec,
};

use super::{
    ImageRecord, MAX_OPERATIONS, NodeRecord, OperationRecord, ProfileRecord, Store, StoreError,
    StoredImages, Write,
};

pub(super) async fn check(store: &impl Store) {
    nodes(store).await;
    profiles(store).await;
    all_or_nothing(store).await;
    images(store).await;
    operations(store).await;
}

fn node(number: u128, version: u64, comment: &str) -> NodeRecord {
    NodeRecord {
        id: NodeId(uuid::Uuid::from_u128(number)),
        name: format!("n{number}").parse().unwrap(),
        spec: MachineSpec { comment: Some(comment.into()), ..MachineSpec::default() },
        version,
        unreadable: None,
    }
}

fn is_conflict(result: &Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict { .. }))
}

async fn nodes(store: &impl Store) {
    assert!(store.nodes().await.unwrap().is_empty());
    store
        .commit(&[Write::PutNode(node(2, 1, "b")), Write::PutNode(node(1, 1, "a"))])
        .await
        .unwrap();
    assert_eq!(store.nodes().await.unwrap(), [node(1, 1, "a"), node(2, 1, "b")]);
    // The same name or identity again is no new node.
    assert!(is_conflict(&store.commit(&[Write::PutNode(node(1, 1, "x"))]).await));
    let same_name = NodeRecord { name: "n2".parse().unwrap(), ..node(7, 1, "x") };
    assert!(is_conflict(&store.commit(&[Write::PutNode(same_name)]).await));
    store.commit(&[Write::PutNode(node(1, 2, "c"))]).await.unwrap();
    // A change that was made on an older version is lost to nobody.
    assert!(is_conflict(&store.commit(&[Write::PutNode(node(1, 2, "d"))]).await));
    assert!(is_conflict(
        &store.commit(&[Write::DeleteNode { id: node(1, 1, "").id, version: 1 }]).await
    ));
    store.commit(&[Write::DeleteNode { id: node(1, 1, "").id, version: 2 }]).await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), [node(2, 1, "b")]);
}

async fn profiles(store: &impl Store) {
    let profile = |version, comment: &str| ProfileRecord {
        name: "base".parse().unwrap(),
        spec: MachineSpec { comment: Some(comment.into()), ..MachineSpec::default() },
        version,
        unreadable: None,
    };
    store.commit(&[Write::PutProfile(profile(1, "a"))]).await.unwrap();
    assert!(is_conflict(&store.commit(&[Write::PutProfile(profile(1, "b"))]).await));
    store.commit(&[Write::PutProfile(profile(2, "b"))]).await.unwrap();
    assert_eq!(store.profiles().await.unwrap(), [profile(2, "b")]);
    let delete = |version| [Write::DeleteProfile { name: "base".parse().unwrap(), version }];
    assert!(is_conflict(&store.commit(&delete(1)).await));
    store.commit(&delete(2)).await.unwrap();
    assert!(store.profiles().await.unwrap().is_empty());
}

async fn all_or_nothing(store: &impl Store) {
    let before = store.nodes().await.unwrap();
    let writes =
        [Write::PutNode(node(5, 1, "new")), Write::PutNode(node(2, 9, "of the wrong version"))];
    assert!(is_conflict(&store.commit(&writes).await));
    assert_eq!(store.nodes().await.unwrap(), before);
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
