//! What DHCP tells of itself: messages, refusals, pools, probes, and the log of leases.

use std::time::Duration;

use boot_proto::{
    HostTable,
    dhcp::{PoolUse, message_word},
};
use metrics::{Counter, Counters, Exposition, Histogram, SECONDS};

use super::DhcpCore;

/// Messages in either direction. The last word is for what is none that DHCP knows.
const MESSAGES: [&str; 9] =
    ["discover", "offer", "request", "decline", "ack", "nak", "release", "inform", "other"];

/// Instruments of the sockets and of the log.
#[derive(Debug)]
pub(super) struct Meter {
    received: Counters<9>,
    sent: Counters<9>,
    /// Answers that could not be sent.
    unsent: Counter,
    probes: Counters<4>,
    records: Counter,
    append_failures: Counter,
    appends: Histogram,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            received: Counters::new(MESSAGES),
            sent: Counters::new(MESSAGES),
            unsent: Counter::default(),
            probes: Counters::new(["free", "in-use", "failed", "too-many"]),
            records: Counter::default(),
            append_failures: Counter::default(),
            appends: Histogram::new(SECONDS),
        }
    }
}

impl Meter {
    pub(super) fn received(&self, packet: &[u8]) {
        self.received.inc(message_word(packet));
    }

    pub(super) fn sent(&self, packet: &[u8], is_sent: bool) {
        if is_sent {
            self.sent.inc(message_word(packet));
        } else {
            self.unsent.inc();
        }
    }

    /// A probe ended: `None` if it could not be made.
    pub(super) fn probed(&self, is_in_use: Option<bool>) {
        self.probes.inc(match is_in_use {
            Some(false) => "free",
            Some(true) => "in-use",
            None => "failed",
        });
    }

    /// A probe is not made, because too many are.
    pub(super) fn not_probed(&self) {
        self.probes.inc("too-many");
    }

    /// Records were brought to the disk by one sync, or not.
    pub(super) fn appended(&self, records: usize, took: Duration, is_on_disk: bool) {
        if is_on_disk {
            self.records.add(u64::try_from(records).unwrap_or(u64::MAX));
            self.appends.observe(took);
        } else {
            self.append_failures.inc();
        }
    }
}

impl DhcpCore {
    /// Writes what DHCP tells of itself; `hosts` are the nodes. Packets wait meanwhile for as long
    /// as it takes to count the leases.
    pub fn expose(&self, hosts: &HostTable, out: &mut Exposition) {
        let (meter, refused, pools) = (self.meter(), self.refused(), self.pools(hosts));
        let help = "DHCP messages, received and sent, by their type.";
        let mut messages = out.counter("bedplate_dhcp_messages", help);
        for (direction, counters) in [("in", &meter.received), ("out", &meter.sent)] {
            for (word, count) in counters.get() {
                messages.sample(&[("direction", direction), ("type", word)], count);
            }
        }
        out.counter("bedplate_dhcp_send_failures", "Answers of DHCP that the kernel did not send.")
            .count(&meter.unsent);
        let help = "DHCP requests that got no answer or no address, by the reason.";
        let mut refusals = out.counter("bedplate_dhcp_refused_requests", help);
        for (reason, count) in refused {
            refusals.sample(&[("reason", reason)], count);
        }
        expose_pools(&pools, out);
        let help = "Probes of doubtful addresses, by their outcome.";
        out.counter("bedplate_dhcp_probes", help).counts("outcome", &meter.probes);
        self.expose_log(out);
    }

    fn expose_log(&self, out: &mut Exposition) {
        let meter = self.meter();
        out.counter("bedplate_dhcp_lease_log_records", "Records of leases that are on the disk.")
            .count(&meter.records);
        let help = "Batches of records that the disk refused: no new lease is given meanwhile.";
        out.counter("bedplate_dhcp_lease_log_failures", help).count(&meter.append_failures);
        let help = "How long a batch took to be appended and synced.";
        out.histogram("bedplate_dhcp_lease_log_append_seconds", help).buckets(&[], &meter.appends);
        let help = "Size of the log of leases.";
        let mut size = out.gauge("bedplate_dhcp_lease_log_file_bytes", help);
        if self.has_log() {
            // Before the first lease there is none.
            size.value(std::fs::metadata(self.log_path()).map_or(0, |meta| meta.len()));
        }
    }
}

fn expose_pools(pools: &[PoolUse], out: &mut Exposition) {
    let subnets: Vec<String> = pools.iter().map(|pool| pool.subnet.to_string()).collect();
    let help = "Addresses between first and last of a pool.";
    let mut size = out.gauge("bedplate_dhcp_pool_addresses", help);
    for (pool, subnet) in pools.iter().zip(&subnets) {
        size.sample(&[("subnet", subnet)], pool.size);
    }
    let help = "Addresses of a pool that nobody else can have now, by what takes them.";
    let mut taken = out.gauge("bedplate_dhcp_pool_taken_addresses", help);
    for (pool, subnet) in pools.iter().zip(&subnets) {
        for (state, count) in [
            ("leased", pool.leased),
            ("offered", pool.offered),
            ("unusable", pool.unusable),
            ("reserved", pool.reserved),
        ] {
            taken.sample(&[("subnet", subnet), ("state", state)], count);
        }
    }
}

#[cfg(test)]
mod tests;
