//! Reports of agents, as the fleet hands them over, and what is told of them.

#![allow(clippy::unwrap_used)]

use std::{net::Ipv4Addr, sync::Arc};

use api::{
    ids::{NodeId, Timestamp},
    inventory::{Disk, Fault, FaultLevel, Inventory},
};
use database::{Database, statement};
use fleet::{Fleet, FleetConfig, HardwareReports as _, InventoryMoment, StoreError};
use hardware::Hardware;
use metrics::Exposition;
use tempfile::TempDir;

const NODE: NodeId = NodeId(uuid::Uuid::from_u128(1));
const OTHER: NodeId = NodeId(uuid::Uuid::from_u128(2));

/// Hardware of a fleet of two nodes.
struct Site {
    database: Database,
    fleet: Fleet,
    hardware: Hardware,
    _directory: TempDir,
}

impl Site {
    async fn open() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hardware.db");
        let database = Database::open(&path, &[&fleet::SCHEMA]).await.unwrap();
        let hardware = Hardware::new(database.clone());
        let config =
            FleetConfig::new(directory.path().to_owned(), vec![Ipv4Addr::LOCALHOST.into()]);
        let fleet =
            Fleet::open(database.clone(), config, Arc::new(hardware.clone())).await.unwrap();
        let site = Self { database, fleet, hardware, _directory: directory };
        site.declare(&[(NODE, "n1"), (OTHER, "n2")], &[]).await;
        site
    }

    async fn declare(&self, nodes: &[(NodeId, &str)], gone: &[NodeId]) {
        let mut edit = self.fleet.edit_nodes().await;
        let mut transaction = self.database.begin().await.unwrap();
        let named = nodes.iter().map(|(id, name)| (*id, name.parse().unwrap()));
        edit.write(&mut transaction, named, gone).await.unwrap();
        transaction.commit("declare nodes").await.unwrap();
        edit.committed();
    }

    /// What is new in an inventory, a line each.
    async fn report(&self, inventory: &Inventory, moment: InventoryMoment) -> Vec<String> {
        let kept =
            self.hardware.keep_inventory(NODE, inventory, moment, Timestamp(0)).await.unwrap();
        assert!(kept.changed || kept.news.is_empty());
        kept.news.iter().map(|(severity, line)| format!("{}: {line}", severity.as_str())).collect()
    }

    async fn metrics(&self) -> String {
        let mut out = Exposition::new();
        self.hardware.metrics(&self.fleet).await.expose(&mut out);
        out.finish()
    }

    async fn close(self) {
        self.fleet.close().await;
        self.database.close().await;
    }
}

fn node_with_a_disk() -> Inventory {
    let disk = Disk { name: "vda".to_owned(), size_bytes: 1 << 30, ..Disk::default() };
    Inventory { memory_bytes: 2 << 30, disks: vec![disk], ..Inventory::default() }
}

#[tokio::test]
async fn what_is_new_is_told_and_the_newest_is_kept() {
    let site = Site::open().await;
    assert_eq!(site.hardware.inventory(NODE).await.unwrap(), None);
    let mut inventory = node_with_a_disk();
    assert_eq!(
        site.report(&inventory, InventoryMoment::Start).await,
        ["info: sent its first inventory"]
    );
    assert!(site.report(&inventory, InventoryMoment::Running).await.is_empty(), "the same again");
    inventory.memory_bytes = 1 << 30;
    let (level, subject) = (FaultLevel::Error, "disk vda".to_owned());
    inventory.faults = vec![Fault { level, subject, message: "its medium fails".to_owned() }];
    assert_eq!(
        site.report(&inventory, InventoryMoment::Running).await,
        ["error: disk vda: its medium fails", "warning: memory: 1 GiB, 1 GiB less than before"]
    );
    inventory.faults.clear();
    inventory.disks.clear();
    assert_eq!(
        site.report(&inventory, InventoryMoment::Running).await,
        ["warning: disk vda (1 GiB) is gone"]
    );
    assert_eq!(site.hardware.inventory(NODE).await.unwrap(), Some(inventory));
    site.close().await;
}

#[tokio::test]
async fn the_newest_topology_is_kept() {
    let site = Site::open().await;
    assert_eq!(site.hardware.topology(NODE).await.unwrap(), None);
    for xml in ["<topology version=\"2.0\"/>\n", "<topology version=\"2.0\">ä</topology>\n"] {
        site.hardware.keep_topology(NODE, xml.to_owned(), Timestamp(0)).await.unwrap();
        assert_eq!(site.hardware.topology(NODE).await.unwrap().as_deref(), Some(xml));
    }
    site.close().await;
}

#[tokio::test]
async fn metrics_are_of_nodes_that_are_there() {
    let site = Site::open().await;
    site.report(&node_with_a_disk(), InventoryMoment::Start).await;
    let line = "bedplate_node_memory_bytes{node=\"n1\"} 2147483648\n";
    let text = site.metrics().await;
    assert!(text.contains(line) && !text.contains("node=\"n2\""), "{text}");
    site.declare(&[(NODE, "renamed")], &[]).await;
    let text = site.metrics().await;
    assert!(text.contains(&line.replace("n1", "renamed")) && !text.contains("n1"), "{text}");
    site.declare(&[], &[NODE]).await;
    assert!(!site.metrics().await.contains("renamed"));
    assert_eq!(site.hardware.inventory(NODE).await.unwrap(), None, "it went with its node");
    site.close().await;
}

#[tokio::test]
async fn an_inventory_that_cannot_be_read_is_told_and_comes_again() {
    let site = Site::open().await;
    site.report(&node_with_a_disk(), InventoryMoment::Start).await;
    assert!(hardware::problems(&site.database).await.unwrap().is_empty());
    let damage = statement("damage an inventory", "UPDATE fleet_inventories SET document = '{'");
    damage.execute(&site.database).await.unwrap();
    let error = site.hardware.inventory(NODE).await.unwrap_err();
    assert!(matches!(error, StoreError::Decode { .. }), "{error:?}");
    let problems = hardware::problems(&site.database).await.unwrap();
    let told = "the inventory of node n1 cannot be read from the database: ";
    assert!(matches!(problems.as_slice(), [line] if line.starts_with(told)), "{problems:?}");
    site.report(&node_with_a_disk(), InventoryMoment::Running).await;
    assert_eq!(site.hardware.inventory(NODE).await.unwrap(), Some(node_with_a_disk()));
    assert!(hardware::problems(&site.database).await.unwrap().is_empty());
    site.close().await;
}
