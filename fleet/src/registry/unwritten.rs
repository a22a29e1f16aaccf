//! What of the nodes is not on disk yet, and how far the writer is.

use std::{collections::BTreeSet, sync::Arc};

use api::{ids::NodeId, status::NodeEvent};
use database::outbox::OutboxRow;

use super::{NodeEntry, Registry, State};
use crate::store::{Batch, StoreError};

/// What must be written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) nodes: BTreeSet<NodeId>,
    pub(super) events: Vec<(u64, NodeEvent)>,
    /// Rows of the requests that caused it.
    pub(super) told: Vec<OutboxRow>,
    /// Counts changes.
    pub(super) generation: u64,
}

/// How far the writer is.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    attempted: u64,
    durable: u64,
    error: Option<Arc<str>>,
    closed: bool,
}

/// A change that will be on disk at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket(pub(super) u64);

impl Registry {
    /// Waits until no batch is being written and no edit of the register is open, and holds both
    /// off.
    pub(crate) async fn writing(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.writing.clone().lock_owned().await
    }

    /// Waits until a change is on disk.
    pub(crate) async fn durable(&self, ticket: Ticket) -> Result<(), StoreError> {
        let mut written = self.written.subscribe();
        let done = |written: &Written| written.attempted >= ticket.0 || written.closed;
        let not_written = |why: &str| StoreError::NotWritten { why: why.to_owned() };
        let written =
            written.wait_for(done).await.map_err(|_| not_written("the server is stopping"))?;
        if written.durable >= ticket.0 {
            return Ok(());
        }
        Err(not_written(written.error.as_deref().unwrap_or("the server is stopping")))
    }

    /// Waits until something must be written.
    pub(crate) async fn dirty(&self) {
        self.dirty.notified().await;
    }

    /// Takes all that must be written, and its generation. `all`: every node, for the times of
    /// the last words.
    pub(crate) fn take(&self, all: bool) -> (Batch, u64) {
        let mut state = self.lock();
        let State { nodes, pending, .. } = &mut *state;
        let ids: Vec<NodeId> = if all {
            nodes.keys().copied().collect()
        } else {
            pending.nodes.iter().copied().collect()
        };
        pending.nodes.clear();
        let batch = Batch {
            nodes: ids.iter().filter_map(|id| nodes.get(id)).map(NodeEntry::row).collect(),
            events: std::mem::take(&mut pending.events),
            told: std::mem::take(&mut pending.told),
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
        pending
            .nodes
            .extend(batch.nodes.iter().map(|node| node.id).filter(|id| nodes.contains_key(id)));
        let later = std::mem::take(&mut pending.events);
        pending.events = batch.events;
        pending.events.extend(later);
        pending.events.retain(|(_, event)| nodes.contains_key(&event.id));
        pending.told.extend(batch.told);
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
