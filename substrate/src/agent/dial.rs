//! A WebSocket to one fleet port: TCP, mutual TLS, upgrade, all within one deadline. The channel is
//! one; each stream is another.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use api::{
    channel::{
        MAX_MESSAGE_BYTES,
        negotiation::{self, Versions},
    },
    problem::Problem,
};
use rustls::{AlertDescription, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, client::IntoClientRequest, handshake::client::Request, http::HeaderValue,
        protocol::WebSocketConfig,
    },
};

/// Time from the first packet to the open WebSocket. A server that shakes 10,000 hands at once
/// may need seconds.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Bytes that the channel reads at once: nearly all frames are shorter, and the buffer stays for as
/// long as the agent.
const READ_BUFFER_BYTES: usize = 8 << 10;

/// A WebSocket over TLS over TCP.
pub type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// TCP failed: no route, refused.
    #[error("cannot connect to {0}")]
    Connect(SocketAddr, #[source] std::io::Error),
    /// TLS failed: one side does not trust the other's certificate, or a clock is wrong.
    #[error("cannot speak TLS with {0}")]
    Tls(SocketAddr, #[source] std::io::Error),
    /// The server does not take this node's certificate.
    #[error("{0} does not take this node's certificate: {1}")]
    OwnCertificate(SocketAddr, &'static str),
    /// The server does not open it to this node.
    #[error("{0} refuses the channel: {1}")]
    Refused(SocketAddr, String),
    /// The answer is not that of a WebSocket server.
    #[error("cannot open the channel to {0}")]
    Upgrade(SocketAddr, #[source] Box<tungstenite::Error>),
    /// It took longer than [`DEADLINE`].
    #[error("{0} did not answer within {seconds} s", seconds = DEADLINE.as_secs())]
    Deadline(SocketAddr),
}

/// Opens the channel's WebSocket.
///
/// # Errors
/// [`DialError`].
pub async fn dial(server: SocketAddr, tls: Arc<rustls::ClientConfig>) -> Result<Socket, DialError> {
    dial_to(server, tls, "/node/v1/channel", limits()).await
}

/// Opens the WebSocket at a route.
///
/// # Errors
/// [`DialError`].
pub async fn dial_to(
    server: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    route: &str,
    limits: WebSocketConfig,
) -> Result<Socket, DialError> {
    let opening = open(server, tls, route, limits);
    tokio::time::timeout(DEADLINE, opening).await.unwrap_or(Err(DialError::Deadline(server)))
}

async fn open(
    server: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    route: &str,
    limits: WebSocketConfig,
) -> Result<Socket, DialError> {
    let tcp =
        TcpStream::connect(server).await.map_err(|error| DialError::Connect(server, error))?;
    // Frames are small and answered at once; waiting for more would only delay them.
    tcp.set_nodelay(true).map_err(|error| DialError::Connect(server, error))?;
    let name = ServerName::IpAddress(server.ip().into());
    let stream = TlsConnector::from(tls)
        .connect(name, tcp)
        .await
        .map_err(|error| tls_failed(server, error))?;
    let request =
        request(server, route).map_err(|error| DialError::Upgrade(server, Box::new(error)))?;
    match client_async_with_config(request, stream, Some(limits)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => {
            let problem =
                response.body().as_deref().and_then(|body| serde_json::from_slice(body).ok());
            let why = problem.map_or_else(
                || response.status().to_string(),
                |problem: Problem| format!("{}: {}", problem.title, problem.detail),
            );
            Err(DialError::Refused(server, why))
        }
        // TLS 1.3 tells of it after the handshake.
        Err(tungstenite::Error::Io(error)) if own_certificate(&error).is_some() => {
            Err(tls_failed(server, error))
        }
        Err(error) => Err(DialError::Upgrade(server, Box::new(error))),
    }
}

fn tls_failed(server: SocketAddr, error: std::io::Error) -> DialError {
    match own_certificate(&error) {
        Some(why) => DialError::OwnCertificate(server, why),
        None => DialError::Tls(server, error),
    }
}

/// What the server's alert says of this node's certificate (RFC 8446, section 6.2), and what helps.
fn own_certificate(error: &std::io::Error) -> Option<&'static str> {
    let rustls::Error::AlertReceived(alert) = error.get_ref()?.downcast_ref()? else { return None };
    match alert {
        AlertDescription::CertificateExpired => Some(
            "it is not valid by the server's clock: one of the two clocks is wrong, or the certificate was not renewed \
             in time; compare the clocks, then reboot the node, which enrols it again",
        ),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => Some(
            "it is of another CA than the server's: the server's `ca/` was replaced; reboot the node, which enrols it \
             again",
        ),
        _ => None,
    }
}

/// The request for the WebSocket, which names the protocol versions that this program speaks.
fn request(server: SocketAddr, route: &str) -> Result<Request, tungstenite::Error> {
    let mut request = format!("wss://{server}{route}").into_client_request()?;
    let versions = HeaderValue::from_str(&Versions::ours().to_string())?;
    request.headers_mut().insert(negotiation::HEADER, versions);
    Ok(request)
}

/// Limits of what a server can make this node hold.
pub(crate) fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
}

#[cfg(test)]
#[path = "dial/tests.rs"]
mod tests;
