//! Inline files of a document: stored by digest before the workflow's plan is made, so that the
//! plan refers to them and nodes can fetch them.

use document::{
    Workflow,
    plan::{self, StoredFile, StoredFiles},
};
use image_catalog::JobImages;

/// Stores the inline files of a document. The same contents have the same digest: to do it twice is
/// to do it once.
pub(crate) async fn store(
    workflow: &Workflow,
    images: &JobImages,
) -> Result<StoredFiles, image_store::StoreError> {
    let mut stored = StoredFiles::new();
    for (key, contents) in plan::files(workflow) {
        let size = contents.len() as u64;
        let digest = images.keep(contents.as_bytes().to_vec()).await?;
        stored.insert(key, StoredFile { digest, size });
    }
    Ok(stored)
}
