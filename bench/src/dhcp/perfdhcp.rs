//! `perfdhcp` of Kea: its arguments, and what it prints.

use std::net::Ipv4Addr;

/// `PXEClient:Arch:00000` in hexadecimal: firmware of BIOS machines.
const PXE_CLASS: &str = "505845436c69656e743a417263683a3030303030";

/// Late answers are waited for so long, µs.
const WAIT_MICROSECONDS: &str = "1500000";

/// An answer that is later than this counts as lost, s.
const LOST_SECONDS: &str = "2";

/// What a run sent and got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exchanges {
    pub(super) discovers: u64,
    pub(super) offers: u64,
    pub(super) requests: u64,
    pub(super) acks: u64,
}

impl Exchanges {
    /// Exchanges completed, by the time for which they were offered.
    #[expect(clippy::cast_precision_loss, reason = "packets of seconds")]
    pub(super) fn acks_per_second(&self, seconds: u32) -> f64 {
        self.acks as f64 / f64::from(seconds)
    }

    /// Whether there were any and none was lost.
    pub(super) fn is_complete(&self) -> bool {
        self.discovers > 0 && self.offers >= self.discovers && self.acks >= self.requests && self.requests > 0
    }
}

/// So many clients ask for so many seconds.
pub(super) fn arguments(
    interface: &str,
    rate: u32,
    clients: u32,
    seconds: u32,
    server: Ipv4Addr,
) -> Vec<String> {
    let (rate, clients, seconds) = (rate.to_string(), clients.to_string(), seconds.to_string());
    let class = format!("60,{PXE_CLASS}");
    let words = [
        "-4",
        "-l",
        interface,
        "-r",
        &rate,
        "-R",
        &clients,
        "-p",
        &seconds,
        "-d",
        LOST_SECONDS,
        "-W",
        WAIT_MICROSECONDS,
        "-o",
        &class,
    ];
    words.iter().map(|&word| word.to_owned()).chain([server.to_string()]).collect()
}

/// Reads its report.
pub(super) fn parse(text: &str) -> Option<Exchanges> {
    let (first, second) = text.split_once("***Statistics for: REQUEST-ACK***")?;
    let (_, first) = first.split_once("***Statistics for: DISCOVER-OFFER***")?;
    let field = |part: &str, name: &str| {
        let line = part.lines().find_map(|line| line.trim().strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok())
    };
    Some(Exchanges {
        discovers: field(first, "sent packets:")?,
        offers: field(first, "received packets:")?,
        requests: field(second, "sent packets:")?,
        acks: field(second, "received packets:")?,
    })
}
