//! What the records of leases say of a pool, and what of it is to be recorded.

use std::net::Ipv4Addr;

use api::ids::Timestamp;

use super::{LeaseState, Pool, PoolLease};
use crate::dhcp::leases::{LeaseRecord, remaining};

impl Pool {
    /// A record is on disk. False if its lease was given back or given away meanwhile.
    pub(in crate::dhcp) fn saved(&mut self, record: &LeaseRecord, now: Timestamp) -> bool {
        let &LeaseRecord::Leased { address, mac, seconds } = record else { return true };
        if seconds == 0 {
            return true;
        }
        let is_its =
            |held: &&mut PoolLease| held.by == Some(mac) && held.stage != LeaseState::Released;
        let Some(held) = self.held.get_mut(&address).filter(is_its) else {
            return false;
        };
        held.stage = LeaseState::Leased;
        held.recorded = Some(now.plus_seconds(i64::from(seconds)));
        true
    }

    /// A new lease could not be recorded, and the client was not acknowledged: it is what it was
    /// before, for a while.
    pub(in crate::dhcp) fn unsaved(&mut self, record: &LeaseRecord, hold: u32, now: Timestamp) {
        if let &LeaseRecord::Leased { address, mac, .. } = record
            && let Some(held) = self.held.get_mut(&address)
            && held.by == Some(mac)
            && held.recorded.is_none()
        {
            held.until = held.until.min(now.plus_seconds(i64::from(hold)));
            if held.stage == LeaseState::TakenAgain {
                held.stage = LeaseState::Released;
            }
        }
    }

    /// What a record of an earlier run says.
    pub(in crate::dhcp) fn restore(&mut self, record: LeaseRecord, now: Timestamp) {
        let until = |seconds: u32| now.plus_seconds(i64::from(seconds));
        match record {
            LeaseRecord::Leased { address, mac, seconds } => {
                self.forget(address);
                self.hold(mac, address, until(seconds));
                if let Some(held) = self.held.get_mut(&address) {
                    held.stage = LeaseState::Leased;
                    held.recorded = Some(until(seconds));
                }
            }
            LeaseRecord::Unusable { address, seconds } => {
                self.forget(address);
                self.hold_declined(address, until(seconds));
            }
            LeaseRecord::Free { address } => self.forget(address),
            LeaseRecord::Incomplete { seconds } => {
                self.incomplete_until = self.incomplete_until.max(Some(until(seconds)));
            }
        }
    }

    /// All that the next run must know.
    pub(in crate::dhcp) fn records(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = LeaseRecord> + '_ {
        self.held.iter().filter_map(move |(&address, held)| match (held.by, held.recorded) {
            (Some(mac), None)
                if matches!(held.stage, LeaseState::Released | LeaseState::TakenAgain) =>
            {
                Some(LeaseRecord::Leased { address, mac, seconds: 0 })
            }
            (Some(mac), Some(recorded)) => {
                Some(LeaseRecord::Leased { address, mac, seconds: remaining(recorded, now) })
            }
            (Some(_), None) => None,
            (None, _) => {
                Some(LeaseRecord::Unusable { address, seconds: remaining(held.until, now) })
            }
        })
    }

    /// Until when leases may be in use that are not in the records.
    pub(in crate::dhcp) fn incomplete_until(&self) -> Option<Timestamp> {
        self.incomplete_until
    }

    fn forget(&mut self, address: Ipv4Addr) {
        if let Some(PoolLease { by: Some(mac), .. }) = self.held.remove(&address) {
            self.by_mac.remove(&mac);
        }
    }
}
