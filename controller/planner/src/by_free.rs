//! Nodes where something may begin, by how many cores are free: where to look first.
//!
//! They are listed by each of their labels too: a request for a label of a few nodes
//! among thousands looks at those few, and the members of a group find the nodes that are
//! near to each other.

use std::collections::{BTreeMap, BTreeSet};

use api::ids::NodeId;

use crate::{Node, Request};

/// Nodes by their free cores.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listed {
    nodes: BTreeSet<(usize, NodeId)>,
    /// Free cores of all of them.
    pub(crate) free_cores: usize,
}

impl Listed {
    fn insert(&mut self, entry: (usize, NodeId)) {
        if self.nodes.insert(entry) {
            self.free_cores += entry.0;
        }
    }

    fn remove(&mut self, entry: (usize, NodeId)) {
        if self.nodes.remove(&entry) {
            self.free_cores -= entry.0;
        }
    }

    /// Those with so many free cores at least, the fewest first.
    pub(crate) fn with_cores(&self, cores: u32) -> impl Iterator<Item = NodeId> {
        let least = (cores as usize, NodeId(Default::default()));
        self.nodes.range(least..).map(|&(_, node)| node)
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByFree {
    all: Listed,
    /// By key and value of their labels; no list is empty.
    labelled: BTreeMap<String, BTreeMap<String, Listed>>,
}

impl ByFree {
    /// Lists a node that has so many cores free.
    pub(crate) fn insert(&mut self, node: &Node, cores: usize) {
        let entry = (cores, node.id);
        self.all.insert(entry);
        for (key, value) in &node.labels {
            match self.labelled.get_mut(key).and_then(|values| values.get_mut(value)) {
                Some(listed) => listed.insert(entry),
                None => {
                    let values = self.labelled.entry(key.clone()).or_default();
                    values.entry(value.clone()).or_default().insert(entry);
                }
            }
        }
    }

    /// Takes a node out that was listed with so many free cores, if it was.
    pub(crate) fn remove(&mut self, node: &Node, cores: usize) {
        let entry = (cores, node.id);
        self.all.remove(entry);
        for (key, value) in &node.labels {
            let Some(values) = self.labelled.get_mut(key) else { continue };
            let Some(listed) = values.get_mut(value) else { continue };
            listed.remove(entry);
            if listed.nodes.is_empty() {
                values.remove(value);
            }
            if values.is_empty() {
                self.labelled.remove(key);
            }
        }
    }

    /// Nodes that a request may begin on, by their labels and free cores, the fewest first: all
    /// that can be, and maybe others.
    pub(crate) fn candidates(&self, request: &Request) -> impl Iterator<Item = NodeId> {
        let listed = match request.labels.is_empty() {
            true => Some(&self.all),
            false => self.fewest(request),
        };
        let cores = request.cores;
        listed.into_iter().flat_map(move |listed| listed.with_cores(cores))
    }

    /// The nodes with each value of a label.
    pub(crate) fn by_value(&self, key: &str) -> impl Iterator<Item = (&str, &Listed)> {
        let values = self.labelled.get(key);
        values.into_iter().flatten().map(|(value, listed)| (value.as_str(), listed))
    }

    /// The nodes of the label that fewest have; `None` if one of the labels is nowhere.
    fn fewest(&self, request: &Request) -> Option<&Listed> {
        let of = |(key, value): (&String, &String)| self.labelled.get(key)?.get(value);
        let lists: Option<Vec<&Listed>> = request.labels.iter().map(of).collect();
        lists?.into_iter().min_by_key(|listed| listed.nodes.len())
    }

    /// How many nodes [`Self::candidates`] would go through.
    #[cfg(test)]
    pub(crate) fn count(&self, request: &Request) -> usize {
        self.candidates(request).count()
    }
}
