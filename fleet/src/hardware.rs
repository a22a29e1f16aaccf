//! What agents report of their hardware, on its way to whoever keeps it: the crate `hardware`,
//! which stands above the fleet and knows what the reports mean.

use api::{
    channel::MAX_TOPOLOGY_BYTES,
    ids::{NodeId, Timestamp},
    inventory::Inventory,
    status::Severity,
};
use async_trait::async_trait;

use crate::{Fleet, FleetError, StoreError, clock, lifecycle::Event};

/// When an inventory was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InventoryMoment {
    /// It is the first of an agent that was just started: the node may be booting.
    Start,
    /// It is a later one.
    Running,
}

/// What came of an inventory that was kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptInventory {
    /// It is not the one that was kept last.
    pub changed: bool,
    /// Lines for the node's history, the worst first.
    pub news: Vec<(Severity, String)>,
}

/// Keeps what agents report of their hardware. An agent's report is acknowledged when it is kept:
/// it sends it again otherwise.
#[async_trait]
pub trait HardwareReports: std::fmt::Debug + Send + Sync {
    /// Keeps an inventory of a registered node, which came at `at`; on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError`] if it is not kept.
    async fn keep_inventory(
        &self,
        node: NodeId,
        inventory: &Inventory,
        moment: InventoryMoment,
        at: Timestamp,
    ) -> Result<KeptInventory, StoreError>;

    /// Keeps a topology of a registered node, hwloc's XML, in place of the one before. It is at
    /// most [`MAX_TOPOLOGY_BYTES`] long.
    ///
    /// # Errors
    /// [`StoreError`] if it is not kept.
    async fn keep_topology(
        &self,
        node: NodeId,
        xml: String,
        at: Timestamp,
    ) -> Result<(), StoreError>;
}

impl Fleet {
    /// How often a node's inventory became another one since the server started: while it is the
    /// same number, the inventory need not be read again. `None` if it is not registered.
    #[must_use]
    pub fn inventory_revision(&self, id: NodeId) -> Option<u64> {
        self.read(id, |entry| entry.inventories).ok()
    }

    /// Has an inventory kept, and writes what is new in it into the history; on disk when this
    /// returns.
    pub(crate) async fn store_inventory(
        &self,
        id: NodeId,
        inventory: &Inventory,
    ) -> Result<(), FleetError> {
        let moment = match self.read(id, |entry| entry.life.inventory_known)? {
            false => InventoryMoment::Start,
            true => InventoryMoment::Running,
        };
        let kept = self.inner.hardware.keep_inventory(id, inventory, moment, clock::now()).await?;
        let KeptInventory { changed, news } = kept;
        let ((), ticket) = self.change(id, |change| {
            change.entry.inventories += u64::from(changed);
            change.apply_event(Event::InventoryStored { changed, news });
        })?;
        self.durable(ticket).await
    }

    /// Has a topology kept, unless it is too long.
    pub(crate) async fn store_topology(&self, id: NodeId, xml: String) -> Result<(), FleetError> {
        if xml.len() > MAX_TOPOLOGY_BYTES {
            let message = format!(
                "sent a topology of {} bytes; more than {MAX_TOPOLOGY_BYTES} are not kept",
                xml.len()
            );
            let ((), ticket) =
                self.change(id, |change| change.record(Severity::Warning, &message))?;
            return self.durable(ticket).await;
        }
        Ok(self.inner.hardware.keep_topology(id, xml, clock::now()).await?)
    }
}
