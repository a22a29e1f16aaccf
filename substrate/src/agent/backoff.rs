//! The agent's pauses between attempts. Pure: randomness is an argument.

use std::time::Duration;

use api::backoff::{Backoff, Jitter, Schedule};

/// Shortest pause.
const LEAST: Duration = Duration::from_millis(500);

/// When a server restarts, thousands of nodes come back within the first pause; one that is back
/// sees all its nodes within the longest.
const PAUSES: Schedule =
    Schedule { first: Duration::from_secs(2), longest: Duration::from_secs(30) };

/// Pauses that grow with each failure: anything from half a second to 2, 4, 8, 16, 30 s.
#[must_use]
pub const fn agent_backoff() -> Backoff {
    Backoff::new(PAUSES)
}

/// What spreads the nodes: `random` is any number.
#[must_use]
pub const fn jitter(random: u64) -> Jitter {
    Jitter::From { least: LEAST, random }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_over() {
        let mut backoff = agent_backoff();
        let longest: Vec<_> = [1_500, 3_500, 7_500, 15_500, 29_500, 29_500]
            .into_iter()
            .map(|random| backoff.pause(jitter(random)).as_millis())
            .collect();
        assert_eq!(longest, [2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        for random in 0..100_000 {
            let pause = backoff.pause(jitter(random * 7_919)).as_millis();
            assert!((500..=30_000).contains(&pause), "{pause}");
        }
        backoff.reset();
        assert_eq!(backoff.pause(jitter(1_501)).as_millis(), 500);
    }
}
