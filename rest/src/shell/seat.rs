//! One open connection: its place in the book, and what its parts tell each other of it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use tokio::{sync::Notify, time::Instant};

use super::{
    Deadlines, Inner, Listener,
    book::{Id, Now, Phase, Source},
    meters::{Cause, Last},
};

/// Both ends of a connection, as `ConnectInfo<Peer>` of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Address of the client.
    pub remote: SocketAddr,
    /// Address that the client connected to, so one that it can reach.
    pub local: SocketAddr,
}

/// Who is at the other end; in the extensions of every request that came through a
/// [`Shell`](super::Shell).
#[derive(Debug, Clone)]
pub struct Client {
    /// Addresses of both ends of the connection.
    pub peer: Peer,
    /// The certificate that the client showed, DER. It was good when the connection began.
    pub certificate: Option<Arc<[u8]>>,
    pub(super) seat: Arc<ConnectionSlot>,
}

impl Client {
    /// It has shown who it is: from now on it is not counted by its address, is not ended for
    /// others, and may take the time that requests with proof may.
    pub fn prove(&self) {
        self.seat.prove();
    }

    /// When the connection was accepted, before its handshake.
    #[must_use]
    pub fn accepted(&self) -> std::time::Instant {
        self.seat.accepted.into_std()
    }

    /// Lets no more than about so many bytes (a read more at most) be read from the connection,
    /// until what is returned is dropped: what a message may be before its sender is known to speak
    /// the protocol.
    #[must_use]
    pub fn read_at_most(&self, bytes: u64) -> ReadGate {
        self.seat.gate.close(bytes);
        ReadGate(self.seat.clone())
    }
}

/// Bounds what is read from a connection for as long as it lives.
#[derive(Debug)]
pub struct ReadGate(Arc<ConnectionSlot>);

impl ReadGate {
    /// Returns when all bytes were read that may be, and more are asked for.
    pub async fn reached(&self) {
        self.0.gate.reached.notified().await;
    }
}

impl Drop for ReadGate {
    fn drop(&mut self) {
        self.0.gate.open();
    }
}

/// Holds reads back. Open at first.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Connections without it pay one load per read.
    closed: AtomicBool,
    state: Mutex<GateState>,
    reached: Notify,
}

#[derive(Debug, Default)]
struct GateState {
    left: u64,
    reader: Option<Waker>,
}

impl Gate {
    fn close(&self, bytes: u64) {
        self.lock().left = bytes;
        self.closed.store(true, Relaxed);
    }

    fn open(&self) {
        self.closed.store(false, Relaxed);
        if let Some(reader) = self.lock().reader.take() {
            reader.wake();
        }
    }

    /// Waits while nothing may be read.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.closed.load(Relaxed) {
            return Poll::Ready(());
        }
        let mut state = self.lock();
        if state.left > 0 {
            return Poll::Ready(());
        }
        state.reader = Some(context.waker().clone());
        drop(state);
        self.reached.notify_one();
        // It may have been opened between the two looks.
        if self.closed.load(Relaxed) { Poll::Pending } else { Poll::Ready(()) }
    }

    pub(super) fn read(&self, bytes: usize) {
        if self.closed.load(Relaxed) {
            let mut state = self.lock();
            state.left = state.left.saturating_sub(bytes as u64);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, GateState> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place. It is given up when the last of its parts is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    shell: Arc<Inner>,
    id: Id,
    listener: Listener,
    address: IpAddr,
    kick: Arc<Notify>,
    /// What the book is told when it needs to know.
    now: Arc<Now>,
    accepted: Instant,
    proven: AtomicBool,
    upgraded: AtomicBool,
    /// Requests that began, and of them those whose answers have ended.
    begun: AtomicU64,
    ended: AtomicU64,
    /// The kernel may not have taken all of the answer yet whose request has ended.
    unflushed: AtomicBool,
    /// Second of the shell's life in which progress was written into the book last.
    noted: AtomicU64,
    pub(super) gate: Gate,
}

impl ConnectionSlot {
    pub(super) fn new(
        shell: Arc<Inner>,
        (id, kick, now): (Id, Arc<Notify>, Arc<Now>),
        listener: Listener,
        address: IpAddr,
    ) -> Self {
        Self {
            shell,
            id,
            listener,
            address,
            kick,
            now,
            accepted: Instant::now(),
            proven: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            unflushed: AtomicBool::new(false),
            noted: AtomicU64::new(0),
            gate: Gate::default(),
        }
    }

    pub(super) fn deadlines(&self) -> &Deadlines {
        &self.shell.limits.deadlines
    }

    pub(super) fn shell(&self) -> &Inner {
        &self.shell
    }

    /// Who its client is counted with.
    pub(super) fn source(&self) -> Source {
        Source::of(self.address)
    }

    /// Returns when the connection has to end for another one.
    pub(super) async fn kicked(&self) {
        self.kick.notified().await;
    }

    pub(super) fn prove(&self) {
        if !self.proven.swap(true, Relaxed) {
            self.shell.book().prove(self.id);
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Relaxed)
    }

    /// It carries a WebSocket from now on, whose two ends say by messages that they live.
    pub(super) fn upgraded(&self) {
        self.upgraded.store(true, Relaxed);
    }

    /// May it be silent for as long as it likes?
    pub(super) fn may_be_silent(&self) -> bool {
        self.is_running() || (self.upgraded.load(Relaxed) && self.is_proven())
    }

    /// Requests that have begun since the connection did.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    fn is_running(&self) -> bool {
        self.begun.load(Relaxed) != self.ended.load(Relaxed)
    }

    /// The kernel has taken everything that was written. An answer in one part is out of its
    /// request's hands long before that.
    pub(super) fn flushed(&self) {
        if self.unflushed.load(Relaxed) && self.unflushed.swap(false, Relaxed) && !self.is_running()
        {
            self.set_phase(Phase::Waiting);
        }
    }

    /// A request begins. Its answer has ended when what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Running {
        self.begun.fetch_add(1, Relaxed);
        self.set_phase(Phase::Busy);
        Running(self.clone())
    }

    /// Bytes of a request or an answer moved.
    pub(super) fn progress(&self, now: Instant) {
        let busy = self.is_running() || self.unflushed.load(Relaxed);
        if self.is_proven() || !busy {
            return;
        }
        // The book is everybody's: once a second is enough to know who stands still.
        let second = now.saturating_duration_since(self.shell.started).as_secs();
        if self.noted.swap(second, Relaxed) != second {
            self.shell.book().set_phase(self.id, Phase::Busy, now);
        }
    }

    /// The connection ends for this cause.
    pub(super) fn count(&self, cause: Cause) {
        let last = Last { client: Some(self.address), error: None };
        self.shell.meters.count(self.listener, cause, last, Instant::now());
    }

    /// What is below HTTP could not be opened.
    pub(super) fn count_handshake(&self, error: &io::Error) {
        let last = Last { client: Some(self.address), error: Some(error) };
        self.shell.meters.count(self.listener, Cause::Handshake, last, Instant::now());
    }

    fn set_phase(&self, phase: Phase) {
        let now = Instant::now();
        if !self.is_proven() && !self.now.note(phase, now) {
            self.shell.book().set_phase(self.id, phase, now);
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.shell.book().leave(self.id);
    }
}

/// A request that is answered.
#[derive(Debug)]
pub(super) struct Running(Arc<ConnectionSlot>);

impl Drop for Running {
    fn drop(&mut self) {
        // It stays busy in the book until the answer is flushed as well.
        self.0.unflushed.store(true, Relaxed);
        self.0.ended.fetch_add(1, Relaxed);
    }
}
