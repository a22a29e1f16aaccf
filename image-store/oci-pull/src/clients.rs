//! One HTTP client per registry, for who pulls often: it keeps its connections and the trusted
//! authorities, whose reading costs more than a small pull.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Certificate, Client, RequestBuilder, Url, redirect::Policy};

use crate::{
    PullError,
    error::RequestError,
    reach::{Guard, Rules},
    registries::{HostSettings, Proxy, RegistryHost},
};

/// Registries whose clients are kept. Past it all are dropped and made again as they are asked for.
const MAX_KEPT: usize = 64;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a registry may send nothing in the middle of an answer, or before it.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest file of certificates that is read: that of a whole system has a fifth of it.
const MAX_CA_BYTES: u64 = 1 << 20;

/// Redirects that are followed for one request: a registry sends to its storage, and that to a node
/// of it.
const MAX_REDIRECTS: usize = 10;

/// What a client is made of: with other settings, or another file of certificates, it is another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ClientSettings {
    ca: Option<Vec<u8>>,
    proxy: Proxy,
    rules: Rules,
}

/// A client that connects to nothing that is out of reach.
#[derive(Debug, Clone)]
pub(crate) struct RegistryClient {
    client: Client,
    guard: Guard,
}

impl RegistryClient {
    /// A request. That `url` is within reach is seen to here, of a name when it is sent, and of
    /// each redirect when it is followed.
    pub(crate) fn get(&self, url: Url) -> Result<RequestBuilder, RequestError> {
        self.guard.announce(&url).map_err(RequestError::out_of_reach)?;
        Ok(self.client.get(url))
    }

    /// Without settings, for tests that send nothing.
    #[cfg(test)]
    pub(crate) fn unused() -> Self {
        Self { client: Client::new(), guard: Guard::new(Rules::default()) }
    }
}

/// Clients by registry. Clones share them.
#[derive(Clone, Default)]
pub struct Clients {
    kept: Arc<Mutex<BTreeMap<RegistryHost, (ClientSettings, RegistryClient)>>>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(kept.keys()).finish()
    }
}

impl Clients {
    /// The client for a registry with these settings, held to `rules`.
    pub(crate) fn of(
        &self,
        host: &RegistryHost,
        settings: &HostSettings,
        rules: Rules,
    ) -> Result<RegistryClient, PullError> {
        let unusable = |path: &Path, source| PullError::Certificates {
            registry: host.to_string(),
            path: path.to_owned(),
            source,
        };
        let ca = settings.ca.as_deref().map(|path| {
            let bytes = read_bounded(path, MAX_CA_BYTES).map_err(|error| unusable(path, error))?;
            let parsed = certificates(&bytes).map_err(|error| unusable(path, error))?;
            Ok::<_, PullError>((bytes, parsed))
        });
        let (ca, certificates) = ca.transpose()?.unzip();
        let made_of = ClientSettings { ca, proxy: settings.proxy.clone(), rules };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = kept.get(host).filter(|(before, _)| *before == made_of) {
            return Ok(client.clone());
        }
        let failed = |source| PullError::Client { registry: host.to_string(), source };
        let guard = Guard::new(made_of.rules.clone());
        let builder = Client::builder()
            .dns_resolver(Arc::new(guard.clone()))
            .redirect(redirects(guard.clone()))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(concat!("bedplate/", env!("CARGO_PKG_VERSION")))
            .tls_certs_merge(certificates.unwrap_or_default());
        let builder = match &settings.proxy {
            Proxy::Environment => builder,
            Proxy::Direct => builder.no_proxy(),
            Proxy::Through(url) => builder.proxy(reqwest::Proxy::all(url.clone()).map_err(failed)?),
        };
        let client = RegistryClient { client: builder.build().map_err(failed)?, guard };
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(host.clone(), (made_of, client.clone()));
        Ok(client)
    }
}

/// Follows redirects, none of them to what is out of reach. Those to another origin carry no login:
/// `reqwest` takes it off.
fn redirects(guard: Guard) -> Policy {
    Policy::custom(move |attempt| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(format!("more than {MAX_REDIRECTS} redirects"));
        }
        match guard.announce(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(error) => attempt.error(error),
        }
    })
}

/// The certificates of a PEM file, at least one.
fn certificates(pem: &[u8]) -> io::Result<Vec<Certificate>> {
    let invalid = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
    let certificates =
        Certificate::from_pem_bundle(pem).map_err(|error| invalid(error.to_string()))?;
    if certificates.is_empty() {
        return Err(invalid("it holds no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}

/// A small regular file.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let invalid = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
    // Looked at before it is opened: a pipe would be waited for.
    if !fs::metadata(path)?.is_file() {
        return Err(invalid("it is no regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(invalid(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Reads a file of certificates as a pull would.
pub(crate) fn look(path: &Path) -> io::Result<()> {
    certificates(&read_bounded(path, MAX_CA_BYTES)?).map(|_| ())
}
