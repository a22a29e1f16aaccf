//! Nodes and profiles, from `add` to `delete`.

use std::{
    io::Read as _,
    path::Path,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use expect_test::expect;
use sqlx::sqlite::SqlitePoolOptions;

use crate::server::Server;

#[test]
fn nodes_from_add_to_delete() {
    let server = Server::start();
    assert_eq!(server.run(&["node", "list"]).ok(), "no nodes yet: `bedplate node add --help`\n");
    let profile = ["profile", "set", "default", "--image", "debian", "--kernel-arg", "quiet"];
    expect![[r#"
        error: cannot change profile default: profiles.default.image: image "debian" does not exist (see `bedplate image list`)
    "#]].assert_eq(&server.run(&profile).failed());
    let profile = ["profile", "set", "default", "--kernel-arg", "quiet", "--tag", "rack=r1"];
    assert_eq!(server.run(&profile).ok(), "added profile default\n");
    let add = ["node", "add", "n[1-3]", "--profile", "default", "--address", "10.1.0.11/24"];
    assert_eq!(server.run(&add).ok(), "added n[1-3]\n");
    let set = ["node", "set", "n2", "--mac", "52:54:00:12:34:56", "--kernel-arg", "~quiet"];
    assert_eq!(server.run(&set).ok(), "changed n2\n");
    let explained = server.run(&["node", "explain", "n2"]).ok();
    expect![[r#"
        FIELD                    VALUE                FROM
        profiles[0]              default              node
        root.writable-size       50%                  default
        interfaces.lan0.mac      52:54:00:12:34:56    node
        interfaces.lan0.address  10.1.0.12/24         node
        boot-overlays[0]         hostname             default
        boot-overlays[1]         hosts                default
        boot-overlays[2]         systemd-networkd     default
        boot-overlays[3]         resolv               default
        boot-overlays[4]         ssh-host-keys        default
        boot-overlays[5]         ssh-authorized-keys  default
        boot-overlays[6]         substrate            default
        runtime-overlays[0]      hosts                default
        runtime-overlays[1]      ssh-authorized-keys  default
        tags.rack                r1                   profile default
    "#]]
    .assert_eq(&explained);
    let listed = server.run(&["node", "list", "n[2-3]", "-o", "json"]).ok();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[1]["spec"]["interfaces"]["lan0"]["address"], "10.1.0.13/24");
    let shown = server.run(&["node", "show", "n2"]).ok();
    assert!(shown.starts_with("n2\n  phase") && shown.contains("unseen"), "{shown}");
    assert!(server.run(&["node", "show", "n2", "-o", "yaml"]).ok().contains("name: n2"));
    assert_eq!(
        server.run(&["node", "set", "n[1-3]", "--unset", "profiles"]).ok(),
        "changed n[1-3]\n"
    );
    assert_eq!(server.run(&["node", "arm", "n[1-2]"]).ok(), "armed n[1-2]\n");
    assert!(server.run(&["node", "history", "n1"]).ok().contains("asked for by admin"));
    assert_eq!(server.run(&["profile", "delete", "default"]).ok(), "deleted default\n");
    assert_eq!(server.run(&["node", "delete", "n[1-2]"]).ok(), "deleted n[1-2]\n");
    let left = server.run(&["node", "list"]).ok();
    assert!(!left.contains("n1") && left.contains("n3"), "{left}");
}

#[test]
fn what_is_refused_says_why() {
    let server = Server::start();
    let mac = "52:54:00:12:34:56";
    server.run(&["node", "add", "n1", "--mac", mac]).ok();
    expect![[r#"
        error: cannot add n2: nodes.n2.interfaces.lan0.mac: MAC address 52:54:00:12:34:56 already belongs to node n1, interface lan0
    "#]].assert_eq(&server.run(&["node", "add", "n2", "--mac", mac]).failed());
    expect![[r#"
        error: cannot list nodes: node n7 does not exist; `bedplate node list` shows those that do
    "#]]
    .assert_eq(&server.run(&["node", "show", "n7"]).failed());
    expect![[r#"
        error: cannot reboot n1: the agent of n1 is not connected; power the node on, or look at its console
    "#]]
    .assert_eq(&server.run(&["node", "reboot", "n1"]).failed());
    expect![[r#"
        error: cannot show the inventory: n1 has not reported its hardware yet; it does so when its agent connects
    "#]].assert_eq(&server.run(&["node", "inventory", "n1"]).failed());
    expect![[r#"
        error: cannot change n1: nodes.n1.profiles: profile "none" does not exist
    "#]]
    .assert_eq(&server.run(&["node", "set", "n1", "--profile", "none"]).failed());
    // All or none, and all that stands in the way is named.
    expect![[r#"
        error: cannot delete n[1-3]: nodes n[2-3] do not exist
    "#]]
    .assert_eq(&server.run(&["node", "delete", "n[1-3]"]).failed());
    expect![[r#"
        error: cannot add n[1-2]: node "n1" exists already
    "#]]
    .assert_eq(&server.run(&["node", "add", "n[1-2]"]).failed());
    assert_eq!(server.run(&["node", "delete", "n1"]).ok(), "deleted n1\n");
}

#[test]
fn nobody_elses_address_is_a_nodes() {
    let server = Server::start();
    let add = ["node", "add", "bad1", "--address", "10.98.0.254/24"];
    expect![[r#"
        error: cannot add bad1: nodes.bad1.interfaces.lan0.address: address 10.98.0.254 is the gateway of 10.98.0.0/24 (choose an address that is nobody's)
    "#]].assert_eq(&server.run(&add).failed());
    // The second of two: neither is added.
    let add = ["node", "add", "n[1-2]", "--address", "10.98.0.253/24"];
    let refused = server.run(&add).failed();
    assert!(
        refused.contains("nodes.n2.interfaces.lan0.address: address 10.98.0.254 is"),
        "{refused}"
    );
    assert_eq!(server.run(&["node", "list"]).ok(), "no nodes yet: `bedplate node add --help`\n");
    server.run(&["node", "add", "n1", "--address", "10.98.0.253/24"]).ok();
    let set = server.run(&["node", "set", "n1", "--address", "10.98.0.254/24"]).failed();
    assert!(set.contains("10.98.0.254 is the gateway of 10.98.0.0/24"), "{set}");
    let document = "nodes:\n  n1: {interfaces: {lan0: {address: 10.98.0.254/24}}}\n";
    let applied = server.run_with(&["apply", "-f", "-"], document, &[]).failed();
    assert!(applied.contains("10.98.0.254 is the gateway of 10.98.0.0/24"), "{applied}");
    assert!(server.run(&["node", "explain", "n1"]).ok().contains("10.98.0.253/24"));
}

#[test]
fn watching_waits_for_a_phase() {
    let server = Server::start();
    server.run(&["node", "add", "n[1-2]"]).ok();
    let lines = server.run(&["node", "watch", "--until", "unseen", "--timeout", "20s"]).ok();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let json = server.run(&["node", "watch", "n2", "--until", "unseen", "-o", "json"]).ok();
    let update: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(update["name"], "n2");
    let late = server.run(&["node", "watch", "n1", "--until", "ready", "--timeout", "1s"]);
    assert_eq!(late.code, Some(1));
    assert_eq!(late.stderr, "error: not all nodes are ready after 1 s: n1 unseen\n");
}

/// `node watch NODES --until ready` that has printed where the first node is.
fn begin_watch(server: &Server, nodes: &str) -> Child {
    let mut command = crate::server::bedplate(&["node", "watch", nodes, "--until", "ready"]);
    command.env("BEDPLATE_CONTEXT", server.path("state/admin.yaml"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    child
}

#[test]
fn watching_ends_where_a_node_is_deleted_meanwhile() {
    let server = Server::start();
    server.run(&["node", "add", "n[1-3]"]).ok();
    let (one, two) = (begin_watch(&server, "n1"), begin_watch(&server, "n[2-3]"));
    server.run(&["node", "delete", "n1"]).ok();
    let done = one.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    expect![[r#"
        n1 was deleted
        error: not all nodes are ready: deleted meanwhile: n1
    "#]]
    .assert_eq(&String::from_utf8(done.stderr).unwrap());
    // The other is waited for; one of the same name is another node. Then there is none at all.
    server.run(&["node", "delete", "n2"]).ok();
    server.run(&["node", "add", "n2"]).ok();
    server.run(&["node", "delete", "n[2-3]"]).ok();
    let done = two.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(
        said.ends_with("error: not all nodes are ready: deleted meanwhile: n[2-3]\n"),
        "{said}"
    );
}

#[test]
fn watching_outlives_the_server() {
    let mut server = Server::start();
    server.run(&["node", "add", "n1"]).ok();
    let context = server.path("state/admin.yaml");
    let arguments = ["node", "watch", "n1", "--until", "offered", "--timeout", "6s"];
    let watching = thread::spawn(move || {
        let mut command = crate::server::bedplate(&arguments);
        command.env("BEDPLATE_CONTEXT", context);
        crate::server::done(command, "")
    });
    thread::sleep(Duration::from_secs(1));
    server.kill_and_restart();
    let done = watching.join().unwrap();
    expect![[r#"
        the server has gone away: asking again
        error: not all nodes are offered after 6 s: n1 unseen
    "#]]
    .assert_eq(&done.stderr);
    assert_eq!(
        done.stdout.lines().count(),
        1,
        "what has not changed is not said again: {}",
        done.stdout
    );
}

#[test]
fn a_killed_server_keeps_its_state() {
    let mut server = Server::start();
    server.run(&["node", "add", "n1", "--comment", "kept", "--mac", "52:54:00:12:34:56"]).ok();
    let before = server.run(&["node", "explain", "n1", "-o", "json"]).ok();
    let token = std::fs::read(server.path("state/admin.yaml")).unwrap();
    server.kill_and_restart();
    assert_eq!(server.run(&["node", "explain", "n1", "-o", "json"]).ok(), before);
    assert_eq!(std::fs::read(server.path("state/admin.yaml")).unwrap(), token);
}

#[test]
fn a_change_of_nodes_happens_in_all_tables_or_in_none() {
    let mut server = Server::start();
    server.run(&["node", "add", "n[1-2]"]).ok();
    // From here on the fleet's table refuses what the provisioner's has taken.
    let directory = server.directory.path().to_owned();
    query(
        &directory,
        "CREATE TRIGGER refuse BEFORE INSERT ON fleet_nodes BEGIN SELECT RAISE(ABORT, 'no'); END",
    );
    let refused = server.run(&["node", "add", "n[3-4]"]).failed();
    assert!(refused.contains("the database could not write nodes"), "{refused}");
    query(&directory, "DROP TRIGGER refuse");
    query(
        &directory,
        "CREATE TRIGGER refuse BEFORE DELETE ON fleet_nodes BEGIN SELECT RAISE(ABORT, 'no'); END",
    );
    server.run(&["node", "delete", "n1"]).failed();
    query(&directory, "DROP TRIGGER refuse");
    let names = |table: &str| match table {
        "fleet" => query(&directory, "SELECT name FROM fleet_nodes ORDER BY name"),
        _ => query(&directory, "SELECT name FROM provisioner_nodes ORDER BY name"),
    };
    for restarted in [false, true] {
        if restarted {
            server.kill_and_restart();
        }
        assert_eq!((names("fleet"), names("")), (names(""), vec!["n1".into(), "n2".into()]));
        assert_eq!(server.run(&["node", "list", "-o", "json"]).ok().matches("\"name\"").count(), 2);
    }
    // Nothing is in the way of the same changes.
    server.run(&["node", "add", "n[3-4]"]).ok();
    server.run(&["node", "delete", "n1"]).ok();
    assert_eq!(names("fleet"), ["n2", "n3", "n4"]);
    assert_eq!(names("fleet"), names(""));
    assert_eq!(query(&directory, "SELECT id FROM provisioner_removed_nodes"), [""; 0]);
}

/// Texts from the server's database.
pub(crate) fn query(directory: &Path, statement: &'static str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite://{}", directory.join("state/bedplate.db").display());
        let pool = SqlitePoolOptions::new().connect(&url).await.unwrap();
        let texts = sqlx::query_scalar(statement).fetch_all(&pool).await.unwrap();
        pool.close().await;
        texts
    })
}
