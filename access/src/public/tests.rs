//! A marker in whatever only admins read, and none in what users do.

use api::{
    ids::{NodeId, Timestamp},
    rights::Role,
    status::{Phase, Severity},
};
use serde_json::{Value, json};

use super::*;

const MARKER: &str = "MARKER";

/// The address of somebody who pretends to be the node.
const STRANGER: &str = "192.0.2.66";

/// Hardware addresses have no letters of a marker: these stand for it.
const MACS: [&str; 3] = ["52:54:00:aa:aa:01", "52:54:00:aa:aa:02", "52:54:00:aa:aa:03"];

fn inventory() -> Inventory {
    let inventory = json!({
        "system": {"vendor": "V", "serial": MARKER, "uuid": MARKER, "asset-tag": MARKER, "chassis-serial": MARKER,
            "board": {"product": "B", "serial": MARKER}},
        "os": {"name": "Debian", "command-line": format!("BOOTIF=01-52-54-00-aa-aa-01 {MARKER}")},
        "memory-modules": [{"locator": "A1", "size-bytes": 1, "serial": MARKER}],
        "bmc": {"firmware": "2.10", "address": "10.99.99.99", "mac": MACS[0]},
        "nics": [{"name": "lan0", "state": "up", "mac": MACS[1], "addresses": ["10.1.0.1"]},
            {"name": "enx525400aaaa02", "addresses": ["2001:db8::5054:ff:feaa:aa02", "fe80::5054:ff:feaa:aa02", "2001:db8::7"]},
            {"name": "v7", "bond": "enx525400aaaa02", "vlan": {"id": 7, "parent": "enx525400aaaa02"}}],
        "disks": [{"name": "sda", "size-bytes": 1, "model": "M", "serial": MARKER, "wwid": MARKER}],
        "gpus": [{"pci": "0000:3b:00.0", "vendor": "nvidia", "model": "H100", "serial": MARKER}],
        "infiniband": [{"name": "rocex525400aaaa02", "guid": MARKER, "system-guid": MARKER}]
    });
    serde_json::from_value(inventory).unwrap()
}

fn spec() -> MachineSpec {
    let spec = json!({
        "comment": "left rack",
        "tags": {"root-password": MARKER},
        "bmc": {"address": "10.99.99.99"},
        "labels": {"rack": "a1"},
        "interfaces": {"lan0": {"mac": MACS[2], "address": "10.1.0.1/24"}}
    });
    serde_json::from_value(spec).unwrap()
}

fn status() -> NodeStatus {
    let status = json!({
        "phase": "ready", "since": 0, "armed": false, "address": "10.1.0.1",
        "reason": format!("its stage 1 at {STRANGER} was refused a certificate"),
        "unproven": {"phase": "firmware", "file": "iPXE script", "address": STRANGER, "since": 0},
        "held": format!("its row in the database cannot be read: invalid type: string {MARKER}"),
        "conflict": {"since": 0, "cause": format!("used again from {STRANGER}:"), "enrolments": [{"epoch": 1, "serial": MARKER, "boot-id": MARKER}]}
    });
    serde_json::from_value(status).unwrap()
}

fn assert_public(value: &Value) {
    let text = value.to_string();
    let private = [MARKER, STRANGER, "10.99.99.99", "52-54-00", "525400", "5054:ff:fe"]
        .into_iter()
        .chain(MACS);
    for private in private {
        assert!(!text.contains(private), "{private} in {text}");
    }
}

fn check<T: Public + Clone + PartialEq + std::fmt::Debug + serde::Serialize>(thing: &T) {
    assert_eq!(&Visibility::Full.of_thing(thing.clone()), thing, "an admin reads all");
    let public = Visibility::Public.of_thing(thing.clone());
    assert_public(&serde_json::to_value(&public).unwrap());
    assert_ne!(&public, thing);
}

#[test]
fn users_read_no_marker() {
    check(&inventory());
    check(&spec());
    check(&status());
    let (id, name) = (NodeId(uuid::Uuid::from_u128(1)), "n1".parse().unwrap());
    let labels = [("rack".to_owned(), "a1".to_owned())].into();
    let node =
        Node { name, id, spec: spec(), status: status(), next_image: None, labels, version: 1 };
    check(&node);
    check(&NodeUpdate { id, name: node.name.clone(), status: status() });
    let problem = Some(format!("invalid value: {MARKER}"));
    check(&Profile { name: "p".parse().unwrap(), spec: spec(), version: 1, problem });
    let origin = |(field, value): (&str, &str)| {
        let value = Value::String(value.to_owned());
        Origin { field: field.to_owned(), value, origin: "node".to_owned() }
    };
    let origins = [
        ("comment", "left rack"),
        ("tags.root-password", MARKER),
        ("bmc.address", "10.99.99.99"),
        ("interfaces.lan0.mac", MACS[2]),
        ("interfaces.lan0.address", "10.1.0.1/24"),
    ];
    let origins = origins.map(origin).to_vec();
    check(&Explained { name: node.name.clone(), resolved: spec(), origins });
    let message = format!("system serial number is {MARKER}, was A");
    let (at, phase, severity) = (Timestamp(0), Phase::Ready, Severity::Info);
    for message in [message, format!("{STRANGER} got no boot token: it was used")] {
        check(&NodeEvent { id, name: node.name.clone(), at, phase, severity, message });
    }
}

#[test]
fn what_is_public_stays() {
    let public = Visibility::Public.of_thing(spec());
    assert_eq!(public.comment.as_deref(), Some("left rack"));
    assert_eq!(api::labels::line(&public.labels), "rack=a1");
    assert_eq!(public.interfaces["lan0"].address.unwrap().to_string(), "10.1.0.1/24");
    let public = Visibility::Public.of_thing(status());
    assert_eq!(
        public.address,
        Some("10.1.0.1".parse().unwrap()),
        "its own, as in /etc/hosts of its jobs"
    );
    assert_eq!(public.unproven.unwrap().file, "iPXE script");
    assert_eq!(public.conflict.unwrap().cause, "used again from …:");
    let public = Visibility::Public.of_thing(inventory());
    assert_eq!(public.gpus[0].model.as_deref(), Some("H100"));
    assert_eq!(public.bmc.unwrap().firmware.as_deref(), Some("2.10"));
    assert_eq!((public.nics[0].name.as_str(), public.nics[0].addresses.len()), ("lan0", 1));
    assert_eq!(public.nics[1].name, "enx…");
    assert_eq!(public.nics[1].addresses, ["2001:db8::7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(public.infiniband[0].name, "rocex…");
}

#[test]
fn who_may_change_nodes_reads_all_of_them() {
    let principal = |role| Principal {
        name: "ann".into(),
        roles: vec![role],
        groups: Vec::new(),
        account: None,
        scope: None,
    };
    assert_eq!(Visibility::of(&principal(Role::Admin)), Visibility::Full);
    assert_eq!(Visibility::of(&principal(Role::User)), Visibility::Public);
    assert_eq!(Visibility::of(&principal(Role::Unknown)), Visibility::Public);
}
