//! Nodes that have enrolled, and their connections: mutual TLS to the fleet port, each from the node's own address on the clients' side.
//!
//! HTTP is written by hand, so that the client costs little beside the server that is measured.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use api::{
    enroll::{Enroll, Enrolled},
    ids::MacAddr,
    stage1::Stage1,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    network::{CLIENT, SERVER},
    ours::{FLEET_PORT, HTTP_PORT},
};

/// Longest head of an answer, bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// A node with its certificate.
#[derive(Debug, Clone)]
pub(crate) struct Enrollee {
    address: Ipv4Addr,
    tls: Arc<ClientConfig>,
    certificate: String,
    key: String,
    /// PEM of the CA, for a peer that asks for the same certificate.
    pub(crate) ca: String,
}

/// A connection that is kept.
pub(crate) struct Line<S>(S);

impl<S> std::fmt::Debug for Line<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

/// Trades a node's boot token for a certificate, as stage 1 does. `ca` is the server's, PEM.
///
/// # Errors
/// The server's refusal, in its words.
pub(crate) async fn enrol(mac: MacAddr, address: Ipv4Addr, ca: &str) -> anyhow::Result<Enrollee> {
    let boot = connect(address, HTTP_PORT).await?;
    let image = Line(boot).get(&format!("/boot/{}/node.img", mac.hyphenated())).await?;
    let stage1 = document(&image).context("the node's initrd holds no document")?;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    let csr = parameters.serialize_request(&key)?.pem()?;
    let token = stage1.token.context("the node has no token")?;
    let request = serde_json::to_string(&Enroll { id: stage1.id, token, csr })?;
    let anonymous = Arc::new(trusting(&[ca])?.with_no_client_auth());
    let mut line = Line(secure(connect(address, FLEET_PORT).await?, anonymous).await?);
    let Enrolled { certificate, ca, .. } =
        serde_json::from_slice(&line.ask("POST", "/node/v1/enroll", &request).await?)?;
    let key = key.serialize_pem();
    let tls = Arc::new(showing(&[&ca], &certificate, &key)?);
    Ok(Enrollee { address, tls, certificate, key, ca })
}

/// A plain connection to a port of the servers' side, from [`CLIENT`].
///
/// # Errors
/// If it cannot be reached.
pub(crate) async fn plain(port: u16) -> anyhow::Result<Line<TcpStream>> {
    Ok(Line(connect(CLIENT, port).await?))
}

impl Enrollee {
    /// The same node, which trusts another CA too.
    ///
    /// # Errors
    /// If that is no certificate.
    pub(crate) fn also_trusting(self, ca: &str) -> anyhow::Result<Self> {
        let tls = Arc::new(showing(&[&self.ca, ca], &self.certificate, &self.key)?);
        Ok(Self { tls, ..self })
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
    /// The body of a GET.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        self.ask("GET", path, "").await
    }

    /// The body of the answer to a request, which must be a success with a length.
    ///
    /// # Errors
    /// If it is not, with the server's words.
    async fn ask(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<Vec<u8>> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: bedplate\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.0.write_all(request.as_bytes()).await?;
        self.0.flush().await?;
        let (head, mut body) = self.head().await?;
        let length: usize = header(&head, "content-length").context("the answer has no length")?.parse()?;
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

fn trusting(
    cas: &[&str],
) -> anyhow::Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots))
}

fn showing(cas: &[&str], certificate: &str, key: &str) -> anyhow::Result<ClientConfig> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    Ok(trusting(cas)?.with_client_auth_cert(chain, key)?)
}

/// The one JSON document in a cpio archive.
fn document(archive: &[u8]) -> Option<Stage1> {
    let start = archive.windows(2).position(|two| two == b"{\"")?;
    serde_json::Deserializer::from_slice(&archive[start..]).into_iter().next()?.ok()
}
