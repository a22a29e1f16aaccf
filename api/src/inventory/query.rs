//! What `GET /v1/inventory` answers.

use serde::{Deserialize, Serialize};

use super::Inventory;
use crate::ids::NodeName;

/// Nodes that a question is true of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Answer {
    /// Columns as they were asked for; none: whole inventories.
    pub columns: Vec<String>,
    /// The nodes, by name.
    pub nodes: Vec<Answered>,
    /// Nodes of which it cannot be said, mostly because they do not tell what the
    /// expression asks for.
    pub unclear: Vec<Unclear>,
}

/// A node that a question is true of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Answered {
    /// Its name.
    pub name: NodeName,
    /// Value of each column; `null` where it does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<serde_json::Value>,
    /// Its hardware, where no columns were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Box<Inventory>>,
}

/// A node of which an answer cannot be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Unclear {
    /// Its name.
    pub name: NodeName,
    /// Cause, for people: why the expression has no value for this node.
    pub cause: String,
}
