//! What `bedplate server check` says of rows of images that the server will read, and which files
//! those need.

use std::path::Path;

use api::image::OperationState;
use database::{Database, DatabaseError};
use image_store::ExpectedBlob;
use rest::causes;

use crate::{
    os,
    store::{
        OperationRecord, Store as _, StoreError, UnreadableImage,
        sql::{SqlStore, UNREADABLE_OPERATION},
    },
};

/// Versions of OS images whose rows cannot be read, and versions that nodes with this substrate
/// program cannot boot, a line each. The server starts without them.
///
/// # Errors
/// [`DatabaseError`] if the tables cannot be read.
pub async fn problems(database: &Database, substrate: &Path) -> Result<Vec<String>, DatabaseError> {
    let store = SqlStore::new(database.clone());
    read(&store, substrate).await.map_err(database_error)
}

/// Files that the versions of OS images are made of, in their store ([`crate::blobs`]): what boots,
/// and the layers that stage 1 is made of again.
///
/// # Errors
/// [`DatabaseError`] if the table cannot be read.
pub async fn os_image_files(database: &Database) -> Result<Vec<ExpectedBlob>, DatabaseError> {
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

/// What the table of job images says.
#[derive(Debug, Default)]
pub struct StoredJobImages {
    /// Those that cannot be read, a line each. They are converted again.
    pub problems: Vec<String>,
    /// Their root file systems, in their store ([`crate::blobs`]).
    pub files: Vec<ExpectedBlob>,
}

/// Reads the job images, and changes nothing.
///
/// # Errors
/// [`DatabaseError`] if the table cannot be read.
pub async fn stored_job_images(database: &Database) -> Result<StoredJobImages, DatabaseError> {
    let mut found = StoredJobImages::default();
    for image in SqlStore::new(database.clone()).each_job_image().await? {
        match image {
            Err(error) => {
                let line = format!(
                    "a job image cannot be read: {}; it is converted again",
                    causes(&error)
                );
                found.problems.push(line);
            }
            Ok(kept) => found.files.push(ExpectedBlob {
                what: format!("the root of job image {}", kept.image.manifest),
                digest: kept.image.root.digest,
                size: Some(kept.image.root.size),
            }),
        }
    }
    Ok(found)
}

fn database_error(error: StoreError) -> DatabaseError {
    match error {
        StoreError::Database(error) => error,
        // Reading meets nobody's change.
        StoreError::Conflict { .. } => DatabaseError::Failed { action: "read the images" },
    }
}

async fn read(store: &SqlStore, substrate: &Path) -> Result<Vec<String>, StoreError> {
    let line =
        |what: String, cause: &str| format!("{what} cannot be read from the database: {cause}");
    let mut lines = Vec::new();
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
        lines.extend(os::not_bootable(images, &program));
    }
    Ok(lines)
}
