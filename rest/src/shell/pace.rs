//! Whether bytes go fast enough while the server waits for a client. Pure: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// In each `window` of waiting at least `bytes` must move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastSpeed {
    /// How long is waited before the bytes are counted.
    pub window: Duration,
    /// How many must have moved by then.
    pub bytes: u64,
}

/// The client is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooSlow;

/// Time that was waited for the client, and what moved since that began. Time in which the
/// server itself had nothing to send, or was not reading, is not counted.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    moved: u64,
    since: Option<Instant>,
}

impl Pace {
    /// Nothing moves now. Returns when to look again.
    pub(super) fn waits(&mut self, least: LeastSpeed, now: Instant) -> Result<Instant, TooSlow> {
        if self.since.is_none() && self.waited.is_zero() {
            // What the kernel took into its buffers before says nothing of the client.
            self.moved = 0;
        }
        let since = *self.since.get_or_insert(now);
        let waited = self.waited + now.saturating_duration_since(since);
        if waited < least.window {
            return Ok(since + (least.window - self.waited));
        }
        if self.moved < least.bytes {
            return Err(TooSlow);
        }
        *self = Self { since: Some(now), ..Self::default() };
        Ok(now + least.window)
    }

    /// Is the client being waited for?
    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Bytes moved.
    pub(super) fn moved(&mut self, bytes: usize, now: Instant) {
        self.moved = self.moved.saturating_add(bytes as u64);
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: LeastSpeed = LeastSpeed { window: Duration::from_secs(10), bytes: 100 };

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn silence_for_a_window_is_too_slow() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        assert_eq!(pace.waits(LEAST, start), Ok(start + seconds(10)));
        assert_eq!(pace.waits(LEAST, start + seconds(9)), Ok(start + seconds(10)));
        assert_eq!(pace.waits(LEAST, start + seconds(10)), Err(TooSlow));
    }

    #[test]
    fn what_moved_before_the_client_was_waited_for_does_not_count() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        pace.moved(1 << 20, start);
        pace.waits(LEAST, start).unwrap();
        assert_eq!(pace.waits(LEAST, start + seconds(10)), Err(TooSlow));
    }

    #[test]
    fn a_trickle_is_too_slow_and_the_least_speed_is_not() {
        // What comes with the end of a window counts for the next one.
        for (each, expected) in [(9, false), (12, true)] {
            let (mut now, mut pace) = (Instant::now(), Pace::default());
            let kept = (0..100).all(|_| {
                let goes_on = pace.waits(LEAST, now).is_ok();
                now += seconds(1);
                goes_on && pace.waits(LEAST, now).is_ok() && {
                    pace.moved(each, now);
                    true
                }
            });
            assert_eq!(kept, expected, "{each} bytes a second");
        }
    }

    #[test]
    fn time_in_which_nothing_is_waited_for_does_not_count() {
        let (mut now, mut pace) = (Instant::now(), Pace::default());
        for _ in 0..9 {
            pace.waits(LEAST, now).unwrap();
            now += seconds(1);
            pace.moved(1, now);
            // A watch that has nothing to say.
            now += seconds(3_600);
        }
        assert_eq!(pace.waits(LEAST, now), Ok(now + seconds(1)));
        assert_eq!(pace.waits(LEAST, now + seconds(1)), Err(TooSlow));
    }
}
