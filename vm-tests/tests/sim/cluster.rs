//! A server in this process, on the loopback interface of a namespace of its own, with
//! nodes `n1`, `n2`, …

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use api::{
    ids::{MacAddr, NodeName},
    image::{ImportImage, OperationState},
    machine::Apply,
    status::Phase,
};
use bedplate::config::Checked;
use client::{Client, Context};
use database::Database;
use futures_util::future::try_join_all;
use nix::sched::{CloneFlags, unshare};
use sim_cluster::{
    image::{self, Padding},
    simulated_node::{Agent, SimulatedNode},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The server's address; nodes have further ones of its network.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

const HTTP_PORT: u16 = 9480;

/// Where the registry listens, in the namespace, and the job image that it has.
const REGISTRY: &str = "127.0.0.1:5000";
pub(crate) const IMAGE: &str = "127.0.0.1:5000/tiny:1";

/// What anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(20);

/// Runs a test in a network namespace, on a runtime whose threads are all in it.
pub(crate) fn in_namespace(test: impl Future<Output = anyhow::Result<()>>) {
    unshare(CloneFlags::CLONE_NEWNET)
        .expect("no network namespace can be made: the sim lane needs root, as `make test` does");
    ip(&["link", "set", "lo", "up"]);
    ip(&["address", "add", "10.88.0.1/16", "dev", "lo"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let result = runtime.block_on(test);
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.unwrap_or_else(|error| panic!("{error:#}"));
}

fn ip(arguments: &[&str]) {
    #[expect(clippy::disallowed_methods, reason = "the network is made by a program")]
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}: {status}");
}

/// Name of a node.
pub(crate) fn name(number: u8) -> NodeName {
    format!("n{number}").parse().unwrap()
}

fn mac(number: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0x88, 0, number])
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 1, number)
}

pub(crate) struct Cluster {
    directory: TempDir,
    client: Client,
    server: JoinHandle<()>,
    stop: CancellationToken,
    registry: Option<Registry>,
}

/// Debian's `docker-registry`; ends when dropped.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cluster {
    /// A server with an image and so many nodes that are switched off.
    pub(crate) async fn with_nodes(count: u8) -> anyhow::Result<Self> {
        Self::configured(count, "").await
    }

    /// As [`Self::with_nodes`], with an image that is larger by so much.
    pub(crate) async fn with_padding(count: u8, padding: Padding) -> anyhow::Result<Self> {
        Self::made(count, "", padding).await
    }

    /// As [`Self::with_nodes`], with further lines of the server's configuration.
    pub(crate) async fn configured(count: u8, further: &str) -> anyhow::Result<Self> {
        Self::made(count, further, Padding::default()).await
    }

    async fn made(count: u8, further: &str, padding: Padding) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        write_config(directory.path(), further)?;
        let (client, server, stop) = start(directory.path()).await?;
        let cluster = Self { directory, client, server, stop, registry: None };
        cluster.import(padding).await?;
        let mut document = "profiles:\n  base: {image: tiny}\nnodes:\n".to_owned();
        for number in 1..=count {
            let (mac, address) = (mac(number), address(number));
            writeln!(
                document,
                "  n{number}: {{profiles: [base], interfaces: {{eth0: {{mac: '{mac}', address: {address}/16}}}}}}"
            )?;
        }
        cluster.client.apply(&Apply { document, dry_run: false, prune: false }).await?;
        Ok(cluster)
    }

    async fn import(&self, padding: Padding) -> anyhow::Result<()> {
        let source = image::write_layout(&self.directory.path().join("layout"), padding)?;
        let import = ImportImage {
            source,
            name: Some("tiny".parse()?),
            insecure: false,
            platform: None,
            retry: false,
        };
        let operation = self.client.import(&import).await?;
        let mut events = self.client.watch_operation(operation.id).await?;
        loop {
            let Ok(operation) = events.next().await? else { bail!("the import's events ended") };
            match operation.state {
                OperationState::Running { .. } => {}
                OperationState::Done { result } => {
                    ensure!(result == "tiny@1", "{result}");
                    return Ok(());
                }
                OperationState::Failed { error } => bail!("{error}"),
            }
        }
    }

    /// Starts a registry and pushes the image to it.
    #[expect(clippy::disallowed_methods, reason = "the registry and what fills it are programs")]
    pub(crate) async fn serve_job_image(&mut self) -> anyhow::Result<()> {
        let config = self.directory.path().join("registry.yml");
        let blobs = self.directory.path().join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{REGISTRY}'}}\n",
            blobs.display()
        );
        fs::write(&config, text)?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("docker-registry does not start: run xtask/setup.sh")?;
        self.registry = Some(Registry(child));
        let listening = async {
            while tokio::net::TcpStream::connect(REGISTRY).await.is_err() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, listening).await.context("the registry does not listen")?;
        let layout = format!("oci:{}:1", self.directory.path().join("layout").display());
        let copy = ["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"];
        let pushed = Command::new("skopeo")
            .args(copy)
            .args([layout, format!("docker://{IMAGE}")])
            .status()?;
        ensure!(pushed.success(), "skopeo: {pushed}");
        Ok(())
    }

    /// Where the server is, and the first admin's token.
    pub(crate) fn context(&self) -> anyhow::Result<Context> {
        Ok(Context::read(&self.directory.path().join("state/admin.yaml"))?)
    }

    /// A client with another token.
    pub(crate) fn client_with(&self, token: String) -> anyhow::Result<Client> {
        Ok(Client::new(&Context { token, ..self.context()? })?)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A node's machine at its own address.
    pub(crate) fn node(&self, number: u8) -> SimulatedNode {
        self.machine(number, number)
    }

    /// A machine with the MAC address of one node and the address of another.
    #[expect(clippy::unused_self, reason = "there is no machine without a cluster")]
    pub(crate) fn machine(&self, mac_of: u8, address_of: u8) -> SimulatedNode {
        let server = SocketAddr::from((SERVER, HTTP_PORT));
        SimulatedNode::new(mac(mac_of), address(address_of), server).unwrap()
    }

    /// Boots the nodes from 1 to `count` and waits until they are ready.
    pub(crate) async fn run_all(&self, count: u8) -> anyhow::Result<Vec<Agent>> {
        let booted = try_join_all((1..=count).map(|number| {
            let node = self.node(number);
            async move { node.boot().await }
        }));
        let agents = booted.await?.into_iter().map(|booted| booted.start_agent()).collect();
        for number in 1..=count {
            self.until_phase(number, Phase::Ready).await;
        }
        Ok(agents)
    }

    pub(crate) async fn phase(&self, number: u8) -> Phase {
        self.client.node(&name(number)).await.unwrap().status.phase
    }

    pub(crate) async fn until_phase(&self, number: u8, phase: Phase) {
        let reached = async {
            while self.phase(number).await != phase {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            let is = self.client.node(&name(number)).await.map(|node| node.status);
            panic!("n{number} is not {} after {PATIENCE:?}: {is:?}", phase.as_str());
        }
    }

    pub(crate) async fn until(&self, what: &str, reached: impl Fn() -> bool) {
        let waiting = async {
            while !reached() {
                tokio::time::sleep(POLL).await;
            }
        };
        assert!(
            tokio::time::timeout(PATIENCE, waiting).await.is_ok(),
            "not after {PATIENCE:?}: {what}"
        );
    }

    /// Stops the server and starts another one on its state.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.restart_changed(async |_| Ok(())).await
    }

    /// Stops the server, and starts another one when `change` has been done to its database.
    pub(crate) async fn restart_changed(
        &mut self,
        change: impl AsyncFnOnce(&Database) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.stop.cancel();
        (&mut self.server).await?;
        let database =
            Database::open(&self.directory.path().join("state/bedplate.db"), &[]).await?;
        change(&database).await?;
        database.close().await;
        (self.client, self.server, self.stop) = start(self.directory.path()).await?;
        Ok(())
    }
}

fn write_config(directory: &Path, further: &str) -> anyhow::Result<()> {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let substrate = directory.join("substrate");
    fs::write(&substrate, "no machine starts it")?;
    let (source, substrate, directory_shown) =
        (source.display(), substrate.display(), directory.display());
    let text = format!(
        "state-dir: {directory_shown}/state\n\
         server-addresses: [{SERVER}]\n\
         fleet: {{heartbeat-seconds: 1}}\n\
         boot: {{http-port: {HTTP_PORT}, tftp: false, substrate: {substrate}, templates: {source}/ipxe}}\n\
         dhcp: {{mode: off}}\n\
         overlays: {{shipped: {source}/overlays, site: {directory_shown}/overlays}}\n\
         registries: {{allow: ['{REGISTRY}']}}\n{further}"
    );
    Ok(fs::write(directory.join("server.yaml"), text)?)
}

async fn start(directory: &Path) -> anyhow::Result<(Client, JoinHandle<()>, CancellationToken)> {
    let config = Checked::load(Some(directory.join("server.yaml")))?;
    let stop = CancellationToken::new();
    let converter = image_store::Converter::in_this_process();
    let running = bedplate::server::run(config, converter, stop.clone());
    let server = tokio::spawn(async move {
        if let Err(error) = running.await {
            panic!("the server ended: {:#}", anyhow::Error::new(error));
        }
    });
    let path = directory.join("state/admin.yaml");
    let reachable = async {
        loop {
            if let Ok(context) = Context::read(&path)
                && let Ok(client) = Client::new(&context)
                && client.version().await.is_ok()
            {
                return client;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let client =
        tokio::time::timeout(PATIENCE, reachable).await.context("the server does not answer")?;
    Ok((client, server, stop))
}
