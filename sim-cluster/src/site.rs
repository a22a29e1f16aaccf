//! Everything that nodes need around them: networks, server, an image, and the nodes registered.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use api::{
    ids::{MacAddr, NodeName},
    image::{ImportImage, OperationState},
    machine::{Apply, Node},
    status::Phase,
};
use client::Client;
use harness::workspace;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{sleep, timeout};

use crate::{
    image::{self, Padding},
    network::{self, MAX_NODES, Network, PREFIX},
    power::Power,
    server::Server,
    simulated_node::SimulatedNode,
};

/// How long an import may take.
const IMPORT_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks at all nodes.
const POLL: Duration = Duration::from_millis(250);

/// What is simulated, and where it leaves its traces.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Directory below `target/sim`; cleared first, kept afterwards.
    pub(crate) name: &'static str,
    pub(crate) nodes: u32,
    pub(crate) heartbeat: Duration,
    /// Bytes that kernel, initramfs and root image have beside what is always in them.
    pub(crate) padding: usize,
    /// Whether the server's writes are watched, so that a cut of the power can take them back.
    pub(crate) watched: bool,
}

/// What is there. Fields are dropped in this order.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) directory: PathBuf,
    pub(crate) network: Network,
    nodes: u32,
    _lock: File,
}

impl Site {
    /// Runs a simulation in namespaces of its own, on a runtime whose threads are all in that of
    /// the nodes. The thread that calls this must be the only one.
    ///
    /// # Errors
    /// Those of the simulation; or what could not be made for it.
    pub(crate) fn simulate<F>(plan: &Plan, simulation: impl FnOnce(Self) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        ensure!((1..=MAX_NODES).contains(&plan.nodes), "there can be 1 to {MAX_NODES} nodes");
        let (directory, lock) = clear(plan.name)?;
        allow_many_files()?;
        let network = Network::enter()?;
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        let result = runtime.block_on(async {
            let power = if plan.watched { Some(Power::watch(&directory)?) } else { None };
            let (server, client) =
                Server::start(&network, &directory, plan.heartbeat, power).await?;
            let site = Self { server, client, directory, network, nodes: plan.nodes, _lock: lock };
            site.import(plan.padding).await.context("importing the image")?;
            site.register().await.context("registering the nodes")?;
            simulation(site).await
        });
        runtime.shutdown_background();
        result
    }

    /// A node's machine, counted from 1.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub(crate) fn machine(&self, number: u32) -> anyhow::Result<SimulatedNode> {
        SimulatedNode::new(mac(number), network::address(number), Server::boot_address())
    }

    /// Waits until the server takes all nodes for ready.
    ///
    /// # Errors
    /// The nodes that are not, by phase, with one of each.
    pub(crate) async fn until_ready(&self, limit: Duration) -> anyhow::Result<Vec<Node>> {
        let mut last = Vec::new();
        let all_ready = async {
            loop {
                // The server may be away for a moment.
                if let Ok(nodes) = self.client.nodes(None).await {
                    last = nodes;
                    if last.iter().all(|node| node.status.phase == Phase::Ready) {
                        return;
                    }
                }
                sleep(POLL).await;
            }
        };
        if timeout(limit, all_ready).await.is_ok() {
            return Ok(last);
        }
        bail!("not ready after {} s: {}", limit.as_secs(), unready(&last))
    }

    async fn import(&self, padding: usize) -> anyhow::Result<()> {
        let padding = Padding { kernel_bytes: padding, root_bytes: padding };
        let source = image::write_layout(&self.layout(), padding)?;
        let import = ImportImage {
            source,
            name: Some("tiny".parse()?),
            insecure: false,
            platform: None,
            retry: false,
        };
        let operation = self.client.import(&import).await?;
        let over = async {
            loop {
                match self.client.operation(operation.id).await?.state {
                    OperationState::Running { .. } => sleep(POLL).await,
                    OperationState::Done { .. } => return Ok(()),
                    OperationState::Failed { error } => bail!("{error}"),
                }
            }
        };
        timeout(IMPORT_LIMIT, over).await.context("it takes too long")?
    }

    /// The image's layout.
    pub(crate) fn layout(&self) -> PathBuf {
        self.directory.join("layout")
    }

    async fn register(&self) -> anyhow::Result<()> {
        let mut document = "profiles:\n  base: {image: tiny}\nnodes:\n".to_owned();
        for number in 1..=self.nodes {
            let (name, mac, address) = (name(number)?, mac(number), network::address(number));
            writeln!(
                document,
                "  {name}: {{profiles: [base], interfaces: {{eth0: {{mac: '{mac}', address: {address}/{PREFIX}}}}}}}"
            )?;
        }
        self.client.apply(&Apply { document, dry_run: false, prune: false }).await?;
        Ok(())
    }
}

/// Name of a node.
///
/// # Errors
/// Never for a number that a node can have.
pub(crate) fn name(number: u32) -> anyhow::Result<NodeName> {
    Ok(format!("n{number:05}").parse()?)
}

fn mac(number: u32) -> MacAddr {
    let [_, a, b, c] = number.to_be_bytes();
    MacAddr([0x52, 0x54, 1, a, b, c])
}

/// Nodes that are not ready: how many in which phase, and the first of each.
fn unready(nodes: &[Node]) -> String {
    let mut phases: Vec<(Phase, usize, String)> = Vec::new();
    for node in nodes.iter().filter(|node| node.status.phase != Phase::Ready) {
        match phases.iter_mut().find(|(phase, ..)| *phase == node.status.phase) {
            Some((_, count, _)) => *count += 1,
            None => {
                let reason = node.status.reason.clone().unwrap_or_default();
                phases.push((node.status.phase, 1, format!("{} {reason}", node.name)));
            }
        }
    }
    let told = |(phase, count, first): &(Phase, usize, String)| {
        format!("{count} {} (such as {})", phase.as_str(), first.trim_end())
    };
    phases.iter().map(told).collect::<Vec<_>>().join(", ")
}

/// The directory of a simulation without what the last one left, for this process alone. What the
/// server hands out as its agent is in it: no machine starts it.
fn clear(name: &str) -> anyhow::Result<(PathBuf, File)> {
    let root = workspace::root()?.join("target/sim");
    let lock = workspace::lock(&root, &format!("{name}.lock"))?;
    let directory = root.join(name);
    workspace::remove(&directory)?;
    workspace::make(&directory)?;
    let substrate = directory.join("substrate");
    fs::write(&substrate, "no machine starts it")
        .with_context(|| format!("cannot write {}", substrate.display()))?;
    Ok((directory, lock))
}

/// Each node has two connections at each end.
fn allow_many_files() -> anyhow::Result<()> {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })
        .context("cannot raise the limit of open files")
}
