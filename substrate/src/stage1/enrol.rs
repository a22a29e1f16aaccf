//! The one-time token becomes a certificate.

use std::time::Duration;

use api::{
    backoff::{Backoff, Jitter, Schedule},
    enroll::{AgentIdentity, Enroll, Enrolled},
    stage1::Stage1,
};

use crate::{
    clock,
    fleet_port::{FleetPort, FleetPortError},
    identity::{IdentityError, NodeKey},
    tls::{self, TlsError},
};

const ROUTE: &str = "/node/v1/enroll";

/// After this the token is worth nothing any more: it lives ten minutes.
pub const LIMIT: Duration = Duration::from_secs(9 * 60);

/// Pauses between rounds over all servers.
const PAUSES: Schedule =
    Schedule { first: Duration::from_secs(1), longest: Duration::from_secs(15) };

/// Why the node has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The server gave no token with the boot.
    #[error(
        "the server gave {node} no boot token: the node is not armed. It is armed by `bedplate node arm {node}`, by \
         `bedplate node reboot {node}`, and when its agent has been away"
    )]
    NotArmed {
        /// The node.
        node: String,
    },
    /// No key.
    #[error("cannot enrol")]
    Key(#[from] IdentityError),
    /// No TLS.
    #[error("cannot enrol")]
    Tls(#[from] TlsError),
    /// The server refused the token, or no server answered in time.
    #[error("cannot enrol")]
    Fleet(#[source] FleetPortError),
}

/// Gets a certificate for a new key. `progress` gets lines for people.
///
/// # Errors
/// [`EnrolError`].
pub async fn enrol(
    stage1: &Stage1,
    progress: &mut dyn FnMut(&str),
) -> Result<AgentIdentity, EnrolError> {
    let node = stage1.node.to_string();
    let token = stage1.token.clone().ok_or(EnrolError::NotArmed { node })?;
    let key = NodeKey::generate()?;
    let request = Enroll { id: stage1.id, token, csr: key.signing_request()? };
    let trust = tls::pinned_at_boot(stage1.ca_fingerprint, stage1.server_time)?;
    let fleet = FleetPort::new(stage1.fleet_servers.clone(), trust).map_err(EnrolError::Fleet)?;
    let started = clock::monotonic();
    let mut backoff = Backoff::new(PAUSES);
    let enrolled: Enrolled = loop {
        match fleet.post(ROUTE, &request).await {
            Ok(enrolled) => break enrolled,
            Err(error) if error.is_final() || started.elapsed() > LIMIT => {
                return Err(EnrolError::Fleet(error));
            }
            Err(error) => {
                let (why, pause) = (crate::console::chain(&error), backoff.pause(Jitter::None));
                progress(&format!("cannot enrol: {why}; trying again in {} s", pause.as_secs()));
                tokio::time::sleep(pause).await;
            }
        }
    };
    Ok(AgentIdentity {
        node: enrolled.node,
        id: stage1.id,
        fleet_servers: stage1.fleet_servers.clone(),
        ca: enrolled.ca,
        certificate: enrolled.certificate,
        key: key.to_pem(),
        not_after: enrolled.not_after,
        image: stage1.root.version.clone(),
    })
}
