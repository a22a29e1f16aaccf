//! Running the provisioner: the boot servers, the watch on overlay folders, and the generations that fleet is told.

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use api::{ids::NodeName, overlay::Generation};
use notify::{RecursiveMode, Watcher as _};
use rest::causes;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    boot_log::MAX_WAITING_EVENTS,
    dhcp::{self, DhcpError},
    http_boot,
    overlay::library::{Library, LibraryError},
    provisioner::Provisioner,
    tftp::{self, TftpError},
};

/// Edits that come within this time are rendered once: an editor writes a file in several steps.
const SETTLE: Duration = Duration::from_millis(150);

/// Nodes named in one line of the log where overlays cannot be rendered.
const MAX_NAMED: usize = 5;

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
    /// HTTP boot ended.
    #[error("HTTP boot cannot be served any more")]
    Http(#[source] io::Error),
    /// Overlay folders cannot be watched.
    #[error("the overlay folders cannot be watched")]
    Watch(#[source] notify::Error),
    /// A part of the server broke.
    #[error("a part of the provisioner ended badly")]
    Broken(#[source] JoinError),
}

impl Provisioner {
    /// Serves until `shutdown`, or until a part fails. Ports are bound before anything is answered. Imports that were
    /// cut off go on.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn serve(&self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let config = &self.0.config;
        let dhcp = dhcp::Server::bind(&config.dhcp, self.0.dhcp.clone())?;
        let tftp = tftp::Server::bind(&self.tftp_addresses(), self.0.firmware.clone())?;
        let mut listeners = Vec::new();
        for &address in &config.boot_listen {
            let bound = TcpListener::bind(address).await;
            listeners.push(bound.map_err(|source| ServeError::Bind { address, source })?);
        }
        self.0.images.resume();

        let stop = shutdown.child_token();
        let (events, received) = mpsc::channel(MAX_WAITING_EVENTS);
        let mut tasks: JoinSet<Result<(), ServeError>> = JoinSet::new();
        let (hosts, dhcp_events, dhcp_stop) = (self.0.hosts.subscribe(), events.clone(), stop.clone());
        tasks.spawn(async move { Ok(dhcp.serve(hosts, dhcp_events, dhcp_stop).await?) });
        let tftp_stop = stop.clone();
        tasks.spawn(async move { Ok(tftp.serve(events, tftp_stop).await?) });
        for listener in listeners {
            let serving = http_boot::serve(self.clone(), listener, stop.clone());
            tasks.spawn(async move { serving.await.map_err(ServeError::Http) });
        }
        tasks.spawn(self.clone().watch_overlays(stop.clone()));
        tasks.spawn(self.clone().keep_generations(stop.clone()));
        let observing = tokio::spawn(self.clone().observe_boots(received));

        let mut outcome = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.map_err(ServeError::Broken).flatten();
            stop.cancel();
            if outcome.is_ok() {
                outcome = ended;
            }
        }
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

    /// Reads the overlay folders again and shows the new overlays to everybody.
    ///
    /// # Errors
    /// As [`Library::load`]; the old overlays stay.
    pub(crate) async fn reload_overlays(&self) -> Result<(), LibraryError> {
        let (shipped, site) = (self.0.config.shipped_overlays.clone(), self.0.config.site_overlays.clone());
        let loading = tokio::task::spawn_blocking(move || Library::load(&shipped, &site));
        match loading.await {
            Ok(library) => {
                self.0.library.send_replace(Arc::new(library?));
            }
            Err(error) => tracing::error!("the reading of overlays ended badly: {error}"),
        }
        Ok(())
    }

    /// Follows edits in the overlay folders.
    async fn watch_overlays(self, stop: CancellationToken) -> Result<(), ServeError> {
        let (changed, mut changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
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
        for folder in [&config.shipped_overlays, &config.site_overlays] {
            if let Err(error) = watcher.watch(folder, RecursiveMode::Recursive) {
                tracing::warn!("edits in {} are not noticed before a restart: {error}", folder.display());
            }
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = changes.recv() => {}
            }
            tokio::time::sleep(SETTLE).await;
            while changes.try_recv().is_ok() {}
            if let Err(error) = self.reload_overlays().await {
                tracing::error!("overlays stay as they were: {}", causes(&error));
            }
        }
    }

    /// Tells fleet which runtime overlays each node should have, again whenever something that they depend on changes.
    async fn keep_generations(self, stop: CancellationToken) -> Result<(), ServeError> {
        let mut cluster = self.0.cluster.subscribe();
        let mut library = self.0.library.subscribe();
        let mut images = self.0.images.watch();
        loop {
            // What changes from here on is seen by the next round.
            cluster.mark_unchanged();
            library.mark_unchanged();
            images.mark_unchanged();
            let provisioner = self.clone();
            tokio::task::spawn_blocking(move || provisioner.tell_generations())
                .await
                .map_err(ServeError::Broken)?;
            // The senders live as long as `self`.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = cluster.changed() => {}
                _ = library.changed() => {}
                _ = images.changed() => {}
            }
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Renders the runtime overlays of every node. Blocking.
    fn tell_generations(&self) {
        let view = self.view();
        let mut failed: Vec<(&NodeName, String)> = Vec::new();
        for (name, record) in &view.cluster.nodes {
            match self.generation(name) {
                Ok(generation) => self.tell_generation(record.id, generation),
                Err(error) => failed.push((name, causes(&error))),
            }
        }
        if let Some((_, first)) = failed.first() {
            let names: Vec<&str> = failed.iter().take(MAX_NAMED).map(|(name, _)| name.as_str()).collect();
            let more = failed.len().saturating_sub(MAX_NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            tracing::error!("runtime overlays of {}{more} stay as they are: {first}", names.join(", "));
        }
    }

    fn tell_generation(&self, id: api::ids::NodeId, generation: Generation) {
        let before = self.generations().insert(id, generation);
        if before != Some(generation) {
            self.0.fleet.set_runtime_overlays(id, generation);
        }
    }
}
