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
        self.discovers > 0
            && self.offers >= self.discovers
            && self.acks >= self.requests
            && self.requests > 0
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

/// Arguments with which it tells the times of all packets at its end.
pub(super) const TIMES: [&str; 2] = ["-x", "t"];

/// How long each REQUEST waited for its ACK, ms.
pub(super) fn delays(text: &str) -> Vec<f64> {
    let times = text.split("***Timestamps for packets: REQUEST-ACK***").nth(1).unwrap_or_default();
    let of_this = times.split("***").next().unwrap_or_default();
    let delay = |line: &str| {
        let (sent, received) = line.trim().strip_prefix("sent / received: ")?.split_once(" / ")?;
        Some((milliseconds(received)? - milliseconds(sent)?).max(0.0))
    };
    of_this.lines().filter_map(delay).collect()
}

/// Reads a duration like `000102.345678`: hours, minutes, seconds, and what is left,
/// if anything is.
fn milliseconds(text: &str) -> Option<f64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let part = |from: usize| clock.get(from..from + 2)?.parse::<f64>().ok();
    let seconds = part(0)? * 3_600.0 + part(2)? * 60.0 + part(4)?;
    Some((seconds + format!("0.{fraction}").parse::<f64>().ok()?) * 1e3)
}

/// The delay that a hundredth of them is longer than; `None` of fewer than a hundred.
pub(super) fn p99(delays: &[f64]) -> Option<f64> {
    let mut sorted = delays.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = sorted.len() - sorted.len() / 100;
    if sorted.len() < 100 { None } else { sorted.get(at - 1).copied() }
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
    fn delays_are_read_and_all_but_a_hundredth_are_shorter_than_p99() {
        let text = "***Timestamps for packets: DISCOVER-OFFER***
sent / received: 000000.100000 / 000000.900000

***Timestamps for packets: REQUEST-ACK***
sent / received: 000059.999000 / 000100.001500
sent / received: 000101 / 000101.000250
";
        let read: Vec<String> = delays(text).iter().map(|delay| format!("{delay:.3}")).collect();
        assert_eq!(read, ["2.500", "0.250"]);
        assert_eq!(p99(&delays(text)), None);
        let many: Vec<f64> = (1..=1_000).rev().map(f64::from).collect();
        assert_eq!(p99(&many), Some(990.0));
    }

    #[test]
    fn nothing_sent_is_not_complete() {
        assert!(!Exchanges { discovers: 0, offers: 0, requests: 0, acks: 0 }.is_complete());
        assert!(Exchanges { discovers: 2, offers: 2, requests: 2, acks: 2 }.is_complete());
    }
}
