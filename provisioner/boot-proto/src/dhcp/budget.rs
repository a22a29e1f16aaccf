//! How many changes of leases one machine may cause: each is a record on the disk, or an address that
//! nobody else can have meanwhile, and anybody on the network can speak in a machine's name.

use std::{collections::HashMap, net::Ipv4Addr};

use api::ids::{MacAddr, Timestamp};

use super::pool::UNUSABLE_SECONDS;

/// New leases, releases and declines of one machine within [`CHANGE_SECONDS`]: a boot makes one or two.
const MAX_CHANGES: u32 = 8;

/// See [`MAX_CHANGES`].
const CHANGE_SECONDS: i64 = 60;

/// Addresses that one machine may decline within [`decline_seconds`]: a third conflict in a row means
/// that the pool is somebody else's, or that the machine is not well.
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
    changes: Window,
    declines: Window,
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
        self.since.is_none_or(|since| now >= since.plus_seconds(seconds))
    }
}

impl Budget {
    /// Whether a machine may change a lease now. If so, it has.
    pub(super) fn change(&mut self, mac: MacAddr, now: Timestamp) -> bool {
        self.machines.entry(mac).or_default().changes.take(MAX_CHANGES, CHANGE_SECONDS, now)
    }

    /// Whether a machine may decline an address now. If so, it has.
    pub(super) fn decline(&mut self, mac: MacAddr, port: Option<RelayPort>, now: Timestamp) -> bool {
        let of_machine = &mut self.machines.entry(mac).or_default().declines;
        of_machine.take(MAX_DECLINES, decline_seconds(), now)
            && port.is_none_or(|port| self.port_declines(port, now))
            && self.change(mac, now)
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
