//! Inline files of a document: kept as artifacts before the workflow is taken, so that nodes can fetch them by digest.

use std::collections::BTreeMap;

use document::Workflow;

use crate::{
    engine::{Inline, file_key, script_key},
    images::JobImages,
};

/// All inline files of a document by the names that the engine knows them by.
fn contents(workflow: &Workflow) -> BTreeMap<String, Vec<u8>> {
    let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (name, text) in &workflow.files {
        all.insert(name.clone(), text.clone().into_bytes());
    }
    for job in &workflow.jobs {
        if let Some(script) = &job.script {
            all.insert(script_key(&job.name), script.clone().into_bytes());
        }
        for (path, text) in &job.files {
            all.insert(file_key(&job.name, path), text.clone().into_bytes());
        }
    }
    all
}

/// Keeps the inline files of a document. The same contents have the same digest: after a restart this finds them again.
pub(crate) async fn keep(workflow: &Workflow, images: &JobImages) -> Result<Inline, image_store::StoreError> {
    let mut inline = Inline::new();
    for (name, bytes) in contents(workflow) {
        let size = bytes.len() as u64;
        inline.insert(name, (images.keep(bytes).await?, size));
    }
    Ok(inline)
}
