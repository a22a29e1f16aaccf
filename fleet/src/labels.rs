//! Labels of nodes: the provisioner says what they are, the controller places jobs by them. The fleet
//! keeps neither meaning nor copy on disk; it stands between two roles that do not know each other.

use std::{collections::BTreeMap, sync::Arc};

use api::{ids::NodeId, labels::Labels};
use tokio::sync::watch;

use crate::Fleet;

/// Labels of the nodes that have some.
pub type NodeLabels = BTreeMap<NodeId, Arc<Labels>>;

impl Fleet {
    /// Says which labels nodes have now, all of them; who watches is told if they are others. Not kept
    /// over a restart.
    pub fn set_labels(&self, labels: NodeLabels) {
        self.inner.labels.send_if_modified(|known| {
            let is_other = **known != labels;
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
