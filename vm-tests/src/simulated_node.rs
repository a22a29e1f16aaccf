//! A node without a machine: it speaks the real protocols from the boot script to the agent's channel, so that hundreds
//! fit into one process. Used by `tests/sim.rs`.
//!
//! What it fetches it verifies; what a machine would do with it (mount, apply, reboot) it only counts. All its
//! connections come from its own address, which must be one that this machine can bind.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use api::{
    enroll::{AgentIdentity, Enroll, Enrolled, Report},
    ids::{Digest, MacAddr},
    stage1::{self, Stage1},
    status::Phase,
};
use reqwest::Client;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use substrate::{identity::NodeKey, tls};

mod agent;
mod initrd;
mod runs;

pub use agent::{Agent, AgentState};

/// A machine that is switched off.
#[derive(Debug, Clone)]
pub struct SimulatedNode {
    mac: MacAddr,
    address: Ipv4Addr,
    boot_server: SocketAddr,
    http: Client,
}

/// A node after stage 1: the image's init would start now.
#[derive(Debug)]
pub struct Booted {
    /// What stage 1 leaves for the agent.
    pub identity: AgentIdentity,
    /// Path and SHA-256 of each file of the boot overlays.
    pub boot_overlays: BTreeMap<String, Digest>,
    address: Ipv4Addr,
}

impl SimulatedNode {
    /// A machine with this hardware address that the network gives this address.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(mac: MacAddr, address: Ipv4Addr, boot_server: SocketAddr) -> anyhow::Result<Self> {
        let http = Client::builder().no_proxy().local_address(IpAddr::V4(address)).build()?;
        Ok(Self { mac, address, boot_server, http })
    }

    /// The boot script, as iPXE fetches it.
    ///
    /// # Errors
    /// The server's refusal, in its words.
    pub async fn script(&self) -> anyhow::Result<String> {
        let bytes = self.fetch(&format!("/boot/{}/script", self.mac.hyphenated())).await?;
        Ok(String::from_utf8(bytes)?)
    }

    /// The document in the per-node initrd.
    ///
    /// # Errors
    /// The server's refusal, or an archive that the kernel would not unpack.
    pub async fn stage1(&self) -> anyhow::Result<Stage1> {
        let archive = self.fetch(&format!("/boot/{}/node.img", self.mac.hyphenated())).await?;
        ensure!(archive.len() % 4 == 0, "the initrd has {} bytes, which is no multiple of 4", archive.len());
        let document = initrd::file(&archive, stage1::PATH.trim_start_matches('/'))?;
        serde_json::from_slice(document).context("cannot read the stage-1 document")
    }

    /// Trades the token for a certificate.
    ///
    /// # Errors
    /// The server's refusal, in its words.
    pub async fn enrol(&self, stage1: &Stage1) -> anyhow::Result<AgentIdentity> {
        let key = NodeKey::generate()?;
        let token = stage1.token.clone().context("the document has no token")?;
        let request = Enroll { id: stage1.id, token, csr: key.signing_request()? };
        let fleet = FleetPort::new(&stage1.fleet_servers, self.address, tls::pinned(stage1.ca_fingerprint)?)?;
        let enrolled: Enrolled = fleet.post("/node/v1/enroll", &request).await?;
        Ok(AgentIdentity {
            node: enrolled.node,
            id: stage1.id,
            fleet_servers: stage1.fleet_servers.clone(),
            ca: enrolled.ca,
            certificate: enrolled.certificate,
            key: key.to_pem(),
            not_after: enrolled.not_after,
            image: stage1.root.version.clone(),
        })
    }

    /// From power-on to the moment in which the image's init would start.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn boot(&self) -> anyhow::Result<Booted> {
        let script = self.script().await?;
        for (url, digest) in blobs(&script) {
            let response = self.http.get(url).send().await?.error_for_status()?;
            verify(&response.bytes().await?, digest)?;
        }
        let stage1 = self.stage1().await?;
        let identity = self.enrol(&stage1).await?;
        let fleet = FleetPort::new(&identity.fleet_servers, self.address, tls::authenticated(&identity)?)?;
        let version = &stage1.root.version;
        fleet.report(Phase::Stage1, None, "enrolled").await?;
        fleet.report(Phase::Fetching, Some(0), &format!("fetching {version}")).await?;
        let root = self.fetch(&format!("/blobs/sha256/{}", stage1.root.digest.hex())).await?;
        verify(&root, stage1.root.digest)?;
        fleet.report(Phase::Fetching, Some(100), &format!("fetched {version}")).await?;
        let boot_overlays = files(&fleet.get("/node/v1/overlays/boot").await?)?;
        fleet.report(Phase::Switching, None, "starting /sbin/init").await?;
        Ok(Booted { identity, boot_overlays, address: self.address })
    }

    async fn fetch(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        body(self.http.get(format!("http://{}{path}", self.boot_server)).send().await?).await
    }
}

impl Booted {
    /// Starts the agent. It runs until it is told to reboot, is refused, or [`Agent::power_off`].
    #[must_use]
    pub fn start_agent(self) -> Agent {
        Agent::start(self.identity, self.address)
    }
}

/// The fleet port, spoken to from one address.
#[derive(Debug, Clone)]
struct FleetPort {
    server: SocketAddr,
    client: Client,
}

impl FleetPort {
    fn new(servers: &[SocketAddr], from: Ipv4Addr, tls: rustls::ClientConfig) -> anyhow::Result<Self> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .local_address(IpAddr::V4(from))
            .build()?;
        Ok(Self { server: *servers.first().context("no fleet server is named")?, client })
    }

    async fn post<A: DeserializeOwned>(&self, route: &str, message: &impl Serialize) -> anyhow::Result<A> {
        let sent = self.client.post(self.url(route)).json(message).send().await?;
        Ok(serde_json::from_slice(&body(sent).await?)?)
    }

    async fn get(&self, route: &str) -> anyhow::Result<Vec<u8>> {
        body(self.client.get(self.url(route)).send().await?).await
    }

    async fn report(&self, phase: Phase, percent: Option<u8>, message: &str) -> anyhow::Result<()> {
        let report = Report { phase, percent, message: message.to_owned() };
        body(self.client.post(self.url("/node/v1/report")).json(&report).send().await?).await.map(drop)
    }

    fn url(&self, route: &str) -> String {
        format!("https://{}{route}", self.server)
    }
}

/// The body of an answer, or the refusal with its status and words.
async fn body(response: reqwest::Response) -> anyhow::Result<Vec<u8>> {
    let (status, url) = (response.status(), response.url().clone());
    let bytes = response.bytes().await?;
    if !status.is_success() {
        bail!("{}: {status}: {}", url.path(), String::from_utf8_lossy(&bytes).trim());
    }
    Ok(bytes.to_vec())
}

/// Kernel and initramfs of a script: the URLs that name a blob.
fn blobs(script: &str) -> Vec<(&str, Digest)> {
    let blob = |word: &'_ str| {
        let (_, hex) = word.split_once("/blobs/sha256/")?;
        format!("sha256:{hex}").parse().ok()
    };
    script.split_whitespace().filter_map(|word| Some((word, blob(word)?))).collect()
}

fn verify(bytes: &[u8], digest: Digest) -> anyhow::Result<()> {
    let got = Digest(Sha256::digest(bytes).into());
    ensure!(got == digest, "{digest} was asked for and {got} came");
    Ok(())
}

/// Path and digest of the regular files of an overlay archive.
fn files(archive: &[u8]) -> anyhow::Result<BTreeMap<String, Digest>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            let mut hash = Sha256::new();
            std::io::copy(&mut entry, &mut hash)?;
            files.insert(format!("/{}", entry.path()?.display()), Digest(hash.finalize().into()));
        }
    }
    Ok(files)
}

fn authenticated(identity: &AgentIdentity) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    Ok(Arc::new(tls::authenticated(identity)?))
}
