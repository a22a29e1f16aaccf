//! A node without a machine: it speaks the real protocols from the boot script to the agent's
//! channel, so that thousands fit into one process.
//!
//! What it fetches it verifies and throws away; what a machine would do with it (mount, apply,
//! reboot) it only counts. All its connections come from its own address, which must be one that
//! this machine can bind.
//!
//! | module | is |
//! |---|---|
//! | [`agent`] | the agent: the real conversation of the substrate over a wire that can be cut |
//! | [`runs`] | its runs: the real rules of the substrate, pretended work |
//! | `port` | its connections to the fleet port |
//! | `initrd` | the archive that the boot loader would hand to the kernel |

mod agent;
mod agent_state;
mod initrd;
mod port;
mod runs;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use api::{
    enroll::{AgentIdentity, BootPhase, Enroll, Enrolled},
    ids::{Digest, MacAddr},
    stage1::{self, Stage1},
};
use reqwest::{Client, ClientBuilder};
use sha2::{Digest as _, Sha256};
use substrate::{fleet_port, identity::NodeKey, tls};

pub use agent::{Agent, SERIAL};
pub use agent_state::AgentState;
use port::FleetPort;
pub use port::Refusal;
pub(crate) use runs::talk;

use crate::journal::Journal;

/// Time that an idle connection is kept for the next request. A node asks in bursts, and thousands
/// share this process.
const IDLE: Duration = Duration::from_secs(10);

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
    port: FleetPort,
}

impl SimulatedNode {
    /// A machine with this MAC address that the network gives this address.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(mac: MacAddr, address: Ipv4Addr, boot_server: SocketAddr) -> anyhow::Result<Self> {
        // It speaks plain HTTP, but without a configuration each client would read the
        // machine's authorities.
        let http = http_from(address, tls::pinned(Digest([0; 32]))?).build()?;
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

    /// The boot script, as the iPXE of a machine fetches it that has so much memory.
    ///
    /// # Errors
    /// The server's refusal, in its words.
    pub async fn script_with_memory(&self, memory_mib: u64) -> anyhow::Result<String> {
        let path = format!("/boot/{}/script?memory={memory_mib}", self.mac.hyphenated());
        Ok(String::from_utf8(self.fetch(&path).await?)?)
    }

    /// Fetches kernel and initramfs of a script.
    ///
    /// # Errors
    /// The server's refusal, or bytes of another digest.
    pub async fn load(&self, script: &str) -> anyhow::Result<()> {
        for (url, digest) in blobs(script) {
            self.verify(url, digest).await?;
        }
        Ok(())
    }

    /// The document in the per-node initrd.
    ///
    /// # Errors
    /// The server's refusal, or an archive that the kernel would not unpack.
    pub async fn stage1(&self) -> anyhow::Result<Stage1> {
        let archive = self.fetch(&format!("/boot/{}/node.img", self.mac.hyphenated())).await?;
        ensure!(
            archive.len() % 4 == 0,
            "the initrd has {} bytes, which is no multiple of 4",
            archive.len()
        );
        let document = initrd::file(&archive, stage1::PATH.trim_start_matches('/'))?;
        serde_json::from_slice(document).context("cannot read the stage-1 document")
    }

    /// Trades the token for a certificate, for a key of its own.
    ///
    /// # Errors
    /// The server's refusal, in its words.
    pub async fn enrol(&self, stage1: &Stage1) -> anyhow::Result<AgentIdentity> {
        self.enrol_with(stage1, &NodeKey::generate()?).await
    }

    /// Trades the token for a certificate. The same key may come again: its first answer may
    /// have been lost.
    pub(crate) async fn enrol_with(
        &self,
        stage1: &Stage1,
        key: &NodeKey,
    ) -> anyhow::Result<AgentIdentity> {
        let token = stage1.token.clone().context("the document has no token")?;
        let request = Enroll { id: stage1.id, token, csr: key.signing_request()? };
        let config = tls::pinned(stage1.ca_fingerprint)?;
        let fleet = FleetPort::new(&stage1.fleet_servers, self.address, config)?;
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

    /// Fetches the root image, reporting as stage 1 does.
    ///
    /// # Errors
    /// The server's refusal, or bytes of another digest.
    pub(crate) async fn root(
        &self,
        stage1: &Stage1,
        identity: AgentIdentity,
    ) -> anyhow::Result<Booted> {
        let booted = self.arrive(identity)?;
        let (port, version) = (&booted.port, &stage1.root.version);
        port.report(BootPhase::Stage1, None, "enrolled").await?;
        port.report(BootPhase::Fetching, Some(0), &format!("fetching {version}")).await?;
        let url = format!("http://{}/blobs/sha256/{}", self.boot_server, stage1.root.digest.hex());
        self.verify(&url, stage1.root.digest).await?;
        port.report(BootPhase::Fetching, Some(100), &format!("fetched {version}")).await?;
        Ok(booted)
    }

    /// A node that has nothing but its certificate.
    pub(crate) fn arrive(&self, identity: AgentIdentity) -> anyhow::Result<Booted> {
        let port =
            FleetPort::new(&identity.fleet_servers, self.address, tls::authenticated(&identity)?)?;
        Ok(Booted { identity, boot_overlays: BTreeMap::new(), port })
    }

    /// From the boot script to the moment in which the image's init would start.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn boot(&self) -> anyhow::Result<Booted> {
        self.load(&self.script().await?).await?;
        let stage1 = self.stage1().await?;
        let identity = self.enrol(&stage1).await?;
        self.root(&stage1, identity).await?.overlaid().await
    }

    /// Its MAC address.
    pub(crate) fn mac(&self) -> MacAddr {
        self.mac
    }

    /// The address that it has on the network.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    async fn fetch(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        port::body(self.http.get(format!("http://{}{path}", self.boot_server)).send().await?).await
    }

    /// Fetches bytes for their digest alone.
    async fn verify(&self, url: &str, digest: Digest) -> anyhow::Result<()> {
        let mut response = self.http.get(url).send().await?.error_for_status()?;
        let mut hash = Sha256::new();
        while let Some(chunk) = response.chunk().await? {
            hash.update(&chunk);
        }
        let got = Digest(hash.finalize().into());
        ensure!(got == digest, "{digest} was asked for and {got} came");
        Ok(())
    }
}

impl Booted {
    /// Fetches the boot overlays, and says that the image's init starts.
    ///
    /// # Errors
    /// The server's refusal, or an archive that cannot be read.
    pub(crate) async fn overlaid(&self) -> anyhow::Result<Self> {
        let boot_overlays = self.fetch_overlays().await?;
        self.port.report(BootPhase::Switching, None, "starting /sbin/init").await?;
        Ok(Self { identity: self.identity.clone(), boot_overlays, port: self.port.clone() })
    }

    /// Path and SHA-256 of each file of its boot overlays, fetched again.
    ///
    /// # Errors
    /// The server's refusal, or an archive that cannot be read.
    pub(crate) async fn fetch_overlays(&self) -> anyhow::Result<BTreeMap<String, Digest>> {
        files(&self.port.get("/node/v1/overlays/boot").await?)
    }

    /// Starts the agent. It runs until it is told to reboot, is refused, or [`Agent::power_off`].
    #[must_use]
    pub fn start_agent(self) -> Agent {
        self.start_agent_with(Arc::default())
    }

    /// Starts the agent; what its runs do is told to the journal.
    pub(crate) fn start_agent_with(self, journal: Arc<Journal>) -> Agent {
        Agent::start(Arc::new(self.identity), self.port, journal)
    }
}

/// A client whose connections come from this address.
fn http_from(address: Ipv4Addr, tls: rustls::ClientConfig) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .local_address(IpAddr::V4(address))
        .connect_timeout(fleet_port::CONNECT_TIMEOUT)
        .read_timeout(fleet_port::READ_TIMEOUT)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true)
}

/// Kernel and initramfs of a script: the URLs that name a blob.
fn blobs(script: &str) -> Vec<(&str, Digest)> {
    let blob = |word: &'_ str| {
        let (_, hex) = word.split_once("/blobs/sha256/")?;
        format!("sha256:{hex}").parse().ok()
    };
    script.split_whitespace().filter_map(|word| Some((word, blob(word)?))).collect()
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
