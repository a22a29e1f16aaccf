//! When jobs really begin, by the word of the kernel: its event `sched_process_exec` for
//! `/bin/true`, the same for every system.

use std::{fs, time::Duration};

use anyhow::Context as _;

use super::systems::JOB;

const TRACING: &str = "/sys/kernel/tracing";

/// The kernel's record of begun jobs; empty at first.
#[derive(Debug)]
pub(super) struct Starts;

impl Starts {
    /// Has the kernel record from now on, by the clock of [`crate::clock::monotonic`].
    pub(super) fn record() -> anyhow::Result<Self> {
        write("trace_clock", "mono")?;
        write("events/sched/sched_process_exec/filter", &format!("filename == \"{JOB}\""))?;
        write("events/sched/sched_process_exec/enable", "1")?;
        let starts = Self;
        starts.clear()?;
        Ok(starts)
    }

    /// Forgets what was recorded.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        write("trace", "")
    }

    /// When jobs began, since the record was cleared.
    pub(super) fn all(&self) -> anyhow::Result<Vec<Duration>> {
        let path = format!("{TRACING}/trace");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        parse(&text).with_context(|| format!("cannot understand {path}"))
    }
}

fn write(name: &str, text: &str) -> anyhow::Result<()> {
    let path = format!("{TRACING}/{name}");
    fs::write(&path, text).with_context(|| format!("cannot write {text:?} to {path}"))
}

/// Times of `TASK-PID [CPU] FLAGS SECONDS: sched_process_exec: …`.
fn parse(text: &str) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((head, _)) = line.split_once(": sched_process_exec:") else { continue };
        let seconds = head.split_whitespace().next_back().unwrap_or_default();
        times.push(Duration::from_secs_f64(seconds.parse().with_context(|| line.to_owned())?));
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_the_kernels_text() {
        let text = "# tracer: nop
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
            true-1234    [001] .....   123.456789: sched_process_exec: filename=/bin/true pid=1234 old_pid=1234
          <...>-77       [000] d..1.  4000.000001: sched_process_exec: filename=/bin/true pid=77 old_pid=77
";
        assert_eq!(
            parse(text).unwrap(),
            [Duration::from_micros(123_456_789), Duration::from_micros(4_000_000_001)]
        );
    }
}
