//! Pulls an OCI image from a registry into an [`image_store::Store`]. Called by `provisioner` for `docker://…`.
//!
//! OCI distribution-spec 1.1 over HTTPS; plain HTTP only to loopback addresses, or where the caller says `insecure`.
//! Manifest and config first (small, checked against their digests), then the layers, [`PARALLEL_LAYERS`] at a time,
//! streamed to disk. A broken transfer goes on where it stopped, in the same pull or in the next one. Digests and
//! sizes are checked by the store, not by the registry's word.

mod clients;
mod credentials;
mod error;
mod layers;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use futures_util::StreamExt;
use image_store::{
    OciImage, Platform, Progress, Store,
    oci::{Document, MAX_DOCUMENT_BYTES, MAX_INDEX_DEPTH, choose, describe, digest_of, put_document},
};
use oci_client::{Client, Reference, errors::OciDistributionError, manifest, secrets::RegistryAuth};

pub use clients::Clients;
pub use credentials::usual_credential_files;
pub use error::PullError;

/// Layers that are transferred at the same time. More gained 2 % on loopback and asks more of a registry.
pub const PARALLEL_LAYERS: usize = 4;

/// Tags that an error about an unknown tag lists.
const MAX_TAGS_LISTED: usize = 20;

/// How often a transfer that brings nothing new is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in a row that bring not one byte, after which the pull fails. An attempt that brings some starts the
    /// count anew.
    pub attempts: u32,
    /// Pause after the first such attempt; it doubles with each.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
}

impl Default for Retry {
    /// Eight attempts within half a minute: as long as a registry takes to be restarted.
    fn default() -> Self {
        Self { attempts: 8, first_pause: Duration::from_millis(250), longest_pause: Duration::from_secs(8) }
    }
}

impl Retry {
    /// The pause after `failures` attempts in a row, at least one.
    fn pause(&self, failures: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
        doubled.min(self.longest_pause)
    }
}

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The image to choose where there are several.
    pub platform: Platform,
    /// Speak plain HTTP to a registry that is not on loopback.
    pub insecure: bool,
    /// `auth.json` or `config.json` files to look for a login in, best first; those that are missing are skipped.
    pub credential_files: Vec<PathBuf>,
    /// What to do when the connection breaks.
    pub retry: Retry,
    /// Where the registry's client is kept for the next pull; clones of one [`Clients`] share them.
    pub clients: Clients,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            platform: Platform::default(),
            insecure: false,
            credential_files: usual_credential_files(),
            retry: Retry::default(),
            clients: Clients::default(),
        }
    }
}

/// A registry, an image in it, and how to get in.
struct Source {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
    retry: Retry,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("reference", &self.reference).field("auth", &self.auth).finish()
    }
}

/// Pulls `reference` (`HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`) into the store.
///
/// Safe to drop at any point: layers that are whole stay in the store, a layer under way stays as a partial file that
/// the next pull takes up. Needs a rustls provider installed as the process default.
///
/// # Errors
/// [`PullError`]; the messages name registry and repository.
pub async fn pull(
    reference: &str,
    options: &PullOptions,
    store: &Store,
    progress: Arc<dyn Progress>,
) -> Result<OciImage, PullError> {
    let source = Source::open(reference, options)?;
    let image = source.image(&options.platform, store).await?;
    layers::pull_layers(&source, &image, store, &progress).await?;
    Ok(image)
}

impl Source {
    fn open(text: &str, options: &PullOptions) -> Result<Self, PullError> {
        let invalid = |problem: String| PullError::Reference { reference: text.to_owned(), problem };
        let reference = Reference::try_from(text).map_err(|e| invalid(e.to_string()))?;
        let registry = reference.resolve_registry().to_owned();
        let plain = options.insecure || is_loopback(&registry);
        let auth = credentials::find(&options.credential_files, &reference)?;
        let client = options.clients.of(&registry, &auth, plain)?;
        Ok(Self { client, reference, auth, retry: options.retry })
    }

    /// Finds the image for the platform; its manifest and config go into the store.
    async fn image(&self, platform: &Platform, store: &Store) -> Result<OciImage, PullError> {
        let mut reference = self.reference.clone();
        for _ in 0..MAX_INDEX_DEPTH {
            let bytes = self.manifest(&reference).await?;
            let digest = in_background(store, move |store| {
                // Whatever named it (a tag, or a digest that the client has checked), its own bytes say what it is.
                let (digest, _) =
                    store.put(bytes.as_slice()).map_err(|source| PullError::Store { source })?;
                Ok((digest, bytes))
            });
            let (digest, bytes) = digest.await?;
            match Document::parse(&digest, &bytes)? {
                Document::Index(index) => {
                    let entries: Vec<_> = index.manifests().iter().collect();
                    let chosen = digest_of(&digest, choose(&entries, platform)?)?;
                    reference = self.reference.clone_with_digest(chosen.to_string());
                }
                Document::Manifest(manifest) => {
                    let config = digest_of(&digest, manifest.config())?;
                    let bytes = self.config(&config.to_string()).await?;
                    // Its digest is checked before anything in it is believed.
                    let bytes = in_background(store, move |store| {
                        put_document(store, "config", &config, &bytes).map_err(PullError::Image)?;
                        Ok(bytes)
                    })
                    .await?;
                    let image = describe(&digest, &manifest, &bytes, platform)?;
                    return Ok(image);
                }
            }
        }
        Err(self.failed(
            "the manifest",
            OciDistributionError::SpecViolationError(format!(
                "more than {MAX_INDEX_DEPTH} indexes lie within each other"
            )),
        ))
    }

    async fn manifest(&self, reference: &Reference) -> Result<Vec<u8>, PullError> {
        let accepted = [
            manifest::OCI_IMAGE_MEDIA_TYPE,
            manifest::OCI_IMAGE_INDEX_MEDIA_TYPE,
            manifest::IMAGE_MANIFEST_MEDIA_TYPE,
            manifest::IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        ];
        let fetch = || self.client.pull_manifest_raw(reference, &self.auth, &accepted);
        match self.again(fetch).await {
            Ok((bytes, _)) => self.sized(bytes.to_vec(), "the manifest"),
            Err(error) if error::is_not_found(&error) => Err(self.unknown().await),
            Err(error) => Err(self.failed("the manifest", error)),
        }
    }

    async fn config(&self, digest: &str) -> Result<Vec<u8>, PullError> {
        let fetch = || async {
            let mut stream = self.client.pull_blob_stream(&self.reference, digest).await?.stream;
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.next().await {
                bytes.extend_from_slice(&chunk?);
                if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
                    break;
                }
            }
            Ok(bytes)
        };
        let bytes = self.again(fetch).await.map_err(|error| self.failed("the config", error))?;
        self.sized(bytes, "the config")
    }

    /// Fetches something small, again where that can help.
    async fn again<T, F>(&self, fetch: impl Fn() -> F) -> Result<T, OciDistributionError>
    where
        F: Future<Output = Result<T, OciDistributionError>>,
    {
        let mut failures = 0;
        loop {
            match fetch().await {
                // Where nobody listens, waiting would only hide a wrong name or port.
                Err(error) if error::is_transient(&error) && !error::is_connect(&error) => {
                    failures += 1;
                    if failures >= self.retry.attempts {
                        return Err(error);
                    }
                    tracing::info!(registry = %self.registry(), %error, "a request failed, trying again");
                    tokio::time::sleep(self.retry.pause(failures)).await;
                }
                result => return result,
            }
        }
    }

    fn sized(&self, bytes: Vec<u8>, what: &'static str) -> Result<Vec<u8>, PullError> {
        if bytes.len() as u64 <= MAX_DOCUMENT_BYTES {
            return Ok(bytes);
        }
        let problem = format!("it has more than {MAX_DOCUMENT_BYTES} bytes");
        Err(self.failed(what, OciDistributionError::SpecViolationError(problem)))
    }

    /// The error for a tag or repository that the registry does not know, with the tags that it does know.
    async fn unknown(&self) -> PullError {
        let listed = self.client.list_tags(&self.reference, &self.auth, Some(MAX_TAGS_LISTED), None).await;
        PullError::Unknown {
            registry: self.registry(),
            repository: self.repository(),
            version: match (self.reference.digest(), self.reference.tag()) {
                (Some(digest), _) => digest.to_owned(),
                (None, tag) => tag.unwrap_or("latest").to_owned(),
            },
            tags: listed.map(|tags| tags.tags).unwrap_or_default(),
        }
    }

    fn registry(&self) -> String {
        self.reference.registry().to_owned()
    }

    fn repository(&self) -> String {
        self.reference.repository().to_owned()
    }

    /// Names what failed.
    fn failed(&self, what: &'static str, error: OciDistributionError) -> PullError {
        let (registry, repository) = (self.registry(), self.repository());
        let source = Box::new(error);
        if error::is_unauthorized(&source) {
            PullError::Unauthorized { registry, repository, source }
        } else if error::is_connect(&source) {
            PullError::Unreachable { registry, source }
        } else {
            PullError::Registry { registry, repository, what, source }
        }
    }
}

/// Runs blocking work on the store.
async fn in_background<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> Result<T, PullError> + Send + 'static,
) -> Result<T, PullError> {
    let store = store.clone();
    match tokio::task::spawn_blocking(move || work(&store)).await {
        Ok(result) => result,
        Err(join) => match join.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(PullError::Cancelled),
        },
    }
}

/// `true` for `localhost`, `127.0.0.0/8` and `[::1]`, with or without a port.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_the_rest() {
        for yes in ["127.0.0.1:5000", "localhost", "localhost:1", "[::1]:5000", "127.9.9.9"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in
            ["10.0.0.1:5000", "localhost.example.org", "[fe80::1]:5000", "registry.example.org", "1271.0.0.1"]
        {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let retry = Retry::default();
        let pauses: Vec<u128> = (1..=8).map(|failures| retry.pause(failures).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
    }
}
