//! How much of a blob the kernel may hold that it cannot send yet: the send queue of one
//! connection. Pure: the time is an argument.
//!
//! The server is woken to send more when half of a queue is on its way. A deep queue does this so
//! much more rarely that each byte costs a fast client's server half as much. But what the kernel
//! holds for clients that do not read is memory that no limit of ours knows, and a client that
//! reads slowly seems to stand still for as long as a deep queue empties. So a deep queue is for
//! who reads fast, and only [`MAX_DEEP`] have one at once.
//!
//! | queue | becomes |
//! |---|---|
//! | shallow: what the shell gives to all | deep, after [`FAST_BYTES`] without a wait of [`SHORT_WAIT`], if a place is free |
//! | deep | draining, after a wait of [`LONG_WAIT`] or when something else than a blob is sent: the download is over |
//! | draining: shallow for what comes next | shallow, when more can be sent, so that less than a shallow queue is left |

use std::{sync::Arc, time::Duration};

use rest::shell::MAX_UNSENT_BYTES;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// A deep queue, bytes: all that the kernel gives to one connection by itself (`tcp_wmem`, tcp(7)).
pub(super) const DEEP_BYTES: u32 = 4 << 20;

/// Deep queues at once: 256 MiB in all. Where more clients are served, each of them is slower.
pub(crate) const MAX_DEEP: usize = 64;

/// A client that has read so many bytes fast is likely to go on.
const FAST_BYTES: usize = 1 << 20;

/// Who is waited for so long is not fast: at 10 Mbit/s half of a shallow queue is sent in it.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// Who is waited for so long is fast no longer. More is sent at once of a deep queue: it takes longer.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct SendQueue {
    places: Arc<Semaphore>,
    depth: Depth,
    /// Since when nothing can be sent.
    waits: Option<Instant>,
    /// Bytes that were read without a wait that was too long.
    fast_bytes: usize,
}

#[derive(Debug)]
enum Depth {
    Shallow,
    Deep(OwnedSemaphorePermit),
    /// Its place is given back when the queue has emptied.
    Draining(OwnedSemaphorePermit),
}

impl SendQueue {
    /// A shallow one. `places`: those of all connections, [`MAX_DEEP`].
    pub(super) fn new(places: Arc<Semaphore>) -> Self {
        Self { places, depth: Depth::Shallow, waits: None, fast_bytes: 0 }
    }

    /// Nothing can be sent now.
    pub(super) fn is_full(&mut self, now: Instant) {
        self.waits.get_or_insert(now);
    }

    /// Bytes of a blob were taken by the kernel. Returns what it may hold unsent from now on,
    /// bytes, if that changes. `now` is asked for only if the client was waited for.
    #[must_use]
    pub(super) fn sent(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> Option<u32> {
        let waited = self.waits.take().map(|since| now().saturating_duration_since(since));
        let waited = waited.unwrap_or_default();
        match std::mem::replace(&mut self.depth, Depth::Shallow) {
            Depth::Deep(place) if waited >= LONG_WAIT => {
                self.depth = Depth::Draining(place);
                self.fast_bytes = 0;
                return Some(MAX_UNSENT_BYTES);
            }
            Depth::Deep(place) => self.depth = Depth::Deep(place),
            // Less is left than a shallow queue may hold: otherwise nothing could have been sent.
            Depth::Draining(place) => drop(place),
            Depth::Shallow if waited >= SHORT_WAIT => self.fast_bytes = 0,
            Depth::Shallow => {
                self.fast_bytes = self.fast_bytes.saturating_add(bytes);
                if self.fast_bytes >= FAST_BYTES
                    && let Ok(place) = self.places.clone().try_acquire_owned()
                {
                    self.depth = Depth::Deep(place);
                    return Some(DEEP_BYTES);
                }
            }
        }
        None
    }

    /// Something else than a blob was taken by the kernel: the head of an answer, a small one, or the
    /// rest of a blob. As [`Self::sent`].
    #[must_use]
    pub(super) fn sent_other(&mut self) -> Option<u32> {
        (self.waits, self.fast_bytes) = (None, 0);
        match std::mem::replace(&mut self.depth, Depth::Shallow) {
            Depth::Deep(place) => {
                self.depth = Depth::Draining(place);
                Some(MAX_UNSENT_BYTES)
            }
            Depth::Draining(place) => {
                drop(place);
                None
            }
            Depth::Shallow => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a shallow queue takes at once.
    const PART: usize = 128 << 10;

    /// Parts that make a client fast.
    const FAST: usize = FAST_BYTES / PART;

    /// Reads so many parts, each after such a wait; the last change of what may be held.
    fn read(queue: &mut SendQueue, parts: usize, wait: Duration) -> Option<u32> {
        let start = Instant::now();
        let sent = (0..parts).map(|_| {
            queue.is_full(start);
            // A second look finds it as full.
            queue.is_full(start + wait / 2);
            queue.sent(PART, || start + wait)
        });
        sent.fold(None, |before, change| change.or(before))
    }

    #[test]
    fn who_reads_fast_has_a_deep_queue_until_it_is_slow() {
        let places = Arc::new(Semaphore::new(1));
        let mut queue = SendQueue::new(places.clone());
        let (fast, slow) = (Duration::from_millis(5), Duration::from_millis(300));
        assert_eq!(read(&mut queue, FAST - 1, fast), None);
        assert_eq!(read(&mut queue, 1, slow), None, "it begins again");
        assert_eq!(read(&mut queue, FAST - 1, fast), None);
        assert_eq!(read(&mut queue, 1, fast), Some(DEEP_BYTES));
        assert_eq!(read(&mut queue, 100, slow), None, "more is sent at once");
        assert_eq!(read(&mut queue, 1, LONG_WAIT), Some(MAX_UNSENT_BYTES));
        assert_eq!(places.available_permits(), 0, "the kernel still has it");
        assert_eq!(read(&mut queue, 1, LONG_WAIT), None);
        assert_eq!(places.available_permits(), 1);
        assert_eq!(read(&mut queue, FAST, fast), Some(DEEP_BYTES));
    }

    #[test]
    fn no_more_than_there_are_places_for_have_deep_queues() {
        let places = Arc::new(Semaphore::new(2));
        let fast = Duration::ZERO;
        let mut queues: Vec<_> = (0..3).map(|_| SendQueue::new(places.clone())).collect();
        let deep: Vec<_> = queues.iter_mut().map(|queue| read(queue, FAST + 4, fast)).collect();
        assert_eq!(deep, [Some(DEEP_BYTES), Some(DEEP_BYTES), None]);
        queues.remove(0);
        assert_eq!(read(&mut queues[1], 1, fast), Some(DEEP_BYTES), "one has gone");
    }

    #[test]
    fn a_connection_that_is_kept_gives_its_place_back() {
        let places = Arc::new(Semaphore::new(1));
        let mut queue = SendQueue::new(places.clone());
        assert_eq!(queue.sent_other(), None);
        assert_eq!(read(&mut queue, FAST, Duration::ZERO), Some(DEEP_BYTES));
        assert_eq!(queue.sent_other(), Some(MAX_UNSENT_BYTES), "the end of the download");
        assert_eq!(places.available_permits(), 0, "the kernel still has it");
        assert_eq!(queue.sent_other(), None, "a boot script");
        assert_eq!(places.available_permits(), 1);
        assert_eq!(read(&mut queue, FAST - 1, Duration::ZERO), None, "it begins again");
    }

    #[test]
    fn who_never_fills_the_queue_is_fast() {
        let mut queue = SendQueue::new(Arc::new(Semaphore::new(1)));
        let never = || panic!("the clock is not needed");
        assert_eq!(queue.sent(FAST_BYTES, never), Some(DEEP_BYTES));
    }
}
