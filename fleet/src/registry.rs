//! All nodes in memory, and what of them is not yet on disk.
//!
//! Every change runs under one short lock: the pure cores decide, the entry is updated, watchers
//! are told, and the node is put on the list of what must be written. `writer.rs` writes that list
//! in batches; whoever must not answer before his change is on disk waits for his [`Ticket`].

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::{
    ids::{Digest, NodeId, NodeName, Timestamp},
    status::{NodeStatus, NodeUpdate},
};
use database::outbox;
use tokio::sync::{Notify, broadcast, watch};

use self::{
    requests::Requests,
    unwritten::{Pending, Written},
};
use crate::{
    ImageUse,
    arming::Arming,
    enrolments::Enrolments,
    failures::EnrolmentFailures,
    lifecycle::{self, Limits, NodeLifecycle},
    link::Link,
    register::NodeChange,
    store::{NodeRow, RegisterChange, StoredNode},
    under_way::UnderWay,
};

mod admission;
mod change;
mod requests;
mod status;
mod unwritten;

pub(crate) use admission::Admitted;
pub(crate) use change::Change;
pub(crate) use unwritten::Ticket;

/// Updates that a slow watcher may be behind before it must start over from the full list.
const MAX_UPDATES: usize = 4_096;

/// All nodes.
#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
    limits: Limits,
    /// When the server was started.
    started: Timestamp,
    updates: broadcast::Sender<NodeChange>,
    /// Held while a batch is on its way to the disk, or the register is being changed.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// Something must be written.
    dirty: Notify,
    written: watch::Sender<Written>,
}

#[derive(Debug, Default)]
struct State {
    nodes: HashMap<NodeId, NodeEntry>,
    names: BTreeMap<NodeName, NodeId>,
    /// Tokens that are out or were spent last, and whose they are.
    tokens: HashMap<Digest, NodeId>,
    pending: Pending,
    failures: EnrolmentFailures,
}

/// One node.
#[derive(Debug)]
pub(crate) struct NodeEntry {
    pub(crate) id: NodeId,
    pub(crate) name: NodeName,
    pub(crate) life: NodeLifecycle,
    arming: Arming,
    pub(crate) enrolments: Enrolments,
    history: u64,
    last_record: Option<(String, Timestamp)>,
    requests: Requests,
    /// Counts the inventories that were other ones than before, since the server started.
    pub(crate) inventories: u64,
    pub(crate) link: Link,
    under_way: UnderWay,
}

impl NodeEntry {
    fn new(row: NodeRow) -> Self {
        Self {
            link: Link::new(row.enrolments.conflict().is_some()),
            id: row.id,
            name: row.name,
            life: row.life,
            arming: row.arming,
            enrolments: row.enrolments,
            history: row.history,
            last_record: None,
            requests: Requests::default(),
            inventories: 0,
            under_way: UnderWay::default(),
        }
    }

    fn row(&self) -> NodeRow {
        NodeRow {
            id: self.id,
            name: self.name.clone(),
            life: self.life.clone(),
            arming: self.arming.clone(),
            enrolments: self.enrolments.clone(),
            history: self.history,
        }
    }

    fn status(&self, limits: &Limits) -> NodeStatus {
        status::status(&self.life, &self.arming, &self.enrolments, &self.link, limits)
    }

    /// Whether nothing differs from `row` that is worth a write: some things change all the time.
    /// They are made equal in `row`, which spares a copy of it.
    fn is_saved_as(&self, row: &mut NodeRow) -> bool {
        row.life.last_seen = self.life.last_seen;
        row.life.percent = self.life.percent;
        row.life.asked = self.life.asked;
        row.life.unproven.clone_from(&self.life.unproven);
        row.life.shown_image.clone_from(&self.life.shown_image);
        row.life.silence.clone_from(&self.life.silence);
        row.life.holding.clone_from(&self.life.holding);
        row.name == self.name
            && row.history == self.history
            && row.life == self.life
            && row.arming == self.arming
            && row.enrolments == self.enrolments
    }
}

impl Registry {
    /// Nodes as they were kept. Those that were connected get the grace to come back.
    pub(crate) fn new(stored: Vec<StoredNode>, limits: Limits, now: Timestamp) -> Self {
        let mut state = State::default();
        let mut damaged = Vec::new();
        for StoredNode { row, unreadable } in stored {
            damaged.extend(unreadable.map(|cause| (row.id, cause)));
            state.tokens.extend(row.arming.tokens().map(|token| (token, row.id)));
            state.names.insert(row.name.clone(), row.id);
            state.nodes.insert(row.id, NodeEntry::new(row));
        }
        let registry = Self {
            state: Mutex::new(state),
            limits,
            started: now,
            updates: broadcast::channel(MAX_UPDATES).0,
            writing: Arc::default(),
            dirty: Notify::new(),
            written: watch::Sender::default(),
        };
        for (id, cause) in damaged {
            let _later = registry.update(id, now, |change| {
                change.apply_event(lifecycle::Event::Unreadable { cause })
            });
        }
        for id in registry.ids() {
            let _later = registry
                .update(id, now, |change| change.apply_event(lifecycle::Event::ServerStarted));
        }
        registry
    }

    /// No change panics half way: a poisoned lock still guards whole entries.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at one node. `None` if it is not registered.
    pub(crate) fn read<T>(&self, id: NodeId, look: impl FnOnce(&NodeEntry) -> T) -> Option<T> {
        self.lock().nodes.get(&id).map(look)
    }

    /// Uses the link to a node's agent. What is on disk, and what watchers see, does not change by
    /// it. `None` if the node is not registered.
    pub(crate) fn link<T>(&self, id: NodeId, act: impl FnOnce(&mut Link) -> T) -> Option<T> {
        self.lock().nodes.get_mut(&id).map(|entry| act(&mut entry.link))
    }

    /// As [`Self::link`], when something was received from the agent now.
    pub(crate) fn received<T>(
        &self,
        id: NodeId,
        now: Timestamp,
        act: impl FnOnce(&mut Link) -> T,
    ) -> Option<T> {
        let mut state = self.lock();
        let entry = state.nodes.get_mut(&id)?;
        entry.life.last_seen = Some(now);
        Some(act(&mut entry.link))
    }

    /// Does what is due at all nodes now: a node whose grace and deadlines are not over costs a
    /// look and no more.
    pub(crate) fn tick(&self, now: Timestamp) {
        let mut due = Vec::new();
        for entry in self.lock().nodes.values_mut() {
            entry.link.tick(now);
            if entry.life.is_tick_due(now, &self.limits) {
                due.push(entry.id);
            }
        }
        for id in due {
            // A node that was forgotten in this moment needs no tick.
            let _ = self.update(id, now, |change| change.apply_event(lifecycle::Event::Tick));
        }
    }

    /// Changes one node. `None` if it is not registered.
    pub(crate) fn update<T>(
        &self,
        id: NodeId,
        now: Timestamp,
        change: impl FnOnce(&mut Change<'_>) -> T,
    ) -> Option<(T, Ticket)> {
        let mut state = self.lock();
        let State { nodes, tokens, pending, .. } = &mut *state;
        let entry = nodes.get_mut(&id)?;
        let mut before = entry.row();
        let mut running =
            Change { entry, now, limits: &self.limits, events: Vec::new(), tell: false };
        let value = change(&mut running);
        let Change { events, tell, .. } = running;
        if before.arming != entry.arming {
            before.arming.tokens().for_each(|token| {
                tokens.remove(&token);
            });
            tokens.extend(entry.arming.tokens().map(|token| (token, id)));
        }
        // Watchers are sent a status only if more changed than when something was last received.
        before.life.last_seen = entry.life.last_seen;
        let is_same = before.life == entry.life
            && before.arming == entry.arming
            && before.enrolments == entry.enrolments;
        if tell
            || (!is_same
                && entry.status(&self.limits) != status::before(&before, entry, &self.limits))
        {
            let (name, status) = (entry.name.clone(), entry.status(&self.limits));
            // Nobody watching is no error.
            let _ = self.updates.send(NodeChange::Updated(NodeUpdate { id, name, status }));
        }
        if !events.is_empty() || !entry.is_saved_as(&mut before) {
            pending.nodes.insert(id);
            pending.events.extend(events);
            pending.told.extend(outbox::current());
            pending.generation += 1;
            self.dirty.notify_one();
        }
        Some((value, Ticket(pending.generation)))
    }

    /// Lets one node live through an event that anybody on the boot network can cause, as often as
    /// they like: one that changes nothing costs a look. `None` if the node is not registered.
    pub(crate) fn observe(
        &self,
        id: NodeId,
        now: Timestamp,
        event: lifecycle::Event,
    ) -> Option<()> {
        if !self.read(id, |entry| entry.life.is_unmoved_by(&event, now))? {
            // It looks again, and so sees what another request changed in between.
            let ((), _soon) = self.update(id, now, |change| change.apply_event(event))?;
        }
        Some(())
    }

    /// Adds, renames and removes nodes, as it is on disk. Connections of removed ones are closed.
    pub(crate) fn apply(&self, change: RegisterChange) {
        let mut state = self.lock();
        let State { nodes, names, tokens, pending, .. } = &mut *state;
        for id in &change.removed {
            let Some(mut entry) = nodes.remove(id) else { continue };
            names.remove(&entry.name);
            entry.link.close("the node was deleted");
            entry.under_way.end_unless(|_| false);
            for token in entry.arming.tokens() {
                tokens.remove(&token);
            }
            pending.nodes.remove(id);
            // Nobody watching is no error.
            let _ = self.updates.send(NodeChange::Removed { id: *id });
        }
        if !change.removed.is_empty() {
            pending.events.retain(|(_, event)| nodes.contains_key(&event.id));
        }
        let mut named = Vec::with_capacity(change.added.len() + change.renamed.len());
        // Two may have swapped their names, and a new node may have taken one: all old ones go
        // before a new one comes.
        for (id, _) in &change.renamed {
            if let Some(entry) = nodes.get(id) {
                names.remove(&entry.name);
            }
        }
        for row in change.added {
            named.push(row.id);
            names.insert(row.name.clone(), row.id);
            nodes.insert(row.id, NodeEntry::new(row));
        }
        for (id, name) in change.renamed {
            named.push(id);
            names.insert(name.clone(), id);
            if let Some(entry) = nodes.get_mut(&id) {
                entry.name = name;
            }
        }
        for id in named {
            let Some(entry) = nodes.get(&id) else { continue };
            let (name, status) = (entry.name.clone(), entry.status(&self.limits));
            let _ = self.updates.send(NodeChange::Updated(NodeUpdate { id, name, status }));
        }
    }

    /// All registered nodes.
    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.lock().nodes.keys().copied().collect()
    }

    /// Nodes whose agent is connected.
    pub(crate) fn connected(&self) -> Vec<NodeId> {
        let state = self.lock();
        state
            .nodes
            .values()
            .filter(|entry| entry.link.is_connected())
            .map(|entry| entry.id)
            .collect()
    }

    /// Name of a node; `None` if it is not registered.
    pub(crate) fn name(&self, id: NodeId) -> Option<NodeName> {
        self.lock().nodes.get(&id).map(|entry| entry.name.clone())
    }

    /// The node of a name.
    pub(crate) fn find(&self, name: &NodeName) -> Option<NodeId> {
        self.lock().names.get(name).copied()
    }

    /// The names of all nodes, sorted.
    pub(crate) fn names(&self) -> Vec<NodeName> {
        self.lock().names.keys().cloned().collect()
    }

    /// Those names that no node has.
    pub(crate) fn missing<'a>(&self, names: &'a [NodeName]) -> Vec<&'a NodeName> {
        let state = self.lock();
        names.iter().filter(|name| !state.names.contains_key(*name)).collect()
    }

    /// Whose token this is or was.
    pub(crate) fn owner(&self, token: Digest) -> Option<NodeId> {
        self.lock().tokens.get(&token).copied()
    }

    /// Status of a node.
    pub(crate) fn status(&self, id: NodeId) -> Option<NodeStatus> {
        self.lock().nodes.get(&id).map(|entry| entry.status(&self.limits))
    }

    /// Status of every node.
    pub(crate) fn statuses(&self) -> Vec<NodeUpdate> {
        let state = self.lock();
        let update = |entry: &NodeEntry| NodeUpdate {
            id: entry.id,
            name: entry.name.clone(),
            status: entry.status(&self.limits),
        };
        state.nodes.values().map(update).collect()
    }

    /// What nodes run or are booting.
    pub(crate) fn image_uses(&self, now: Timestamp) -> Vec<ImageUse> {
        let state = self.lock();
        let of_one = |entry: &NodeEntry| {
            let unknown = entry.life.may_run_any_image(self.started, now).then_some(None);
            let known = entry.life.images_in_use(now).map(|image| Some(image.to_owned()));
            let uses =
                known.chain(unknown).map(|image| ImageUse { node: entry.name.clone(), image });
            uses.collect::<Vec<_>>()
        };
        state.nodes.values().flat_map(of_one).collect()
    }

    /// Every later change.
    pub(crate) fn watch(&self) -> broadcast::Receiver<NodeChange> {
        self.updates.subscribe()
    }

    /// May this source try to enrol?
    pub(crate) fn may_try(&self, source: std::net::IpAddr, now: Timestamp) -> bool {
        self.lock().failures.may_try(source, now)
    }

    /// A source failed to enrol.
    pub(crate) fn source_failed(&self, source: std::net::IpAddr, now: Timestamp) {
        self.lock().failures.failed(source, now);
    }
}

#[cfg(test)]
mod tests {
    use api::channel::{FromServer, MAX_UNACKNOWLEDGED};
    use database::outbox::OutboxRow;

    use super::*;
    use crate::config::Deadlines;

    fn with_one_node() -> (Registry, NodeId, Timestamp) {
        let now = Timestamp(0);
        let limits = Limits { deadlines: Deadlines::default(), grace_seconds: 30 };
        let registry = Registry::new(Vec::new(), limits, now);
        let id = NodeId(uuid::Uuid::from_u128(7));
        let row = NodeRow {
            id,
            name: "n1".parse().unwrap(),
            life: NodeLifecycle::new(now),
            arming: Arming::default(),
            enrolments: Enrolments::default(),
            history: 0,
        };
        registry.apply(RegisterChange { added: vec![row], ..RegisterChange::default() });
        (registry, id, now)
    }

    #[test]
    fn nodes_are_found_by_the_names_that_they_have_now() {
        let (registry, one, now) = with_one_node();
        let two = NodeId(uuid::Uuid::from_u128(8));
        let name = |name: &str| -> NodeName { name.parse().unwrap() };
        let row = NodeRow {
            id: two,
            name: name("n2"),
            life: NodeLifecycle::new(now),
            arming: Arming::default(),
            enrolments: Enrolments::default(),
            history: 0,
        };
        registry.apply(RegisterChange { added: vec![row], ..RegisterChange::default() });
        let renamed = vec![(one, name("n2")), (two, name("n1"))];
        registry.apply(RegisterChange { renamed, ..RegisterChange::default() });
        assert_eq!(
            (registry.find(&name("n1")), registry.find(&name("n2"))),
            (Some(two), Some(one))
        );
        let renamed = vec![(two, name("n3"))];
        registry.apply(RegisterChange { renamed, ..RegisterChange::default() });
        assert_eq!(registry.names(), [name("n2"), name("n3")]);
        registry.apply(RegisterChange { removed: vec![one], ..RegisterChange::default() });
        assert_eq!(
            registry.missing(&[name("n1"), name("n2"), name("n3")]),
            [&name("n1"), &name("n2")]
        );
    }

    #[test]
    fn what_is_left_for_an_agent_that_is_away_waits_in_a_session_that_may_go_on() {
        let (registry, id, _) = with_one_node();
        let left = |times: usize, begin: bool| {
            let left = registry.link(id, |link| {
                if begin {
                    link.begin();
                }
                (0..times).for_each(|_| link.enqueue(FromServer::SendInventory {}));
                (link.unacknowledged().count(), link.is_resumable())
            });
            left.unwrap()
        };
        assert_eq!(left(1, false), (0, false), "it never said hello");
        assert_eq!(left(2, true), (2, true));
        assert_eq!(
            left(MAX_UNACKNOWLEDGED, false),
            (0, false),
            "too much to be sent again: it lists its runs again"
        );
    }

    #[tokio::test]
    async fn who_asked_for_a_change_is_written_in_the_batch_that_has_it() {
        #[derive(Debug)]
        struct Row;
        impl outbox::Insert for Row {
            fn insert(&self, _: outbox::WrittenWith) -> database::Statement {
                database::statement("tell", "SELECT 1")
            }
        }
        let (registry, id, now) = with_one_node();
        let _what_the_start_left = registry.take(false);
        let row = OutboxRow::new(Arc::new(Row));
        outbox::scope(vec![row.clone()], async {
            let _later = registry.update(id, now, |_| ());
            assert!(registry.take(false).0.told.is_empty(), "nothing was changed");
            let drain = lifecycle::Event::Drained { reason: "x".to_owned(), by: "ann".to_owned() };
            let _later = registry.update(id, now, |change| change.apply_event(drain));
        })
        .await;
        // Another task writes it, and writes it again where the disk was full.
        let (batch, generation) = registry.take(false);
        assert_eq!((batch.nodes.len(), &batch.told), (1, &vec![row.clone()]));
        registry.not_written(generation, batch, "no space left");
        let (batch, _) = registry.take(false);
        assert_eq!(batch.told, [row]);
        assert!(registry.take(false).0.told.is_empty());
    }

    #[test]
    fn who_watches_hears_of_another_inventory_though_the_status_is_the_same() {
        let (registry, id, now) = with_one_node();
        let mut updates = registry.watch();
        for changed in [false, true] {
            let event = lifecycle::Event::InventoryStored { changed, news: Vec::new() };
            let _later = registry.update(id, now, |change| change.apply_event(event));
            assert_eq!(updates.try_recv().is_ok(), changed);
        }
    }
}
