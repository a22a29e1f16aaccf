//! The small steps of the boot.

use super::*;

const STAGE1: &str = r#"{
    "node": "n1", "id": "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11", "server-time": 1795464000000000,
    "boot-servers": ["10.0.0.1:9480"], "fleet-servers": ["10.0.0.1:9443"],
    "ca-fingerprint": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "token": "secret",
    "root": {
        "format": "squashfs", "size": 268000000, "version": "debian-node@2",
        "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    },
    "machine": {"interfaces": {"eth0": {"mac": "52:54:00:12:34:56"}, "v": {"vlan": 7, "parent": "eth0"}}},
    "fallback-address": null
}"#;

#[test]
fn the_document_is_read_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stage1.json");
    fs::write(&path, STAGE1).unwrap();
    let stage1 = read_stage1(&path).unwrap();
    assert_eq!(stage1.token.as_deref(), Some("secret"));
    assert_eq!(stacked_modules(&stage1), [("bonding", false), ("8021q", true)]);
    assert!(!path.exists());
    assert!(format!("{:#}", read_stage1(&path).unwrap_err()).contains("did not arrive"));
}

#[test]
fn a_damaged_document_is_deleted_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stage1.json");
    fs::write(&path, &STAGE1[..100]).unwrap();
    assert!(format!("{:#}", read_stage1(&path).unwrap_err()).contains("line"));
    assert!(!path.exists());
}

#[test]
fn percents() {
    assert_eq!([0, 1, 99, 100].map(|part| percent_of(part, 100)), [0, 1, 99, 100]);
    assert_eq!((percent_of(0, 0), percent_of(5, 3)), (100, 166));
    assert_eq!(percent_of(u64::MAX, 1), 100);
}

#[tokio::test]
async fn a_node_without_a_token_is_told_how_to_get_one() {
    let mut stage1: Stage1 = serde_json::from_str(STAGE1).unwrap();
    stage1.token = None;
    let error = enrol::enrol(&stage1, &mut |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("bedplate node arm n1"), "{error}");
}
