//! `audit`: what is told of changes, and what of the log can be proved.

use std::{fs, path::Path, thread, time::Duration};

use access::{Access, AuditHeads, AuditKeep};
use database::{Database, Number, statement};
use serde_json::Value;

use crate::{nodes::query, server::Server, upgrade::unpack};

/// Lines of the log that a list wants, newest first.
fn listed(server: &Server, of: &[&str]) -> Vec<Value> {
    let arguments = [&["audit", "list", "-o", "json"], of].concat();
    serde_json::from_str(&server.run(&arguments).ok()).unwrap()
}

#[test]
fn the_audit_log_is_held_against_heads_kept_elsewhere() {
    let mut server = Server::start();
    for name in ["ann", "ben"] {
        server.run(&["user", "add", name]).ok();
    }
    let file = server.path("heads");
    let head = server.run(&["audit", "head"]).ok();
    fs::write(&file, format!("begun by hand\n{head}")).unwrap();
    let file = file.display().to_string();
    server.run(&["user", "add", "cid"]).ok();
    let told = server.run(&["audit", "verify", "--head", &file]).ok();
    assert!(
        told.starts_with("the audit log holds: 4 lines, hash ") && told.contains("\n1 heads fit"),
        "{told}"
    );
    let key = server.run(&["audit", "key"]).ok();
    server.run(&["audit", "verify", "--head", &file, "--key", key.trim()]).ok();
    let other =
        server.run(&["audit", "verify", "--head", &file, "--key", &"0".repeat(64)]).failed();
    assert!(other.contains("was signed with the key"), "{other}");
    let none = server.run(&[
        "audit",
        "verify",
        "--head",
        &server.path("server.yaml").display().to_string(),
    ]);
    assert!(none.failed().contains("holds no head"));

    // Without the head nobody can tell.
    server.kill_and_restart_after(|directory| {
        query(directory, "DELETE FROM access_audit WHERE number > 2");
    });
    server.run(&["audit", "verify"]).ok();
    let cut = server.run(&["audit", "verify", "--head", &file]).failed();
    assert!(cut.contains("it ends with line 2, and there is a head of line 3"), "{cut}");
    // New lines in the place of the old ones have other hashes.
    server.run(&["user", "add", "dan"]).ok();
    let rewritten = server.run(&["audit", "verify", "--head", &file]).failed();
    assert!(rewritten.contains("written again: line 3"), "{rewritten}");

    server.kill_and_restart_after(|directory| {
        query(directory, "UPDATE access_audit SET outcome = '404' WHERE number = 2");
    });
    let changed = server.run(&["audit", "verify"]).failed();
    assert!(changed.contains("line 2 was changed after it was written"), "{changed}");
    server.kill_and_restart_after(|directory| {
        query(directory, "DELETE FROM access_audit WHERE number = 2");
    });
    let gap = server.run(&["audit", "verify"]).failed();
    assert!(gap.contains("line 2 is missing, line 3 stands in its place"), "{gap}");
    let configuration = server.path("server.yaml").display().to_string();
    let checked = server.run(&["server", "check", "--config", &configuration]);
    let said = checked.stdout.clone() + &checked.stderr;
    assert!(said.contains("the audit log ends with line 3 and has 2 lines"), "{said}");
}

/// Lets the server's own code remove all lines but the newest, as if `audit.max-gib` were a byte.
fn cut_all(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let state = directory.join("state");
        let database =
            Database::open(&state.join("bedplate.db"), &[&access::SCHEMA]).await.unwrap();
        let keep = AuditKeep { days: None, max_bytes: Some(1) };
        let access = Access::open(database.clone()).await.unwrap().with_audit_keep(keep);
        let access = access.with_audit_heads(AuditHeads::open(&state, None).unwrap());
        let is_cut = async || {
            let cuts = statement("count", "SELECT COUNT(*) FROM access_audit_cuts");
            let (Number(cuts),): (Number<u64>,) = cuts.fetch_one(&database).await.unwrap();
            cuts > 0
        };
        let cut = async {
            while !is_cut().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        access.run_audit_writer(cut).await;
        access.close_audit().await;
        database.close().await;
    });
}

#[test]
fn a_log_whose_oldest_lines_were_removed_is_checked_behind_them() {
    let mut server = Server::start();
    let head = server.run(&["audit", "head"]).ok();
    let old = server.path("old-head");
    fs::write(&old, head).unwrap();
    let old = old.display().to_string();
    for name in ["ann", "ben", "cid"] {
        server.run(&["user", "add", name]).ok();
    }
    server.kill_and_restart_after(cut_all);
    server.run(&["user", "add", "dan"]).ok();
    let told = server.run(&["audit", "verify", "--head", &old]).ok();
    assert!(
        told.contains("lines up to 3 were removed by the server, which has signed that\n"),
        "{told}"
    );
    assert!(told.contains("1 heads are of lines that were removed"), "{told}");
    let newest = listed(&server, &["--action", "audit-cut"]);
    assert_eq!((newest.len(), &newest[0]["subject"]), (1, &Value::from("lines up to 3")));
    let verified = server.run(&["audit", "verify", "-o", "json"]).ok();
    let verified: Value = serde_json::from_str(&verified).unwrap();
    assert_eq!((&verified["cut"], &verified["heads-cut"]), (&Value::from(3), &Value::from(0)));

    // Who moves the cut has no signature for it.
    server.kill_and_restart_after(|directory| {
        query(directory, "UPDATE access_audit_cuts SET number = 4");
    });
    let moved = server.run(&["audit", "verify"]).failed();
    assert!(moved.contains("the head of line 4 has no good signature"), "{moved}");
    wait_for(&server, &["server", "alarms"], |said| said.contains("audit-log-broken"));
    let lines = listed(&server, &["--limit", "1000"]);
    assert!(lines.iter().any(|line| line["number"] == 4), "no line is hidden: {lines:#?}");
    let configuration = server.path("server.yaml").display().to_string();
    let check = |server: &Server| {
        let checked = server.run(&["server", "check", "--config", &configuration]);
        checked.stdout.clone() + &checked.stderr
    };
    let said = check(&server);
    assert!(
        said.contains("the cut of the audit log up to line 4 is not signed by this server"),
        "{said}"
    );
    server.kill_and_restart_after(|directory| {
        query(directory, "UPDATE access_audit_cuts SET number = 3");
        query(directory, "UPDATE access_audit SET outcome = '404' WHERE number = 5");
    });
    let said = check(&server);
    let is_said =
        said.contains("the cut of the audit log") || said.contains("lines of the audit log");
    assert!(!is_said, "this server signed it, and a line tells of it: {said}");
    let changed = server.run(&["audit", "verify"]).failed();
    assert!(changed.contains("line 5 was changed after it was written"), "{changed}");
    server.kill_and_restart_after(|directory| {
        query(directory, "DELETE FROM access_audit_cuts");
    });
    let gap = server.run(&["audit", "verify"]).failed();
    assert!(gap.contains("line 1 is missing, line 4 stands in its place"), "{gap}");
}

#[test]
fn heads_are_written_where_the_configuration_says() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("heads");
    // It ends the section that further keys are for, and begins another one.
    let audit = format!("}}\naudit: {{head-file: {}", file.display());
    let server = Server::start_in(directory, &audit);
    server.run(&["user", "add", "ann"]).ok();
    for _ in 0..600 {
        if fs::metadata(&file).is_ok_and(|metadata| metadata.len() > 0) {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let file = file.display().to_string();
    let told = server.run(&["audit", "verify", "--head", &file]).ok();
    assert!(told.contains("1 heads fit"), "{told}");
}

/// Until the command line says so, or half a minute.
fn wait_for(server: &Server, arguments: &[&str], is_there: impl Fn(&str) -> bool) -> String {
    for _ in 0..600 {
        let said = server.run(arguments).ok();
        if is_there(&said) {
            return said;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("not said: {}", server.run(arguments).ok());
}

#[test]
fn a_log_that_was_cut_off_or_has_another_key_is_an_alarm() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("heads");
    let audit = format!("}}\naudit: {{head-file: {}", file.display());
    let mut server = Server::start_in(directory, &audit);
    let alarms = ["server", "alarms"];
    for name in ["ann", "ben"] {
        server.run(&["user", "add", name]).ok();
    }
    // It becomes the one head of the file, of which the server has written none or one
    // of an older line.
    let head = server.run(&["audit", "head"]).ok();
    server.kill_and_restart_after(|directory| {
        fs::write(directory.join("heads"), &head).unwrap();
        query(directory, "DELETE FROM access_audit WHERE number > 2");
    });
    let said = wait_for(&server, &alarms, |said| said.contains("audit-log-broken"));
    assert!(said.contains("was cut off"), "{said}");
    server.run(&["user", "add", "cid"]).ok();
    server.kill_and_restart_after(|_| {});
    let said = wait_for(&server, &alarms, |said| said.contains("audit-log-broken"));
    assert!(said.contains("line 3 is not the one"), "{said}");
    let kept = file.display().to_string();
    assert_eq!(fs::read_to_string(&file).unwrap(), head, "no head goes behind that one");

    let old = server.run(&["audit", "key"]).ok();
    server.kill_and_restart_after(|directory| {
        fs::remove_file(directory.join("state/audit.key")).unwrap()
    });
    wait_for(&server, &alarms, |said| said.contains("audit-key-new"));
    let told = listed(&server, &["--action", "audit-key"]);
    let key = server.run(&["audit", "key"]).ok();
    assert_ne!(key, old);
    assert_eq!(told[0]["object"].as_str(), Some(key.trim()));
    let other = server.run(&["audit", "verify", "--head", &kept]).failed();
    assert!(
        other.contains(&format!("as line {} of the log reports", told[0]["number"])),
        "{other}"
    );
}

#[test]
fn a_log_of_the_first_release_goes_on() {
    let server = Server::start_on(unpack);
    server.run(&["user", "add", "zoe"]).ok();
    server.run(&["audit", "verify"]).ok();
    let lines = listed(&server, &["--limit", "1000"]);
    let form = |line: &Value| line["form"].as_u64().unwrap_or(1);
    assert_eq!((form(&lines[0]), form(lines.last().unwrap())), (2, 1));
}

#[test]
fn each_role_tells_what_was_changed_in_the_transaction_of_the_change() {
    let server = Server::start();
    let document = server.path("workflow.yaml");
    let text = "version: v1\njobs:\n  work: {image: 'docker://127.0.0.1:1/none:1', command: [work], \
                resource: {cpu: {cores: 1}, memory: {size: 16MiB}}}\n";
    fs::write(&document, text).unwrap();
    let document = document.display().to_string();
    server.run(&["user", "add", "ann", "--uid", "1001", "--gid", "100"]).ok();
    server.run(&["token", "create", "ci"]).ok();
    server.run(&["profile", "set", "p1", "--comment", "x"]).ok();
    server.run(&["node", "add", "n[1-2]"]).ok();
    server.run(&["node", "set", "n1", "--comment", "y"]).ok();
    server.run(&["image", "import", "oci:/nonexistent:1", "--name", "none"]).failed();
    server.run(&["workflow", "start", &document, "--as", "ann"]).ok();
    for verb in ["pause", "resume", "stop"] {
        server.run(&["workflow", verb, "workflow"]).ok();
    }
    server.run(&["node", "drain", "n2", "--reason", "new memory"]).ok();
    server.run(&["node", "arm", "n2"]).ok();
    server.run(&["node", "delete", "n1"]).ok();
    let lines = listed(&server, &["--limit", "1000"]);
    // Only a row that was written by the change itself tells these.
    let told: Vec<String> = lines
        .iter()
        .rev()
        .map(|line| line["object"].as_str().unwrap_or_default().to_owned())
        .collect();
    for object in [
        "ann",
        "token ci of admin",
        "profile p1",
        "node n1 node n2",
        "node n1",
        "operation 1",
        "workflow ",
    ] {
        assert!(told.iter().any(|told| told.starts_with(object)), "{object}: {lines:#?}");
    }
    for (end, object) in [
        ("/pause", "workflow "),
        ("/resume", "workflow "),
        ("/stop", "workflow "),
        ("/v1/nodes/n2/drain", "node n2"),
        ("/v1/nodes/n2/arm", "node n2"),
    ] {
        let line = lines.iter().find(|line| line["subject"].as_str().unwrap().ends_with(end));
        let told = line.and_then(|line| line["object"].as_str()).unwrap_or_default();
        assert!(told.starts_with(object), "{end}: {lines:#?}");
    }
    let of = |action: &str| lines.iter().find(|line| line["action"] == action).unwrap();
    let ended = of("operation-end");
    assert_eq!(
        (ended["principal"].as_str(), ended["subject"].as_str()),
        (Some("admin"), Some("/v1/operations/1"))
    );
    assert!(ended["outcome"].as_str().unwrap().starts_with("failed: "), "{ended}");
    let deleted = of("DELETE");
    assert_eq!(deleted["object"], "node n1");
    assert_eq!(deleted["difference"].as_str().unwrap(), r#"{"comment":["y",null]}"#);
    assert_eq!(deleted["token"], "first-start");
    assert!(deleted["source"].as_str().unwrap().starts_with("127."), "{deleted}");
}
