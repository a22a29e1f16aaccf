//! Which nodes a request may go to: any, one, or a set with a bit for each node of a
//! [`Cluster`](crate::Cluster).
//!
//! A cluster numbers its nodes from 0 in the order in which they are first named: by `put_node`,
//! `occupy` or `node_set`. A node keeps its index as long as the cluster lives, through removal and
//! return, and no other node ever gets it. So a set stays right while nodes come and go: a node
//! that is removed is skipped, it is in the set again when it is back, and a node that the set was
//! not made of never gets into it.

use std::{collections::BTreeMap, sync::Arc};

use api::ids::NodeId;

/// Nodes of one cluster, made by [`Cluster::node_set`](crate::Cluster::node_set); another cluster
/// numbers them otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeSet {
    /// A bit for each index, from the lowest of the first word. The last word is not zero, so equal
    /// sets have equal words.
    words: Vec<u64>,
}

impl NodeSet {
    pub(crate) fn of(indices: impl IntoIterator<Item = usize>) -> Self {
        let mut set = Self::default();
        for index in indices {
            let (word, bit) = position(index);
            if word >= set.words.len() {
                set.words.resize(word + 1, 0);
            }
            set.words[word] |= bit;
        }
        set
    }

    /// How many nodes are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no node is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(crate) fn contains(&self, index: usize) -> bool {
        let (word, bit) = position(index);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Indices of its nodes, ascending.
    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> {
        let bits = |(word, &bits): (usize, &u64)| {
            (0..WORD_BITS)
                .filter(move |bit| (bits >> bit) & 1 == 1)
                .map(move |bit| word * WORD_BITS + bit)
        };
        self.words.iter().enumerate().flat_map(bits)
    }
}

const WORD_BITS: usize = u64::BITS as usize;

/// The word of an index, and its bit there.
fn position(index: usize) -> (usize, u64) {
    (index / WORD_BITS, 1 << (index % WORD_BITS))
}

/// Which nodes a request may go to.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowed {
    /// Any node of the cluster.
    #[default]
    Any,
    /// One node alone: that of a volume, say.
    Only(NodeId),
    /// The nodes of a set that was made by the same cluster
    /// ([`Cluster::node_set`](crate::Cluster::node_set)).
    Of(Arc<NodeSet>),
}

impl Allowed {
    /// Whether a node is one of them.
    pub(crate) fn permits(&self, node: NodeId, index: usize) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => *only == node,
            Self::Of(set) => set.contains(index),
        }
    }
}

/// The index of each node that was ever named.
#[derive(Debug, Clone, Default)]
pub(crate) struct Indices {
    by_node: BTreeMap<NodeId, usize>,
    nodes: Vec<NodeId>,
}

impl Indices {
    /// The index of a node, given to it if it has none.
    pub(crate) fn of(&mut self, node: NodeId) -> usize {
        *self.by_node.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }

    /// The nodes of a set, by index.
    pub(crate) fn nodes(&self, set: &NodeSet) -> impl Iterator<Item = NodeId> {
        set.indices().filter_map(|index| self.nodes.get(index).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_indices_that_it_was_made_of() {
        for indices in [vec![], vec![0], vec![63, 64], vec![1, 64, 127, 128, 1000]] {
            let set = NodeSet::of(indices.iter().rev().copied());
            assert_eq!(set.indices().collect::<Vec<_>>(), indices);
            assert_eq!((set.len(), set.is_empty()), (indices.len(), indices.is_empty()));
            assert!((0..2000).all(|index| set.contains(index) == indices.contains(&index)));
        }
    }
}
