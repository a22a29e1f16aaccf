//! The fleet: certificate authority, boot tokens, enrolment, the nodes' channel, presence, and
//! its REST routes.
//!
//! `bedplate server` opens one [`Fleet`] on the shared database and lets it [`Fleet::serve`]
//! the fleet port. The provisioner registers nodes ([`Fleet::edit_nodes`]), tells what it sees
//! of their boots ([`Fleet::observe`]), asks for boot tokens and says which runtime overlays a
//! node should have.
//!
//! | module | |
//! |---|---|
//! | `enrolments`, `under_way` | which certificates are good, who is the node (pure), and what ends with them |
//! | `arming`, `lifecycle`, `holding`, `failures` | pure: tokens, states, what holds nodes, limits |
//! | `registry`, `writer`, `store` | all nodes in memory, written in batches, kept in tables |
//! | `register` | which nodes there are, changed in a transaction of the provisioner's |
//! | `authority`, `certificates`, `tls` | the CA, certificates and what people are told of them, TLS |
//! | `boot_tokens`, `token` | tokens for a boot: made, shown, refused |
//! | `port` | the fleet port: enrolment, reports, channel |
//! | `presence` | the clock |
//! | `rest` | what people ask of nodes and tell them |
//! | `metrics` | what Prometheus is told |
//! | `orders`, `decisions` | what admins order of nodes, and whom they take for one |
//! | `hardware` | what nodes tell of their hardware, on its way to who keeps it |
//! | `labels` | labels of nodes, on their way from the provisioner to the controller |
//! | `runs` | what agents and the controller say to each other |
//! | `stored` | what of the database cannot be read, for a check |
//! | [`blob`] | files to nodes, by digest |
//!
//! Invariants: no image, overlay or boot protocol is known here; no token is issued while the
//! node's agent is connected; no route but enrolment is reached with a certificate that was not
//! checked in memory; what was acknowledged to a node is on disk.

mod arming;
mod authority;
pub mod blob;
mod boot_tokens;
mod certificates;
mod clock;
mod config;
mod connection;
mod decisions;
mod enrolments;
mod error;
mod failures;
pub mod fuzzing;
mod hardware;
mod holding;
mod labels;
mod lifecycle;
mod link;
mod metrics;
mod orders;
mod port;
mod presence;
mod register;
mod registry;
mod rest;
mod runs;
mod store;
mod stored;
mod tls;
mod token;
mod under_way;
mod writer;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use api::{
    ids::{Digest, NodeId, NodeName, Timestamp},
    overlay::Generation,
    run::VolumeUse,
    status::{NodeEvent, NodeStatus, NodeUpdate, Severity},
};
use database::Database;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use self::rest::unknown_nodes;
pub use authority::{AuthorityError, DamagedAuthority, DateProblem};
pub use certificates::{
    AuthorityFacts, CertificateFacts, NODE_CERTIFICATE_SECONDS, authority_facts, authority_pem,
};
pub use config::{Deadlines, FleetConfig};
pub use error::{FleetError, TokenRefused};
pub use hardware::{HardwareReports, InventoryMoment, KeptInventory};
pub use labels::{NodeLabels, relabelled};
pub use port::NodeIdentity;
pub use register::{NodeChange, NodesEdit};
pub use runs::{NodeUsage, RunMessage};
pub use store::{StoreError, sql::SCHEMA};
pub use stored::{problems, stored_nodes};

use authority::{Authority, server_certificate::ServerCertificate};
use lifecycle::{BootFile, Event, Limits};
use registry::{Change, Registry, Ticket};
use store::{Store, sql::SqlStore};
use token::Seal;

/// Nodes that came online and were not yet dealt with by a slow listener before it must ask
/// for the full list.
const MAX_ONLINE: usize = 4_096;

/// What is wrong with the clock of this machine or the dates of the CA in this state directory, if
/// it has one: for `server check`, which starts no fleet.
///
/// # Errors
/// The CA cannot be read.
pub fn date_problem(state_dir: &std::path::Path) -> Result<Option<DateProblem>, AuthorityError> {
    let authority = Authority::read(state_dir)?;
    Ok(authority.and_then(|authority| authority.date_problem(clock::now())))
}

/// What the provisioner sees of a node's boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// Its firmware or iPXE was offered an address. Only for clients that say that they boot
    /// (`PXEClient`, `HTTPClient`, iPXE) from port 68: an ordinary user of a node must not be
    /// able to cause it.
    Offered {
        /// The address.
        address: IpAddr,
    },
    /// A boot file was fetched.
    Firmware {
        /// Its name for people: `snponly.efi`.
        file: String,
        /// By whom.
        address: IpAddr,
    },
    /// The boot script was fetched.
    Script {
        /// By whom.
        address: IpAddr,
        /// Image version whose kernel and stage 1 it names: `debian-node@2`.
        image: String,
    },
}

/// A node that needs a version of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// Name of the node.
    pub node: NodeName,
    /// The version that it runs or is booting: `debian-node@2`. `None` if it may run any: what was
    /// known of it could not be read, and it has not spoken since; or it may have begun to boot
    /// before the server was started, less than ten minutes ago.
    pub image: Option<String>,
}

/// Handle to the fleet. Clones share everything.
#[derive(Debug, Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: FleetConfig,
    database: Database,
    authority: Arc<Authority>,
    certificate: Arc<ServerCertificate>,
    seal: Seal,
    tls: [Arc<rustls::ServerConfig>; 2],
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    online: broadcast::Sender<NodeId>,
    runs: Mutex<Option<mpsc::Sender<RunMessage>>>,
    usages: broadcast::Sender<Arc<NodeUsage>>,
    labels: watch::Sender<Arc<NodeLabels>>,
    hardware: Arc<dyn HardwareReports>,
    protocol: metrics::ProtocolCounters,
    port: metrics::PortCounters,
    stop: CancellationToken,
}

impl Fleet {
    /// Opens the fleet: makes or reads the certificate authority, brings the tables up to date,
    /// starts the clock and the writer. Nodes that were connected get three heartbeats to come back
    /// before they count as lost. `hardware` is given what agents report of their hardware.
    ///
    /// # Errors
    /// [`FleetError::Authority`], [`FleetError::Migrate`], [`FleetError::Store`].
    pub async fn open(
        database: Database,
        config: FleetConfig,
        hardware: Arc<dyn HardwareReports>,
    ) -> Result<Self, FleetError> {
        let now = clock::now();
        let authority = Arc::new(Authority::open(&config.state_dir, now)?);
        if let Some(problem) = authority.date_problem(now) {
            tracing::error!("{problem} (the clock says {now})");
        }
        let certificate = Arc::new(ServerCertificate::new(
            &authority,
            &config.server_addresses,
            &config.server_names,
            now,
        )?);
        let tls = [
            Arc::new(tls::server_config(&authority, certificate.clone(), false)?),
            Arc::new(tls::server_config(&authority, certificate.clone(), true)?),
        ];
        let store: Arc<dyn Store> = Arc::new(SqlStore::open(database.clone()).await?);
        let limits = Limits { deadlines: config.deadlines, grace_seconds: config.grace_seconds() };
        let registry = Arc::new(Registry::new(store.nodes().await?, limits, now));
        let stop = CancellationToken::new();
        tokio::spawn(writer::run(registry.clone(), store.clone(), stop.clone()));
        tokio::spawn(presence::run(
            registry.clone(),
            authority.clone(),
            certificate.clone(),
            stop.clone(),
        ));
        let online = broadcast::channel(MAX_ONLINE).0;
        let (runs, usages) = (Mutex::new(None), broadcast::channel(runs::MAX_USAGES).0);
        let (protocol, port) =
            (metrics::ProtocolCounters::default(), metrics::PortCounters::default());
        let inner = Inner {
            config,
            database,
            seal: authority.seal(),
            authority,
            certificate,
            tls,
            store,
            registry,
            online,
            runs,
            usages,
            labels: watch::Sender::default(),
            hardware,
            protocol,
            port,
            stop,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Writes what is not yet on disk (the times of the last words) and stops the
    /// clock. Call it last.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        self.inner.registry.closed().await;
    }

    /// SHA-256 of the CA certificate's DER: what stage 1 pins.
    #[must_use]
    pub fn ca_fingerprint(&self) -> Digest {
        self.inner.authority.fingerprint()
    }

    /// What is wrong with the server's clock or the dates of its CA, now.
    #[must_use]
    pub fn date_problem(&self) -> Option<DateProblem> {
        self.inner.authority.date_problem(clock::now())
    }

    /// When the certificates of this server end: the authority's, and the one that listeners
    /// present.
    #[must_use]
    pub fn certificate_ends(&self) -> [(&'static str, Timestamp); 2] {
        let (authority, server) =
            (self.inner.authority.not_after(), self.inner.certificate.not_after());
        [("authority", authority), ("server", server)]
    }

    /// The CA certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.inner.authority.pem().to_owned()
    }

    /// TLS for a listener of this server. With `client_certificates` a client may present a node's
    /// certificate. The server's own certificate renews itself inside it.
    #[must_use]
    pub fn server_tls(&self, client_certificates: bool) -> Arc<rustls::ServerConfig> {
        self.inner.tls[usize::from(client_certificates)].clone()
    }

    /// Takes what the provisioner saw of a node's boot. Known at once; what is no more than a claim
    /// of whoever asked, a file that was fetched, is never on disk.
    ///
    /// # Errors
    /// [`FleetError::UnknownNode`].
    pub fn observe(&self, id: NodeId, observation: Observation) -> Result<(), FleetError> {
        let event = match observation {
            Observation::Offered { address } => Event::Offered { address },
            Observation::Firmware { file, address } => {
                Event::Fetched { file: BootFile::Program(file), address }
            }
            Observation::Script { address, image } => {
                Event::Fetched { file: BootFile::Script { image }, address }
            }
        };
        self.registry().observe(id, clock::now(), event).ok_or(FleetError::UnknownNode { id })
    }

    /// Arms a node for its next boot, even after misuse. A connected node stays unarmed until its
    /// channel is gone.
    ///
    /// # Errors
    /// [`FleetError::UnknownNode`], [`FleetError::Store`].
    pub async fn arm(&self, id: NodeId, why: &str) -> Result<(), FleetError> {
        let ((), ticket) = self.change(id, |change| {
            let _noted = change.token(arming::Event::Ordered);
            change.apply_event(Event::TokenRefused { cause: None });
            change.record(Severity::Info, &format!("armed: {why}"));
        })?;
        self.durable(ticket).await
    }

    /// What a node is doing; `None` if it is not registered.
    #[must_use]
    pub fn status(&self, id: NodeId) -> Option<NodeStatus> {
        self.registry().status(id)
    }

    /// Versions of images that nodes run or are booting, as far as is known.
    #[must_use]
    pub fn image_uses(&self) -> Vec<ImageUse> {
        self.registry().image_uses(clock::now())
    }

    /// The node of a name, and what it is doing; `None` if there is none.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<NodeUpdate> {
        let id = self.registry().find(name)?;
        Some(NodeUpdate { id, name: name.clone(), status: self.status(id)? })
    }

    /// The name of a node, and what it is doing; `None` if it is not registered.
    #[must_use]
    pub fn node_of(&self, id: NodeId) -> Option<NodeUpdate> {
        Some(NodeUpdate { id, name: self.registry().name(id)?, status: self.status(id)? })
    }

    /// What every node is doing.
    #[must_use]
    pub fn statuses(&self) -> Vec<NodeUpdate> {
        self.registry().statuses()
    }

    /// Every later change of a status but `last-seen`, and every node that is removed. A receiver
    /// that lags starts over from [`Self::statuses`]: what is not there is gone.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<NodeChange> {
        self.registry().watch()
    }

    /// Nodes whose agent connects from now on. A receiver that lags asks for [`Self::connected`].
    #[must_use]
    pub fn online(&self) -> broadcast::Receiver<NodeId> {
        self.inner.online.subscribe()
    }

    /// Nodes whose agent is connected.
    #[must_use]
    pub fn connected(&self) -> Vec<NodeId> {
        self.registry().connected()
    }

    /// Says which runtime overlays a node should have. Its agent is told now if it is connected and
    /// has others, and again at each connect. Not kept over a restart.
    pub fn set_runtime_overlays(&self, id: NodeId, generation: Generation) {
        // A node that was forgotten in this moment needs no overlays.
        let _ = self.registry().link(id, |link| link.want_overlays(generation));
    }

    /// Says what on the server holds a node, in one line; `None`: nothing. The node's status has
    /// it, its history when it changes. Not kept over a restart.
    pub fn set_held(&self, id: NodeId, cause: Option<String>) {
        // A node that was forgotten in this moment is held by nothing.
        let _ = self.change(id, |change| change.apply_event(Event::Held { cause }));
    }

    /// Writes a warning into a node's history: what is no cause to hold it. The caller
    /// bounds how often.
    pub fn warn(&self, id: NodeId, message: String) {
        // A node that was forgotten in this moment has no history.
        let _ = self.change(id, |change| change.record(Severity::Warning, &message));
    }

    /// The newest events of a node, newest first, each with its number in the node's history, which
    /// counts from 1. With `before` only those of smaller numbers. The store has up to
    /// 1,100 of a node.
    ///
    /// # Errors
    /// [`FleetError::Store`].
    pub async fn history(
        &self,
        id: NodeId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, NodeEvent)>, FleetError> {
        Ok(self.inner.store.history(id, before, limit).await?)
    }

    /// Serves the fleet port until `shutdown`, within the limits of `shell`: the routes of
    /// [`api::enroll`] and `extra`, whose requests carry a [`NodeIdentity`] in their extensions.
    ///
    /// # Errors
    /// [`FleetError::Listen`].
    pub async fn serve(
        &self,
        shell: &::rest::shell::Shell,
        listener: std::net::TcpListener,
        extra: axum::Router,
        shutdown: CancellationToken,
    ) -> Result<(), FleetError> {
        port::serve(self.clone(), shell, listener, extra, shutdown).await
    }

    fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    fn authority(&self) -> &Authority {
        &self.inner.authority
    }

    fn config(&self) -> &FleetConfig {
        &self.inner.config
    }

    fn name(&self, id: NodeId) -> Option<NodeName> {
        self.registry().name(id)
    }

    fn came_online(&self, id: NodeId) {
        // Nobody listening is no error.
        let _ = self.inner.online.send(id);
    }

    /// Looks at one node.
    fn read<T>(
        &self,
        id: NodeId,
        look: impl FnOnce(&registry::NodeEntry) -> T,
    ) -> Result<T, FleetError> {
        self.registry().read(id, look).ok_or(FleetError::UnknownNode { id })
    }

    /// Uses the link to one node's agent.
    fn link<T>(&self, id: NodeId, act: impl FnOnce(&mut link::Link) -> T) -> Result<T, FleetError> {
        self.registry().link(id, act).ok_or(FleetError::UnknownNode { id })
    }

    /// As [`Self::link`], when something was received from the agent now.
    fn received<T>(
        &self,
        id: NodeId,
        act: impl FnOnce(&mut link::Link) -> T,
    ) -> Result<T, FleetError> {
        self.registry().received(id, clock::now(), act).ok_or(FleetError::UnknownNode { id })
    }

    /// The agent of a node said what its volumes hold.
    fn volumes_told(&self, id: NodeId, volumes: Option<VolumeUse>) -> Result<(), FleetError> {
        self.link(id, |link| link.volumes_told(volumes))
    }

    /// Changes one node in memory.
    fn change<T>(
        &self,
        id: NodeId,
        change: impl FnOnce(&mut Change<'_>) -> T,
    ) -> Result<(T, Ticket), FleetError> {
        self.registry().update(id, clock::now(), change).ok_or(FleetError::UnknownNode { id })
    }

    /// Waits until a change is on disk.
    async fn durable(&self, ticket: Ticket) -> Result<(), FleetError> {
        Ok(self.registry().durable(ticket).await?)
    }

    /// Lets a node live through an event; on disk when this returns.
    async fn apply_event(&self, id: NodeId, event: Event) -> Result<(), FleetError> {
        let ((), ticket) = self.change(id, |change| change.apply_event(event))?;
        self.durable(ticket).await
    }
}
