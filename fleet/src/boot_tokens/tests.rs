//! Tokens of this server that are shown and no longer good: what is told, recorded, and held.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use api::{inventory::Inventory, status::Severity};
use async_trait::async_trait;
use database::Database;

use super::*;
use crate::{FleetConfig, HardwareReports, InventoryMoment, KeptInventory, SCHEMA, StoreError};

const NODE: NodeId = NodeId(uuid::Uuid::from_u128(1));
const IMAGE: &str = "debian-node@2";
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 8));

/// No agent reports here.
#[derive(Debug)]
struct NoReports;

#[async_trait]
impl HardwareReports for NoReports {
    async fn keep_inventory(
        &self,
        _: NodeId,
        _: &Inventory,
        _: InventoryMoment,
        _: Timestamp,
    ) -> Result<KeptInventory, StoreError> {
        Ok(KeptInventory::default())
    }

    async fn keep_topology(&self, _: NodeId, _: String, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A fleet with one node, which is armed.
async fn fleet(directory: &Path) -> Fleet {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = Database::open(&directory.join("fleet.db"), &[&SCHEMA]).await.unwrap();
    let config = FleetConfig::new(directory.to_owned(), vec![Ipv4Addr::LOCALHOST.into()]);
    let fleet = Fleet::open(database.clone(), config, Arc::new(NoReports)).await.unwrap();
    let mut edit = fleet.edit_nodes().await;
    let mut transaction = database.begin().await.unwrap();
    edit.write(&mut transaction, [(NODE, "n1".parse().unwrap())], &[]).await.unwrap();
    transaction.commit("declare nodes").await.unwrap();
    edit.committed();
    fleet
}

/// A token with nothing spent and nothing void before it.
fn claim() -> Claim {
    let expires = clock::now().plus_seconds(60);
    Claim { node: NODE, source: HERE, expires, image: IMAGE.to_owned(), spent: None, voids: 0 }
}

fn sealed(fleet: &Fleet, claim: Claim) -> String {
    fleet.inner.seal.token(claim).unwrap()
}

fn issued(fleet: &Fleet) -> String {
    fleet.issue_token(NODE, HERE, Some(HERE), IMAGE.to_owned()).unwrap()
}

fn held(fleet: &Fleet) -> Option<String> {
    fleet.status(NODE).unwrap().held
}

/// What was recorded of refusals since the last call and the last `await`.
fn recorded(fleet: &Fleet) -> Vec<(Severity, String)> {
    let (batch, _) = fleet.registry().take(false);
    let told = batch.events.into_iter().map(|(_, event)| (event.severity, event.message));
    told.filter(|(_, message)| message.contains("was refused")).collect()
}

#[tokio::test]
async fn an_expired_token_is_recorded_and_holds_the_node_if_its_own_address_shows_it() {
    let directory = tempfile::tempdir().unwrap();
    let fleet = fleet(directory.path()).await;
    let expired = sealed(&fleet, Claim { expires: clock::now().plus_seconds(-1), ..claim() });
    assert_eq!(fleet.show_token(&expired, THERE), Err(Refused::Expired));
    assert_eq!(held(&fleet), None, "anybody may have read it");
    assert_eq!(fleet.show_token(&expired, HERE), Err(Refused::Expired));
    let words = |source: IpAddr| {
        format!("{source} was refused a certificate: the token has expired; boot again")
    };
    assert_eq!(held(&fleet), Some(format!("its stage 1 at {}", words(HERE))));
    let warnings = [THERE, HERE].map(|source| (Severity::Warning, words(source)));
    assert_eq!(recorded(&fleet), warnings);
    // The next one is good, and ends it.
    assert_eq!(fleet.show_token(&issued(&fleet), HERE), Ok(()));
    assert_eq!(held(&fleet), None);
    fleet.close().await;
}

#[tokio::test]
async fn tokens_of_before_a_revocation_stay_void_when_the_node_is_armed_again() {
    let directory = tempfile::tempdir().unwrap();
    let fleet = fleet(directory.path()).await;
    let before = issued(&fleet);
    fleet.revoke(NODE, None, "root").await.unwrap();
    assert_eq!(fleet.show_token(&before, HERE), Err(Refused::Void));
    // One that says the same as one that was made now.
    let disarmed = sealed(&fleet, Claim { voids: 1, ..claim() });
    assert_eq!(fleet.show_token(&disarmed, HERE), Err(Refused::Disarmed));
    assert!(held(&fleet).unwrap().contains("the node is disarmed until `bedplate node arm`"));
    fleet.arm(NODE, "the test").await.unwrap();
    assert_eq!((held(&fleet), fleet.show_token(&before, HERE)), (None, Err(Refused::Void)));
    assert!(held(&fleet).unwrap().contains("issued before the node was disarmed"));
    assert_eq!(fleet.show_token(&issued(&fleet), HERE), Ok(()));
    fleet.close().await;
}

#[tokio::test]
async fn a_token_of_before_a_revocation_is_void_and_no_alarm_though_another_one_was_shown() {
    let directory = tempfile::tempdir().unwrap();
    let fleet = fleet(directory.path()).await;
    let (shown, other) = (issued(&fleet), issued(&fleet));
    assert_eq!(fleet.show_token(&shown, HERE), Ok(()));
    fleet.revoke(NODE, None, "root").await.unwrap();
    assert_eq!(fleet.show_token(&other, HERE), Err(Refused::Void));
    let severities: Vec<Severity> =
        recorded(&fleet).into_iter().map(|(severity, _)| severity).collect();
    assert_eq!(severities, [Severity::Warning]);
    fleet.close().await;
}

#[tokio::test]
async fn a_token_of_after_a_backup_is_unknown_and_no_alarm_and_one_that_lost_a_race_is() {
    let directory = tempfile::tempdir().unwrap();
    let fleet = fleet(directory.path()).await;
    let later = [Claim { spent: Some(Digest([7; 32])), ..claim() }, Claim { voids: 3, ..claim() }];
    for claim in later {
        let token = sealed(&fleet, claim);
        assert_eq!(fleet.show_token(&token, HERE), Err(Refused::Unknown));
    }
    let severities = |told: Vec<(Severity, String)>| told.into_iter().map(|(severity, _)| severity);
    assert_eq!(severities(recorded(&fleet)).collect::<Vec<_>>(), [Severity::Warning], "told once");

    let (first, second) = (issued(&fleet), issued(&fleet));
    assert_eq!(fleet.show_token(&first, HERE), Ok(()));
    let (token, key) = (token::hash(&first), Digest([1; 32]));
    let redeem = arming::Event::Redeem { token, key, source: HERE };
    let (verdict, _soon) = fleet.change(NODE, |change| change.token(redeem)).unwrap();
    assert_eq!(verdict, Verdict::Granted);
    assert_eq!(fleet.show_token(&second, HERE), Err(Refused::OtherTokenUsed));
    assert_eq!(severities(recorded(&fleet)).collect::<Vec<_>>(), [Severity::Security]);
    fleet.close().await;
}
