//! What an agent may do before its hello is taken: send so many bytes, within so long, one
//! connection of a node at a time, and not too many nodes at once. A node's certificate is proof of
//! who it is, and none that it speaks the protocol: messages of the channel may be large, a hello
//! is not.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use api::ids::NodeId;
use axum::extract::ws::{Message, WebSocket};
use rest::shell::ReadGate;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::channel::DisconnectReason;

/// Longest hello, bytes: ours has some 500.
pub(super) const MAX_HELLO_BYTES: u64 = 64 << 10;

/// Hellos that are read at once, which have 16 MiB together. The others wait in the kernel.
const MAX_READ_AT_ONCE: usize = 256;

/// Time for the agent's hello, once it is its turn to be read.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Time until it is its turn, which is the server's doing: after a restart all nodes come at once.
/// Agents wait 15 s for the server's welcome: one that has gone must not keep a place in the row.
const TURN_TIMEOUT: Duration = Duration::from_secs(12);

/// Connections whose hello is awaited.
#[derive(Debug)]
pub(super) struct PendingHellos {
    places: Arc<Semaphore>,
    next: AtomicU64,
    /// The newest connection of each node.
    awaited: Mutex<HashMap<NodeId, (u64, CancellationToken)>>,
}

impl Default for PendingHellos {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(MAX_READ_AT_ONCE));
        Self { places, next: AtomicU64::new(0), awaited: Mutex::default() }
    }
}

/// The first message of a connection, as the socket gave it.
pub(super) struct First {
    pub(super) message: Option<Result<Message, axum::Error>>,
    /// The memory that it may have, given up with it.
    _place: OwnedSemaphorePermit,
}

/// A connection whose hello is awaited, until it is dropped.
struct Awaited<'a> {
    hellos: &'a PendingHellos,
    node: NodeId,
    number: u64,
    replaced: CancellationToken,
}

impl PendingHellos {
    /// Waits for the first message.
    pub(super) async fn receive(
        &self,
        node: NodeId,
        gate: &ReadGate,
        socket: &mut WebSocket,
    ) -> Result<First, DisconnectReason> {
        let awaited = self.begin(node);
        let place = self.turn(&awaited).await?;
        tokio::select! {
            // First: what was read may be a whole message, with more behind it.
            biased;
            message = socket.recv() => Ok(First { message, _place: place }),
            () = gate.reached() => {
                let kib = MAX_HELLO_BYTES >> 10;
                Err(DisconnectReason::protocol(format!("the hello is longer than {kib} KiB")))
            }
            () = awaited.replaced.cancelled() => Err(replaced()),
            () = sleep(HELLO_TIMEOUT) => Err(DisconnectReason::protocol("no hello came")),
        }
    }

    /// Waits until its hello may be read.
    async fn turn(&self, awaited: &Awaited<'_>) -> Result<OwnedSemaphorePermit, DisconnectReason> {
        let turn = timeout(TURN_TIMEOUT, self.places.clone().acquire_owned());
        tokio::select! {
            biased;
            () = awaited.replaced.cancelled() => Err(replaced()),
            turn = turn => match turn {
                Ok(Ok(place)) => Ok(place),
                // Nobody closes the places.
                Ok(Err(_)) | Err(_) => Err(DisconnectReason::protocol("too many nodes connect at once; try again")),
            },
        }
    }

    /// An older connection of the node that has said nothing yet ends.
    fn begin(&self, node: NodeId) -> Awaited<'_> {
        let (number, replaced) = (self.next.fetch_add(1, Relaxed), CancellationToken::new());
        let older = self.lock().insert(node, (number, replaced.clone()));
        if let Some((_, older)) = older {
            older.cancel();
        }
        Awaited { hellos: self, node, number, replaced }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, (u64, CancellationToken)>> {
        // Nothing panics while it is held.
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn replaced() -> DisconnectReason {
    DisconnectReason::protocol("replaced by a newer connection of this node before its hello")
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let mut awaited = self.hellos.lock();
        if awaited.get(&self.node).is_some_and(|(number, _)| *number == self.number) {
            awaited.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_connection_of_a_node_replaces_one_that_said_nothing() {
        let hellos = PendingHellos::default();
        let [one, other] = [1, 2].map(|number| NodeId(uuid::Uuid::from_u128(number)));
        let (first, another) = (hellos.begin(one), hellos.begin(other));
        let second = hellos.begin(one);
        assert!(first.replaced.is_cancelled() && !another.replaced.is_cancelled());
        drop(first);
        assert!(!second.replaced.is_cancelled());
        assert_eq!(hellos.lock().len(), 2, "the second is still awaited");
        drop((second, another));
        assert!(hellos.lock().is_empty());
    }

    #[test]
    fn an_agent_is_told_to_try_again_before_it_gives_up() {
        // `WELCOME_DEADLINE` of the agent.
        let patience = Duration::from_secs(15);
        assert!(TURN_TIMEOUT < patience, "{TURN_TIMEOUT:?}");
    }

    #[tokio::test]
    async fn a_hello_is_awaited_from_its_turn_on() {
        let hellos = PendingHellos::default();
        let [one, other] = [1, 2].map(|number| NodeId(uuid::Uuid::from_u128(number)));
        let places = u32::try_from(MAX_READ_AT_ONCE).unwrap();
        let taken = hellos.places.clone().acquire_many_owned(places).await.unwrap();
        let (waiting, older) = (hellos.begin(one), hellos.begin(other));
        let mut turn = std::pin::pin!(hellos.turn(&waiting));
        assert!(timeout(Duration::ZERO, turn.as_mut()).await.is_err(), "all places are taken");
        let newer = hellos.begin(other);
        assert!(hellos.turn(&older).await.is_err(), "who is replaced waits no longer");
        drop(taken);
        assert!(turn.await.is_ok());
        assert!(hellos.turn(&newer).await.is_ok());
    }
}
