//! A fresh certificate when half of the old one's life is over: a new key, `POST /node/v1/renew`
//! with the old certificate, the identity file replaced in one step. The next dial uses it.

use std::{sync::Arc, time::Duration};

use api::{
    enroll::{AgentIdentity, Enrolled, Renew},
    ids::Timestamp,
};

use super::{
    backoff::{agent_backoff, jitter},
    kept_identity::KeptIdentity,
};
use crate::{
    clock,
    fleet_port::{FleetPort, FleetPortError},
    identity::{IdentityError, NodeKey},
    random::random,
    tls,
};

/// How often the clock is looked at. It may be set forward, so one long sleep will not do.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Why there is no fresh certificate.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The certificate in hand cannot be read.
    #[error("cannot read the dates of the node's certificate: {0}")]
    Dates(String),
    /// Key or identity file failed.
    #[error("cannot make the new identity")]
    Identity(#[from] IdentityError),
    /// The present identity is damaged.
    #[error("cannot use the present identity")]
    Tls(#[from] tls::TlsError),
    /// No server renewed it.
    #[error("no server renews the certificate")]
    Ask(#[from] FleetPortError),
}

/// Renews in time, for ever.
pub async fn renew_certificates(kept: Arc<KeptIdentity>) {
    let mut backoff = agent_backoff();
    loop {
        let present = kept.present();
        let due = match renew_at(&present) {
            Ok(due) => due,
            Err(error) => {
                tracing::error!("{error}; the certificate will not be renewed");
                return;
            }
        };
        while clock::now() < due {
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
        let fresh = renew(&kept.present()).await;
        match fresh.and_then(|fresh| Ok(kept.change(|present| renewed(present, &fresh))?)) {
            Ok(fresh) => {
                tracing::info!(until = %fresh.not_after, "certificate renewed");
                backoff.reset();
            }
            Err(error) => {
                let expired = clock::now() > present.not_after;
                let error = anyhow::Error::from(error);
                if expired {
                    tracing::error!(
                        "{error:#}; the old certificate has expired: reboot the node to enrol it again"
                    );
                } else {
                    tracing::warn!(until = %present.not_after, "{error:#}; trying again");
                }
            }
        }
        // Also after a success: a server that grants certificates which are due at once is not
        // asked in a loop.
        tokio::time::sleep(CHECK_INTERVAL + backoff.pause(jitter(random()))).await;
    }
}

/// When half of the certificate's life is over.
fn renew_at(identity: &AgentIdentity) -> Result<Timestamp, RenewalError> {
    let dates = |error: &dyn std::fmt::Display| RenewalError::Dates(error.to_string());
    let (_, pem) = x509_parser::pem::parse_x509_pem(identity.certificate.as_bytes())
        .map_err(|error| dates(&error))?;
    let certificate = pem.parse_x509().map_err(|error| dates(&error))?;
    let begins = Timestamp(0).plus_seconds(certificate.validity().not_before.timestamp());
    let ends = Timestamp(0).plus_seconds(certificate.validity().not_after.timestamp());
    Ok(begins.plus_seconds((ends.seconds() - begins.seconds()) / 2))
}

/// The identity with what a renewal brings. All else may have changed while the server was asked.
pub(super) fn renewed(present: &AgentIdentity, fresh: &AgentIdentity) -> AgentIdentity {
    AgentIdentity {
        node: fresh.node.clone(),
        certificate: fresh.certificate.clone(),
        ca: fresh.ca.clone(),
        not_after: fresh.not_after,
        key: fresh.key.clone(),
        ..present.clone()
    }
}

async fn renew(present: &AgentIdentity) -> Result<AgentIdentity, RenewalError> {
    let key = NodeKey::generate()?;
    let port = FleetPort::new(present.fleet_servers.clone(), tls::authenticated(present)?)?;
    let granted: Enrolled =
        port.post("/node/v1/renew", &Renew { csr: key.signing_request()? }).await?;
    let fresh = AgentIdentity {
        node: granted.node,
        certificate: granted.certificate,
        ca: granted.ca,
        not_after: granted.not_after,
        key: key.to_pem(),
        ..present.clone()
    };
    // What cannot be used must not replace what can.
    tls::authenticated(&fresh)?;
    renew_at(&fresh)?;
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{CertificateSigningRequestParams, PublicKeyData};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{
        agent::test_server::{Ca, acceptor, ca, identity, listen},
        identity as file,
    };

    #[test]
    fn half_of_the_life() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.not_before = rcgen::date_time_ymd(2026, 11, 1);
        parameters.not_after = rcgen::date_time_ymd(2026, 11, 3);
        let (ca, certificate) = (ca(), parameters.self_signed(&key).unwrap().pem());
        let mut identity = AgentIdentity { certificate, ..identity(&ca, &ca) };
        assert_eq!(renew_at(&identity).unwrap().to_string(), "2026-11-02T00:00:00Z");
        identity.certificate =
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into();
        assert!(renew_at(&identity).is_err());
    }

    /// The body of one HTTP request with `Content-Length`.
    async fn body(stream: &mut (impl AsyncReadExt + Unpin)) -> (String, Vec<u8>) {
        let mut bytes = Vec::new();
        loop {
            stream.read_buf(&mut bytes).await.unwrap();
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            let Some(end) = text.find("\r\n\r\n") else { continue };
            let length =
                text.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            if bytes.len() == end + 4 + length.parse::<usize>().unwrap() {
                let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
                return (head, bytes.split_off(end + 4));
            }
        }
    }

    /// What the fleet does: another certificate for the key of the request.
    fn grant(ca: &Ca, request: &[u8]) -> (Vec<u8>, Enrolled) {
        let renew: Renew = serde_json::from_slice(request).unwrap();
        let mut request = CertificateSigningRequestParams::from_pem(&renew.csr).unwrap();
        request.params.not_after = rcgen::date_time_ymd(2998, 1, 1);
        let granted = Enrolled {
            node: "n1".parse().unwrap(),
            certificate: request.signed_by(ca).unwrap().pem(),
            ca: ca.pem(),
            not_after: Timestamp(7),
            server_time: Timestamp(0),
        };
        (request.public_key.der_bytes().to_vec(), granted)
    }

    #[tokio::test]
    async fn a_renewal_brings_a_certificate_for_a_new_key() {
        let ca = ca();
        let (listener, address) = listen().await;
        let old = AgentIdentity { fleet_servers: vec![address], ..identity(&ca, &ca) };
        let acceptor = acceptor(&ca);
        let server = async {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            let (head, request) = body(&mut stream).await;
            assert!(head.starts_with("POST /node/v1/renew HTTP/1.1\r\n"), "{head}");
            let (public_key, granted) = grant(&ca, &request);
            let json = serde_json::to_string(&granted).unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{json}", json.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            (public_key, granted)
        };
        let (fresh, (public_key, granted)) = tokio::join!(renew(&old), server);
        let fresh = fresh.unwrap();
        let key = rcgen::KeyPair::from_pem(&fresh.key).unwrap();
        assert_eq!(key.der_bytes(), public_key);
        assert_ne!(fresh.key, old.key);
        let expected = AgentIdentity {
            certificate: granted.certificate,
            not_after: Timestamp(7),
            key: fresh.key.clone(),
            ..old
        };
        assert_eq!(fresh, expected);

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.json");
        file::store(&path, &fresh).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file::load(&path).unwrap(), fresh);
    }

    #[tokio::test]
    async fn without_a_server_the_old_certificate_stays() {
        let ca = ca();
        let (listener, address) = listen().await;
        drop(listener);
        let old = AgentIdentity { fleet_servers: vec![address], ..identity(&ca, &ca) };
        let error = renew(&old).await.unwrap_err();
        assert!(matches!(error, RenewalError::Ask(_)), "{error:?}");
    }
}
