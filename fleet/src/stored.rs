//! What `bedplate server check` says of rows of nodes that the server will read.

use database::{Database, DatabaseError};
use rest::causes;

use crate::{
    hardware,
    store::{StoreError, StoredNode, sql::SqlStore},
};

/// Nodes whose state or inventory cannot be read, a line each. The server starts without what
/// cannot be read.
///
/// # Errors
/// [`DatabaseError`] if the tables cannot be read.
pub async fn problems(database: &Database) -> Result<Vec<String>, DatabaseError> {
    let store = SqlStore::new(database.clone());
    let mut lines = Vec::new();
    for node in store.each_node().await? {
        let StoredNode { row, unreadable } = match node {
            Ok(node) => node,
            Err(error) => {
                lines.push(format!("id or name of a node cannot be read: {}", causes(&error)));
                continue;
            }
        };
        let cannot = |what: &str, cause: &str| {
            format!("the {what} of node {} cannot be read from the database: {cause}", row.name)
        };
        lines.extend(unreadable.map(|cause| cannot("state", &cause)));
        match hardware::newest(&store, row.id).await {
            Ok(_) => {}
            Err(StoreError::Database(error)) => return Err(error),
            Err(StoreError::Decode { source, .. }) => {
                lines.push(cannot("inventory", &source.to_string()));
            }
            Err(error @ StoreError::NotWritten { .. }) => lines.push(cannot("inventory", &causes(&error))),
        }
    }
    Ok(lines)
}
