//! What `bedplate server check` says of rows that the server will read.

use std::path::Path;

use database::{Database, DatabaseError};

use crate::{
    images,
    store::{Store as _, StoreError, UnreadableImage, sql::SqlStore},
};

/// Nodes, profiles and image versions whose rows cannot be read, and versions that nodes with this
/// substrate program cannot boot, a line each. The server starts without them.
///
/// # Errors
/// [`DatabaseError`] if the tables cannot be read.
pub async fn problems(database: &Database, substrate: &Path) -> Result<Vec<String>, DatabaseError> {
    let store = SqlStore::new(database.clone());
    read(&store, substrate).await.map_err(|error| match error {
        StoreError::Database(error) => error,
        // Reading meets nobody's change.
        StoreError::Conflict { .. } => DatabaseError::Failed { action: "read the nodes" },
    })
}

async fn read(store: &SqlStore, substrate: &Path) -> Result<Vec<String>, StoreError> {
    let line = |what: String, cause: &str| format!("{what} cannot be read from the database: {cause}");
    let mut lines = Vec::new();
    for profile in store.profiles().await? {
        lines.extend(profile.unreadable.map(|cause| line(format!("profile {}", profile.name), &cause)));
    }
    for node in store.nodes().await? {
        lines.extend(node.unreadable.map(|cause| line(format!("node {}", node.name), &cause)));
    }
    let images = store.images().await?;
    let image = |one: &UnreadableImage| line(format!("image {}@{}", one.name, one.version), &one.cause);
    lines.extend(images.unreadable.iter().map(image));
    lines.extend(images.nameless.iter().map(|cause| line("name or version of an image".to_owned(), cause)));
    // If it cannot be read, that is told as such.
    if let Ok(program) = std::fs::read(substrate) {
        lines.extend(images::not_bootable(images, &program));
    }
    Ok(lines)
}
