//! The agent's side of the channel over one WebSocket after another: hello, resending,
//! heartbeats, messages.
//!
//! [`Channel`] outlives connections and holds the [`Session`]; [`Channel::converse`] lives as long
//! as one. It neither dials nor acts: what the server wants goes out through [`Channel::wanted`] or
//! ends the conversation.

mod line;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use api::{
    channel::{
        Capabilities, Capability, Frame, FromAgent, FromServer, NoCommonProtocol, Offer, SendError,
        Session, SessionError,
    },
    inventory::Inventory,
    overlay::Generation,
    run::{MAX_RUNS_PER_MESSAGE, RunId, RunReport, RunState, VolumeUse},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot, watch},
    time::{sleep_until, timeout},
};
use tokio_tungstenite::{WebSocketStream, tungstenite};

use self::line::{Line, Received, broken};
use super::{
    runs::{Listed, Request, ServerRequest},
    server_addresses::ServerList,
    stop::{Stop, stopped},
    streams::Opening,
    upgrade::AgentTarget,
};
use crate::clock;

/// Time for the server's welcome.
const WELCOME_DEADLINE: Duration = Duration::from_secs(15);

/// Heartbeats that may be missing before the server counts as gone.
const MISSED_HEARTBEATS: u32 = 3;

/// Most time that a farewell waits for its acknowledgement: a reboot must not hang on a
/// server that is gone.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(3);

/// Heartbeat intervals outside of this are a mistake of the server, seconds.
const HEARTBEAT_SECONDS: std::ops::RangeInclusive<u32> = 1..=300;

/// Why a conversation broke off.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The connection failed.
    #[error("the connection broke")]
    Socket(#[source] Box<tungstenite::Error>),
    /// The server closed it.
    #[error("the server closed the connection{0}")]
    Closed(String),
    /// Nothing came, or nothing could be sent, for too long.
    #[error("the server is silent for {0} s")]
    Silent(u64),
    /// The server broke the rules of the session.
    #[error("the session is broken")]
    Session(#[from] SessionError),
    /// The server acknowledges nothing.
    #[error("the server is too slow")]
    Send(#[from] SendError),
    /// The server is of a release that this agent cannot speak with.
    #[error("cannot speak with this server; boot the node from an image of this server")]
    NoCommonProtocol(#[from] NoCommonProtocol),
    /// A message is not what it should be.
    #[error("cannot read a message of the server")]
    Message(#[source] serde_json::Error),
    /// The server sends what must not come here.
    #[error("the server breaks the protocol: {0}")]
    Protocol(String),
    /// The task that keeps the runs has ended: a defect of the agent. The server must not believe
    /// that it obeyed.
    #[error("nobody keeps the runs of this node any more; restart the agent")]
    NoRuns,
}

/// How a conversation ends well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConversationEnd {
    /// The server wants a reboot; it knows that it comes.
    Reboot {
        /// Who asked.
        reason: String,
    },
    /// The agent was told to stop; the server knows.
    Stopped,
}

/// What a hello says of this node.
#[derive(Debug, Clone)]
pub struct HelloFacts {
    /// Version of the agent.
    pub agent_version: String,
    /// The kernel's id of this boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Random id of this start of the agent.
    pub instance: String,
    /// Image version that the node runs: `debian-node@2`.
    pub image: String,
}

/// Everything that the channel connects to inside the agent.
#[derive(Debug)]
pub struct Channel {
    /// For the hello. `instance` changes when a session must be given up.
    pub about: HelloFacts,
    /// The hardware, as soon as it is known; sent when it changes.
    pub inventory: watch::Receiver<Option<Arc<Inventory>>>,
    /// The topology as hwloc writes it, likewise.
    pub topology_xml: watch::Receiver<Option<Arc<str>>>,
    /// Results of overlays.
    pub outbox: mpsc::Receiver<FromAgent>,
    /// Set once, when the agent must end.
    pub stop: watch::Receiver<Option<Stop>>,
    /// Which runtime overlays the server wants here.
    pub wanted: watch::Sender<Option<Generation>>,
    /// What the server wants the agent to be.
    pub upgrade: watch::Sender<Option<AgentTarget>>,
    /// Where the server says that the servers are.
    pub servers: watch::Sender<Option<ServerList>>,
    /// The address that the present connection was dialled at.
    pub reached: Option<SocketAddr>,
    /// Generation of the runtime overlays that are applied on this node.
    pub applied: watch::Receiver<Option<Generation>>,
    /// Requests of the server about runs.
    pub runs: mpsc::Sender<Request>,
    /// Streams that the server asks this node to open.
    pub streams: mpsc::Sender<Opening>,
    /// Seconds since boot.
    pub uptime: fn() -> u64,
    /// What volumes hold in memory; told with heartbeats.
    pub volumes: watch::Receiver<VolumeUse>,
    /// Numbered messages, which are resent over the next connection until the server acknowledges
    /// them.
    pub session: Session<FromAgent>,
}

impl Channel {
    /// Speaks until the connection breaks or one side wants an end. `welcomed` is called when the
    /// server has said yes.
    ///
    /// # Errors
    /// [`ChannelError`]. The next connection carries on, or starts again if
    /// [`Self::needs_new_session`].
    pub async fn converse<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: WebSocketStream<T>,
        welcomed: impl FnOnce(),
    ) -> Result<ConversationEnd, ChannelError> {
        let mut line = Line::new(socket);
        self.greet(&mut line).await?;
        welcomed();
        loop {
            let (beat, silence) = (line.next_heartbeat(), line.silence());
            tokio::select! {
                received = line.receive() => {
                    if let Some(end) = self.handle_frame(&mut line, received?).await? {
                        return Ok(end);
                    }
                }
                stop = stopped(&mut self.stop) => {
                    let message = stop.going_down.map(|reboot| FromAgent::GoingDown { reboot });
                    self.farewell(&mut line, message).await;
                    return Ok(ConversationEnd::Stopped);
                }
                Ok(()) = self.inventory.changed() => {
                    let inventory = self.inventory.borrow_and_update().clone();
                    if let Some(inventory) = inventory {
                        self.send_message(&mut line, FromAgent::Inventory { inventory: Box::new((*inventory).clone()) }).await?;
                    }
                }
                Ok(()) = self.topology_xml.changed() => {
                    let xml = self.topology_xml.borrow_and_update().clone();
                    if let Some(xml) = xml {
                        self.send_message(&mut line, FromAgent::Topology { xml: xml.as_ref().to_owned() }).await?;
                    }
                }
                Some(message) = self.outbox.recv() => self.send_if_supported(&mut line, message).await?,
                () = sleep_until(beat) => {
                    let uptime_seconds = (self.uptime)();
                    let volumes = Some(*self.volumes.borrow()).filter(|all| all.volumes > 0);
                    self.send_message(&mut line, FromAgent::Heartbeat { uptime_seconds, volumes }).await?;
                }
                () = sleep_until(silence) => return Err(line.is_silent()),
            }
        }
    }

    /// Hellos of both sides, then what the server has not got yet.
    async fn greet<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        line: &mut Line<T>,
    ) -> Result<(), ChannelError> {
        let hello = FromAgent::Hello {
            offer: Offer::ours(),
            agent_version: self.about.agent_version.clone(),
            boot_id: self.about.boot_id.clone(),
            instance: self.about.instance.clone(),
            image: self.about.image.clone(),
            overlays: *self.applied.borrow(),
        };
        line.send(&Frame { seq: 0, ack: self.session.received(), message: Some(hello) }).await?;
        let Received { frame, .. } = timeout(WELCOME_DEADLINE, line.receive())
            .await
            .map_err(|_| ChannelError::Silent(WELCOME_DEADLINE.as_secs()))??;
        let Some(FromServer::Welcome { agreement, server_time, heartbeat_seconds, resumed }) =
            frame.message
        else {
            return Err(ChannelError::Protocol("its first message is no welcome".to_owned()));
        };
        agreement.check()?;
        if let Some(skew) = clock::skew(clock::now(), server_time) {
            tracing::warn!("{skew}");
        }
        line.heartbeat = Duration::from_secs(
            heartbeat_seconds.clamp(*HEARTBEAT_SECONDS.start(), *HEARTBEAT_SECONDS.end()).into(),
        );
        if resumed {
            self.session.acknowledge(frame.ack)?;
            self.session.agree(agreement.capabilities);
        } else {
            self.begin_session(agreement.capabilities).await?;
        }
        for frame in self.session.unacknowledged() {
            line.send(&frame).await?;
        }
        Ok(())
    }

    /// Begins a session with a server that does not know the last one. What both sides know comes
    /// from the welcome.
    async fn begin_session(&mut self, agreed: Capabilities) -> Result<(), ChannelError> {
        // The inventory is sent again below; a heartbeat of the past says nothing.
        // Runs are all told again: what was to be said of one might be behind the list.
        let survives = |message: &FromAgent| {
            use FromAgent::{Heartbeat, Inventory, Refusing, Run, RunNews, Runs, Topology, Usage};
            let told_again = matches!(
                message,
                Inventory { .. }
                    | Topology { .. }
                    | Run { .. }
                    | RunNews { .. }
                    | Runs { .. }
                    | Refusing { .. }
            );
            !told_again && !matches!(message, Heartbeat { .. } | Usage { .. })
        };
        let knows_prepared = agreed.has(Capability::Attempts);
        self.session.restart(agreed, survives);
        self.inventory.mark_changed();
        self.topology_xml.mark_changed();
        // What comes behind the list is news, whatever it is.
        while let Ok(message) = self.outbox.try_recv() {
            if survives(&message) {
                self.session.send(message)?;
            }
        }
        let mut runs = self.ask_runs(Request::List).await?;
        if !knows_prepared {
            // To a server of before, a run that waits for its release is one that is
            // being prepared.
            let prepared = |report: &&mut RunReport| report.state == RunState::Prepared {};
            for report in runs.reports.iter_mut().filter(prepared) {
                report.state = RunState::Preparing {};
            }
        }
        for message in list_of(runs) {
            self.session.send(message)?;
        }
        Ok(())
    }

    /// Asks the runs' keeper, which answers at once.
    async fn ask_runs<A>(
        &self,
        request: impl FnOnce(oneshot::Sender<A>) -> Request,
    ) -> Result<A, ChannelError> {
        let (answer, answered) = oneshot::channel();
        self.runs.send(request(answer)).await.map_err(|_| ChannelError::NoRuns)?;
        answered.await.map_err(|_| ChannelError::NoRuns)
    }

    /// Takes one frame; acknowledges it if it says something. An order about runs is acknowledged
    /// when it is on disk.
    async fn handle_frame<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        line: &mut Line<T>,
        Received { frame, unknown }: Received,
    ) -> Result<Option<ConversationEnd>, ChannelError> {
        let speaks = frame.message.is_some();
        let message = self.session.receive(frame)?;
        if let Some(order) = message.as_ref().and_then(order_of) {
            self.ask_runs(|done| Request::ServerRequest(order, done)).await?;
        }
        if message.is_some() {
            self.session.done();
        }
        if speaks {
            line.send(&self.session.acknowledgement()).await?;
        }
        match message {
            None => {}
            Some(FromServer::Overlays { generation }) => {
                self.wanted.send_replace(Some(generation));
            }
            Some(FromServer::UpgradeAgent { digest, size }) => {
                self.upgrade.send_replace(Some(AgentTarget { digest, size }));
            }
            Some(FromServer::Servers { fleet_servers }) => {
                self.servers.send_replace(Some(ServerList {
                    servers: fleet_servers,
                    reached: self.reached,
                }));
            }
            Some(FromServer::SendInventory {}) => {
                self.inventory.mark_changed();
                self.topology_xml.mark_changed();
            }
            Some(FromServer::SendUsage { runs }) => {
                self.runs.send(Request::Usage(runs)).await.map_err(|_| ChannelError::NoRuns)?;
            }
            Some(FromServer::OpenStream { stream, run, request }) => {
                self.open_stream(Opening { stream, run, request });
            }
            Some(FromServer::Reboot { reason }) => {
                self.farewell(line, Some(FromAgent::GoingDown { reboot: true })).await;
                return Ok(Some(ConversationEnd::Reboot { reason }));
            }
            // Dealt with above, before the acknowledgement.
            Some(
                FromServer::StartRun { .. }
                | FromServer::ReleaseRun { .. }
                | FromServer::StopRun { .. }
                | FromServer::PauseRun { .. }
                | FromServer::ResumeRun { .. }
                | FromServer::ForgetRuns { .. }
                | FromServer::RemoveVolumes { .. },
            ) => {}
            Some(FromServer::Unknown) => self.answer_unknown(line, unknown).await?,
            Some(FromServer::Welcome { .. }) => {
                return Err(ChannelError::Protocol("it welcomes twice".to_owned()));
            }
        }
        Ok(None)
    }

    /// Answers a command that this agent does not know, if the server understands the answer.
    async fn answer_unknown<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        line: &mut Line<T>,
        command: String,
    ) -> Result<(), ChannelError> {
        tracing::warn!(
            "the server sent `{command}`, which this agent doesn't know: it did nothing"
        );
        self.send_if_supported(line, FromAgent::Unsupported { command }).await
    }

    /// Says something that a server of an earlier release goes without.
    async fn send_if_supported<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        line: &mut Line<T>,
        message: FromAgent,
    ) -> Result<(), ChannelError> {
        match self.session.send(message) {
            Ok(frame) => line.send(&frame).await,
            Err(SendError::NotOffered(_)) => Ok(()),
            Err(error @ SendError::Full) => Err(error.into()),
        }
    }

    /// The channel waits for nobody: of a stream that finds no room the user is told that this
    /// node did not dial.
    fn open_stream(&self, opening: Opening) {
        let stream = opening.stream;
        if self.streams.try_send(opening).is_err() {
            tracing::warn!(%stream, "too many streams are being opened");
        }
    }

    async fn send_message<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        line: &mut Line<T>,
        message: FromAgent,
    ) -> Result<(), ChannelError> {
        let frame = self.session.send(message)?;
        line.send(&frame).await
    }

    /// Says a last word, waits until the server has it, and closes. Never longer than
    /// [`FAREWELL_DEADLINE`]; a server that does not hear it finds out by the missing heartbeats.
    async fn farewell<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        line: &mut Line<T>,
        message: Option<FromAgent>,
    ) {
        let words = async {
            if let Some(message) = message {
                self.send_message(line, message).await?;
            }
            while !self.session.is_acknowledged() {
                // What the server wants now it will say again: the next connection
                // resumes before it.
                let Received { frame, .. } = line.receive().await?;
                self.session.acknowledge(frame.ack)?;
            }
            line.socket.close(None).await.map_err(broken)
        };
        match timeout(FAREWELL_DEADLINE, words).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("farewell: {:#}", anyhow::Error::from(error)),
            Err(_) => tracing::debug!("the server did not acknowledge the farewell"),
        }
    }

    /// Gives the session up, with what waits in it. The server does not know the new instance and
    /// so starts again, too.
    pub fn begin_new_session(&mut self, instance: String) {
        self.about.instance = instance;
        self.session = Session::default();
    }

    /// `true` if carrying on with this session can only fail again.
    #[must_use]
    pub fn needs_new_session(error: &ChannelError) -> bool {
        matches!(
            error,
            ChannelError::Session(SessionError::OtherSession { .. } | SessionError::Unnumbered)
        )
    }
}

/// What a message orders about runs.
fn order_of(message: &FromServer) -> Option<ServerRequest> {
    Some(match message {
        FromServer::StartRun { spec } => ServerRequest::Start(spec.clone()),
        FromServer::ReleaseRun { run } => ServerRequest::Release(*run),
        FromServer::StopRun { run, grace_seconds, why } => {
            ServerRequest::Stop { run: *run, grace_seconds: *grace_seconds, why: why.clone() }
        }
        FromServer::PauseRun { run } => ServerRequest::Pause { run: *run, paused: true },
        FromServer::ResumeRun { run } => ServerRequest::Pause { run: *run, paused: false },
        FromServer::ForgetRuns { runs } => ServerRequest::Forget(runs.clone()),
        FromServer::RemoveVolumes { workflow } => ServerRequest::RemoveVolumes(*workflow),
        _ => return None,
    })
}

/// The messages that tell all runs; at least one.
fn list_of(Listed { reports, paused, mut volumes }: Listed) -> Vec<FromAgent> {
    let last = reports.len().div_ceil(MAX_RUNS_PER_MESSAGE).max(1);
    let mut reports = reports.into_iter();
    (1..=last)
        .map(|number| {
            let runs: Vec<RunReport> = reports.by_ref().take(MAX_RUNS_PER_MESSAGE).collect();
            let is_told = |run: &&RunId| runs.iter().any(|report| report.run == **run);
            let paused = paused.iter().filter(is_told).copied().collect();
            let complete = number == last;
            let volumes = if complete { std::mem::take(&mut volumes) } else { Vec::new() };
            FromAgent::Runs { runs, paused, volumes, complete }
        })
        .collect()
}

#[cfg(test)]
#[path = "conversation/tests.rs"]
mod tests;
