//! Questions to the network whether an address that is not certain is in use.

use std::net::Ipv4Addr;

use api::ids::{MacAddr, Timestamp};

use super::{ClientRequest, LeaseState, Offer, Pool, PoolLease, UNUSABLE_SECONDS};

/// A probe that brought no answer is good for this long, seconds: the client may send its DISCOVER
/// again several times before it hears the offer.
const QUIET_SECONDS: i64 = 60;

/// A probe is waited for this long, seconds; then its result will not come.
const PROBE_SECONDS: i64 = 5;

/// Probes and their results that are remembered before those that are over are removed.
const MAX_PROBES: usize = 1024;

#[derive(Debug, Clone, Copy)]
pub(super) enum Probe {
    /// The network is being asked, for this client.
    Running { client: MacAddr, until: Timestamp },
    /// Nobody answered.
    Quiet { until: Timestamp },
}

impl Pool {
    /// A probe of an address is over: `answer` is who uses it. True if that is not the client that
    /// the probe was made for. `registered`: the machine that answers may keep the address.
    pub(in crate::dhcp) fn probed(
        &mut self,
        address: Ipv4Addr,
        answer: Option<(MacAddr, bool)>,
        now: Timestamp,
    ) -> bool {
        let Some(Probe::Running { client, .. }) = self.probes.remove(&address) else {
            return false;
        };
        let Some((mac, registered)) = answer.filter(|(mac, _)| *mac != client) else {
            self.probes.insert(address, Probe::Quiet { until: now.plus_seconds(QUIET_SECONDS) });
            return false;
        };
        let until = now.plus_seconds(i64::from(UNUSABLE_SECONDS));
        if let Some(held) = self.held.get_mut(&address)
            && held.by == Some(mac)
        {
            held.until = held.until.max(until);
            return true;
        }
        let keeps = registered && !self.by_mac.contains_key(&mac);
        let by = keeps.then_some(mac);
        let held = PoolLease { by, until, stage: LeaseState::InUse, recorded: None };
        if let Some(PoolLease { by: Some(before), .. }) = self.held.insert(address, held) {
            self.by_mac.remove(&before);
        }
        if keeps {
            self.by_mac.insert(mac, address);
        }
        true
    }

    /// A probe was not made: the next request may lead to it again.
    pub(in crate::dhcp) fn not_probed(&mut self, address: Ipv4Addr) {
        if let Some(Probe::Running { .. }) = self.probes.get(&address) {
            self.probes.remove(&address);
        }
    }

    pub(super) fn is_probed_for_another(&self, address: Ipv4Addr, asking: ClientRequest) -> bool {
        match self.probes.get(&address) {
            Some(Probe::Running { client, until }) => *client != asking.mac && *until > asking.now,
            _ => false,
        }
    }

    pub(super) fn probe(&mut self, address: Ipv4Addr, asking: ClientRequest) -> Offer {
        let now = asking.now;
        if let Some(Probe::Running { until, .. }) = self.probes.get(&address)
            && *until > now
        {
            return Offer::Wait;
        }
        if self.probes.len() >= MAX_PROBES {
            self.probes.retain(|_, probe| match probe {
                Probe::Running { until, .. } | Probe::Quiet { until } => *until > now,
            });
        }
        let until = now.plus_seconds(PROBE_SECONDS);
        self.probes.insert(address, Probe::Running { client: asking.mac, until });
        Offer::Probe(address)
    }
}
