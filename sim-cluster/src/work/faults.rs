//! One node of the simulated cluster, and what befalls it.
//!
//! | fault | of a hundred | what |
//! |---|---|---|
//! | cut | 70 | the connection breaks in the middle of a message; the agent dials again |
//! | restart | 20 | the agent is killed and started again; its runs go on |
//! | power | 10 | the node is gone without a word, and boots: DHCP, script, a new token, a new certificate, a new boot id |

use std::{
    fmt,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use fastrand::Rng;
use tokio::{sync::watch, time::sleep};

use crate::{
    journal::Journal,
    pxe::{
        dhcp::{DhcpClientKind, Firmware},
        exchange::Exchange,
    },
    simulated_node::{Agent, AgentState, SimulatedNode},
};

/// Bytes that a connection carries at most before it breaks: some messages.
const LONGEST_CUT: u64 = 1_500;

/// How long an agent is away at most, milliseconds.
const LONGEST_AWAY_MILLIS: u64 = 2_000;

/// From power-on to the firmware's first packet, milliseconds: at most twice the least.
const SELF_TEST_MILLIS: u64 = 1_000;

/// From the firmware's lease to the initrd with the token: boot file, kernel and initramfs. The
/// server has missed the old agent by then.
const LOADING: Duration = Duration::from_millis(3_500);

/// Attempts to get the token of one boot, and the pause between two. Then somebody
/// resets the machine.
const TOKEN_TRIES: u32 = 2;
const TOKEN_PAUSE: Duration = Duration::from_secs(2);

/// Boots until one succeeds, and the pause between two.
const MAX_BOOTS: u32 = 20;
const BOOT_PAUSE: Duration = Duration::from_secs(3);

/// What befell all nodes.
#[derive(Debug, Default)]
pub(super) struct Counts {
    cuts: AtomicU64,
    restarts: AtomicU64,
    power: AtomicU64,
    boots_failed: AtomicU64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [cuts, restarts, power, failed] =
            [&self.cuts, &self.restarts, &self.power, &self.boots_failed]
                .map(|n| n.load(Ordering::Relaxed));
        write!(
            f,
            "{} in all: {cuts} connections cut, {restarts} agents restarted, {power} nodes without power ({failed} boots \
             tried again)",
            cuts + restarts + power
        )
    }
}

/// A node from its enrolment to the end of the simulation.
#[derive(Debug)]
pub(super) struct NodeFaults {
    node: SimulatedNode,
    agent: Option<Agent>,
    exchange: Arc<Exchange>,
    journal: Arc<Journal>,
    counts: Arc<Counts>,
    dice: Rng,
    /// Longest time between two faults; half of it on average.
    peace: Duration,
}

impl NodeFaults {
    /// Enrols a node that has never booted, and starts its agent.
    pub(super) async fn begin(
        node: SimulatedNode,
        exchange: Arc<Exchange>,
        journal: Arc<Journal>,
        counts: Arc<Counts>,
        (dice, peace): (Rng, Duration),
    ) -> anyhow::Result<Self> {
        let document = node.stage1().await?;
        let identity = node.enrol(&document).await?;
        let agent = node.arrive(identity)?.start_agent_with(journal.clone());
        Ok(Self { node, agent: Some(agent), exchange, journal, counts, dice, peace })
    }

    /// Suffers faults until it is told to stop; what is under way then is brought to its end.
    ///
    /// # Errors
    /// If the node cannot boot any more.
    pub(super) async fn live(mut self, mut stop: watch::Receiver<bool>) -> anyhow::Result<Self> {
        loop {
            let peace = self.peace.mul_f64(self.dice.f64());
            tokio::select! {
                () = sleep(peace) => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(self),
            }
            match self.dice.u64(..100) {
                0..70 => self.cut(),
                70..90 => self.restart().await,
                _ => self
                    .lose_power()
                    .await
                    .with_context(|| format!("the node at {}", self.address()))?,
            }
        }
    }

    /// Runs that its agent holds.
    pub(super) fn holds(&self) -> usize {
        self.agent.as_ref().map_or(0, |agent| agent.state().borrow().held)
    }

    /// What can be seen of its agent.
    pub(super) fn state(&self) -> Option<AgentState> {
        self.agent.as_ref().map(|agent| agent.state().borrow().clone())
    }

    /// Its address.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.node.address()
    }

    fn cut(&mut self) {
        let bytes = u16::try_from(self.dice.u64(..LONGEST_CUT)).unwrap_or(0);
        if let Some(agent) = &self.agent {
            self.counts.cuts.fetch_add(1, Ordering::Relaxed);
            agent.cut_after(bytes);
        }
    }

    async fn restart(&mut self) {
        let away = Duration::from_millis(self.dice.u64(..LONGEST_AWAY_MILLIS));
        if let Some(agent) = &mut self.agent {
            self.counts.restarts.fetch_add(1, Ordering::Relaxed);
            agent.restart(away).await;
        }
    }

    async fn lose_power(&mut self) -> anyhow::Result<()> {
        self.counts.power.fetch_add(1, Ordering::Relaxed);
        if let Some(agent) = self.agent.take() {
            agent.cut_power();
        }
        for _ in 0..MAX_BOOTS {
            let self_test = SELF_TEST_MILLIS + self.dice.u64(..SELF_TEST_MILLIS);
            sleep(Duration::from_millis(self_test)).await;
            match self.boot().await {
                Ok(agent) => {
                    self.agent = Some(agent);
                    return Ok(());
                }
                Err(error) => tracing::debug!("{} boots again: {error:#}", self.address()),
            }
            self.counts.boots_failed.fetch_add(1, Ordering::Relaxed);
            sleep(BOOT_PAUSE).await;
        }
        let last = self.boot().await.map(drop);
        bail!("{MAX_BOOTS} boots have failed: {last:?}")
    }

    async fn boot(&mut self) -> anyhow::Result<Agent> {
        let speaker = DhcpClientKind {
            mac: self.node.mac(),
            firmware: Firmware::Bios,
            ipxe: false,
            broadcast: true,
        };
        self.exchange.lease(&speaker, &mut self.dice).await?;
        let script = self.node.script().await?;
        self.node.load(&script).await?;
        sleep(LOADING).await;
        let mut tries = 1;
        let document = loop {
            match self.node.stage1().await {
                Ok(document) => break document,
                Err(error) if tries == TOKEN_TRIES => return Err(error),
                Err(_) => tries += 1,
            }
            sleep(TOKEN_PAUSE).await;
        };
        let identity = self.node.enrol(&document).await?;
        let booted = self.node.root(&document, identity).await?.overlaid().await?;
        Ok(booted.start_agent_with(self.journal.clone()))
    }
}
