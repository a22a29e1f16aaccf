//! What must outlive a restart: leases of pools as records, which the shell keeps on disk, and
//! their way back into a [`DhcpServer`].
//!
//! Times in records are seconds from now on, so that no record depends on how this run counts time.

use std::{collections::HashMap, net::Ipv4Addr};

use api::ids::{MacAddr, Timestamp};

use super::{DhcpServer, Effect, OFFER_HOLD_SECONDS, pool::Pool};
use crate::{event::BootEvent, host::HostTable};

/// One change of the leases of pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseRecord {
    /// An address was given to a node.
    Leased {
        /// It lies in one of the pools.
        address: Ipv4Addr,
        /// The MAC address of the node's interface.
        mac: MacAddr,
        /// How long it is the node's, at least as long as the node was granted. 0: it has expired,
        /// or was given back.
        seconds: u32,
    },
    /// A machine that did not get it here uses an address, as a node or a probe found.
    Unusable {
        /// It lies in one of the pools.
        address: Ipv4Addr,
        /// How long it is left alone; then it is probed before it is given.
        seconds: u32,
    },
    /// An address was given back. Releases of before recorded that so; it was then given
    /// without a probe.
    Free {
        /// It lies in one of the pools.
        address: Ipv4Addr,
    },
    /// Leases were given that are in no record: any address may be in use.
    Incomplete {
        /// How much longer such a lease can last.
        seconds: u32,
    },
}

impl LeaseRecord {
    /// The address that it is about; `None`: all.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        match *self {
            Self::Leased { address, .. }
            | Self::Unusable { address, .. }
            | Self::Free { address } => Some(address),
            Self::Incomplete { .. } => None,
        }
    }
}

/// Whole seconds from `now` until `until`; 0 if that is over.
pub(super) fn remaining(until: Timestamp, now: Timestamp) -> u32 {
    let micros = until.0.saturating_sub(now.0).max(0);
    u32::try_from(micros.unsigned_abs().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// Leases of addresses that are in no pool: somebody changed the pools, and may change them back.
#[derive(Debug, Default)]
pub(super) struct OutsideLeases(HashMap<Ipv4Addr, (MacAddr, Timestamp)>);

impl OutsideLeases {
    fn restore(&mut self, record: LeaseRecord, now: Timestamp) {
        match record {
            LeaseRecord::Leased { address, mac, seconds } => {
                self.0.insert(address, (mac, now.plus_seconds(i64::from(seconds))));
            }
            LeaseRecord::Unusable { address, .. } | LeaseRecord::Free { address } => {
                self.0.remove(&address);
            }
            LeaseRecord::Incomplete { .. } => {}
        }
    }

    fn records(&self, now: Timestamp) -> impl Iterator<Item = LeaseRecord> + '_ {
        let running = self.0.iter().filter(move |(_, (_, until))| *until > now);
        running.map(move |(&address, &(mac, until))| LeaseRecord::Leased {
            address,
            mac,
            seconds: remaining(until, now),
        })
    }
}

impl DhcpServer {
    /// Takes over the leases of an earlier run, oldest record first. Called once, before the first
    /// packet.
    pub fn restore(&mut self, records: impl IntoIterator<Item = LeaseRecord>, now: Timestamp) {
        for record in records {
            match record.address() {
                None => {
                    for pool in self.pools.iter_mut().flatten() {
                        pool.restore(record, now);
                    }
                }
                Some(address) => match self.pool_of(address) {
                    Some(pool) => pool.restore(record, now),
                    None => self.outside.restore(record, now),
                },
            }
        }
    }

    /// Everything that the next run must know, and no more: what a record file is rewritten with.
    #[must_use]
    pub fn records(&self, now: Timestamp) -> Vec<LeaseRecord> {
        let pools = || self.pools.iter().flatten();
        let incomplete =
            pools().filter_map(Pool::incomplete_until).max().filter(|until| *until > now);
        let incomplete =
            incomplete.map(|until| LeaseRecord::Incomplete { seconds: remaining(until, now) });
        let leases = pools().flat_map(|pool| pool.records(now));
        incomplete.into_iter().chain(leases).chain(self.outside.records(now)).collect()
    }

    /// A record of [`Effect::Record`] or [`Effect::Save`] is on disk. Comes before the next record
    /// is written, and before what waited for it is done; false if that may not be done, because
    /// the address is not the machine's any more.
    pub fn saved(&mut self, record: &LeaseRecord, now: Timestamp) -> bool {
        self.waited(record);
        let pool = record.address().and_then(|address| self.pool_of(address));
        pool.is_none_or(|pool| pool.saved(record, now))
    }

    /// A record is not on disk, and what waited for it is not done.
    pub fn unsaved(&mut self, record: &LeaseRecord, now: Timestamp) {
        self.waited(record);
        if let Some(pool) = record.address().and_then(|address| self.pool_of(address)) {
            pool.unsaved(record, OFFER_HOLD_SECONDS, now);
        }
    }

    /// The probe of [`Effect::Probe`] is over; `answer` is the MAC address of who uses the address.
    /// The packet that led to the probe is to be handled again.
    pub fn probed(
        &mut self,
        address: Ipv4Addr,
        answer: Option<MacAddr>,
        hosts: &HostTable,
        now: Timestamp,
    ) -> Vec<Effect> {
        let answer =
            answer.map(|mac| (mac, hosts.get(mac).is_some_and(|host| host.address.is_none())));
        let Some(pool) = self.pool_of(address) else { return Vec::new() };
        match (pool.probed(address, answer, now), answer) {
            (true, Some((mac, _))) => vec![Effect::Event(BootEvent::AddressInUse { address, mac })],
            _ => Vec::new(),
        }
    }

    /// The probe of [`Effect::Probe`] is not made, because too many run: the client's next request
    /// may lead to it again.
    pub fn not_probed(&mut self, address: Ipv4Addr) {
        if let Some(pool) = self.pool_of(address) {
            pool.not_probed(address);
        }
    }

    /// The pool address that was acknowledged to this MAC address last.
    #[must_use]
    pub fn leased(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        let leases = self.pools.iter().flatten().filter_map(|pool| pool.leased(mac));
        leases.max_by_key(|(_, until)| *until).map(|(address, _)| address)
    }

    /// The MAC address that this pool address was acknowledged to last.
    #[must_use]
    pub fn holder(&self, address: Ipv4Addr) -> Option<MacAddr> {
        self.pools.iter().flatten().find_map(|pool| pool.holder(address))
    }

    fn waited(&mut self, record: &LeaseRecord) {
        if let &LeaseRecord::Leased { mac, seconds: 1.., .. } = record {
            self.budget.waited(mac);
        }
    }

    fn pool_of(&mut self, address: Ipv4Addr) -> Option<&mut Pool> {
        self.pools.iter_mut().flatten().find(|pool| pool.contains(address))
    }
}
