//! `apply` and `export`.

use expect_test::expect;

use crate::server::Server;

const CLUSTER: &str = "
profiles:
  compute:
    kernel-args: [console=ttyS0]
nodes:
  n[1-2]:
    profiles: [compute]
  login:
    comment: where people come in
    interfaces:
      lan0: {mac: '52:54:00:12:34:56', address: 10.1.0.2/24}
";

const DIAGNOSTICS: &str = "
profiles:
  compute:
    kernel-arg: [console=ttyS0]
nodes:
  n[1-2]:
    profiles: [comptue]
  login:
    interfaces:
      lan0: {mac: '52:54:00:12:34', address: 10.1.0.2/24}
";

#[test]
fn all_diagnostics_are_told_and_nothing_is_changed() {
    let server = Server::start();
    server.run_with(&["apply", "-f", "-"], CLUSTER, &[]).ok();
    let before = server.run(&["export"]).ok();
    let file = server.path("cluster.yaml");
    std::fs::write(&file, DIAGNOSTICS).unwrap();
    let file = file.display().to_string();
    let told = server.run(&["apply", "-f", &file]).failed();
    expect![[r#"
        FILE:4:5: profiles.compute.kernel-arg: unknown key "kernel-arg" (did you mean `kernel-args`?)
        FILE:7:15: nodes.n1.profiles: profile "comptue" does not exist (did you mean `compute`?)
        FILE:7:15: nodes.n2.profiles: profile "comptue" does not exist (did you mean `compute`?)
        FILE:10:19: nodes.login.interfaces.lan0.mac: "52:54:00:12:34" is not a MAC address (as in 52:54:00:12:34:56)
        error: cannot apply the document: the document has 4 mistakes; nothing was changed
    "#]].assert_eq(&told.replace(&file, "FILE"));
    assert_eq!(server.run(&["export"]).ok(), before);
}

#[test]
fn what_is_exported_applies_to_the_same() {
    let server = Server::start();
    let planned = server.run_with(&["apply", "-f", "-", "--dry-run"], CLUSTER, &[]).ok();
    expect![[r#"
        profile compute created
        node n1 created
        node n2 created
        node login created
        4 changes would be made
    "#]]
    .assert_eq(&planned);
    assert!(server.run(&["node", "list"]).ok().starts_with("no nodes yet"));
    server.run_with(&["apply", "-f", "-"], CLUSTER, &[]).ok();
    let exported = server.run(&["export"]).ok();
    assert_eq!(
        server.run_with(&["apply", "-f", "-", "--prune"], &exported, &[]).ok(),
        "nothing to change\n"
    );

    let other = Server::start();
    other.run_with(&["apply", "-f", "-"], &exported, &[]).ok();
    assert_eq!(other.run(&["export"]).ok(), exported);
    let json: serde_json::Value =
        serde_json::from_str(&other.run(&["export", "-o", "json"]).ok()).unwrap();
    assert_eq!(json["nodes"]["login"]["comment"], "where people come in");

    let changed = exported.replace("console=ttyS0", "quiet");
    expect![[r#"
        profile compute changed
          kernel-args[0]: console=ttyS0 -> quiet
        1 change made
    "#]]
    .assert_eq(&other.run_with(&["apply", "-f", "-"], &changed, &[]).ok());
    let pruned = other.run_with(&["apply", "-f", "-", "--prune"], "nodes: {login: {}}", &[]).ok();
    expect![[r#"
        node login changed
          comment: where people come in -> -
          interfaces.lan0.mac: 52:54:00:12:34:56 -> -
          interfaces.lan0.address: 10.1.0.2/24 -> -
        node n1 deleted
        node n2 deleted
        profile compute deleted
        4 changes made
    "#]]
    .assert_eq(&pruned);
}
