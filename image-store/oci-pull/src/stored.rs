//! What the store knows of references by digest, without asking anybody.

use api::ids::Digest;
use image_store::{
    Platform, Store,
    oci::{Document, MAX_DOCUMENT_BYTES, MAX_INDEX_DEPTH, choose, digest_of},
};
use oci_spec::distribution::Reference;

/// The digest of the manifest that a reference by digest stands for, as far as the store knows: it
/// follows the indexes that it has. `None` for a reference by tag, which only a registry can
/// resolve, and for one that makes no sense. That the image is whole, or that anybody may have it,
/// is not said. Blocking for a few small files.
#[must_use]
pub fn manifest_in_store(reference: &str, platform: &Platform, store: &Store) -> Option<Digest> {
    let reference = Reference::try_from(reference).ok()?;
    let mut digest: Digest = reference.digest()?.parse().ok()?;
    for _ in 0..MAX_INDEX_DEPTH {
        let Some(Document::Index(index)) = document(&digest, store) else { break };
        let entries: Vec<_> = index.manifests().iter().collect();
        // If there is none for the platform, the registry's answer says so with its name.
        digest = digest_of(&digest, choose(&entries, platform).ok()?).ok()?;
    }
    Some(digest)
}

/// A manifest or index, if the store has it. Under its digest a blob is whole.
fn document(digest: &Digest, store: &Store) -> Option<Document> {
    let is_small = store.size(digest).ok()? <= MAX_DOCUMENT_BYTES;
    let bytes = is_small.then(|| store.map(digest).ok()).flatten()?;
    Document::parse(digest, bytes.as_ref()).ok()
}
