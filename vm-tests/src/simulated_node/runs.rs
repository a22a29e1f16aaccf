//! The runs of a simulated node: it does no work, and tells of runs as a real agent does.
//!
//! A job's command says how it goes: `/bin/sleep N` ends with 0 after N hundredths of a second, `exit N` with N, `oom`
//! reaches its memory limit, `hang` runs until it is stopped or its timeout comes. Every other command ends with 0 at
//! once, and so do volumes and transfers. A run's log is one line: subject and command; a file for the client holds
//! `file of RUN`.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use anyhow::Context as _;
use api::{
    channel::FromAgent,
    enroll::AgentIdentity,
    ids::Timestamp,
    run::{
        Destination, LiveUsage, LogTaken, MAX_RUNS_PER_MESSAGE, Outcome, RunEnd, RunId, RunReport, RunSpec,
        RunState, RunUsage, Usage, Work,
    },
};
use substrate::{clock, tls};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use super::FleetPort;

/// States that wait for the conversation. A run waits when it is full.
const MAX_WAITING: usize = 64;

/// Pause before bytes are offered again to a server that does not take them.
const RETRY: Duration = Duration::from_millis(200);

/// All runs of the node. Dropped, they vanish as with a power cut.
#[derive(Debug)]
pub(super) struct Runs {
    identity: AgentIdentity,
    address: Ipv4Addr,
    held: BTreeMap<RunId, Held>,
    /// Goes into each run; what comes out are its states.
    states: mpsc::Sender<RunReport>,
    changed: mpsc::Receiver<RunReport>,
    lives: JoinSet<()>,
}

#[derive(Debug)]
struct Held {
    state: RunState,
    is_job: bool,
    /// Why it shall end.
    stop: watch::Sender<Option<String>>,
    /// It stands still.
    paused: watch::Sender<bool>,
}

impl Runs {
    pub(super) fn new(identity: AgentIdentity, address: Ipv4Addr) -> Self {
        let (states, changed) = mpsc::channel(MAX_WAITING);
        Self { identity, address, held: BTreeMap::new(), states, changed, lives: JoinSet::new() }
    }

    /// Takes a run. One that is known is not started again.
    pub(super) fn start(&mut self, spec: RunSpec) -> Option<RunReport> {
        let run = spec.run;
        if self.held.contains_key(&run) {
            return None;
        }
        let (stop, stopped) = watch::channel(None);
        let (paused, pauses) = watch::channel(false);
        let is_job = matches!(spec.work, Work::Job(_));
        self.held.insert(run, Held { state: RunState::Preparing {}, is_job, stop, paused });
        let (identity, address, states) = (self.identity.clone(), self.address, self.states.clone());
        self.lives.spawn(async move {
            let name = spec.run;
            if let Err(error) = live(spec, (stopped, pauses), &identity, address, states).await {
                tracing::debug!("simulated run {name}: {error:#}");
            }
        });
        Some(RunReport { run, state: RunState::Preparing {} })
    }

    /// Ends a run. One that is not known is told as stopped.
    pub(super) fn stop(&self, run: RunId, why: String) -> Option<RunReport> {
        let Some(held) = self.held.get(&run) else {
            let state = ended(None, Outcome::Stopped { why }, 0);
            return Some(RunReport { run, state });
        };
        held.stop.send_replace(Some(why));
        None
    }

    /// Lets a job stand still, or go on.
    pub(super) fn pause(&self, run: RunId, paused: bool) {
        if let Some(held) = self.held.get(&run) {
            held.paused.send_replace(paused);
        }
    }

    /// What runs use: the same of each that runs.
    pub(super) fn usage(&self, runs: &[RunId]) -> Vec<RunUsage> {
        let usage = |run: &RunId| {
            let runs = self.held.get(run).is_some_and(|held| matches!(held.state, RunState::Running { .. }));
            let usage = LiveUsage { total: total(), memory_bytes: 1 << 19, processes: 1 };
            RunUsage { run: *run, usage: runs.then_some(usage) }
        };
        runs.iter().map(usage).collect()
    }

    /// Forgets runs that have ended.
    pub(super) fn forget(&mut self, runs: &[RunId]) {
        for run in runs {
            if self.held.get(run).is_some_and(|held| matches!(held.state, RunState::Ended(_))) {
                self.held.remove(run);
            }
        }
    }

    /// What a new session begins with.
    pub(super) fn list(&self) -> Vec<FromAgent> {
        let reports: Vec<RunReport> =
            self.held.iter().map(|(run, held)| RunReport { run: *run, state: held.state.clone() }).collect();
        let mut messages: Vec<FromAgent> = reports
            .chunks(MAX_RUNS_PER_MESSAGE)
            .map(|runs| FromAgent::Runs { runs: runs.to_vec(), paused: self.paused(runs), complete: false })
            .collect();
        match messages.last_mut() {
            Some(FromAgent::Runs { complete, .. }) => *complete = true,
            _ => messages.push(FromAgent::Runs { runs: Vec::new(), paused: Vec::new(), complete: true }),
        }
        messages
    }

    /// Those that stand still.
    fn paused(&self, reports: &[RunReport]) -> Vec<RunId> {
        let stands_still = |run: &RunId| self.held.get(run).is_some_and(|held| *held.paused.borrow());
        reports.iter().map(|report| report.run).filter(stands_still).collect()
    }

    /// The next state that a run has come to. Cancel-safe.
    pub(super) async fn changed(&mut self) -> Option<RunReport> {
        let report = self.changed.recv().await?;
        if let Some(held) = self.held.get_mut(&report.run) {
            held.state = report.state.clone();
        }
        Some(report)
    }

    /// Jobs that run now.
    pub(super) fn running_jobs(&self) -> usize {
        self.held
            .values()
            .filter(|held| held.is_job && matches!(held.state, RunState::Running { .. }))
            .count()
    }
}

async fn live(
    spec: RunSpec,
    (mut stopped, mut pauses): (watch::Receiver<Option<String>>, watch::Receiver<bool>),
    identity: &AgentIdentity,
    address: Ipv4Addr,
    states: mpsc::Sender<RunReport>,
) -> anyhow::Result<()> {
    let (run, started) = (spec.run, clock::now());
    states.send(RunReport { run, state: RunState::Running { started } }).await?;
    let log = log(&spec);
    let port = FleetPort::new(&identity.fleet_servers, address, tls::authenticated(identity)?)?;
    let work = async {
        if let Work::Egress { destination: Destination::Client {}, .. } = spec.work {
            put_file(&port, run).await;
        }
        let outcome = outcome(&spec).await;
        // What stands still does not end. Nobody who could tell is left only when the node is gone.
        let _ = pauses.wait_for(|paused| !paused).await;
        outcome
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = sleep(Duration::from_secs(spec.timeout_seconds)) => Outcome::TimedOut { seconds: spec.timeout_seconds },
        why = async { stopped.wait_for(Option::is_some).await.ok().and_then(|why| why.clone()) } => {
            Outcome::Stopped { why: why.unwrap_or_default() }
        }
    };
    let state = ended(Some(started), outcome, log.len() as u64);
    states.send(RunReport { run, state }).await?;
    while let Err(error) = post_log(&port, run, &log).await {
        tracing::debug!("simulated log of {run}: {error:#}");
        sleep(RETRY).await;
    }
    Ok(())
}

/// How the work goes by itself.
async fn outcome(spec: &RunSpec) -> Outcome {
    let Work::Job(job) = &spec.work else { return Outcome::Exited { code: 0 } };
    let word = |place: usize| job.command.get(place).map_or("", String::as_str);
    let number = word(1).parse::<u32>().unwrap_or(0);
    match word(0) {
        "/bin/sleep" | "sleep" => sleep(Duration::from_millis(u64::from(number) * 10)).await,
        "exit" => return Outcome::Exited { code: number.cast_signed() },
        "oom" => return Outcome::OutOfMemory { limit_bytes: job.memory_bytes },
        "hang" => std::future::pending().await,
        _ => {}
    }
    Outcome::Exited { code: 0 }
}

fn log(spec: &RunSpec) -> Vec<u8> {
    match &spec.work {
        Work::Job(job) => format!("{}: {}\n", spec.subject, job.command.join(" ")),
        _ => format!("{}\n", spec.subject),
    }
    .into_bytes()
}

fn ended(started: Option<Timestamp>, outcome: Outcome, log_bytes: u64) -> RunState {
    let usage = total();
    RunState::Ended(Box::new(RunEnd { started, ended: clock::now(), outcome, log_bytes, usage }))
}

fn total() -> Usage {
    Usage { cpu_micros: 1_000, memory_peak_bytes: 1 << 20, ..Usage::default() }
}

async fn post_log(port: &FleetPort, run: RunId, log: &[u8]) -> anyhow::Result<()> {
    let mut offset = 0;
    while offset < log.len() {
        let route = format!("/node/v1/runs/{run}/log?offset={offset}");
        let sent = port.client.post(port.url(&route)).body(log[offset..].to_vec()).send().await?;
        let taken: LogTaken = serde_json::from_slice(&super::body(sent).await?)?;
        offset = usize::try_from(taken.length).context("the server claims a log of exabytes")?;
    }
    Ok(())
}

async fn put_file(port: &FleetPort, run: RunId) {
    let route = format!("/node/v1/runs/{run}/file");
    loop {
        let sent = port.client.put(port.url(&route)).body(format!("file of {run}\n")).send().await;
        match sent.and_then(reqwest::Response::error_for_status) {
            Ok(_) => return,
            Err(error) => tracing::debug!("simulated file of {run}: {error}"),
        }
        sleep(RETRY).await;
    }
}
