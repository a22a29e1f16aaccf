//! Questions about hardware, on a server whose nodes never told of theirs.

use expect_test::expect;

use crate::server::Server;

#[test]
fn questions_are_answered_or_refused_with_their_place() {
    let server = Server::start();
    server.run(&["node", "add", "n[1-2]"]).ok();
    let asked = server.run(&["inventory", "query", "memory_bytes > 512 * GiB"]);
    assert_eq!(asked.stdout, "no nodes\n");
    expect![[r#"
        n1 is left out: it never told of its hardware
        n2 is left out: it never told of its hardware
    "#]]
    .assert_eq(&asked.stderr);
    let json = server.run(&["inventory", "query", "--nodes", "n2", "-o", "json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["unclear"][0]["name"], "n2");
    let csv = server.run(&["inventory", "query", "--columns", "name,os.kernel", "-o", "csv"]).ok();
    assert_eq!(csv, "name,os.kernel\r\n");
    let mut refused = String::new();
    for arguments in [
        &["inventory", "query", "memory_bytes >"][..],
        &["inventory", "query", "size(gpu) > 1"],
        &["inventory", "query", "--columns", "name,os.kernl"],
        &["inventory", "query", "--nodes", "n7"],
    ] {
        refused += &server.run(arguments).failed();
    }
    expect![[r#"
        error: cannot answer the question: the filter cannot be understood; nothing was read
          1:15: filter: unexpected end of the expression
        error: cannot answer the question: the filter cannot be understood; nothing was read
          1:6: filter: no field is called `gpu`; did you mean `gpus`?
        error: cannot answer the question: the columns cannot be understood; nothing was read
          1:6: columns: no field is called `kernl`; did you mean `kernel`?
        error: cannot answer the question: node n7 does not exist; `bedplate node list` shows those that do
    "#]]
    .assert_eq(&refused);
}

#[test]
fn hardware_that_is_not_known_is_said_to_be_so() {
    let server = Server::start();
    server.run(&["node", "add", "n[1-2]"]).ok();
    let mut refused = String::new();
    for arguments in [
        &["node", "show", "n1", "--topology"][..],
        &["node", "show", "n1", "--devices"],
        &["node", "show", "n1", "--topology", "--xml"],
    ] {
        refused += &server.run(arguments).failed();
    }
    expect![[r#"
        error: cannot show the inventory: n1 has not reported its hardware yet; it does so when its agent connects
        error: cannot show the inventory: n1 has not reported its hardware yet; it does so when its agent connects
        error: cannot show the topology: n1 has not sent its topology yet; its agent does so after the inventory
    "#]].assert_eq(&refused);
    let history = server.run(&["node", "show", "n1", "--history"]).ok();
    assert!(history.starts_with("TIME"), "{history}");
    for wrong in [
        &["node", "show", "n1", "--topology", "--devices"][..],
        &["node", "show", "n1", "--xml"],
        &["node", "show", "n[1-2]", "--topology", "--xml"],
        &["node", "compare", "n1"],
    ] {
        assert_eq!(server.run(wrong).code, Some(2), "{wrong:?}");
    }
    let compared = server.run(&["node", "compare", "n[1-2]"]);
    assert_eq!(compared.code, Some(1));
    assert!(compared.stdout.contains("n[1-2] never told of their hardware"), "{compared:?}");
}

#[test]
fn metrics_want_a_token() {
    let server = Server::start();
    server.run(&["node", "add", "n[1-3]"]).ok();
    let mut context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let metrics = |context: &client::Context| {
        runtime.block_on(client::Client::new(context).unwrap().metrics())
    };
    let text = metrics(&context).unwrap();
    assert!(
        text.contains("bedplate_nodes{phase=\"unseen\"} 3\n") && text.ends_with("# EOF\n"),
        "{text}"
    );
    context.token = "bp_wrong".to_owned();
    assert_eq!(metrics(&context).unwrap_err().status(), Some(401));
}
