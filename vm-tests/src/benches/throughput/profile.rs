//! `vm-tests bench throughput --profile`: where an array of ours spends the machine's time, by `perf`.

use anyhow::Context as _;

use super::{
    ours::Ours,
    systems::{BatchSystem as _, start_unit, stop_units},
};
use crate::{clock, process::run, report::say};

const SAMPLES: &str = "/state/perf.data";

/// Jobs before, and while it looks.
const WARM_UP: u32 = 20;
const JOBS: u32 = 300;

/// What is shown, by how the samples are sorted, and the least share, percent.
const REPORTS: [(&str, &str); 3] = [("pid", "0.5"), ("comm,dso", "0.5"), ("comm,symbol", "0.4")];

const COUNTS: &str = "/state/counts.csv";

/// System calls that are shown: the most frequent.
const SHOWN_CALLS: usize = 40;

/// Says perf's reports, line by line.
///
/// # Errors
/// If ours does not run, or perf does not.
pub(super) fn run_profiled() -> anyhow::Result<()> {
    let mut ours = Ours::new()?;
    ours.start()?;
    ours.run_array(WARM_UP).context("warming up")?;
    let record = ["perf", "record", "--all-cpus", "--freq=499", "--output", SAMPLES];
    start_unit("perf", &["--property=KillSignal=SIGINT"], &record)?;
    let began = clock::now();
    ours.run_array(JOBS).context("running an array")?;
    say(format!("array of {JOBS}: {:.1} jobs/s", f64::from(JOBS) / began.elapsed().as_secs_f64()));
    stop_units(&["perf"])?;
    show_samples()?;
    let count = ["perf", "stat", "--all-cpus", "--event", "syscalls:sys_enter_*", "-x,", "--output", COUNTS];
    start_unit("perf", &["--property=KillSignal=SIGINT"], &count)?;
    ours.run_array(JOBS).context("running an array")?;
    stop_units(&["perf"])?;
    show_counts()
}

/// What ran.
fn show_samples() -> anyhow::Result<()> {
    for (sort, least) in REPORTS {
        let report = ["report", "--input", SAMPLES, "--stdio", "--sort", sort, "--percent-limit", least];
        for line in run("perf", &report)?.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            say(line.trim_end());
        }
    }
    Ok(())
}

/// System calls of the whole machine for each job.
fn show_counts() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(COUNTS).with_context(|| format!("cannot read {COUNTS}"))?;
    // COUNT,UNIT,EVENT,…
    let count = |line: &str| {
        let mut fields = line.split(',');
        let count = fields.next()?.parse::<f64>().ok()?;
        Some((count, fields.nth(1)?.trim_start_matches("syscalls:sys_enter_").to_owned()))
    };
    let mut counts: Vec<(f64, String)> = text.lines().filter_map(count).collect();
    counts.sort_by(|one, other| other.0.total_cmp(&one.0));
    say("system calls a job:");
    for (count, name) in counts.iter().take(SHOWN_CALLS) {
        say(format!("  {:8.1} {name}", count / f64::from(JOBS)));
    }
    Ok(())
}
