//! The agent's side against a server that is played by the test, over plain streams, with the
//! clock of the test.

use api::{
    channel::{Agreement, MAX_PROTOCOL},
    ids::Timestamp,
    inventory::PciDevice,
    run::{RunId, RunState, VolumeUse, WorkflowId},
};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{io::DuplexStream, task::JoinHandle, time::Instant};
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

use super::*;

const HEARTBEAT: Duration = Duration::from_secs(10);

const REACHED: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 9443);

/// The agent and what it is connected to.
struct Rig {
    /// `None` while it converses.
    channel: Option<Channel>,
    inventory: watch::Sender<Option<Arc<Inventory>>>,
    topology_xml: watch::Sender<Option<Arc<str>>>,
    outbox: mpsc::Sender<FromAgent>,
    stop: watch::Sender<Option<Stop>>,
    wanted: watch::Receiver<Option<Generation>>,
    servers: watch::Receiver<Option<ServerList>>,
    orders: mpsc::Receiver<ServerRequest>,
    held: watch::Sender<Vec<RunReport>>,
    openings: mpsc::Receiver<Opening>,
    _applied: watch::Sender<Option<Generation>>,
}

impl Rig {
    fn new() -> Self {
        let (inventory, inventory_out) = watch::channel(None);
        let (topology_xml, topology_xml_out) = watch::channel(None);
        let (outbox, outbox_out) = mpsc::channel(4);
        let (stop, stop_out) = watch::channel(None);
        let (wanted, wanted_out) = watch::channel(None);
        let (servers, servers_out) = watch::channel(None);
        let (applied, applied_out) = watch::channel(None);
        let (runs, orders, held) = supervisor();
        let (streams, openings) = mpsc::channel(1);
        let channel = Channel {
            about: HelloFacts {
                agent_version: "1".into(),
                boot_id: "boot".into(),
                instance: "instance".into(),
                image: "debian-node@2".into(),
            },
            inventory: inventory_out,
            topology_xml: topology_xml_out,
            outbox: outbox_out,
            stop: stop_out,
            wanted,
            upgrade: watch::Sender::new(None),
            servers,
            reached: Some(REACHED),
            applied: applied_out,
            runs,
            streams,
            uptime: || 42,
            volumes: watch::channel(VolumeUse::default()).1,
            session: Session::default(),
        };
        Self {
            channel: Some(channel),
            inventory,
            topology_xml,
            outbox,
            stop,
            wanted: wanted_out,
            servers: servers_out,
            orders,
            held,
            openings,
            _applied: applied,
        }
    }

    /// A new connection, hello heard.
    async fn connect(&mut self) -> (Server, Frame<FromAgent>) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let mut channel = self.channel.take().unwrap();
        let agent = tokio::spawn(async move {
            let end = channel.converse(socket, || ()).await;
            (channel, end)
        });
        let mut server = Server {
            socket: WebSocketStream::from_raw_socket(theirs, Role::Server, None).await,
            agent,
        };
        let hello = server.hear().await;
        (server, hello)
    }

    /// A new connection, greeted with this `ack`.
    async fn greeted(&mut self, ack: u64, resumed: bool) -> Server {
        let (mut server, _) = self.connect().await;
        server.say(0, ack, Some(welcome(resumed))).await;
        server
    }

    async fn ended(&mut self, server: Server) -> Result<ConversationEnd, ChannelError> {
        let Server { socket, agent } = server;
        drop(socket);
        let (channel, end) = agent.await.unwrap();
        self.channel = Some(channel);
        end
    }
}

/// Plays the keeper of the runs: what is ordered comes out, what is held goes in.
fn supervisor()
-> (mpsc::Sender<Request>, mpsc::Receiver<ServerRequest>, watch::Sender<Vec<RunReport>>) {
    let (runs, mut requests) = mpsc::channel(1);
    let (ordered, orders) = mpsc::channel(16);
    let (held, holds) = watch::channel(Vec::new());
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            match request {
                Request::ServerRequest(order, done) => {
                    ordered.send(order).await.unwrap();
                    done.send(()).unwrap();
                }
                Request::List(list) => {
                    let listed = Listed { reports: holds.borrow().clone(), ..Listed::default() };
                    list.send(listed).unwrap();
                }
                Request::Usage(runs) => panic!("{runs:?}"),
            }
        }
    });
    (runs, orders, held)
}

struct Server {
    socket: WebSocketStream<DuplexStream>,
    agent: JoinHandle<(Channel, Result<ConversationEnd, ChannelError>)>,
}

impl Server {
    async fn hear(&mut self) -> Frame<FromAgent> {
        let message =
            timeout(HEARTBEAT * 2, self.socket.next()).await.expect("the agent is silent");
        serde_json::from_str(message.unwrap().unwrap().to_text().unwrap()).unwrap()
    }

    /// Nothing comes for a while that is shorter than a heartbeat.
    async fn hear_nothing(&mut self) {
        let heard = timeout(HEARTBEAT / 2, self.socket.next()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    async fn say(&mut self, seq: u64, ack: u64, message: Option<FromServer>) {
        let text = serde_json::to_string(&Frame { seq, ack, message }).unwrap();
        self.socket.send(Message::text(text)).await.unwrap();
    }

    async fn closed(&mut self) {
        let message =
            timeout(HEARTBEAT, self.socket.next()).await.expect("the agent does not close");
        assert!(matches!(message, Some(Ok(Message::Close(_)))), "{message:?}");
    }
}

fn welcome(resumed: bool) -> FromServer {
    welcome_with(MAX_PROTOCOL, Capabilities::all(), resumed)
}

fn welcome_with(protocol: u32, capabilities: Capabilities, resumed: bool) -> FromServer {
    let agreement = Agreement { protocol, capabilities };
    FromServer::Welcome { agreement, server_time: Timestamp(0), heartbeat_seconds: 10, resumed }
}

fn machine(name: &str) -> Arc<Inventory> {
    let device = PciDevice {
        address: name.into(),
        class: "020000".into(),
        vendor: "8086".into(),
        device: "100e".into(),
        ..PciDevice::default()
    };
    Arc::new(Inventory { pci: vec![device], ..Inventory::default() })
}

fn inventory(seq: u64, ack: u64, name: &str) -> Frame<FromAgent> {
    let inventory = Box::new((*machine(name)).clone());
    Frame { seq, ack, message: Some(FromAgent::Inventory { inventory }) }
}

fn heartbeat(seq: u64) -> Frame<FromAgent> {
    Frame { seq, ack: 0, message: Some(FromAgent::Heartbeat { uptime_seconds: 42, volumes: None }) }
}

/// A new session without runs begins with this.
fn no_runs(seq: u64, ack: u64) -> Frame<FromAgent> {
    Frame {
        seq,
        ack,
        message: Some(FromAgent::Runs {
            runs: Vec::new(),
            paused: Vec::new(),
            volumes: Vec::new(),
            complete: true,
        }),
    }
}

fn acknowledgement(ack: u64) -> Frame<FromAgent> {
    Frame { seq: 0, ack, message: None }
}

fn generation(byte: u8) -> Generation {
    Generation { digest: api::ids::Digest([byte; 32]), size: byte.into() }
}

#[tokio::test(start_paused = true)]
async fn a_hello_then_the_inventory_then_heartbeats() {
    let mut rig = Rig::new();
    let (mut server, hello) = rig.connect().await;
    expect_test::expect![[r#"{"seq":0,"ack":0,"message":{"type":"hello","protocol":1,"min":1,"max":2,"capabilities":["unsupported","server-addresses","run-news","attempts","ready"],"agent-version":"1","boot-id":"boot","instance":"instance","image":"debian-node@2","overlays":null}}"#]]
        .assert_eq(&serde_json::to_string(&hello).unwrap());
    server.say(0, 0, Some(welcome(false))).await;
    assert_eq!(server.hear().await, no_runs(1, 0));
    // The inventory takes its time.
    server.hear_nothing().await;
    rig.inventory.send_replace(Some(machine("a")));
    assert_eq!(server.hear().await, inventory(2, 0, "a"));
    server.say(0, 2, None).await;
    assert_eq!(server.hear().await, heartbeat(3));
    server.say(0, 3, None).await;
    rig.inventory.send_replace(Some(machine("b")));
    assert_eq!(server.hear().await, inventory(4, 0, "b"));
    server.say(0, 4, None).await;
    rig.topology_xml.send_replace(Some("<topology/>".into()));
    let topology = FromAgent::Topology { xml: "<topology/>".to_owned() };
    assert_eq!(server.hear().await, Frame { seq: 5, ack: 0, message: Some(topology) });
    server.say(0, 5, None).await;
    server.hear_nothing().await;
    assert!(matches!(
        rig.ended(server).await,
        Err(ChannelError::Closed(_) | ChannelError::Socket(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn where_the_servers_are_is_passed_on_and_acknowledged() {
    let mut rig = Rig::new();
    let mut server = rig.greeted(0, false).await;
    assert_eq!(server.hear().await, no_runs(1, 0));
    let fleet_servers = vec!["10.0.0.2:9443".parse().unwrap(), REACHED];
    server.say(1, 1, Some(FromServer::Servers { fleet_servers: fleet_servers.clone() })).await;
    assert_eq!(server.hear().await, acknowledgement(1));
    let told = rig.servers.wait_for(Option::is_some).await.unwrap().clone();
    assert_eq!(told, Some(ServerList { servers: fleet_servers, reached: Some(REACHED) }));
    let _ended = rig.ended(server).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_cut_only_what_was_not_heard_comes_again() {
    let mut rig = Rig::new();
    rig.inventory.send_replace(Some(machine("a")));
    let mut server = rig.greeted(0, false).await;
    assert_eq!(server.hear().await, no_runs(1, 0));
    assert_eq!(server.hear().await, inventory(2, 0, "a"));
    server.say(1, 2, Some(FromServer::Overlays { generation: generation(7) })).await;
    assert_eq!(server.hear().await, acknowledgement(1));
    assert_eq!(*rig.wanted.borrow_and_update(), Some(generation(7)));
    let applied = FromAgent::OverlaysApplied {
        generation: generation(7),
        written: 1,
        removed: 0,
        error: None,
    };
    rig.outbox.send(applied.clone()).await.unwrap();
    assert_eq!(server.hear().await.seq, 3);
    rig.ended(server).await.unwrap_err();

    // It was lost on the way. The server sends its first message again, too: nothing happens twice.
    let (mut server, hello) = rig.connect().await;
    assert_eq!(hello.ack, 1);
    server.say(0, 2, Some(welcome(true))).await;
    assert_eq!(server.hear().await, Frame { seq: 3, ack: 1, message: Some(applied) });
    server.say(1, 3, Some(FromServer::Overlays { generation: generation(7) })).await;
    assert_eq!(server.hear().await, acknowledgement(1));
    assert!(!rig.wanted.has_changed().unwrap());
    server.hear_nothing().await;
    rig.ended(server).await.unwrap_err();
    assert!(rig.channel.unwrap().session.is_acknowledged());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_knows_nothing_gets_everything_from_one() {
    let mut rig = Rig::new();
    rig.inventory.send_replace(Some(machine("a")));
    let mut server = rig.greeted(0, false).await;
    assert_eq!(server.hear().await, no_runs(1, 0));
    assert_eq!(server.hear().await, inventory(2, 0, "a"));
    let applied = FromAgent::OverlaysApplied {
        generation: generation(7),
        written: 1,
        removed: 0,
        error: None,
    };
    rig.outbox.send(applied.clone()).await.unwrap();
    assert_eq!(server.hear().await.seq, 3);
    rig.ended(server).await.unwrap_err();

    let mut server = rig.greeted(0, false).await;
    assert_eq!(server.hear().await, Frame { seq: 1, ack: 0, message: Some(applied) });
    assert_eq!(server.hear().await, no_runs(2, 0));
    assert_eq!(server.hear().await, inventory(3, 0, "a"));
    server.say(1, 3, Some(FromServer::SendInventory {})).await;
    assert_eq!(server.hear().await, acknowledgement(1));
    assert_eq!(server.hear().await, inventory(4, 1, "a"));
}

#[tokio::test(start_paused = true)]
async fn orders_about_runs_are_acknowledged_when_they_are_dealt_with() {
    let mut rig = Rig::new();
    let mut server = rig.greeted(0, false).await;
    assert_eq!(server.hear().await, no_runs(1, 0));
    let (run, workflow) = (RunId(uuid::Uuid::from_u128(1)), WorkflowId(uuid::Uuid::from_u128(2)));
    let orders = [
        FromServer::StopRun { run, grace_seconds: 3, why: "w".into() },
        FromServer::ForgetRuns { runs: vec![run] },
        FromServer::RemoveVolumes { workflow },
    ];
    for (seq, order) in (1..).zip(orders) {
        server.say(seq, 1, Some(order.clone())).await;
        assert_eq!(server.hear().await, acknowledgement(seq));
        assert_eq!(rig.orders.try_recv().ok(), order_of(&order));
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_session_begins_with_all_runs_and_no_older_word_follows() {
    let mut rig = Rig::new();
    let report = |number: u128| RunReport {
        run: RunId(uuid::Uuid::from_u128(number)),
        state: RunState::Preparing {},
    };
    rig.held.send_replace((0..1_100).map(report).collect());
    // Waits from before.
    rig.outbox.send(FromAgent::Run { report: report(1) }).await.unwrap();
    let mut server = rig.greeted(0, false).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        match server.hear().await.message {
            Some(FromAgent::Runs { runs, complete, .. }) => told.push((runs.len(), complete)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, [(512, false), (512, false), (76, true)]);
    rig.outbox.send(FromAgent::Run { report: report(2) }).await.unwrap();
    assert_eq!(server.hear().await.message, Some(FromAgent::Run { report: report(2) }));
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left() {
    let mut rig = Rig::new();
    let server = rig.greeted(0, false).await;
    let before = Instant::now();
    let Server { socket, agent } = server;
    let (channel, end) = agent.await.unwrap();
    assert!(matches!(end, Err(ChannelError::Silent(30))), "{end:?}");
    assert_eq!(before.elapsed().as_secs(), 30);
    assert!(!Channel::needs_new_session(&end.unwrap_err()));
    // What it said in vain waits for the next connection.
    assert!((3..=4).contains(&channel.session.unacknowledged().count()));
    drop(socket);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_welcome_is_left() {
    let mut rig = Rig::new();
    let (server, _) = rig.connect().await;
    let (_, end) = server.agent.await.unwrap();
    assert!(matches!(end, Err(ChannelError::Silent(15))), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reboot_is_announced_before_it_is_made() {
    let mut rig = Rig::new();
    let mut server = rig.greeted(0, false).await;
    assert_eq!(server.hear().await, no_runs(1, 0));
    server.say(1, 1, Some(FromServer::Reboot { reason: "admin".into() })).await;
    assert_eq!(server.hear().await, acknowledgement(1));
    let goodbye = Frame { seq: 2, ack: 1, message: Some(FromAgent::GoingDown { reboot: true }) };
    assert_eq!(server.hear().await, goodbye);
    server.say(0, 2, None).await;
    server.closed().await;
    assert_eq!(
        rig.ended(server).await.unwrap(),
        ConversationEnd::Reboot { reason: "admin".into() }
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_announced_and_does_not_wait_for_a_dead_server() {
    for going_down in [Some(true), Some(false), None] {
        let mut rig = Rig::new();
        let mut server = rig.greeted(0, false).await;
        assert_eq!(server.hear().await, no_runs(1, 0));
        server.say(0, 1, None).await;
        server.hear_nothing().await;
        let before = Instant::now();
        rig.stop.send_replace(Some(Stop { going_down, successor: false }));
        if let Some(reboot) = going_down {
            assert_eq!(server.hear().await.message, Some(FromAgent::GoingDown { reboot }));
        } else {
            server.closed().await;
        }
        // The server says no word more.
        let (_, end) = (&mut server.agent).await.unwrap();
        assert_eq!(end.unwrap(), ConversationEnd::Stopped);
        let limit = if going_down.is_some() { FAREWELL_DEADLINE } else { Duration::ZERO };
        assert_eq!(before.elapsed().as_secs(), limit.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn what_breaks_the_protocol_ends_the_conversation() {
    let cases: [(u64, u64, FromServer, bool); 5] = [
        (1, 9, FromServer::SendInventory {}, true),
        (0, 0, FromServer::SendInventory {}, true),
        (2, 0, FromServer::SendInventory {}, false),
        (1, 0, welcome(false), false),
        (1, 0, FromServer::Overlays { generation: generation(1) }, false),
    ];
    let last = cases.len() - 1;
    for (number, (seq, ack, message, new_session)) in cases.into_iter().enumerate() {
        let mut rig = Rig::new();
        let mut server = rig.greeted(0, false).await;
        assert_eq!(server.hear().await, no_runs(1, 0));
        server.say(seq, ack, Some(message)).await;
        if number == last {
            // The control: a good message ends nothing.
            assert_eq!(server.hear().await, acknowledgement(1));
            continue;
        }
        let (_, end) = (&mut server.agent).await.unwrap();
        let error = end.unwrap_err();
        assert_eq!(Channel::needs_new_session(&error), new_session, "{error:?}");
    }

    let mut rig = Rig::new();
    let (mut server, _) = rig.connect().await;
    server.say(0, 0, Some(welcome_with(3, Capabilities::default(), false))).await;
    let (_, end) = (&mut server.agent).await.unwrap();
    assert_eq!(
        format!("{:#}", anyhow::Error::from(end.unwrap_err())),
        "cannot speak with this server; boot the node from an image of this server: no common \
         protocol version: this side speaks 1-2, the other 3-3"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unknown_command_is_acknowledged_and_answered() {
    let mut rig = Rig::new();
    let mut server = rig.greeted(0, false).await;
    assert_eq!(server.hear().await, no_runs(1, 0));
    let unknown = r#"{"seq":1,"ack":1,"message":{"type":"dance","steps":[{"a":1}]}}"#;
    server.socket.send(Message::text(unknown)).await.unwrap();
    assert_eq!(server.hear().await, acknowledgement(1));
    let answer = FromAgent::Unsupported { command: "dance".into() };
    assert_eq!(server.hear().await, Frame { seq: 2, ack: 1, message: Some(answer) });
    server.say(2, 2, Some(FromServer::Overlays { generation: generation(1) })).await;
    assert_eq!(server.hear().await, acknowledgement(2), "the session goes on");
}

#[tokio::test(start_paused = true)]
async fn a_server_of_version_1_is_greeted_as_ever_and_sent_nothing_that_it_does_not_know() {
    let mut rig = Rig::new();
    let (mut server, hello) = rig.connect().await;
    // A server of version 1 demands this number, and ignores the other fields.
    let json = serde_json::to_value(&hello).unwrap();
    assert_eq!(json["message"]["protocol"], 1);
    let welcome = serde_json::json!({"seq": 0, "ack": 0, "message": {"type": "welcome", "protocol": 1,
        "server-time": Timestamp(0), "heartbeat-seconds": 10, "resumed": false}});
    server.socket.send(Message::text(welcome.to_string())).await.unwrap();
    assert_eq!(server.hear().await, no_runs(1, 0));
    let unknown = r#"{"seq":1,"ack":1,"message":{"type":"dance"}}"#;
    server.socket.send(Message::text(unknown)).await.unwrap();
    assert_eq!(server.hear().await, acknowledgement(1));
    server.hear_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_server_may_be_of_an_older_release() {
    let mut rig = Rig::new();
    let mut server = rig.greeted(0, false).await;
    assert_eq!(server.hear().await, no_runs(1, 0));
    server
        .socket
        .send(Message::text(r#"{"seq":1,"ack":1,"message":{"type":"dance"}}"#))
        .await
        .unwrap();
    assert_eq!(server.hear().await, acknowledgement(1));
    assert!(matches!(server.hear().await.message, Some(FromAgent::Unsupported { .. })));
    assert!(rig.ended(server).await.is_err());
    let (mut older, _) = rig.connect().await;
    older.say(0, 0, Some(welcome_with(1, Capabilities::default(), false))).await;
    assert_eq!(older.hear().await, no_runs(1, 0), "and not the answer that waited");
    older.hear_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_reading_is_left() {
    let mut rig = Rig::new();
    let (ours, theirs) = tokio::io::duplex(1 << 10);
    let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
    let mut channel = rig.channel.take().unwrap();
    let agent = tokio::spawn(async move { channel.converse(socket, || ()).await });
    let mut server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
    server.next().await.unwrap().unwrap();
    let text =
        serde_json::to_string(&Frame { seq: 0, ack: 0, message: Some(welcome(false)) }).unwrap();
    server.send(Message::text(text)).await.unwrap();
    let large = Inventory { pci: vec![machine("a").pci[0].clone(); 1000], ..Inventory::default() };
    rig.inventory.send_replace(Some(Arc::new(large)));
    let end = agent.await.unwrap();
    assert!(matches!(end, Err(ChannelError::Silent(30))), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_handed_on_and_never_holds_up_the_channel() {
    let mut rig = Rig::new();
    let mut server = rig.greeted(0, false).await;
    assert_eq!(server.hear().await, no_runs(1, 0));
    let open = |number: u128| FromServer::OpenStream {
        stream: api::stream::StreamId(uuid::Uuid::from_u128(number)),
        run: RunId(uuid::Uuid::from_u128(9)),
        request: api::stream::StreamRequest::Attach { all: true },
    };
    // Nobody takes them yet: the second one finds no room.
    for number in 1..=2 {
        server.say(number, 1, Some(open(number.into()))).await;
        assert_eq!(server.hear().await, acknowledgement(number));
    }
    let opening = rig.openings.recv().await.unwrap();
    assert_eq!((opening.stream.0.as_u128(), opening.run), (1, RunId(uuid::Uuid::from_u128(9))));
    assert!(rig.openings.try_recv().is_err());
}

/// A server on a real port: takes one agent, tells it where the servers are, and is gone when
/// that was heard.
async fn serve_once(
    ca: &crate::agent::test_server::Ca,
    listener: tokio::net::TcpListener,
    fleet_servers: Vec<SocketAddr>,
) {
    let acceptor = crate::agent::test_server::acceptor(ca);
    let stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    let _hello = socket.next().await.unwrap().unwrap();
    let frames = [(0, welcome(false)), (1, FromServer::Servers { fleet_servers })];
    for (seq, message) in frames {
        let frame = Frame { seq, ack: 0, message: Some(message) };
        socket.send(Message::text(serde_json::to_string(&frame).unwrap())).await.unwrap();
    }
    while let Some(Ok(message)) = socket.next().await {
        let frame: Frame<FromAgent> = serde_json::from_str(message.to_text().unwrap()).unwrap();
        if frame.ack == 1 {
            return;
        }
    }
    panic!("the agent has not heard it");
}

#[tokio::test]
async fn a_server_that_moves_is_found_where_it_said() {
    use crate::agent::{
        keep_connected, kept_identity::KeptIdentity, server_addresses, test_server,
    };
    let ca = test_server::ca();
    let (old, at_old) = test_server::listen().await;
    let (new, at_new) = test_server::listen().await;
    let booted_with = api::enroll::AgentIdentity {
        fleet_servers: vec![at_old],
        ..test_server::identity(&ca, &ca)
    };
    let directory = tempfile::tempdir().unwrap();
    let (kept, identity) = KeptIdentity::new(directory.path().join("agent.json"), booted_with);
    let mut rig = Rig::new();
    tokio::spawn(server_addresses::save_server_list(Arc::new(kept), rig.servers.clone()));
    let agent = tokio::spawn(keep_connected(rig.channel.take().unwrap(), identity));
    let told = vec![at_old, at_new];
    let limit = Duration::from_secs(60);
    timeout(limit, serve_once(&ca, old, told.clone())).await.unwrap();
    // Nobody is at the old address any more.
    timeout(limit, serve_once(&ca, new, told)).await.unwrap();
    agent.abort();
}
