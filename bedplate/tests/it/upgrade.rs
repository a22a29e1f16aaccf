//! A state of the first release (244c59b), as its own programs left it in the middle of a simulated
//! cluster's work, and what this release makes of it.

use std::{fs, path::Path};

use crate::{nodes::query, server::Server};

/// Three nodes, two users, an image, and a workflow of which twelve runs are on the nodes.
const STATE: &[u8] = include_bytes!("../fixtures/state-244c59b.db");

/// The nodes of that state.
const NODES: [(&str, &str); 3] = [
    ("n00001", "528b2369-c255-41d5-8b0d-3df9978e317f"),
    ("n00002", "718243d1-4dd4-4666-9bc1-dc42f6295b85"),
    ("n00003", "2b12593a-1318-4285-ba13-cdffdf83be47"),
];

pub(crate) fn unpack(directory: &Path) {
    fs::create_dir(directory.join("state")).unwrap();
    fs::write(directory.join("state/bedplate.db"), STATE).unwrap();
    // The token of its admin is lost: the first start makes another one.
    fs::write(directory.join("state/admin.yaml.pending"), "").unwrap();
}

/// What must be the same before and after, as text.
fn contents(directory: &Path) -> Vec<Vec<String>> {
    [
        "SELECT name || admin || COALESCE(uid, '') || COALESCE(user_groups, '') FROM access_users",
        "SELECT name || created || HEX(hash) FROM access_tokens WHERE name = 'sim'",
        "SELECT number || principal || action || subject || HEX(hash) FROM access_audit
          WHERE number <= 6",
        "SELECT name || spec || version FROM provisioner_profiles",
        "SELECT name || body || substrate || layers FROM provisioner_image_versions",
        "SELECT id || request || body || ended FROM provisioner_operations",
        "SELECT node || number || document FROM fleet_inventories WHERE node <>
          '528b2369-c255-41d5-8b0d-3df9978e317f' ORDER BY node, number",
        "SELECT id || name || owner || document || submitted FROM controller_workflows",
        "SELECT run || workflow || task || attempt || node || placed FROM controller_runs ORDER BY run",
    ]
    .map(|statement| query(directory, statement))
    .into()
}

#[test]
fn tokens_of_before_stay_and_are_an_alarm() {
    let server = Server::start_on(unpack);
    let alarms = server.run(&["server", "alarms"]).ok();
    assert!(alarms.contains("token \"sim\" of ") && alarms.contains(" never expires"), "{alarms}");
    let kept = query(
        server.directory.path(),
        "SELECT name FROM access_tokens WHERE name = 'sim' AND expires IS NULL AND scope IS NULL LIMIT 1",
    );
    assert_eq!(kept, ["sim"]);
}

#[test]
fn a_state_of_the_first_release_is_brought_up_to_date() {
    let mut before = Vec::new();
    let mut server = Server::start_on(|directory| {
        unpack(directory);
        // What a server of that release left that was killed at the wrong time, in each direction.
        query(directory, "DELETE FROM provisioner_nodes WHERE name = 'n00001'");
        query(directory, "UPDATE fleet_nodes SET name = 'earlier' WHERE name = 'n00002'");
        query(
            directory,
            "INSERT INTO provisioner_nodes (id, name, spec, version)
             VALUES ('00000000-0000-4000-8000-000000000009', 'n00009', '{}', 1)",
        );
        fs::create_dir(directory.join("state/ssh-host-keys")).unwrap();
        for (_, id) in NODES {
            fs::write(directory.join("state/ssh-host-keys").join(id), "a key").unwrap();
        }
        before = contents(directory);
    });
    let directory = server.directory.path().to_owned();
    assert!(before.iter().all(|rows| !rows.is_empty()), "{before:?}");
    assert_eq!(contents(&directory), before);
    let known = query(&directory, "SELECT name || id FROM fleet_nodes ORDER BY name");
    assert_eq!(known, query(&directory, "SELECT name || id FROM provisioner_nodes ORDER BY name"));
    assert_eq!(known.len(), 3);
    assert_eq!(query(&directory, "SELECT id FROM fleet_nodes WHERE name = 'n00001'"), [""; 0]);
    // What a node lived through is still there.
    let history = server.run(&["node", "show", "n00003", "--history"]).ok();
    assert!(history.contains("ready"), "{history}");
    for (name, id) in NODES {
        let is_there = directory.join("state/ssh-host-keys").join(id).exists();
        assert_eq!(is_there, name != "n00001", "the host key of {name}");
    }
    let log = fs::read_to_string(directory.join("log")).unwrap();
    assert!(log.contains("keeping a copy of the database"), "{log}");

    // The copy is the state of before; the next start makes none and changes nothing.
    let copies = || {
        let names = fs::read_dir(directory.join("state")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains(".before-")).collect::<Vec<String>>()
    };
    assert_eq!(copies().len(), 1, "{:?}", copies());
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("state")).unwrap();
    let kept = directory.join("state").join(&copies()[0]);
    fs::copy(&kept, copy.path().join("state/bedplate.db")).unwrap();
    assert_eq!(contents(copy.path()), before);
    let earlier = query(copy.path(), "SELECT name FROM fleet_nodes ORDER BY name");
    assert_eq!(earlier, ["earlier", "n00001", "n00003"]);
    server.kill_and_restart();
    assert_eq!((contents(&directory), copies().len()), (before, 1));

    // A release that is older than the database says so, and how to go back, and changes nothing.
    let said = server.kill_and_fail_after(|directory| {
        query(
            directory,
            "INSERT INTO access_migrations (version, description, success, checksum, execution_time)
             VALUES (99, 'of a later release', TRUE, x'00', 0)",
        );
    });
    for part in ["newer release", "access have version 99", "A downgrade is not possible"] {
        assert!(said.contains(part), "{said}");
    }
}
