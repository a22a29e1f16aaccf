//! Questions about the hardware of all nodes: an expression that says which, columns that say what
//! of it. Pure; asked through `GET /v1/inventory`.
//!
//! Fields are called as in the JSON of [`api::inventory::Inventory`] and
//! [`api::status::NodeStatus`], with `_` for `-`, because `-` means minus in CEL. Labels keep their
//! keys: `labels["example.org/zone"]`. What a node does not tell is absent, not null, so that
//! `has()` says whether it is there.

mod columns;
mod fields;
mod filter;
pub(crate) mod fuzzing;
mod meter;

use api::{ids::NodeName, inventory::Inventory, labels::Labels, status::NodeStatus};
use serde_json::{Map, Value};

pub(crate) use self::{columns::Columns, filter::Filter};

/// Why a question has no answer of one node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// Its agent has never connected.
    #[error("it never told of its hardware")]
    NeverTold,
    /// What the database has of it is damaged: why, as far as who asks may read it.
    #[error("what it told of its hardware cannot be read from the database: {0}")]
    Damaged(String),
    /// Its inventory is no tree of fields.
    #[error("its inventory cannot be read")]
    NoFacts,
    /// It does not tell a field, or an element of one.
    #[error("it does not tell {0}")]
    NotTold(String),
    /// The type of the value, as CEL calls it.
    #[error("the expression gives a value of type {0}, neither true nor false")]
    NotBoolean(String),
    /// The expression was ended.
    #[error("it takes more than {} steps; loop over less, or match less", meter::MAX_STEPS)]
    TooManySteps,
    /// What CEL says of it, say of operands that do not go together.
    #[error("{0}")]
    Evaluation(String),
}

/// A mistake in a question, found before anything is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    /// From 1.
    pub(crate) line: u32,
    /// From 1.
    pub(crate) column: u32,
    pub(crate) message: String,
}

/// What else than its hardware is asked about a node.
#[derive(Debug)]
pub(crate) struct AskedNode {
    pub(crate) name: NodeName,
    pub(crate) labels: Labels,
    pub(crate) status: NodeStatus,
}

/// What expression and columns see of a node.
#[derive(Debug)]
pub(crate) struct Facts(Map<String, Value>);

impl Facts {
    /// `None` if it cannot be written as JSON, which no inventory of ours is.
    pub(crate) fn new(node: &AskedNode, inventory: &Inventory) -> Option<Self> {
        let Value::Object(mut facts) = snake(serde_json::to_value(inventory).ok()?) else {
            return None;
        };
        facts.insert("name".to_owned(), Value::String(node.name.to_string()));
        // So that `has(bmc.firmware)` can be asked of a node without one.
        facts.entry("bmc").or_insert_with(|| Value::Object(Map::new()));
        // Their keys are people's own words, hyphens and all.
        facts.insert("labels".to_owned(), serde_json::to_value(&node.labels).ok()?);
        facts.insert("status".to_owned(), snake(serde_json::to_value(&node.status).ok()?));
        Some(Self(facts))
    }
}

/// Keys with `_` for `-`, without those whose value is null.
fn snake(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let told = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(told.map(|(key, value)| (key.replace('-', "_"), snake(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(snake).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
