//! All nodes in memory, and what of them is not yet on disk.
//!
//! Every change runs under one short lock: the pure cores decide, the entry is updated, watchers are told, and the
//! node is put on the list of what must be written. `writer.rs` writes that list in batches; whoever must not answer
//! before his change is on disk waits for his [`Ticket`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::{
    channel::FromServer,
    ids::{Digest, NodeId, NodeName, Timestamp},
    overlay::Generation,
    status::{NodeEvent, NodeStatus, NodeUpdate, Severity},
};
use tokio::sync::{Notify, broadcast, watch};

use crate::{
    arming::{self, Arming, Verdict},
    connection::{Connection, Outgoing},
    failures::Failures,
    lifecycle::{self, Effect, Life, Limits},
    session::Session,
    store::{Batch, NodeRow, StoreError},
};

/// Updates that a slow watcher may be behind before it must start over from the full list.
const MAX_UPDATES: usize = 4_096;

/// Characters kept of a message that a node sent.
const MAX_MESSAGE_CHARS: usize = 500;

/// The same message again within this time is not recorded again: what anyone can provoke must not push the rest out
/// of a node's history.
const REPEAT_SECONDS: i64 = 60;

/// All nodes.
#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
    limits: Limits,
    updates: broadcast::Sender<NodeUpdate>,
    /// Something must be written.
    dirty: Notify,
    written: watch::Sender<Written>,
}

#[derive(Debug, Default)]
struct State {
    nodes: HashMap<NodeId, Entry>,
    /// Tokens that are out or were spent last, and whose they are.
    tokens: HashMap<Digest, NodeId>,
    pending: Pending,
    failures: Failures,
}

/// What must be written.
#[derive(Debug, Default)]
struct Pending {
    nodes: BTreeSet<NodeId>,
    forgotten: Vec<NodeId>,
    events: Vec<(u64, NodeEvent)>,
    /// Counts changes.
    generation: u64,
}

/// How far the writer is.
#[derive(Debug, Clone, Default)]
struct Written {
    attempted: u64,
    durable: u64,
    error: Option<Arc<str>>,
    closed: bool,
}

/// A change that will be on disk at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket(u64);

/// One node.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: NodeId,
    pub(crate) name: NodeName,
    pub(crate) life: Life,
    arming: Arming,
    history: u64,
    last_record: Option<(String, Timestamp)>,
    /// Runtime overlays that it should have.
    wanted: Option<Generation>,
    /// Counts the inventories that were other ones than before, since the server started.
    pub(crate) inventories: u64,
    pub(crate) session: Session,
    pub(crate) connection: Option<Connection>,
    /// Held by the connection whose frames are dealt with: there is only one at a time.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Entry {
    fn new(row: NodeRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            life: row.life,
            arming: row.arming,
            history: row.history,
            last_record: None,
            wanted: None,
            inventories: 0,
            session: Session::default(),
            connection: None,
            turn: Arc::default(),
        }
    }

    fn row(&self) -> NodeRow {
        NodeRow {
            id: self.id,
            name: self.name.clone(),
            life: self.life.clone(),
            arming: self.arming.clone(),
            history: self.history,
        }
    }

    fn status(&self, limits: &Limits) -> NodeStatus {
        self.life.status(self.arming.is_armed(), &limits.deadlines)
    }

    /// Puts a message to the connected agent on its way. `false` if it is not connected, or takes nothing any more.
    pub(crate) fn say(&mut self, message: FromServer) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        let sent = match self.session.send(message) {
            Ok(frame) => {
                connection.outgoing.try_send(Outgoing::Frame(frame)).map_err(|error| error.to_string())
            }
            Err(error) => {
                // What cannot be sent again must not be missing from a session that goes on.
                self.session.end();
                Err(error.to_string())
            }
        };
        if let Err(error) = &sent {
            connection.close(format!("the agent takes no more messages: {error}"));
        }
        sent.is_ok()
    }

    /// As [`Self::say`], and for an agent that is away it waits for its return: if the session goes on, it is sent then; if
    /// another begins, the agent tells at once what it has, and what it lacks is said anew.
    pub(crate) fn leave(&mut self, message: FromServer) {
        if self.connection.is_some() {
            self.say(message);
        } else if self.session.is_begun() && self.session.send(message).is_err() {
            self.session.end();
        }
    }

    /// Tells the connected agent which runtime overlays it should have, unless it has them or was told.
    pub(crate) fn push_overlays(&mut self) {
        let (Some(wanted), Some(connection)) = (self.wanted, &self.connection) else {
            return;
        };
        if connection.told.or(connection.applied) == Some(wanted) {
            return;
        }
        if self.say(FromServer::Overlays { generation: wanted })
            && let Some(connection) = &mut self.connection
        {
            connection.told = Some(wanted);
        }
    }
}

/// One change of one node, while the lock is held.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) entry: &'a mut Entry,
    now: Timestamp,
    limits: &'a Limits,
    events: Vec<(u64, NodeEvent)>,
    /// Who watches is told, whatever the status is.
    tell: bool,
}

impl Change<'_> {
    /// Lets the node live through an event, with all that follows from it.
    pub(crate) fn live(&mut self, event: lifecycle::Event) {
        let (life, effects) = self.entry.life.step(event, self.now, self.limits);
        self.entry.life = life;
        for effect in effects {
            match effect {
                Effect::Record(severity, message) => self.record(severity, &message),
                Effect::Arming(event) => {
                    let _noted = self.token(event);
                }
                Effect::Tell => self.tell = true,
                Effect::Probe => {
                    if let Some(connection) = &self.entry.connection {
                        // A full queue has frames in it, whose acknowledgements are signs of life too.
                        let _ = connection.outgoing.try_send(Outgoing::Probe);
                    }
                }
            }
        }
    }

    /// Something came from the node.
    pub(crate) fn seen(&mut self) {
        self.entry.life.last_seen = Some(self.now);
    }

    /// Takes an event of the node's token.
    pub(crate) fn token(&mut self, event: arming::Event) -> Verdict {
        let (arming, verdict) = self.entry.arming.step(event, self.now);
        self.entry.arming = arming;
        verdict
    }

    /// Writes a line into the node's history and into the log.
    pub(crate) fn record(&mut self, severity: Severity, message: &str) {
        let message: String = message.chars().take(MAX_MESSAGE_CHARS).collect();
        let entry = &mut *self.entry;
        let repeated = entry
            .last_record
            .as_ref()
            .is_some_and(|(last, at)| *last == message && self.now < at.plus_seconds(REPEAT_SECONDS));
        if repeated && severity != Severity::Info {
            return;
        }
        let phase = entry.life.phase;
        match severity {
            Severity::Info => tracing::info!(node = %entry.name, phase = phase.as_str(), "{message}"),
            Severity::Warning => tracing::warn!(node = %entry.name, phase = phase.as_str(), "{message}"),
            Severity::Error => tracing::error!(node = %entry.name, phase = phase.as_str(), "{message}"),
            Severity::Security => {
                tracing::error!(node = %entry.name, phase = phase.as_str(), "security: {message}");
            }
        }
        entry.history += 1;
        entry.last_record = Some((message.clone(), self.now));
        let (id, name) = (entry.id, entry.name.clone());
        self.events.push((entry.history, NodeEvent { id, name, at: self.now, phase, severity, message }));
    }

    /// Sets which runtime overlays the node should have.
    pub(crate) fn want_overlays(&mut self, generation: Generation) {
        self.entry.wanted = Some(generation);
        self.entry.push_overlays();
    }
}

impl Registry {
    /// Nodes as they were kept. Those that were connected get the grace to come back.
    pub(crate) fn new(rows: Vec<NodeRow>, limits: Limits, now: Timestamp) -> Self {
        let mut state = State::default();
        for row in rows {
            state.tokens.extend(row.arming.tokens().map(|token| (token, row.id)));
            state.nodes.insert(row.id, Entry::new(row));
        }
        let registry = Self {
            state: Mutex::new(state),
            limits,
            updates: broadcast::channel(MAX_UPDATES).0,
            dirty: Notify::new(),
            written: watch::Sender::default(),
        };
        for id in registry.ids() {
            let _later = registry.update(id, now, |change| change.live(lifecycle::Event::ServerStarted));
        }
        registry
    }

    /// No change panics half way: a poisoned lock still guards whole entries.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (before, status) = (entry.row(), entry.status(&self.limits));
        let mut running = Change { entry, now, limits: &self.limits, events: Vec::new(), tell: false };
        let value = change(&mut running);
        let Change { events, tell, .. } = running;
        let after = entry.row();
        if before.arming != after.arming {
            before.arming.tokens().for_each(|token| {
                tokens.remove(&token);
            });
            tokens.extend(after.arming.tokens().map(|token| (token, id)));
        }
        if !events.is_empty() || worth_writing(before) != worth_writing(after) {
            pending.nodes.insert(id);
            pending.events.extend(events);
            pending.generation += 1;
            self.dirty.notify_one();
        }
        let mut now_status = entry.status(&self.limits);
        let last_seen = std::mem::replace(&mut now_status.last_seen, status.last_seen);
        if tell || now_status != status {
            now_status.last_seen = last_seen;
            // Nobody watching is no error.
            let _ = self.updates.send(NodeUpdate { id, name: entry.name.clone(), status: now_status });
        }
        Some((value, Ticket(pending.generation)))
    }

    /// Adds a node, or gives it its new name.
    pub(crate) fn register(&self, id: NodeId, name: NodeName, now: Timestamp) -> Ticket {
        let mut state = self.lock();
        let State { nodes, pending, .. } = &mut *state;
        let known = nodes.get(&id).map(|entry| entry.name == name);
        if known != Some(true) {
            let row = || NodeRow {
                id,
                name: name.clone(),
                life: Life::new(now),
                arming: Arming::default(),
                history: 0,
            };
            let entry = nodes.entry(id).or_insert_with(|| Entry::new(row()));
            entry.name = name.clone();
            let status = entry.status(&self.limits);
            // Nobody watching is no error.
            let _ = self.updates.send(NodeUpdate { id, name, status });
            pending.nodes.insert(id);
            pending.generation += 1;
            self.dirty.notify_one();
        }
        Ticket(pending.generation)
    }

    /// Removes a node with all that is kept of it. Its connection is closed.
    pub(crate) fn forget(&self, id: NodeId) -> Ticket {
        let mut state = self.lock();
        let State { nodes, tokens, pending, .. } = &mut *state;
        if let Some(entry) = nodes.remove(&id) {
            if let Some(connection) = &entry.connection {
                connection.close("the node was deleted".to_owned());
            }
            tokens.retain(|_, owner| *owner != id);
            pending.nodes.remove(&id);
            pending.events.retain(|(_, event)| event.id != id);
            pending.forgotten.push(id);
            pending.generation += 1;
            self.dirty.notify_one();
        }
        Ticket(pending.generation)
    }

    /// All registered nodes.
    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.lock().nodes.keys().copied().collect()
    }

    /// Nodes whose agent is connected.
    pub(crate) fn connected(&self) -> Vec<NodeId> {
        let state = self.lock();
        state.nodes.values().filter(|entry| entry.connection.is_some()).map(|entry| entry.id).collect()
    }

    /// Name of a node; `None` if it is not registered.
    pub(crate) fn name(&self, id: NodeId) -> Option<NodeName> {
        self.lock().nodes.get(&id).map(|entry| entry.name.clone())
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
        let update = |entry: &Entry| NodeUpdate {
            id: entry.id,
            name: entry.name.clone(),
            status: entry.status(&self.limits),
        };
        state.nodes.values().map(update).collect()
    }

    /// Every later change.
    pub(crate) fn watch(&self) -> broadcast::Receiver<NodeUpdate> {
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

    /// Waits until a change is on disk.
    pub(crate) async fn durable(&self, ticket: Ticket) -> Result<(), StoreError> {
        let mut written = self.written.subscribe();
        let done = |written: &Written| written.attempted >= ticket.0 || written.closed;
        let not_written = |why: &str| StoreError::NotWritten { why: why.to_owned() };
        let written = written.wait_for(done).await.map_err(|_| not_written("the server is stopping"))?;
        if written.durable >= ticket.0 {
            return Ok(());
        }
        Err(not_written(written.error.as_deref().unwrap_or("the server is stopping")))
    }

    /// Waits until something must be written.
    pub(crate) async fn dirty(&self) {
        self.dirty.notified().await;
    }

    /// Takes all that must be written, and its generation. `all`: every node, for the times of the last words.
    pub(crate) fn take(&self, all: bool) -> (Batch, u64) {
        let mut state = self.lock();
        let State { nodes, pending, .. } = &mut *state;
        let ids: Vec<NodeId> =
            if all { nodes.keys().copied().collect() } else { pending.nodes.iter().copied().collect() };
        pending.nodes.clear();
        let batch = Batch {
            forgotten: std::mem::take(&mut pending.forgotten),
            nodes: ids.iter().filter_map(|id| nodes.get(id)).map(Entry::row).collect(),
            events: std::mem::take(&mut pending.events),
        };
        (batch, pending.generation)
    }

    /// The batch of a generation is on disk.
    pub(crate) fn wrote(&self, generation: u64) {
        self.written.send_modify(|written| {
            written.attempted = written.attempted.max(generation);
            written.durable = written.durable.max(generation);
            written.error = None;
        });
    }

    /// The batch of a generation could not be written: it goes back on the list.
    pub(crate) fn not_written(&self, generation: u64, batch: Batch, why: &str) {
        let mut state = self.lock();
        let State { nodes, pending, .. } = &mut *state;
        pending.nodes.extend(batch.nodes.iter().map(|node| node.id).filter(|id| nodes.contains_key(id)));
        let later = std::mem::take(&mut pending.events);
        pending.events = batch.events;
        pending.events.extend(later);
        pending.events.retain(|(_, event)| nodes.contains_key(&event.id));
        pending.forgotten.splice(0..0, batch.forgotten);
        drop(state);
        self.written.send_modify(|written| {
            written.attempted = written.attempted.max(generation);
            written.error = Some(why.into());
        });
        self.dirty.notify_one();
    }

    /// Waits until nothing will be written any more.
    pub(crate) async fn closed(&self) {
        // The sender lives as long as this.
        let _ = self.written.subscribe().wait_for(|written| written.closed).await;
    }

    /// Nothing will be written any more.
    pub(crate) fn writer_ended(&self) {
        self.written.send_modify(|written| written.closed = true);
    }
}

/// A row without what changes all the time and is not worth a write of its own.
fn worth_writing(mut row: NodeRow) -> NodeRow {
    row.life.last_seen = None;
    row.life.percent = None;
    row.life.asked = None;
    row
}

#[cfg(test)]
mod tests {
    use api::channel::MAX_UNACKNOWLEDGED;

    use super::*;
    use crate::config::Deadlines;

    fn with_one_node() -> (Registry, NodeId, Timestamp) {
        let now = Timestamp(0);
        let limits = Limits { deadlines: Deadlines::default(), grace_seconds: 30 };
        let registry = Registry::new(Vec::new(), limits, now);
        let id = NodeId(uuid::Uuid::from_u128(7));
        let _later = registry.register(id, "n1".parse().unwrap(), now);
        (registry, id, now)
    }

    #[test]
    fn what_is_left_for_an_agent_that_is_away_waits_in_a_session_that_may_go_on() {
        let (registry, id, now) = with_one_node();
        let left = |times: usize, begin: bool| {
            let changed = registry.update(id, now, |change| {
                if begin {
                    change.entry.session.begin();
                }
                (0..times).for_each(|_| change.entry.leave(FromServer::SendInventory {}));
                (change.entry.session.unacknowledged().count(), change.entry.session.is_begun())
            });
            changed.unwrap().0
        };
        assert_eq!(left(1, false), (0, false), "it never said hello");
        assert_eq!(left(2, true), (2, true));
        assert_eq!(
            left(MAX_UNACKNOWLEDGED, false),
            (0, false),
            "too much to be sent again: it lists its runs anew"
        );
    }

    #[test]
    fn who_watches_hears_of_another_inventory_though_the_status_is_the_same() {
        let (registry, id, now) = with_one_node();
        let mut updates = registry.watch();
        for changed in [false, true] {
            let event = lifecycle::Event::InventoryStored { changed, news: Vec::new() };
            let _later = registry.update(id, now, |change| change.live(event));
            assert_eq!(updates.try_recv().is_ok(), changed);
        }
    }
}
