//! What is not deleted: images that nodes run or are booting, also after the server
//! was started again.

use std::{net::Ipv4Addr, path::Path as FilePath, sync::Arc, time::Duration};

use access::Access;
use api::{ids::NodeId, machine::MachineSpec};
use axum::http::StatusCode;
use database::{Database, statement};
use fleet::{Fleet, FleetConfig, Observation};
use image_catalog::{DeletionRefused, ImageRecord};
use tempfile::TempDir;

use super::*;
use crate::{
    DhcpConfig, DhcpMode, FirmwareFiles, ProvisionerConfig,
    serve::tests::{image, images_in},
};

const NODE: NodeId = NodeId(uuid::Uuid::from_u128(1));
const ADDRESS: std::net::IpAddr = std::net::IpAddr::V4(Ipv4Addr::new(10, 1, 0, 11));

/// A server with `debian@1`, `debian@2` and the node `n1`, which boots the first.
struct Site {
    directory: TempDir,
    database: Database,
}

impl Site {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("substrate"), "not really a program").unwrap();
        let path = directory.path().join("bedplate.db");
        let schemas = [&access::SCHEMA, &fleet::SCHEMA, &crate::SCHEMA];
        let database = Database::open(&path, &schemas).await.unwrap();
        Self { directory, database }
    }

    async fn start(&self) -> Provisioner {
        let state_dir = self.directory.path().to_owned();
        let addresses = vec![Ipv4Addr::LOCALHOST.into()];
        let config = FleetConfig::new(state_dir.clone(), addresses.clone());
        let hardware = Arc::new(hardware::Hardware::new(self.database.clone()));
        let fleet = Fleet::open(self.database.clone(), config, hardware).await.unwrap();
        let access = Access::open(self.database.clone()).await.unwrap();
        let config = ProvisionerConfig {
            shipped_overlays: state_dir.join("shipped"),
            site_overlays: state_dir.join("site"),
            ipxe_templates: FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../ipxe"),
            server_addresses: addresses,
            announced_addresses: Vec::new(),
            boot_listen: Vec::new(),
            fleet_port: 9481,
            dhcp: DhcpConfig {
                mode: DhcpMode::Off,
                interfaces: Vec::new(),
                subnets: Vec::new(),
                lease_seconds: 600,
            },
            tftp: false,
            firmware: FirmwareFiles::default(),
            substrate: state_dir.join("substrate"),
            state_dir,
        };
        crate::migrate(&self.database, &fleet).await.unwrap();
        let images = images_in(self.directory.path(), &self.database, &access).await;
        let images = images.os_images().clone();
        Provisioner::open(self.database.clone(), config, images, fleet, access).await.unwrap()
    }

    /// Writes the row of a version of `debian`.
    async fn put_image(&self, version: u32) {
        let ImageRecord { version: body, substrate, .. } = image(version);
        let text = "INSERT INTO provisioner_image_versions (name, version, body, substrate, layers)
                    VALUES ('debian', $1, $2, $3, '[]')";
        let put = statement("write an image version", text).bind(version);
        let put = put.bind(serde_json::to_string(&body).unwrap()).bind(substrate.to_string());
        put.execute(&self.database).await.unwrap();
    }

    /// With two versions and a node that boots the first.
    async fn with_node(&self) -> Provisioner {
        let provisioner = self.start().await;
        for version in [1, 2] {
            self.put_image(version).await;
        }
        provisioner.0.fleet.close().await;
        let provisioner = self.start().await;
        let spec = MachineSpec { image: Some("debian@1".into()), ..MachineSpec::default() };
        let add = move |draft: &mut crate::cluster::Draft| draft.add_node(&node(), NODE, spec);
        provisioner.change(add).await.unwrap();
        provisioner
    }
}

fn node() -> api::ids::NodeName {
    "n1".parse().unwrap()
}

async fn boot_next(provisioner: &Provisioner, image: &str) {
    let spec = MachineSpec { image: Some(image.into()), ..MachineSpec::default() };
    provisioner.change(move |draft| draft.set_node(&node(), spec, None)).await.unwrap();
}

/// Tries to delete `debian@1`, or all of it; why not.
async fn delete(provisioner: &Provisioner, version: Option<u32>) -> Result<(), DeletionRefused> {
    let images = provisioner.0.images.clone();
    images.delete_unused(provisioner, "debian".parse().unwrap(), version).await
}

async fn deleted(provisioner: &Provisioner) -> Result<(), DeletionRefused> {
    delete(provisioner, Some(1)).await
}

fn offered(provisioner: &Provisioner) {
    provisioner.0.fleet.observe(NODE, Observation::Offered { address: ADDRESS }).unwrap();
}

const RUNS: &str = "n1 runs it, or is booting it, whatever it boots next; `bedplate node reboot` boots those \
                    nodes again, and a node that is no more can be deleted";

#[tokio::test]
async fn what_a_node_may_be_booting_is_kept_until_it_boots_again() {
    let site = Site::new().await;
    let provisioner = site.with_node().await;
    assert_eq!(
        deleted(&provisioner).await.unwrap_err().to_string(),
        "n1 boots it; give those nodes another image first"
    );
    offered(&provisioner);
    provisioner.0.fleet.issue_token(NODE, ADDRESS, Some(ADDRESS), "debian@1".into()).unwrap();
    boot_next(&provisioner, "debian@2").await;
    let shown = provisioner.show_all(&[node()]);
    assert_eq!(shown[0].status.image, None, "a token that was issued proves nothing");
    assert_eq!(shown[0].next_image.as_deref(), Some("debian@2"));
    assert_eq!(deleted(&provisioner).await.unwrap_err().to_string(), RUNS);
    let all = delete(&provisioner, None).await.unwrap_err();
    assert!(matches!(all, DeletionRefused::InUse(_)) && all.to_string().starts_with("n1 boots it"));
    assert!(provisioner.0.images.table().find("debian@1").is_ok());

    // The next boot takes the other.
    offered(&provisioner);
    provisioner.0.fleet.issue_token(NODE, ADDRESS, Some(ADDRESS), "debian@2".into()).unwrap();
    deleted(&provisioner).await.unwrap();
    assert!(provisioner.0.images.table().find("debian@1").is_err());
    assert!(provisioner.0.images.table().find("debian@2").is_ok());
}

#[tokio::test]
async fn what_a_node_may_have_been_booting_when_the_server_was_started_is_kept() {
    let site = Site::new().await;
    let provisioner = site.with_node().await;
    offered(&provisioner);
    provisioner.0.fleet.issue_token(NODE, ADDRESS, Some(ADDRESS), "debian@1".into()).unwrap();
    boot_next(&provisioner, "debian@2").await;
    provisioner.0.fleet.close().await;
    let provisioner = site.start().await;
    let why = deleted(&provisioner).await.unwrap_err().to_string();
    assert!(why.starts_with("what n1 runs is not known, and it may be this: "), "{why}");
    assert!(provisioner.0.images.table().find("debian@1").is_ok());
}

#[tokio::test]
async fn a_version_that_a_boot_chooses_is_not_deleted_behind_its_back() {
    let site = Site::new().await;
    let provisioner = site.with_node().await;
    offered(&provisioner);
    // A boot has looked which version it is, and has not said so yet.
    let choosing = provisioner.0.images.choosing().await;
    boot_next(&provisioner, "debian@2").await;
    let of_another = provisioner.clone();
    let deletion = tokio::spawn(async move { deleted(&of_another).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!deletion.is_finished());
    let script = Observation::Script { address: ADDRESS, image: "debian@1".into() };
    provisioner.0.fleet.observe(NODE, script).unwrap();
    drop(choosing);
    assert_eq!(deletion.await.unwrap().unwrap_err().to_string(), RUNS);
}

#[tokio::test]
async fn a_deletion_waits_for_no_boot_that_is_stuck() {
    let site = Site::new().await;
    let provisioner = site.with_node().await;
    boot_next(&provisioner, "debian@2").await;
    let _choosing = provisioner.0.images.choosing().await;
    let of_another = provisioner.clone();
    let deletion = tokio::spawn(async move { deleted(&of_another).await });
    let why = deletion.await.unwrap().unwrap_err().to_string();
    assert!(why.starts_with("boots of nodes are being written down"), "{why}");
    assert!(provisioner.0.images.table().find("debian@1").is_ok());
}

#[tokio::test]
async fn strangers_who_ask_for_boot_files_cost_some_lines_and_change_nothing() {
    let site = Site::new().await;
    let provisioner = site.with_node().await;
    let spec: MachineSpec = serde_json::from_value(serde_json::json!({
        "image": "debian@1",
        "interfaces": {"lan0": {"mac": "52:54:00:77:00:11", "address": "10.1.0.11/24"}},
    }))
    .unwrap();
    provisioner.change(move |draft| draft.set_node(&node(), spec, None)).await.unwrap();
    let router = crate::http_boot::router(provisioner.clone());
    let ask = async |from: [u8; 4]| {
        let peer = crate::http_boot::Peer {
            remote: (from, 4711).into(),
            local: ([10, 1, 0, 1], 9480).into(),
        };
        let request = axum::http::Request::get("/boot/52-54-00-77-00-11/node.img");
        let request = request.extension(axum::extract::ConnectInfo(peer));
        let request = request.body(axum::body::Body::empty()).unwrap();
        tower::ServiceExt::oneshot(router.clone(), request).await.unwrap().status()
    };
    let fleet = &provisioner.0.fleet;
    let before = fleet.status(NODE).unwrap();
    for _ in 0..1_000 {
        assert_eq!(ask([10, 1, 0, 66]).await, StatusCode::FORBIDDEN);
    }
    for _ in 0..100 {
        assert_eq!(ask([10, 1, 0, 11]).await, StatusCode::OK, "the node's own address");
    }
    let lines = provisioner.0.access.audit(10_000).await.unwrap();
    let refused: Vec<&str> = lines
        .iter()
        .filter(|line| line.action == "issue-token")
        .map(|line| line.outcome.as_str())
        .collect();
    assert_eq!(
        refused,
        [
            "refused to 10.1.0.66: the request comes from 10.1.0.66, not from the node's address 10.1.0.11"
        ]
    );
    let after = fleet.status(NODE).unwrap();
    assert_eq!(
        (after.image, after.armed, after.last_seen),
        (before.image, before.armed, before.last_seen)
    );
    assert_eq!(after.unproven.unwrap().file, "the node's initrd");
    let history = fleet.history(NODE, None, 1_000).await.unwrap();
    assert!(history.len() < 5, "{history:?}");
}
