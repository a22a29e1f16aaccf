//! The home of this crate's clocks. Everything else is told the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use api::ids::Timestamp;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The time of day.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the home of the clock")]
pub fn now() -> Timestamp {
    let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros)
        }
    };
    Timestamp(micros)
}

/// A clock that only moves forward, for time-outs.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the home of the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Clocks that are less apart are taken for the same, seconds: certificates and logs allow for it.
const MAX_SKEW_SECONDS: u64 = 60;

/// What there is to tell of this node's clock beside the server's, which it heard just now.
#[must_use]
pub fn skew(now: Timestamp, server: Timestamp) -> Option<String> {
    let seconds = now.seconds().abs_diff(server.seconds());
    let side = if now > server { "ahead of" } else { "behind" };
    (seconds > MAX_SKEW_SECONDS).then(|| {
        format!(
            "this node's clock is {} {side} the server's ({now} here, {server} there): one of the two is wrong; nodes \
             are kept right by `ntp` of their subnet and the overlay `time`",
            apart(seconds)
        )
    })
}

/// `3 days`, `2 h`, `40 s`: how far two clocks are apart.
#[must_use]
pub fn apart(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600) {
        (0, 0) => format!("{seconds} s"),
        (0, hours) => format!("{hours} h"),
        (days, _) => format!("{days} days"),
    }
}

/// Ticks at once, and then so often; a tick that comes late moves those after it.
#[must_use]
pub fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Seconds since boot: `/proc/uptime` has them with two decimals, then idle time. 0 where it
/// cannot be read.
#[must_use]
pub fn uptime_seconds() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_apart_are_told() {
        let server = Timestamp(1_795_464_000_000_000);
        let told = |seconds| skew(server.plus_seconds(seconds), server);
        assert_eq!((told(60), told(-60)), (None, None));
        expect_test::expect!["this node's clock is 3 days ahead of the server's (2026-11-26T20:00:09Z here, 2026-11-23T20:00:00Z there): one of the two is wrong; nodes are kept right by `ntp` of their subnet and the overlay `time`"]
            .assert_eq(&told(3 * 86_400 + 9).unwrap());
        assert!(told(-7_300).unwrap().starts_with("this node's clock is 2 h behind the server's"));
    }
}
