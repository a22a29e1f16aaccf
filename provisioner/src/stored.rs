//! What `bedplate server check` says of rows that the server will read.

use database::{Database, DatabaseError};

use crate::store::{Store as _, StoreError, sql::SqlStore};

/// Nodes and profiles whose rows cannot be read, a line each. The server starts without them.
///
/// # Errors
/// [`DatabaseError`] if the tables cannot be read.
pub async fn problems(database: &Database) -> Result<Vec<String>, DatabaseError> {
    let store = SqlStore::new(database.clone());
    read(&store).await.map_err(|error| match error {
        StoreError::Database(error) => error,
        // Reading meets nobody's change.
        StoreError::Conflict { .. } => DatabaseError::Failed { action: "read the nodes" },
    })
}

async fn read(store: &SqlStore) -> Result<Vec<String>, StoreError> {
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
    Ok(lines)
}
