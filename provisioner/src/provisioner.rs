//! The shell: one [`Provisioner`] holds the cluster and the overlays, lets one change happen at a
//! time, and runs the servers.

mod rendering;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::available_parallelism,
};

use access::Access;
use api::{
    ids::{ImageName, MacAddr, NodeId, NodeName},
    machine::MachineSpec,
    overlay::Generation,
};
use boot_proto::{HostTable, script::ScriptTemplate};
use database::Database;
use fleet::Fleet;
use image_catalog::{ImageTable, OsImages};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    arp_table,
    check::{Known, KnownAddresses, check_cluster},
    cluster::{ChangeError, Cluster, Draft},
    config::{DhcpMode, NetworkFacts, ProvisionerConfig},
    dhcp::{DhcpCore, LeaseLogError},
    feed::NodeFeed,
    holds::{Holds, Unseen},
    meters::Meters,
    overlay::{
        host_key::{HostKeyError, HostKeys},
        library::Library,
        removal,
        renderer::{RenderError, Renderer},
        variables::{ClusterVariables, NodeFacts, SSH_HOST_KEY, Variables},
    },
    published::{Published, host_table, labels},
    refusals::Refusals,
    register,
    store::{NodeRecord, Store, StoreError, sql::SqlStore},
    tftp::{Firmware, FirmwareError},
};

/// Name of the boot script template in the directory of templates.
const SCRIPT_TEMPLATE: &str = "boot.ipxe.j2";

/// Mistakes of stored nodes and profiles that are logged at the start: enough to see
/// what kind they are.
const MAX_STORED_DIAGNOSTICS: usize = 20;

/// Why the provisioner cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Boot files.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// Leases of pools.
    #[error(transparent)]
    Leases(#[from] LeaseLogError),
    /// The boot script template.
    #[error("cannot read the boot script template {}", path.display())]
    Template {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A mistake in the boot script template.
    #[error(transparent)]
    Script(#[from] boot_proto::script::ScriptError),
}

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// It was refused.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part of the server broke.
    #[error("the work ended badly: {cause}; see the server's log")]
    Broken {
        /// What is known.
        cause: String,
    },
}

/// Why a node's overlays are not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OverlaysError {
    /// There is no such node, or its profiles cannot be applied.
    #[error("node {node} does not exist")]
    UnknownNode {
        /// Name or identity.
        node: String,
    },
    /// An overlay.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The ssh host key.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
}

/// Which of a node's two sets of overlays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverlaySet {
    /// Applied before the node's init starts.
    Boot,
    /// Kept up to date on the running node.
    Runtime,
}

/// Handle to the provisioner. Clones share everything.
#[derive(Debug, Clone)]
pub struct Provisioner(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: ProvisionerConfig,
    pub(crate) database: Database,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fleet: Fleet,
    pub(crate) access: Access,
    pub(crate) images: OsImages,
    pub(crate) feed: NodeFeed,
    pub(crate) firmware: Arc<Firmware>,
    pub(crate) script: ScriptTemplate,
    pub(crate) cluster: watch::Sender<Arc<View>>,
    pub(crate) library: watch::Sender<Arc<Library>>,
    pub(crate) hosts: watch::Sender<Arc<HostTable>>,
    /// Leases of pools, and what DHCP answers.
    pub(crate) dhcp: DhcpCore,
    /// What the HTTP boot port refused.
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) meters: Meters,
    /// What each node's runtime overlays should be, as last told to fleet.
    pub(crate) generations: Mutex<BTreeMap<NodeId, Generation>>,
    /// Nodes whose runtime overlays, and whatever holds them, are to be looked at again.
    pub(crate) unseen: Mutex<Unseen>,
    /// What holds nodes.
    pub(crate) holds: Holds,
    renderer: Renderer,
    /// Archives rendered at once: more would only have more threads wait for the same processors.
    pub(crate) renderings: Arc<Semaphore>,
    pub(crate) host_keys: HostKeys,
    /// Held by whoever changes nodes, profiles, or removes images.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    /// Cancelled by [`Provisioner::serve`] when it ends.
    pub(crate) stop: CancellationToken,
}

/// A cluster, and what templates see of it.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) cluster: Cluster,
    network: NetworkFacts,
    /// Made when the first template is rendered: a change need not wait for it. Shared with the
    /// view of before where templates see the same of all nodes.
    variables: Arc<OnceLock<ClusterVariables>>,
}

impl View {
    fn new(cluster: Cluster, config: &ProvisionerConfig) -> Self {
        Self { cluster, network: NetworkFacts::of(config), variables: Arc::default() }
    }

    fn variables(&self) -> &ClusterVariables {
        self.variables.get_or_init(|| {
            let nodes =
                self.cluster.checked.resolved.iter().map(|(name, spec)| (name, spec.as_ref()));
            ClusterVariables::new(nodes, &self.network.server_addresses)
                .with_ntp(self.network.ntp.clone())
        })
    }
}

impl Provisioner {
    /// Opens the state of the provisioner, whose tables are up to date ([`crate::migrate`]).
    /// Nothing is served before [`Provisioner::serve`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        database: Database,
        config: ProvisionerConfig,
        images: OsImages,
        fleet: Fleet,
        access: Access,
    ) -> Result<Self, OpenError> {
        let store: Arc<dyn Store> = Arc::new(SqlStore::new(database.clone()));
        let stop = CancellationToken::new();
        removal::sweep(&config.site_overlays);
        let library = Library::load(&config.shipped_overlays, &config.site_overlays);
        library.problems().iter().for_each(|problem| tracing::error!("{problem}"));
        let firmware = Arc::new(Firmware::load(&config.firmware)?);
        let dhcp = DhcpCore::open(&config, firmware.map())?;
        let path = config.ipxe_templates.join(SCRIPT_TEMPLATE);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| OpenError::Template { path, source })?;
        let script = ScriptTemplate::parse(SCRIPT_TEMPLATE, &text)?;
        let cluster = Cluster::new(store.nodes().await?, store.profiles().await?);
        let host_keys = HostKeys::new(&config.state_dir);
        register::remove_host_keys(&store, &host_keys).await;
        let hosts = host_table(&cluster);
        fleet.set_labels(labels(&cluster));
        let feed = NodeFeed::start(&fleet, crate::clock::now(), stop.clone());
        let provisioner = Self(Arc::new(Inner {
            dhcp,
            refusals: Arc::default(),
            meters: Meters::default(),
            generations: Mutex::default(),
            unseen: Mutex::new(Unseen::All),
            holds: Holds::default(),
            renderer: Renderer::default(),
            renderings: Arc::new(Semaphore::new(available_parallelism().map_or(1, Into::into))),
            host_keys,
            turn: Arc::default(),
            cluster: watch::channel(Arc::new(View::new(cluster, &config))).0,
            library: watch::channel(Arc::new(library)).0,
            hosts: watch::channel(Arc::new(hosts)).0,
            config,
            database,
            store,
            fleet,
            access,
            images,
            feed,
            firmware,
            script,
            stop,
        }));
        provisioner.warn_of_diagnostics();
        Ok(provisioner)
    }

    /// Logs what is wrong with nodes and profiles that were accepted before: by an earlier release,
    /// or under another configuration. It holds up nothing.
    fn warn_of_diagnostics(&self) {
        let view = self.view();
        let findings = check_cluster(&view.cluster.nodes, &view.cluster.profiles, &self.known());
        let findings = findings.findings();
        for finding in findings.iter().take(MAX_STORED_DIAGNOSTICS) {
            tracing::warn!("{finding}");
        }
        if let more @ 1.. = findings.len().saturating_sub(MAX_STORED_DIAGNOSTICS) {
            tracing::warn!("and {more} more mistakes in nodes and profiles");
        }
    }

    /// The cluster now.
    pub(crate) fn view(&self) -> Arc<View> {
        self.0.cluster.borrow().clone()
    }

    /// The overlays now.
    pub(crate) fn library(&self) -> Arc<Library> {
        self.0.library.borrow().clone()
    }

    /// What nodes may refer to now.
    pub(crate) fn known(&self) -> Known {
        Known {
            overlays: self.library().overlays.keys().cloned().collect(),
            images: self.0.images.table().known(),
            not_bootable: self.0.images.table().not_bootable(),
            addresses: KnownAddresses {
                plan: self.0.dhcp.plan(),
                gives_addresses: self.0.config.dhcp.mode == DhcpMode::Authoritative,
            },
        }
    }

    /// Changes nodes and profiles: all of it, or nothing. One change at a time.
    ///
    /// # Errors
    /// See [`EditError`].
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        edit: impl FnOnce(&mut Draft) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<T, EditError> {
        let turn = self.0.turn.clone().lock_owned().await;
        let (view, known) = (self.view(), self.known());
        // The turn belongs to the work: a client that hangs up gives neither up.
        let checked = tokio::task::spawn_blocking(move || {
            let mut draft = view.cluster.draft();
            let result = edit(&mut draft)?;
            let next = view.cluster.finish(draft, &known)?;
            Ok::<_, ChangeError>((turn, result, next))
        });
        let (turn, result, next) =
            checked.await.map_err(|error| EditError::Broken { cause: error.to_string() })??;
        self.commit(turn, next).await?;
        Ok(result)
    }

    /// Shows a cluster that is kept to everybody. `changed`: the names of the nodes
    /// that may be others.
    pub(crate) fn publish(&self, cluster: Cluster, changed: BTreeSet<NodeName>) {
        let before = self.view();
        let published = Published { before: &before.cluster, after: &cluster, changed: &changed };
        let hosts = published.hosts(&self.0.hosts.borrow());
        let is_same_for_templates = published.is_same_for_templates();
        self.0.fleet.change_labels(published.labels());
        let mut view = View::new(cluster, &self.0.config);
        if is_same_for_templates {
            view.variables = before.variables.clone();
        }
        {
            // Under the lock: a look that takes the names sees the view that they are of.
            let mut unseen = self.unseen();
            self.0.cluster.send_replace(Arc::new(view));
            if is_same_for_templates {
                unseen.add(changed);
            } else {
                unseen.add_all();
            }
        }
        if let Some(hosts) = hosts {
            self.0.hosts.send_replace(Arc::new(hosts));
        }
    }

    /// What is to be looked at again of nodes.
    pub(crate) fn unseen(&self) -> std::sync::MutexGuard<'_, Unseen> {
        self.0.unseen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn generations(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Generation>> {
        self.0.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node<'a>(
        &self,
        view: &'a View,
        name: &NodeName,
    ) -> Result<(&'a NodeRecord, &'a MachineSpec), OverlaysError> {
        let unknown = || OverlaysError::UnknownNode { node: name.to_string() };
        let record = view.cluster.nodes.get(name).ok_or_else(unknown)?;
        Ok((record, view.cluster.checked.resolved.get(name).ok_or_else(unknown)?))
    }

    fn variables(
        &self,
        view: &View,
        node: &NodeRecord,
        spec: &MachineSpec,
        library: &Library,
        overlays: &[String],
    ) -> Result<Variables, OverlaysError> {
        let host_key = match library.reads(overlays, SSH_HOST_KEY) {
            true => Some(self.0.host_keys.get(node.id)?),
            false => None,
        };
        let images: Arc<ImageTable> = self.0.images.table();
        let image = spec.image.as_deref().and_then(|reference| images.find(reference).ok());
        let facts = NodeFacts {
            name: &node.name,
            id: node.id,
            spec,
            image: image.map(|record| (record.name.as_str(), record.version.version)),
            host_key: host_key.as_ref(),
        };
        Ok(Variables::new(view.variables(), &facts))
    }

    /// Names of the nodes that boot a version of an image next.
    pub(crate) fn users_of(&self, image: &ImageName, version: u32) -> Vec<NodeName> {
        let (view, images) = (self.view(), self.0.images.table());
        let uses = |spec: &MachineSpec| {
            let boots = spec.image.as_deref().and_then(|reference| images.version_of(reference));
            boots.is_some_and(|(name, number)| name == *image && number == version)
        };
        let users = view.cluster.checked.resolved.iter().filter(|(_, spec)| uses(spec));
        users.map(|(name, _)| name.clone()).collect()
    }

    /// The address that a boot request for this MAC address must come from; it comes from `source`.
    ///
    /// The node's own address where it has one, else the one that our DHCP leased; where another
    /// server leases, `source`, if the kernel sees this MAC address behind it. Without any there is
    /// none, and no token is issued: any machine on the network could ask.
    pub(crate) fn expected_address(
        &self,
        mac: MacAddr,
        spec: &MachineSpec,
        source: IpAddr,
    ) -> Option<IpAddr> {
        let interface = spec.interfaces.values().find(|interface| interface.mac == Some(mac));
        let own = interface.and_then(|interface| interface.address).map(|address| address.addr());
        match self.0.config.dhcp.mode {
            DhcpMode::Authoritative => own.or_else(|| self.0.dhcp.leased(mac).map(Into::into)),
            DhcpMode::Proxy | DhcpMode::Off => own.or_else(|| speaks_from(mac, source)),
        }
    }
}

/// The address, if the machine with this MAC address is the one that has it on our own network.
fn speaks_from(mac: MacAddr, source: IpAddr) -> Option<IpAddr> {
    let IpAddr::V4(address) = source.to_canonical() else { return None };
    match arp_table::mac_behind(address) {
        Ok(seen) => (seen == Some(mac)).then_some(IpAddr::V4(address)),
        Err(error) => {
            tracing::error!("the kernel's ARP table cannot be read: {error}");
            None
        }
    }
}
