//! Our side: the optimised `bedplate server` with a state of its own, and the two
//! ways to talk to it.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use api::{
    image::{ImportImage, Operation, OperationState},
    machine::Apply,
};
use client::{Client, ClientError, Context};

use crate::{
    checkout_paths::CheckoutPaths,
    network::{PREFIX, SERVER, SERVER_INTERFACE},
    process::{self, Service},
};

/// How long the server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The boot port.
pub(crate) const HTTP_PORT: u16 = 9480;

/// The nodes' port.
pub(crate) const FLEET_PORT: u16 = 9443;

/// What benchmarks want different.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Serve DHCP with a pool of this first and last address.
    pub(crate) dhcp_pool: Option<String>,
    /// Boot files that TFTP serves; without them, TFTP is off.
    pub(crate) firmware: Vec<(&'static str, PathBuf)>,
}

/// The server; ended when dropped.
#[derive(Debug)]
pub(crate) struct BedplateServer {
    directory: PathBuf,
    program: PathBuf,
    service: Service,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl BedplateServer {
    /// Starts it with all that it has in `directory`, which may be that of an earlier one, and
    /// waits until it answers on all its TCP ports.
    ///
    /// # Errors
    /// If it does not answer in time; the last lines of its log are in the message.
    pub(crate) fn start(
        checkout_paths: &CheckoutPaths,
        directory: &Path,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let config = directory.join("server.yaml");
        fs::write(&config, configuration(checkout_paths, directory, settings))
            .with_context(|| format!("cannot write {}", config.display()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime of the client")?;
        let program = checkout_paths.bedplate();
        let arguments = ["server".as_ref(), "--config".as_ref(), config.as_os_str()];
        let mut service =
            Service::start("bedplate server", &program, &arguments, &directory.join("server.log"))?;
        let context = directory.join("state/admin.yaml");
        let mut client = None;
        service.until("answer", START_LIMIT, || {
            client = Context::read(&context).and_then(|context| Client::new(&context)).ok();
            client.as_ref().is_some_and(|client| runtime.block_on(client.version()).is_ok())
                && [HTTP_PORT, FLEET_PORT]
                    .iter()
                    .all(|&port| TcpStream::connect((SERVER, port)).is_ok())
        })?;
        let client = client.context("the server answers and has no client")?;
        Ok(Self { directory: directory.to_owned(), program, service, client, runtime })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.service.id()
    }

    /// Waits for what the typed client is asked.
    ///
    /// # Errors
    /// Those of the request.
    pub(crate) fn ask<T, F>(&self, request: impl FnOnce(Client) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        Ok(self.runtime.block_on(request(self.client.clone()))?)
    }

    /// What the command line prints; it must succeed.
    ///
    /// # Errors
    /// If it ends with another status than 0; what it printed is in the message.
    pub(crate) fn cli(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let context = self.context_file().display().to_string();
        process::run(&self.program, &[&["--context", context.as_str()], arguments].concat())
    }

    /// Makes nodes and profiles be as a document says.
    ///
    /// # Errors
    /// The server's refusal.
    pub(crate) fn apply(&self, document: String) -> anyhow::Result<()> {
        let apply = Apply { document, dry_run: false, prune: false };
        self.ask(async |client| client.apply(&apply).await).map(drop)
    }

    /// Imports an image and returns the version's name.
    ///
    /// # Errors
    /// As the server says.
    pub(crate) fn import(&self, source: &str, name: &str) -> anyhow::Result<String> {
        let import = ImportImage {
            source: source.to_owned(),
            name: Some(name.parse()?),
            insecure: false,
            platform: None,
            retry: false,
        };
        self.runtime.block_on(async {
            let operation = self.client.import(&import).await?;
            let mut events = self.client.watch_operation(operation.id).await?;
            while let Ok(Operation { state, .. }) = events.next().await? {
                match state {
                    OperationState::Running { .. } => {}
                    OperationState::Done { result } => return Ok(result),
                    OperationState::Failed { error } => bail!("{error}"),
                }
            }
            bail!("the events of the import of {source} ended before it did")
        })
    }

    /// Where the store has the blob of a digest.
    pub(crate) fn blob(&self, digest: &api::ids::Digest) -> PathBuf {
        let hex = digest.hex();
        self.directory.join("state/images/blobs/sha256").join(&hex[..2]).join(&hex)
    }

    /// The file with the admin's token and the CA.
    pub(crate) fn context_file(&self) -> PathBuf {
        self.directory.join("state/admin.yaml")
    }
}

fn configuration(checkout_paths: &CheckoutPaths, directory: &Path, settings: &Settings) -> String {
    let path = |path: &str| checkout_paths.in_workspace(path).display().to_string();
    let dhcp = match &settings.dhcp_pool {
        Some(pool) => {
            format!(
                "  mode: authoritative\n  subnets: [{{ network: 10.64.0.0/{PREFIX}, pool: {pool}, gateway: {SERVER} }}]\n"
            )
        }
        None => "  mode: \"off\"\n".to_owned(),
    };
    let firmware: String = settings
        .firmware
        .iter()
        .map(|(class, path)| format!("  {class}: {}\n", path.display()))
        .collect();
    let firmware = if firmware.is_empty() { firmware } else { format!("firmware:\n{firmware}") };
    format!(
        "state-dir: {state}
interfaces: [{SERVER_INTERFACE}]
server-addresses: [{SERVER}]
api:
  listen: {SERVER}:9470
fleet:
  port: {FLEET_PORT}
boot:
  http-port: {HTTP_PORT}
  tftp: {tftp}
  substrate: {substrate}
  templates: {templates}
{firmware}dhcp:
{dhcp}overlays:
  shipped: {shipped}
  site: {site}
log:
  level: warn
",
        state = directory.join("state").display(),
        tftp = !settings.firmware.is_empty(),
        substrate = path("target/substrate"),
        templates = path("ipxe"),
        shipped = path("overlays"),
        site = directory.join("site").display(),
    )
}
