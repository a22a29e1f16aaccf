//! Nodes that have enrolled, and their connections: mutual TLS to the fleet port, each from the
//! node's own address on the clients' side.
//!
//! HTTP is written by hand, so that the client costs little beside the server that is measured.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use api::{enroll::AgentIdentity, ids::MacAddr};
use rustls::{ClientConfig, pki_types::ServerName};
use sim_cluster::simulated_node::SimulatedNode;
use substrate::tls;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    network::{CLIENT, SERVER},
    ours::HTTP_PORT,
};

/// Longest head of an answer, bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// A node with its certificate.
#[derive(Debug, Clone)]
pub(crate) struct Enrollee {
    address: Ipv4Addr,
    identity: AgentIdentity,
    tls: Arc<ClientConfig>,
}

/// A connection that is kept.
pub(crate) struct Line<S>(S);

impl<S> std::fmt::Debug for Line<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

/// Trades a node's boot token for a certificate, as stage 1 does.
///
/// # Errors
/// The server's refusal, in its words.
pub(crate) async fn enrol(mac: MacAddr, address: Ipv4Addr) -> anyhow::Result<Enrollee> {
    let machine = SimulatedNode::new(mac, address, (SERVER, HTTP_PORT).into())?;
    Enrollee::new(address, machine.enrol(&machine.stage1().await?).await?)
}

/// A plain connection to a port of the servers' side, from [`CLIENT`].
///
/// # Errors
/// If it cannot be reached.
pub(crate) async fn plain(port: u16) -> anyhow::Result<Line<TcpStream>> {
    Ok(Line(connect(CLIENT, port).await?))
}

impl Enrollee {
    fn new(address: Ipv4Addr, identity: AgentIdentity) -> anyhow::Result<Self> {
        let tls = Arc::new(tls::authenticated(&identity)?);
        Ok(Self { address, identity, tls })
    }

    /// PEM of the CA that its certificate is from.
    pub(crate) fn ca(&self) -> &str {
        &self.identity.ca
    }

    /// The same node and certificate, for a server of another CA.
    ///
    /// # Errors
    /// If that is no certificate.
    pub(crate) fn trusting(&self, ca: String) -> anyhow::Result<Self> {
        Self::new(self.address, AgentIdentity { ca, ..self.identity.clone() })
    }

    /// Connects to a port of the server, which asks for the node's certificate.
    ///
    /// # Errors
    /// If it cannot be reached, or the handshake fails.
    pub(crate) async fn dial(&self, port: u16) -> anyhow::Result<Line<TlsStream<TcpStream>>> {
        Ok(Line(secure(connect(self.address, port).await?, Arc::clone(&self.tls)).await?))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// The body of the answer to a GET, which must be a success with a length.
    ///
    /// # Errors
    /// If it is not, with the server's words.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: bedplate\r\n\r\n");
        self.0.write_all(request.as_bytes()).await?;
        self.0.flush().await?;
        let (head, mut body) = self.head().await?;
        let length: usize =
            header(&head, "content-length").context("the answer has no length")?.parse()?;
        let start = body.len();
        ensure!(start <= length, "{path}: more was sent than the answer's length");
        body.resize(length, 0);
        self.0
            .read_exact(&mut body[start..])
            .await
            .with_context(|| format!("{path}: the answer breaks off"))?;
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        if status != "200" {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    /// The head of an answer, and what came of the body with it.
    async fn head(&mut self) -> anyhow::Result<(String, Vec<u8>)> {
        let mut bytes = Vec::with_capacity(MAX_HEAD_BYTES);
        loop {
            let came = self.0.read_buf(&mut bytes).await?;
            ensure!(came > 0, "the server closed the connection");
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let body = bytes.split_off(end + 4);
                return Ok((String::from_utf8_lossy(&bytes).to_lowercase(), body));
            }
            ensure!(bytes.len() < MAX_HEAD_BYTES, "the head of the answer does not end");
        }
    }
}

/// A field of a head in lower case.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

async fn connect(from: Ipv4Addr, port: u16) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0))).with_context(|| format!("cannot come from {from}"))?;
    let stream = socket.connect(SocketAddr::from((SERVER, port))).await;
    let stream = stream.with_context(|| format!("cannot reach port {port} from {from}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn secure(stream: TcpStream, tls: Arc<ClientConfig>) -> anyhow::Result<TlsStream<TcpStream>> {
    let name = ServerName::IpAddress(IpAddr::V4(SERVER).into());
    TlsConnector::from(tls).connect(name, stream).await.context("the TLS handshake")
}
