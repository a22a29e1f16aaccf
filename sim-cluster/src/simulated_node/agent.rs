//! The agent of a simulated node: the substrate's own [`Channel`] and its session, over a
//! connection that can be cut, and the tasks beside it that a node has. What is pretended is in
//! [`super::runs`].
//!
//! ```text
//!   conversation: dial ─► Channel ──Request──► RunSupervisor (runs.rs), which outlives the agent
//!                           │ wanted, openings
//!                           └──────────► errands: overlays, streams
//! ```

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use api::{
    channel::{FromAgent, Session},
    enroll::AgentIdentity,
    ids::Digest,
    inventory::{Core, Inventory, NumaNode, Package, System, Topology},
    overlay::Generation,
    run::{Outcome, RunReport, VolumeUse},
    stream::{self, Control, StreamId, StreamRequest},
};
use fastrand::Rng;
use substrate::{
    agent::{
        backoff::{agent_backoff, jitter},
        conversation::{Channel, ConversationEnd, HelloFacts},
        runs::MAX_REQUESTS,
        streams::{MAX_OPENINGS, Opening},
        upgrade::AgentTarget,
    },
    clock,
    overlay::Tree,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};

use super::{
    agent_state::AgentState,
    port::{Cut, FleetPort, Refusal},
    runs::{AgentSide, RunSupervisor},
};
use crate::journal::Journal;

/// Words that wait for the channel.
const OUTBOX: usize = 16;

/// Restarts of the agent that wait for the keeper of the runs.
const MAX_SIDES: usize = 4;

/// As in the substrate: a conversation of this length was a good one, and so many bad ones in a row
/// cost the session.
const STEADY: Duration = Duration::from_secs(30);
const MAX_BROKEN: u32 = 5;

/// Pause before the overlays are fetched again after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// How long a connection of a node without power stays open at our end: until the server has
/// surely missed it.
const GONE: Duration = Duration::from_secs(20);

/// Serial number of every simulated machine.
pub const SERIAL: &str = "SIMULATED-SERIAL-NUMBER";

/// A running agent. Dropped, it dies with its node, and its connection is closed.
#[derive(Debug)]
pub struct Agent {
    node: Node,
    silent: watch::Sender<bool>,
    words: mpsc::Sender<FromAgent>,
    sides: mpsc::Sender<AgentSide>,
    supervisor: JoinHandle<()>,
    conversation: JoinHandle<()>,
}

/// What an agent's tasks share, and what outlives the agent.
#[derive(Debug, Clone)]
struct Node {
    identity: Arc<AgentIdentity>,
    port: FleetPort,
    boot: Arc<str>,
    seen: watch::Sender<AgentState>,
    cut: Arc<Cut>,
}

impl Agent {
    pub(super) fn start(
        identity: Arc<AgentIdentity>,
        port: FleetPort,
        journal: Arc<Journal>,
    ) -> Self {
        let boot: Arc<str> = format!("{}-{}", identity.node, clock::now().0).into();
        let (seen, cut) = (watch::Sender::default(), Arc::default());
        let node = Node { identity, port, boot, seen, cut };
        let supervisor = RunSupervisor::new(
            node.identity.node.clone(),
            node.boot.clone(),
            node.port.clone(),
            journal,
            node.seen.clone(),
        );
        let (sides, agents) = mpsc::channel(MAX_SIDES);
        let supervisor = tokio::spawn(supervisor.keep(agents));
        let (silent, _) = watch::channel(false);
        let (words, conversation) = node.launch(&sides, silent.subscribe());
        Self { node, silent, words, sides, supervisor, conversation }
    }

    /// What can be seen of it, and each change.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<AgentState> {
        self.node.seen.subscribe()
    }

    /// It says nothing any more, and its connection stays open: a machine that hangs.
    pub fn fall_silent(&self) {
        self.silent.send_replace(true);
    }

    /// Tells of a run, true or not.
    ///
    /// # Errors
    /// If the agent has ended.
    pub async fn claim(&self, report: RunReport) -> anyhow::Result<()> {
        self.words.send(FromAgent::Run { report }).await.context("the simulated agent has ended")
    }

    /// Dials a stream, whoever was told of it; the inner error is the server's refusal.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub async fn dial_stream(&self, stream: StreamId) -> anyhow::Result<Result<(), Refusal>> {
        let dialled =
            self.node.port.dial(&format!("/node/v1/streams/{stream}"), Arc::default()).await?;
        Ok(dialled.map(drop))
    }

    /// Its connection breaks after so many more bytes of either direction.
    pub(crate) fn cut_after(&self, bytes: u16) {
        self.node.cut.after(bytes);
    }

    /// Kills the agent, and starts another one after a while. Its runs go on.
    pub(crate) async fn restart(&mut self, pause: Duration) {
        self.conversation.abort();
        self.node.seen.send_modify(|state| state.connected = false);
        sleep(pause).await;
        (self.words, self.conversation) = self.node.launch(&self.sides, self.silent.subscribe());
    }

    /// Cuts the power: nobody is told anything, the connection just stays where it is.
    pub(crate) fn cut_power(self) {
        self.fall_silent();
        self.supervisor.abort();
        tokio::spawn(async move {
            sleep(GONE).await;
            drop(self);
        });
    }

    /// Cuts the power, and the connection is closed at once.
    pub fn power_off(self) {
        drop(self);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.conversation.abort();
        self.supervisor.abort();
    }
}

impl Node {
    /// Starts an agent with a session of its own.
    fn launch(
        &self,
        sides: &mpsc::Sender<AgentSide>,
        mut silent: watch::Receiver<bool>,
    ) -> (mpsc::Sender<FromAgent>, JoinHandle<()>) {
        let (outbox_in, outbox) = mpsc::channel(OUTBOX);
        let (runs, requests) = mpsc::channel(MAX_REQUESTS);
        // It takes one at a time and is restarted seldom; a keeper that is gone has no node.
        let _ = sides.try_send(AgentSide { requests, outbox: outbox_in.clone() });
        let (wanted, overlays) = watch::channel(None);
        let (upgrade, upgrades) = watch::channel(None);
        let (applied_here, applied) = watch::channel(self.seen.borrow().applied);
        let (streams, openings) = mpsc::channel(MAX_OPENINGS);
        let (inventory_here, inventory) = watch::channel(Some(Arc::new(inventory())));
        let (stopping, stop) = watch::channel(None);
        let channel = Channel {
            about: HelloFacts {
                agent_version: "simulated".to_owned(),
                boot_id: self.boot.to_string(),
                instance: instance(),
                image: self.identity.image.clone(),
            },
            inventory,
            topology_xml: watch::channel(None).1,
            outbox,
            stop,
            wanted,
            upgrade,
            servers: watch::Sender::new(None),
            reached: None,
            applied,
            runs,
            streams,
            uptime: || 1,
            volumes: watch::channel(VolumeUse::default()).1,
            session: Session::default(),
        };
        let errands = BackgroundTasks {
            node: self.clone(),
            applied: applied_here,
            outbox: outbox_in.clone(),
        };
        let node = self.clone();
        let conversation = tokio::spawn(async move {
            let _held = (inventory_here, stopping);
            let talking = async {
                tokio::select! {
                    () = node.keep_connected(channel) => {}
                    () = errands.run(overlays, upgrades, openings) => {}
                }
            };
            tokio::pin!(talking);
            tokio::select! {
                () = &mut talking => return,
                _ = silent.wait_for(|silent| *silent) => {}
            }
            // Nothing is read or said any more, and the connection stays as it is.
            std::future::pending::<()>().await;
        });
        (outbox_in, conversation)
    }

    /// Dials and converses, until the agent has nothing more to do.
    async fn keep_connected(&self, mut channel: Channel) {
        let mut dice = Rng::new();
        let (mut backoff, mut broken) = (agent_backoff(), 0);
        loop {
            let started = clock::monotonic();
            match self.port.dial("/node/v1/channel", self.cut.clone()).await {
                Ok(Ok(socket)) => {
                    broken += 1;
                    let welcomed = || {
                        self.seen.send_modify(|state| {
                            state.connected = true;
                            state.connections += 1;
                        });
                    };
                    let ended = channel.converse(socket, welcomed).await;
                    self.seen.send_modify(|state| state.connected = false);
                    match ended {
                        Ok(ConversationEnd::Reboot { reason }) => {
                            self.seen.send_modify(|state| state.reboot = Some(reason));
                            return;
                        }
                        Ok(ConversationEnd::Stopped) => return,
                        Err(error) => {
                            if Channel::needs_new_session(&error) || broken > MAX_BROKEN {
                                channel.begin_new_session(instance());
                                broken = 0;
                            }
                            tracing::debug!("simulated {}: {error}", self.identity.node);
                        }
                    }
                }
                Ok(Err(refused)) => {
                    self.seen.send_modify(|state| state.refused = Some(refused.to_string()));
                    return;
                }
                Err(error) => tracing::debug!("simulated {}: {error:#}", self.identity.node),
            }
            if started.elapsed() >= STEADY {
                backoff.reset();
                broken = 0;
            }
            sleep(backoff.pause(jitter(dice.u64(..)))).await;
        }
    }
}

/// What an agent does beside its conversation.
struct BackgroundTasks {
    node: Node,
    applied: watch::Sender<Option<Generation>>,
    outbox: mpsc::Sender<FromAgent>,
}

impl BackgroundTasks {
    /// Ends with the channel.
    async fn run(
        self,
        mut overlays: watch::Receiver<Option<Generation>>,
        mut upgrades: watch::Receiver<Option<AgentTarget>>,
        mut openings: mpsc::Receiver<Opening>,
    ) {
        loop {
            let message = tokio::select! {
                changed = overlays.changed() => {
                    let wanted = *overlays.borrow_and_update();
                    match (changed, wanted) {
                        (Err(_), _) => return,
                        (Ok(()), None) => continue,
                        (Ok(()), Some(generation)) => self.apply(generation).await,
                    }
                }
                changed = upgrades.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    FromAgent::UpgradeFailed { why: "a simulated node has no program".to_owned() }
                }
                opening = openings.recv() => {
                    let Some(opening) = opening else { return };
                    self.open(opening);
                    continue;
                }
            };
            if self.outbox.send(message).await.is_err() {
                return;
            }
        }
    }

    async fn apply(&self, generation: Generation) -> FromAgent {
        loop {
            match self.fetch_overlays(generation).await {
                Ok(written) => {
                    self.applied.send_replace(Some(generation));
                    self.node.seen.send_modify(|state| state.applied = Some(generation));
                    return FromAgent::OverlaysApplied {
                        generation,
                        written,
                        removed: 0,
                        error: None,
                    };
                }
                // Others may be wanted by now; the server tells again what it misses.
                Err(Fetch::Other(got)) => {
                    let error = Some(format!("the overlays are {got}, not {}", generation.digest));
                    return FromAgent::OverlaysApplied {
                        generation,
                        written: 0,
                        removed: 0,
                        error,
                    };
                }
                Err(Fetch::Failed(error)) => {
                    tracing::debug!("overlays of simulated {}: {error:#}", self.node.identity.node);
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn fetch_overlays(&self, generation: Generation) -> Result<u64, Fetch> {
        let archive =
            self.node.port.get("/node/v1/overlays/runtime").await.map_err(Fetch::Failed)?;
        let tree = Tree::read(&archive[..]).map_err(|error| Fetch::Failed(error.into()))?;
        let got = tree.digest();
        if got != generation.digest {
            return Err(Fetch::Other(got));
        }
        Ok(tree.files().count() as u64)
    }

    fn open(&self, Opening { stream, request, .. }: Opening) {
        self.node.seen.send_modify(|state| state.streams.push(stream));
        let node = self.node.clone();
        tokio::spawn(async move {
            if let Err(error) = serve_stream(node, stream, request).await {
                tracing::debug!("simulated stream {stream}: {error:#}");
            }
        });
    }
}

/// Why overlays are not here.
enum Fetch {
    /// These came instead.
    Other(Digest),
    Failed(anyhow::Error),
}

/// Serves a stream as a node does, with pretended programs: `echo WORD…` says its words and ends
/// with 7, `hold` runs until its user goes. What else is wanted is not dialled for.
async fn serve_stream(node: Node, stream: StreamId, request: StreamRequest) -> anyhow::Result<()> {
    let StreamRequest::Exec { command, .. } = request else { return Ok(()) };
    let program = command.first().map_or("", String::as_str);
    if !matches!(program, "echo" | "hold") {
        return Ok(());
    }
    let dialled = node.port.dial(&format!("/node/v1/streams/{stream}"), Arc::default()).await?;
    let mut line = stream_line::StreamSocket::new(dialled?);
    node.seen.send_modify(|state| state.open_streams += 1);
    if program == "echo" {
        line.send(stream::Channel::Output, command[1..].join(" ").as_bytes());
        line.send_control(&Control::Ended { outcome: Outcome::Exited { code: 7 } });
        line.close().await;
    } else {
        while line.next().await.is_ok() {}
    }
    node.seen.send_modify(|state| state.open_streams -= 1);
    Ok(())
}

/// A name for one start of an agent.
fn instance() -> String {
    format!("{:016x}", clock::now().0)
}

/// One package with four cores of one thread each, one NUMA node, 16 GiB.
fn inventory() -> Inventory {
    const MEMORY: u64 = 16 << 30;
    let pus: Vec<u32> = (0..4).collect();
    let core = |index: &u32| Core {
        index: *index,
        package: Some(0),
        numa_node: Some(0),
        pus: vec![*index],
        ..Core::default()
    };
    let topology = Topology {
        packages: vec![Package { index: 0, pus: pus.clone() }],
        numa_nodes: vec![NumaNode {
            index: 0,
            memory_bytes: MEMORY,
            pus: pus.clone(),
            ..NumaNode::default()
        }],
        cores: pus.iter().map(core).collect(),
        pus: 4,
        ..Topology::default()
    };
    let system = System { serial: Some(SERIAL.to_owned()), ..System::default() };
    Inventory { system, topology, memory_bytes: MEMORY, ..Inventory::default() }
}
