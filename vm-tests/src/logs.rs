//! Logs that are read at the moment at which their jobs end: `vm-tests logs JOBS [SEED]`, and a
//! check of the vm lane with some of them.
//!
//! Each job writes 3 MB as fast as it can, and ends: most of its log is still on its node when the
//! server hears of the end. The reader does what a person would, with the real command line:
//! `bedplate workflow start --watch`, and at once `bedplate workflow log | sha256sum`. By hand this
//! is done on one node that is busy with something else, and that is lost in the end before the
//! rest of some logs has come ([`lost`]).

mod lost;
mod reading;
mod writer;

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use fastrand::Rng;

use self::{
    reading::Reading,
    writer::{MOST_JOBS, Writer},
};
use crate::{
    check::Memory,
    clock,
    cluster::{ADDRESSES, Cluster, MACHINES},
    machine::Hardware,
    registry::Registry,
    report::say,
    workflow,
};

/// The node of a run by hand: one leaves the most of two processors to what is tried.
const NODE: &Hardware = &MACHINES[0];

/// Lines of a job: 3.06 MB.
const LINES: u32 = 340_000;

/// Jobs in the lane: each core of both nodes has two.
const JOBS_IN_LANE: u32 = 16;

/// Jobs of one core that a node takes at once.
const CORES: usize = 4;

/// Workflows that wait for a core, so that none is idle while a log is read.
const WAITING: usize = 2;

/// How long all jobs of a run by hand may take, for each of them: 25 minutes for 1,000, emulated.
/// After it no more are begun, and the run has failed.
const LIMIT_EACH: Duration = Duration::from_millis(1_500);

/// A run of a few jobs has the image to fetch, too.
const LEAST_LIMIT: Duration = Duration::from_secs(120);

/// After so many jobs a line says how far it is.
const JOBS_TOLD: usize = 50;

/// Logs that a failure names.
const NAMED: usize = 20;

/// A unit of the node's own, beside its jobs, that takes what it gets of one processor.
const LOAD: &str = "logs-load";

/// Some jobs on the nodes of the lane.
pub(crate) fn check(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let mut dice = Rng::with_seed(clock::unix_seconds());
    let readers = MACHINES.len() * CORES + WAITING;
    let account = read_all(cluster, &Writer::draw_all(&mut dice, JOBS_IN_LANE, LINES), readers);
    say(format!("  {account}"));
    account.hold()
}

/// So many jobs on a node of a cluster of its own; then the node is lost.
///
/// # Errors
/// There is no node; or a log was not equal, or one that is not whole was not told as that: which,
/// is in the message.
pub(crate) fn by_hand(jobs: u32, seed: u64) -> anyhow::Result<()> {
    ensure!((1..=MOST_JOBS).contains(&jobs), "logs: JOBS is a number from 1 to {MOST_JOBS}");
    let mut dice = Rng::with_seed(seed);
    let mut cluster = Cluster::start()?;
    let import = cluster.server.cli(&["image", "import", &Registry::source()]);
    import.context("importing the node image")?;
    cluster.declare_nodes(&[]).context("declaring the nodes")?;
    workflow::prepare(&cluster)?;
    cluster.switch_on(NODE)?;
    cluster.wait_until_ready(NODE.name)?;
    let load = format!("systemd-run --quiet --unit={LOAD} /bin/sh -c 'while :; do :; done'");
    cluster.on_node(ADDRESSES[0], &load).context("keeping the node busy")?;
    say(format!("logs: {jobs} jobs with seed {seed}"));
    let account = read_all(&cluster, &Writer::draw_all(&mut dice, jobs, LINES), CORES + WAITING);
    say(format!("logs: {account}"));
    let is_loaded = cluster.on_node(ADDRESSES[0], &format!("systemctl is-active {LOAD}"));
    is_loaded.context("the node was not busy all the time")?;
    let lost = lost::before_the_rest_came(&mut cluster, NODE, &mut dice);
    match &lost {
        Ok(told) => say(format!("logs: node lost: {told}")),
        Err(error) => say(format!("logs: node lost: FAIL: {error:#}")),
    }
    account.hold()?;
    lost.map(drop).context("a node lost before the rest of its logs came")
}

/// What came of all logs.
#[derive(Debug)]
struct Account {
    jobs: usize,
    equal: usize,
    /// Those that were read and are not equal, or could not be read: name of the workflow and why.
    failures: Vec<String>,
    took: Duration,
}

impl Account {
    /// # Errors
    /// Not all are equal; names those that are not.
    fn hold(&self) -> anyhow::Result<()> {
        ensure!(self.equal == self.jobs, "{self}{}", self.list());
        Ok(())
    }

    fn list(&self) -> String {
        let named = self.failures.iter().take(NAMED);
        let mut list: String = named.map(|why| format!("\n  {why}")).collect();
        if let Some(more) = self.failures.len().checked_sub(NAMED).filter(|more| *more > 0) {
            list += &format!("\n  and {more} more");
        }
        let begun = self.equal + self.failures.len();
        if begun < self.jobs {
            list += &format!("\n  {} were not begun within the time for all", self.jobs - begun);
        }
        list
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, equal, took, .. } = self;
        write!(f, "{equal} of {jobs} equal, in {} s", took.as_secs())?;
        write!(f, " ({:.2} a second)", rate(self.equal + self.failures.len(), *took))
    }
}

fn rate(count: usize, took: Duration) -> f64 {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    f64::from(count) / took.as_secs_f64().max(0.001)
}

/// Runs each job in a workflow of its own, and reads its log when it has ended; so many readers at
/// once.
fn read_all(cluster: &Cluster, jobs: &[Writer], readers: usize) -> Account {
    let (next, began) = (AtomicUsize::new(0), clock::now());
    let progress = Progress { jobs: jobs.len(), began, verdicts: Mutex::default() };
    let count = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
    let limit = LEAST_LIMIT.max(LIMIT_EACH * count);
    let reading = Reading::new(cluster);
    thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| {
                while began.elapsed() < limit {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { return };
                    // The server knows no workflow of this name from before.
                    let name = format!("log-{index}");
                    progress.count(&name, reading.run_and_hash(&name, job));
                }
            });
        }
    });
    progress.account()
}

/// What is known while logs are read.
struct Progress {
    jobs: usize,
    began: Instant,
    verdicts: Mutex<Verdicts>,
}

#[derive(Default)]
struct Verdicts {
    equal: usize,
    failures: Vec<String>,
}

impl Progress {
    fn count(&self, name: &str, verdict: anyhow::Result<()>) {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        match verdict {
            Ok(()) => verdicts.equal += 1,
            Err(error) => {
                let why = format!("{name}: {error:#}");
                if verdicts.failures.len() < NAMED {
                    say(format!("  NOT EQUAL {why}"));
                }
                verdicts.failures.push(why);
            }
        }
        let done = verdicts.equal + verdicts.failures.len();
        if done.is_multiple_of(JOBS_TOLD) {
            let (jobs, failed) = (self.jobs, verdicts.failures.len());
            let rate = rate(done, self.began.elapsed());
            say(format!("  {done} of {jobs} read, {failed} not equal, {rate:.2} a second"));
        }
    }

    fn account(self) -> Account {
        let verdicts = self.verdicts.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Verdicts { equal, failures } = verdicts;
        Account { jobs: self.jobs, equal, failures, took: self.began.elapsed() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Account;

    #[test]
    fn an_account_names_what_is_not_equal() {
        let took = Duration::from_secs(10);
        let whole = Account { jobs: 20, equal: 20, failures: Vec::new(), took };
        assert_eq!(whole.to_string(), "20 of 20 equal, in 10 s (2.00 a second)");
        whole.hold().unwrap();
        let failures = vec!["log-3: status 1".to_owned(), "log-7: other bytes".to_owned()];
        let cut = Account { jobs: 20, equal: 13, failures, took }.hold().unwrap_err().to_string();
        let expected = "13 of 20 equal, in 10 s (1.50 a second)\n  log-3: status 1\
                        \n  log-7: other bytes\n  5 were not begun within the time for all";
        assert_eq!(cut, expected);
        let failures = (0..23).map(|job| format!("log-{job}: cut")).collect();
        let many = Account { jobs: 23, equal: 0, failures, took }.hold().unwrap_err().to_string();
        assert!(many.ends_with("log-19: cut\n  and 3 more"), "{many}");
    }
}
