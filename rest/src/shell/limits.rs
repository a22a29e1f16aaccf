//! What strangers and known clients may use of a server, and how long they may take.

use std::time::Duration;

use super::{Listener, pace::LeastSpeed};

/// Descriptors that are kept for what is no connection: 4,096 transfers by TFTP, the database,
/// blobs, logs, pulls. Of few descriptors an eighth.
const FILES: usize = 5_120;

/// Connections in all where the descriptors would allow more. Each costs some 40 KiB.
const MOST_CONNECTIONS: usize = 65_536;

/// Connections without proof where `connections` would allow more.
const MOST_UNPROVEN: usize = 32_768;

/// Connections without proof of one address at one listener: a few thousand nodes behind one NAT,
/// all of which come back at once after a restart, are let in within seconds.
const MOST_PER_ADDRESS: usize = 2_048;

/// Bytes of request bodies in memory, of clients with and without proof.
const BODY_BYTES: usize = 256 << 20;
const UNPROVEN_BODY_BYTES: usize = 32 << 20;

/// Limits of all listeners of one server together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. The rest of the process's descriptors is for files.
    pub connections: usize,
    /// Of them those that have proved nothing. What is left is held back for the proven.
    pub unproven: usize,
    /// Of these those of one IPv4 address or one IPv6 network of 64 bits at one listener. At
    /// [`Listener::Boot`] one may have more for as long as others do not want them.
    pub unproven_per_address: usize,
    /// Bytes of request bodies that are being received from proven clients. An eighth of them is
    /// for small ones.
    pub body_bytes: usize,
    /// Bytes of request bodies that are being received from all other clients.
    pub unproven_body_bytes: usize,
    /// How long each part of a connection may take.
    pub deadlines: Deadlines,
}

impl Limits {
    /// The default for a process that may have so many descriptors (`RLIMIT_NOFILE`).
    /// `connections`: what the configuration says, if it does; more than the descriptors allow is
    /// taken as what they do.
    #[must_use]
    pub fn of_descriptors(descriptors: usize, connections: Option<usize>) -> Self {
        let allowed = (descriptors - FILES.min(descriptors / 8)).max(1);
        let connections = connections.unwrap_or(MOST_CONNECTIONS).min(allowed);
        let unproven = (connections - connections / 4).clamp(1, MOST_UNPROVEN);
        Self {
            connections,
            unproven,
            unproven_per_address: (unproven / 4).clamp(1, MOST_PER_ADDRESS),
            body_bytes: BODY_BYTES,
            unproven_body_bytes: UNPROVEN_BODY_BYTES,
            deadlines: Deadlines::default(),
        }
    }

    /// Of [`Self::unproven`], places that each listener always has: a flood at the one that is open
    /// to everybody leaves the others these, and in quiet times one may have nearly all.
    pub(super) fn unproven_reserved(&self) -> usize {
        self.unproven / 8
    }

    /// Places of one address at a listener. Nodes prove nothing while they boot, and thousands may
    /// download their images through one NAT at once.
    pub(super) fn of_one_address(&self, listener: Listener) -> usize {
        let kept = self.unproven_reserved() * (Listener::ALL.len() - 1);
        match listener {
            Listener::Boot => self.unproven.saturating_sub(kept).max(self.unproven_per_address),
            Listener::Api | Listener::Fleet => self.unproven_per_address,
        }
    }
}

/// How long a client may take. Bytes count while the server waits for the client, never the other
/// way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// A TLS handshake: a node in software emulation needs about one second.
    pub handshake: Duration,
    /// The head of a request from its first byte, that of the first from the beginning of the
    /// connection.
    pub head: Duration,
    /// No request on an open connection.
    pub idle: Duration,
    /// A request without proof until its answer begins.
    pub request: Duration,
    /// The body of a request without proof.
    pub body: LeastSpeed,
    /// The body of a request with proof that says how long it is. A large one must come faster:
    /// within ten minutes.
    pub proven_body: LeastSpeed,
    /// One with proof that does not, or is written to a file: what a job writes may come in bursts.
    pub proven_stream: LeastSpeed,
    /// A body until there is room for it, which is the server's doing. Its client must still be
    /// there to hear that there is none: an agent waits 30 s for an answer.
    pub body_room: Duration,
    /// An answer to who has proved nothing. A node on a slow line may take hours for its image.
    pub answer: LeastSpeed,
    /// Everything that a proven client is sent. Its user may have paused what reads it.
    pub proven_answer: LeastSpeed,
    /// A connection that is younger does not go for another one of the same address: when thousands
    /// of nodes behind one address come back at once, handshakes that have begun are brought to
    /// their end.
    pub settling: Duration,
    /// An answer without progress for so long may be ended for a new connection.
    pub stale: Duration,
    /// Requests that run when the server stops.
    pub stop: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let speed = |seconds, bytes| LeastSpeed { window: Duration::from_secs(seconds), bytes };
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: api::http::IDLE_LIMIT,
            request: Duration::from_secs(60),
            body: speed(10, 10 << 10),
            proven_body: speed(60, 60 << 10),
            proven_stream: speed(300, 1),
            body_room: Duration::from_secs(15),
            answer: speed(60, 60 << 10),
            proven_answer: speed(3_600, 1),
            settling: Duration::from_secs(1),
            stale: Duration::from_secs(10),
            stop: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_left_for_files_and_connections_for_the_proven() {
        for descriptors in [64, 1_024, 65_536, 1 << 20] {
            let limits = Limits::of_descriptors(descriptors, None);
            assert!(limits.connections <= descriptors - FILES.min(descriptors / 8), "{limits:?}");
            assert!(limits.unproven * 4 <= limits.connections * 3, "{limits:?}");
            assert!(limits.unproven_per_address * 4 <= limits.unproven.max(4), "{limits:?}");
        }
        let limits = Limits::of_descriptors(65_536, None);
        assert_eq!(
            [limits.connections, limits.unproven, limits.unproven_per_address],
            [60_416, 32_768, 2_048]
        );
        let of_one = Listener::ALL.map(|listener| limits.of_one_address(listener));
        assert_eq!(of_one, [2_048, 2_048, 24_576], "10,000 nodes boot behind one NAT");
    }

    #[test]
    fn a_client_is_told_that_there_is_no_room_before_it_gives_up() {
        let (agent, room) = (Duration::from_secs(30), Deadlines::default().body_room);
        assert!(room * 2 <= agent, "{room:?}");
    }

    #[test]
    fn a_configuration_cannot_promise_more_than_the_process_may_open() {
        assert_eq!(Limits::of_descriptors(4_096, Some(1 << 20)).connections, 4_096 - 512);
        assert_eq!(Limits::of_descriptors(1 << 20, Some(100)).connections, 100);
    }
}
