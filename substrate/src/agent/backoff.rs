//! How long to wait before the next attempt. Pure: randomness is an argument.

use std::time::Duration;

/// Least pause, milliseconds.
const LEAST_MS: u64 = 500;

/// Longest pause of the first step, milliseconds: when a server restarts, thousands of nodes come back within it.
const FIRST_MS: u64 = 2_000;

/// Longest pause, milliseconds: a server that is back sees all its nodes within half a minute.
const MOST_MS: u64 = 30_000;

/// Pauses that grow with each failure: anything from half a second to 2, 4, 8, 16, 30 s.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause. `random` spreads the nodes.
    pub fn pause(&mut self, random: u64) -> Duration {
        let most = FIRST_MS.saturating_mul(1 << self.failures.min(10)).min(MOST_MS);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(LEAST_MS + random % (most - LEAST_MS + 1))
    }

    /// All is well again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_over() {
        let mut backoff = Backoff::default();
        let longest: Vec<_> = [1_500, 3_500, 7_500, 15_500, 29_500, 29_500]
            .into_iter()
            .map(|random| backoff.pause(random).as_millis())
            .collect();
        assert_eq!(longest, [2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        for random in 0..100_000 {
            let pause = backoff.pause(random * 7_919).as_millis();
            assert!((500..=30_000).contains(&pause), "{pause}");
        }
        backoff.reset();
        assert_eq!(backoff.pause(1_501).as_millis(), 500);
    }
}
