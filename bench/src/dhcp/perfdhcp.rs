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

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURED: &str = "Running: perfdhcp -4 -l c0 -r 10 -R 300 -p 2 -d 2 -W 100000 10.64.0.1
Scenario: basic.
Multi-thread mode enabled.
***Rate statistics***
Rate: 9.04659 4-way exchanges/second, expected rate: 10

***Malformed Packets***
Malformed packets: 0
***Statistics for: DISCOVER-OFFER***
sent packets: 20
received packets: 19
drops: 1
drops ratio: 5 %
orphans: 0

min delay: 0.166 ms

***Statistics for: REQUEST-ACK***
sent packets: 19
received packets: 18
drops: 1
drops ratio: 5.263 %
";

    #[test]
    fn packets_are_counted_from_its_report() {
        let exchanges = parse(CAPTURED).unwrap();
        assert_eq!(exchanges, Exchanges { discovers: 20, offers: 19, requests: 19, acks: 18 });
        assert!(!exchanges.is_complete());
        assert_eq!(exchanges.acks_per_second(2), 9.0);
        assert!(parse("perfdhcp: cannot bind").is_none());
    }

    #[test]
    fn nothing_sent_is_not_complete() {
        assert!(!Exchanges { discovers: 0, offers: 0, requests: 0, acks: 0 }.is_complete());
        assert!(Exchanges { discovers: 2, offers: 2, requests: 2, acks: 2 }.is_complete());
    }
}
