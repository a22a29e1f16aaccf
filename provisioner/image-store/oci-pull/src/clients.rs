//! One client per registry, for who pulls often: it keeps its connections, the registry's tokens and the trusted
//! authorities, whose reading costs more than a small pull.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use oci_client::{
    Client,
    client::{ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};

use crate::PullError;

/// Registries whose clients are kept. Past it all are dropped and made anew as they are asked for.
const MAX_KEPT: usize = 64;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a registry may send nothing in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// By registry, and whether it is spoken to without TLS. A client keeps the first login it is given.
type Kept = BTreeMap<(String, bool), (RegistryAuth, Client)>;

/// Clients by registry. Clones share them.
#[derive(Clone, Default)]
pub struct Clients {
    kept: Arc<Mutex<Kept>>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(kept.keys()).finish()
    }
}

impl Clients {
    /// The client for a registry (`HOST[:PORT]`) with this login, over plain HTTP if `plain`.
    pub(crate) fn of(&self, registry: &str, auth: &RegistryAuth, plain: bool) -> Result<Client, PullError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (registry.to_owned(), plain);
        if let Some((_, client)) = kept.get(&key).filter(|(login, _)| login == auth) {
            return Ok(client.clone());
        }
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(if plain { vec![registry.to_owned()] } else { Vec::new() }),
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: concat!("bedplate/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| PullError::Client(Box::new(error)))?;
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key, (auth.clone(), client.clone()));
        Ok(client)
    }
}
