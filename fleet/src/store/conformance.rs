//! What every engine must do, run against each.

use api::{
    ids::{NodeId, Timestamp},
    status::{NodeEvent, Phase, Severity},
};
use database::Database;
use tempfile::TempDir;

use super::{
    Batch, MAX_HISTORY, NodeRow, RegisterChange, Store, TRIM_EVERY,
    sql::{SCHEMA, SqlStore},
};
use crate::{arming::Arming, enrolments::Enrolments, lifecycle::NodeLifecycle};

/// A store, and the database for transactions of others.
struct Subject<S> {
    store: S,
    database: Database,
    _directory: TempDir,
}

async fn sqlite() -> Subject<SqlStore> {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("db"), &[&SCHEMA]).await.unwrap();
    SqlStore::open(database.clone()).await.unwrap();
    // Opening twice is what every restart does.
    let store = SqlStore::open(database.clone()).await.unwrap();
    Subject { store, database, _directory: directory }
}

impl<S: Store> Subject<S> {
    async fn change(&self, change: RegisterChange) {
        let mut transaction = self.database.begin().await.unwrap();
        self.store.change_register(&mut transaction, &change).await.unwrap();
        transaction.commit("change the register").await.unwrap();
    }

    async fn add(&self, nodes: &[NodeRow]) {
        self.change(RegisterChange { added: nodes.to_vec(), ..RegisterChange::default() }).await;
    }

    async fn remove(&self, node: NodeId) {
        self.change(RegisterChange { removed: vec![node], ..RegisterChange::default() }).await;
    }
}

fn node(n: u128, name: &str) -> NodeRow {
    NodeRow {
        id: NodeId(uuid::Uuid::from_u128(n)),
        name: name.parse().unwrap(),
        life: NodeLifecycle::new(Timestamp(i64::try_from(n).unwrap())),
        arming: Arming::default(),
        enrolments: Enrolments::default(),
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
    let read = store.nodes().await.unwrap();
    assert!(read.iter().all(|node| node.unreadable.is_none()), "{read:?}");
    let mut nodes: Vec<NodeRow> = read.into_iter().map(|node| node.row).collect();
    nodes.sort_by_key(|node| node.id);
    nodes
}

async fn nodes_are_kept(subject: Subject<impl Store>) {
    let store = &subject.store;
    store.write(&Batch::default()).await.unwrap();
    // More rows than one statement takes.
    let mut nodes: Vec<NodeRow> = (0..2_500).map(|n| node(n, &format!("n{n}"))).collect();
    subject.add(&nodes).await;
    assert_eq!(sorted(store).await, nodes);

    for node in &mut nodes {
        node.history = 7;
        node.enrolments = serde_json::from_str(r#"{"current":3,"least":2,"kept":1}"#).unwrap();
    }
    store.write(&nodes_batch(&nodes)).await.unwrap();
    assert_eq!(sorted(store).await, nodes);

    // Two nodes may swap their names; and nothing is done before the transaction is.
    nodes[0].name = "n1".parse().unwrap();
    nodes[1].name = "n0".parse().unwrap();
    let renamed = nodes[..2].iter().map(|node| (node.id, node.name.clone())).collect();
    let change =
        RegisterChange { renamed, removed: vec![nodes[2].id], added: vec![node(9_999, "new")] };
    let mut transaction = subject.database.begin().await.unwrap();
    store.change_register(&mut transaction, &change).await.unwrap();
    drop(transaction);
    assert_eq!(sorted(store).await[0].name.as_str(), "n0");
    subject.change(change).await;
    nodes.remove(2);
    nodes.push(node(9_999, "new"));
    assert_eq!(sorted(store).await, nodes);
}

async fn history_is_bounded(subject: Subject<impl Store>) {
    let store = &subject.store;
    let (one, two) = (node(1, "n1"), node(2, "n2"));
    subject.add(&[one.clone(), two.clone()]).await;
    let last = MAX_HISTORY + 3 * TRIM_EVERY + 50;
    for number in 1..=last {
        store
            .write(&Batch { events: vec![event(&one, number)], ..Batch::default() })
            .await
            .unwrap();
    }
    store.write(&Batch { events: vec![event(&two, 1)], ..Batch::default() }).await.unwrap();

    let newest = store.history(one.id, None, 2).await.unwrap();
    assert_eq!(newest, [event(&one, last), event(&one, last - 1)]);
    let all = store.history(one.id, None, u32::MAX).await.unwrap().len();
    assert_eq!(u64::try_from(all).unwrap(), MAX_HISTORY + 50);
    assert_eq!(store.history(two.id, None, 9).await.unwrap().len(), 1);

    // All or nothing: the second event's number is taken.
    let clash = Batch { events: vec![event(&two, 2), event(&two, 1)], ..Batch::default() };
    assert!(store.write(&clash).await.is_err());
    assert_eq!(store.history(two.id, None, 9).await.unwrap().len(), 1);

    subject.remove(one.id).await;
    assert_eq!(store.history(one.id, None, 9).await.unwrap(), []);
}

async fn history_is_read_page_by_page(subject: Subject<impl Store>) {
    let store = &subject.store;
    let (one, two) = (node(1, "n1"), node(2, "n2"));
    subject.add(&[one.clone(), two.clone()]).await;
    let events = (1..=5).flat_map(|number| [event(&one, number), event(&two, number)]).collect();
    store.write(&Batch { events, ..Batch::default() }).await.unwrap();

    let of_one =
        |numbers: &[u64]| numbers.iter().map(|number| event(&one, *number)).collect::<Vec<_>>();
    assert_eq!(store.history(one.id, None, 2).await.unwrap(), of_one(&[5, 4]));
    // What happens meanwhile moves nothing on the pages behind.
    store.write(&Batch { events: of_one(&[6]), ..Batch::default() }).await.unwrap();
    assert_eq!(store.history(one.id, Some(4), 2).await.unwrap(), of_one(&[3, 2]));
    assert_eq!(store.history(one.id, Some(2), 2).await.unwrap(), of_one(&[1]));
    for before in [0, 1] {
        assert_eq!(store.history(one.id, Some(before), 2).await.unwrap(), []);
    }
    assert_eq!(store.history(one.id, Some(4), 0).await.unwrap(), []);
    let all = of_one(&[6, 5, 4, 3, 2, 1]);
    assert_eq!(store.history(one.id, Some(u64::MAX), 9).await.unwrap(), all);
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
async fn sqlite_reads_the_history_page_by_page() {
    history_is_read_page_by_page(sqlite().await).await;
}
