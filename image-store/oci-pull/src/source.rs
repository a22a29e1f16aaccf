//! One image at one host: its manifest and its config, found for a platform and put into the store.
//! Called by [`crate::pull`] for each mirror and for the registry itself; `layers` then takes the
//! layers from the same host.

use std::{fmt, sync::Arc};

use api::ids::Digest;
use image_store::{
    OciError, OciImage, Platform, Store,
    oci::{
        Document, MAX_DOCUMENT_BYTES, MAX_INDEX_DEPTH, choose, describe, digest_of, put_document,
    },
};

use crate::{
    Limits, PullError, RequestError, Stage, endpoint::Endpoint, pace::Traffic,
    transfer::TransferProgress,
};

/// Tags that an error about an unknown tag lists.
const MAX_TAGS_LISTED: usize = 20;

/// A host that an image is pulled from.
pub(crate) struct Source<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) moved: &'a TransferProgress,
    pub(crate) limits: &'a Limits,
    pub(crate) traffic: Arc<Traffic>,
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.endpoint).finish()
    }
}

impl Source<'_> {
    /// Finds the image for the platform; its manifest and config go into the store.
    pub(crate) async fn image(
        &self,
        version: &str,
        platform: &Platform,
        store: &Store,
    ) -> Result<OciImage, PullError> {
        let (mut version, mut indexes) = (version.to_owned(), Vec::new());
        for _ in 0..MAX_INDEX_DEPTH {
            let (digest, bytes) = self.manifest(&version, store).await?;
            match Document::parse(&digest, &bytes)? {
                Document::Index(index) => {
                    indexes.push(digest);
                    let entries: Vec<_> = index.manifests().iter().collect();
                    version = digest_of(&digest, choose(&entries, platform)?)?.to_string();
                }
                Document::Manifest(manifest) => {
                    let config = digest_of(&digest, manifest.config())?;
                    let bytes =
                        self.endpoint.document(&config.to_string(), MAX_DOCUMENT_BYTES).await;
                    let bytes = bytes.map_err(|error| self.failed("the config", error))?;
                    let bytes = in_background(store, move |store| {
                        verified(store, "config", &config, &bytes)
                    })
                    .await?;
                    let image = describe(&digest, &manifest, &bytes, platform)?;
                    return Ok(OciImage { indexes, ..image });
                }
            }
        }
        let problem = format!("more than {MAX_INDEX_DEPTH} indexes lie within each other");
        Err(self.failed("the manifest", RequestError::Nonsense { problem }))
    }

    /// A manifest or index, in the store, with its digest.
    async fn manifest(&self, version: &str, store: &Store) -> Result<(Digest, Vec<u8>), PullError> {
        let bytes = match self.endpoint.manifest(version, MAX_DOCUMENT_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Err(self.unknown(version, &error).await),
            Err(error) => return Err(self.failed("the manifest", error)),
        };
        let asked: Option<Digest> = version.parse().ok();
        in_background(store, move |store| {
            if let Some(digest) = asked {
                return Ok((digest, verified(store, "manifest", &digest, &bytes)?));
            }
            // What was asked for by tag is what its own bytes say that it is.
            let (digest, _) =
                store.put(bytes.as_slice()).map_err(|source| PullError::Store { source })?;
            Ok((digest, bytes))
        })
        .await
    }

    /// The error for a tag or repository that the registry does not know, with the tags
    /// that it does know.
    async fn unknown(&self, version: &str, said: &RequestError) -> PullError {
        PullError::Unknown {
            registry: self.registry(),
            repository: self.repository(),
            version: version.to_owned(),
            tags: self.endpoint.tags(MAX_TAGS_LISTED).await.unwrap_or_default(),
            is_by_code: said.is_by_code(),
        }
    }

    pub(crate) fn registry(&self) -> String {
        self.endpoint.host.to_string()
    }

    pub(crate) fn repository(&self) -> String {
        self.endpoint.repository.clone()
    }

    /// Names what failed.
    pub(crate) fn failed(&self, what: &'static str, source: RequestError) -> PullError {
        let (registry, repository) = (self.registry(), self.repository());
        let source = Box::new(source);
        if matches!(*source, RequestError::OutOfReach { .. }) {
            PullError::OutOfReach { registry, source: Some(source) }
        } else if source.is_unauthorized() {
            PullError::Unauthorized { registry, repository, source }
        } else if matches!(
            *source,
            RequestError::Connection { stage: Stage::Connect | Stage::Tls, .. }
        ) {
            PullError::Unreachable { registry, source }
        } else {
            PullError::Registry { registry, repository, what, source }
        }
    }
}

/// Puts a document into the store and takes it out again: if it was there before, nobody has looked
/// at what the registry sent, and only what is in the store may be believed.
fn verified(
    store: &Store,
    what: &'static str,
    digest: &Digest,
    bytes: &[u8],
) -> Result<Vec<u8>, PullError> {
    put_document(store, what, digest, bytes)?;
    let failed = |source| OciError::Blob { what, digest: *digest, source };
    Ok(store.map(digest).map_err(failed)?.as_ref().to_vec())
}

/// Runs blocking work on the store.
pub(crate) async fn in_background<T: Send + 'static>(
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
