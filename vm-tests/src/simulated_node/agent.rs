//! The agent of a simulated node: one channel, dialled again when it breaks, with numbered frames as
//! [`api::channel`] wants them.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use api::{
    channel::{Frame, FromAgent, FromServer, PROTOCOL},
    enroll::AgentIdentity,
    ids::Digest,
    inventory::{Core, Inventory, NumaNode, Package, Topology},
    overlay::Generation,
    run::RunReport,
    stream::{Channel, Control, StreamId, StreamRequest},
};
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::ServerName;
use sha2::{Digest as _, Sha256};
use substrate::tls;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message},
};

use super::{FleetPort, authenticated, runs::Runs};

/// Words of tests that wait to be said.
const MAX_WORDS: usize = 16;

/// Pause before a channel that broke is dialled again.
const REDIAL: Duration = Duration::from_millis(200);

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// What can be seen of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentState {
    /// It has its welcome.
    pub connected: bool,
    /// Channels that were opened.
    pub connections: u32,
    /// The runtime overlays that it applied.
    pub applied: Option<Generation>,
    /// Why the server ordered a reboot; the agent has ended.
    pub reboot: Option<String>,
    /// Why the server lets it in no more; the agent has ended.
    pub refused: Option<String>,
    /// Subjects of all runs that were started, in order; a run started twice is here twice.
    pub started: Vec<String>,
    /// Jobs that ran at once, at most.
    pub most_jobs: usize,
    /// Orders to remove the volumes of a workflow.
    pub volumes_removed: u32,
    /// Streams that it was told of.
    pub streams: Vec<StreamId>,
    /// Streams that are open.
    pub open_streams: u32,
}

/// A running agent. Dropped, it dies as with a power cut.
#[derive(Debug)]
pub struct Agent {
    state: watch::Receiver<AgentState>,
    silent: watch::Sender<bool>,
    words: mpsc::Sender<FromAgent>,
    identity: AgentIdentity,
    address: Ipv4Addr,
    task: JoinHandle<()>,
}

impl Agent {
    pub(super) fn start(identity: AgentIdentity, address: Ipv4Addr) -> Self {
        let (seen, state) = watch::channel(AgentState::default());
        let (silent, is_silent) = watch::channel(false);
        let (words, to_say) = mpsc::channel(MAX_WORDS);
        let conversation = Conversation {
            runs: Runs::new(identity.clone(), address),
            identity: identity.clone(),
            address,
            seen,
            to_say,
            is_silent,
            session: Session::default(),
            heartbeat: Duration::from_secs(1),
        };
        Self { state, silent, words, identity, address, task: tokio::spawn(conversation.run()) }
    }

    /// What can be seen of it, and each change.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<AgentState> {
        self.state.clone()
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

    /// Dials a stream, whoever was told of it; the words of a refusal.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub async fn dial_stream(&self, stream: StreamId) -> anyhow::Result<Result<(), String>> {
        let dialled = dial(&self.identity, self.address, &format!("/node/v1/streams/{stream}")).await?;
        Ok(dialled.map(drop))
    }

    /// Cuts the power.
    pub fn power_off(self) {
        drop(self);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The agent's half of a session.
#[derive(Debug, Default)]
struct Session {
    sent: u64,
    received: u64,
    unacknowledged: VecDeque<Frame<FromAgent>>,
}

impl Session {
    fn frame(&mut self, message: FromAgent) -> Frame<FromAgent> {
        self.sent += 1;
        let frame = Frame { seq: self.sent, ack: self.received, message: Some(message) };
        self.unacknowledged.push_back(frame.clone());
        frame
    }

    fn acknowledged(&mut self, ack: u64) {
        self.unacknowledged.retain(|frame| frame.seq > ack);
    }
}

struct Conversation {
    identity: AgentIdentity,
    address: Ipv4Addr,
    seen: watch::Sender<AgentState>,
    is_silent: watch::Receiver<bool>,
    to_say: mpsc::Receiver<FromAgent>,
    runs: Runs,
    session: Session,
    heartbeat: Duration,
}

/// How one channel ended.
enum End {
    /// The agent has nothing more to do.
    Final,
    /// The channel broke.
    Broken,
}

impl Conversation {
    async fn run(mut self) {
        loop {
            match self.one_channel().await {
                Ok(End::Final) => return,
                Ok(End::Broken) => {}
                Err(error) => tracing::debug!("simulated {}: {error:#}", self.identity.node),
            }
            self.seen.send_modify(|state| state.connected = false);
            if *self.is_silent.borrow() {
                return;
            }
            sleep(REDIAL).await;
        }
    }

    async fn one_channel(&mut self) -> anyhow::Result<End> {
        let mut socket = match dial(&self.identity, self.address, "/node/v1/channel").await? {
            Ok(socket) => socket,
            Err(refused) => {
                self.seen.send_modify(|state| state.refused = Some(refused));
                return Ok(End::Final);
            }
        };
        self.greet(&mut socket).await?;
        let mut next = Instant::now() + self.heartbeat;
        loop {
            let silent = *self.is_silent.borrow();
            tokio::select! {
                message = socket.next() => {
                    let Some(message) = message else { return Ok(End::Broken) };
                    match message? {
                        Message::Text(text) if !silent => {
                            let frame = serde_json::from_str(&text)?;
                            if let Some(end) = self.heard(&mut socket, frame).await? {
                                return Ok(end);
                            }
                        }
                        Message::Close(_) => return Ok(End::Broken),
                        _ => {}
                    }
                }
                Some(report) = self.runs.changed(), if !silent => {
                    let running = self.runs.running_jobs();
                    self.seen.send_modify(|state| state.most_jobs = state.most_jobs.max(running));
                    self.say(&mut socket, FromAgent::Run { report }).await?;
                }
                Some(message) = self.to_say.recv(), if !silent => self.say(&mut socket, message).await?,
                () = sleep_until(next) => {
                    next += self.heartbeat;
                    if !silent {
                        self.say(&mut socket, FromAgent::Heartbeat { uptime_seconds: 1 }).await?;
                    }
                }
            }
        }
    }

    /// Hello and welcome; then what the server has not acknowledged, or the inventory of a new session.
    async fn greet(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        let hello = FromAgent::Hello {
            protocol: PROTOCOL,
            agent_version: "simulated".to_owned(),
            boot_id: self.identity.not_after.0.to_string(),
            instance: "1".to_owned(),
            image: self.identity.image.clone(),
            overlays: self.seen.borrow().applied,
        };
        transmit(socket, &Frame { seq: 0, ack: self.session.received, message: Some(hello) }).await?;
        let Some(Message::Text(text)) = socket.next().await.transpose()? else {
            bail!("no welcome came");
        };
        let frame: Frame<FromServer> = serde_json::from_str(&text)?;
        let Some(FromServer::Welcome { heartbeat_seconds, resumed, .. }) = frame.message else {
            bail!("the first frame is no welcome");
        };
        self.heartbeat = Duration::from_secs(heartbeat_seconds.into());
        if resumed {
            self.session.acknowledged(frame.ack);
            for frame in &self.session.unacknowledged {
                transmit(socket, frame).await?;
            }
        } else {
            self.session = Session::default();
            self.say(socket, FromAgent::Inventory { inventory: Box::new(inventory()) }).await?;
            for message in self.runs.list() {
                self.say(socket, message).await?;
            }
        }
        self.seen.send_modify(|state| {
            state.connected = true;
            state.connections += 1;
        });
        Ok(())
    }

    async fn heard(&mut self, socket: &mut Socket, frame: Frame<FromServer>) -> anyhow::Result<Option<End>> {
        self.session.acknowledged(frame.ack);
        let Some(message) = frame.message else { return Ok(None) };
        if frame.seq <= self.session.received {
            return Ok(None);
        }
        ensure!(frame.seq == self.session.received + 1, "frame {} is missing", self.session.received + 1);
        self.session.received = frame.seq;
        transmit(socket, &Frame { seq: 0, ack: frame.seq, message: None }).await?;
        match message {
            FromServer::Overlays { generation } => {
                let written = self.fetch_overlays(generation).await?;
                self.seen.send_modify(|state| state.applied = Some(generation));
                let applied = FromAgent::OverlaysApplied { generation, written, removed: 0, error: None };
                self.say(socket, applied).await?;
            }
            FromServer::Reboot { reason } => {
                self.say(socket, FromAgent::GoingDown { reboot: true }).await?;
                // The server closes when it has taken the word.
                while let Some(Ok(_)) = socket.next().await {}
                self.seen.send_modify(|state| {
                    state.connected = false;
                    state.reboot = Some(reason);
                });
                return Ok(Some(End::Final));
            }
            FromServer::UpgradeAgent { .. } => {
                let why = "a simulated node has no program".to_owned();
                self.say(socket, FromAgent::UpgradeFailed { why }).await?;
            }
            FromServer::SendInventory {} => {
                self.say(socket, FromAgent::Inventory { inventory: Box::new(inventory()) }).await?;
            }
            FromServer::StartRun { spec } => {
                let subject = spec.subject.clone();
                if let Some(report) = self.runs.start(*spec) {
                    self.seen.send_modify(|state| state.started.push(subject));
                    self.say(socket, FromAgent::Run { report }).await?;
                }
            }
            FromServer::StopRun { run, why, .. } => {
                if let Some(report) = self.runs.stop(run, why) {
                    self.say(socket, FromAgent::Run { report }).await?;
                }
            }
            FromServer::PauseRun { run } => self.runs.pause(run, true),
            FromServer::ResumeRun { run } => self.runs.pause(run, false),
            FromServer::SendUsage { runs } => {
                let runs = self.runs.usage(&runs);
                self.say(socket, FromAgent::Usage { runs }).await?;
            }
            FromServer::ForgetRuns { runs } => self.runs.forget(&runs),
            FromServer::RemoveVolumes { .. } => {
                self.seen.send_modify(|state| state.volumes_removed += 1);
            }
            FromServer::OpenStream { stream, request, .. } => {
                self.seen.send_modify(|state| state.streams.push(stream));
                let serving =
                    serve_stream(self.identity.clone(), self.address, stream, request, self.seen.clone());
                tokio::spawn(async move {
                    if let Err(error) = serving.await {
                        tracing::debug!("simulated stream {stream}: {error:#}");
                    }
                });
            }
            FromServer::Welcome { .. } => bail!("a second welcome"),
        }
        Ok(None)
    }

    async fn fetch_overlays(&self, generation: Generation) -> anyhow::Result<u64> {
        let tls = tls::authenticated(&self.identity)?;
        let fleet = FleetPort::new(&self.identity.fleet_servers, self.address, tls)?;
        let archive = fleet.get("/node/v1/overlays/runtime").await?;
        let got = Digest(Sha256::digest(&archive).into());
        ensure!(got == generation.digest, "the overlays are {got}, not {}", generation.digest);
        Ok(super::files(&archive)?.len() as u64)
    }

    async fn say(&mut self, socket: &mut Socket, message: FromAgent) -> anyhow::Result<()> {
        let frame = self.session.frame(message);
        transmit(socket, &frame).await
    }
}

/// Opens a WebSocket to the first fleet port; the inner error is a refusal.
async fn dial(
    identity: &AgentIdentity,
    address: Ipv4Addr,
    route: &str,
) -> anyhow::Result<Result<Socket, String>> {
    let server = *identity.fleet_servers.first().context("no fleet server is named")?;
    let tcp = TcpSocket::new_v4()?;
    tcp.bind(SocketAddr::new(IpAddr::V4(address), 0))?;
    let tcp = tcp.connect(server).await?;
    let tls = TlsConnector::from(authenticated(identity)?);
    let tls = tls.connect(ServerName::IpAddress(server.ip().into()), tcp).await?;
    match client_async(format!("wss://{server}{route}"), tls).await {
        Ok((socket, _)) => Ok(Ok(socket)),
        Err(tungstenite::Error::Http(answer)) => {
            let words = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            Ok(Err(format!("{}: {words}", answer.status())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Serves a stream as a node does, with pretended programs: `echo WORD…` says its words and ends with 7, `hold` runs until its
/// user goes. What else is wanted is not dialled for.
async fn serve_stream(
    identity: AgentIdentity,
    address: Ipv4Addr,
    stream: StreamId,
    request: StreamRequest,
    seen: watch::Sender<AgentState>,
) -> anyhow::Result<()> {
    let StreamRequest::Exec { command, .. } = request else { return Ok(()) };
    let program = command.first().map_or("", String::as_str);
    if !matches!(program, "echo" | "hold") {
        return Ok(());
    }
    let dialled = dial(&identity, address, &format!("/node/v1/streams/{stream}")).await?;
    let mut line = stream_line::Line::new(dialled.map_err(anyhow::Error::msg)?);
    seen.send_modify(|state| state.open_streams += 1);
    if program == "echo" {
        line.send(Channel::Output, command[1..].join(" ").as_bytes());
        line.say(&Control::Ended { outcome: api::run::Outcome::Exited { code: 7 } });
        line.close().await;
    } else {
        while line.next().await.is_ok() {}
    }
    seen.send_modify(|state| state.open_streams -= 1);
    Ok(())
}

async fn transmit(socket: &mut Socket, frame: &Frame<FromAgent>) -> anyhow::Result<()> {
    Ok(socket.send(Message::Text(serde_json::to_string(frame)?.into())).await?)
}

/// One package with four cores of one thread each, one NUMA node, 1 GiB.
fn inventory() -> Inventory {
    const MEMORY: u64 = 1 << 30;
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
    Inventory { topology, memory_bytes: MEMORY, ..Inventory::default() }
}
