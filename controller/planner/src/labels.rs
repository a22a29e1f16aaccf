//! Labels that a request wants of a node, and what is told where none has them.

use rpds::RedBlackTreeMapSync;

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

/// Labels of nodes: of each value of each key how many nodes have it. So nodes by the ten thousand
/// need not be gone through for what none of them has. Clones share what does not change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels(RedBlackTreeMapSync<String, Counts>);

/// How many nodes have each value; no value has none.
type Counts = RedBlackTreeMapSync<String, usize>;

impl Labels {
    /// One node more.
    pub(crate) fn add(&mut self, node: &Node) {
        for (key, value) in &node.labels {
            let mut values = self.0.get(key).cloned().unwrap_or_default();
            let count = values.get(value).copied().unwrap_or(0);
            values.insert_mut(value.clone(), count + 1);
            self.0.insert_mut(key.clone(), values);
        }
    }

    /// A node less, with the labels that it was added with.
    pub(crate) fn remove(&mut self, node: &Node) {
        for (key, value) in &node.labels {
            let Some(mut values) = self.0.get(key).cloned() else { continue };
            match values.get(value).copied() {
                Some(count) if count > 1 => values.insert_mut(value.clone(), count - 1),
                _ => drop(values.remove_mut(value)),
            }
            match values.is_empty() {
                true => drop(self.0.remove_mut(key)),
                false => self.0.insert_mut(key.clone(), values),
            }
        }
    }

    /// Whether each label that a request wants is on some node.
    pub(crate) fn has_each(&self, request: &Request) -> bool {
        let has = |key: &str, value: &str| {
            self.0.get(key).is_some_and(|values| values.contains_key(value))
        };
        request.labels.iter().all(|(key, value)| has(key, value))
    }

    /// Why none of these nodes suits.
    pub(crate) fn no_label(&self, request: &Request) -> NoLabel {
        let none = Counts::default();
        for (key, value) in &request.labels {
            let values = self.0.get(key).unwrap_or(&none);
            if values.contains_key(value) {
                continue;
            }
            let there = match values.size() {
                0 => format!("none has a label {key}"),
                count => {
                    let named = values.keys().take(MAX_NAMED).map(|value| format!("{key}={value}"));
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
        let all: Vec<String> =
            request.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let there = "each is on some node, and no node has all".to_owned();
        NoLabel { wanted: all.join(", "), there }
    }
}
