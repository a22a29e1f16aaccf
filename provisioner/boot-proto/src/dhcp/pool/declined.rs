//! Addresses that are left alone because a client declined them.

use std::net::Ipv4Addr;

use api::ids::Timestamp;

use super::{LeaseState, Pool, PoolLease};

/// One of so many addresses of a pool is left alone because a client declined it, and at least one:
/// what one client says of an address is no proof. Beyond it the one that was declined first may be
/// given again, once nobody answers for it.
const DECLINED_SHARE: u32 = 8;

impl Pool {
    pub(super) fn hold_declined(&mut self, address: Ipv4Addr, until: Timestamp) {
        self.held.insert(
            address,
            PoolLease { by: None, until, stage: LeaseState::Declined, recorded: None },
        );
        self.declined.retain(|declined| *declined != address);
        self.declined.push(address);
    }

    /// Gives up what was declined first, beyond the share of the pool.
    pub(super) fn free_declined(&mut self, now: Timestamp) {
        let held = &self.held;
        let is_left_alone =
            |held: &PoolLease| held.stage == LeaseState::Declined && held.until > now;
        self.declined.retain(|address| held.get(address).is_some_and(is_left_alone));
        let most = usize::try_from((self.size() / DECLINED_SHARE).max(1)).unwrap_or(usize::MAX);
        let excess = self.declined.len().saturating_sub(most);
        for address in self.declined.drain(..excess) {
            self.held.entry(address).and_modify(|held| held.until = now);
        }
    }
}
