//! `vm-tests bench throughput --profile`: where an array of ours spends the machine's
//! time, by `perf`.

use std::{collections::BTreeMap, time::Duration};

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

/// What is shown: how the samples are sorted, of which (all where that is empty), and the least
/// share, percent.
const REPORTS: [(&str, &[&str], &str); 8] = [
    ("pid", &["--no-children"], "0.5"),
    ("comm,dso", &["--no-children"], "0.5"),
    ("comm,symbol", &["--no-children"], "0.4"),
    ("symbol", &["--no-children", "--dsos", "bedplate"], "0.05"),
    ("symbol", &["--no-children", "--dsos", "substrate"], "0.05"),
    // With all that is called by it.
    ("symbol", &["--children", "--comms", "container-init"], "0.25"),
    ("symbol", &["--children", "--comms", "exe"], "0.25"),
    ("symbol", &["--children", "--comms", "tokio-rt-worker"], "0.25"),
];

const COUNTS: &str = "/state/counts.csv";

const TIMES: &str = "/state/times.txt";

/// perf pads its lines to the longest symbol.
const LONGEST_LINE: usize = 150;

/// System calls of a unit that are shown: the most frequent.
const SHOWN_CALLS: usize = 25;

/// Calls that take less for a job are not shown.
const LEAST_MILLIS: f64 = 0.1;

/// Says perf's reports, line by line.
///
/// # Errors
/// If ours does not run, or perf does not.
pub(super) fn run_profiled() -> anyhow::Result<()> {
    let mut ours = Ours::new()?;
    ours.start()?;
    ours.run_array(WARM_UP).context("warming up")?;
    let record =
        ["perf", "record", "--all-cpus", "--freq=499", "--call-graph=fp", "--output", SAMPLES];
    let took = run_watched(&mut ours, &record)?;
    say(format!("array of {JOBS}: {:.1} jobs/s", f64::from(JOBS) / took.as_secs_f64()));
    show_samples()?;
    let groups: Vec<String> =
        ours.units().iter().map(|unit| format!("system.slice/{unit}.service")).collect();
    let groups = format!("--for-each-cgroup={}", groups.join(","));
    let count = [
        "perf",
        "stat",
        "--all-cpus",
        "--event=syscalls:sys_enter_*",
        &groups,
        "-x,",
        "--output",
        COUNTS,
    ];
    run_watched(&mut ours, &count)?;
    show_counts()?;
    let trace = ["perf", "trace", "--all-cpus", "--summary", "--output", TIMES];
    run_watched(&mut ours, &trace)?;
    show_times()
}

/// How long an array takes while perf looks on.
fn run_watched(ours: &mut Ours, perf: &[&str]) -> anyhow::Result<Duration> {
    start_unit("perf", &["--property=KillSignal=SIGINT"], perf)?;
    let began = clock::now();
    ours.run_array(JOBS).context("running an array")?;
    let took = began.elapsed();
    stop_units(&["perf"])?;
    Ok(took)
}

/// What ran.
fn show_samples() -> anyhow::Result<()> {
    for (sort, of, least) in REPORTS {
        say(format!("by {sort}, {}:", of.join(" ")));
        let mut report = vec!["report", "--input", SAMPLES, "--stdio", "--call-graph=none"];
        report.extend(of.iter().chain(&["--sort", sort, "--percent-limit", least]));
        for line in
            run("perf", &report)?.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            say(line.chars().take(LONGEST_LINE).collect::<String>().trim_end());
        }
    }
    Ok(())
}

/// System calls of each unit for each job.
fn show_counts() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(COUNTS).with_context(|| format!("cannot read {COUNTS}"))?;
    let mut units: BTreeMap<&str, Vec<(f64, &str)>> = BTreeMap::new();
    for line in text.lines() {
        // COUNT,UNIT,EVENT,GROUP,…
        if let [count, _, event, group, ..] = line.split(',').collect::<Vec<_>>()[..]
            && let Ok(count) = count.parse::<f64>()
        {
            let name = event.trim_start_matches("syscalls:sys_enter_");
            units.entry(group).or_default().push((count / f64::from(JOBS), name));
        }
    }
    for (unit, mut counts) in units {
        counts.sort_by(|one, other| other.0.total_cmp(&one.0));
        say(format!("system calls of {unit} for a job:"));
        for (count, name) in counts.iter().take(SHOWN_CALLS) {
            say(format!("  {count:8.1} {name}"));
        }
    }
    Ok(())
}

/// Time in system calls, with what they waited, by name of the program.
fn show_times() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(TIMES).with_context(|| format!("cannot read {TIMES}"))?;
    for (program, calls) in times(&text) {
        let mut calls: Vec<_> = calls.into_iter().collect();
        calls.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        say(format!("ms in system calls of {program} for a job:"));
        for (name, millis) in
            calls.iter().take(SHOWN_CALLS).filter(|(_, millis)| *millis >= LEAST_MILLIS)
        {
            say(format!("  {millis:8.2} {name}"));
        }
    }
    Ok(())
}

/// Milliseconds for a job by program and system call.
///
/// ```text
///  NAME (PID), 120 events, 31.7%
///    CALL   CALLS ERRORS TOTAL MIN AVG MAX STDDEV
/// ```
fn times(text: &str) -> BTreeMap<&str, BTreeMap<&str, f64>> {
    let (mut programs, mut program) = (BTreeMap::new(), "");
    for line in text.lines() {
        if let Some((name, _)) = line.split_once(" (").filter(|_| line.contains(" events, ")) {
            program = name.trim();
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [call, calls, _, total, ..] = words[..]
            && calls.parse::<u64>().is_ok()
            && let Ok(total) = total.parse::<f64>()
        {
            let of_program: &mut BTreeMap<&str, f64> = programs.entry(program).or_default();
            *of_program.entry(call).or_default() += total / f64::from(JOBS);
        }
    }
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_threads_of_one_name_are_added() {
        let text = " a b (7), 120 events, 31.7%

   syscall            calls  errors  total       min
                                     (msec)    (msec)
   --------------- --------  ------ -------- ---------
   futex                 20     20   600.000     0.000

 a b (8), 4 events, 1.1%

   futex                  2      2   300.000     0.000
   read                   2      0     3.000     0.000
";
        let expected = BTreeMap::from([("a b", BTreeMap::from([("futex", 3.0), ("read", 0.01)]))]);
        assert_eq!(times(text), expected);
    }
}
