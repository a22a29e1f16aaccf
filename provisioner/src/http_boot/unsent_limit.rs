//! Decides how much of a blob the kernel may hold that it cannot send yet (the send queue of one
//! connection). It holds no bytes itself. Pure: the time is an argument.
//!
//! The server is woken to send more when half of a queue has been sent. With a deep queue this
//! happens so much more rarely that each byte to a fast client costs the server half as much. But
//! what the kernel holds for clients that do not read is memory that no limit of ours knows, and a
//! client that reads slowly seems to make no progress while a deep queue empties. So only clients
//! that read fast get a deep queue, and only [`MAX_DEEP`] of them at a time.
//!
//! | queue | becomes |
//! |---|---|
//! | shallow: [`DEFAULT_UNSENT_BYTES`], which the shell gives to all | deep, after [`FAST_BYTES`] without a wait of [`SHORT_WAIT`], if a permit is free |
//! | deep: [`DEEP_BYTES`] | draining, after a wait of [`LONG_WAIT`] or when something else than a blob is sent: the download is over |
//! | draining: shallow for what comes next, while the deep queue empties | shallow, as soon as more can be sent, since less than a shallow queue is left then |

use std::{sync::Arc, time::Duration};

use rest::shell::DEFAULT_UNSENT_BYTES;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Limit of a deep queue, bytes: all that the kernel gives to one connection by itself (`tcp_wmem`,
/// tcp(7)).
pub(super) const DEEP_BYTES: u32 = 4 << 20;

/// Deep queues at a time: 256 MiB in all. Where more clients are served, each of them is slower.
pub(crate) const MAX_DEEP: usize = 64;

/// A client that has read so many bytes fast is likely to go on.
const FAST_BYTES: usize = 1 << 20;

/// A client that takes nothing for so long is not fast: at 10 Mbit/s, half of a shallow queue is
/// sent in this time.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// A client with a deep queue that takes nothing for so long is no longer fast. Longer than
/// [`SHORT_WAIT`], because half of a deep queue takes longer to send.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// The limit of one connection: how deep its send queue may be now. See the module.
#[derive(Debug)]
pub(super) struct UnsentLimit {
    permits: Arc<Semaphore>,
    depth: Depth,
    /// Since when the kernel takes no more bytes; `None` while it does.
    waits: Option<Instant>,
    /// Bytes that the client has read since its last wait of [`SHORT_WAIT`].
    fast_bytes: usize,
}

#[derive(Debug)]
enum Depth {
    Shallow,
    Deep(OwnedSemaphorePermit),
    /// Its permit is given back when the queue has emptied.
    Draining(OwnedSemaphorePermit),
}

impl UnsentLimit {
    /// That of a new connection: shallow. `permits`: those of all connections, [`MAX_DEEP`].
    pub(super) fn new(permits: Arc<Semaphore>) -> Self {
        Self { permits, depth: Depth::Shallow, waits: None, fast_bytes: 0 }
    }

    /// The kernel takes no more bytes of this connection now.
    pub(super) fn is_full(&mut self, now: Instant) {
        self.waits.get_or_insert(now);
    }

    /// The kernel has taken so many bytes of a blob. Returns the new limit, bytes, if it changes.
    /// `now` is called only if the kernel took none before.
    #[must_use]
    pub(super) fn sent(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> Option<u32> {
        let waited = self.waits.take().map(|since| now().saturating_duration_since(since));
        let waited = waited.unwrap_or_default();
        match std::mem::replace(&mut self.depth, Depth::Shallow) {
            Depth::Deep(permit) if waited >= LONG_WAIT => {
                self.depth = Depth::Draining(permit);
                self.fast_bytes = 0;
                return Some(DEFAULT_UNSENT_BYTES);
            }
            Depth::Deep(permit) => self.depth = Depth::Deep(permit),
            // Less is left than a shallow queue may hold: otherwise nothing could have been sent.
            Depth::Draining(permit) => drop(permit),
            Depth::Shallow if waited >= SHORT_WAIT => self.fast_bytes = 0,
            Depth::Shallow => {
                self.fast_bytes = self.fast_bytes.saturating_add(bytes);
                if self.fast_bytes >= FAST_BYTES
                    && let Ok(permit) = self.permits.clone().try_acquire_owned()
                {
                    self.depth = Depth::Deep(permit);
                    return Some(DEEP_BYTES);
                }
            }
        }
        None
    }

    /// The kernel has taken something else than a blob: the head of a response, a small response,
    /// or the rest of a blob. Returns the new limit, bytes, if it changes.
    #[must_use]
    pub(super) fn sent_other(&mut self) -> Option<u32> {
        (self.waits, self.fast_bytes) = (None, 0);
        match std::mem::replace(&mut self.depth, Depth::Shallow) {
            Depth::Deep(permit) => {
                self.depth = Depth::Draining(permit);
                Some(DEFAULT_UNSENT_BYTES)
            }
            Depth::Draining(permit) => {
                drop(permit);
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
    fn read(limit: &mut UnsentLimit, parts: usize, wait: Duration) -> Option<u32> {
        let start = Instant::now();
        let sent = (0..parts).map(|_| {
            limit.is_full(start);
            // A second look finds it as full.
            limit.is_full(start + wait / 2);
            limit.sent(PART, || start + wait)
        });
        sent.fold(None, |before, change| change.or(before))
    }

    #[test]
    fn who_reads_fast_has_a_deep_queue_until_it_is_slow() {
        let permits = Arc::new(Semaphore::new(1));
        let mut limit = UnsentLimit::new(permits.clone());
        let (fast, slow) = (Duration::from_millis(5), Duration::from_millis(300));
        assert_eq!(read(&mut limit, FAST - 1, fast), None);
        assert_eq!(read(&mut limit, 1, slow), None, "it begins again");
        assert_eq!(read(&mut limit, FAST - 1, fast), None);
        assert_eq!(read(&mut limit, 1, fast), Some(DEEP_BYTES));
        assert_eq!(read(&mut limit, 100, slow), None, "more is sent at once");
        assert_eq!(read(&mut limit, 1, LONG_WAIT), Some(DEFAULT_UNSENT_BYTES));
        assert_eq!(permits.available_permits(), 0, "the kernel still has it");
        assert_eq!(read(&mut limit, 1, LONG_WAIT), None);
        assert_eq!(permits.available_permits(), 1);
        assert_eq!(read(&mut limit, FAST, fast), Some(DEEP_BYTES));
    }

    #[test]
    fn no_more_than_there_are_permits_for_have_deep_queues() {
        let permits = Arc::new(Semaphore::new(2));
        let fast = Duration::ZERO;
        let mut limits: Vec<_> = (0..3).map(|_| UnsentLimit::new(permits.clone())).collect();
        let deep: Vec<_> = limits.iter_mut().map(|limit| read(limit, FAST + 4, fast)).collect();
        assert_eq!(deep, [Some(DEEP_BYTES), Some(DEEP_BYTES), None]);
        limits.remove(0);
        assert_eq!(read(&mut limits[1], 1, fast), Some(DEEP_BYTES), "one has gone");
    }

    #[test]
    fn a_connection_that_is_kept_gives_its_place_back() {
        let permits = Arc::new(Semaphore::new(1));
        let mut limit = UnsentLimit::new(permits.clone());
        assert_eq!(limit.sent_other(), None);
        assert_eq!(read(&mut limit, FAST, Duration::ZERO), Some(DEEP_BYTES));
        assert_eq!(limit.sent_other(), Some(DEFAULT_UNSENT_BYTES), "the end of the download");
        assert_eq!(permits.available_permits(), 0, "the kernel still has it");
        assert_eq!(limit.sent_other(), None, "a boot script");
        assert_eq!(permits.available_permits(), 1);
        assert_eq!(read(&mut limit, FAST - 1, Duration::ZERO), None, "it begins again");
    }

    #[test]
    fn who_never_fills_the_queue_is_fast() {
        let mut limit = UnsentLimit::new(Arc::new(Semaphore::new(1)));
        let never = || panic!("the clock is not needed");
        assert_eq!(limit.sent(FAST_BYTES, never), Some(DEEP_BYTES));
    }
}
