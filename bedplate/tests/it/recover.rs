//! An admin on a bad day: every token lost, and what warned before.

use std::{fs, os::unix::fs::MetadataExt as _};

use client::Context;
use serde_json::Value;

use crate::server::Server;

fn recover(server: &Server) -> String {
    let state = server.path("state").display().to_string();
    server.run(&["server", "recover-admin", "--state-dir", &state]).ok()
}

#[test]
fn a_new_admin_token_is_made_beside_a_server_that_runs() {
    let mut server = Server::start();
    let file = server.path("state/admin.yaml");
    let before = Context::read(&file).unwrap();
    fs::write(
        &file,
        serde_json::to_string(&Context { token: "bp_lost".to_owned(), ..before.clone() }).unwrap(),
    )
    .unwrap();
    assert!(server.run(&["whoami"]).failed().contains("not authenticated"));
    assert!(recover(&server).ends_with("admin.yaml has a new token of admin\n"));
    assert_eq!(server.run(&["whoami"]).ok(), "admin (admin)\n", "the server takes it at once");
    let after = Context::read(&file).unwrap();
    assert_eq!((&after.server, &after.ca), (&before.server, &before.ca));
    let (state, admin) =
        (fs::metadata(server.path("state")).unwrap(), fs::metadata(&file).unwrap());
    assert_eq!((admin.uid(), admin.gid(), admin.mode() & 0o777), (state.uid(), state.gid(), 0o600));

    // Again, where the file is gone; the first token is replaced, and the log has a line of each.
    fs::remove_file(&file).unwrap();
    let state = server.path("state").display().to_string();
    let second = server.run(&["server", "recover-admin", "--state-dir", &state]);
    assert!(second.stderr.contains("it replaces token recovered of admin, made 20"), "{second:?}");
    let again = Context::read(&file).unwrap();
    assert_ne!(again.token, after.token);
    assert_eq!(again.ca, before.ca, "the CA is read from the state directory");
    fs::write(
        &file,
        serde_json::to_string(&Context { server: before.server.clone(), ..again }).unwrap(),
    )
    .unwrap();
    let audit = server.run(&["audit", "--limit", "10", "-o", "json"]).ok();
    let audit: Vec<Value> = serde_json::from_str(&audit).unwrap();
    let lines = audit
        .iter()
        .filter(|line| line["action"] == "recover-admin" && line["principal"] == "root");
    // The newest line is first.
    let told: Vec<_> = lines.map(|line| [&line["subject"], &line["outcome"]]).collect();
    assert_eq!(told, [["admin/recovered", "replaced"], ["admin/recovered", "done"]], "{audit:?}");

    // And where no server runs.
    server.kill_and_restart_after(|directory| {
        let state = directory.join("state").display().to_string();
        let done = crate::server::done(
            crate::server::bedplate(&["server", "recover-admin", "--state-dir", &state]),
            "",
        );
        assert_eq!(done.code, Some(0), "{done:?}");
    });
    assert_eq!(server.run(&["whoami"]).ok(), "admin (admin)\n");
}

#[test]
fn where_no_server_was_started_nothing_is_recovered() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().display().to_string();
    let done = crate::server::done(
        crate::server::bedplate(&["server", "recover-admin", "--state-dir", &state]),
        "",
    );
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("no server was started on"), "{done:?}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is made");
}

#[test]
fn tokens_without_an_end_are_an_alarm_until_they_are_replaced() {
    let server = Server::start();
    let alarms = || -> Vec<Value> {
        serde_json::from_str(&server.run(&["server", "alarms", "-o", "json"]).ok()).unwrap()
    };
    let told = alarms();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0]["alarm"], &told[0]["subject"]),
        (&"token-without-end".into(), &"admin/first-start".into())
    );
    let is_logged = || {
        let log = fs::read_to_string(server.path("log")).unwrap();
        log.contains("token \"first-start\" of admin never expires")
    };
    // It is told beside the first requests.
    assert!((0..200).any(|_| is_logged() || {
        std::thread::sleep(std::time::Duration::from_millis(10));
        false
    }));
    let rotated = server.run(&["token", "rotate", "--expires", "13d"]);
    assert!(!rotated.stderr.contains("expires on"), "it was good for long: {rotated:?}");
    assert_eq!(alarms(), Vec::<Value>::new(), "it is new, though its life is short");
    let text = "UPDATE access_tokens SET created = created - 6652800000000 RETURNING name";
    let state = server.path("state");
    assert_eq!(
        crate::nodes::query(state.parent().unwrap(), text),
        ["first-start-2"],
        "77 days older"
    );
    // What others write into the database is seen within a second.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let told = alarms();
    assert_eq!(told[0]["alarm"], "token-expires", "{told:?}");
    let noted = server.run(&["whoami"]);
    assert!(noted.stderr.starts_with("note: the token of the context expires on 20"), "{noted:?}");
    server.run(&["token", "rotate"]).ok();
    assert_eq!(alarms(), Vec::<Value>::new());
    assert_eq!(server.run(&["server", "alarms"]).ok(), "no alarms\n");
}

#[test]
fn certificates_are_told_by_the_server_and_from_its_directory() {
    let server = Server::start();
    let status = |arguments: &[&str]| -> Vec<Value> {
        let arguments = [&["server", "ca", "status", "-o", "json"], arguments].concat();
        serde_json::from_str(&server.run(&arguments).ok()).unwrap()
    };
    let names = |rows: &[Value]| -> Vec<String> {
        rows.iter().map(|row| row["certificate"].as_str().unwrap().to_owned()).collect()
    };
    let told = status(&[]);
    assert_eq!(names(&told), ["authority", "server", "nodes"]);
    let days = |row: &Value| row["days-left"].as_i64().unwrap();
    assert!((3_648..=3_650).contains(&days(&told[0])), "{told:?}");
    assert!((88..=90).contains(&days(&told[1])), "{told:?}");
    assert!(told.iter().all(|row| row["alarm"].is_null()), "{told:?}");
    let state = server.path("state").display().to_string();
    let read = status(&["--state-dir", &state]);
    assert_eq!(names(&read), ["authority", "nodes"]);
    assert_eq!(read[0]["fingerprint"], told[0]["fingerprint"]);
}
