//! Workflows: from a document to results. `bedplate server` opens one [`Controller`] on the shared
//! database, merges [`Controller::rest`] into the REST API and [`Controller::node_routes`] into the
//! fleet port, and lets it [`Controller::serve`].
//!
//! | module | is |
//! |---|---|
//! | `engine` | pure: all workflows that are not over, and what to do next |
//! | `conductor` | the one task that owns the engine: commits, publishes, then tells |
//! | `record` | rows, and the writes that change them |
//! | `views` | what was published of them last, for all who read |
//! | `store` | where they are kept |
//! | `image_users`, `files` | what workflows need of `image-catalog`: job images, inline files |
//! | `results` | logs and files for clients |
//! | `ledger`, `holdings` | what the server holds of each user, for quotas |
//! | `capacity` | what jobs may use of a node |
//! | `streams` | users in running jobs |
//! | `rest`, `node_routes` | the doors |
//! | `restore` | what the last run of the server left |
//!
//! Invariants: nothing is acknowledged to a client or told to a node before it is on disk; no run
//! is used twice; which roles beside the fleet there are is not known here.

mod capacity;
mod clock;
mod conductor;
mod engine;
mod files;
mod holdings;
mod identity;
mod image_users;
mod ledger;
mod node_routes;
mod record;
mod rest;
mod restore;
mod results;
mod store;
mod stored;
mod streams;
mod views;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use ::rest::causes;
use access::{Access, Routes};
use api::{
    quota::QuotaName,
    run::{RunId, WorkflowId},
};
use database::{Database, MigrateError};
use fleet::Fleet;
use hardware::Hardware;
use image_catalog::JobImages;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use store::{StoreError, sql::SCHEMA};
pub use stored::{StoredWorkflows, stored_workflows};

use conductor::{Command, Conductor, Leases, MAX_ORDERS, Removals};
use engine::{Engine, Surroundings, View};
use holdings::Holdings;
use image_users::ImageUsers;
use results::Results;
use store::{Store, sql::SqlStore};
use streams::{Streams, bridge::NodeSocket};
use views::{Publisher, Views};

/// Changes of workflows that wait for a slow watcher before it looks at the whole again.
const MAX_CHANGES: usize = 1_024;

/// What the controller must be told.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    /// The server's state directory.
    pub state_dir: PathBuf,
    /// Addresses and ports that jobs must not reach: the server's boot and enrolment ports.
    pub forbidden: Vec<SocketAddr>,
    /// Those that transfers on nodes must not reach: all ports of the server.
    pub transfers_forbidden: Vec<SocketAddr>,
    /// How much is kept of the log of a job, here and on its node, bytes.
    pub log_limit_bytes: u64,
    /// What a volume may hold of which the document does not say it, bytes.
    pub volume_bytes: u64,
    /// Where job images and inline files are. Nobody else uses them.
    pub images: JobImages,
}

impl ControllerConfig {
    fn surroundings(&self) -> Surroundings {
        Surroundings {
            forbidden: self.forbidden.clone(),
            transfers_forbidden: self.transfers_forbidden.clone(),
            log_limit_bytes: Some(self.log_limit_bytes),
        }
    }
}

/// Why the controller cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rows of job images.
    #[error(transparent)]
    Images(#[from] image_catalog::StoreError),
    /// Logs and files.
    #[error("cannot open the directories of logs and files: {0}")]
    Results(String),
}

/// Brings the tables of the controller up to date.
///
/// # Errors
/// [`MigrateError`].
pub async fn migrate(database: &Database) -> Result<(), MigrateError> {
    database.migrate(&SCHEMA).await
}

/// Handle to the workflows. Clones share everything.
#[derive(Debug, Clone)]
pub struct Controller(Arc<Inner>);

struct Inner {
    views: Views,
    store: Arc<dyn Store>,
    images: JobImages,
    /// See [`ControllerConfig::volume_bytes`].
    volume_bytes: u64,
    results: Results,
    access: Access,
    fleet: Fleet,
    streams: Streams<NodeSocket>,
    orders: mpsc::Sender<Command>,
    changed: broadcast::Sender<WorkflowId>,
    /// The run whose log grew last, for those who follow one.
    grown: watch::Sender<Option<(RunId, u64)>>,
    /// Held from the choice of a place to its commit.
    numbering: Arc<tokio::sync::Mutex<()>>,
    conductor: Mutex<Option<Conductor>>,
    shutdown: CancellationToken,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("views", &self.views).finish_non_exhaustive()
    }
}

impl Controller {
    /// Opens the controller on a database whose tables are up to date ([`migrate`]), and what the
    /// last run of the server left undone.
    ///
    /// # Errors
    /// [`ControllerError`].
    pub async fn open(
        database: Database,
        config: ControllerConfig,
        (fleet, hardware): (Fleet, Hardware),
        access: Access,
    ) -> Result<Self, ControllerError> {
        let store: Arc<dyn Store> = Arc::new(SqlStore::new(database));
        let images = config.images.clone();
        let results = Results::open(&config.state_dir, config.log_limit_bytes)
            .map_err(|error| ControllerError::Results(causes(&error)))?;
        let surroundings = config.surroundings();
        let mut engine = restored_engine(surroundings, &store, &images, &results).await?;
        let publisher = Publisher::new(engine.view(clock::now()));
        let views = publisher.readers();
        let (orders, incoming) = mpsc::channel(MAX_ORDERS);
        let ours = Holdings::new(results.clone(), views.clone(), orders.clone());
        access.query_holdings(Arc::new(ours));
        let users = ImageUsers::new(views.clone(), results.ledger().clone(), access.clone());
        images.used_by(Arc::new(users));
        let changed = broadcast::channel(MAX_CHANGES).0;
        let conductor = Conductor {
            engine,
            publisher,
            store: store.clone(),
            fleet: fleet.clone(),
            hardware,
            images: images.clone(),
            results: results.clone(),
            ledger: results.ledger().clone(),
            orders: incoming,
            sender: orders.clone(),
            changed: changed.clone(),
            lists: std::collections::BTreeMap::new(),
            capacities: std::collections::BTreeMap::new(),
            labels: Arc::default(),
            done: Vec::new(),
            told: Vec::new(),
            leases: Leases::default(),
            removals: Removals::default(),
        };
        Ok(Self(Arc::new(Inner {
            views,
            store,
            images,
            volume_bytes: config.volume_bytes,
            results,
            access,
            fleet,
            streams: Streams::default(),
            orders,
            changed,
            grown: watch::channel(None).0,
            numbering: Arc::default(),
            conductor: Mutex::new(Some(conductor)),
            shutdown: CancellationToken::new(),
        })))
    }

    /// Writes what the controller tells of itself.
    pub fn expose(&self, out: &mut metrics::Exposition) {
        holdings::expose(&self.0.results, &self.0.access, out);
    }

    /// The REST routes.
    #[must_use]
    pub fn rest(&self) -> Routes {
        rest::routes(self.clone())
    }

    /// The routes for nodes; their requests carry a [`fleet::NodeIdentity`].
    pub fn node_routes(&self) -> axum::Router {
        node_routes::router(self.clone())
    }

    /// Places and follows runs until `shutdown`. Call it once.
    pub async fn serve(&self, shutdown: CancellationToken) {
        let conductor = self.0.conductor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(conductor) = conductor {
            conductor.run(shutdown).await;
        }
        self.0.shutdown.cancel();
        // Now nobody takes the end of a pull for a failure any more.
        self.0.images.close();
    }

    /// How much the owner of a workflow may have; `None`: no limit. Where the database does not
    /// say, nothing is refused.
    async fn limit_of_owner(&self, workflow: WorkflowId, name: QuotaName) -> Option<u64> {
        let owner = self.0.results.ledger().owner(workflow)?;
        let limit = self.0.access.quota(&owner, name).await;
        limit.unwrap_or_else(|error| {
            tracing::error!("the limits of {owner} cannot be read: {}", causes(&error));
            None
        })
    }

    /// Something of a run was not taken, for a quota of its owner.
    async fn quota_met(&self, run: RunId, name: QuotaName, what: String) {
        self.0.access.count_refusal(name);
        // Without the conductor the server is stopping.
        let _ = self.0.orders.send(Command::QuotaMet { run, what }).await;
    }

    /// What was published last.
    fn view(&self) -> Arc<View> {
        self.0.views.latest()
    }

    /// Wakes those who follow a log.
    fn log_grew(&self, run: RunId, length: u64) {
        self.0.grown.send_replace(Some((run, length)));
    }
}

/// The engine, with what the last run of the server left; each user is charged for what is theirs
/// of it.
async fn restored_engine(
    surroundings: Surroundings,
    store: &Arc<dyn Store>,
    images: &JobImages,
    results: &Results,
) -> Result<Engine, ControllerError> {
    let mut engine = Engine::new(surroundings, Box::new(identity::new_run));
    restore::restore(&mut engine, store.as_ref(), images, results).await?;
    let held = engine.view(clock::now()).held();
    holdings::recall(held, store, results, &images.kept_images().await?).await?;
    Ok(engine)
}
