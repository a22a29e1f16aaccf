//! What is measured: something that takes jobs and runs them, started and stopped by the benchmark.

use std::time::Duration;

use anyhow::Context as _;

use crate::{clock, process::run};

/// Jobs that run at once: one on each processor of the machine.
pub(super) const SLOTS: u32 = 2;

/// What every job is.
pub(super) const JOB: &str = "/bin/true";

/// How long a system may take to be ready for jobs.
pub(super) const START_LIMIT: Duration = Duration::from_secs(300);

/// A system that runs jobs. All that it keeps is below `/state`.
pub(super) trait BatchSystem {
    /// Its name in the outcome.
    fn name(&self) -> &'static str;

    /// Starts it; it is ready for jobs when this returns.
    fn start(&mut self) -> anyhow::Result<()>;

    /// Stops it.
    fn stop(&mut self) -> anyhow::Result<()>;

    /// Runs an array of so many jobs and returns when the system says that it is over.
    fn run_array(&mut self, jobs: u32) -> anyhow::Result<()>;

    /// Hands one job in and returns when the system has taken it.
    fn submit(&mut self) -> anyhow::Result<()>;

    /// Returns when everything that was handed in is over.
    fn wait(&mut self) -> anyhow::Result<()>;

    /// How many jobs ended well, of those since this was asked last.
    fn take_finished(&mut self) -> anyhow::Result<u32>;

    /// The units of systemd that it consists of.
    fn units(&self) -> &'static [&'static str];

    /// Whether it has a queue that single jobs are handed in to.
    fn has_queue(&self) -> bool {
        true
    }

    /// Its batches are so many times smaller, since the whole has to end within half an hour.
    fn shrinks(&self) -> u32 {
        1
    }
}

/// Starts a program as a unit of its own.
pub(super) fn start_unit(unit: &str, properties: &[&str], command: &[&str]) -> anyhow::Result<()> {
    let unit = format!("--unit={unit}");
    // Programs of people expect a home.
    let mut arguments = vec!["--quiet", "--collect", "--setenv=HOME=/root", &unit];
    arguments.extend(properties);
    arguments.push("--");
    arguments.extend(command);
    run("systemd-run", &arguments).map(drop)
}

/// Stops units and all that runs in them.
pub(super) fn stop_units(units: &[&str]) -> anyhow::Result<()> {
    run("systemctl", &[&["stop"], units].concat()).map(drop)
}

/// Fails if a unit has ended.
pub(super) fn check_alive(unit: &str) -> anyhow::Result<()> {
    run("systemctl", &["is-active", unit]).map(drop).with_context(|| format!("{unit} has ended"))
}

/// Looks until a command succeeds.
pub(super) fn wait_for_command(
    what: &str,
    program: &str,
    arguments: &[&str],
) -> anyhow::Result<()> {
    clock::wait_for(what, START_LIMIT, || {
        let output = crate::process::output(program, arguments, b"")?;
        Ok(output.status.success().then_some(()))
    })
}

/// CPU time that each unit has used, with all that it started.
pub(super) fn cpu_times(units: &[&str]) -> anyhow::Result<Vec<Duration>> {
    let of = |unit: &&str| {
        let path = format!("/sys/fs/cgroup/system.slice/{unit}.service/cpu.stat");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
        let micros = used.with_context(|| format!("{path} says {text:?}"))?.parse()?;
        Ok(Duration::from_micros(micros))
    };
    units.iter().map(of).collect()
}

/// The last words of units, for messages.
pub(super) fn journal(units: &[&str]) -> String {
    let mut arguments = vec!["--no-pager", "--lines=15", "--output=cat"];
    for unit in units {
        arguments.extend(["--unit", unit]);
    }
    run("journalctl", &arguments).unwrap_or_default()
}
