//! What fuzz targets and their replay (`fuzz/`) see of the reading of layers: the two passes as the
//! converter makes them, without jail, kernels and squashfs. Nothing that ships calls it.

use std::{fs::File, io::Write as _, sync::Arc};

use api::ids::Digest;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::{
    budget::Budget,
    layer::{Layer, LayerError, LayerFile},
    progress::NoProgress,
    scan::{contents, scan},
    tree::MAX_STEPS,
};

/// What became of some layers.
#[derive(Debug)]
pub struct Merged {
    /// The names in the tree, each with the number of directories above it.
    pub names: Vec<(Vec<u8>, usize)>,
    /// Bytes charged to the budget in the end.
    pub held_bytes: u64,
    /// Steps along paths and links.
    pub steps: u64,
    /// Contents that were read, bytes, holes of sparse files among them.
    pub content_bytes: u64,
}

/// Most steps that a merge may take.
pub const MAX_MERGE_STEPS: u64 = MAX_STEPS;

/// Merges layers, lowest first, and reads all contents up to `most_bytes`.
///
/// # Errors
/// [`LayerError`], as the converter has it.
pub fn merge_layers(
    layers: &[&[u8]],
    budget_bytes: u64,
    most_bytes: u64,
) -> Result<Merged, LayerError> {
    let files: Vec<LayerFile> =
        layers.iter().map(|bytes| in_memory(bytes)).collect::<Result<_, _>>()?;
    let budget = Arc::new(Budget::new(budget_bytes));
    let scanned = scan(&files, &budget, &NoProgress)?;
    let mut merged = Merged {
        names: Vec::new(),
        held_bytes: budget.held(),
        steps: scanned.tree.steps(),
        content_bytes: 0,
    };
    scanned.tree.each_name(|place| merged.names.push((place.name.to_vec(), place.depth)));
    contents(&files, &scanned.files(), |chunk| {
        merged.content_bytes += chunk.bytes.len() as u64;
        // A sparse file of a few bytes may have holes of gigabytes.
        if merged.content_bytes > most_bytes { Err(LayerError::Cancelled) } else { Ok(()) }
    })?;
    Ok(merged)
}

fn in_memory(bytes: &[u8]) -> Result<LayerFile, LayerError> {
    let layer = Layer {
        digest: Digest([0; 32]),
        size: bytes.len() as u64,
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
        diff_id: None,
    };
    let made = memfd_create("layer", MemfdFlags::CLOEXEC)
        .map_err(|errno| layer.unreadable(errno.into()))?;
    let mut file = File::from(made);
    file.write_all(bytes).map_err(|error| layer.unreadable(error))?;
    Ok(LayerFile { layer, file: Arc::new(file) })
}
