//! What a server presents of itself before anybody trusts it: for whoever has its address and a
//! fingerprint, but not its CA certificate.

use std::{
    fmt::Write as _,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use url::Url;

use crate::CONNECT_DEADLINE;

/// Why nothing is known of a server's certificates.
#[derive(Debug, thiserror::Error)]
pub enum PresentedError {
    /// The URL names no host and port.
    #[error("{server} is no address of a server")]
    Address {
        /// The URL as it was given: it lacks a host, or its host is no name and no address.
        server: Url,
    },
    /// There is no connection, or what answers does not speak TLS.
    #[error("cannot reach the server at {server}")]
    Unreachable {
        /// The URL that was tried, without path.
        server: Url,
        /// From the resolver, the kernel or the TLS handshake; `TimedOut` after the deadline of a
        /// connection.
        #[source]
        source: io::Error,
    },
}

/// A certificate that a server presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedCertificate {
    /// SHA-256 of its DER form.
    pub fingerprint: Fingerprint,
    /// The certificate, PEM.
    pub pem: String,
}

/// SHA-256 of a certificate's DER form, as `openssl x509 -fingerprint -sha256` prints it:
/// `AB:CD:…`. When read, colons, case and a prefix `sha256:` do not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// A text is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is SHA-256 in hexadecimal: 64 digits, with or without colons")]
pub struct NoFingerprint;

impl Fingerprint {
    /// Of the first certificate of a PEM text; `None` if there is none in it.
    #[must_use]
    pub fn of_pem(pem: &str) -> Option<Self> {
        CertificateDer::from_pem_slice(pem.as_bytes())
            .ok()
            .map(|certificate| Self::of(&certificate))
    }

    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let lower = text.trim().to_ascii_lowercase();
        let digits: Vec<u8> = lower
            .strip_prefix("sha256:")
            .unwrap_or(&lower)
            .bytes()
            .filter(|byte| *byte != b':')
            .collect();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(NoFingerprint);
        }
        let value =
            |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])
                .zip(value(pair[1]))
                .map(|(high, low)| high << 4 | low)
                .ok_or(NoFingerprint)?;
        }
        Ok(Self(bytes))
    }
}

/// The certificates that a server presents, its own first. The handshake proves that it has the key
/// of the first one, and nothing else: whoever is between may present others.
///
/// # Errors
/// [`PresentedError`].
pub async fn presented(server: &Url) -> Result<Vec<PresentedCertificate>, PresentedError> {
    let address = || PresentedError::Address { server: server.clone() };
    let host = server.host_str().ok_or_else(address)?;
    // As a URL has it, an IPv6 address stands in brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = server.port_or_known_default().ok_or_else(address)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| address())?;
    let unreachable = |source| PresentedError::Unreachable { server: server.clone(), source };
    let seen = Arc::new(Seen::default());
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unreachable(io::Error::other(error)))?
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    let handshake = async {
        let connection = TcpStream::connect((host, port)).await?;
        TlsConnector::from(Arc::new(config)).connect(name, connection).await
    };
    match timeout(CONNECT_DEADLINE, handshake).await {
        Ok(Ok(_)) => Ok(seen.0.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        Ok(Err(error)) => Err(unreachable(error)),
        Err(_) => Err(unreachable(io::ErrorKind::TimedOut.into())),
    }
}

/// Notes the certificates and trusts all of them; nothing is sent over such a connection.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<PresentedCertificate>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(own).chain(others);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all
            .map(|certificate| PresentedCertificate {
                fingerprint: Fingerprint::of(certificate),
                pem: pem(certificate),
            })
            .collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// RFC 7468.
fn pem(certificate: &CertificateDer<'_>) -> String {
    const LINE: usize = 64;
    let text = STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        // Writing into a String cannot fail.
        let _ = writeln!(pem, "{line}");
        rest = more;
    }
    pem + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests;
