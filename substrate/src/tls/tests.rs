//! The trust of a node, tried against a real TLS server in memory.

use std::{net::IpAddr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{ClientConnection, ServerConfig, ServerConnection};

use super::*;

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    fn fingerprint(&self) -> Digest {
        fingerprint(self.0.der())
    }

    /// A server whose chain is its leaf and, if told, this CA.
    fn server(&self, address: &str, present_ca: bool) -> ServerConfig {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.subject_alt_names = vec![SanType::IpAddress(address.parse().unwrap())];
        let key = KeyPair::generate().unwrap();
        let leaf = parameters.signed_by(&key, &self.0).unwrap();
        let mut chain = vec![leaf.der().clone()];
        if present_ca {
            chain.push(self.0.der().clone());
        }
        ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap()
    }
}

/// Runs a handshake for `10.0.0.1` in memory.
fn handshake(client: ClientConfig, mut server: ServerConfig) -> Result<(), rustls::Error> {
    let name = ServerName::IpAddress("10.0.0.1".parse::<IpAddr>().unwrap().into());
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    server.alpn_protocols = vec![HTTP_1_1.to_vec()];
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn the_pinned_ca_is_trusted_for_the_address_that_was_dialled() {
    let ca = Ca::new();
    handshake(pinned(ca.fingerprint()).unwrap(), ca.server("10.0.0.1", true)).unwrap();
    let other_address =
        handshake(pinned(ca.fingerprint()).unwrap(), ca.server("10.0.0.2", true)).unwrap_err();
    assert!(other_address.to_string().contains("10.0.0.1"), "{other_address}");
}

#[test]
fn another_ca_is_not_trusted_even_beside_the_pinned_one() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    assert!(
        handshake(pinned(ours.fingerprint()).unwrap(), theirs.server("10.0.0.1", true)).is_err()
    );
    // Without the CA in the chain there is nothing to hold the digest against.
    assert!(
        handshake(pinned(ours.fingerprint()).unwrap(), ours.server("10.0.0.1", false)).is_err()
    );
    // A leaf of another CA with ours presented beside it.
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.subject_alt_names = vec![SanType::IpAddress("10.0.0.1".parse().unwrap())];
    let leaf = parameters.signed_by(&key, &theirs.0).unwrap();
    let mixed = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone(), ours.0.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    assert!(handshake(pinned(ours.fingerprint()).unwrap(), mixed).is_err());
}

#[test]
fn the_identity_authenticates_both_sides() {
    let ca = Ca::new();
    let key = crate::identity::NodeKey::generate().unwrap();
    let request =
        rcgen::CertificateSigningRequestParams::from_pem(&key.signing_request().unwrap()).unwrap();
    let certificate = request.signed_by(&ca.0).unwrap();
    let identity = AgentIdentity {
        node: "n1".parse().unwrap(),
        id: "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".parse().unwrap(),
        fleet_servers: Vec::new(),
        ca: ca.0.pem(),
        certificate: certificate.pem(),
        key: key.to_pem(),
        not_after: api::ids::Timestamp(0),
        image: "debian-node@2".into(),
    };
    let demanding = |ca: &Ca| {
        let mut roots = RootCertStore::empty();
        roots.add(ca.0.der().clone()).unwrap();
        let provider = Arc::new(default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            provider.clone(),
        )
        .build()
        .unwrap();
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.subject_alt_names = vec![SanType::IpAddress("10.0.0.1".parse().unwrap())];
        let leaf = parameters.signed_by(&key, &ca.0).unwrap();
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap()
    };
    handshake(authenticated(&identity).unwrap(), demanding(&ca)).unwrap();
    assert!(handshake(authenticated(&identity).unwrap(), demanding(&Ca::new())).is_err());
    let damaged = AgentIdentity { ca: String::new(), ..identity };
    assert!(authenticated(&damaged).unwrap_err().to_string().contains("CA"));
}

/// A server of `ca` for `10.0.0.1` whose certificate is valid in these years.
fn dated(ca: &Ca, years: (i32, i32)) -> ServerConfig {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.subject_alt_names = vec![SanType::IpAddress("10.0.0.1".parse().unwrap())];
    parameters.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let key = KeyPair::generate().unwrap();
    let leaf = parameters.signed_by(&key, &ca.0).unwrap();
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone(), ca.0.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap()
}

#[test]
fn a_server_that_is_not_trusted_is_told_by_its_cause() {
    let (ca, other) = (Ca::new(), Ca::new());
    let told = Timestamp(1_795_464_000_000_000);
    let client = || pinned_at_boot(ca.fingerprint(), told).unwrap();
    let words = |client: ClientConfig, server: ServerConfig| {
        let text = handshake(client, server).unwrap_err().to_string();
        let now =
            text.split_once("clock says ").and_then(|(_, rest)| rest.split([',', ':']).next());
        let text = now.map_or(text.clone(), |now| {
            // The time of day has colons of its own.
            let at = text.find(now).unwrap();
            let end = at + text[at..].find('Z').unwrap() + 1;
            format!("{}NOW{}", &text[..at], &text[end..])
        });
        text.replace(&ca.fingerprint().to_string(), "OURS")
            .replace(&other.fingerprint().to_string(), "OTHER")
    };
    let mut lines = vec![
        words(client(), other.server("10.0.0.1", true)),
        words(client(), ca.server("10.0.0.1", false)),
        words(client(), dated(&ca, (2900, 2999))),
        words(client(), dated(&ca, (2000, 2001))),
    ];
    // The agent, which was told nothing by a boot, and whose CA another server does not have.
    let identity = crate::agent::test_server::identity(&ca.0, &ca.0);
    lines.push(words(authenticated(&identity).unwrap(), dated(&ca, (2900, 2999))));
    lines.push(words(authenticated(&identity).unwrap(), other.server("10.0.0.1", true)));
    expect_test::expect![[r#"
        other error: the server's certificate is of another CA: expected fingerprint OURS, got OTHER; another server answers at this address, or this one's `ca/` was replaced: boot the node again
        other error: the server's certificate is of another CA: expected fingerprint OURS, got none; another server answers at this address, or this one's `ca/` was replaced: boot the node again
        other error: the server's certificate is valid from 2900-01-01T00:00:00Z, and this node's clock says NOW, the server's said 2026-11-23T20:00:00Z when this node booted: one of the two clocks is wrong; the server makes its certificate by its own clock
        other error: the server's certificate ended on 2001-01-01T00:00:00Z, and this node's clock says NOW, the server's said 2026-11-23T20:00:00Z when this node booted: one of the two clocks is wrong, since the server renews its certificate long before its end
        other error: the server's certificate is valid from 2900-01-01T00:00:00Z, and this node's clock says NOW: one of the two clocks is wrong; the server makes its certificate by its own clock
        other error: the server's certificate is of another CA: expected fingerprint OURS, got OTHER; another server answers at this address, or this one's `ca/` was replaced: boot the node again
    "#]]
    .assert_eq(&(lines.join("\n") + "\n"));
}
