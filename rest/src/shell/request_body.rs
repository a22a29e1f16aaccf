//! The body of a request: it must come fast enough, and all bodies together have a budget of bytes.
//!
//! A body is charged once, before its first byte is read, and waits for that in turn: what has
//! begun never waits for room, so everything that has begun ends, at its least speed at the latest.
//! What is declared is charged; where nothing is, or more than any route collects of such a client,
//! that is a `WINDOW` (such bodies are written to a file part by part, or refused), and of
//! strangers as much as a route takes of them. One that has more in memory than its charge gets it
//! if there is room at once, and is refused otherwise. All is given back when the last part is
//! dropped: as it is written, or when a route has the whole body and begins with it.
//!
//! A stranger's address has a quarter of their budget at most: who trickles there keeps out nobody
//! elsewhere. Who is proven is not counted by address: a rack of nodes may be behind one. As a
//! large body that waits keeps out all that came after it, small ones of the proven have a part of
//! the budget to themselves.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    Limits,
    book::Source,
    guarded::Timer,
    meters::Cause,
    pace::{LeastSpeed, Pace, TooSlow},
    seat::ConnectionSlot,
};

/// The largest body that a route collects, bytes: two documents of 16 MiB. What declares more is
/// written to a file, or refused.
const MAX_COLLECTED_BYTES: u64 = 32 << 20;

/// How long a proven client may let the server wait for such a body. It is charged as a whole until
/// its last byte has come: 32 MiB at 1 KiB/s would be held for nine hours.
const COLLECTED_WITHIN: Duration = Duration::from_secs(600);

/// What is charged for others, bytes: some parts as they are read from a connection. An upload may
/// take hours, so that more than a thousand must fit.
const WINDOW: u64 = 128 << 10;

/// The largest body that a route takes of a stranger, bytes: an enrolment. One that declares more
/// or nothing is charged this, and refused when more comes.
const MAX_UNPROVEN_BYTES: u64 = 16 << 10;

/// The largest body of a proven client that waits for no larger one, bytes: reports, certificates
/// to renew, commands.
const SMALL_BYTES: u64 = 64 << 10;

/// Of the budget of the proven, the part for those.
const SMALL_PART: usize = 8;

/// Of the budget of strangers, what one address may have at once.
const UNPROVEN_SHARES: u32 = 4;

/// Sources without bodies are forgotten when there are more than twice as many as with some, and
/// than this.
const LEAST_FORGOTTEN: usize = 64;

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body of the request comes too slowly")]
    TooSlow,
    #[error("the server receives too many bodies of requests at once; try again")]
    NoRoom,
    #[error("the body of the request cannot be received")]
    Broken(#[source] hyper::Error),
}

/// Whether a body could not be read because the server had no room for it: an extractor says that
/// the request is bad, whatever the cause.
pub(crate) fn found_no_room(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(|error| matches!(error.downcast_ref(), Some(BodyError::NoRoom)))
}

/// Bytes of bodies that are in memory, of all listeners.
#[derive(Debug)]
pub(super) struct Budgets {
    proven: Budget,
    small: Budget,
    unproven: Budget,
}

impl Budgets {
    pub(super) fn new(limits: &Limits) -> Self {
        let small = limits.body_bytes / SMALL_PART;
        Self {
            proven: Budget::new(limits.body_bytes - small, 1),
            small: Budget::new(small, 1),
            unproven: Budget::new(limits.unproven_body_bytes, UNPROVEN_SHARES),
        }
    }

    /// Where a body of which so many bytes are charged finds its place.
    pub(super) fn of(&self, proven: bool, bytes: u64) -> &Budget {
        match proven {
            true if bytes <= SMALL_BYTES => &self.small,
            true => &self.proven,
            false => &self.unproven,
        }
    }

    /// Bytes that are charged now.
    pub(super) fn used(&self, proven: bool) -> u64 {
        if proven { self.proven.used() + self.small.used() } else { self.unproven.used() }
    }
}

/// Bytes that are given out in turn.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
    /// No body is charged more: one that is larger than everything must come through too.
    all: u32,
    /// One source has one of so many parts of all at most; with 1 they are not told apart.
    shares: u32,
    /// What is left to each source that has bodies.
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    shares: HashMap<Source, Weak<Semaphore>>,
    /// When there are so many, those without bodies are forgotten.
    most: usize,
}

/// What one body or part has of the budget. Its source's share is taken first: who waits for the
/// rest keeps nobody waiting but its own.
#[derive(Debug)]
pub(super) struct Permit {
    _of_source: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

impl Budget {
    pub(super) fn new(bytes: usize, shares: u32) -> Self {
        let all = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        let (bytes, shares) = (Arc::new(Semaphore::new(all as usize)), shares.max(1));
        Self { bytes, all, shares, sources: Mutex::default() }
    }

    /// Bytes that are charged now.
    pub(super) fn used(&self) -> u64 {
        u64::from(self.all).saturating_sub(self.bytes.available_permits() as u64)
    }

    /// What one source may have at once.
    fn share(&self) -> u32 {
        (self.all / self.shares).max(1)
    }

    /// Of so many bytes, what its source and what all are charged.
    fn prices(&self, bytes: u64) -> (u32, u32) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        (bytes.min(self.share()), bytes.min(self.all))
    }

    /// Waits for so many bytes.
    pub(super) fn acquire(&self, source: Source, bytes: u64) -> Acquiring {
        let (of_source, of_all) = self.prices(bytes);
        let (share, all) = (self.share_of(source), self.bytes.clone());
        Box::pin(async move {
            // Nobody closes them.
            let of_source = match share {
                Some(share) => Some(share.acquire_many_owned(of_source).await.ok()?),
                None => None,
            };
            let of_all = all.acquire_many_owned(of_all).await.ok()?;
            Some(Permit { _of_source: of_source, _of_all: of_all })
        })
    }

    /// So many bytes, if there is room now.
    pub(super) fn try_acquire(&self, source: Source, bytes: u64) -> Option<Permit> {
        let (of_source, of_all) = self.prices(bytes);
        let of_source = match self.share_of(source) {
            Some(share) => Some(share.try_acquire_many_owned(of_source).ok()?),
            None => None,
        };
        let of_all = self.bytes.clone().try_acquire_many_owned(of_all).ok()?;
        Some(Permit { _of_source: of_source, _of_all: of_all })
    }

    /// `None` where sources are not told apart.
    fn share_of(&self, source: Source) -> Option<Arc<Semaphore>> {
        if self.shares == 1 {
            return None;
        }
        // Nothing panics while it is held.
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = sources.shares.get(&source).and_then(Weak::upgrade) {
            return Some(share);
        }
        if sources.shares.len() >= sources.most {
            sources.shares.retain(|_, share| share.strong_count() > 0);
            sources.most = (2 * sources.shares.len()).max(LEAST_FORGOTTEN);
        }
        let share = Arc::new(Semaphore::new(self.share() as usize));
        sources.shares.insert(source, Arc::downgrade(&share));
        Some(share)
    }
}

type Acquiring = Pin<Box<dyn Future<Output = Option<Permit>> + Send>>;

/// What a body was charged, shared by its parts.
#[derive(Debug)]
struct Charge {
    _permit: Permit,
    /// What it covers.
    bytes: u64,
    /// Of that, parts that are in memory.
    held: AtomicU64,
}

/// A part of a body, and its place in the budget.
struct Charged {
    part: Bytes,
    charge: Arc<Charge>,
    /// Its own permit, where the body's does not cover it.
    beyond: Option<Permit>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        if self.beyond.is_none() {
            self.charge.held.fetch_sub(self.part.len() as u64, Relaxed);
        }
    }
}

/// How far a body is.
enum State {
    /// Nothing of it was asked for.
    Unread,
    /// It waits for so many bytes since then.
    Waits(Acquiring, u64, Instant),
    Comes(Arc<Charge>),
}

/// Set when a body found no room, which is the server's failure and not its client's.
pub(super) type NoRoom = Arc<AtomicBool>;

/// See the module.
pub(super) struct RequestBody {
    body: Incoming,
    seat: Arc<ConnectionSlot>,
    /// What it declares, if a route may collect that.
    whole: Option<u64>,
    state: State,
    pace: Pace,
    alarm: Timer,
    no_room: NoRoom,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, seat: Arc<ConnectionSlot>, no_room: NoRoom) -> Self {
        let whole = body.size_hint().exact().filter(|bytes| *bytes <= MAX_COLLECTED_BYTES);
        let (pace, alarm) = Default::default();
        Self { body, seat, whole, state: State::Unread, pace, alarm, no_room }
    }

    /// Waits for its place in the budget; `None` if there was none for too long.
    fn poll_charge(&mut self, context: &mut Context<'_>) -> Poll<Option<Arc<Charge>>> {
        loop {
            match &mut self.state {
                State::Comes(charge) => return Poll::Ready(Some(charge.clone())),
                State::Unread => {
                    let proven = self.seat.is_proven();
                    // Strangers declare what they like, and no route collects much of them.
                    self.whole = self.whole.filter(|bytes| proven || *bytes <= MAX_UNPROVEN_BYTES);
                    let bytes =
                        self.whole.unwrap_or(if proven { WINDOW } else { MAX_UNPROVEN_BYTES });
                    let budget = self.seat.shell().bodies.of(proven, bytes);
                    let acquiring = budget.acquire(self.seat.source(), bytes);
                    self.state = State::Waits(acquiring, bytes, Instant::now());
                }
                State::Waits(acquiring, bytes, since) => match acquiring.as_mut().poll(context) {
                    Poll::Ready(Some(permit)) => {
                        let bytes = *bytes;
                        let held = AtomicU64::new(0);
                        self.state =
                            State::Comes(Arc::new(Charge { _permit: permit, bytes, held }));
                        self.alarm.off();
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => {
                        let until = *since + self.seat.deadlines().body_room;
                        while Instant::now() < until {
                            ready!(self.alarm.poll_at(until, context));
                        }
                        return Poll::Ready(None);
                    }
                },
            }
        }
    }

    /// Takes a part into what is charged, or the budget; never waits.
    fn take(&self, charge: Arc<Charge>, part: Bytes) -> Option<Bytes> {
        let bytes = part.len() as u64;
        let held = charge.held.fetch_add(bytes, Relaxed);
        let beyond = if held + bytes <= charge.bytes {
            None
        } else {
            charge.held.fetch_sub(bytes, Relaxed);
            let budget = self.seat.shell().bodies.of(self.seat.is_proven(), charge.bytes);
            Some(budget.try_acquire(self.seat.source(), bytes)?)
        };
        Some(Bytes::from_owner(Charged { part, charge, beyond }))
    }

    /// Ready when that was waited for too long.
    fn poll_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadlines = self.seat.deadlines();
        let least = match (self.seat.is_proven(), self.whole) {
            (false, _) => deadlines.body,
            (true, Some(bytes)) => with_end(deadlines.proven_body, bytes),
            (true, None) => deadlines.proven_stream,
        };
        loop {
            match self.pace.waits(least, Instant::now()) {
                Ok(at) => ready!(self.alarm.poll_at(at, context)),
                Err(TooSlow) => return Poll::Ready(()),
            }
        }
    }

    fn fail(
        &self,
        cause: Cause,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if matches!(error, BodyError::NoRoom) {
            self.no_room.store(true, Relaxed);
        }
        self.seat.count(cause);
        Poll::Ready(Some(Err(error)))
    }
}

/// As fast at least as a body of so many bytes needs that comes within [`COLLECTED_WITHIN`].
fn with_end(least: LeastSpeed, bytes: u64) -> LeastSpeed {
    let part = u128::from(bytes) * least.window.as_millis();
    let part = u64::try_from(part.div_ceil(COLLECTED_WITHIN.as_millis())).unwrap_or(u64::MAX);
    LeastSpeed { window: least.window, bytes: least.bytes.max(part) }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.body.is_end_stream() {
            return Poll::Ready(None);
        }
        let Some(charge) = ready!(this.poll_charge(context)) else {
            return this.fail(Cause::BodyBudget, BodyError::NoRoom);
        };
        let frame = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => {
                return Poll::Ready(Some(Err(BodyError::Broken(error))));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                ready!(this.poll_slow(context));
                return this.fail(Cause::Body, BodyError::TooSlow);
            }
        };
        let part = match frame.into_data() {
            Ok(part) => part,
            Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
        };
        let now = Instant::now();
        this.pace.moved(part.len(), now);
        this.seat.progress(now);
        match this.take(charge, part) {
            Some(part) => Poll::Ready(Some(Ok(Frame::data(part)))),
            None => this.fail(Cause::BodyBudget, BodyError::NoRoom),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::Deadlines;

    #[test]
    fn a_body_that_is_collected_has_an_end_however_large_it_is() {
        let least = Deadlines::default().proven_body;
        for bytes in [1, 600 << 10, 1 << 20, MAX_COLLECTED_BYTES] {
            let faster = with_end(least, bytes);
            assert_eq!(faster.window, least.window);
            assert!(faster.bytes >= least.bytes, "{bytes}: {faster:?}");
            let windows = u32::try_from(bytes.div_ceil(faster.bytes)).unwrap();
            assert!(faster.window * windows <= COLLECTED_WITHIN, "{bytes}: {faster:?}");
        }
        assert_eq!(with_end(least, 600 << 10), least, "small ones are not hurried");
    }

    /// Ends at once.
    struct Ending(Option<BodyError>);

    impl HttpBody for Ending {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.get_mut().0.take().map(Err))
        }
    }

    /// What stands between the listener and the route sees what the client is told: the
    /// audit log does.
    #[tokio::test]
    async fn a_route_says_itself_that_there_is_no_room() {
        use axum::{extract::FromRequest as _, response::IntoResponse as _};
        for (error, status) in [(BodyError::NoRoom, 503), (BodyError::TooSlow, 400)] {
            let mut request =
                axum::extract::Request::new(axum::body::Body::new(Ending(Some(error))));
            let json = "application/json".parse().unwrap();
            request.headers_mut().insert(axum::http::header::CONTENT_TYPE, json);
            let read = crate::Body::<serde_json::Value>::from_request(request, &()).await;
            assert_eq!(read.unwrap_err().into_response().status(), status);
        }
    }
}
