//! Durations as people read them: percentiles of a sample.

use std::{fmt, time::Duration};

/// Durations of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    /// Takes one more.
    pub(crate) fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// The least value that so many percent of the sample do not exceed (nearest rank); zero
    /// of an empty one.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [50, 99, 100].map(|percent| seconds(self.percentile(percent)));
        write!(f, "p50 {half:>9}  p99 {most:>9}  longest {all:>9}")
    }
}

/// Three decimals: `1.250 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

/// How many in a second.
#[expect(clippy::cast_precision_loss, reason = "a rate for display")]
pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

/// Whole mebibytes.
pub(crate) fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut sample = Sample::default();
        assert_eq!(sample.percentile(99), Duration::ZERO);
        (1..=200).rev().for_each(|millis| sample.add(Duration::from_millis(millis)));
        let found = [50, 99, 100].map(|percent| sample.percentile(percent).as_millis());
        assert_eq!(found, [100, 198, 200]);
        assert_eq!(sample.to_string(), "p50   0.100 s  p99   0.198 s  longest   0.200 s");
    }
}
