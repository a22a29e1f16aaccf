//! Which nodes there are: declared by the provisioner, in a transaction of its own.
//!
//! The order is: [`Fleet::edit_nodes`], begin the transaction, write into it ([`NodesEdit::write`]
//! among others' writes), commit, [`NodesEdit::committed`]. Only then the nodes are known, renamed
//! or gone in memory, and who watches hears of it. An edit that is dropped before changed nothing.
//!
//! While an edit is open the writer waits ([`crate::writer`]): a batch that it took before would
//! bring a removed node back. So an edit is opened before the transaction begins; the other way
//! round each would wait for what the other holds.

use std::{collections::BTreeSet, fmt};

use api::{
    ids::{NodeId, NodeName},
    status::NodeUpdate,
};
use database::{DatabaseError, Transaction};
use tokio::sync::OwnedMutexGuard;

use crate::{
    Fleet,
    arming::Arming,
    clock,
    enrolments::Enrolments,
    lifecycle::NodeLifecycle,
    store::{NodeRow, RegisterChange},
};

/// One message of [`Fleet::watch`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are updates; a box would be one more for each"
)]
pub enum NodeChange {
    /// The node was added or renamed, or its status is another one, as it is now.
    Updated(NodeUpdate),
    /// The node is no longer registered.
    Removed {
        /// The node that was.
        id: NodeId,
    },
}

/// A change of the register that is under way. See the module.
pub struct NodesEdit {
    fleet: Fleet,
    /// Keeps the writer and other edits away.
    _writing: OwnedMutexGuard<()>,
    change: RegisterChange,
}

impl Fleet {
    /// Begins to change which nodes there are. Call it before the transaction is begun.
    pub async fn edit_nodes(&self) -> NodesEdit {
        let writing = self.registry().writing().await;
        NodesEdit { fleet: self.clone(), _writing: writing, change: RegisterChange::default() }
    }

    /// The nodes that are registered.
    #[must_use]
    pub fn registered(&self) -> BTreeSet<NodeId> {
        self.registry().ids().into_iter().collect()
    }
}

impl NodesEdit {
    /// Writes into the transaction that there are these nodes, under these names, and no longer the
    /// removed ones. A node that is new is armed for its first boot; one that is known keeps all
    /// but its name. With a removed node go its history and its inventories.
    ///
    /// # Errors
    /// [`DatabaseError`]: the transaction has failed.
    pub async fn write(
        &mut self,
        transaction: &mut Transaction,
        named: impl IntoIterator<Item = (NodeId, NodeName)>,
        removed: &[NodeId],
    ) -> Result<(), DatabaseError> {
        let now = clock::now();
        let mut change = RegisterChange { removed: removed.to_vec(), ..RegisterChange::default() };
        for (id, name) in named {
            match self.fleet.registry().name(id) {
                None => change.added.push(NodeRow {
                    id,
                    name,
                    life: NodeLifecycle::new(now),
                    arming: Arming::default(),
                    enrolments: Enrolments::default(),
                    history: 0,
                }),
                Some(known) if known != name => change.renamed.push((id, name)),
                Some(_) => {}
            }
        }
        self.fleet.inner.store.change_register(transaction, &change).await?;
        self.change = change;
        Ok(())
    }

    /// The transaction is committed: from now on it is so. The certificates of removed nodes are
    /// refused and their connections closed.
    pub fn committed(self) {
        self.fleet.registry().apply(self.change);
    }
}

impl fmt::Debug for NodesEdit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NodesEdit").field("change", &self.change).finish_non_exhaustive()
    }
}
