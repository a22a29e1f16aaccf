//! Streams of users to running jobs: a user's WebSocket and the one that the node dials for it,
//! bridged. Protocol: [`api::stream`]; doors: `rest/stream.rs` and `node_routes.rs`.
//!
//! ```text
//! expect ──► waiting ──take, by its node, once──► open ──both sides are gone──► forgotten
//!               └── nobody within the deadline ──► forgotten
//! ```
//! A [`StreamSlot`] is held for as long as a stream waits or is open; what it was counted in is
//! free when it is dropped.

pub(crate) mod bridge;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::{
    ids::NodeId,
    run::RunId,
    stream::{MAX_STREAMS_PER_NODE, MAX_STREAMS_PER_RUN, StreamId},
};
use tokio::sync::oneshot;

/// Why a stream is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSlot {
    #[error(
        "the job has {MAX_STREAMS_PER_RUN} streams open, which is the limit: close some of them"
    )]
    Run,
    #[error(
        "the job's node has {MAX_STREAMS_PER_NODE} streams open, which is the limit: try again later"
    )]
    Node,
}

/// All streams that wait or are open. `S` is the node's socket.
#[derive(Debug)]
pub(crate) struct Streams<S>(Arc<Mutex<OpenStreams<S>>>);

#[derive(Debug)]
struct OpenStreams<S> {
    waiting: BTreeMap<StreamId, Waiting<S>>,
    of_runs: BTreeMap<RunId, usize>,
    of_nodes: BTreeMap<NodeId, usize>,
}

#[derive(Debug)]
struct Waiting<S> {
    node: NodeId,
    arrived: oneshot::Sender<S>,
}

impl<S> Clone for Streams<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Default for Streams<S> {
    fn default() -> Self {
        let (waiting, of_runs, of_nodes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(OpenStreams { waiting, of_runs, of_nodes })))
    }
}

/// What one stream takes up.
#[derive(Debug)]
pub(crate) struct StreamSlot<S> {
    streams: Streams<S>,
    stream: StreamId,
    run: RunId,
    node: NodeId,
}

impl<S> Streams<S> {
    /// Waits for `node` to dial `stream`, which is new, for `run`.
    pub(crate) fn expect(
        &self,
        stream: StreamId,
        run: RunId,
        node: NodeId,
    ) -> Result<(StreamSlot<S>, oneshot::Receiver<S>), NoSlot> {
        let mut known = self.known();
        let count_of = |counted: Option<&usize>| counted.copied().unwrap_or(0);
        if count_of(known.of_runs.get(&run)) >= MAX_STREAMS_PER_RUN {
            return Err(NoSlot::Run);
        }
        if count_of(known.of_nodes.get(&node)) >= MAX_STREAMS_PER_NODE {
            return Err(NoSlot::Node);
        }
        *known.of_runs.entry(run).or_default() += 1;
        *known.of_nodes.entry(node).or_default() += 1;
        let (arrived, arrival) = oneshot::channel();
        known.waiting.insert(stream, Waiting { node, arrived });
        drop(known);
        Ok((StreamSlot { streams: self.clone(), stream, run, node }, arrival))
    }

    /// Takes the stream that `node` dials; `None` if it is not for this node, was taken, or nobody
    /// waits for it any more.
    pub(crate) fn take(&self, stream: StreamId, node: NodeId) -> Option<oneshot::Sender<S>> {
        match self.known().waiting.entry(stream) {
            Entry::Occupied(entry) if entry.get().node == node => Some(entry.remove().arrived),
            _ => None,
        }
    }

    fn known(&self) -> MutexGuard<'_, OpenStreams<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Drop for StreamSlot<S> {
    fn drop(&mut self) {
        fn less<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
            if let Entry::Occupied(mut entry) = counts.entry(key) {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
        let mut known = self.streams.known();
        known.waiting.remove(&self.stream);
        less(&mut known.of_runs, self.run);
        less(&mut known.of_nodes, self.node);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(number: usize) -> StreamId {
        StreamId(Uuid::from_u128(number as u128))
    }

    #[tokio::test]
    async fn a_stream_is_taken_once_and_by_its_node() {
        let streams: Streams<&str> = Streams::default();
        let (run, node, other) =
            (RunId(Uuid::from_u128(1)), NodeId(Uuid::from_u128(2)), NodeId(Uuid::from_u128(3)));
        let (place, arrival) = streams.expect(id(1), run, node).unwrap();
        assert!(streams.take(id(1), other).is_none());
        assert!(streams.take(id(2), node).is_none());
        streams.take(id(1), node).unwrap().send("socket").unwrap();
        assert!(streams.take(id(1), node).is_none());
        assert_eq!(arrival.await, Ok("socket"));
        drop(place);
        // Nobody waits any more.
        let (place, _) = streams.expect(id(3), run, node).unwrap();
        drop(place);
        assert!(streams.take(id(3), node).is_none());
        let known = streams.known();
        assert!(known.waiting.is_empty() && known.of_runs.is_empty() && known.of_nodes.is_empty());
    }

    #[test]
    fn a_run_and_a_node_have_so_many_and_no_more() {
        let streams: Streams<()> = Streams::default();
        let (run, node) = (|number| RunId(Uuid::from_u128(number)), NodeId(Uuid::from_u128(2)));
        let mut held: Vec<_> = (0..MAX_STREAMS_PER_RUN)
            .map(|number| streams.expect(id(number), run(0), node).unwrap())
            .collect();
        assert_eq!(streams.expect(id(1_000), run(0), node).unwrap_err(), NoSlot::Run);
        for number in MAX_STREAMS_PER_RUN..MAX_STREAMS_PER_NODE {
            held.push(streams.expect(id(number), run(number as u128), node).unwrap());
        }
        assert_eq!(streams.expect(id(1_000), run(5_000), node).unwrap_err(), NoSlot::Node);
        held.pop();
        streams.expect(id(1_000), run(5_000), node).unwrap();
    }
}
