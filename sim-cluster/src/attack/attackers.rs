//! Those who mean harm, each from one address or as one user, for as long as the tasks live.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use api::{
    access::{CreateToken, User},
    ids::MacAddr,
};
use client::Client;
use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream, UdpSocket},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    chance,
    network::{self, SERVER},
    pxe::{
        dhcp::{DhcpClientKind, Firmware},
        exchange::Exchange,
    },
    server::{API_PORT, Server},
    site::Site,
};

/// The machine whose address they have.
const ATTACKER: u32 = 7;

const FLEET_PORT: u16 = 9443;
const TFTP_PORT: u16 = 69;

/// Connections to each port.
const CONNECTIONS: usize = 400;

/// Between two tries of one connection that was ended or refused.
const AGAIN: Duration = Duration::from_millis(50);

/// Between two bytes of a head that never ends.
const TRICKLE: Duration = Duration::from_secs(1);

/// Datagrams of one flood, and the pause after them: ten thousand in a second at most.
const BURST: usize = 50;
const BURST_PAUSE: Duration = Duration::from_millis(5);

/// Half-open transfers at a time: more than one address may have.
const HALF_OPEN: usize = 4_200;

/// Requests of one user at a time.
const REQUESTS: usize = 8;

/// Jobs of a document, each of them a mistake.
const JOBS: usize = 40_000;

/// When the one who asks hangs up.
const HANG_UP: Duration = Duration::from_millis(200);

/// A user who may do what users may.
const USER: &str = "mallory";

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Attack {
    /// Connections to all ports that say nothing.
    Silence,
    /// Heads of requests that never end, a byte in a second.
    HalfHeads,
    /// Answers of the boot port that nobody reads.
    Unread,
    /// TFTP requests that nobody answers.
    TftpHalfOpen,
    /// DISCOVERs of machines that nobody knows.
    DhcpFlood,
    /// Workflow documents full of mistakes.
    Documents,
    /// Questions about hardware, of which each client hangs up.
    Questions,
}

/// Where attacks come from.
#[derive(Debug)]
pub(super) struct AttackSources {
    address: Ipv4Addr,
    user: Client,
    exchange: Arc<Exchange>,
    seed: u64,
}

impl AttackSources {
    /// Makes the user.
    ///
    /// # Errors
    /// If the server refuses to.
    pub(super) async fn prepare(
        site: &Site,
        exchange: Arc<Exchange>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let user = User { name: USER.to_owned(), admin: false, account: None, comment: None };
        site.client.add_user(&user).await.context("adding the attacker's user")?;
        let create = CreateToken {
            name: USER.to_owned(),
            user: Some(USER.to_owned()),
            ..CreateToken::default()
        };
        let token = site.client.create_token(&create).await?.token;
        let user = site.server.client_with(token)?;
        Ok(Self { address: network::address(ATTACKER), user, exchange, seed })
    }
}

impl Attack {
    /// All of them.
    pub(super) const ALL: [Self; 7] = [
        Self::Silence,
        Self::HalfHeads,
        Self::Unread,
        Self::TftpHalfOpen,
        Self::DhcpFlood,
        Self::Documents,
        Self::Questions,
    ];

    /// As it is told.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Silence => "silent connections",
            Self::HalfHeads => "heads that never end",
            Self::Unread => "answers that nobody reads",
            Self::TftpHalfOpen => "half-open TFTP",
            Self::DhcpFlood => "a flood of DISCOVER",
            Self::Documents => "documents full of mistakes",
            Self::Questions => "questions of clients that hang up",
        }
    }

    /// Begins; it ends with the tasks.
    pub(super) fn begin(self, ground: &AttackSources) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let boot = Server::boot_address();
        let ports = [boot, (SERVER, FLEET_PORT).into(), (SERVER, API_PORT).into()];
        let from = ground.address;
        match self {
            Self::Silence => {
                for port in ports.repeat(CONNECTIONS) {
                    tasks.spawn(again_and_again(from, port, move |stream| hold(stream, b"")));
                }
            }
            Self::HalfHeads => {
                for _ in 0..CONNECTIONS {
                    let head = b"GET /boot/52-54-00-77-00-11/script HTTP/1.1\r\nHost: x\r\nX-a: ";
                    tasks.spawn(again_and_again(from, boot, move |stream| hold(stream, head)));
                }
            }
            Self::Unread => {
                for _ in 0..CONNECTIONS {
                    tasks.spawn(again_and_again(from, boot, unread));
                }
            }
            Self::TftpHalfOpen => drop(tasks.spawn(half_open_tftp(from))),
            Self::DhcpFlood => {
                tasks.spawn(discovers(ground.exchange.clone(), chance(ground.seed, ATTACKER)));
            }
            Self::Documents => {
                let jobs: String = (0..JOBS).map(|job| format!("  j{job}: {{x: 1}}\n")).collect();
                let document = format!("version: v1\njobs:\n{jobs}");
                for _ in 0..REQUESTS {
                    let (user, document) = (ground.user.clone(), document.clone());
                    tasks.spawn(async move {
                        loop {
                            // That it is refused now and then is as it should be.
                            let _ = user.validate_workflow(document.clone()).await;
                        }
                    });
                }
            }
            Self::Questions => {
                for _ in 0..REQUESTS {
                    let (user, question) = (ground.user.clone(), question());
                    tasks.spawn(async move {
                        loop {
                            let asked = user.query_inventory(Some(&question), None, None, None);
                            let _ = timeout(HANG_UP, asked).await;
                        }
                    });
                }
            }
        }
        tasks
    }
}

/// A loop in a loop, with an expression that goes back and forth.
fn question() -> String {
    let list = format!("[{}]", vec!["1"; 150].join(","));
    format!(r#"{list}.all(a, {list}.all(b, !name.matches("(\\pL{{40}}){{5}}z")))"#)
}

/// Connects, does something with the connection until it is ended, and connects again.
async fn again_and_again<F>(from: Ipv4Addr, port: SocketAddr, misuse: impl Fn(TcpStream) -> F)
where
    F: Future<Output = std::io::Result<()>>,
{
    loop {
        if let Ok(stream) = connect(from, port).await {
            // It ends when the server ends it.
            let _ = misuse(stream).await;
        }
        sleep(AGAIN).await;
    }
}

async fn connect(from: Ipv4Addr, port: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(port).await
}

/// Says this much and, if it was something, a byte now and then.
async fn hold(mut stream: TcpStream, said: &[u8]) -> std::io::Result<()> {
    stream.write_all(said).await?;
    let mut answer = [0; 1];
    loop {
        match timeout(TRICKLE, stream.read(&mut answer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            // It was told something, and reads on.
            Ok(Ok(_)) => {}
            Err(_) if said.is_empty() => {}
            Err(_) => stream.write_all(b"a").await?,
        }
    }
}

/// Asks for a file again and again, and reads nothing.
async fn unread(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        stream.write_all(b"GET /boot/52-54-01-00-00-01/script HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        sleep(Duration::from_millis(1)).await;
    }
}

/// Requests from one socket after the other; what comes is never received.
async fn half_open_tftp(from: Ipv4Addr) {
    // A socket that is closed tells the server so (ICMP).
    let mut held = VecDeque::new();
    loop {
        for _ in 0..BURST {
            let Ok(socket) = UdpSocket::bind((from, 0)).await else { continue };
            let request = b"\0\x01undionly.kpxe\0octet\0timeout\x0030\0";
            let _ = socket.send_to(request, (SERVER, TFTP_PORT)).await;
            held.push_back(socket);
        }
        held.drain(..held.len().saturating_sub(HALF_OPEN));
        sleep(BURST_PAUSE).await;
    }
}

async fn discovers(exchange: Arc<Exchange>, mut dice: Rng) {
    loop {
        for _ in 0..BURST {
            let [_, _, a, b] = dice.u32(..).to_be_bytes();
            let speaker = DhcpClientKind {
                mac: MacAddr([2, 0, 0, 0, a, b]),
                firmware: Firmware::Bios,
                ipxe: false,
                broadcast: true,
            };
            if let Ok(packet) = speaker.discover(dice.u32(..), 0) {
                let _ = exchange.send(&packet).await;
            }
        }
        sleep(BURST_PAUSE).await;
    }
}
