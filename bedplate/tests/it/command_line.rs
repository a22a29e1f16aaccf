//! Exit statuses, closed pipes, completion, and servers that are not there.

use std::process::Stdio;

use expect_test::expect;

use crate::server::{Server, bedplate, done};

#[test]
fn wrong_use_is_told_from_failure() {
    let wrong = [
        &["node", "ad"][..],
        &["node", "add", "n1", "--mac", "1"],
        &["node", "watch", "--timeout", "5s"],
        &["completion", "bash", "-o", "json"],
    ];
    for arguments in wrong {
        assert_eq!(done(bedplate(arguments), "").code, Some(2), "{arguments:?}");
    }
    let failed = done(bedplate(&["--context", "/nonexistent/context.yaml", "node", "list"]), "");
    expect![[r#"
        error: cannot read context /nonexistent/context.yaml: No such file or directory (os error 2)
    "#]]
    .assert_eq(&failed.failed());
}

#[test]
fn a_server_that_is_not_there() {
    let server = Server::start();
    let context = std::fs::read_to_string(server.path("state/admin.yaml")).unwrap();
    let file = server.path("context.yaml");
    let port = context.find(":9470").unwrap();
    std::fs::write(&file, format!("{}:9{}", &context[..port], &context[port + 5..])).unwrap();
    let failed = server.run(&["--context", &file.display().to_string(), "whoami"]).failed();
    let address = &context[context.find("https").unwrap()..port];
    expect![[r#"
        error: cannot reach the server at https://ADDRESS:9/: Connection refused (os error 111)
        hint: is the server running, and is this its address? --context names another server
    "#]]
    .assert_eq(&failed.replace(address, "https://ADDRESS"));
}

#[test]
fn a_server_with_another_authority_is_not_trusted() {
    let (server, other) = (Server::start(), Server::start());
    let read = |server: &Server| -> client::Context {
        client::Context::read(&server.path("state/admin.yaml")).unwrap()
    };
    let context = client::Context { server: read(&other).server, ..read(&server) };
    let file = server.path("context.yaml");
    std::fs::write(&file, serde_json::to_string(&context).unwrap()).unwrap();
    let failed = server.run(&["--context", &file.display().to_string(), "whoami"]).failed();
    expect![[r#"
        error: cannot reach the server at https://ADDRESS/: invalid peer certificate: UnknownIssuer
        hint: the context is of another server, or of one that was set up again: copy its admin.yaml again
    "#]]
    .assert_eq(&failed.replace(context.server.as_str(), "https://ADDRESS/"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let server = Server::start();
    server.run(&["node", "add", "n[1-20]"]).ok();
    let mut command = bedplate(&["node", "list"]);
    command.env("BEDPLATE_CONTEXT", server.path("state/admin.yaml"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn shells_complete_names() {
    let server = Server::start();
    server.run(&["node", "add", "n[1-2],login"]).ok();
    for shell in ["bash", "zsh", "fish"] {
        assert!(server.run(&["completion", shell]).ok().contains("COMPLETE"), "{shell}");
    }
    let variables = [("COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "3"), ("_CLAP_IFS", "\n")];
    let words = ["--", "bedplate", "node", "show", "n"];
    assert_eq!(server.run_with(&words, "", &variables).ok(), "n1\nn2");
}
