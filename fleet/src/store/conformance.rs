//! What every engine must do, run against each.

use api::{
    ids::{Digest, NodeId, Timestamp},
    status::{NodeEvent, Phase, Severity},
};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::{
    Batch, InventoryRow, MAX_HISTORY, MAX_INVENTORIES, NodeRow, Store, TRIM_EVERY, TopologyRow,
    sqlite::SqliteStore,
};
use crate::{arming::Arming, lifecycle::Life};

async fn sqlite() -> SqliteStore {
    let memory = SqliteConnectOptions::new().in_memory(true);
    // One connection: each connection to an in-memory database has a database of its own.
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(memory).await.unwrap();
    SqliteStore::open(pool.clone()).await.unwrap();
    // Opening twice is what every restart does.
    SqliteStore::open(pool).await.unwrap()
}

fn node(n: u128, name: &str) -> NodeRow {
    NodeRow {
        id: NodeId(uuid::Uuid::from_u128(n)),
        name: name.parse().unwrap(),
        life: Life::new(Timestamp(i64::try_from(n).unwrap())),
        arming: Arming::default(),
        history: 0,
    }
}

fn event(node: &NodeRow, number: u64) -> (u64, NodeEvent) {
    let event = NodeEvent {
        id: node.id,
        name: node.name.clone(),
        at: Timestamp(i64::try_from(number).unwrap()),
        phase: Phase::Stage1,
        severity: Severity::Security,
        message: format!("event {number}"),
    };
    (number, event)
}

fn nodes_batch(nodes: &[NodeRow]) -> Batch {
    Batch { nodes: nodes.to_vec(), ..Batch::default() }
}

async fn sorted(store: &impl Store) -> Vec<NodeRow> {
    let mut nodes = store.nodes().await.unwrap();
    nodes.sort_by_key(|node| node.id);
    nodes
}

async fn nodes_are_kept(store: impl Store) {
    store.write(&Batch::default()).await.unwrap();
    // More rows than one statement takes.
    let mut nodes: Vec<NodeRow> = (0..2_500).map(|n| node(n, &format!("n{n}"))).collect();
    store.write(&nodes_batch(&nodes)).await.unwrap();
    assert_eq!(sorted(&store).await, nodes);

    // Two nodes may swap their names.
    nodes[0].name = "n1".parse().unwrap();
    nodes[1].name = "n0".parse().unwrap();
    nodes[1].history = 7;
    store.write(&nodes_batch(&nodes[..2])).await.unwrap();
    assert_eq!(sorted(&store).await, nodes);

    store.write(&Batch { forgotten: vec![nodes[0].id], ..Batch::default() }).await.unwrap();
    assert_eq!(sorted(&store).await, nodes[1..]);
}

async fn history_is_bounded(store: impl Store) {
    let (one, two) = (node(1, "n1"), node(2, "n2"));
    store.write(&nodes_batch(&[one.clone(), two.clone()])).await.unwrap();
    let last = MAX_HISTORY + 3 * TRIM_EVERY + 50;
    for number in 1..=last {
        store.write(&Batch { events: vec![event(&one, number)], ..Batch::default() }).await.unwrap();
    }
    store.write(&Batch { events: vec![event(&two, 1)], ..Batch::default() }).await.unwrap();

    let newest = store.history(one.id, 2).await.unwrap();
    assert_eq!(newest, [event(&one, last).1, event(&one, last - 1).1]);
    let all = store.history(one.id, u32::MAX).await.unwrap().len();
    assert_eq!(u64::try_from(all).unwrap(), MAX_HISTORY + 50);
    assert_eq!(store.history(two.id, 9).await.unwrap().len(), 1);

    // All or nothing: the second event's number is taken.
    let clash = Batch { events: vec![event(&two, 2), event(&two, 1)], ..Batch::default() };
    assert!(store.write(&clash).await.is_err());
    assert_eq!(store.history(two.id, 9).await.unwrap().len(), 1);

    store.write(&Batch { forgotten: vec![one.id], ..Batch::default() }).await.unwrap();
    assert_eq!(store.history(one.id, 9).await.unwrap(), []);
}

async fn inventories_are_kept(store: impl Store) {
    let known = node(1, "n1");
    store.write(&nodes_batch(std::slice::from_ref(&known))).await.unwrap();
    let inventory = |n: u8| InventoryRow {
        at: Timestamp(n.into()),
        digest: Digest([n; 32]),
        document: format!("{{\"n\":{n}}}"),
    };
    assert!(store.put_inventory(node(9, "n9").id, &inventory(1)).await.is_err(), "nobody knows that node");
    for n in 1..=20 {
        assert!(store.put_inventory(known.id, &inventory(n)).await.unwrap());
        assert!(!store.put_inventory(known.id, &inventory(n)).await.unwrap(), "the same again");
    }
    assert_eq!(store.inventories(known.id, 2).await.unwrap(), [inventory(20), inventory(19)]);
    let all = store.inventories(known.id, 99).await.unwrap().len();
    assert_eq!(u64::try_from(all).unwrap(), MAX_INVENTORIES);
    store.write(&Batch { forgotten: vec![known.id], ..Batch::default() }).await.unwrap();
    assert_eq!(store.inventories(known.id, 9).await.unwrap(), []);
}

async fn the_newest_topology_is_kept(store: impl Store) {
    let known = node(1, "n1");
    store.write(&nodes_batch(std::slice::from_ref(&known))).await.unwrap();
    let topology = |n: u8| TopologyRow { at: Timestamp(n.into()), size: 7, document: vec![0, n, 0xff] };
    assert!(store.put_topology(node(9, "n9").id, &topology(1)).await.is_err(), "nobody knows that node");
    assert_eq!(store.topology(known.id).await.unwrap(), None);
    for n in 1..=2 {
        store.put_topology(known.id, &topology(n)).await.unwrap();
        assert_eq!(store.topology(known.id).await.unwrap(), Some(topology(n)));
    }
    store.write(&Batch { forgotten: vec![known.id], ..Batch::default() }).await.unwrap();
    assert_eq!(store.topology(known.id).await.unwrap(), None);
}

#[tokio::test]
async fn sqlite_keeps_nodes() {
    nodes_are_kept(sqlite().await).await;
}

#[tokio::test]
async fn sqlite_bounds_the_history() {
    history_is_bounded(sqlite().await).await;
}

#[tokio::test]
async fn sqlite_keeps_inventories() {
    inventories_are_kept(sqlite().await).await;
}

#[tokio::test]
async fn sqlite_keeps_the_newest_topology() {
    the_newest_topology_is_kept(sqlite().await).await;
}
