//! One shell for all TCP listeners of the server: who may connect, and how long everything may
//! take.
//!
//! Every connection that is let in has a place in one book (`book`). Strangers have limited places,
//! by address, by listener and in all, and whoever has been silent longest goes when there are no
//! more. At the boot port, where all are strangers, one address may have whatever is free. Who has
//! shown a certificate or a token ([`Client::prove`]) is counted in all alone. Each step has a
//! deadline ([`Deadlines`]): handshake, head, body, answer, silence.
//!
//! HTTP/1.1 is spoken and nothing else. HTTP/2 would bring limits of its own to every listener
//! (streams, header tables, resets, windows, pings: RFC 9113, section 10.5), and nobody needs it
//! here: firmware and iPXE cannot speak it, agents and command line use one connection for a stream
//! and pool others. By ALPN only `http/1.1` is agreed; HTTP/2's preface is a bad request.
//!
//! Invariants: nothing of a client is waited for without a deadline, but by who is proven and has a
//! request running; no client makes another wait for a descriptor, but a proven one.

mod accept;
mod book;
mod guarded;
mod limits;
mod meters;
mod pace;
mod request_body;
mod seat;
mod serve;
mod transport;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use metrics::Exposition;
use tokio::time::Instant;

pub use book::Source;
pub use limits::{Deadlines, Limits};
pub use pace::LeastSpeed;
pub(crate) use request_body::found_no_room;
pub use seat::{Client, Peer, ReadGate};
pub use serve::{DEFAULT_UNSENT_BYTES, limit_unsent};
pub use transport::{Opened, Tls, Transport};

use book::ConnectionTable;
use meters::{Cause, Last, Meters};
use request_body::Budgets;
use seat::ConnectionSlot;

/// A listener of the server, as metrics and log name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listener {
    /// The REST port.
    Api,
    /// The fleet port.
    Fleet,
    /// The port of HTTP boot.
    Boot,
}

impl Listener {
    pub(crate) const ALL: [Self; 3] = [Self::Api, Self::Fleet, Self::Boot];

    /// Its name in metrics and logs: `api`, `fleet` or `boot`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Fleet => "fleet",
            Self::Boot => "boot",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// See the module. Clones share everything; one server has one.
#[derive(Debug, Clone)]
pub struct Shell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    started: Instant,
    book: Mutex<ConnectionTable>,
    meters: Meters,
    bodies: Budgets,
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, ConnectionTable> {
        // Nothing panics while it is held.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shell {
    /// With these limits, for all listeners together.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let started = Instant::now();
        Self(Arc::new(Inner {
            limits,
            started,
            book: Mutex::new(ConnectionTable::new(limits, started)),
            meters: Meters::default(),
            bodies: Budgets::new(&limits),
        }))
    }

    /// Open connections of a listener.
    #[must_use]
    pub fn open(&self, listener: Listener) -> usize {
        self.0.book().open(listener).0
    }

    /// Writes what is told of connections.
    pub fn expose(&self, out: &mut Exposition) {
        let help = "Open connections by listener, of clients that have shown a certificate or token and others.";
        let mut open = out.gauge("bedplate_connections", help);
        for listener in Listener::ALL {
            let (all, proven) = self.0.book().open(listener);
            for (proof, count) in [("proven", proven), ("unproven", all - proven)] {
                open.sample(&[("listener", listener.name()), ("client", proof)], count);
            }
        }
        let help = "Connections that may be open, in all and without certificate or token.";
        let mut most = out.gauge("bedplate_connections_max", help);
        let Limits { connections, unproven, .. } = self.0.limits;
        for (proof, count) in [("any", connections), ("unproven", unproven)] {
            most.sample(&[("client", proof)], count);
        }
        self.0.meters.expose(out);
        let help = "Bytes of request bodies that are being received.";
        let mut bodies = out.gauge("bedplate_request_body_bytes", help);
        for (label, proven) in [("proven", true), ("unproven", false)] {
            bodies.sample(&[("client", label)], self.0.bodies.used(proven));
        }
    }

    /// Lets a connection in, or counts why not.
    fn enter(&self, listener: Listener, remote: SocketAddr) -> Option<ConnectionSlot> {
        let (address, now) = (remote.ip().to_canonical(), Instant::now());
        let entered = self.0.book().enter(listener, Source::of(address), now);
        match entered {
            Ok(entered) => {
                for of in entered.evicted {
                    self.0.meters.count(of, Cause::Evicted, Last::default(), now);
                }
                Some(ConnectionSlot::new(
                    self.0.clone(),
                    (entered.id, entered.kick, entered.now),
                    listener,
                    address,
                ))
            }
            Err(cause) => {
                self.0.meters.count(
                    listener,
                    cause,
                    Last { client: Some(address), error: None },
                    now,
                );
                None
            }
        }
    }

    /// Ends so many connections that are worth least.
    fn evict(&self, count: usize) {
        let now = Instant::now();
        for _ in 0..count {
            let Some(of) = self.0.book().evict_any(now) else { return };
            self.0.meters.count(of, Cause::Evicted, Last::default(), now);
        }
    }
}

#[cfg(test)]
mod tests;
