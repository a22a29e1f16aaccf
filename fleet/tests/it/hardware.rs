//! What an agent tells of its hardware over the real channel, and what becomes of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use api::{
    channel::{FromAgent, MAX_TOPOLOGY_BYTES},
    ids::{NodeId, Timestamp},
    inventory::Inventory,
    status::Severity,
};
use async_trait::async_trait;
use fleet::{HardwareReports, InventoryMoment, KeptInventory, StoreError};

use crate::{NODE, Port, agent::Agent, enrolled};

/// Keeps reports of one node in memory. The size of its memory is all that is news.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    inventories: Mutex<Vec<(InventoryMoment, Inventory)>>,
    topologies: Mutex<Vec<String>>,
}

fn lock<T>(reports: &Mutex<T>) -> MutexGuard<'_, T> {
    reports.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl HardwareReports for Reports {
    async fn keep_inventory(
        &self,
        _: NodeId,
        inventory: &Inventory,
        moment: InventoryMoment,
        _: Timestamp,
    ) -> Result<KeptInventory, StoreError> {
        let mut kept = lock(&self.inventories);
        let changed = kept.last().is_none_or(|(_, last)| last != inventory);
        kept.push((moment, inventory.clone()));
        if !changed {
            return Ok(KeptInventory::default());
        }
        let news = vec![(Severity::Warning, format!("{} bytes of memory", inventory.memory_bytes))];
        Ok(KeptInventory { changed, news })
    }

    async fn keep_topology(&self, _: NodeId, xml: String, _: Timestamp) -> Result<(), StoreError> {
        lock(&self.topologies).push(xml);
        Ok(())
    }
}

/// The history without its times, the oldest first, from the first inventory on.
async fn history(port: &Port) -> String {
    let events = port.history().await;
    let lines = events
        .iter()
        .rev()
        .map(|event| format!("{}: {}\n", event.severity.as_str(), event.message));
    lines
        .skip_while(|line| !line.contains("memory"))
        .filter(|line| !line.contains("ready"))
        .collect()
}

#[tokio::test]
async fn reports_are_handed_on_and_their_news_are_in_the_history() {
    let port = Port::open().await;
    let identity = enrolled(&port, NODE).await;
    let mut agent = Agent::connect(&port, &identity).await;
    assert_eq!(port.fleet.inventory_revision(NODE), Some(0));
    let mut inventory = Inventory { memory_bytes: 2, ..Inventory::default() };
    agent.tell(&inventory).await;
    agent.tell(&inventory).await;
    assert_eq!(port.fleet.inventory_revision(NODE), Some(1), "the same again is no other one");
    inventory.memory_bytes = 1;
    agent.tell(&inventory).await;
    assert_eq!(port.fleet.inventory_revision(NODE), Some(2));
    let kept: Vec<(InventoryMoment, u64)> = lock(&port.reports.inventories)
        .iter()
        .map(|(moment, kept)| (*moment, kept.memory_bytes))
        .collect();
    assert_eq!(
        kept,
        [(InventoryMoment::Start, 2), (InventoryMoment::Running, 2), (InventoryMoment::Running, 1)]
    );

    let xml = "<topology version=\"2.0\">ä</topology>\n";
    agent.say(FromAgent::Topology { xml: xml.to_owned() }).await;
    agent.say(FromAgent::Topology { xml: " ".repeat(MAX_TOPOLOGY_BYTES + 1) }).await;
    assert_eq!(*lock(&port.reports.topologies), [xml], "one that is too long is not kept");
    expect_test::expect![[r#"
        warning: 2 bytes of memory
        warning: 1 bytes of memory
        warning: sent a topology of 8388609 bytes; more than 8388608 are not kept
    "#]]
    .assert_eq(&history(&port).await);
    assert!(port.metrics().contains("bedplate_nodes{phase=\"ready\"} 1\n"));
    port.close().await;
}
