//! The shell over real sockets on loopback, with small limits.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Bytes,
    routing::{get, post},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{accept::Acceptor, *};

mod limits;
mod slow;

/// HTTP over TCP.
struct Plain;

impl Transport for Plain {
    type Io = TcpStream;

    async fn open(&self, tcp: TcpStream) -> io::Result<Opened<TcpStream>> {
        Ok(Opened { io: tcp, certificate: None })
    }
}

/// No limit that a test would meet which does not set it.
fn generous() -> Limits {
    let far = Duration::from_secs(3_600);
    let unhurried = LeastSpeed { window: far, bytes: 1 };
    Limits {
        connections: 1_000,
        unproven: 800,
        unproven_per_address: 100,
        body_bytes: 1 << 20,
        unproven_body_bytes: 1 << 20,
        deadlines: Deadlines {
            handshake: far,
            head: far,
            idle: far,
            request: far,
            body: unhurried,
            proven_body: unhurried,
            proven_stream: unhurried,
            body_room: far,
            answer: unhurried,
            proven_answer: unhurried,
            settling: Duration::ZERO,
            stale: far,
            stop: SHORT,
        },
    }
}

fn with_deadlines(change: impl FnOnce(&mut Deadlines)) -> Limits {
    let mut limits = generous();
    change(&mut limits.deadlines);
    limits
}

const SHORT: Duration = Duration::from_millis(100);

/// More than the kernel takes on its own behalf for a client that reads nothing.
const LARGE_BYTES: usize = 64 << 20;

/// A server on loopback.
struct Served {
    shell: Shell,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    waits: Arc<Waits>,
}

/// Requests of `/wait`.
struct Waits {
    /// A permit for each that has begun.
    begun: Semaphore,
    /// Lets them answer.
    go: Notify,
}

fn routes(waits: Arc<Waits>) -> Router {
    let large = Bytes::from(vec![0_u8; LARGE_BYTES]);
    Router::new()
        .route("/", get(async || "here"))
        .route("/prove", get(async |Extension(client): Extension<Client>| client.prove()))
        .route("/large", get(move || std::future::ready(large.clone())))
        .route("/wait", get(move || wait(waits.clone())))
        .route("/length", post(async |body: Bytes| body.len().to_string()))
}

async fn wait(waits: Arc<Waits>) {
    waits.begun.add_permits(1);
    waits.go.notified().await;
}

impl Served {
    async fn new(limits: Limits) -> Self {
        Self::with_door(limits, |tcp| tcp).await
    }

    async fn with_door<D: Acceptor + 'static>(
        limits: Limits,
        door: impl FnOnce(TcpListener) -> D,
    ) -> Self {
        let (shell, stop) = (Shell::new(limits), CancellationToken::new());
        let waits = Arc::new(Waits { begun: Semaphore::new(0), go: Notify::new() });
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let (door, routes) = (door(tcp), routes(waits.clone()));
        let (served, stopped) = (shell.clone(), stop.clone());
        let serving = tokio::spawn(async move {
            served.serve_door(Listener::Api, door, Plain, routes, stopped).await;
        });
        Self { shell, address, stop, serving, waits }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection that the server has let in.
    async fn silent(&self) -> TcpStream {
        let before = self.shell.open(Listener::Api);
        let connection = self.connect().await;
        while self.shell.open(Listener::Api) == before {
            tokio::task::yield_now().await;
        }
        connection
    }

    /// A connection whose request is being answered, until [`Waits::go`].
    async fn busy(&self) -> TcpStream {
        let mut connection = self.connect().await;
        connection.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        self.waits.begun.acquire().await.unwrap().forget();
        connection
    }

    /// What a good client hears, from the first try to the end of the answer.
    async fn ask(&self, path: &str) -> String {
        let mut connection = self.connect().await;
        ask_over(&mut connection, path).await
    }

    /// Waits until so many connections are open.
    async fn wait_for_open(&self, count: usize) {
        while self.shell.open(Listener::Api) != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What is counted under this name and these labels.
    fn counted(&self, sample: &str) -> u64 {
        let mut out = Exposition::new();
        self.shell.expose(&mut out);
        let text = out.finish();
        let found = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().unwrap()
    }

    fn ended(&self, cause: &str) -> u64 {
        self.counted(&format!(
            r#"bedplate_connections_ended_total{{listener="api",cause="{cause}"}}"#
        ))
    }

    fn refused(&self, cause: &str) -> u64 {
        self.counted(&format!(
            r#"bedplate_connections_refused_total{{listener="api",cause="{cause}"}}"#
        ))
    }

    async fn close(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

/// Asks, and reads one answer with a short body.
async fn ask_over(connection: &mut TcpStream, path: &str) -> String {
    try_to_ask(connection, path).await.unwrap()
}

async fn try_to_ask(connection: &mut TcpStream, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    read_answer(connection).await
}

async fn read_answer(connection: &mut TcpStream) -> io::Result<String> {
    let mut text = String::new();
    while !is_whole(&text) {
        let mut part = [0; 4_096];
        let count = connection.read(&mut part).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        text += std::str::from_utf8(&part[..count]).unwrap();
    }
    Ok(text)
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() == length.parse::<usize>().unwrap())
}

/// Everything that comes until the server closes, an error of the connection counted as the end.
async fn rest_of(connection: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = connection.read_to_end(&mut heard).await;
    heard
}
