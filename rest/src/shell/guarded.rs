//! A connection whose client may not be silent for long, nor leave its answers unread.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    meters::Cause,
    pace::{Pace, TooSlow},
    seat::ConnectionSlot,
};

/// A time that is waited for, made when it is needed first.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Is it so late? Otherwise the task is woken when it is, or before, and has to ask again: what
    /// is put off with every request is not set again each time.
    pub(super) fn poll_at(&mut self, at: Instant, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() > at || (sleep.is_elapsed() && sleep.deadline() != at) {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(context)
    }

    pub(super) fn off(&mut self) {
        self.0 = None;
    }
}

/// What is being waited for while nothing is read.
#[derive(Debug, Default)]
struct Silence {
    /// Requests that had begun when the times below were taken.
    begun: u64,
    since: Option<Instant>,
    /// When the first byte of the head came.
    head: Option<Instant>,
}

impl Silence {
    /// What was waited for has come.
    fn forget_what_was(&mut self, seat: &ConnectionSlot) {
        let begun = seat.begun();
        if self.begun != begun {
            *self = Self { begun, ..Self::default() };
        }
    }

    fn received(&mut self, seat: &ConnectionSlot) {
        self.forget_what_was(seat);
        if self.head.is_none() && !seat.may_be_silent() {
            self.head = Some(Instant::now());
        }
    }

    /// The client is reading its answer, or has its own time for that: only what comes later is
    /// silence.
    fn renew(&mut self, now: Instant) {
        self.since = self.since.map(|_| now);
        self.head = self.head.map(|_| now);
    }

    /// When the connection has to end, and for what; `None` while it may be silent.
    fn deadline(&mut self, seat: &ConnectionSlot) -> Option<(Instant, Cause)> {
        self.forget_what_was(seat);
        if seat.may_be_silent() {
            return None;
        }
        let (since, limits) = (*self.since.get_or_insert_with(Instant::now), seat.deadlines());
        Some(match self.head {
            Some(head) => (head + limits.head, Cause::Head),
            // Who connects has something to ask.
            None if self.begun == 0 => (since + limits.head, Cause::Head),
            None => (since + limits.idle, Cause::Idle),
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Guarded<Io> {
    io: Io,
    seat: Arc<ConnectionSlot>,
    silence: Silence,
    silence_alarm: Timer,
    unread: Pace,
    unread_alarm: Timer,
}

impl<Io> Guarded<Io> {
    pub(super) fn new(io: Io, seat: Arc<ConnectionSlot>) -> Self {
        let (silence, silence_alarm) = Default::default();
        let (unread, unread_alarm) = Default::default();
        Self { io, seat, silence, silence_alarm, unread, unread_alarm }
    }

    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // An answer in one part is out of its request's hands at once, and a client on a slow
            // line reads it for hours.
            if self.unread.is_waiting() {
                self.silence.renew(Instant::now());
            }
            // An alarm that was set before may wake the task once for nothing.
            let Some((at, cause)) = self.silence.deadline(&self.seat) else { return Poll::Pending };
            if Instant::now() >= at {
                self.seat.count(cause);
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            ready!(self.silence_alarm.poll_at(at, context));
        }
    }

    /// An answer is out, perhaps: hyper does not read again for that where its last read
    /// found nothing, which was while the request ran and the client could be silent. It does
    /// when it is woken.
    fn expect_more(&mut self, context: &mut Context<'_>) {
        let Some((at, _)) = self.silence.deadline(&self.seat) else { return };
        if self.silence_alarm.poll_at(at, context).is_ready() {
            context.waker().wake_by_ref();
        }
    }

    /// Counts what was written; drops a client that reads nothing, or too little.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match done {
            Poll::Ready(Ok(done)) => {
                let (bytes, now) = (bytes(&done), Instant::now());
                self.unread.moved(bytes, now);
                if bytes > 0 {
                    self.silence.renew(now);
                    self.seat.progress(now);
                }
                Poll::Ready(Ok(done))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(self.poll_unread(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Ready when the client was too slow.
    fn poll_unread(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadlines = self.seat.deadlines();
        let least = if self.seat.is_proven() { deadlines.proven_answer } else { deadlines.answer };
        loop {
            match self.unread.waits(least, Instant::now()) {
                Ok(at) => ready!(self.unread_alarm.poll_at(at, context)),
                Err(TooSlow) => {
                    self.seat.count(Cause::Answer);
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Guarded<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.seat.gate.poll(context));
        let before = buffer.filled().len();
        match Pin::new(&mut this.io).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                let bytes = buffer.filled().len() - before;
                this.seat.gate.read(bytes);
                if bytes > 0 {
                    this.silence.received(&this.seat);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_silence(context),
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Guarded<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        part: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.io).poll_write(context, part);
        this.written(context, done, |bytes| *bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.io).poll_write_vectored(context, parts);
        this.written(context, done, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.io).poll_flush(context);
        if matches!(done, Poll::Ready(Ok(()))) {
            this.seat.flushed();
        }
        let flushed = this.written(context, done, |()| 0);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            this.expect_more(context);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.io).poll_shutdown(context);
        this.written(context, done, |()| 0)
    }
}
