//! The real server in the namespace, and the two ways to talk to it: the typed client and
//! the command line.

use std::{fs, path::PathBuf, process::Output, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use client::{Client, ClientError, Context};

use crate::{
    checkout_paths::CheckoutPaths,
    clock, console,
    namespace::{BRIDGE, SERVER},
    process::{self, Service},
    registry,
};

/// How long the server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    checkout_paths: CheckoutPaths,
    config: PathBuf,
    service: Service,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    /// Writes the configuration, starts the server and waits until it answers.
    ///
    /// # Errors
    /// If it does not answer in time; the last lines of its log are in the message.
    pub(crate) fn start(checkout_paths: &CheckoutPaths) -> anyhow::Result<Self> {
        // A copy: a check puts another program in its place.
        let (built, substrate) =
            (checkout_paths.in_workspace("target/substrate"), checkout_paths.substrate());
        fs::copy(&built, &substrate).with_context(|| format!("cannot copy {}", built.display()))?;
        let config = checkout_paths.of_run("server.yaml");
        fs::write(&config, configuration(checkout_paths))
            .with_context(|| format!("cannot write {}", config.display()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the runtime of the client")?;
        let mut service = launch(checkout_paths, &config)?;
        let context = checkout_paths.of_run("state/admin.yaml");
        clock::wait_for("the server to write admin.yaml", START_LIMIT, || {
            service.check_alive()?;
            Ok(context.exists().then_some(()))
        })
        .map_err(|error| with_log(&error, checkout_paths))?;
        let client = Client::new(&Context::read(&context)?)?;
        let mut server =
            Self { checkout_paths: checkout_paths.clone(), config, service, client, runtime };
        server.wait_until_up()?;
        Ok(server)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.service.check_alive()?;
        self.service.kill()
    }

    /// Starts it again on the same state.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        self.service = launch(&self.checkout_paths, &self.config)?;
        self.wait_until_up()
    }

    /// Waits for what the typed client is asked.
    ///
    /// # Errors
    /// Those of the request.
    pub(crate) fn ask<T, F>(&self, request: impl FnOnce(Client) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        self.runtime.block_on(request(self.client.clone()))
    }

    /// Runs the command line as a person would; it must succeed.
    ///
    /// # Errors
    /// If it ends with another status than 0; what it printed is in the message.
    pub(crate) fn cli(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.try_cli(arguments)?;
        if !output.status.success() {
            bail!(
                "bedplate {}: {}\n{}",
                arguments.join(" "),
                output.status,
                process::words(&output)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the command line, whatever comes of it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn try_cli(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let words = self.command_line(arguments);
        process::output(&words[0], &words[1..], b"")
    }

    /// The words of a command line, with the program as the first.
    pub(crate) fn command_line(&self, arguments: &[&str]) -> Vec<String> {
        let context = self.checkout_paths.of_run("state/admin.yaml").display().to_string();
        let program = self.checkout_paths.bedplate().display().to_string();
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        [program, "--context".to_owned(), context].into_iter().chain(arguments).collect()
    }

    /// Lines of the server's log that contain all of `words`.
    pub(crate) fn log_lines(&self, words: &[&str]) -> Vec<String> {
        let text = console::plain(&fs::read(self.checkout_paths.server_log()).unwrap_or_default());
        let fits = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().filter(fits).map(str::to_owned).collect()
    }

    fn wait_until_up(&mut self) -> anyhow::Result<()> {
        let (checkout_paths, service) = (&self.checkout_paths, &mut self.service);
        let (runtime, client) = (&self.runtime, &self.client);
        clock::wait_for("the server to answer", START_LIMIT, || {
            service.check_alive()?;
            match runtime.block_on(client.version()) {
                Ok(_) => Ok(Some(())),
                Err(ClientError::Unreachable { .. }) => Ok(None),
                Err(other) => Err(other.into()),
            }
        })
        .map_err(|error| with_log(&error, checkout_paths))
    }
}

fn launch(checkout_paths: &CheckoutPaths, config: &std::path::Path) -> anyhow::Result<Service> {
    let arguments = ["server".to_owned(), "--config".to_owned(), config.display().to_string()];
    Service::start(
        checkout_paths,
        "server",
        &checkout_paths.bedplate(),
        &arguments,
        &checkout_paths.server_log(),
    )
}

fn with_log(error: &anyhow::Error, checkout_paths: &CheckoutPaths) -> anyhow::Error {
    anyhow!("{error:#}; {}", log_tail(checkout_paths))
}

/// The last lines of the server's log, for messages.
pub(crate) fn log_tail(checkout_paths: &CheckoutPaths) -> String {
    let log = checkout_paths.server_log();
    format!("the last lines of {}:\n{}", log.display(), console::last_lines(&log, 20))
}

fn configuration(checkout_paths: &CheckoutPaths) -> String {
    let path = |path: &str| checkout_paths.in_workspace(path).display().to_string();
    format!(
        "state-dir: {state}
interfaces: [{BRIDGE}]
server-addresses: [{SERVER}]
api:
  listen: 127.0.0.1:9470
boot:
  substrate: {substrate}
  templates: {templates}
dhcp:
  mode: authoritative
  subnets:
    - network: 10.77.0.0/24
      pool: 10.77.0.100-10.77.0.199
overlays:
  shipped: {shipped}
  site: {site}
registries:
  allow: ['{registry}']
log:
  level: info
",
        state = checkout_paths.of_run("state").display(),
        substrate = checkout_paths.substrate().display(),
        templates = path("ipxe"),
        shipped = path("overlays"),
        site = checkout_paths.of_run("overlays").display(),
        registry = registry::ADDRESS,
    )
}
