//! The fleet ports, spoken to with the certificate that the node has at the moment. One pool of
//! connections for all runs; renewed with the certificate.

use std::sync::{Arc, Mutex, PoisonError};

use api::enroll::AgentIdentity;
use tokio::sync::watch;

use crate::{
    fleet_port::{FleetPort, FleetPortError},
    tls,
};

/// Why the servers cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// The node's certificate is of no use.
    #[error("cannot use the node's identity")]
    Identity(#[from] tls::TlsError),
    /// There is no HTTP client.
    #[error(transparent)]
    Client(#[from] FleetPortError),
}

type CachedClient = Option<(Arc<AgentIdentity>, FleetPort)>;

/// All servers of the node's identity.
#[derive(Debug, Clone)]
pub struct Servers {
    identity: watch::Receiver<Arc<AgentIdentity>>,
    made: Arc<Mutex<CachedClient>>,
}

impl Servers {
    /// Follows the identity.
    #[must_use]
    pub fn new(identity: watch::Receiver<Arc<AgentIdentity>>) -> Self {
        Self { identity, made: Arc::default() }
    }

    /// The port with the present certificate.
    ///
    /// # Errors
    /// [`ServersError`].
    pub fn port(&self) -> Result<FleetPort, ServersError> {
        let present = self.identity.borrow().clone();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((identity, port)) = &*made
            && Arc::ptr_eq(identity, &present)
        {
            return Ok(port.clone());
        }
        let port = FleetPort::new(present.fleet_servers.clone(), tls::authenticated(&present)?)?;
        *made = Some((present, port.clone()));
        Ok(port)
    }
}
