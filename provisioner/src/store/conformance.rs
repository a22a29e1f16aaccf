//! What every engine must do; called by the tests of each with an empty store.

use api::{ids::NodeId, machine::MachineSpec};

use super::{NodeRecord, ProfileRecord, Store, StoreError, Write};

pub(super) async fn check(store: &impl Store) {
    nodes(store).await;
    profiles(store).await;
    all_or_nothing(store).await;
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
