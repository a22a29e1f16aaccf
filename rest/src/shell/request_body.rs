//! The body of a request: it must come fast enough, and all bodies together have a budget of bytes.
//!
//! Bytes are charged when they come, to the budget of clients with or without proof, and given back
//! when the part that they came in is dropped: as they are written to a file, or when a route has
//! the whole body and begins with it. So what is declared costs nothing, and what is held is
//! counted.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    guarded::Alarm,
    meters::Cause,
    pace::{Pace, TooSlow},
    seat::Seat,
};

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

/// Bytes of bodies that are in memory.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: Arc<Semaphore>,
    /// No part is charged more: one that is larger than everything must come through too.
    all: u32,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let all = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        Self { bytes: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Bytes that are charged now.
    pub(super) fn used(&self) -> u64 {
        u64::from(self.all).saturating_sub(self.bytes.available_permits() as u64)
    }

    fn price(&self, part: &Bytes) -> u32 {
        u32::try_from(part.len()).unwrap_or(u32::MAX).min(self.all)
    }
}

/// A part of a body, and its place in the budget.
struct Charged {
    part: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

/// A part that waits for room.
struct Waiting {
    part: Bytes,
    permit: Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>,
}

/// See the module.
pub(super) struct RequestBody {
    body: Incoming,
    seat: Arc<Seat>,
    pace: Pace,
    alarm: Alarm,
    waiting: Option<Waiting>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, seat: Arc<Seat>) -> Self {
        Self { body, seat, pace: Pace::default(), alarm: Alarm::default(), waiting: None }
    }

    /// Takes a part into the budget; at once, if there is room.
    fn charge(&mut self, part: Bytes) -> Option<Bytes> {
        let budget = self.seat.shell().budget(self.seat.is_proven());
        let price = budget.price(&part);
        match budget.bytes.clone().try_acquire_many_owned(price) {
            Ok(permit) => Some(Bytes::from_owner(Charged { part, _permit: permit })),
            Err(_) => {
                let acquiring = budget.bytes.clone().acquire_many_owned(price);
                let permit = Box::pin(async move { acquiring.await.ok() });
                self.waiting = Some(Waiting { part, permit });
                None
            }
        }
    }

    /// Ready when that was waited for too long.
    fn poll_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadlines = self.seat.deadlines();
        let least = if self.seat.is_proven() { deadlines.proven_body } else { deadlines.body };
        loop {
            match self.pace.waits(least, Instant::now()) {
                Ok(at) => ready!(self.alarm.poll_at(at, context)),
                Err(TooSlow) => return Poll::Ready(()),
            }
        }
    }

    fn fail(&self, cause: Cause, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.seat.count(cause);
        Poll::Ready(Some(Err(error)))
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            if let Some(waiting) = &mut this.waiting {
                let Poll::Ready(permit) = waiting.permit.as_mut().poll(context) else {
                    ready!(this.poll_slow(context));
                    return this.fail(Cause::BodyBudget, BodyError::NoRoom);
                };
                if let (Some(waiting), Some(permit)) = (this.waiting.take(), permit) {
                    this.pace.moved(0, Instant::now());
                    let part = Bytes::from_owner(Charged { part: waiting.part, _permit: permit });
                    return Poll::Ready(Some(Ok(Frame::data(part))));
                }
            }
            let frame = match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(BodyError::Broken(error)))),
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
            if let Some(part) = this.charge(part) {
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let waiting = self.waiting.as_ref().map_or(0, |waiting| waiting.part.len() as u64);
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + waiting);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + waiting);
        }
        hint
    }
}
