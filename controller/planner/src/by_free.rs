//! Nodes where something may begin, by how many cores are free: where to look first.
//!
//! They are listed by each of their labels too: a request for a label of a few nodes among thousands
//! looks at those few.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Node, NodeKey, Request};

/// Free cores, and the node.
type Nodes = BTreeSet<(usize, NodeKey)>;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByFree {
    all: Nodes,
    /// By key and value of their labels; no set is empty.
    labelled: BTreeMap<String, BTreeMap<String, Nodes>>,
}

impl ByFree {
    /// Lists a node that has so many cores free.
    pub(crate) fn insert(&mut self, node: &Node, cores: usize) {
        let entry = (cores, node.key);
        self.all.insert(entry);
        for (key, value) in &node.labels {
            match self.labelled.get_mut(key).and_then(|values| values.get_mut(value)) {
                Some(nodes) => {
                    nodes.insert(entry);
                }
                None => {
                    let values = self.labelled.entry(key.clone()).or_default();
                    values.insert(value.clone(), Nodes::from([entry]));
                }
            }
        }
    }

    /// Takes a node out that was listed with so many free cores, if it was.
    pub(crate) fn remove(&mut self, node: &Node, cores: usize) {
        let entry = (cores, node.key);
        self.all.remove(&entry);
        for (key, value) in &node.labels {
            let Some(values) = self.labelled.get_mut(key) else { continue };
            let Some(nodes) = values.get_mut(value) else { continue };
            nodes.remove(&entry);
            if nodes.is_empty() {
                values.remove(value);
            }
            if values.is_empty() {
                self.labelled.remove(key);
            }
        }
    }

    /// Nodes that a request may begin on, by their labels and free cores, the fewest first: all that
    /// can be, and maybe others.
    pub(crate) fn candidates(&self, request: &Request) -> impl Iterator<Item = NodeKey> {
        let enough = (request.cores as usize, NodeKey(0))..;
        let nodes = match request.labels.is_empty() {
            true => Some(&self.all),
            false => self.fewest(request),
        };
        nodes.into_iter().flat_map(move |nodes| nodes.range(enough.clone())).map(|&(_, key)| key)
    }

    /// The nodes of the label that fewest have; `None` if one of the labels is nowhere.
    fn fewest(&self, request: &Request) -> Option<&Nodes> {
        let of = |(key, value): (&String, &String)| self.labelled.get(key)?.get(value);
        let sets: Option<Vec<&Nodes>> = request.labels.iter().map(of).collect();
        sets?.into_iter().min_by_key(|nodes| nodes.len())
    }

    /// How many nodes [`Self::candidates`] would go through.
    #[cfg(test)]
    pub(crate) fn count(&self, request: &Request) -> usize {
        self.candidates(request).count()
    }
}
