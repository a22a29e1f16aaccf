//! Runs on this node: a keeper that takes orders, one task per run that does its work, one per run
//! that sends its log.
//!
//! ```text
//!   conversation ──Request──► keep ──(state.rs: what to do)──► life: volume, transfer, job
//!        ▲                     │  ◄────────RunReport────────────┘
//!        └──────outbox─────────┘                               log: bytes to the server
//! ```
//!
//! | module | is |
//! |---|---|
//! | [`state`] | pure: what is held, what an order asks for |
//! | [`directory`] | what is on disk of a run |
//! | [`life`], [`report`] | a run from its acceptance to its end; what it tells of itself |
//! | [`job`], [`node_containers`], [`artifacts`], [`images`] | containers, and what they need |
//! | [`devices`] | what granted devices are, and which run has them |
//! | [`volumes`], [`transfer`], [`public_http`], [`reach`] | directories of workflows; files into and out of them |
//! | [`fitness`], [`site_programs`] | whether jobs can begin here; what the site wants done before and after each |
//! | [`log`] | logs to the server |
//! | [`servers`] | the fleet port with the certificate of the moment |
//!
//! What the agent knows lies in [`directory`], so it may be killed at any moment: at its next
//! start it takes all runs back. The keeper never waits for the server: orders are dealt with
//! while reports wait.

pub mod artifacts;
pub(super) mod changes;
pub mod devices;
pub mod directory;
pub mod fitness;
pub mod images;
pub mod job;
pub mod life;
pub mod log;
pub mod node_containers;
mod places;
pub mod public_http;
pub mod reach;
pub mod report;
pub mod servers;
pub mod site_programs;
pub mod state;
pub mod transfer;
pub mod volumes;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use api::{
    channel::FromAgent,
    run::{
        MAX_RUNS_PER_MESSAGE, RunId, RunReport, RunSpec, RunState, RunUsage, VolumeUse, Work,
        WorkflowId,
    },
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use self::{
    artifacts::Artifacts,
    devices::Claims,
    directory::{DirectoryError, RunDirectory},
    fitness::Fitness,
    images::{Images, Mounting},
    job::Containers,
    report::RunProgress,
    servers::Servers,
    site_programs::SitePrograms,
    state::{Core, Effect},
    volumes::Volumes,
};
pub use self::{places::Places, state::ServerRequest};
use crate::{
    clock,
    container::log_room::LogRoom,
    run_directory::{STOP, StopOrder},
};

/// Requests that wait for the keeper: the conversation asks one at a time.
pub const MAX_REQUESTS: usize = 4;

/// Reports of lives that wait for the keeper; a life waits when it is full, and the keeper
/// always takes them.
const MAX_REPORTS: usize = 256;

/// How often images and artifacts that nobody uses are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(300);

/// How often a node that refuses jobs looks whether it still must.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How long the word that a run has begun may wait: of one that is over by then only
/// the end is told.
const NEWS_PAUSE: Duration = Duration::from_millis(200);

/// Directories that are packed for the server at once: each costs a thread, and descriptors
/// as deep as it is.
const MAX_PACKINGS: usize = 3;

/// Answers about usage that wait for a slow channel.
const MAX_USAGES: usize = 8;

/// What is asked of the keeper. It answers at once.
#[derive(Debug)]
pub enum Request {
    /// Deal with an order; answered when its effects are on disk.
    ServerRequest(ServerRequest, oneshot::Sender<()>),
    /// All runs, for a new session.
    List(oneshot::Sender<Listed>),
    /// What runs use now; the answer goes out like other reports.
    Usage(Vec<RunId>),
}

/// All runs of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listed {
    /// State of each run.
    pub reports: Vec<RunReport>,
    /// Runs that are paused.
    pub paused: Vec<RunId>,
    /// Workflows that have volumes here.
    pub volumes: Vec<WorkflowId>,
}

/// What all runs of a node share.
pub struct Node<C> {
    /// Directories of runs, images, artifacts and volumes.
    pub places: Places,
    /// Client of the servers' fleet ports.
    pub servers: Servers,
    /// Files that were fetched from the server by digest.
    pub artifacts: Artifacts,
    /// Images of jobs, each mounted once for all runs that use it.
    pub images: Images,
    /// Ephemeral volumes of workflows on this node.
    pub volumes: Volumes,
    /// Starts containers and asks about them.
    pub containers: C,
    /// Whether jobs can begin here.
    pub fitness: Fitness,
    /// What the site wants done before and after each.
    pub site_programs: SitePrograms,
    /// Devices that runs have.
    pub claims: Claims,
    /// What volumes hold in memory, as it was looked at last.
    pub volume_use: watch::Sender<VolumeUse>,
    changes: changes::Changes,
    /// Directories that may still begin to be packed.
    packings: Arc<Semaphore>,
}

impl<C> std::fmt::Debug for Node<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("places", &self.places).finish_non_exhaustive()
    }
}

impl<C: Containers> Node<C> {
    /// A node with its things at `places`.
    pub fn new(places: Places, servers: Servers, mounting: Mounting, containers: C) -> Self {
        let volume_use = watch::channel(VolumeUse::default()).0;
        let artifacts =
            Artifacts::new(places.artifacts.clone(), servers.clone(), volume_use.subscribe());
        let images = Images::new(places.images.clone(), mounting);
        let volumes = Volumes::new(places.volumes.clone(), places.limits_volumes);
        let directories = vec![places.runs.clone(), places.artifacts.clone()];
        let fitness = Fitness::new(directories, LogRoom::of_node());
        let site_programs = SitePrograms::new(places.site.clone());
        let (claims, changes) = (Claims::default(), changes::Changes::default());
        let packings = Arc::new(Semaphore::new(MAX_PACKINGS));
        Self {
            places,
            servers,
            artifacts,
            images,
            volumes,
            containers,
            fitness,
            site_programs,
            claims,
            volume_use,
            changes,
            packings,
        }
    }
}

/// The tasks of one run.
#[derive(Debug)]
struct Held {
    spec: RunSpec,
    directory: RunDirectory,
    stop: watch::Sender<Option<StopOrder>>,
    /// The server released it.
    released: watch::Sender<bool>,
    /// Length of the log, once the run is over.
    log_bytes: watch::Sender<Option<u64>>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Held {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct RunSupervisor<C> {
    node: Arc<Node<C>>,
    core: Core,
    held: BTreeMap<RunId, Held>,
    reports: mpsc::Sender<RunProgress>,
    /// No job is begun here.
    refuses: bool,
    /// Answers about usage that wait for the channel.
    usages: VecDeque<FromAgent>,
    /// When what is not urgent is told, if something waits.
    news_at: Option<Instant>,
}

/// Keeps the runs for ever.
///
/// # Errors
/// [`DirectoryError`]: the directory of runs cannot be used at all.
pub async fn keep<C: Containers>(
    node: Node<C>,
    mut requests: mpsc::Receiver<Request>,
    outbox: mpsc::Sender<FromAgent>,
) -> Result<(), DirectoryError> {
    let (reports, mut reported) = mpsc::channel(MAX_REPORTS);
    let node = Arc::new(node);
    let mut supervisor = RunSupervisor {
        node: node.clone(),
        core: Core::default(),
        held: BTreeMap::new(),
        reports,
        refuses: false,
        usages: VecDeque::new(),
        news_at: None,
    };
    supervisor.adopt()?;
    let (mut sweep, mut look) = (clock::every(SWEEP_INTERVAL), clock::every(LOOK_INTERVAL));
    let mut fit = clock::every(volumes::FIT_INTERVAL);
    loop {
        supervisor.news_at = supervisor
            .core
            .has_pending_reports()
            .then(|| supervisor.news_at.unwrap_or_else(|| Instant::now() + NEWS_PAUSE));
        let (speaks, news_at) =
            (supervisor.speaks(), supervisor.news_at.unwrap_or_else(Instant::now));
        tokio::select! {
            request = requests.recv() => match request {
                None => return Ok(()),
                Some(Request::ServerRequest(order, done)) => {
                    if matches!(order, ServerRequest::Start(_)) {
                        supervisor.look();
                    }
                    for effect in supervisor.core.order(order, clock::now()) {
                        supervisor.act(effect);
                    }
                    let _ = done.send(());
                }
                Some(Request::List(list)) => {
                    let _ = list.send(supervisor.list());
                }
                Some(Request::Usage(runs)) => supervisor.measure(&runs),
            },
            Some(told) = reported.recv() => supervisor.heard(told),
            Ok(permit) = outbox.reserve(), if speaks => {
                let report = supervisor.core.take_pending_report();
                if let Some(message) = report.or_else(|| supervisor.usages.pop_front()) {
                    permit.send(message);
                }
            }
            () = sleep_until(news_at), if supervisor.news_at.is_some() && !speaks => {}
            () = node.fitness.failed.notified() => supervisor.look(),
            // A node that can begin jobs looks when one comes.
            _ = look.tick(), if supervisor.refuses => supervisor.look(),
            _ = sweep.tick() => supervisor.sweep(),
            _ = fit.tick(), if node.places.limits_volumes => supervisor.fit_volumes(),
        }
    }
}

impl<C: Containers> RunSupervisor<C> {
    /// Goes on with the runs of before, whose directories are there.
    fn adopt(&mut self) -> Result<(), DirectoryError> {
        self.node.volumes.finish_removals();
        let found = RunDirectory::all(&self.node.places.runs)?;
        // What is not over has its devices before anything new begins.
        for (directory, spec) in &found {
            if let Some(claim) =
                directory.claim().filter(|_| !matches!(directory.state(), RunState::Ended(_)))
            {
                self.node.claims.adopt(spec.run, claim);
            }
        }
        for (directory, spec) in found {
            self.core.adopt(spec.run, directory.state());
            self.begin(directory, spec);
        }
        Ok(())
    }

    /// Looks whether jobs can begin here.
    fn look(&mut self) {
        let why = self.node.fitness.look(self.refuses, linux::clock::monotonic());
        if self.refuses != why.is_some() {
            match &why {
                Some(why) => tracing::warn!("no jobs are begun on this node: {why}"),
                None => tracing::info!("jobs are begun on this node again"),
            }
        }
        self.refuses = why.is_some();
        self.core.refuse(why);
    }

    /// `true` if something is to be told now.
    fn speaks(&self) -> bool {
        let is_due = self.news_at.is_some_and(|at| at <= Instant::now());
        is_due || self.core.has_urgent() || !self.usages.is_empty()
    }

    fn list(&mut self) -> Listed {
        let paused =
            self.held.iter().filter(|(_, held)| held.directory.is_paused()).map(|(run, _)| *run);
        Listed {
            paused: paused.collect(),
            reports: self.core.list(),
            volumes: self.node.volumes.workflows(),
        }
    }

    /// Reads what runs use. It is for people who look, so what nobody fetches is dropped.
    fn measure(&mut self, runs: &[RunId]) {
        let usage = |run: &RunId| {
            let held = self.held.get(run);
            RunUsage {
                run: *run,
                usage: held.and_then(|held| self.node.containers.usage(held.directory.path())),
            }
        };
        let runs = runs.iter().take(MAX_RUNS_PER_MESSAGE).map(usage).collect();
        if self.usages.len() < MAX_USAGES {
            self.usages.push_back(FromAgent::Usage { runs });
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Accept(spec) => match RunDirectory::create(&self.node.places.runs, &spec) {
                Ok(directory) => self.begin(directory, *spec),
                Err(error) => {
                    let why = format!("{:#}", anyhow::Error::from(error));
                    self.core.not_accepted(spec.run, why, clock::now());
                }
            },
            Effect::Stop { run, grace_seconds, why } => {
                let Some(held) = self.held.get(&run) else { return };
                let order = StopOrder { grace_seconds, why };
                if held.stop.borrow().is_none() {
                    if let Err(error) = held.directory.write(STOP, &order) {
                        tracing::error!(%run, "{:#}", anyhow::Error::from(error));
                    }
                    held.stop.send_replace(Some(order));
                }
            }
            Effect::Pause { run, paused } => {
                let Some(held) = self.held.get(&run) else { return };
                if let Err(error) = held.directory.set_paused(paused) {
                    tracing::error!(%run, "{:#}", anyhow::Error::from(error));
                }
                // A container that is not there yet reads it when it starts.
                let _ = self.node.containers.signal(held.directory.path());
            }
            Effect::Release(run) => {
                let Some(held) = self.held.get(&run).filter(|held| !*held.released.borrow()) else {
                    return;
                };
                if let Err(error) = held.directory.mark_released() {
                    // The others start now. An agent after this one may wait until the server
                    // tells it again.
                    tracing::error!(%run, "{:#}", anyhow::Error::from(error));
                }
                held.released.send_replace(true);
            }
            Effect::Delete(run) => {
                let Some(held) = self.held.remove(&run) else { return };
                self.node.containers.clean(held.directory.path());
                if let Err(error) = held.directory.delete() {
                    tracing::error!(%run, "{:#}", anyhow::Error::from(error));
                }
            }
            Effect::RemoveVolumes(workflow) => self.node.volumes.remove(workflow),
        }
    }

    /// Starts the tasks of a run that is new or was taken back.
    fn begin(&mut self, directory: RunDirectory, spec: RunSpec) {
        let run = spec.run;
        let (stop, stopped) = watch::channel(directory.stop_order());
        let (released, releases) = watch::channel(directory.is_released());
        let end = match directory.state() {
            RunState::Ended(end) => Some(end),
            _ => None,
        };
        let (log_bytes, complete_at) = watch::channel(end.as_ref().map(|end| end.log_bytes));
        let has_tail = matches!(&spec.work, Work::Job(job) if job.log_limit_bytes.is_some());
        let has_times = matches!(&spec.work, Work::Job(job) if job.log_times);
        let log = log::Log { run, path: directory.log(), has_tail, has_times };
        let log = log::send(self.node.servers.clone(), log, complete_at);
        let mut tasks = vec![tokio::spawn(log).abort_handle()];
        if end.is_none() {
            let (node, reports) = (self.node.clone(), self.reports.clone());
            let life = life::run_to_completion(
                node,
                directory.clone(),
                spec.clone(),
                stopped,
                releases,
                reports,
            );
            tasks.push(tokio::spawn(life).abort_handle());
        }
        self.held.insert(run, Held { spec, directory, stop, released, log_bytes, tasks });
    }

    fn heard(&mut self, told: RunProgress) {
        let report = match told {
            RunProgress::Report(report) => report,
            RunProgress::News(run, news) => return self.core.happened(run, news),
        };
        if let (RunState::Ended(end), Some(held)) = (&report.state, self.held.get(&report.run)) {
            let (run, subject) = (report.run, &held.spec.subject);
            tracing::info!(%run, subject, outcome = ?end.outcome, "run ended");
            held.log_bytes.send_replace(Some(end.log_bytes));
            self.node.containers.clean(held.directory.path());
        }
        self.core.advanced(report);
    }

    /// Holds volumes to what the node has for all of them.
    fn fit_volumes(&self) {
        let node = self.node.clone();
        tokio::task::spawn_blocking(move || node.volume_use.send_replace(node.volumes.fit()));
    }

    /// Lets go of images and artifacts that no live run needs.
    fn sweep(&self) {
        let live = self.held.values().filter(|held| held.log_bytes.borrow().is_none());
        let used = live.flat_map(|held| artifacts::needed_by(&held.spec)).collect();
        let node = self.node.clone();
        tokio::task::spawn_blocking(move || {
            let mounted = node.images.sweep(&used, clock::now());
            node.artifacts.sweep(&used, &mounted);
        });
    }
}

#[cfg(test)]
#[path = "runs/tests.rs"]
mod tests;
