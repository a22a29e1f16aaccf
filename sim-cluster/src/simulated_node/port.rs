//! The connections of a node to the fleet port: requests, and WebSockets over a wire
//! that can be cut.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
};

use anyhow::{Context as _, bail};
use api::{
    channel::MAX_MESSAGE_BYTES,
    enroll::{BootPhase, Report},
};
use reqwest::Client;
use rustls::pki_types::ServerName;
use serde::{Serialize, de::DeserializeOwned};
use substrate::agent::dial::DEADLINE;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, http::StatusCode, protocol::WebSocketConfig},
};

/// Buffer of each side of a WebSocket, bytes. Frames are small, and the usual 128 KiB are too much
/// for thousands of nodes.
const BUFFER_BYTES: usize = 4 << 10;

/// The wire is whole.
const WHOLE: i64 = i64::MAX;

/// The WebSocket of a node.
pub(super) type Socket = WebSocketStream<TlsStream<Wire>>;

/// The server's refusal of a WebSocket of this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {words}")]
pub struct Refusal {
    /// Of the 400s.
    pub status: StatusCode,
    /// The body of the answer.
    pub words: String,
}

/// The fleet port of the first server, spoken to from one address with one TLS configuration.
#[derive(Debug, Clone)]
pub(super) struct FleetPort {
    server: SocketAddr,
    from: Ipv4Addr,
    tls: Arc<rustls::ClientConfig>,
    client: Client,
}

impl FleetPort {
    pub(super) fn new(
        servers: &[SocketAddr],
        from: Ipv4Addr,
        tls: rustls::ClientConfig,
    ) -> anyhow::Result<Self> {
        let server = *servers.first().context("no fleet server is named")?;
        let client = super::http_from(from, tls.clone()).build()?;
        Ok(Self { server, from, tls: Arc::new(tls), client })
    }

    /// Posts JSON and reads JSON.
    pub(super) async fn post<A: DeserializeOwned>(
        &self,
        route: &str,
        message: &impl Serialize,
    ) -> anyhow::Result<A> {
        let sent = self.client.post(self.url(route)).json(message).send().await?;
        Ok(serde_json::from_slice(&body(sent).await?)?)
    }

    /// Posts bytes and reads JSON.
    pub(super) async fn post_bytes<A: DeserializeOwned>(
        &self,
        route: &str,
        bytes: Vec<u8>,
    ) -> anyhow::Result<A> {
        let sent = self.client.post(self.url(route)).body(bytes).send().await?;
        Ok(serde_json::from_slice(&body(sent).await?)?)
    }

    /// Puts bytes.
    pub(super) async fn put(&self, route: &str, bytes: String) -> anyhow::Result<()> {
        body(self.client.put(self.url(route)).body(bytes).send().await?).await.map(drop)
    }

    pub(super) async fn get(&self, route: &str) -> anyhow::Result<Vec<u8>> {
        body(self.client.get(self.url(route)).send().await?).await
    }

    pub(super) async fn report(
        &self,
        phase: BootPhase,
        percent: Option<u8>,
        message: &str,
    ) -> anyhow::Result<()> {
        let report = Report { phase, percent, message: message.to_owned() };
        body(self.client.post(self.url("/node/v1/report")).json(&report).send().await?)
            .await
            .map(drop)
    }

    /// Opens a WebSocket; the inner error is a refusal of this node, with the server's words.
    pub(super) async fn dial(
        &self,
        route: &str,
        cut: Arc<Cut>,
    ) -> anyhow::Result<Result<Socket, Refusal>> {
        timeout(DEADLINE, self.open(route, cut)).await.context("the server does not answer")?
    }

    async fn open(&self, route: &str, cut: Arc<Cut>) -> anyhow::Result<Result<Socket, Refusal>> {
        let tcp = TcpSocket::new_v4()?;
        tcp.bind(SocketAddr::new(IpAddr::V4(self.from), 0))?;
        let tcp = tcp.connect(self.server).await?;
        tcp.set_nodelay(true)?;
        cut.mend();
        let name = ServerName::IpAddress(self.server.ip().into());
        let tls = TlsConnector::from(self.tls.clone()).connect(name, Wire { tcp, cut }).await?;
        let url = format!("wss://{}{route}", self.server);
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES))
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES);
        match client_async_with_config(url, tls, Some(limits)).await {
            Ok((socket, _)) => Ok(Ok(socket)),
            Err(tungstenite::Error::Http(answer)) if answer.status().is_client_error() => {
                let words =
                    answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                Ok(Err(Refusal { status: answer.status(), words: words.into_owned() }))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn url(&self, route: &str) -> String {
        format!("https://{}{route}", self.server)
    }
}

/// The body of an answer, or the refusal with its status and words.
pub(super) async fn body(response: reqwest::Response) -> anyhow::Result<Vec<u8>> {
    let (status, url) = (response.status(), response.url().clone());
    let bytes = response.bytes().await?;
    if !status.is_success() {
        bail!("{}: {status}: {}", url.path(), String::from_utf8_lossy(&bytes).trim());
    }
    Ok(bytes.to_vec())
}

/// How many bytes a wire still carries.
#[derive(Debug)]
pub(super) struct Cut(AtomicI64);

impl Default for Cut {
    fn default() -> Self {
        Self(AtomicI64::new(WHOLE))
    }
}

impl Cut {
    /// The wire breaks after so many more bytes, most likely in the middle of a message.
    pub(super) fn after(&self, bytes: u16) {
        self.0.store(bytes.into(), Ordering::Relaxed);
    }

    fn mend(&self) {
        self.0.store(WHOLE, Ordering::Relaxed);
    }

    /// Bytes of `wanted` that pass now; none if the wire is broken.
    fn passes(&self, wanted: usize) -> Option<usize> {
        let left = self.0.load(Ordering::Relaxed);
        (left > 0).then(|| usize::try_from(left).map_or(wanted, |left| wanted.min(left)))
    }

    fn passed(&self, bytes: usize) {
        if self.0.load(Ordering::Relaxed) != WHOLE {
            self.0.fetch_sub(i64::try_from(bytes).unwrap_or(WHOLE), Ordering::Relaxed);
        }
    }
}

/// A connection that can be cut.
#[derive(Debug)]
pub(super) struct Wire {
    tcp: TcpStream,
    cut: Arc<Cut>,
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the wire was cut")
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.cut.passes(1).is_none() {
            return Poll::Ready(Err(broken()));
        }
        let polled = Pin::new(&mut self.tcp).poll_read(context, buffer);
        self.cut.passed(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(passes) = self.cut.passes(bytes.len()) else { return Poll::Ready(Err(broken())) };
        let polled = Pin::new(&mut self.tcp).poll_write(context, &bytes[..passes]);
        if let Poll::Ready(Ok(written)) = &polled {
            self.cut.passed(*written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_wire_carries_so_much_and_then_nothing_until_it_is_mended() {
        let cut = Cut::default();
        cut.passed(1 << 20);
        assert_eq!(cut.passes(10), Some(10));
        cut.after(7);
        assert_eq!(cut.passes(10), Some(7));
        cut.passed(5);
        assert_eq!(cut.passes(10), Some(2));
        cut.passed(2);
        assert_eq!(cut.passes(1), None);
        cut.mend();
        assert_eq!(cut.passes(10), Some(10));
    }
}
