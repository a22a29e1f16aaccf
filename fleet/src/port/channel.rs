//! One connected agent: its WebSocket, from hello to the end. Protocol: [`api::channel`]; numbers:
//! [`api::channel::session`]; what outlives the connection: `link.rs`.

mod greeting;
mod reports;

use std::{sync::Arc, time::Duration};

use api::{
    channel::{Agreement, Frame, FromAgent, FromServer, MAX_MESSAGE_BYTES, Offer, kind_of_message},
    ids::NodeId,
    overlay::Generation,
    status::Severity,
};
use axum::{
    Extension,
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    response::Response,
};
use rest::shell::{Client, ReadGate};
use tokio::{
    sync::{OwnedMutexGuard, mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{NodeIdentity, Port, hello::MAX_HELLO_BYTES};
use crate::{
    Fleet, FleetError,
    connection::{Connection, MAX_OUTGOING, Outgoing},
    lifecycle::{AgentInstance, Event},
};

/// Time for an older connection of the same node to end what it is dealing with: less than the 15 s
/// for which an agent waits to be welcomed.
const TURN_TIMEOUT: Duration = Duration::from_secs(12);

/// Time for one frame to be taken by the operating system; a peer that reads nothing for so
/// long is dropped.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for the answer to a ping, when the machine seems to be at its firmware again.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for the closing words.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest version of an agent or an image that is taken from a hello, characters: it is
/// kept and shown.
const MAX_NAME_CHARS: usize = 200;

/// Longest reason in a close frame, bytes (RFC 6455, section 5.5: 125 with the code).
const MAX_REASON_BYTES: usize = 120;

/// Bytes that a connection reads at once; each connected agent holds a buffer of it. Nearly all
/// frames are shorter, and a longer one takes more reads.
const READ_BUFFER_BYTES: usize = 8 << 10;

/// `GET /node/v1/channel`.
pub(super) async fn upgrade(
    State(port): State<Arc<Port>>,
    Extension(node): Extension<NodeIdentity>,
    Extension(client): Extension<Client>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let gate = client.read_at_most(MAX_HELLO_BYTES);
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .on_upgrade(move |socket| run(port, node, gate, socket))
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) struct DisconnectReason {
    /// RFC 6455, section 7.4; `None` where nobody is there to be told.
    code: Option<u16>,
    why: String,
}

impl DisconnectReason {
    pub(super) fn protocol(why: impl Into<String>) -> Self {
        Self { code: Some(close_code::PROTOCOL), why: why.into() }
    }

    fn broken(why: impl Into<String>) -> Self {
        Self { code: None, why: why.into() }
    }
}

impl From<FleetError> for DisconnectReason {
    fn from(error: FleetError) -> Self {
        Self { code: Some(close_code::ERROR), why: error.to_string() }
    }
}

/// The hello, taken apart.
#[derive(Debug)]
struct Hello {
    ack: u64,
    agreement: Agreement,
    agent: AgentInstance,
    version: String,
    image: String,
    overlays: Option<Generation>,
}

/// A connection that has its turn.
struct Channel {
    port: Arc<Port>,
    node: NodeIdentity,
    socket: WebSocket,
    outgoing: mpsc::Receiver<Outgoing>,
    closing: watch::Receiver<Option<String>>,
    /// Silence ends the connection.
    deadline: Instant,
    patience: Duration,
    /// An unknown message of this connection is in the node's history already.
    unknown_recorded: bool,
    _turn: OwnedMutexGuard<()>,
}

async fn run(port: Arc<Port>, node: NodeIdentity, gate: ReadGate, mut socket: WebSocket) {
    let name = node.name.clone();
    let end = match hello(&port, &node, &gate, &mut socket).await {
        Ok(hello) => {
            drop(gate);
            match attach(port.clone(), node.clone(), socket, hello).await {
                Ok((mut channel, greeting)) => {
                    let end = channel.converse(greeting).await;
                    socket = channel.detach(&end);
                    end
                }
                Err((back, end)) => {
                    socket = back;
                    end
                }
            }
        }
        Err(end) => end,
    };
    tracing::info!(node = %name, "channel closed: {}", end.why);
    if let Some(code) = end.code {
        let mut cut = end.why.len().min(MAX_REASON_BYTES);
        while !end.why.is_char_boundary(cut) {
            cut -= 1;
        }
        let close = CloseFrame { code, reason: end.why[..cut].into() };
        // The peer may be gone already.
        let _ = timeout(CLOSE_TIMEOUT, async {
            let _ = socket.send(Message::Close(Some(close))).await;
            while let Some(Ok(_)) = socket.recv().await {}
        })
        .await;
    }
}

async fn hello(
    port: &Port,
    node: &NodeIdentity,
    gate: &ReadGate,
    socket: &mut WebSocket,
) -> Result<Hello, DisconnectReason> {
    let fleet = &port.fleet;
    let first = port.hellos.receive(node.id, gate, socket).await?;
    let frame = match &first.message {
        Some(Ok(Message::Text(text))) => parse(text)?,
        Some(Ok(_)) => return Err(DisconnectReason::protocol("the first message is no text")),
        Some(Err(error)) => return Err(DisconnectReason::broken(error.to_string())),
        None => return Err(DisconnectReason::broken("gone before its hello")),
    };
    let Frame {
        seq: 0,
        ack,
        message: Some(FromAgent::Hello { offer, agent_version, boot_id, instance, image, overlays }),
    } = frame
    else {
        return Err(DisconnectReason::protocol("the first frame must be a hello with number 0"));
    };
    let agreement = match Offer::ours().agree(&offer) {
        Ok(agreement) => agreement,
        Err(error) => {
            let why = format!("agent {agent_version} and this server have {error}");
            let mend = "boot the node from an image of this server, or upgrade the server";
            // Without it an admin would see a node that is missing, and not why.
            let message = format!("{why}; {mend}");
            let ((), ticket) =
                fleet.change(node.id, |change| change.record(Severity::Warning, &message))?;
            fleet.durable(ticket).await?;
            return Err(DisconnectReason::protocol(why));
        }
    };
    let agent = AgentInstance { boot_id, instance };
    let [version, image] =
        [agent_version, image].map(|text| text.chars().take(MAX_NAME_CHARS).collect());
    Ok(Hello { ack, agreement, agent, version, image, overlays })
}

fn parse(text: &str) -> Result<Frame<FromAgent>, DisconnectReason> {
    serde_json::from_str(text).map_err(|error| {
        DisconnectReason::protocol(format!("not a frame of the protocol: {error}"))
    })
}

/// Takes the node's one place: an older connection is told to end, and this one waits until it has.
async fn attach(
    port: Arc<Port>,
    node: NodeIdentity,
    socket: WebSocket,
    hello: Hello,
) -> Result<(Channel, Vec<Frame<FromServer>>), (WebSocket, DisconnectReason)> {
    let turn = match replace_older_connection(&port.fleet, node.id).await {
        Ok(turn) => turn,
        Err(end) => return Err((socket, end)),
    };
    let (to_socket, outgoing) = mpsc::channel(MAX_OUTGOING);
    let (closing_sender, closing) = watch::channel(None);
    let connection = Connection {
        epoch: node.epoch,
        outgoing: to_socket,
        closing: closing_sender,
        applied: hello.overlays,
        told: None,
        tell_again: None,
    };
    match greeting::greet(&port.fleet, &node, &hello, connection) {
        Ok(greeting) => {
            let patience = Duration::from_secs(port.fleet.config().grace_seconds().into());
            let deadline = tokio_now() + patience;
            let channel = Channel {
                port,
                node,
                socket,
                outgoing,
                closing,
                deadline,
                patience,
                unknown_recorded: false,
                _turn: turn,
            };
            Ok((channel, greeting))
        }
        Err(end) => Err((socket, end)),
    }
}

/// Ends an older connection of the node, and waits until it has dealt with what it received.
async fn replace_older_connection(
    fleet: &Fleet,
    id: NodeId,
) -> Result<OwnedMutexGuard<()>, DisconnectReason> {
    let turn = fleet.link(id, |link| {
        link.close("replaced by a newer connection of this node");
        link.turn.clone()
    })?;
    let busy = || DisconnectReason {
        code: Some(close_code::AGAIN),
        why: "an older connection is still busy".into(),
    };
    timeout(TURN_TIMEOUT, turn.lock_owned()).await.map_err(|_| busy())
}

impl Channel {
    /// Greets, then carries messages both ways until something ends it.
    async fn converse(&mut self, greeting: Vec<Frame<FromServer>>) -> DisconnectReason {
        match self.exchange(greeting).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn exchange(
        &mut self,
        greeting: Vec<Frame<FromServer>>,
    ) -> Result<std::convert::Infallible, DisconnectReason> {
        for frame in greeting {
            self.send(frame).await?;
        }
        self.port.fleet.came_online(self.node.id);
        let shutdown = self.port.shutdown.clone();
        loop {
            tokio::select! {
                closing = closed(&mut self.closing) => {
                    return Err(DisconnectReason { code: Some(close_code::POLICY), why: closing });
                }
                () = shutdown.cancelled() => {
                    let why = "the server is stopping".into();
                    return Err(DisconnectReason { code: Some(close_code::RESTART), why });
                }
                out = self.outgoing.recv() => match out {
                    Some(Outgoing::Frame(frame)) => self.send(frame).await?,
                    Some(Outgoing::Probe) => self.probe().await?,
                    None => return Err(DisconnectReason::broken("the node was deleted")),
                },
                message = self.socket.recv() => self.handle_message(message).await?,
                () = sleep_until(self.deadline) => {
                    return Err(DisconnectReason::broken("no sign of life"));
                }
            }
        }
    }

    async fn send(&mut self, mut frame: Frame<FromServer>) -> Result<(), DisconnectReason> {
        frame.ack = self.port.fleet.read(self.node.id, |entry| entry.link.received())?;
        let text = serde_json::to_string(&frame)
            .map_err(|error| DisconnectReason::protocol(error.to_string()))?;
        self.transmit(Message::Text(text.into())).await
    }

    async fn transmit(&mut self, message: Message) -> Result<(), DisconnectReason> {
        match timeout(SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(sent) => sent.map_err(|error| DisconnectReason::broken(error.to_string())),
            Err(_) => Err(DisconnectReason::broken("the agent takes nothing")),
        }
    }

    /// Asks for a sign of life and waits only shortly for it.
    async fn probe(&mut self) -> Result<(), DisconnectReason> {
        self.transmit(Message::Ping(Vec::new().into())).await?;
        self.deadline = self.deadline.min(tokio_now() + PROBE_TIMEOUT);
        Ok(())
    }

    async fn handle_message(
        &mut self,
        message: Option<Result<Message, axum::Error>>,
    ) -> Result<(), DisconnectReason> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(DisconnectReason::broken(error.to_string())),
            None => return Err(DisconnectReason::broken("the connection ended")),
        };
        self.deadline = tokio_now() + self.patience;
        match message {
            Message::Text(text) => {
                let frame = parse(&text)?;
                let is_unknown = frame.message == Some(FromAgent::Unknown);
                let kind = if is_unknown { kind_of_message(&text) } else { String::new() };
                self.frame(frame, &kind).await
            }
            Message::Binary(_) => {
                Err(DisconnectReason::protocol("binary messages are not part of the protocol"))
            }
            Message::Close(_) => Err(DisconnectReason::broken("the agent closed it")),
            Message::Ping(_) | Message::Pong(_) => {
                self.port.fleet.received(self.node.id, |_| ())?;
                Ok(())
            }
        }
    }

    /// Gives up the node's place. Returns the socket for the closing words.
    fn detach(self, end: &DisconnectReason) -> WebSocket {
        // A node that was deleted has no place.
        let _ = self.port.fleet.change(self.node.id, |change| {
            change.entry.link.disconnect();
            change.apply_event(Event::Disconnected { why: end.why.clone() });
        });
        self.socket
    }
}

/// Tokio's clock, for deadlines only.
fn tokio_now() -> Instant {
    Instant::now()
}

/// Waits for the reason to end; for ever if nobody can give one any more.
async fn closed(closing: &mut watch::Receiver<Option<String>>) -> String {
    if let Ok(reason) = closing.wait_for(Option::is_some).await
        && let Some(reason) = reason.clone()
    {
        return reason;
    }
    std::future::pending().await
}
