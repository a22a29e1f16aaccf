//! Addresses for registered nodes that have none of their own.
//!
//! The search for a free address starts at a position derived from the MAC address, and a client
//! that asks for the free address it had before gets it, so that addresses change seldom. What a
//! client was acknowledged is recorded ([`LeaseRecord`]) before it is acknowledged, so that a
//! restart gives no address twice (RFC 2131 section 1.6).
//!
//! An address is *certain* if nobody else can still be using it by right: it was never given,
//! and the records are complete. Of others (declined, expired, given back, given before records
//! were lost) the server asks the network first, where it can. Anybody can say in a client's
//! name that it gives its address back, so that is no more than the end of the lease (RFC 2131
//! section 4.4.6).

mod declined;
mod probes;
mod records;

use std::{collections::HashMap, net::Ipv4Addr};

use api::ids::{MacAddr, Timestamp};

use self::probes::Probe;
use super::{PoolUse, leases::LeaseRecord};

/// Addresses tried in one search: a /16. A larger pool is used up only in theory.
const MAX_SEARCH: u32 = 65_536;

/// Addresses searched for a certain one once a doubtful one is found: a probe costs half a second,
/// and a search of a /16 at each request would cost the other clients more.
const MAX_CERTAIN_SEARCH: u32 = 1024;

/// An address that a client or a probe found in use is left alone this long, seconds.
pub(super) const UNUSABLE_SECONDS: u32 = 600;

/// One range of addresses and who has them.
#[derive(Debug)]
pub(super) struct Pool {
    first: u32,
    last: u32,
    held: HashMap<Ipv4Addr, PoolLease>,
    by_mac: HashMap<MacAddr, Ipv4Addr>,
    probes: HashMap<Ipv4Addr, Probe>,
    /// What clients declined, oldest first.
    declined: Vec<Ipv4Addr>,
    /// Until then, leases may be in use that are not in the records.
    incomplete_until: Option<Timestamp>,
}

#[derive(Debug)]
struct PoolLease {
    /// `None`: an unknown machine.
    by: Option<MacAddr>,
    until: Timestamp,
    stage: LeaseState,
    /// Until when the record on disk holds it for `by`; `None` without a record.
    recorded: Option<Timestamp>,
}

impl PoolLease {
    /// Its client asks for it: what it had given back is its own again, once that is on disk.
    fn taken_again(&mut self) -> &Self {
        if self.stage == LeaseState::Released {
            self.stage = LeaseState::TakenAgain;
        }
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseState {
    /// The client was not acknowledged and does not use it.
    Offered,
    /// The client was acknowledged.
    Leased,
    /// The client gave it back, or somebody in its name.
    Released,
    /// The client that gave it back asks for it, and that is not on disk.
    TakenAgain,
    /// Somebody uses it without a lease of this server.
    InUse,
    /// A client says that somebody uses it.
    Declined,
}

/// What DISCOVER gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// This address, held until the client can have asked for it.
    Address(Ipv4Addr),
    /// This address, if nobody on the network answers for it.
    Probe(Ipv4Addr),
    /// A probe for this client runs.
    Wait,
    /// All addresses are taken.
    Exhausted,
}

/// What REQUEST gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// The lease is new: not to be acknowledged before the record is on disk.
    New(LeaseRecord),
    /// The client has it already. The record, if there is one, says how much longer.
    Renewed(Option<LeaseRecord>),
    /// It is not the client's; its address is this one, if it has one.
    Refused(Option<Ipv4Addr>),
}

/// A client and the moment of its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientRequest {
    pub(super) mac: MacAddr,
    pub(super) now: Timestamp,
}

impl Pool {
    pub(super) fn new((first, last): (Ipv4Addr, Ipv4Addr)) -> Self {
        Self {
            first: first.into(),
            last: last.into(),
            held: HashMap::new(),
            by_mac: HashMap::new(),
            probes: HashMap::new(),
            declined: Vec::new(),
            incomplete_until: None,
        }
    }

    pub(super) fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&u32::from(address))
    }

    /// Addresses between first and last.
    pub(super) fn size(&self) -> u32 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// Counts who holds the addresses that `is_given` says to be the pool's to give.
    pub(super) fn count(
        &self,
        now: Timestamp,
        is_given: impl Fn(Ipv4Addr) -> bool,
        taken: &mut PoolUse,
    ) {
        let held =
            self.held.iter().filter(|(address, held)| held.until > now && is_given(**address));
        for (_, held) in held {
            match held.stage {
                LeaseState::Leased => taken.leased += 1,
                LeaseState::Offered | LeaseState::TakenAgain => taken.offered += 1,
                LeaseState::InUse | LeaseState::Declined => taken.unusable += 1,
                // Free for whoever asks, once nobody answers for it.
                LeaseState::Released => {}
            }
        }
    }

    /// An address for `asking` and `hold` seconds: the one that it has, else the one it wants if
    /// that is free, else a free one. `reserved` knows addresses that are not the pool's to give;
    /// `can_probe`, whether the network of the client can be asked.
    pub(super) fn offer(
        &mut self,
        asking: ClientRequest,
        wanted: Option<Ipv4Addr>,
        hold: u32,
        can_probe: bool,
        reserved: impl Fn(Ipv4Addr) -> bool,
    ) -> Offer {
        let free = |address: &Ipv4Addr| {
            self.is_free(*address, asking)
                && !self.is_probed_for_another(*address, asking)
                && !reserved(*address)
        };
        let wanted = wanted.filter(|&wanted| self.contains(wanted));
        let own = self.by_mac.get(&asking.mac).copied().filter(free);
        let Some(address) = own.or(wanted.filter(free)).or_else(|| self.search(asking, free))
        else {
            return Offer::Exhausted;
        };
        if can_probe && !self.is_certain(address, asking) {
            return self.probe(address, asking);
        }
        self.hold(asking.mac, address, asking.now.plus_seconds(i64::from(hold)));
        Offer::Address(address)
    }

    /// Whether `asking` may use `wanted` for `seconds`. `reserved` are not given, `withdrawn` not
    /// even left to whom they were given.
    pub(super) fn request(
        &mut self,
        asking: ClientRequest,
        wanted: Ipv4Addr,
        seconds: u32,
        reserved: impl Fn(Ipv4Addr) -> bool,
        withdrawn: impl Fn(Ipv4Addr) -> bool,
    ) -> Grant {
        let free = |address: &Ipv4Addr| self.is_free(*address, asking) && !reserved(*address);
        let is_own = |address: &Ipv4Addr| self.is_free(*address, asking) && !withdrawn(*address);
        let own = self.by_mac.get(&asking.mac).copied().filter(is_own);
        // An address that somebody else had before is given by way of DISCOVER alone, which probes.
        let claimed = self.held.get(&wanted).is_some_and(|held| held.stage != LeaseState::Offered);
        let unclaimed = self.contains(wanted) && !claimed && free(&wanted);
        if own != Some(wanted) && (own.is_some() || !unclaimed) {
            return Grant::Refused(own);
        }
        let until = asking.now.plus_seconds(i64::from(seconds));
        self.hold(asking.mac, wanted, until);
        // Renewals that come sooner than an eighth of the term are covered by the record of before:
        // a boot makes four within a minute.
        let record = LeaseRecord::Leased {
            address: wanted,
            mac: asking.mac,
            seconds: seconds.saturating_add(seconds / 8),
        };
        let held = self.held.get_mut(&wanted);
        match held.and_then(|held| held.taken_again().recorded) {
            None => Grant::New(record),
            Some(recorded) => Grant::Renewed((recorded < until).then_some(record)),
        }
    }

    /// Whether `address` is held for `mac`.
    pub(super) fn is_its(&self, mac: MacAddr, address: Ipv4Addr) -> bool {
        self.by_mac.get(&mac) == Some(&address)
    }

    /// `mac` found `address` in use by somebody else.
    pub(super) fn decline(
        &mut self,
        mac: MacAddr,
        address: Ipv4Addr,
        now: Timestamp,
    ) -> Option<LeaseRecord> {
        if !self.is_its(mac, address) {
            return None;
        }
        self.by_mac.remove(&mac);
        self.probes.remove(&address);
        self.hold_declined(address, now.plus_seconds(i64::from(UNUSABLE_SECONDS)));
        self.free_declined(now);
        Some(LeaseRecord::Unusable { address, seconds: UNUSABLE_SECONDS })
    }

    /// `mac` gives `address` back. Others may have it at once if nobody answers for it; `mac` gets
    /// it again if nobody took it.
    pub(super) fn release(
        &mut self,
        mac: MacAddr,
        address: Ipv4Addr,
        now: Timestamp,
    ) -> Option<LeaseRecord> {
        if !self.is_its(mac, address) {
            return None;
        }
        // A probe of before says nothing of a client that was there until now.
        self.probes.remove(&address);
        let held =
            PoolLease { by: Some(mac), until: now, stage: LeaseState::Released, recorded: None };
        self.held.insert(address, held);
        Some(LeaseRecord::Leased { address, mac, seconds: 0 })
    }

    /// The address that was acknowledged to `mac` last, and until when.
    pub(super) fn leased(&self, mac: MacAddr) -> Option<(Ipv4Addr, Timestamp)> {
        let address = *self.by_mac.get(&mac)?;
        self.held
            .get(&address)
            .filter(|held| held.stage == LeaseState::Leased)
            .map(|held| (address, held.until))
    }

    /// Whom `address` was acknowledged to last.
    pub(super) fn holder(&self, address: Ipv4Addr) -> Option<MacAddr> {
        self.held.get(&address).filter(|held| held.stage == LeaseState::Leased)?.by
    }

    fn is_free(&self, address: Ipv4Addr, asking: ClientRequest) -> bool {
        let held = self.held.get(&address);
        held.is_none_or(|held| held.by == Some(asking.mac) || held.until <= asking.now)
    }

    fn is_certain(&self, address: Ipv4Addr, asking: ClientRequest) -> bool {
        if let Some(Probe::Quiet { until }) = self.probes.get(&address)
            && *until > asking.now
        {
            return true;
        }
        match self.held.get(&address) {
            Some(held) if held.by == Some(asking.mac) => true,
            Some(held) if held.stage != LeaseState::Offered => false,
            Some(_) | None => !self.is_incomplete(asking.now),
        }
    }

    fn is_incomplete(&self, now: Timestamp) -> bool {
        self.incomplete_until.is_some_and(|until| now < until)
    }

    /// A free address, a certain one before others.
    fn search(&self, asking: ClientRequest, free: impl Fn(&Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let mut doubtful = None;
        let mut left = MAX_CERTAIN_SEARCH;
        for address in self.candidates(asking.mac) {
            if doubtful.is_some() {
                left = left.saturating_sub(1);
                if left == 0 {
                    break;
                }
            }
            if !free(&address) {
                continue;
            }
            if self.is_certain(address, asking) {
                return Some(address);
            }
            doubtful = doubtful.or(Some(address));
            if self.is_incomplete(asking.now) {
                break;
            }
        }
        doubtful
    }

    fn hold(&mut self, mac: MacAddr, address: Ipv4Addr, until: Timestamp) {
        if let Some(before) = self.by_mac.insert(mac, address)
            && before != address
        {
            self.held.remove(&before);
        }
        self.probes.remove(&address);
        if let Some(held) = self.held.get_mut(&address)
            && held.by == Some(mac)
        {
            held.until = held.until.max(until);
            return;
        }
        let held = PoolLease { by: Some(mac), until, stage: LeaseState::Offered, recorded: None };
        if let Some(PoolLease { by: Some(before), .. }) = self.held.insert(address, held) {
            self.by_mac.remove(&before);
        }
    }

    /// Every address of the pool, from the one that `mac` points at.
    fn candidates(&self, mac: MacAddr) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let (first, size) =
            (u64::from(self.first), u64::from(self.last.saturating_sub(self.first)) + 1);
        // FNV-1a: stable over versions of Rust, unlike the standard hasher.
        let hash = mac.0.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        (0..size.min(u64::from(MAX_SEARCH)))
            .filter_map(move |step| u32::try_from(first + (hash % size + step) % size).ok())
            .map(Ipv4Addr::from)
    }
}
