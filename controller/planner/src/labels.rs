//! Labels that a request wants of a node, and what is told where none has them.

use std::collections::BTreeSet;

use crate::{Node, Request};

/// Values of one label that are named.
const MAX_NAMED: usize = 5;

/// No node has the labels that a request wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no node has {wanted}; {there}")]
pub struct NoLabel {
    /// The first label that no node has, `rack=a1`, or all, where each is on some node.
    pub wanted: String,
    /// What there is instead: `nodes have rack=a2, rack=a3`.
    pub there: String,
}

/// Whether a node has all labels that a request wants.
pub(crate) fn suits(node: &Node, request: &Request) -> bool {
    lacking(node, request).is_none()
}

/// The first label wanted that a node does not have.
fn lacking<'a>(node: &Node, request: &'a Request) -> Option<(&'a String, &'a String)> {
    request.labels.iter().find(|(key, value)| node.labels.get(*key) != Some(*value))
}

/// Why one node does not suit, for a list of reasons by node.
pub(crate) fn unsuited(node: &Node, request: &Request) -> Option<String> {
    let (key, value) = lacking(node, request)?;
    Some(match node.labels.get(key) {
        Some(other) => format!("{key}={other}, and {key}={value} is wanted"),
        None => format!("no label {key}, and {key}={value} is wanted"),
    })
}

/// Why none of these nodes suits.
pub(crate) fn no_label<'a>(request: &Request, nodes: impl Iterator<Item = &'a Node> + Clone) -> NoLabel {
    for (key, value) in &request.labels {
        let values: BTreeSet<&String> = nodes.clone().filter_map(|node| node.labels.get(key)).collect();
        if values.contains(value) {
            continue;
        }
        let there = match values.len() {
            0 => format!("none has a label {key}"),
            count => {
                let named = values.iter().take(MAX_NAMED).map(|value| format!("{key}={value}"));
                let named = named.collect::<Vec<_>>().join(", ");
                let more = match count.saturating_sub(MAX_NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more values"),
                };
                format!("nodes have {named}{more}")
            }
        };
        return NoLabel { wanted: format!("{key}={value}"), there };
    }
    let all: Vec<String> = request.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    NoLabel { wanted: all.join(", "), there: "each is on some node, and no node has all".to_owned() }
}
