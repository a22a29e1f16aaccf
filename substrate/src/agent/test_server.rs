//! For tests: a CA, the identity of a node, and a TLS server on the loopback interface that
//! demands certificates.

#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, sync::Arc};

use api::{enroll::AgentIdentity, ids::Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub(crate) type Ca = CertifiedIssuer<'static, KeyPair>;

pub(super) fn ca() -> Ca {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

pub(crate) fn identity(ca: &Ca, client_of: &Ca) -> AgentIdentity {
    made(ca, client_of, 2999)
}

/// Its certificate is valid until the beginning of this year.
pub(super) fn identity_until(ca: &Ca, year: i32) -> AgentIdentity {
    made(ca, ca, year)
}

fn made(ca: &Ca, client_of: &Ca, year: i32) -> AgentIdentity {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
    let leaf = parameters.signed_by(&key, client_of).unwrap();
    AgentIdentity {
        node: "n1".parse().unwrap(),
        id: "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".parse().unwrap(),
        fleet_servers: Vec::new(),
        ca: ca.pem(),
        certificate: leaf.pem(),
        key: key.serialize_pem(),
        not_after: Timestamp(0),
        image: String::new(),
    }
}

/// A server for 127.0.0.1 that demands a certificate of this CA.
pub(crate) fn acceptor(ca: &Ca) -> TlsAcceptor {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let key = KeyPair::generate().unwrap();
    let leaf = parameters.signed_by(&key, ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
