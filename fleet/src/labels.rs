//! Labels of nodes: the provisioner says what they are, the controller places jobs by them.
//! The fleet keeps neither meaning nor copy on disk; it stands between two roles that do not
//! know each other.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use api::{ids::NodeId, labels::Labels};
use rpds::RedBlackTreeMapSync;
use tokio::sync::watch;

use crate::Fleet;

/// Labels of the nodes that have some. A copy shares what is not changed in it.
pub type NodeLabels = RedBlackTreeMapSync<NodeId, Arc<Labels>>;

impl Fleet {
    /// Says which labels nodes have now, all of them; who watches is told if they are others. Not
    /// kept over a restart.
    pub fn set_labels(&self, labels: NodeLabels) {
        self.inner.labels.send_if_modified(|known| {
            let is_other = **known != labels;
            if is_other {
                *known = Arc::new(labels);
            }
            is_other
        });
    }

    /// Says which labels some nodes have now, and that others have none any more; who watches is
    /// told if they are others.
    pub fn change_labels(&self, changes: BTreeMap<NodeId, Option<Arc<Labels>>>) {
        self.inner.labels.send_if_modified(|known| {
            let mut labels = (**known).clone();
            let mut is_other = false;
            for (id, of_node) in changes {
                if known.get(&id) == of_node.as_ref() {
                    continue;
                }
                is_other = true;
                match of_node {
                    Some(of_node) => labels.insert_mut(id, of_node),
                    None => {
                        labels.remove_mut(&id);
                    }
                }
            }
            if is_other {
                *known = Arc::new(labels);
            }
            is_other
        });
    }

    /// Labels of nodes, now and whenever they change.
    #[must_use]
    pub fn labels(&self) -> watch::Receiver<Arc<NodeLabels>> {
        self.inner.labels.subscribe()
    }
}

/// The nodes that have other labels after than before. Goes over all that have some, and compares
/// the labels only where the two maps do not share them.
#[must_use]
pub fn relabelled(before: &NodeLabels, after: &NodeLabels) -> Vec<NodeId> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        match (old, new) {
            (Some((_, old)), Some((_, new))) if Arc::ptr_eq(old, new) || old == new => {}
            (Some((id, _)), _) | (None, Some((id, _))) => found.push(*id),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_with_other_labels_are_found() {
        let of = |pairs: &[(u128, &str)]| -> NodeLabels {
            let labels =
                |rack: &str| Arc::new(Labels::from([("rack".to_owned(), rack.to_owned())]));
            let with_id =
                |(id, rack): &(u128, &str)| (NodeId(uuid::Uuid::from_u128(*id)), labels(rack));
            pairs.iter().map(with_id).collect()
        };
        let before = of(&[(1, "a"), (2, "a"), (3, "a"), (5, "a")]);
        let after = of(&[(2, "b"), (3, "a"), (4, "a"), (5, "a"), (6, "a")]);
        let found: Vec<u128> =
            relabelled(&before, &after).iter().map(|id| id.0.as_u128()).collect();
        assert_eq!(found, [1, 2, 4, 6]);
        assert_eq!(relabelled(&after, &after.clone()), []);
    }
}
