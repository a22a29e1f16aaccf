//! What jobs may use of each node, by its newest inventory.
//!
//! Inventories are read when they are other ones. At the start those of all nodes are, in pages:
//! ten thousand questions one by one would keep the database from the nodes that boot meanwhile.

use std::collections::BTreeMap;

use api::{
    ids::{NodeId, NodeName},
    status::NodeUpdate,
};
use rest::causes;

use super::Conductor;
use crate::capacity;

/// From so many nodes on whose inventories are not known, all are read in pages.
const MANY: usize = 64;

impl Conductor {
    /// What jobs may use of a node; `None` if it is not registered, or its inventory
    /// cannot be read.
    pub(super) async fn capacity(
        &mut self,
        id: NodeId,
        name: &NodeName,
    ) -> Option<planner::Capacity> {
        let revision = self.fleet.inventory_revision(id)?;
        if let Some(capacity) = self.known_capacity(id, revision) {
            return Some(capacity.clone());
        }
        match self.hardware.inventory(id).await {
            Ok(inventory) => {
                let capacity = capacity::of(&inventory.unwrap_or_default());
                self.capacities.insert(id, (revision, capacity.clone()));
                Some(capacity)
            }
            Err(error) => {
                tracing::error!("the inventory of {name} cannot be read: {}", causes(&error));
                None
            }
        }
    }

    fn known_capacity(&self, id: NodeId, revision: u64) -> Option<&planner::Capacity> {
        let known = self.capacities.get(&id).filter(|(seen, _)| *seen == revision);
        known.map(|(_, capacity)| capacity)
    }

    /// Reads the inventories of many nodes that are not known yet. What cannot be read is left to
    /// [`Self::capacity`], which says so.
    pub(super) async fn read_capacities(&mut self, nodes: &[NodeUpdate]) {
        // The revision is told before its inventory is read: one that comes between the
        // two is read again.
        let mut unknown: BTreeMap<NodeId, u64> = nodes
            .iter()
            .filter_map(|node| Some((node.id, self.fleet.inventory_revision(node.id)?)))
            .filter(|&(id, revision)| self.known_capacity(id, revision).is_none())
            .collect();
        if unknown.len() < MANY {
            return;
        }
        let mut after = None;
        loop {
            let page = match self.hardware.inventories_after(after).await {
                Ok(page) => page,
                Err(error) => {
                    return tracing::error!("inventories cannot be read: {}", causes(&error));
                }
            };
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (id, inventory) in page {
                if let Some(revision) = unknown.remove(&id)
                    && let Ok(inventory) = inventory
                {
                    self.capacities.insert(id, (revision, capacity::of(&inventory)));
                }
            }
        }
        let none = capacity::of(&api::inventory::Inventory::default());
        for (id, revision) in unknown {
            self.capacities.insert(id, (revision, none.clone()));
        }
    }
}
