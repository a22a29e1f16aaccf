//! Running the provisioner: the boot servers, the watch on overlay directories, and the generations
//! that fleet is told.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use api::{ids::NodeName, overlay::Generation};
use notify::{RecursiveMode, Watcher as _};
use rest::shell::Shell;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    boot_log::MAX_WAITING_EVENTS,
    dhcp::{self, DhcpError},
    holds::Unseen,
    http_boot,
    overlay::library::Library,
    provisioner::Provisioner,
    tftp::{self, TftpError},
};

/// Of the thread that renders overlays: a third of the weight of the others (setpriority(2)).
const BACKGROUND_NICE: i32 = 5;

/// Edits that come within this time are rendered once: an editor writes a file in several steps.
const SETTLE: Duration = Duration::from_millis(150);

/// Longest time for which nodes' runtime overlays wait for further changes.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often what holds a node is looked at again where no change tells that it may be gone.
const RECHECK: Duration = Duration::from_secs(30);

/// How often it is looked whether refused requests are to be summed up in the audit log.
const AUDIT_SUMMARY: Duration = Duration::from_secs(60);

/// Why the provisioner cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// DHCP.
    #[error(transparent)]
    Dhcp(#[from] DhcpError),
    /// TFTP.
    #[error(transparent)]
    Tftp(#[from] TftpError),
    /// HTTP boot.
    #[error("cannot listen on {address} for HTTP boot (boot.http-port)")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Overlay directories cannot be watched.
    #[error("the overlay directories cannot be watched")]
    Watch(#[source] notify::Error),
    /// A part of the server broke.
    #[error("a part of the provisioner ended badly")]
    Broken(#[source] JoinError),
}

impl Provisioner {
    /// Serves until `shutdown`, or until a part fails. Ports are bound before anything is answered.
    /// Imports that were cut off go on. `shell`: the limits of connections, which the server's
    /// other listeners share.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn serve(
        &self,
        shell: &Shell,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        let config = &self.0.config;
        let dhcp = dhcp::Server::bind(&config.dhcp, self.0.dhcp.clone())?;
        let (firmware, meter) = (self.0.firmware.clone(), self.0.meters.tftp.clone());
        let tftp = tftp::Server::bind(&self.tftp_addresses(), firmware, meter)?;
        let mut listeners = Vec::new();
        for &address in &config.boot_listen {
            let bound = TcpListener::bind(address).await;
            listeners.push(bound.map_err(|source| ServeError::Bind { address, source })?);
        }

        let stop = shutdown.child_token();
        let (events, received) = mpsc::channel(MAX_WAITING_EVENTS);
        let mut tasks: JoinSet<Result<(), ServeError>> = JoinSet::new();
        let (hosts, dhcp_events, dhcp_stop) =
            (self.0.hosts.subscribe(), events.clone(), stop.clone());
        tasks.spawn(async move { Ok(dhcp.serve(hosts, dhcp_events, dhcp_stop).await?) });
        let tftp_stop = stop.clone();
        tasks.spawn(async move { Ok(tftp.serve(events, tftp_stop).await?) });
        let deep_queues = Arc::new(Semaphore::new(http_boot::MAX_DEEP));
        for listener in listeners {
            let queues = deep_queues.clone();
            let serving =
                http_boot::serve(self.clone(), shell.clone(), listener, queues, stop.clone());
            tasks.spawn(async move {
                serving.await;
                Ok(())
            });
        }
        tasks.spawn(self.clone().watch_overlays(stop.clone()));
        tasks.spawn(self.clone().reconcile_overlays(stop.clone()));
        let (summing, sum_stop) = (self.0.refusals.clone().sum_up(), stop.clone());
        tasks.spawn(async move {
            let _stopped = sum_stop.run_until_cancelled(summing).await;
            Ok(())
        });
        let (provisioner, audit_stop) = (self.clone(), stop.clone());
        tasks.spawn(async move {
            let (audit, access) = (&provisioner.0.refusals.audit, &provisioner.0.access);
            audit.sum_up_until(access, http_boot::ISSUE_TOKEN, AUDIT_SUMMARY, audit_stop).await;
            Ok(())
        });
        let recording = self.clone().record_conflicts(stop.clone());
        tasks.spawn(async move {
            recording.await;
            Ok(())
        });
        let observing = tokio::spawn(self.clone().observe_boots(received));

        let mut outcome = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.map_err(ServeError::Broken).flatten();
            stop.cancel();
            if outcome.is_ok() {
                outcome = ended;
            }
        }
        // Only now does nobody ask for boot files any more.
        self.0.refusals.audit.finish(&self.0.access, http_boot::ISSUE_TOKEN).await;
        self.0.stop.cancel();
        let observed = observing.await.map_err(ServeError::Broken);
        outcome.and(observed)
    }

    fn tftp_addresses(&self) -> Vec<SocketAddrV4> {
        let config = &self.0.config;
        let v4 = config.server_addresses.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(SocketAddrV4::new(*address, tftp::PORT)),
            IpAddr::V6(_) => None,
        });
        v4.filter(|_| config.tftp).collect()
    }

    /// Reads the overlay directories again and shows the new overlays to everybody. What
    /// cannot be read is in them as such; it is logged when it is new. Nobody is told of
    /// overlays that are as before.
    pub(crate) async fn reload_overlays(&self) {
        let (shipped, site) =
            (self.0.config.shipped_overlays.clone(), self.0.config.site_overlays.clone());
        let (before, provisioner) = (self.library(), self.clone());
        let loading = tokio::task::spawn_blocking(move || {
            let library = Library::load(&shipped, &site);
            let known: BTreeSet<String> = before.problems().into_iter().collect();
            for problem in library.problems().iter().filter(|problem| !known.contains(*problem)) {
                tracing::error!("{problem}");
            }
            show(&provisioner.0.library, &before, library);
        });
        if let Err(error) = loading.await {
            tracing::error!("the reading of overlays ended badly: {error}");
        }
    }

    /// Follows edits in the overlay directories.
    async fn watch_overlays(self, stop: CancellationToken) -> Result<(), ServeError> {
        let (changed, mut changes) = mpsc::channel(1);
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Reading a file is no change. A full channel has a change in it already.
                if event.as_ref().is_ok_and(|event| event.kind.is_access()) {
                    return;
                }
                let _ = changed.try_send(());
            })
            .map_err(ServeError::Watch)?;
        let config = &self.0.config;
        if let Err(error) = std::fs::create_dir_all(&config.site_overlays) {
            tracing::warn!("cannot make {}: {error}", config.site_overlays.display());
        }
        for directory in [&config.shipped_overlays, &config.site_overlays] {
            if let Err(error) = watcher.watch(directory, RecursiveMode::Recursive) {
                tracing::warn!(
                    "edits in {} are not noticed before a restart: {error}",
                    directory.display()
                );
            }
        }
        loop {
            let may_mend_itself = self.library().may_mend_itself();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = changes.recv() => {}
                () = tokio::time::sleep(RECHECK), if may_mend_itself => {}
            }
            tokio::time::sleep(SETTLE).await;
            while changes.try_recv().is_ok() {}
            self.reload_overlays().await;
        }
    }

    /// Tells fleet which runtime overlays each node should have and what holds it, again whenever
    /// something that they depend on changes.
    async fn reconcile_overlays(self, stop: CancellationToken) -> Result<(), ServeError> {
        let mut cluster = self.0.cluster.subscribe();
        let mut library = self.0.library.subscribe();
        let mut images = self.0.images.watch();
        let mut only_held = false;
        loop {
            let mut look_at = Unseen::Some(BTreeSet::new());
            if !only_held {
                // What changes from here on is seen by the next round. The mark comes before the
                // names are taken: what is added between the two wakes the next round for nothing.
                cluster.mark_unchanged();
                let is_other = has_changed(&mut library) | has_changed(&mut images);
                let mut unseen = self.unseen();
                if is_other {
                    unseen.add_all();
                }
                look_at = unseen.take();
            }
            let (provisioner, begun) = (self.clone(), Instant::now());
            in_background(move || provisioner.publish_generations(look_at)).await?;
            let pause = pause_after(begun.elapsed());
            // The senders live as long as `self`.
            only_held = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = cluster.changed() => false,
                _ = library.changed() => {
                    self.unseen().add_all();
                    false
                }
                _ = images.changed() => {
                    self.unseen().add_all();
                    false
                }
                // A file that was missing may have been put back.
                () = tokio::time::sleep(RECHECK) => true,
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Renders the runtime overlays of nodes, and looks at what else holds them: of these, and of
    /// all that are held. Blocking.
    fn publish_generations(&self, look_at: Unseen) {
        let mut standing = self.standing();
        let view = self.view();
        let nodes = &view.cluster.nodes;
        let is_at_all = matches!(look_at, Unseen::All);
        let names: BTreeSet<NodeName> = match look_at {
            Unseen::All => nodes.keys().cloned().collect(),
            Unseen::Some(mut names) => {
                let held = self.0.holds.nodes();
                names.extend(
                    held.iter().filter_map(|id| Some(view.cluster.by_id(*id)?.name.clone())),
                );
                names
            }
        };
        for name in &names {
            let Some(record) = nodes.get(name) else { continue };
            let generation = self.generation(name);
            standing.judge(name, record, generation.as_ref().err());
            if let Ok(generation) = generation {
                self.publish_generation(record.id, generation);
            }
        }
        standing.end(is_at_all);
    }

    fn publish_generation(&self, id: api::ids::NodeId, generation: Generation) {
        let before = {
            let mut generations = self.generations();
            // The node may have been deleted since this round began. Whoever deletes publishes that
            // first, and then takes its generation away.
            if self.view().cluster.by_id(id).is_none() {
                return;
            }
            generations.insert(id, generation)
        };
        if before != Some(generation) {
            self.0.fleet.set_runtime_overlays(id, generation);
        }
    }
}

/// Does work of seconds that nobody waits for, behind what boots: ten thousand nodes are rendered
/// again after a restart, which is when they may all ask for addresses.
async fn in_background(work: impl FnOnce() + Send + 'static) -> Result<(), ServeError> {
    let log = tracing::dispatcher::get_default(Clone::clone);
    let nicely = move || {
        // A thread of the runtime could not get its priority back. Without a lower one
        // it is as before.
        let _ = rustix::process::nice(BACKGROUND_NICE);
        tracing::dispatcher::with_default(&log, work);
    };
    let run = || {
        if let Err(panic) = std::thread::spawn(nicely).join() {
            std::panic::resume_unwind(panic);
        }
    };
    tokio::task::spawn_blocking(run).await.map_err(ServeError::Broken)
}

/// Whether there was a change that was not seen; it is seen now.
fn has_changed<T>(watched: &mut watch::Receiver<T>) -> bool {
    // The senders live as long as whoever asks.
    let has_changed = watched.has_changed().unwrap_or(false);
    if has_changed {
        watched.mark_unchanged();
    }
    has_changed
}

/// How long the next round waits for further changes after one that took so long: who gives ten
/// thousand nodes other addresses one by one must not wait for a processor that renders all of them
/// for each.
fn pause_after(round: Duration) -> Duration {
    (round * 3).clamp(SETTLE, LONGEST_PAUSE)
}

/// Shows overlays that were read to everybody, unless they are as `before` and that
/// is what is shown.
fn show(shown: &watch::Sender<Arc<Library>>, before: &Arc<Library>, read: Library) {
    let is_same = read.digest() == before.digest();
    shown.send_if_modified(|library| {
        let is_new = !is_same || !Arc::ptr_eq(library, before);
        if is_new {
            *library = Arc::new(read);
        }
        is_new
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, net::Ipv4Addr, os::unix::fs::symlink, path::Path};

    use access::Access;
    use api::{
        ids::{Digest, Timestamp},
        image::{Artifact, ImageVersion},
    };
    use database::Database;
    use fleet::{Fleet, FleetConfig};
    use image_catalog::{CatalogConfig, ImageCatalog, ImageLimits, ImageRecord};

    use super::*;
    use crate::{DhcpConfig, DhcpMode, FirmwareFiles, ProvisionerConfig};

    #[test]
    fn rounds_of_all_nodes_leave_time_to_others() {
        let pauses = [1, 100, 400, 10_000]
            .map(|round| pause_after(Duration::from_millis(round)).as_millis());
        assert_eq!(pauses, [150, 300, 1_200, 5_000]);
    }

    /// A version of `debian`, of next to no bytes and without kernels.
    pub(crate) fn image(version: u32) -> ImageRecord {
        let digest = Digest([7; 32]);
        ImageRecord {
            name: "debian".parse().unwrap(),
            version: ImageVersion {
                version,
                source: "a".into(),
                manifest: digest,
                architecture: "amd64".into(),
                variant: None,
                imported: Timestamp(1),
                root: Artifact { format: "squashfs".into(), digest, size: 9 },
                kernels: Vec::new(),
                warnings: Vec::new(),
            },
            substrate: Digest([8; 32]),
            layers: Vec::new(),
        }
    }

    /// The images of a server in this directory, which has a substrate program.
    pub(crate) async fn images_in(
        directory: &Path,
        database: &Database,
        access: &Access,
    ) -> ImageCatalog {
        let config = CatalogConfig {
            state_dir: directory.to_owned(),
            substrate: directory.join("substrate"),
            registries: Arc::default(),
            converter: image_store::Converter::in_this_process(),
            job_images: ImageLimits { days: ImageLimits::DEFAULT_DAYS, bytes: None },
        };
        ImageCatalog::open(database.clone(), config, access.clone()).await.unwrap()
    }

    /// A server without nodes and images, which gives no addresses.
    pub(crate) async fn provisioner_in(directory: &Path) -> Provisioner {
        fs::write(directory.join("substrate"), "not really a program").unwrap();
        let schemas = [&access::SCHEMA, &fleet::SCHEMA, &crate::SCHEMA];
        let database = Database::open(&directory.join("bedplate.db"), &schemas).await.unwrap();
        let addresses = vec![Ipv4Addr::LOCALHOST.into()];
        let config = FleetConfig::new(directory.to_owned(), addresses.clone());
        let hardware = Arc::new(hardware::Hardware::new(database.clone()));
        let fleet = Fleet::open(database.clone(), config, hardware).await.unwrap();
        let access = Access::open(database.clone()).await.unwrap();
        let config = ProvisionerConfig {
            shipped_overlays: directory.join("shipped"),
            site_overlays: directory.join("site"),
            ipxe_templates: Path::new(env!("CARGO_MANIFEST_DIR")).join("../ipxe"),
            server_addresses: addresses,
            announced_addresses: Vec::new(),
            boot_listen: Vec::new(),
            fleet_port: 9481,
            dhcp: DhcpConfig {
                mode: DhcpMode::Off,
                interfaces: Vec::new(),
                subnets: Vec::new(),
                lease_seconds: 600,
            },
            tftp: false,
            firmware: FirmwareFiles::default(),
            substrate: directory.join("substrate"),
            state_dir: directory.to_owned(),
        };
        crate::migrate(&database, &fleet).await.unwrap();
        let images = images_in(directory, &database, &access).await.os_images().clone();
        Provisioner::open(database, config, images, fleet, access).await.unwrap()
    }

    #[tokio::test]
    async fn the_last_refused_requests_are_in_the_audit_log_when_the_server_has_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let provisioner = provisioner_in(directory.path()).await;
        let (node, access) = ("n1".parse().unwrap(), &provisioner.0.access);
        for _ in 0..5 {
            let audit = &provisioner.0.refusals.audit;
            audit.record(access, http_boot::ISSUE_TOKEN, &node, "refused").await;
        }
        let (shell, shutdown) = (
            Shell::new(rest::shell::Limits::of_descriptors(1_024, None)),
            CancellationToken::new(),
        );
        shutdown.cancel();
        provisioner.serve(&shell, shutdown).await.unwrap();
        let lines = access.audit(10).await.unwrap();
        let refused = lines.iter().filter(|line| line.action == http_boot::ISSUE_TOKEN);
        let said: Vec<&str> = refused.map(|line| line.outcome.as_str()).collect();
        assert_eq!(said, ["refused 4 more within a minute: n1 (4)", "refused"]);
    }

    #[test]
    fn overlays_that_are_as_before_are_told_to_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("x/rootfs");
        fs::create_dir_all(&root).unwrap();
        symlink("/nonexistent", directory.path().join("nowhere")).unwrap();
        let (shown, mut seen) = watch::channel(Arc::new(Library::default()));
        let mut is_told = || {
            let before = shown.borrow().clone();
            show(&shown, &before, Library::load(directory.path(), &directory.path().join("none")));
            let is_told = seen.has_changed().unwrap();
            seen.mark_unchanged();
            is_told
        };
        assert!(is_told());
        assert!(!is_told(), "what cannot be read is as it was");
        for (path, text) in [("a", "1"), ("a", "2"), ("a.j2", "1"), ("a.j2", "2"), ("a.j2", "{%")] {
            fs::write(root.join(path), text).unwrap();
            assert_eq!((is_told(), is_told()), (true, false), "{path} {text}");
        }
        fs::remove_file(directory.path().join("nowhere")).unwrap();
        assert_eq!((is_told(), is_told()), (true, false));
    }
}
