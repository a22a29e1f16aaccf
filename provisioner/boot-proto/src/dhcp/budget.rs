//! How many changes of leases one machine may cause: each is a record on the disk, or an address
//! that nobody else can have meanwhile, and anybody on the network can speak in a machine's name.

use std::{collections::HashMap, net::Ipv4Addr};

use api::ids::{MacAddr, Timestamp};

use super::pool::UNUSABLE_SECONDS;

/// Releases of one machine within [`RELEASE_SECONDS`]: a boot makes one at most. New leases are not
/// counted: each but the first comes after a release, a decline or the end of a lease, and
/// were they counted together, who gives a machine's address back in its name could keep it
/// from having one.
const MAX_RELEASES: u32 = 3;

/// See [`MAX_RELEASES`].
const RELEASE_SECONDS: i64 = 60;

/// Requests of one machine for a new lease that wait for the disk at once: all of them are answered
/// by one record, and the places in the queue are for all machines.
const MAX_WAITING: u32 = 16;

/// Addresses that one machine may decline within [`decline_seconds`]: a third conflict in a row
/// means that the pool is somebody else's, or that the machine is not well.
const MAX_DECLINES: u32 = 3;

/// The same for one port of a relay, behind which there may be a switch with many machines.
const MAX_PORT_DECLINES: u32 = 16;

/// Ports of relays that are told apart. What a relay says of its port can be invented.
const MAX_PORTS: usize = 4096;

/// As long as a declined address is left alone.
fn decline_seconds() -> i64 {
    i64::from(UNUSABLE_SECONDS)
}

/// A port of a relay, as option 82 names it.
pub(super) type RelayPort = (Ipv4Addr, Vec<u8>);

/// What has been spent. Only registered machines are in it.
#[derive(Debug, Default)]
pub(super) struct Budget {
    machines: HashMap<MacAddr, Spent>,
    ports: HashMap<RelayPort, Window>,
}

#[derive(Debug, Default)]
struct Spent {
    releases: Window,
    declines: Window,
    /// New leases that wait for the disk.
    waiting: u32,
}

/// Times since a moment.
#[derive(Debug, Default)]
struct Window {
    since: Option<Timestamp>,
    times: u32,
}

impl Window {
    fn take(&mut self, most: u32, seconds: i64, now: Timestamp) -> bool {
        if self.is_over(seconds, now) {
            (self.since, self.times) = (Some(now), 0);
        }
        let may = self.times < most;
        self.times += u32::from(may);
        may
    }

    fn is_over(&self, seconds: i64, now: Timestamp) -> bool {
        // A clock that was set back must not stop the budget for as long.
        self.since.is_none_or(|since| !(since..since.plus_seconds(seconds)).contains(&now))
    }
}

impl Budget {
    /// Whether a machine may give an address back now. If so, it has.
    pub(super) fn release(&mut self, mac: MacAddr, now: Timestamp) -> bool {
        self.machines.entry(mac).or_default().releases.take(MAX_RELEASES, RELEASE_SECONDS, now)
    }

    /// Whether a request of a machine for a new lease may wait for the disk. If so, it does.
    pub(super) fn wait(&mut self, mac: MacAddr) -> bool {
        let waiting = &mut self.machines.entry(mac).or_default().waiting;
        let may = *waiting < MAX_WAITING;
        *waiting += u32::from(may);
        may
    }

    /// A record of a machine's lease waits no longer.
    pub(super) fn waited(&mut self, mac: MacAddr) {
        if let Some(spent) = self.machines.get_mut(&mac) {
            spent.waiting = spent.waiting.saturating_sub(1);
        }
    }

    /// Whether a machine may decline an address now. If so, it has.
    pub(super) fn decline(
        &mut self,
        mac: MacAddr,
        port: Option<RelayPort>,
        now: Timestamp,
    ) -> bool {
        let of_machine = &mut self.machines.entry(mac).or_default().declines;
        of_machine.take(MAX_DECLINES, decline_seconds(), now)
            && port.is_none_or(|port| self.port_declines(port, now))
    }

    fn port_declines(&mut self, port: RelayPort, now: Timestamp) -> bool {
        if self.ports.len() >= MAX_PORTS {
            self.ports.retain(|_, window| !window.is_over(decline_seconds(), now));
            if self.ports.len() >= MAX_PORTS && !self.ports.contains_key(&port) {
                return false;
            }
        }
        self.ports.entry(port).or_default().take(MAX_PORT_DECLINES, decline_seconds(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_begins_a_new_window() {
        let (mut budget, mac) = (Budget::default(), MacAddr([2, 0, 0, 0, 0, 1]));
        let releases = |second: i64| {
            let now = Timestamp(0).plus_seconds(second);
            (0..10).filter(|_| budget.release(mac, now)).count()
        };
        assert_eq!([10_000, 10_059, 10_060, 0, 59, 60].map(releases), [3, 0, 3, 3, 0, 3]);
    }
}
