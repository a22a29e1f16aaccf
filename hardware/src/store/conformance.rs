//! What every engine must do, run against each.

use api::ids::{Digest, NodeId, Timestamp};
use database::{Database, statement};
use tempfile::TempDir;

use super::{InventoryRow, MAX_INVENTORIES, Store, TopologyRow, sql::SqlStore};

/// A store, and the database, in which nodes come and go.
struct Subject<S> {
    store: S,
    database: Database,
    _directory: TempDir,
}

async fn sqlite() -> Subject<SqlStore> {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("db"), &[&fleet::SCHEMA]).await.unwrap();
    database.migrate(&fleet::SCHEMA).await.unwrap();
    Subject { store: SqlStore::new(database.clone()), database, _directory: directory }
}

impl<S: Store> Subject<S> {
    async fn add(&self, node: NodeId) {
        let text = "INSERT INTO fleet_nodes (id, name, life, arming, history) VALUES ($1, $2, '{}', '{}', 0)";
        let name = format!("n{}", node.0.as_u128());
        let added = statement("add a node", text).bind(node.to_string()).bind(name);
        added.execute(&self.database).await.unwrap();
    }

    async fn remove(&self, node: NodeId) {
        let removed = statement("remove a node", "DELETE FROM fleet_nodes WHERE id = $1")
            .bind(node.to_string());
        removed.execute(&self.database).await.unwrap();
    }
}

fn node(number: u128) -> NodeId {
    NodeId(uuid::Uuid::from_u128(number))
}

async fn inventories_are_kept(subject: Subject<impl Store>) {
    let store = &subject.store;
    let (known, unknown) = (node(1), node(9));
    subject.add(known).await;
    let inventory = |n: u8| InventoryRow {
        at: Timestamp(n.into()),
        digest: Digest([n; 32]),
        document: format!("{{\"n\":{n}}}"),
    };
    assert!(store.put_inventory(unknown, &inventory(1)).await.is_err(), "nobody knows that node");
    for n in 1..=20 {
        assert!(store.put_inventory(known, &inventory(n)).await.unwrap());
        assert!(!store.put_inventory(known, &inventory(n)).await.unwrap(), "the same again");
    }
    assert_eq!(store.inventories(known, 2).await.unwrap(), [inventory(20), inventory(19)]);
    let all = store.inventories(known, 99).await.unwrap().len();
    assert_eq!(u64::try_from(all).unwrap(), MAX_INVENTORIES);
    subject.remove(known).await;
    assert_eq!(store.inventories(known, 9).await.unwrap(), []);
}

async fn the_newest_inventories_of_all_come_in_pages(subject: Subject<impl Store>) {
    let store = &subject.store;
    let inventory = |n: u8| InventoryRow {
        at: Timestamp(n.into()),
        digest: Digest([n; 32]),
        document: format!("{{\"n\":{n}}}"),
    };
    for n in 1..=4 {
        subject.add(node(n)).await;
    }
    // The third never sent one.
    for (n, document) in [(4, 9), (1, 2), (2, 4), (1, 3), (2, 1)] {
        store.put_inventory(node(n), &inventory(document)).await.unwrap();
    }
    let page = async |after| store.newest_inventories(after, 2).await.unwrap();
    let (first, second, last) =
        ((node(1), inventory(3)), (node(2), inventory(1)), (node(4), inventory(9)));
    assert_eq!(page(None).await, [first, second]);
    assert_eq!(page(Some(node(2))).await, [last]);
    assert_eq!(page(Some(node(4))).await, []);
}

async fn the_newest_topology_is_kept(subject: Subject<impl Store>) {
    let store = &subject.store;
    let (known, unknown) = (node(1), node(9));
    subject.add(known).await;
    let topology =
        |n: u8| TopologyRow { at: Timestamp(n.into()), size: 7, document: vec![0, n, 0xff] };
    assert!(store.put_topology(unknown, &topology(1)).await.is_err(), "nobody knows that node");
    assert_eq!(store.topology(known).await.unwrap(), None);
    for n in 1..=2 {
        store.put_topology(known, &topology(n)).await.unwrap();
        assert_eq!(store.topology(known).await.unwrap(), Some(topology(n)));
    }
    subject.remove(known).await;
    assert_eq!(store.topology(known).await.unwrap(), None);
}

#[tokio::test]
async fn sqlite_keeps_inventories() {
    inventories_are_kept(sqlite().await).await;
}

#[tokio::test]
async fn sqlite_pages_through_the_newest_inventories() {
    the_newest_inventories_of_all_come_in_pages(sqlite().await).await;
}

#[tokio::test]
async fn sqlite_keeps_the_newest_topology() {
    the_newest_topology_is_kept(sqlite().await).await;
}
