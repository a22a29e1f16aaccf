//! Clients that behave: one of each kind that the server has.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use api::machine::PatchNodes;
use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::json;

use crate::{
    chance, network,
    pxe::{
        dhcp::{DhcpClientKind, Firmware},
        exchange::Exchange,
        tftp::{self, FileRequest},
    },
    site::{self, Site},
};

/// The machines that they are.
const BOOTING: u32 = 1;
const RUNNING: u32 = 2;
const IN_FIRMWARE: u32 = 3;
const CHANGED: u32 = 4;

/// Block size of Intel's firmware.
const BLOCK_BYTES: u16 = 1_456;

type Request = Box<dyn FnMut() -> BoxFuture<'static, anyhow::Result<()>> + Send>;

/// A client, and the request that it makes again and again.
pub(super) struct Bystander {
    pub(super) name: &'static str,
    request: Request,
}

impl fmt::Debug for Bystander {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bystander").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Bystander {
    fn new<F>(name: &'static str, mut request: impl FnMut() -> F + Send + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self { name, request: Box::new(move || request().boxed()) }
    }

    /// Makes the request once.
    ///
    /// # Errors
    /// The server's refusal.
    pub(super) async fn ask(&mut self) -> anyhow::Result<()> {
        (self.request)().await
    }
}

/// All of them, each of which has had an answer.
///
/// # Errors
/// If one is refused while nobody attacks.
pub(super) async fn prepare(
    site: &Site,
    exchange: &Arc<Exchange>,
    seed: u64,
) -> anyhow::Result<Vec<Bystander>> {
    let machine = site.machine(BOOTING)?;
    let boot = Bystander::new("boot script", move || {
        let machine = machine.clone();
        async move { machine.script().await.map(drop) }
    });
    let client = site.client.clone();
    let list = Bystander::new("REST, list", move || {
        let client = client.clone();
        async move { client.nodes(None).await.map(drop).map_err(anyhow::Error::from) }
    });
    let (client, names, count) =
        (site.client.clone(), site::name(CHANGED)?.to_string(), AtomicU64::new(0));
    let change = Bystander::new("REST, change", move || {
        let comment = format!("change {}", count.fetch_add(1, Ordering::Relaxed));
        let patch = PatchNodes { names: names.clone(), patch: json!({ "comment": comment }) };
        let client = client.clone();
        async move { client.patch_nodes(&patch).await.map(drop).map_err(anyhow::Error::from) }
    });
    let running = site.machine(RUNNING)?;
    let identity = running.enrol(&running.stage1().await?).await.context("a node that runs")?;
    let running = Arc::new(running.arrive(identity)?);
    let overlays = Bystander::new("node, boot overlays", move || {
        let running = running.clone();
        async move { running.fetch_overlays().await.map(drop) }
    });
    let mut all = vec![boot, list, change, overlays];
    all.extend(firmware(site, exchange, seed).await?);
    for bystander in &mut all {
        bystander
            .ask()
            .await
            .with_context(|| format!("nobody attacks, and yet: {}", bystander.name))?;
    }
    Ok(all)
}

/// DHCP, and TFTP of what that names.
async fn firmware(
    site: &Site,
    exchange: &Arc<Exchange>,
    seed: u64,
) -> anyhow::Result<[Bystander; 2]> {
    let machine = site.machine(IN_FIRMWARE)?;
    let speaker = DhcpClientKind {
        mac: machine.mac(),
        firmware: Firmware::Bios,
        ipxe: false,
        broadcast: true,
    };
    let mut dice = chance(seed, IN_FIRMWARE);
    let lease = exchange.lease(&speaker, &mut dice).await.context("DHCP")?;
    let exchange = exchange.clone();
    let leases = Bystander::new("DHCP, four packets", move || {
        let (exchange, mut dice) = (exchange.clone(), dice.fork());
        async move { exchange.lease(&speaker, &mut dice).await.map(drop) }
    });
    let repeats = Arc::new(AtomicU64::new(0));
    let (own, server) = (network::address(IN_FIRMWARE), lease.next_server);
    let downloads = Bystander::new("TFTP, boot file", move || {
        let (file, repeats) = (lease.file.clone(), repeats.clone());
        let wish =
            FileRequest { file, block_bytes: BLOCK_BYTES, window_blocks: 4, only_size: false };
        async move { tftp::fetch(own, server, wish, &repeats).await.map(drop) }
    });
    Ok([leases, downloads])
}
