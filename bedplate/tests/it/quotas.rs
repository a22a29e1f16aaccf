//! Quotas of users, as people meet them: what is refused and why, what frees it, what a restart and
//! the removal of a user do. There are no nodes: what is started waits for its image.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path, thread, time::Duration};

use expect_test::expect;
use serde_json::Value;

use crate::server::{Done, Server};

/// How often something is looked for that comes by itself, and the pause between.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(100);

const DOCUMENT: &str = "version: v1\njobs:\n  work: {image: 'docker://127.0.0.1:1/none:1', command: [work], \
    resource: {cpu: {cores: 1}, memory: {size: 16MiB}}}\n";

/// A server with such a section `quotas`, and the user ann.
fn with_quotas(quotas: &str) -> Server {
    let mut server = Server::start();
    server.kill_and_restart_after(|directory| {
        let mut file =
            fs::File::options().append(true).open(directory.join("server.yaml")).unwrap();
        writeln!(file, "quotas: {quotas}").unwrap();
    });
    server.run(&["user", "add", "ann", "--uid", "1001", "--gid", "100"]).ok();
    fs::write(server.path("work.yaml"), DOCUMENT).unwrap();
    server
}

fn start(server: &Server, name: &str) -> Done {
    let file = server.path("work.yaml");
    let file: &Path = &file;
    server.run(&["workflow", "start", name, file.to_str().unwrap(), "--as", "ann"])
}

/// What a user has, by quota; but for requests, of which this is one of somebody.
fn used(server: &Server, user: &str) -> BTreeMap<String, u64> {
    let told = server.run(&["user", "quota", user, "-o", "json"]).ok();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["user"], user);
    let quotas = told["quotas"].as_array().unwrap().iter();
    let used =
        quotas.map(|one| (one["name"].as_str().unwrap().to_owned(), one["used"].as_u64().unwrap()));
    used.filter(|(name, _)| name != "requests").collect()
}

/// Stops a workflow and waits until it is over.
fn stop(server: &Server, name: &str) {
    server.run(&["workflow", "stop", name]).ok();
    for _ in 0..LOOKS {
        let shown = server.run(&["workflow", "status", name, "-o", "json"]).ok();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        if !shown["summary"]["ended"].is_null() {
            return;
        }
        thread::sleep(PAUSE);
    }
    panic!("{name} does not end");
}

#[test]
fn workflows_are_refused_past_a_quota_and_taken_when_there_is_room() {
    let server = with_quotas("{workflows: 2}");
    // Of six at once two find room.
    let started: usize = thread::scope(|scope| {
        let starting: Vec<_> = (0..6)
            .map(|number| {
                scope.spawn({
                    let server = &server;
                    move || start(server, &format!("w{number}")).code == Some(0)
                })
            })
            .collect();
        starting.into_iter().map(|one| usize::from(one.join().unwrap())).sum()
    });
    assert_eq!((started, used(&server, "ann")["workflows"]), (2, 2));
    expect![[r#"
        error: cannot start workflow more: ann has 2 workflows that are not over, 1 more would be past the limit of 2 (quota `workflows`): wait for workflows to end, or stop some with `bedplate workflow stop`; an admin can raise the limit with `bedplate user set ann --quota workflows=…`
    "#]]
    .assert_eq(&start(&server, "more").failed());
    server.run(&["user", "set", "ann", "--quota", "workflows=3"]).ok();
    start(&server, "more").ok();
    server.run(&["user", "set", "ann", "--quota", "workflows=default"]).ok();
    let refused = start(&server, "again").failed();
    assert!(refused.contains("past the limit of 2"), "{refused}");
    stop(&server, "more");
    let refused = start(&server, "again").failed();
    assert!(refused.contains("ann has 2 workflows"), "{refused}");
    server.run(&["user", "add", "bob", "--uid", "1002", "--gid", "100"]).ok();
    let file = server.path("work.yaml").display().to_string();
    server.run(&["workflow", "start", "of-bob", &file, "--as", "bob"]).ok();
}

#[test]
fn what_is_stored_is_counted_again_after_a_restart_and_freed_by_deletion() {
    let mut server = with_quotas("{documents: 1MiB, logs: none}");
    start(&server, "first").ok();
    start(&server, "second").ok();
    let id = server.run(&["workflow", "status", "first", "-o", "json"]).ok();
    let id: Value = serde_json::from_str(&id).unwrap();
    let id = id["summary"]["id"].as_str().unwrap().to_owned();
    let before = used(&server, "ann");
    assert_eq!([before["workflows"], before["tasks"], before["logs"]], [2, 2, 0]);
    assert!(before["documents"] > 2 * DOCUMENT.len() as u64, "the plans count too: {before:?}");
    let logs = server.path("state/logs").join(&id);
    server.kill_and_restart_after(|_| {
        let tail = logs.join("00000000000000000000000000000001.tail");
        fs::create_dir_all(&tail).unwrap();
        fs::write(logs.join("00000000000000000000000000000001"), [b'x'; 1000]).unwrap();
        fs::write(tail.join("00000000000000002000"), [b'x'; 500]).unwrap();
    });
    let mut after = before.clone();
    after.insert("logs".to_owned(), 1500);
    assert_eq!(used(&server, "ann"), after);

    let refused = server.run(&["workflow", "delete", "first"]).failed();
    assert!(refused.contains("cannot delete the workflow: first is "), "{refused}");
    assert!(refused.contains(": stop it first with `bedplate workflow stop`"), "{refused}");
    stop(&server, "first");
    let over = used(&server, "ann");
    assert_eq!(
        [over["workflows"], over["documents"], over["logs"]],
        [1, before["documents"], 1500]
    );
    let deleted = server.run(&["workflow", "delete", "first"]);
    assert_eq!(deleted.stderr, format!("first was workflow {id} of ann\n"));
    assert_eq!(deleted.ok(), "deleted first\n");
    let left = used(&server, "ann");
    assert_eq!([left["documents"], left["logs"]], [before["documents"] / 2, 0]);
    assert!(!logs.exists());
    let gone = server.run(&["workflow", "status", "first"]).failed();
    assert!(gone.contains("there is no workflow \"first\""), "{gone}");
    server.kill_and_restart();
    assert_eq!(used(&server, "ann"), left);

    start(&server, "second").ok();
    let refused = server.run(&["workflow", "delete", "second"]).failed();
    assert!(refused.contains("several workflows have the name \"second\": "), "{refused}");
    assert_eq!(refused.matches(" of ann").count(), 2, "{refused}");
}

#[test]
fn documents_that_are_too_many_are_refused_before_anything_is_stored() {
    let server = with_quotas("{documents: 100}");
    let refused = start(&server, "one").failed();
    assert!(
        refused.contains("(quota `documents`)") && refused.contains("the limit of 100 bytes"),
        "{refused}"
    );
    assert!(refused.contains("`bedplate workflow delete`"), "{refused}");
    assert_eq!(used(&server, "ann")["documents"], 0);
    let listed = server.run(&["workflow", "list", "-o", "json"]).ok();
    assert_eq!(listed.trim(), "[]");
}

#[test]
fn a_user_goes_with_all_that_is_over_and_not_while_something_is_under_way() {
    let server = with_quotas("{}");
    for name in ["done", "under-way"] {
        start(&server, name).ok();
    }
    stop(&server, "done");
    expect![[r#"
        error: cannot remove user "ann": workflows of ann that are not over: 1; stop them first (`bedplate workflow list --user ann`, `bedplate workflow stop`); nothing was removed
    "#]]
    .assert_eq(&server.run(&["user", "delete", "ann"]).failed());
    server.run(&["workflow", "status", "done"]).ok();
    stop(&server, "under-way");
    assert_eq!(server.run(&["user", "delete", "ann"]).ok(), "deleted ann\n");
    // Whoever has the name next has nothing of whoever had it before.
    server.run(&["user", "add", "ann", "--uid", "1001", "--gid", "100"]).ok();
    let listed = server.run(&["workflow", "list", "--user", "ann", "-o", "json"]).ok();
    assert_eq!(listed.trim(), "[]");
    assert_eq!(used(&server, "ann").values().sum::<u64>(), 0);
}

#[test]
fn diagnostics_in_quotas_are_told() {
    let mut server = Server::start();
    let said = server.kill_and_fail_after(|directory| {
        let file = directory.join("server.yaml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{text}quotas: {{logs: 20GB, token: 5, requests: 0}}\n")).unwrap();
    });
    assert!(
        said.contains("quotas.logs: \"20GB\" is no limit: write a number of bytes such as"),
        "{said}"
    );
    assert!(said.contains("quotas.token: unknown key (did you mean"), "{said}");
    assert!(said.contains("quotas.requests: without requests nobody but admins"), "{said}");
}
