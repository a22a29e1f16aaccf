//! What `bedplate server check` says of rows that the server will read.

use std::path::Path;

use api::image::OperationState;
use database::{Database, DatabaseError};

use image_store::ExpectedBlob;

use crate::{
    images,
    store::{
        OperationRecord, Store as _, StoreError, UnreadableImage,
        sql::{SqlStore, UNREADABLE_OPERATION},
    },
};

/// Nodes, profiles and image versions whose rows cannot be read, and versions that nodes with this
/// substrate program cannot boot, a line each. The server starts without them.
///
/// # Errors
/// [`DatabaseError`] if the tables cannot be read.
pub async fn problems(database: &Database, substrate: &Path) -> Result<Vec<String>, DatabaseError> {
    let store = SqlStore::new(database.clone());
    read(&store, substrate).await.map_err(database_error)
}

/// Files that the image versions of the database are made of, in the store `images/` of the state
/// directory: what boots, and the layers that stage 1 is made of again.
///
/// # Errors
/// [`DatabaseError`] if the table cannot be read.
pub async fn image_files(database: &Database) -> Result<Vec<ExpectedBlob>, DatabaseError> {
    let images = SqlStore::new(database.clone()).images().await.map_err(database_error)?;
    let mut files = Vec::new();
    for record in images.images {
        let version = &record.version;
        let of = format!("image {}@{}", record.name, version.version);
        let kernels = version.kernels.iter().flat_map(|kernel| [&kernel.kernel, &kernel.stage1]);
        let artifacts = kernels.chain([&version.root]);
        let named = artifacts.map(|one| (one.format.as_str(), one.digest, one.size));
        let layers = record.layers.iter().map(|layer| ("layer", layer.digest, layer.size));
        files.extend(named.chain(layers).map(|(what, digest, size)| ExpectedBlob {
            what: format!("the {what} of {of}"),
            digest,
            size: Some(size),
        }));
    }
    Ok(files)
}

fn database_error(error: StoreError) -> DatabaseError {
    match error {
        StoreError::Database(error) => error,
        // Reading meets nobody's change.
        StoreError::Conflict { .. } => DatabaseError::Failed { action: "read the nodes" },
    }
}

async fn read(store: &SqlStore, substrate: &Path) -> Result<Vec<String>, StoreError> {
    let line =
        |what: String, cause: &str| format!("{what} cannot be read from the database: {cause}");
    let mut lines = Vec::new();
    for profile in store.profiles().await? {
        lines.extend(
            profile.unreadable.map(|cause| line(format!("profile {}", profile.name), &cause)),
        );
    }
    for node in store.nodes().await? {
        lines.extend(node.unreadable.map(|cause| line(format!("node {}", node.name), &cause)));
    }
    let images = store.images().await?;
    let image =
        |one: &UnreadableImage| line(format!("image {}@{}", one.name, one.version), &one.cause);
    lines.extend(images.unreadable.iter().map(image));
    lines.extend(
        images.nameless.iter().map(|cause| line("name or version of an image".to_owned(), cause)),
    );
    for OperationRecord { operation, .. } in store.operations().await? {
        let OperationState::Failed { error } = operation.state else { continue };
        if operation.title == UNREADABLE_OPERATION {
            lines.push(format!("operation {}: {error}", operation.id));
        }
    }
    // If it cannot be read, that is told as such.
    if let Ok(program) = std::fs::read(substrate) {
        lines.extend(images::not_bootable(images, &program));
    }
    Ok(lines)
}
