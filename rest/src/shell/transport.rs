//! What a listener speaks below HTTP.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What HTTP is spoken over, and the certificate that the client showed, DER.
#[derive(Debug)]
pub struct Opened<Io> {
    /// The connection.
    pub io: Io,
    /// The client's certificate, if it was asked for one, showed one, and that was good.
    pub certificate: Option<Arc<[u8]>>,
}

/// Makes of a TCP connection what HTTP is spoken over. The shell sees to it that it takes not too
/// long.
pub trait Transport: Send + Sync + 'static {
    /// What HTTP is spoken over.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Opens it; the handshake, if there is one.
    ///
    /// # Errors
    /// Whatever keeps the client from being served.
    fn open(&self, tcp: TcpStream) -> impl Future<Output = io::Result<Opened<Self::Io>>> + Send;

    /// [`Self::open`] failed for this client, or took too long.
    fn failed(&self, _remote: SocketAddr, _error: &io::Error) {}
}

/// TLS, over which HTTP/1.1 alone is spoken: a client that offers only others by ALPN (RFC 7301) is
/// refused.
pub struct Tls {
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// With this configuration but for its ALPN.
    #[must_use]
    pub fn new(config: &ServerConfig) -> Self {
        let mut config = config.clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

impl Transport for Tls {
    type Io = TlsStream<TcpStream>;

    async fn open(&self, tcp: TcpStream) -> io::Result<Opened<Self::Io>> {
        let io = self.acceptor.accept(tcp).await?;
        let shown = io.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|certificate| Arc::<[u8]>::from(certificate.as_ref()));
        Ok(Opened { io, certificate })
    }
}
