//! A fresh certificate when half of the old one's life is over: a new key, `POST /node/v1/renew` with the old
//! certificate, the identity file replaced in one step. The next dial uses it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use api::{
    enroll::{AgentIdentity, Enrolled, Renew},
    ids::Timestamp,
};
use tokio::sync::watch;

use super::{backoff::Backoff, random};
use crate::{
    clock,
    fleet_port::{FleetPort, FleetPortError},
    identity::{self, IdentityError, NodeKey},
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
pub async fn keep_fresh(path: PathBuf, identity: watch::Sender<Arc<AgentIdentity>>) {
    let mut backoff = Backoff::default();
    loop {
        let present = identity.borrow().clone();
        let due = match renew_at(&present) {
            Ok(due) => due,
            Err(error) => {
                tracing::error!("{error}; the certificate will not be renewed");
                return;
            }
        };
        if clock::now() < due {
            tokio::time::sleep(CHECK_INTERVAL).await;
            continue;
        }
        match renew(&present).await.and_then(|fresh| Ok(identity::store(&path, &fresh).map(|()| fresh)?)) {
            Ok(fresh) => {
                tracing::info!(until = %fresh.not_after, "certificate renewed");
                identity.send_replace(Arc::new(fresh));
                backoff.reset();
            }
            Err(error) => {
                let expired = clock::now() > present.not_after;
                let error = anyhow::Error::from(error);
                if expired {
                    tracing::error!(
                        "{error:#}; the old certificate has expired: reboot the node to enrol it anew"
                    );
                } else {
                    tracing::warn!(until = %present.not_after, "{error:#}; trying again");
                }
            }
        }
        // Also after a success: a server that grants certificates which are due at once is not asked in a loop.
        tokio::time::sleep(CHECK_INTERVAL + backoff.pause(random())).await;
    }
}

/// When half of the certificate's life is over.
fn renew_at(identity: &AgentIdentity) -> Result<Timestamp, RenewalError> {
    let dates = |error: &dyn std::fmt::Display| RenewalError::Dates(error.to_string());
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(identity.certificate.as_bytes()).map_err(|error| dates(&error))?;
    let certificate = pem.parse_x509().map_err(|error| dates(&error))?;
    let begins = Timestamp(0).plus_seconds(certificate.validity().not_before.timestamp());
    let ends = Timestamp(0).plus_seconds(certificate.validity().not_after.timestamp());
    Ok(begins.plus_seconds((ends.seconds() - begins.seconds()) / 2))
}

async fn renew(present: &AgentIdentity) -> Result<AgentIdentity, RenewalError> {
    let key = NodeKey::generate()?;
    let port = FleetPort::new(present.fleet_servers.clone(), tls::authenticated(present)?)?;
    let granted: Enrolled = port.post("/node/v1/renew", &Renew { csr: key.signing_request()? }).await?;
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
    use super::*;

    #[test]
    fn half_of_the_life() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::default();
        parameters.not_before = rcgen::date_time_ymd(2026, 11, 1);
        parameters.not_after = rcgen::date_time_ymd(2026, 11, 3);
        let certificate = parameters.self_signed(&key).unwrap().pem();
        let mut identity = AgentIdentity {
            node: "n1".parse().unwrap(),
            id: "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".parse().unwrap(),
            fleet_servers: Vec::new(),
            ca: String::new(),
            certificate,
            key: String::new(),
            not_after: Timestamp(0),
            image: String::new(),
        };
        assert_eq!(renew_at(&identity).unwrap().to_string(), "2026-11-02T00:00:00Z");
        identity.certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into();
        assert!(renew_at(&identity).is_err());
    }
}
