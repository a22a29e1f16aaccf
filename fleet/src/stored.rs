//! What `bedplate server check` says of rows of nodes that the server will read.

use api::ids::{NodeId, NodeName};
use database::{Database, DatabaseError};
use rest::causes;

use crate::store::{StoredNode, sql::SqlStore};

/// Nodes whose state cannot be read, a line each. The server starts without what cannot be read.
///
/// # Errors
/// [`DatabaseError`] if the tables cannot be read.
pub async fn problems(database: &Database) -> Result<Vec<String>, DatabaseError> {
    let mut lines = Vec::new();
    for node in SqlStore::new(database.clone()).each_node().await? {
        match node {
            Ok(StoredNode { unreadable: None, .. }) => {}
            Ok(StoredNode { row, unreadable: Some(cause) }) => lines.push(format!(
                "the state of node {} cannot be read from the database: {cause}",
                row.name
            )),
            Err(error) => {
                lines.push(format!("id or name of a node cannot be read: {}", causes(&error)))
            }
        }
    }
    Ok(lines)
}

/// The nodes in the database whose names can be read.
///
/// # Errors
/// [`DatabaseError`] if the table cannot be read.
pub async fn stored_nodes(database: &Database) -> Result<Vec<(NodeId, NodeName)>, DatabaseError> {
    let nodes = SqlStore::new(database.clone()).each_node().await?;
    Ok(nodes.into_iter().flatten().map(|node| (node.row.id, node.row.name)).collect())
}
