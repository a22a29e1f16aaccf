//! The HTTP shell of all listeners, over a real connection on loopback: bytes as a
//! stranger sends them.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::OnceLock,
    time::Duration,
};

use api::ids::Digest;
use axum::{
    Json, Router,
    extract::Path,
    http::{HeaderMap, Method},
    response::Response,
    routing::{get, post, put},
};
use bytes::Bytes;
use rest::shell::{Limits, Listener, Opened, Shell, Transport};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// What a client waits for the end of its connection: a server that is sane ends it at once, since
/// the client says that it sends no more.
const PATIENCE: Duration = Duration::from_secs(60);

/// What comes back of an input at most, bytes: heads of answers, and what was sent.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// After so long without an answer a request is not whole, most likely, and the client
/// hangs up in part.
const SILENCE: Duration = Duration::from_millis(5);

/// Tries to get a port of this machine's. A fuzzer uses them up, and each is free again
/// after a minute.
const MAX_TRIES: usize = 700;

/// HTTP over TCP.
struct Plain;

impl Transport for Plain {
    type Io = tokio::net::TcpStream;

    async fn open(&self, tcp: tokio::net::TcpStream) -> io::Result<Opened<Self::Io>> {
        Ok(Opened { io: tcp, certificate: None })
    }
}

async fn named(Path(name): Path<String>) -> String {
    name
}

async fn blob(method: Method, headers: HeaderMap) -> Response {
    fleet::blob::answer(
        &method,
        &headers,
        &Digest([7; 32]),
        Bytes::from_static(b"0123456789abcdef"),
    )
}

async fn json(rest::Body(value): rest::Body<Value>) -> Json<Value> {
    Json(value)
}

async fn length(bytes: Bytes) -> String {
    bytes.len().to_string()
}

async fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    let routes = Router::new()
        .route("/boot/{mac}/script", get(named))
        .route("/blobs/{digest}", get(blob))
        .route("/json", post(json))
        .route("/files/{*path}", put(length));
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let shell = Shell::new(Limits::of_descriptors(4_096, None));
    shell.serve(Listener::Boot, listener, Plain, routes, CancellationToken::new()).await;
    Ok(())
}

/// A server for all inputs of this process.
fn server() -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(serve(listener)));
    Ok(address)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let mut tries = 0;
    loop {
        match TcpStream::connect(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && tries < MAX_TRIES => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
            connected => return connected,
        }
    }
}

/// Everything that comes back until the server ends the connection. After `silence` the client says
/// that it sends no more.
fn answer(address: SocketAddr, input: &[u8], silence: Duration) -> io::Result<Vec<u8>> {
    let mut tcp = connect(address)?;
    tcp.set_read_timeout(Some(silence))?;
    // The server may have answered and gone before it has read all.
    let _ = tcp.write_all(input);
    let (mut answer, mut buffer, mut is_at_end) = (Vec::new(), [0; 4096], false);
    while answer.len() <= MAX_ANSWER_BYTES {
        match tcp.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionReset => break,
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if !is_at_end => {
                    is_at_end = true;
                    // It may be gone.
                    let _ = tcp.shutdown(Shutdown::Write);
                    tcp.set_read_timeout(Some(PATIENCE))?;
                }
                _ => return Err(error),
            },
        }
    }
    Ok(answer)
}

/// One connection, and a good request after it: nobody is left without an answer.
pub(crate) fn shell(input: &[u8]) -> bool {
    static SERVER: OnceLock<Option<SocketAddr>> = OnceLock::new();
    let Some(address) = *SERVER.get_or_init(|| server().ok()) else {
        panic!("no server can be started on loopback")
    };
    let told = match answer(address, input, SILENCE) {
        Ok(told) => told,
        Err(error) => panic!("the connection does not end as it should: {error}"),
    };
    assert!(told.len() <= MAX_ANSWER_BYTES, "{} bytes come back of {}", told.len(), input.len());
    if !told.is_empty() {
        let status = told.strip_prefix(b"HTTP/1.1 ").or_else(|| told.strip_prefix(b"HTTP/1.0 "));
        let status =
            status.and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse::<u16>().ok());
        let Some(status) = status else {
            panic!("no status: {:?}", String::from_utf8_lossy(&told))
        };
        assert!((100..600).contains(&status) && status != 500, "a status of {status}");
    }
    let good = b"GET /boot/x/script HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let good = answer(address, good, PATIENCE);
    assert!(
        good.is_ok_and(|told| told.starts_with(b"HTTP/1.1 200 ")),
        "others are not served any more"
    );
    told.starts_with(b"HTTP/1.1 2")
}
