//! Workflows as people look at them: what they do in one word, lists, why they wait, documents, the
//! logs of arrays. There are no nodes: what is over is written into the database, and what is not
//! waits for its image.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use expect_test::expect;
use serde_json::Value;

use crate::{nodes::query, server::Server};

/// How often something is looked for that comes by itself, and the pause between: a busy machine
/// needs seconds.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(100);

const RENDER: &str = "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11";

/// A run of task `N` of the array of [`RENDER`], by its number.
const RUNS: [&str; 3] = [
    "00000000000000000000000000000001",
    "00000000000000000000000000000002",
    "00000000000000000000000000000003",
];

/// Three workflows that are over, as the release before wrote them; ann's `render` had an array of
/// four tasks, of which one never ran and one was lost.
const OVER: &str = r#"
INSERT INTO controller_workflows
  (id, place, name, owner, document, submitted, started, ended, state, reason, homes, view) VALUES
('6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11', 1, 'render',
 '{"name":"ann","uid":1001,"gid":100,"groups":[]}',
 'version: v1  # as it was' || char(13) || char(10) || 'jobs: {}' || char(10) || char(10),
 1795464000000000, 1795464001000000, 1795464009000000, 'failed', 'job frames: lost', '[]',
 '{"summary":{"id":"6f1c1f0e52a14a539f0b6f5f6d1f2d11","name":"render","user":"ann","state":"failed",
   "stages-finished":1,"stages":2,"submitted":1795464000000000,"started":1795464001000000,
   "ended":1795464009000000,"reason":"job frames: lost"},
  "stages":[{"index":0,"kind":"image","name":"docker://a","state":"finished","after":[],"reason":null,
    "started":1795464001000000,"ended":1795464003000000,"nodes":[],
    "tasks":{"pending":0,"started":0,"finished":1,"failed":0,"canceled":0}},
   {"index":1,"kind":"job","name":"frames","state":"failed","after":[0],"reason":"lost",
    "started":1795464004000000,"ended":1795464009000000,"nodes":["n1"],
    "tasks":{"pending":0,"started":0,"finished":2,"failed":1,"canceled":1}}],"files":[]}'),
('6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d12', 2, 'alpha',
 '{"name":"bob","uid":1002,"gid":100,"groups":[]}', '',
 1795465000000000, NULL, 1795465009000000, 'finished', NULL, '[]',
 '{"summary":{"id":"6f1c1f0e52a14a539f0b6f5f6d1f2d12","name":"alpha","user":"bob","state":"finished",
   "stages-finished":0,"stages":0,"submitted":1795465000000000,"started":null,
   "ended":1795465009000000,"reason":null},"stages":[],"files":[]}'),
('6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d13', 3, 'zeta',
 '{"name":"ann","uid":1001,"gid":100,"groups":[]}', '',
 1795466000000000, NULL, 1795466009000000, 'canceled', NULL, '[]',
 '{"summary":{"id":"6f1c1f0e52a14a539f0b6f5f6d1f2d13","name":"zeta","user":"ann","state":"canceled",
   "stages-finished":0,"stages":0,"submitted":1795466000000000,"started":null,
   "ended":1795466009000000,"reason":null},"stages":[],"files":[]}')
"#;

const OVER_RUNS: &str = r#"
INSERT INTO controller_runs
  (run, workflow, stage, task, attempt, node, node_name, boot, placed, accepted, started, ended, outcome,
   used, log_bytes)
SELECT '0000000000000000000000000000000' || task, '6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11', 1, task, 1,
  '00000000-0000-4000-8000-000000000009', 'n1', 'boot', 1795464004000000, TRUE, 1795464004000000,
  1795464009000000, outcome, '{"cpu-micros":1,"memory-peak-bytes":1}', bytes
FROM (SELECT 1 AS task, '{"outcome":"exited","code":0}' AS outcome, 14 AS bytes
  UNION ALL SELECT 2, '{"outcome":"exited","code":0}', 12
  UNION ALL SELECT 3, '{"outcome":"lost","why":"n1 was rebooted","rebooted":true}', 0)
"#;

/// Logs of the three runs: the last line of one has no end.
const LOGS: [&str; 3] = ["one\ntwo\nthree\n", "first\nsecond", "before it was"];

/// When the lines of the first were written: how long it was, and microseconds. Of the others
/// it is not known.
const TIMES: [(u64, u64); 3] =
    [(4, 1_795_464_004_000_000), (8, 1_795_464_006_000_000), (14, 1_795_464_008_000_000)];

/// Time marks as they lie beside a log, behind the interval at which they were taken.
fn times(marks: &[(u64, u64)]) -> Vec<u8> {
    let check = u64::from_le_bytes(*b"logtimes");
    let records = [(0, 1_000_000)].into_iter().chain(marks.iter().copied());
    let numbers = records.flat_map(|(offset, micros)| [offset, micros, offset ^ micros ^ check]);
    numbers.flat_map(u64::to_le_bytes).collect()
}

fn with_workflows_that_are_over() -> Server {
    let mut server = Server::start();
    server.kill_and_restart_after(|directory| {
        query(directory, OVER);
        query(directory, OVER_RUNS);
        let logs = directory.join("state/logs").join(RENDER);
        fs::create_dir_all(&logs).unwrap();
        for (run, log) in RUNS.iter().zip(LOGS) {
            fs::write(logs.join(run), log).unwrap();
        }
        fs::write(logs.join(RUNS[0]).with_extension("times"), times(&TIMES)).unwrap();
    });
    server
}

/// Names in a list, in its order.
fn names(server: &Server, options: &[&str]) -> Vec<String> {
    let arguments: Vec<&str> =
        ["workflow", "list", "-o", "json"].into_iter().chain(options.iter().copied()).collect();
    let listed: Vec<Value> = serde_json::from_str(&server.run(&arguments).ok()).unwrap();
    listed.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lists_are_filtered_and_sorted() {
    let server = with_workflows_that_are_over();
    let listed = |options: &[&str]| names(&server, options).join(" ");
    assert_eq!(listed(&[]), "zeta alpha render");
    assert_eq!(listed(&["--reverse"]), "render alpha zeta");
    assert_eq!(listed(&["--sort", "name"]), "alpha render zeta");
    assert_eq!(listed(&["--sort", "state"]), "zeta render alpha", "canceled, failed, finished");
    assert_eq!(
        listed(&["--sort", "user", "--reverse"]),
        "alpha render zeta",
        "bob, then ann's oldest"
    );
    assert_eq!(listed(&["--state", "failed,canceled"]), "zeta render");
    assert_eq!(listed(&["--state", "waiting"]), "");
    assert_eq!(listed(&["--user", "ann"]), "zeta render");
    assert_eq!(listed(&["--mine"]), "", "the admin has none");
    assert_eq!(listed(&["--name", "eta"]), "zeta");
    assert_eq!(listed(&["--name", "*e*"]), "zeta render");
    assert_eq!(
        listed(&["--since", "2026-11-23T20:10:00Z", "--until", "2026-11-23T20:20:00Z"]),
        "alpha"
    );
    assert_eq!(listed(&["--sort", "name", "--limit", "2"]), "alpha render");
    assert_eq!(listed(&["--sort", "name", "--all"]), "alpha render zeta");
    let table = server.run(&["workflow", "list", "--state", "failed"]).ok();
    assert!(table.contains(" failed ") && table.lines().count() == 2, "{table}");
    let none = server.run(&["workflow", "list", "--name", "other"]).ok();
    assert_eq!(none, "no workflow is like that\n");
    let refused = server.run(&["workflow", "list", "--since", "yesterday"]).failed();
    assert!(refused.contains("since is a time such as 2026-11-30"), "{refused}");
    let refused = server.run(&["workflow", "list", "--sort", "size"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("created, name, state, user"), "{}", refused.stderr);
}

#[test]
fn a_document_is_printed_as_it_was_handed_in() {
    let server = with_workflows_that_are_over();
    let document = server.run(&["workflow", "document", "render"]).ok();
    assert_eq!(document, "version: v1  # as it was\r\njobs: {}\n\n");
    let refused = server.run(&["workflow", "document", "nope"]).failed();
    assert!(refused.contains("there is no workflow \"nope\""), "{refused}");
    // Nobody else's.
    server.run(&["user", "add", "bob", "--uid", "1002", "--gid", "100"]).ok();
    let token = server.run(&["token", "create", "t", "--user", "bob"]).ok();
    let admin = fs::read_to_string(server.path("state/admin.yaml")).unwrap();
    let mut context: Value = serde_json::from_str(&admin).unwrap();
    context["token"] = token.trim().into();
    fs::write(server.path("bob.yaml"), context.to_string()).unwrap();
    let context = server.path("bob.yaml").display().to_string();
    let refused = server.run(&["workflow", "document", "render", "--context", &context]).failed();
    assert!(refused.contains("there is no workflow \"render\""), "{refused}");
    let own = server
        .run(&["workflow", "list", "-o", "json", "--user", "ann", "--context", &context])
        .ok();
    assert_eq!(own.trim(), "[]");
}

#[test]
fn the_log_of_an_array_is_that_of_all_its_tasks() {
    let server = with_workflows_that_are_over();
    let done = server.run(&["workflow", "log", "render", "frames"]);
    expect![[r#"
        frames[1] | one
        frames[1] | two
        frames[1] | three
        frames[2] | first
        frames[2] | second
        frames[3] | before it was
    "#]]
    .assert_eq(&done.stdout);
    // One of them is not whole, and one has none.
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("bedplate: frames[3]: the log is not whole"), "{}", done.stderr);
    assert!(done.stderr.contains("1 task of frames has not run"), "{}", done.stderr);
    assert!(done.stderr.contains("bytes are missing of 1 task of frames: 3"), "{}", done.stderr);
    let last = server.run(&["workflow", "log", "render", "--tail", "1"]);
    expect![[r#"
        frames[1] | three
        frames[2] | second
        frames[3] | before it was
    "#]]
    .assert_eq(&last.stdout);
    let task = |more: &[&str]| {
        let arguments = ["workflow", "log", "render", "frames", "--task", "1"];
        server.run(&arguments.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()).ok()
    };
    assert_eq!(task(&[]), LOGS[0], "bytes as they were written");
    assert_eq!(task(&["--tail", "2"]), "two\nthree\n");
    assert_eq!(task(&["--tail", "0"]), "");
    assert_eq!(task(&["--tail", "9", "--follow"]), LOGS[0]);
}

#[test]
fn an_array_is_followed_to_its_end_with_whole_lines() {
    let server = with_workflows_that_are_over();
    let printed = server.run(&["workflow", "log", "render"]);
    let followed = server.run(&["workflow", "log", "render", "--follow"]);
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    // Which task comes first is nobody's choice; of each the lines are in their order.
    assert_eq!(lines(&followed.stdout), lines(&printed.stdout));
    let first: Vec<&str> =
        followed.stdout.lines().filter(|line| line.starts_with("frames[1]")).collect();
    assert_eq!(first, ["frames[1] | one", "frames[1] | two", "frames[1] | three"]);
    assert_eq!((followed.code, lines(&followed.stderr)), (Some(1), lines(&printed.stderr)));
    let never = server.run(&["workflow", "log", "render", "--follow", "--attempt", "2"]).failed();
    assert!(never.contains("no task of frames has run 2 times (yet)"), "{never}");
}

#[test]
fn a_log_is_printed_since_a_time() {
    let server = with_workflows_that_are_over();
    let since = |time: &str, more: &[&str]| {
        let arguments = ["workflow", "log", "render", "frames", "--task", "1", "--since", time];
        server.run(&arguments.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()).ok()
    };
    assert_eq!(since("2026-11-23", &[]), LOGS[0]);
    assert_eq!(since("2026-11-23T20:00:03Z", &[]), LOGS[0]);
    assert_eq!(since("2026-11-23T20:00:05Z", &[]), "two\nthree\n");
    assert_eq!(since("2026-11-23T21:00:06+01:00", &[]), "three\n");
    assert_eq!(since("2026-11-23T20:00:08Z", &[]), "");
    assert_eq!(since("1m", &[]), "", "so long after its end");
    assert_eq!(since("2026-11-23T20:00:05Z", &["--tail", "1"]), "three\n");
    assert_eq!(since("2026-11-23T20:00:06Z", &["--tail", "9"]), "three\n");
    assert_eq!(since("2026-11-23T20:00:05Z", &["--follow"]), "two\nthree\n");
    let refused =
        server.run(&["workflow", "log", "render", "--task", "1", "--since", "yesterday"]).failed();
    assert!(refused.contains("cannot show the log"), "{refused}");
    assert!(refused.contains("since is a time such as 2026-11-30"), "{refused}");
    // Where nobody knows, nothing is left out, and that is told.
    let all = server.run(&["workflow", "log", "render", "--since", "2026-11-23T20:00:05Z"]);
    expect![[r#"
        frames[1] | two
        frames[1] | three
        frames[2] | first
        frames[2] | second
        frames[3] | before it was
    "#]]
    .assert_eq(&all.stdout);
    let timeless: Vec<&str> = all
        .stderr
        .lines()
        .filter(|line| line.contains("when it was written is not known"))
        .collect();
    assert!(
        matches!(&timeless[..], [second, third] if second.starts_with("bedplate: frames[2]: ")
            && third.starts_with("bedplate: frames[3]: ")),
        "{}",
        all.stderr
    );
}

#[test]
fn watching_what_is_over_shows_its_own_times() {
    let server = with_workflows_that_are_over();
    let done = server.run(&["workflow", "watch", "render"]);
    assert_eq!(done.code, Some(1));
    expect![[r#"
        2026-11-23T20:00:03Z  image  docker://a               finished
        2026-11-23T20:00:09Z  job    frames                   failed    50% of 4 tasks  n1  lost
    "#]]
    .assert_eq(&done.stdout);
}

/// A registry with one image, of which it sends 40 of 120 MiB and then no more; for what is named
/// `slow` it says nothing at all.
struct HalfARegistry {
    port: u16,
}

const MIB: usize = 1 << 20;

impl HalfARegistry {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || answer(stream));
            }
        });
        Self { port }
    }

    fn document(&self, image: &str) -> String {
        let image = format!("docker://127.0.0.1:{}/{image}:1", self.port);
        format!("version: v1\njobs: {{main: {{image: '{image}', command: [x]}}}}\n")
    }
}

fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Answers the requests of one connection, until it is to send what it does not have. The other
/// side may go away at any time.
fn answer(mut stream: TcpStream) {
    let layer = digest(b"nobody ever sees all of it");
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{layer}","size":{}}}]}}"#,
        digest(config.as_bytes()),
        config.len(),
        120 * MIB
    );
    while let Some(path) = request(&mut stream) {
        let (kind, body, length) = match &path {
            path if path.contains("/slow/") => break,
            path if path.contains("/manifests/") => (
                "application/vnd.oci.image.manifest.v1+json",
                manifest.clone().into_bytes(),
                manifest.len(),
            ),
            path if path.contains(&layer) => {
                ("application/octet-stream", vec![b'x'; 40 * MIB], 120 * MIB)
            }
            path if path.contains("/blobs/") => {
                ("application/octet-stream", config.clone().into_bytes(), config.len())
            }
            _ => ("application/json", b"{}".to_vec(), 2),
        };
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
        if body.len() < length {
            break;
        }
    }
    // Until the other side gives up, or the test ends.
    let _ = stream.read_to_end(&mut Vec::new());
}

/// The path of the next request; `None` if there is none any more.
fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()?.split(' ').nth(1).map(str::to_owned)
}

/// Pulls that never get an answer.
const SLOW: u32 = 10;

/// What `workflow why` says as soon as it contains `words`.
#[track_caller]
fn why(server: &Server, arguments: &[&str], words: &str) -> String {
    let arguments: Vec<&str> =
        ["workflow", "why"].into_iter().chain(arguments.iter().copied()).collect();
    let mut last = String::new();
    for _ in 0..LOOKS {
        last = server.run(&arguments).ok();
        if last.contains(words) {
            return last;
        }
        thread::sleep(PAUSE);
    }
    panic!("{words:?} is not in {last}\n{}", fs::read_to_string(server.path("log")).unwrap());
}

fn start(server: &Server, name: &str, document: &str) {
    let file = server.path(&format!("{name}.yaml"));
    fs::write(&file, document).unwrap();
    let file: &Path = &file;
    server.run(&["workflow", "start", name, file.to_str().unwrap(), "--as", "ann"]).ok();
}

/// Where a pull is in the queue, by what `workflow why` says.
fn number_in_queue(told: &str) -> Option<u32> {
    told.split("pulls: number ").nth(1)?.split(' ').next()?.parse().ok()
}

#[test]
fn who_waits_for_an_image_learns_how_far_its_pull_is() {
    let server = Server::start();
    let registry = HalfARegistry::start();
    server.run(&["user", "add", "ann", "--uid", "1001", "--gid", "100"]).ok();
    start(&server, "half", &registry.document("half"));
    let reference = format!("127.0.0.1:{}/half:1", registry.port);
    let told = why(&server, &["half"], "40 MiB of 120 MiB");
    assert!(told.contains(&format!("pulling {reference}: 40 MiB of 120 MiB")), "{told}");
    // More than are pulled at once.
    for number in 1..=SLOW {
        start(&server, &format!("slow-{number}"), &registry.document("slow/image"));
    }
    why(&server, &["slow-1"], "asking its registry");
    let place = |name: &str| -> u32 {
        start(&server, name, &registry.document("half"));
        let told = why(&server, &[name], &format!("{reference} is in the queue of pulls: number "));
        let kept = "this user has 7 of the 8 places, and the last is kept for users who have none";
        assert!(told.contains(kept), "{told}");
        number_in_queue(&told).unwrap()
    };
    let third = place("third");
    assert_eq!(place("fourth"), third + 1);
    let of_job = why(&server, &["fourth", "main"], "in the queue of pulls");
    assert!(of_job.contains("main waits:\n  waits for image docker://127.0.0.1"), "{of_job}");
    // Another user is not held up by all that.
    server.run(&["user", "add", "bob", "--uid", "1002", "--gid", "100"]).ok();
    let file = server.path("half.yaml");
    server.run(&["workflow", "start", "of-bob", file.to_str().unwrap(), "--as", "bob"]).ok();
    why(&server, &["of-bob"], "40 MiB of 120 MiB");
    // The next in the queue has the place of one that is stopped.
    server.run(&["workflow", "stop", "slow-1"]).ok();
    let moved_up = (0..LOOKS).any(|_| {
        thread::sleep(PAUSE);
        let told = server.run(&["workflow", "why", "third"]).ok();
        number_in_queue(&told).is_none_or(|number| number < third)
    });
    assert!(moved_up, "{}", fs::read_to_string(server.path("log")).unwrap());
    let refused = server.run(&["workflow", "why", "fourth", "other"]).failed();
    assert!(refused.contains("it has no job \"other\"; its jobs are main"), "{refused}");
}

#[test]
fn what_a_workflow_does_is_one_word_everywhere() {
    let server = Server::start();
    let registry = HalfARegistry::start();
    server.run(&["user", "add", "ann", "--uid", "1001", "--gid", "100"]).ok();
    start(&server, "one", &registry.document("slow/image"));
    let everywhere = || {
        let list = server.run(&["workflow", "list"]).ok();
        let of_list = list.lines().nth(1).unwrap().split_whitespace().nth(3).unwrap().to_owned();
        let status = server.run(&["workflow", "status", "one"]).ok();
        assert!(status.contains(&format!("\n  state      {of_list}\n")), "{status}");
        let list = server.run(&["workflow", "list", "-o", "json", "--state", &of_list]).ok();
        let list: Vec<Value> = serde_json::from_str(&list).unwrap();
        assert_eq!(list[0]["status"], of_list.as_str());
        let whole = server.run(&["workflow", "status", "one", "-o", "json"]).ok();
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(whole["summary"]["status"], of_list.as_str());
        of_list
    };
    assert_eq!(everywhere(), "waiting");
    server.run(&["workflow", "pause", "one"]).ok();
    assert_eq!(everywhere(), "paused");
    assert_eq!(names(&server, &["--state", "waiting,running"]), [""; 0]);
    server.run(&["workflow", "resume", "one"]).ok();
    assert_eq!(everywhere(), "waiting");
    server.run(&["workflow", "stop", "one"]).ok();
    assert_eq!(everywhere(), "canceled");
}
