//! TLS of a node: whom it trusts before and after it has a certificate.
//!
//! Before ([`pinned`]): the per-node initrd names the CA by the SHA-256 of its DER. The server
//! presents its leaf and the CA; the CA is found in the presented chain by that digest, and the
//! leaf must verify against it, for the address that was dialled. After ([`authenticated`]): the CA
//! is a root like any other, and the node shows its own certificate. Both speak HTTP/1.1 only and
//! verify dates by the system's clock. A server that is not trusted is told by its cause
//! ([`distrust`]).

pub mod distrust;

use std::sync::Arc;

use api::{
    enroll::AgentIdentity,
    ids::{Digest, Timestamp},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use self::distrust::TrustError;

/// What this node's TLS speaks on top.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM block of the identity is not what it should be.
    #[error("cannot read the {what} of the node's identity")]
    Pem {
        /// `CA`, `certificate` or `private key`.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Key and certificate do not fit, or rustls cannot use them.
    #[error("cannot use the node's certificate for TLS")]
    Use(#[source] rustls::Error),
}

/// Trusts the server whose chain holds the CA certificate with this digest. Shows no certificate.
///
/// # Errors
/// [`TlsError::Use`] if the crypto provider has no usable protocol version.
pub fn pinned(ca: Digest) -> Result<ClientConfig, TlsError> {
    trusting(Trusted::Pinned(ca), None)
}

/// As [`pinned`]. `server`: the server's clock, as it said when this node booted; named beside this
/// node's own where dates do not fit, and nothing else.
///
/// # Errors
/// As [`pinned`].
pub fn pinned_at_boot(ca: Digest, server: Timestamp) -> Result<ClientConfig, TlsError> {
    trusting(Trusted::Pinned(ca), Some(server))
}

fn trusting(trusted: Trusted, server: Option<Timestamp>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(default_provider());
    let verifier = Verifier { trusted, server, provider: provider.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Use)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(config)
}

/// Trusts the identity's CA and shows the identity's certificate.
///
/// # Errors
/// [`TlsError`]: the identity is damaged.
pub fn authenticated(identity: &AgentIdentity) -> Result<ClientConfig, TlsError> {
    let pem = |what| move |source| TlsError::Pem { what, source };
    let ca = CertificateDer::from_pem_slice(identity.ca.as_bytes()).map_err(pem("CA"))?;
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem("certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(pem("private key"))?;
    let provider = Arc::new(default_provider());
    let trusted = Trusted::Known {
        fingerprint: fingerprint(&ca),
        webpki: verifier_of(ca.into_owned(), &provider).map_err(TlsError::Use)?,
    };
    let verifier = Verifier { trusted, server: None, provider: provider.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Use)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
        .map_err(TlsError::Use)?;
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(config)
}

/// webpki's usual work with one CA as the only root.
fn verifier_of(
    ca: CertificateDer<'static>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca)?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

/// Whose certificates are trusted.
#[derive(Debug)]
enum Trusted {
    /// Those of the CA with this digest, which is found in the presented chain.
    Pinned(Digest),
    /// Those of a CA that is known.
    Known { fingerprint: Digest, webpki: Arc<WebPkiServerVerifier> },
}

/// Finds the CA, leaves the rest to webpki, and puts its refusals into words.
#[derive(Debug)]
struct Verifier {
    trusted: Trusted,
    /// The server's clock at this node's boot, for the words.
    server: Option<Timestamp>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (ca, webpki) = match &self.trusted {
            Trusted::Known { fingerprint, webpki } => (*fingerprint, webpki.clone()),
            Trusted::Pinned(pin) => {
                let ca = intermediates
                    .iter()
                    .find(|certificate| fingerprint(certificate) == *pin)
                    .ok_or_else(|| TrustError::other_ca(*pin, intermediates))?;
                (*pin, verifier_of(ca.clone().into_owned(), &self.provider)?)
            }
        };
        webpki
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|refused| TrustError::explain(refused, ca, intermediates, self.server))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-256 of the DER.
fn fingerprint(certificate: &CertificateDer<'_>) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, certificate).as_ref());
    Digest(bytes)
}

#[cfg(test)]
#[path = "tls/tests.rs"]
mod tests;
