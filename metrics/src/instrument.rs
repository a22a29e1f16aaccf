//! The instruments: each a few atomics, counted up without order between them (`Relaxed`), because
//! a scrape is a look at one moment and nothing is decided by it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Upper bounds of the buckets of what takes microseconds to seconds: requests, commits.
pub const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Upper bounds of the buckets of what takes seconds to an hour: imports, pulls.
pub const SLOW_SECONDS: &[f64] =
    &[1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// How often something happened, or how much of it: it never goes down.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Increments it by 1.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// How many since the start.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counters of one label whose words are known in advance. What is none of them counts as the last.
#[derive(Debug)]
pub struct Counters<const N: usize> {
    words: [&'static str; N],
    counts: [AtomicU64; N],
}

impl<const N: usize> Counters<N> {
    /// All at zero. The last word stands for all others.
    #[must_use]
    pub const fn new(words: [&'static str; N]) -> Self {
        const { assert!(N > 0, "a label has at least one word") };
        Self { words, counts: [const { AtomicU64::new(0) }; N] }
    }

    /// One more of this word.
    pub fn inc(&self, word: &str) {
        let known = self.words.iter().position(|known| *known == word);
        self.counts[known.unwrap_or(N - 1)].fetch_add(1, Relaxed);
    }

    /// Each word and how often it was counted since the start, in the order of the words.
    pub fn get(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.words.into_iter().zip(&self.counts).map(|(word, count)| (word, count.load(Relaxed)))
    }
}

/// How many there are now. Clones are the same gauge.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// One more, for as long as what is returned lives.
    #[must_use]
    pub fn enter(&self) -> Entered {
        self.0.fetch_add(1, Relaxed);
        Entered(self.clone())
    }

    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// How many there are now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// One that is counted by a [`Gauge`] until it is dropped, however its work ends.
#[derive(Debug)]
pub struct Entered(Gauge);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// How long things took, in buckets.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, seconds, ascending; above the last there is one bucket more.
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// 584 years of them fit.
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Empty, with these upper bounds in seconds, ascending: [`SECONDS`], [`SLOW_SECONDS`].
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, nanoseconds: AtomicU64::new(0) }
    }

    /// Counts something that took so long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket =
            self.bounds.iter().position(|bound| seconds <= *bound).unwrap_or(self.bounds.len());
        self.counts[bucket].fetch_add(1, Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Of each bucket its upper bound (infinity for the last) and how many took at most so long.
    /// The count of the last is that of all, whatever is counted meanwhile.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter()).scan(0, |all, (bound, count)| {
            *all += count.load(Relaxed);
            Some((bound, *all))
        })
    }

    /// How long all of them took together.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Relaxed))
    }
}

/// Work that takes a while: how much of it runs, how it ended, and how long it took.
#[derive(Debug)]
pub struct Work<const N: usize> {
    pub(crate) running: Gauge,
    pub(crate) ended: Counters<N>,
    pub(crate) took: Histogram,
}

impl<const N: usize> Work<N> {
    /// Work that ends in one of these ways. The last is for work that was given up half way.
    #[must_use]
    pub fn new(outcomes: [&'static str; N]) -> Self {
        let (ended, took) = (Counters::new(outcomes), Histogram::new(SLOW_SECONDS));
        Self { running: Gauge::default(), ended, took }
    }

    /// A piece of work begins.
    pub fn begin(&self) -> Begun<'_, N> {
        Begun { work: self, _running: self.running.enter(), is_over: false }
    }
}

/// A piece of work under way; dropped without [`Begun::end`], it was given up.
#[derive(Debug)]
#[must_use = "work that is not held is over at once"]
pub struct Begun<'a, const N: usize> {
    work: &'a Work<N>,
    _running: Entered,
    is_over: bool,
}

impl<const N: usize> Begun<'_, N> {
    /// It is over, with this outcome, after this time.
    pub fn end(mut self, outcome: &str, took: Duration) {
        self.is_over = true;
        self.work.ended.inc(outcome);
        self.work.took.observe(took);
    }
}

impl<const N: usize> Drop for Begun<'_, N> {
    fn drop(&mut self) {
        if !self.is_over {
            self.work.ended.inc(self.work.ended.words[N - 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_not_known_count_as_the_last() {
        let counters = Counters::new(["discover", "request", "other"]);
        for word in ["request", "discover", "request", "made up", "other", ""] {
            counters.inc(word);
        }
        let counts: Vec<_> = counters.get().collect();
        assert_eq!(counts, [("discover", 1), ("request", 2), ("other", 3)]);
    }

    #[test]
    fn a_gauge_goes_down_however_the_work_ends() {
        let gauge = Gauge::default();
        let first = gauge.enter();
        let panicked = std::thread::spawn({
            let second = gauge.enter();
            move || {
                let _second = second;
                panic!("on purpose");
            }
        });
        assert!(panicked.join().is_err());
        assert_eq!(gauge.get(), 1);
        drop(first);
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn work_that_is_given_up_is_counted_too() {
        let work = Work::new(["done", "failed", "given-up"]);
        let (first, second, third) = (work.begin(), work.begin(), work.begin());
        assert_eq!(work.running.get(), 3);
        first.end("done", Duration::from_secs(1));
        second.end("failed", Duration::from_secs(100));
        drop(third);
        let ended: Vec<_> = work.ended.get().collect();
        assert_eq!(ended, [("done", 1), ("failed", 1), ("given-up", 1)]);
        assert_eq!((work.running.get(), work.took.count()), (0, 2));
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(&[0.001, 1.0]);
        for milliseconds in [0, 1, 2, 1_000, 1_001, 60_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        let buckets: Vec<_> = histogram.cumulative().collect();
        assert_eq!(buckets, [(0.001, 2), (1.0, 4), (f64::INFINITY, 6)]);
        assert_eq!((histogram.count(), histogram.sum()), (6, Duration::from_millis(62_004)));
    }
}
