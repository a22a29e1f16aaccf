//! `vm-tests inside throughput [--quick]`: what the machine does. It says the outcome as one line
//! of JSON at its end.
//!
//! Each round starts every system, warms it, measures it alone and stops it; the order moves on by
//! one with each round.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench::outcome::{Better, Outcome, Row, Spread};

use super::{
    super::Extent,
    hyper_queue::HyperQueue,
    ours::Ours,
    parallel::Parallel,
    slurm::Slurm,
    starts::Starts,
    systems::{BatchSystem, cpu_times, journal},
};
use crate::{clock, report::say};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Jobs {
    rounds: usize,
    /// Jobs of the array.
    array: u32,
    /// Jobs handed in one by one, as fast as the system takes them.
    singles: u32,
    /// Jobs handed in to an idle system.
    idle: u32,
}

impl Jobs {
    /// For a system that is so many times slower.
    fn smaller(self, times: u32) -> Self {
        let part = |jobs: u32| (jobs / times).max(1);
        Self { array: part(self.array), singles: part(self.singles), idle: part(self.idle), ..self }
    }
}

const FULL: Jobs = Jobs { rounds: 3, array: 1_000, singles: 100, idle: 20 };
const QUICK: Jobs = Jobs { rounds: 1, array: 100, singles: 20, idle: 10 };

/// Jobs before the clock starts.
const WARM_UP: u32 = 20;

/// What one round found of one system.
#[derive(Debug, Default)]
struct Found {
    array_rate: f64,
    cpu_millis: Option<f64>,
    single_rate: Option<f64>,
    /// Submit to start: the middle one and that of the last percent, ms.
    starts: Option<(f64, f64)>,
}

/// Measures all systems and says the outcome.
///
/// # Errors
/// If ours does not run, or something runs another number of jobs than it was given.
pub(super) fn run(extent: Extent) -> anyhow::Result<()> {
    let jobs = match extent {
        Extent::Full => FULL,
        Extent::Quick => QUICK,
    };
    let starts = Starts::record().context("having the kernel record the start of jobs")?;
    let mut systems: Vec<Box<dyn BatchSystem>> = vec![
        Box::new(Ours::new()?),
        Box::new(HyperQueue::default()),
        Box::new(Slurm::default()),
        Box::new(Parallel::default()),
    ];
    let ours = systems[0].name();
    let mut outcome = outcome(jobs);
    for round in 0..jobs.rounds {
        let count = systems.len();
        systems.rotate_left(round.min(1) % count);
        let mut failed = Vec::new();
        for system in &mut systems {
            let name = system.name();
            say(format!("round {} of {}: {name}", round + 1, jobs.rounds));
            match measure(system.as_mut(), jobs, &starts) {
                Ok(found) => note(&mut outcome, (name != ours).then_some(name), &found),
                Err(error) => {
                    let error = error.context(journal(system.units()));
                    ensure!(name != ours, "{name}: {error:#}");
                    say(format!("{name} failed: {error:#}"));
                    outcome.missing(name, format!("{error:#}"));
                    failed.push(name);
                }
            }
        }
        systems.retain(|system| !failed.contains(&system.name()));
    }
    say(serde_json::to_string(&outcome)?);
    Ok(())
}

/// The rows, without samples.
fn outcome(jobs: Jobs) -> Outcome {
    let Jobs { array, singles, idle, .. } = jobs;
    let mut outcome = Outcome::new("throughput");
    let rows = [
        Row::new(
            format!("array of {array} jobs, submit to all finished"),
            "jobs/s",
            Better::Higher,
        )
        .headline(),
        Row::new(
            format!("{singles} single jobs, first submit to all finished"),
            "jobs/s",
            Better::Higher,
        ),
        Row::new(format!("submit to start, idle, {idle} jobs: p50"), "ms", Better::Lower),
        Row::new(format!("submit to start, idle, {idle} jobs: p99"), "ms", Better::Lower),
        Row::new("CPU time for a job of the array, with the job's own", "ms", Better::Lower),
    ];
    outcome.rows.extend(rows);
    outcome
}

/// Adds samples to the rows; of ours where there is no peer's name.
fn note(outcome: &mut Outcome, peer: Option<&str>, found: &Found) {
    let samples = [
        Some(found.array_rate),
        found.single_rate,
        found.starts.map(|(middle, _)| middle),
        found.starts.map(|(_, last)| last),
        found.cpu_millis,
    ];
    for (row, sample) in outcome.rows.iter_mut().zip(samples) {
        match (sample, peer) {
            (Some(sample), Some(peer)) => row.peer(peer, sample),
            (Some(sample), None) => row.ours(sample),
            (None, _) => {}
        }
    }
}

fn measure(system: &mut dyn BatchSystem, jobs: Jobs, starts: &Starts) -> anyhow::Result<Found> {
    system.start().context("starting")?;
    let found = measure_started(system, jobs, starts);
    system.stop().context("stopping")?;
    found
}

fn measure_started(
    system: &mut dyn BatchSystem,
    jobs: Jobs,
    starts: &Starts,
) -> anyhow::Result<Found> {
    array(system, WARM_UP, starts).context("warming up")?;
    let mut found = Found::default();
    let Jobs { array: all, singles: single, idle: apart, .. } = jobs.smaller(system.shrinks());
    let before = cpu_times(system.units())?;
    let took = array(system, all, starts).context("running an array")?;
    let after = cpu_times(system.units())?;
    found.array_rate = f64::from(all) / took.as_secs_f64();
    let millis: Vec<f64> = after
        .iter()
        .zip(before)
        .map(|(after, before)| (*after - before).as_secs_f64() * 1e3 / f64::from(all))
        .collect();
    let parts: Vec<String> = system
        .units()
        .iter()
        .zip(&millis)
        .map(|(unit, millis)| format!("{unit} {millis:.1}"))
        .collect();
    say(format!(
        "  array of {all}: {:.1} jobs/s; ms of CPU a job: {}",
        found.array_rate,
        parts.join(", ")
    ));
    found.cpu_millis = (!millis.is_empty()).then(|| millis.iter().sum());
    if system.has_queue() {
        let took = singles(system, single, starts).context("running single jobs")?;
        let rate = f64::from(single) / took.as_secs_f64();
        let (middle, last) = idle(system, apart, starts).context("running jobs apart")?;
        say(format!(
            "  {single} single jobs: {rate:.1} jobs/s; {apart} apart start after {middle:.0} ms, p99 {last:.0} ms"
        ));
        (found.single_rate, found.starts) = (Some(rate), Some((middle, last)));
    }
    Ok(found)
}

/// How long an array takes.
fn array(system: &mut dyn BatchSystem, jobs: u32, starts: &Starts) -> anyhow::Result<Duration> {
    starts.clear()?;
    let began = clock::now();
    system.run_array(jobs)?;
    let took = began.elapsed();
    check(system, jobs, starts)?;
    Ok(took)
}

/// How long jobs take that are handed in one by one.
fn singles(system: &mut dyn BatchSystem, jobs: u32, starts: &Starts) -> anyhow::Result<Duration> {
    starts.clear()?;
    let began = clock::now();
    for _ in 0..jobs {
        system.submit()?;
    }
    system.wait()?;
    let took = began.elapsed();
    check(system, jobs, starts)?;
    Ok(took)
}

/// From before a submission to the start of its job, while nothing else is to be done: the middle
/// one and that of the last percent, ms.
fn idle(system: &mut dyn BatchSystem, jobs: u32, starts: &Starts) -> anyhow::Result<(f64, f64)> {
    let mut waits = Vec::new();
    for _ in 0..jobs {
        starts.clear()?;
        let submitted = clock::monotonic()?;
        system.submit()?;
        system.wait()?;
        let started = starts.all()?.first().copied().context("the kernel saw no job")?;
        waits.push((started.saturating_sub(submitted)).as_secs_f64() * 1e3);
        check(system, 1, starts)?;
    }
    waits.sort_by(f64::total_cmp);
    let last = (waits.len() * 99).div_ceil(100).saturating_sub(1);
    let middle = Spread::of(&waits).context("no jobs")?.median;
    Ok((middle, waits[last]))
}

/// As many jobs ended well, and as many were started, as were handed in.
fn check(system: &mut dyn BatchSystem, jobs: u32, starts: &Starts) -> anyhow::Result<()> {
    let (finished, started) = (system.take_finished()?, starts.all()?.len());
    ensure!(finished == jobs, "of {jobs} jobs {finished} ended well");
    ensure!(started == jobs as usize, "of {jobs} jobs the kernel saw {started} start");
    Ok(())
}
