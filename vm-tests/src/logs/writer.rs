//! Jobs whose logs are behind them when they end: consecutive numbers, by the `seq` of GNU
//! coreutils, which writes them faster than any log travels. No two jobs write the same, and what
//! one writes can be told without it.

use std::io::Write as _;

use fastrand::Rng;
use sha2::{Digest as _, Sha256};

/// The least number: all have eight digits, so that all logs of as many lines are as long.
const LEAST: u32 = 10_000_000;

/// First numbers of two jobs are this far apart, on the average.
const STRIDE: u32 = 1_000;

/// More jobs would come to numbers of nine digits.
pub(super) const MOST_JOBS: u32 = 80_000;

/// What one job writes: the numbers from `first` to `last`, a line each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Writer {
    first: u32,
    last: u32,
}

impl Writer {
    /// So many jobs with so many lines, no two of which write the same.
    pub(super) fn draw_all(dice: &mut Rng, jobs: u32, lines: u32) -> Vec<Self> {
        let draw = |index: u32| {
            let first = LEAST + index * STRIDE + dice.u32(..STRIDE);
            Self { first, last: first + lines - 1 }
        };
        (0..jobs).map(draw).collect()
    }

    /// The job of a workflow document.
    fn job(self, name: &str) -> String {
        let Self { first, last } = self;
        format!(
            "  {name}:
    image: docker://127.0.0.1:5000/debian-small:12
    command: [seq, '{first}', '{last}']
    resource: {{ cpu: {{ cores: 1 }}, memory: {{ size: 64MiB }} }}
"
        )
    }

    /// Its log.
    pub(super) fn log(self) -> Vec<u8> {
        let mut text = Vec::with_capacity(9 * (self.last - self.first + 1) as usize);
        for number in self.first..=self.last {
            // Writing to a vector does not fail.
            let _ = writeln!(text, "{number}");
        }
        text
    }

    /// What `sha256sum` says of its log.
    pub(super) fn sha256(self) -> String {
        Sha256::digest(self.log()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The document of a workflow with these jobs.
pub(super) fn document<'a>(jobs: impl IntoIterator<Item = (&'a str, Writer)>) -> String {
    let jobs: String = jobs.into_iter().map(|(name, job)| job.job(name)).collect();
    format!("version: v1\njobs:\n{jobs}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use expect_test::expect;
    use fastrand::Rng;

    use super::*;

    #[test]
    fn what_a_job_writes_is_what_seq_writes() {
        let job = Writer { first: 98, last: 101 };
        assert_eq!(job.log(), b"98\n99\n100\n101\n");
        // seq 98 101 | sha256sum
        let sum = "bb26a821a9a0fc2b1a70d2f18f1af005f01bb7b59da986d121befe38979bee54";
        assert_eq!(job.sha256(), sum);
        expect![[r"
            version: v1
            jobs:
              a:
                image: docker://127.0.0.1:5000/debian-small:12
                command: [seq, '98', '101']
                resource: { cpu: { cores: 1 }, memory: { size: 64MiB } }
        "]]
        .assert_eq(&document([("a", job)]));
    }

    #[test]
    fn no_two_jobs_write_the_same_and_all_as_much() {
        let draw = || Writer::draw_all(&mut Rng::with_seed(7), MOST_JOBS, 5_000_000);
        let jobs = draw();
        assert_eq!(jobs, draw(), "another draw of the same seed");
        assert_eq!(jobs.iter().map(|job| job.first).collect::<BTreeSet<_>>().len(), jobs.len());
        let digits = |number: u32| number.to_string().len();
        assert!(jobs.iter().all(|job| digits(job.first) == 8 && digits(job.last) == 8));
        assert!(jobs.iter().all(|job| job.last - job.first == 4_999_999));
    }
}
