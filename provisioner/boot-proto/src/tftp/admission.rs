//! Which transfers may run at once.
//!
//! Each source address has a share, and there is a limit in all. Where one of the two is reached,
//! the transfer goes whose client has been silent for longest: first those whose client never
//! answered, then those that got nothing acknowledged for [`IDLE`]. So requests without a client
//! behind them displace each other, and nobody who is receiving a file.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// A transfer whose client acknowledged something within this time is not ended for another one: a
/// packet that got lost was sent again after a second, and had two more to be acknowledged.
const IDLE: Duration = Duration::from_secs(3);

/// How many transfers may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Transfers at a time, of all clients.
    pub in_all: usize,
    /// Transfers at a time of one source address.
    pub per_source: usize,
}

/// A transfer that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(u64);

/// A new transfer may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Id of the new transfer.
    pub id: TransferId,
    /// Transfer that must be ended to make room for it.
    pub instead_of: Option<TransferId>,
}

/// The order in which transfers go: those without an answer first, then by their last progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_answered: bool,
    since: Instant,
    id: TransferId,
}

/// The transfers that run.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    running: HashMap<TransferId, (Ipv4Addr, Rank)>,
    ranks: BTreeSet<Rank>,
    by_source: HashMap<Ipv4Addr, BTreeSet<Rank>>,
    next: u64,
}

impl Admission {
    /// No transfer is in progress.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let (running, ranks, by_source) = (HashMap::new(), BTreeSet::new(), HashMap::new());
        Self { limits, running, ranks, by_source, next: 0 }
    }

    /// Admits a transfer to `source`; `None` if there is no room and no idle
    /// transfer to end for it.
    pub fn admit(&mut self, source: Ipv4Addr, now: Instant) -> Option<Admitted> {
        let of_source = self.by_source.get(&source);
        let candidates = match of_source {
            Some(own) if own.len() >= self.limits.per_source => Some(own),
            _ if self.running.len() >= self.limits.in_all => Some(&self.ranks),
            _ => None,
        };
        let instead_of = match candidates {
            None => None,
            Some(candidates) => Some(candidates.first().filter(|rank| rank.may_start(now))?.id),
        };
        if let Some(id) = instead_of {
            self.ended(id);
        }
        let id = TransferId(self.next);
        self.next += 1;
        self.insert(source, Rank { is_answered: false, since: now, id });
        Some(Admitted { id, instead_of })
    }

    /// The client of a transfer acknowledged something new. Nothing happens for one that has ended.
    pub fn progressed(&mut self, id: TransferId, now: Instant) {
        if let Some(source) = self.remove(id) {
            self.insert(source, Rank { is_answered: true, since: now, id });
        }
    }

    /// A transfer is over. Nothing happens for one that has ended already.
    pub fn ended(&mut self, id: TransferId) {
        self.remove(id);
    }

    /// Transfers that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    fn insert(&mut self, source: Ipv4Addr, rank: Rank) {
        self.running.insert(rank.id, (source, rank));
        self.ranks.insert(rank);
        self.by_source.entry(source).or_default().insert(rank);
    }

    fn remove(&mut self, id: TransferId) -> Option<Ipv4Addr> {
        let (source, rank) = self.running.remove(&id)?;
        self.ranks.remove(&rank);
        if let Some(own) = self.by_source.get_mut(&source) {
            own.remove(&rank);
            if own.is_empty() {
                self.by_source.remove(&source);
            }
        }
        Some(source)
    }
}

impl Rank {
    fn may_start(&self, now: Instant) -> bool {
        !self.is_answered || now >= self.since + IDLE
    }
}

#[cfg(test)]
mod tests;
