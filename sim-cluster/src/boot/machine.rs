//! One machine from power-on to its agent's channel, with the patience of what it stands for:
//! firmware, iPXE, stage 1.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use api::ids::Timestamp;
use fastrand::Rng;
use substrate::{clock, identity::NodeKey};
use tokio::time::sleep;

use crate::{
    pxe::{
        dhcp::{DhcpClientKind, Firmware},
        exchange::Exchange,
        tftp::{self, FileRequest},
    },
    simulated_node::{Agent, SimulatedNode},
};

/// Machines whose iPXE wants its answer by a frame of its own. For each the server's kernel keeps a
/// neighbour, and that table is one for all namespaces of the machine, with 1,024 places; what is
/// more asks for a broadcast.
const MAX_NEIGHBOURS: u32 = 800;

/// The boot script tries again after 10 s (ipxe/boot.ipxe.j2), for as long as anyone waits.
const SCRIPT_WAITS: [Duration; 6] = [Duration::from_secs(10); 6];

/// As stage 1 waits between its attempts.
const STAGE1_WAITS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];

/// A step of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    FirmwareLease,
    BootProgram,
    IpxeLease,
    Script,
    Kernel,
    Initrd,
    SystemLease,
    Enrolment,
    Root,
    Overlays,
    Channel,
}

impl Stage {
    pub(super) const ALL: [Self; 11] = [
        Self::FirmwareLease,
        Self::BootProgram,
        Self::IpxeLease,
        Self::Script,
        Self::Kernel,
        Self::Initrd,
        Self::SystemLease,
        Self::Enrolment,
        Self::Root,
        Self::Overlays,
        Self::Channel,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::FirmwareLease => "DHCP of the firmware",
            Self::BootProgram => "TFTP of the boot file",
            Self::IpxeLease => "DHCP of iPXE",
            Self::Script => "boot script",
            Self::Kernel => "kernel and initramfs",
            Self::Initrd => "initrd with the token",
            Self::SystemLease => "DHCP of stage 1",
            Self::Enrolment => "enrolment",
            Self::Root => "root image, reports",
            Self::Overlays => "boot overlays",
            Self::Channel => "channel",
        }
    }
}

/// What was said again, by all machines.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    tftp: AtomicU64,
    http: AtomicU64,
    stage1: AtomicU64,
}

impl fmt::Display for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [tftp, http, stage1] =
            [&self.tftp, &self.http, &self.stage1].map(|count| count.load(Ordering::Relaxed));
        write!(f, "TFTP {tftp}, boot HTTP {http}, stage 1 {stage1}")
    }
}

/// A machine that is switched off.
#[derive(Debug)]
pub(super) struct Machine {
    node: SimulatedNode,
    number: u32,
    firmware: Firmware,
    exchange: Arc<Exchange>,
    repeats: Arc<Repeats>,
    dice: Rng,
    laps: BTreeMap<Stage, Duration>,
    lap: Instant,
}

/// A machine whose agent is connected.
#[derive(Debug)]
pub(super) struct Powered {
    pub(super) number: u32,
    /// When it was powered on.
    pub(super) on: Timestamp,
    /// How long each stage took.
    pub(super) laps: BTreeMap<Stage, Duration>,
    _agent: Agent,
}

impl Machine {
    /// Every second machine has BIOS firmware.
    pub(super) fn new(
        node: SimulatedNode,
        number: u32,
        exchange: Arc<Exchange>,
        repeats: Arc<Repeats>,
        dice: Rng,
    ) -> Self {
        let firmware = if number.is_multiple_of(2) { Firmware::Bios } else { Firmware::Uefi };
        let (laps, lap) = (BTreeMap::new(), clock::monotonic());
        Self { node, number, firmware, exchange, repeats, dice, laps, lap }
    }

    /// From power-on to the open channel.
    ///
    /// # Errors
    /// The step that failed, after all patience.
    pub(super) async fn power_on(mut self) -> anyhow::Result<Powered> {
        self.lap = clock::monotonic();
        let on = clock::now();
        self.firmware().await?;
        self.ipxe().await.context("iPXE")?;
        let agent = self.stage1().await.context("stage 1")?;
        let mut state = agent.state();
        let seen =
            state.wait_for(|state| state.connected || state.refused.is_some()).await?.clone();
        ensure!(
            seen.refused.is_none(),
            "the channel is refused: {}",
            seen.refused.unwrap_or_default()
        );
        self.passed(Stage::Channel);
        Ok(Powered { number: self.number, on, laps: self.laps, _agent: agent })
    }

    /// A lease, the length of the boot file, the boot file.
    async fn firmware(&mut self) -> anyhow::Result<()> {
        let speaker = self.speaker(false);
        let lease =
            self.exchange.lease(&speaker, &mut self.dice).await.context("DHCP of the firmware")?;
        let own = self.node.address();
        ensure!(lease.address == own, "it was given {} and not its own {own}", lease.address);
        self.passed(Stage::FirmwareLease);
        // Intel's and EDK2's block sizes; EDK2 asks for four blocks at once.
        let (block_bytes, window_blocks) = match self.firmware {
            Firmware::Bios => (1_456, 1),
            Firmware::Uefi => (1_468, 4),
        };
        let wish = |only_size| FileRequest {
            file: lease.file.clone(),
            block_bytes,
            window_blocks,
            only_size,
        };
        let fetch =
            |only_size| tftp::fetch(own, lease.next_server, wish(only_size), &self.repeats.tftp);
        let size = fetch(true).await.context("TFTP, length of the boot file")?;
        let bytes = fetch(false).await.context("TFTP of the boot file")?;
        ensure!(size == bytes && size > 0, "{} has {size} bytes and {bytes} came", lease.file);
        self.passed(Stage::BootProgram);
        Ok(())
    }

    /// A lease that names the script, the script, and what it names.
    async fn ipxe(&mut self) -> anyhow::Result<()> {
        let speaker = self.speaker(true);
        let lease = self.exchange.lease(&speaker, &mut self.dice).await.context("DHCP")?;
        // What iPXE puts in: these machines have no settings.
        let path = format!("/boot/{}/script?memory=${{memsize}}", self.node.mac().hyphenated());
        ensure!(lease.file.ends_with(&path), "the boot file is {} and not {path}", lease.file);
        self.passed(Stage::IpxeLease);
        let (node, count) = (&self.node, &self.repeats.http);
        let script =
            patiently(&SCRIPT_WAITS, count, || node.script()).await.context("boot script")?;
        self.passed(Stage::Script);
        let (node, count) = (&self.node, &self.repeats.http);
        patiently(&SCRIPT_WAITS, count, || node.load(&script))
            .await
            .context("kernel and initramfs")?;
        self.passed(Stage::Kernel);
        Ok(())
    }

    async fn stage1(&mut self) -> anyhow::Result<Agent> {
        let (node, count) = (&self.node, &self.repeats.http);
        let document = patiently(&SCRIPT_WAITS, count, || node.stage1()).await.context("initrd")?;
        self.passed(Stage::Initrd);
        let lease = self.exchange.stage1_lease(self.node.mac(), &mut self.dice).await?;
        ensure!(
            IpAddr::V4(lease.address.addr()) == IpAddr::V4(self.node.address()),
            "it was given {} in stage 1",
            lease.address
        );
        self.passed(Stage::SystemLease);
        let key = NodeKey::generate()?;
        let (node, count) = (&self.node, &self.repeats.stage1);
        let identity = patiently(&STAGE1_WAITS, count, || node.enrol_with(&document, &key));
        let identity = identity.await.context("enrolment")?;
        self.passed(Stage::Enrolment);
        let (node, count) = (&self.node, &self.repeats.stage1);
        let root = patiently(&STAGE1_WAITS, count, || node.root(&document, identity.clone()));
        let root = root.await.context("root image")?;
        self.passed(Stage::Root);
        let count = &self.repeats.stage1;
        let booted =
            patiently(&STAGE1_WAITS, count, || root.overlaid()).await.context("boot overlays")?;
        self.passed(Stage::Overlays);
        ensure!(
            booted.boot_overlays.contains_key("/etc/hostname"),
            "the boot overlays have no /etc/hostname"
        );
        Ok(booted.start_agent())
    }

    fn speaker(&self, ipxe: bool) -> DhcpClientKind {
        let broadcast = !ipxe || self.number > MAX_NEIGHBOURS;
        DhcpClientKind { mac: self.node.mac(), firmware: self.firmware, ipxe, broadcast }
    }

    /// A stage is over, and the next one begins.
    fn passed(&mut self, stage: Stage) {
        self.laps.insert(stage, self.lap.elapsed());
        self.lap = clock::monotonic();
    }
}

/// Tries again after each of these waits.
async fn patiently<T, F>(
    waits: &[Duration],
    again: &AtomicU64,
    mut step: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    for wait in waits {
        match step().await {
            Ok(value) => return Ok(value),
            Err(error) => tracing::debug!("trying again in {} s: {error:#}", wait.as_secs()),
        }
        again.fetch_add(1, Ordering::Relaxed);
        sleep(*wait).await;
    }
    step().await
}
