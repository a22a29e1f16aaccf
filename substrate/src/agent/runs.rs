//! Runs on this node: a keeper that takes orders, one task per run that does its work, one per run that sends its log.
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
//! | [`folder`] | what is on disk of a run |
//! | [`life`] | a run from its acceptance to its end |
//! | [`job`], [`node_containers`], [`artifacts`], [`images`] | containers, and what they need |
//! | [`volumes`], [`transfer`], [`public_http`], [`reach`] | folders of workflows; files into and out of them |
//! | [`log`] | logs to the server |
//! | [`servers`] | the fleet port with the certificate of the moment |
//!
//! What the agent knows lies in [`folder`], so it may be killed at any moment: at its next start it takes all runs back.
//! The keeper never waits for the server: orders are dealt with while reports wait.

pub mod artifacts;
mod changes;
pub mod folder;
pub mod images;
pub mod job;
pub mod life;
pub mod log;
pub mod node_containers;
pub mod public_http;
pub mod reach;
pub mod servers;
pub mod state;
pub mod transfer;
pub mod volumes;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use api::{
    channel::FromAgent,
    run::{RunId, RunReport, RunSpec, RunState},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};

pub use self::state::Order;
use self::{
    artifacts::Artifacts,
    folder::{FolderError, RunFolder, StopOrder},
    images::{Images, Mounting},
    job::Containers,
    servers::Servers,
    state::{Core, Effect},
    volumes::Volumes,
};
use crate::clock;

/// Requests that wait for the keeper: the conversation asks one at a time.
pub const MAX_REQUESTS: usize = 4;

/// Reports of lives that wait for the keeper; a life waits when it is full, and the keeper always takes them.
const MAX_REPORTS: usize = 256;

/// How often images and artifacts that nobody uses are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// What is asked of the keeper. It answers at once.
#[derive(Debug)]
pub enum Request {
    /// Deal with an order; answered when its effects are on disk.
    Order(Order, oneshot::Sender<()>),
    /// All runs, for a new session.
    List(oneshot::Sender<Vec<RunReport>>),
}

/// Where everything lies: fixed paths on a node, folders in tests.
#[derive(Debug, Clone)]
pub struct Places {
    /// Folders of runs, on tmpfs.
    pub runs: PathBuf,
    /// Mount points of images.
    pub images: PathBuf,
    /// Artifacts that were fetched.
    pub artifacts: PathBuf,
    /// Volumes of workflows.
    pub volumes: PathBuf,
    /// Certificates of public authorities, PEM.
    pub authorities: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            runs: "/run/bedplate/runs".into(),
            images: "/run/bedplate/images".into(),
            artifacts: "/var/lib/bedplate/artifacts".into(),
            volumes: "/var/lib/bedplate/volumes".into(),
            authorities: "/etc/ssl/certs/ca-certificates.crt".into(),
        }
    }
}

/// What lives share.
pub struct Node<C> {
    /// Where things are.
    pub places: Places,
    /// The fleet ports.
    pub servers: Servers,
    /// Fetched files.
    pub artifacts: Artifacts,
    /// Mounted images.
    pub images: Images,
    /// Volumes.
    pub volumes: Volumes,
    /// What starts containers.
    pub containers: C,
    changes: changes::Changes,
}

impl<C> std::fmt::Debug for Node<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("places", &self.places).finish_non_exhaustive()
    }
}

impl<C: Containers> Node<C> {
    /// A node with its things at `places`.
    pub fn new(places: Places, servers: Servers, mounting: Mounting, containers: C) -> Self {
        let artifacts = Artifacts::new(places.artifacts.clone(), servers.clone());
        let images = Images::new(places.images.clone(), mounting);
        let volumes = Volumes::new(places.volumes.clone());
        Self { places, servers, artifacts, images, volumes, containers, changes: changes::Changes::default() }
    }
}

/// The tasks of one run.
#[derive(Debug)]
struct Held {
    spec: RunSpec,
    folder: RunFolder,
    stop: watch::Sender<Option<StopOrder>>,
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

struct Keeper<C> {
    node: Arc<Node<C>>,
    core: Core,
    held: BTreeMap<RunId, Held>,
    reports: mpsc::Sender<RunReport>,
}

/// Keeps the runs for ever.
///
/// # Errors
/// [`FolderError`]: the folder of runs cannot be used at all.
pub async fn keep<C: Containers>(
    node: Node<C>,
    mut requests: mpsc::Receiver<Request>,
    outbox: mpsc::Sender<FromAgent>,
) -> Result<(), FolderError> {
    let (reports, mut reported) = mpsc::channel(MAX_REPORTS);
    let mut keeper = Keeper { node: Arc::new(node), core: Core::default(), held: BTreeMap::new(), reports };
    keeper.node.volumes.finish_removals();
    for (folder, spec) in RunFolder::all(&keeper.node.places.runs)? {
        keeper.core.adopt(spec.run, folder.state());
        keeper.begin(folder, spec);
    }
    let mut sweep = interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                None => return Ok(()),
                Some(Request::Order(order, done)) => {
                    for effect in keeper.core.order(order, clock::now()) {
                        keeper.act(effect);
                    }
                    let _ = done.send(());
                }
                Some(Request::List(list)) => {
                    let _ = list.send(keeper.core.list());
                }
            },
            Some(report) = reported.recv() => keeper.heard(report),
            Ok(permit) = outbox.reserve(), if keeper.core.has_unsaid() => {
                if let Some(report) = keeper.core.take_unsaid() {
                    permit.send(FromAgent::Run { report });
                }
            }
            _ = sweep.tick() => keeper.sweep(),
        }
    }
}

impl<C: Containers> Keeper<C> {
    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Accept(spec) => match RunFolder::create(&self.node.places.runs, &spec) {
                Ok(folder) => self.begin(folder, *spec),
                Err(error) => {
                    let why = format!("{:#}", anyhow::Error::from(error));
                    self.core.not_accepted(spec.run, why, clock::now());
                }
            },
            Effect::Stop { run, grace_seconds, why } => {
                let Some(held) = self.held.get(&run) else { return };
                let order = StopOrder { grace_seconds, why };
                if held.stop.borrow().is_none() {
                    if let Err(error) = held.folder.write("stop.json", &order) {
                        tracing::error!(%run, "{:#}", anyhow::Error::from(error));
                    }
                    held.stop.send_replace(Some(order));
                }
            }
            Effect::Delete(run) => {
                let Some(held) = self.held.remove(&run) else { return };
                self.node.containers.clean(held.folder.path());
                if let Err(error) = held.folder.delete() {
                    tracing::error!(%run, "{:#}", anyhow::Error::from(error));
                }
            }
            Effect::RemoveVolumes(workflow) => self.node.volumes.remove(workflow),
        }
    }

    /// Starts the tasks of a run that is new or was taken back.
    fn begin(&mut self, folder: RunFolder, spec: RunSpec) {
        let run = spec.run;
        let (stop, stopped) = watch::channel(folder.stop_order());
        let end = folder.end();
        let (log_bytes, complete_at) = watch::channel(end.as_ref().map(|end| end.log_bytes));
        let log = log::send(self.node.servers.clone(), run, folder.log(), complete_at);
        let mut tasks = vec![tokio::spawn(log).abort_handle()];
        if end.is_none() {
            let (node, reports) = (self.node.clone(), self.reports.clone());
            let life = life::live(node, folder.clone(), spec.clone(), stopped, reports);
            tasks.push(tokio::spawn(life).abort_handle());
        }
        self.held.insert(run, Held { spec, folder, stop, log_bytes, tasks });
    }

    fn heard(&mut self, report: RunReport) {
        if let (RunState::Ended(end), Some(held)) = (&report.state, self.held.get(&report.run)) {
            tracing::info!(run = %report.run, subject = held.spec.subject, outcome = ?end.outcome, "run ended");
            held.log_bytes.send_replace(Some(end.log_bytes));
            self.node.containers.clean(held.folder.path());
        }
        self.core.advanced(report);
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
