//! The runs of a simulated node. What is held, and what an order does to it, are the substrate's
//! own rules ([`substrate::agent::runs::state`]); only the work is pretended.
//!
//! The keeper outlives the agent, as a node's containers and directories do: a new agent finds all
//! runs again. It ends with the node's power. A job's command says how it goes:
//!
//! | command | does |
//! |---|---|
//! | `/bin/sleep N` | ends with 0 after N hundredths of a second |
//! | `exit N` | ends with N |
//! | `oom` | reaches its memory limit |
//! | `hang` | runs until it is stopped or its timeout comes |
//! | `late PREPARE MILLIS` | as a member of a larger attempt: is prepared after PREPARE milliseconds; ends with 0 after MILLIS |
//! | `work LEAST MOST` | ends with 0 after LEAST to MOST milliseconds, and writes nothing |
//! | `flaky PERCENT LEAST MOST` | likewise; of a hundred attempts so many end with 1 |
//! | `talk LINES LEAST MOST` | likewise, with 0; writes `SUBJECT line N` so often |
//! | `flood LINES` | writes as `talk`, faster than its log travels: past its limit, head and tail are sent |
//! | `mumble LINES` | writes as `talk`, ends with 0, and sends only the first half of its log |
//!
//! Every other command ends with 0 at once, and so do volumes and transfers. Where nothing else is
//! said, a run's log is one line, subject and command; a file for the client holds `file of RUN`.
//! With each piece of a log its end travels as a time mark, where the server takes such.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use api::{
    channel::FromAgent,
    ids::{NodeName, Timestamp},
    log::times::TimeMark,
    run::{
        Destination, LiveUsage, LogTaken, MAX_LOG_CHUNK_BYTES, MAX_RUNS_PER_MESSAGE, Outcome,
        RunEnd, RunId, RunReport, RunSpec, RunState, RunUsage, Usage, Work, WorkflowId,
    },
};
use fastrand::Rng;
use substrate::{
    agent::runs::{
        Listed, Request, ServerRequest,
        state::{Core, Effect},
    },
    clock,
};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use super::{agent_state::AgentState, port::FleetPort};
use crate::journal::{Entry, Journal};

/// States that wait for the keeper. A run waits when it is full.
const MAX_WAITING: usize = 64;

/// Answers about usage that wait for a slow channel.
const MAX_USAGES: usize = 8;

/// Pause between the parts of a log that is longer than its limit: who follows reads meanwhile.
const FLOOD_PAUSE: Duration = Duration::from_millis(600);

/// Pause before bytes are offered again to a server that does not take them.
const RETRY: Duration = Duration::from_millis(500);

/// An agent that has just started, as the keeper sees it.
#[derive(Debug)]
pub(super) struct AgentSide {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) outbox: mpsc::Sender<FromAgent>,
}

/// All runs of the node. Dropped, they vanish as with a power cut.
#[derive(Debug)]
pub(super) struct RunSupervisor {
    core: Core,
    held: BTreeMap<RunId, Held>,
    /// Workflows that have volumes here.
    volumes: BTreeSet<WorkflowId>,
    surroundings: Surroundings,
    seen: watch::Sender<AgentState>,
    reported: mpsc::Receiver<RunReport>,
    lives: JoinSet<()>,
    usages: VecDeque<FromAgent>,
}

/// What every life needs.
#[derive(Debug, Clone)]
struct Surroundings {
    node: NodeName,
    boot: Arc<str>,
    port: FleetPort,
    journal: Arc<Journal>,
    reports: mpsc::Sender<RunReport>,
}

#[derive(Debug)]
struct Held {
    state: RunState,
    is_job: bool,
    /// Why it shall end.
    stop: watch::Sender<Option<String>>,
    /// It stands still.
    paused: watch::Sender<bool>,
    /// The server released it.
    released: watch::Sender<bool>,
    life: AbortHandle,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.life.abort();
    }
}

impl RunSupervisor {
    pub(super) fn new(
        node: NodeName,
        boot: Arc<str>,
        port: FleetPort,
        journal: Arc<Journal>,
        seen: watch::Sender<AgentState>,
    ) -> Self {
        let (reports, reported) = mpsc::channel(MAX_WAITING);
        Self {
            core: Core::default(),
            held: BTreeMap::new(),
            volumes: BTreeSet::new(),
            surroundings: Surroundings { node, boot, port, journal, reports },
            seen,
            reported,
            lives: JoinSet::new(),
            usages: VecDeque::new(),
        }
    }

    /// Keeps the runs for one agent after the other.
    pub(super) async fn keep(mut self, mut agents: mpsc::Receiver<AgentSide>) {
        let Some(mut side) = agents.recv().await else { return };
        loop {
            let agent = tokio::select! {
                agent = agents.recv() => agent,
                Some(request) = side.requests.recv() => {
                    self.answer(request);
                    continue;
                }
                Some(report) = self.reported.recv() => {
                    self.heard(report);
                    continue;
                }
                Ok(permit) = side.outbox.reserve(), if self.has_words() => {
                    if let Some(message) = self.core.take_pending_report().or_else(|| self.usages.pop_front()) {
                        permit.send(message);
                    }
                    continue;
                }
                Some(_) = self.lives.join_next(), if !self.lives.is_empty() => continue,
            };
            let Some(agent) = agent else { return };
            side = agent;
            self.adopt();
        }
    }

    fn has_words(&self) -> bool {
        self.core.has_pending_reports() || !self.usages.is_empty()
    }

    /// A new agent finds what is on disk, and knows nothing of what its predecessor wanted to say.
    fn adopt(&mut self) {
        self.core = Core::default();
        self.usages.clear();
        for (run, held) in &self.held {
            self.core.adopt(*run, held.state.clone());
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::ServerRequest(order, done) => {
                self.obey(order);
                // The conversation may be gone.
                let _ = done.send(());
            }
            Request::List(list) => {
                let paused =
                    self.held.iter().filter(|(_, held)| *held.paused.borrow()).map(|(run, _)| *run);
                let volumes = self.volumes.iter().copied().collect();
                let _ = list.send(Listed {
                    paused: paused.collect(),
                    reports: self.core.list(),
                    volumes,
                });
            }
            Request::Usage(runs) => self.measure(&runs),
        }
    }

    fn obey(&mut self, order: ServerRequest) {
        for effect in self.core.order(order, clock::now()) {
            match effect {
                Effect::Accept(spec) => self.begin(*spec),
                Effect::Stop { run, why, .. } => {
                    if let Some(held) = self.held.get(&run) {
                        held.stop.send_replace(Some(why));
                    }
                }
                Effect::Pause { run, paused } => {
                    if let Some(held) = self.held.get(&run) {
                        held.paused.send_replace(paused);
                    }
                }
                Effect::Release(run) => {
                    if let Some(held) = self.held.get(&run) {
                        held.released.send_replace(true);
                    }
                }
                Effect::Delete(run) => drop(self.held.remove(&run)),
                Effect::RemoveVolumes(workflow) => {
                    self.volumes.remove(&workflow);
                    self.seen.send_modify(|state| state.volumes_removed += 1);
                }
            }
        }
        self.seen.send_modify(|state| state.held = self.held.len());
    }

    fn begin(&mut self, spec: RunSpec) {
        let (run, subject) = (spec.run, spec.subject.clone());
        let (stop, stopped) = watch::channel(None);
        let (paused, pauses) = watch::channel(false);
        let (released, releases) = watch::channel(false);
        let is_job = matches!(spec.work, Work::Job(_));
        if matches!(spec.work, Work::Volume { .. }) {
            self.volumes.insert(spec.workflow);
        }
        let surroundings = self.surroundings.clone();
        let life = self.lives.spawn(async move {
            if let Err(error) = live(spec, Orders { stopped, pauses, releases }, surroundings).await
            {
                tracing::debug!("simulated run {run}: {error:#}");
            }
        });
        self.held.insert(
            run,
            Held { state: RunState::Preparing {}, is_job, stop, paused, released, life },
        );
        self.seen.send_modify(|state| state.started.push(subject));
    }

    /// A run has come to its next state.
    fn heard(&mut self, report: RunReport) {
        if let Some(held) = self.held.get_mut(&report.run) {
            held.state = report.state.clone();
        }
        self.core.advanced(report);
        let is_running =
            |held: &&Held| held.is_job && matches!(held.state, RunState::Running { .. });
        let running = self.held.values().filter(is_running).count();
        self.seen.send_if_modified(|state| {
            let more = running > state.most_jobs;
            state.most_jobs = state.most_jobs.max(running);
            more
        });
    }

    /// What runs use: the same of each that runs.
    fn measure(&mut self, runs: &[RunId]) {
        let usage = |run: &RunId| {
            let runs = self
                .held
                .get(run)
                .is_some_and(|held| matches!(held.state, RunState::Running { .. }));
            let usage = LiveUsage { total: total(), memory_bytes: 1 << 19, processes: 1 };
            RunUsage { run: *run, usage: runs.then_some(usage) }
        };
        let runs = runs.iter().take(MAX_RUNS_PER_MESSAGE).map(usage).collect();
        if self.usages.len() < MAX_USAGES {
            self.usages.push_back(FromAgent::Usage { runs });
        }
    }
}

/// What the server wants of a run.
struct Orders {
    stopped: watch::Receiver<Option<String>>,
    pauses: watch::Receiver<bool>,
    releases: watch::Receiver<bool>,
}

/// Waits until the server wants an end of a run, and says why. For ever, if nobody
/// can tell any more.
async fn stop_ordered(stopped: &mut watch::Receiver<Option<String>>) -> String {
    let why = stopped.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
    why.unwrap_or_default()
}

/// Prepares a member of a larger attempt and holds it until it is released; `false` if it was
/// stopped before, and that is reported.
async fn hold(
    spec: &RunSpec,
    Orders { stopped, releases, .. }: &mut Orders,
    reports: &mpsc::Sender<RunReport>,
) -> anyhow::Result<bool> {
    if !spec.awaits_release {
        return Ok(true);
    }
    let run = spec.run;
    let prepared_and_released = async {
        sleep(preparation(spec)).await;
        reports.send(RunReport { run, state: RunState::Prepared {} }).await?;
        // Nobody who could tell is left only when the node is gone.
        let _ = releases.wait_for(|is_released| *is_released).await;
        anyhow::Ok(())
    };
    let why = tokio::select! {
        done = prepared_and_released => return done.map(|()| true),
        why = stop_ordered(stopped) => why,
    };
    let (outcome, usage) = (Outcome::Stopped { why }, Usage::default());
    let end = RunEnd { started: None, ended: clock::now(), outcome, log_bytes: 0, usage };
    reports.send(RunReport { run, state: RunState::Ended(Box::new(end)) }).await?;
    Ok(false)
}

/// How long a member of a larger attempt is prepared.
fn preparation(spec: &RunSpec) -> Duration {
    let Work::Job(job) = &spec.work else { return Duration::ZERO };
    let is_late = job.command.first().is_some_and(|word| word == "late");
    let millis = job.command.get(1).filter(|_| is_late).and_then(|word| word.parse().ok());
    Duration::from_millis(millis.unwrap_or(0))
}

async fn live(
    spec: RunSpec,
    mut orders: Orders,
    Surroundings { node, boot, port, journal, reports }: Surroundings,
) -> anyhow::Result<()> {
    if !hold(&spec, &mut orders, &reports).await? {
        return Ok(());
    }
    let Orders { mut stopped, mut pauses, .. } = orders;
    let (run, started) = (spec.run, clock::now());
    let (workflow, subject) = (spec.workflow, spec.subject.clone());
    let (began, ended) = (started, started);
    let open =
        journal.begin(Entry { run, workflow, subject, node, boot, began, ended, outcome: None });
    reports.send(RunReport { run, state: RunState::Running { started } }).await?;
    let work = async {
        if let Work::Egress { destination: Destination::Client { .. }, .. } = spec.work {
            put_file(&port, run).await;
        }
        if has_word(&spec, "flood") {
            flood(&port, &spec).await;
        }
        let outcome = outcome(&spec).await;
        // What stands still does not end. Nobody who could tell is left only when the node is gone.
        let _ = pauses.wait_for(|paused| !paused).await;
        outcome
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = sleep(Duration::from_secs(spec.timeout_seconds)) => {
            Outcome::TimedOut { seconds: spec.timeout_seconds, cause: None }
        }
        why = stop_ordered(&mut stopped) => Outcome::Stopped { why },
    };
    open.end(outcome.clone());
    let log = log(&spec);
    let state = state_of_end(started, outcome, log.len() as u64);
    reports.send(RunReport { run, state }).await?;
    let sent = if has_word(&spec, "mumble") { &log[..log.len() / 2] } else { &log[..] };
    // What was sent while it ran is passed over.
    post_whole(&port, &spec, sent, 0..sent.len()).await;
    if !log.is_empty() && sent.len() == log.len() {
        journal.log_taken(run);
    }
    Ok(())
}

/// How the work goes by itself.
async fn outcome(spec: &RunSpec) -> Outcome {
    let Work::Job(job) = &spec.work else { return Outcome::Exited { code: 0 } };
    let word = |place: usize| job.command.get(place).map_or("", String::as_str);
    let number = |place: usize| word(place).parse::<u32>().unwrap_or(0);
    let mut dice = Rng::with_seed(spec.run.0.as_u64_pair().1);
    let mut pause =
        |least: u32, most: u32| Duration::from_millis(dice.u32(least..=most.max(least)).into());
    match word(0) {
        "/bin/sleep" | "sleep" => sleep(Duration::from_millis(u64::from(number(1)) * 10)).await,
        "exit" => return Outcome::Exited { code: number(1).cast_signed() },
        "oom" => return Outcome::OutOfMemory { limit_bytes: job.memory_bytes },
        "hang" => std::future::pending().await,
        "late" => sleep(pause(number(2), number(2))).await,
        "work" => sleep(pause(number(1), number(2))).await,
        "talk" => sleep(pause(number(2), number(3))).await,
        "flaky" => {
            sleep(pause(number(2), number(3))).await;
            let fails = dice.u32(..100) < number(1);
            return Outcome::Exited { code: i32::from(fails) };
        }
        _ => {}
    }
    Outcome::Exited { code: 0 }
}

fn log(spec: &RunSpec) -> Vec<u8> {
    let Work::Job(job) = &spec.work else { return format!("{}\n", spec.subject).into_bytes() };
    match job.command.first().map_or("", String::as_str) {
        "work" | "flaky" => Vec::new(),
        "talk" | "mumble" | "flood" => {
            let lines = job.command.get(1).and_then(|lines| lines.parse().ok()).unwrap_or(0);
            talk(&spec.subject, lines).into_bytes()
        }
        _ => format!("{}: {}\n", spec.subject, job.command.join(" ")).into_bytes(),
    }
}

fn has_word(spec: &RunSpec, wanted: &str) -> bool {
    matches!(&spec.work, Work::Job(job) if job.command.first().is_some_and(|word| word == wanted))
}

/// Sends head and tail of a log while its job runs. All of it, where it is not longer
/// than its limit.
async fn flood(port: &FleetPort, spec: &RunSpec) {
    let Work::Job(job) = &spec.work else { return };
    let log = log(spec);
    let limit = job.log_limit_bytes.and_then(|limit| usize::try_from(limit).ok());
    let Some(limit) = limit.filter(|limit| *limit < log.len()) else { return };
    let (head, middle) = (limit / 2, log.len() / 2);
    for range in [0..head, middle..middle + limit / 8, log.len() - limit / 4..log.len()] {
        post_whole(port, spec, &log, range).await;
        sleep(FLOOD_PAUSE).await;
    }
}

/// What `talk` writes.
pub(crate) fn talk(subject: &str, lines: u32) -> String {
    (1..=lines).map(|line| format!("{subject} line {line}\n")).collect()
}

fn state_of_end(started: Timestamp, outcome: Outcome, log_bytes: u64) -> RunState {
    let (started, usage) = (Some(started), total());
    RunState::Ended(Box::new(RunEnd { started, ended: clock::now(), outcome, log_bytes, usage }))
}

fn total() -> Usage {
    Usage { cpu_micros: 1_000, memory_peak_bytes: 1 << 20, ..Usage::default() }
}

/// Sends a part of a log, however often it takes.
async fn post_whole(port: &FleetPort, spec: &RunSpec, log: &[u8], range: Range<usize>) {
    while let Err(error) = post_log(port, spec, log, range.clone()).await {
        tracing::debug!("simulated log of {}: {error:#}", spec.run);
        sleep(RETRY).await;
    }
}

/// Sends a part of a log. What is before it and not at the server is left out.
async fn post_log(
    port: &FleetPort,
    spec: &RunSpec,
    log: &[u8],
    range: Range<usize>,
) -> anyhow::Result<()> {
    let (run, mut offset) = (spec.run, range.start);
    let has_times = matches!(&spec.work, Work::Job(job) if job.log_times);
    while offset < range.end {
        let after = if offset > 0 && offset == range.start { "&after=0" } else { "" };
        let end = range.end.min(offset + MAX_LOG_CHUNK_BYTES);
        let mark = [TimeMark { offset: end as u64, time: clock::now() }];
        let times =
            if has_times { format!("&times={}", TimeMark::query(&mark)) } else { String::new() };
        let route = format!("/node/v1/runs/{run}/log?offset={offset}{after}{times}");
        let taken: LogTaken = port.post_bytes(&route, log[offset..end].to_vec()).await?;
        offset = usize::try_from(taken.length).context("the server claims a log of exabytes")?;
    }
    Ok(())
}

async fn put_file(port: &FleetPort, run: RunId) {
    let route = format!("/node/v1/runs/{run}/file");
    while let Err(error) = port.put(&route, format!("file of {run}\n")).await {
        tracing::debug!("simulated file of {run}: {error:#}");
        sleep(RETRY).await;
    }
}
