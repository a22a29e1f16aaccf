//! Addresses for registered nodes that have none of their own.
//!
//! Leases live in memory. The search for a free address starts at a place derived from the hardware address, and a
//! client that asks for the free address it had before gets it, so that a restart of the server changes nobody's address.

use std::{collections::HashMap, net::Ipv4Addr};

use api::ids::{MacAddr, Timestamp};

/// Addresses tried in one search: a /16. A larger pool is used up only in theory.
const MAX_PROBES: u32 = 65_536;

/// An address that a client found in use is left alone this long, seconds.
const DECLINED_SECONDS: i64 = 600;

/// One range of addresses and who has them.
#[derive(Debug)]
pub(super) struct Pool {
    first: u32,
    last: u32,
    held: HashMap<Ipv4Addr, Held>,
    by_mac: HashMap<MacAddr, Ipv4Addr>,
}

#[derive(Debug)]
struct Held {
    /// `None`: declined.
    by: Option<MacAddr>,
    until: Timestamp,
}

impl Pool {
    pub(super) fn new((first, last): (Ipv4Addr, Ipv4Addr)) -> Self {
        Self { first: first.into(), last: last.into(), held: HashMap::new(), by_mac: HashMap::new() }
    }

    /// The address of `mac` for at least the next `seconds`: the one that it has, else the one it wants if that is free,
    /// else a free one. `None` if all are taken. `reserved` tells addresses that are not the pool's to give.
    pub(super) fn assign(
        &mut self,
        mac: MacAddr,
        wanted: Option<Ipv4Addr>,
        seconds: u32,
        now: Timestamp,
        reserved: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        let free = |address: &Ipv4Addr| {
            !reserved(*address)
                && self.held.get(address).is_none_or(|held| held.by == Some(mac) || held.until <= now)
        };
        let wanted = wanted.filter(|&wanted| (self.first..=self.last).contains(&u32::from(wanted)));
        let address = self
            .by_mac
            .get(&mac)
            .copied()
            .filter(free)
            .or(wanted.filter(free))
            .or_else(|| self.probes(mac).find(free))?;
        self.hold(mac, address, now.plus_seconds(i64::from(seconds)));
        Some(address)
    }

    /// `mac` found `address` in use by somebody else.
    pub(super) fn decline(&mut self, mac: MacAddr, address: Ipv4Addr, now: Timestamp) {
        if self.by_mac.get(&mac) == Some(&address) {
            self.by_mac.remove(&mac);
            self.held.insert(address, Held { by: None, until: now.plus_seconds(DECLINED_SECONDS) });
        }
    }

    /// `mac` gives `address` back. Others may have it at once; `mac` gets it again if nobody took it.
    pub(super) fn release(&mut self, mac: MacAddr, address: Ipv4Addr) {
        if self.by_mac.get(&mac) == Some(&address) {
            self.by_mac.remove(&mac);
            self.held.remove(&address);
        }
    }

    fn hold(&mut self, mac: MacAddr, address: Ipv4Addr, until: Timestamp) {
        if let Some(before) = self.by_mac.insert(mac, address)
            && before != address
        {
            self.held.remove(&before);
        }
        let held = self.held.entry(address).or_insert(Held { by: Some(mac), until });
        if held.by == Some(mac) {
            held.until = held.until.max(until);
            return;
        }
        let previous = held.by.replace(mac);
        held.until = until;
        if let Some(previous) = previous {
            self.by_mac.remove(&previous);
        }
    }

    /// Every address of the pool, from the one that `mac` points at.
    fn probes(&self, mac: MacAddr) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let (first, size) = (u64::from(self.first), u64::from(self.last.saturating_sub(self.first)) + 1);
        // FNV-1a: stable over versions of Rust, unlike the standard hasher.
        let hash = mac.0.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        (0..size.min(u64::from(MAX_PROBES)))
            .filter_map(move |step| u32::try_from(first + (hash % size + step) % size).ok())
            .map(Ipv4Addr::from)
    }
}
