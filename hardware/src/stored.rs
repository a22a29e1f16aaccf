//! What `bedplate server check` says of inventories that the server will read.

use database::{Database, DatabaseError};
use fleet::StoreError;
use rest::causes;

use crate::{inventories::newest, store::sql::SqlStore};

/// Nodes whose newest inventory cannot be read, a line each. The server starts without what cannot
/// be read.
///
/// # Errors
/// [`DatabaseError`] if the tables cannot be read.
pub async fn problems(database: &Database) -> Result<Vec<String>, DatabaseError> {
    let store = SqlStore::new(database.clone());
    let mut lines = Vec::new();
    for (id, name) in fleet::stored_nodes(database).await? {
        let cause = match newest(&store, id).await {
            Ok(_) => continue,
            Err(StoreError::Database(error)) => return Err(error),
            Err(StoreError::Decode { source, .. }) => source.to_string(),
            Err(error @ StoreError::NotWritten { .. }) => causes(&error),
        };
        lines.push(format!(
            "the inventory of node {name} cannot be read from the database: {cause}; \
             it is replaced when the node next reports its hardware: reboot it, or restart its agent"
        ));
    }
    Ok(lines)
}
