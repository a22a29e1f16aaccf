//! What another release may say: each message, and what is nested in it, with an invented field and
//! an invented variant, in both directions; and that what this release says reads as before.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::{
    enroll::{BootPhase, Enroll, Enrolled, Renew, Report},
    inventory::{Fault, FaultLevel, Nic, NicKind},
    run::{
        Destination, FailedTry, JobFile, JobSpec, LiveUsage, LogTaken, Mount, Outcome, RunEnd,
        RunState, RunUser, Source, Usage, Work,
    },
    stage1::{RootImage, Stage1},
    stream::{Control, Copied, Size, Terminal},
};

/// Keys whose strings are variants of an enum.
const VARIANT_KEYS: [&str; 9] =
    ["type", "state", "outcome", "kind", "from", "to", "what", "level", "channel"];

fn digest() -> Digest {
    Digest([7; 32])
}

fn run_id() -> RunId {
    RunId(uuid::Uuid::from_u128(5))
}

fn workflow_id() -> WorkflowId {
    WorkflowId(uuid::Uuid::from_u128(6))
}

fn agent_messages() -> Vec<FromAgent> {
    let generation = Generation { digest: digest(), size: 9 };
    let outcomes = [
        Outcome::Exited { code: 0 },
        Outcome::Signaled { signal: 9 },
        Outcome::OutOfMemory { limit_bytes: 1 },
        Outcome::TimedOut { seconds: 1, cause: Some("c".into()) },
        Outcome::Stopped { why: "w".into() },
        Outcome::Failed { why: "w".into(), transient: true },
        Outcome::Lost { why: "w".into(), rebooted: true },
        Outcome::Refused { why: "w".into() },
    ];
    let end = |outcome| RunEnd {
        started: Some(Timestamp(1)),
        ended: Timestamp(2),
        outcome,
        log_bytes: 3,
        usage: Usage { cpu_micros: 4, ..Usage::default() },
    };
    let started = Timestamp(1);
    let going = [
        RunState::Preparing {},
        RunState::Prepared {},
        RunState::Running { started },
        RunState::Ready { started },
    ];
    let states = going
        .into_iter()
        .chain(outcomes.into_iter().map(|outcome| RunState::Ended(Box::new(end(outcome)))));
    let reports: Vec<RunReport> = states.map(|state| RunReport { run: run_id(), state }).collect();
    let nic = Nic { name: "lan0".into(), kind: NicKind::Bond, ..Nic::default() };
    let fault = Fault { level: FaultLevel::Error, subject: "s".into(), message: "m".into() };
    let inventory = Inventory { nics: vec![nic], faults: vec![fault], ..Inventory::default() };
    let usage = LiveUsage { total: Usage::default(), memory_bytes: 1, processes: 2 };
    let failed = FailedTry { number: 1, of: 2, why: "w".into(), pause_seconds: 3 };
    vec![
        FromAgent::Hello {
            offer: Offer::ours(),
            agent_version: "0.1.0".into(),
            boot_id: "b".into(),
            instance: "i".into(),
            image: "debian-node@2".into(),
            overlays: Some(generation),
        },
        FromAgent::Heartbeat { uptime_seconds: 1, volumes: None },
        FromAgent::Inventory { inventory: Box::new(inventory) },
        FromAgent::Topology { xml: "<topology/>".into() },
        FromAgent::OverlaysApplied { generation, written: 1, removed: 2, error: None },
        FromAgent::GoingDown { reboot: true },
        FromAgent::Runs {
            runs: reports.clone(),
            paused: vec![run_id()],
            volumes: vec![workflow_id()],
            complete: true,
        },
        FromAgent::Run { report: reports[1].clone() },
        FromAgent::RunNews { run: run_id(), news: RunNews::FailedTry(failed) },
        FromAgent::RunNews { run: run_id(), news: RunNews::Remark { text: "t".into() } },
        FromAgent::Refusing { reason: Some("r".into()) },
        FromAgent::UpgradeFailed { why: "w".into() },
        FromAgent::Usage { runs: vec![RunUsage { run: run_id(), usage: Some(usage) }] },
        FromAgent::Unsupported { command: "c".into() },
    ]
}

fn job() -> JobSpec {
    JobSpec {
        image: digest(),
        image_size: 1,
        command: vec!["true".into()],
        program_words: vec!["true".into()],
        env: vec!["A=1".into()],
        sets_home: true,
        cwd: "/".into(),
        makes_cwd: true,
        hostname: "h".into(),
        mounts: vec![Mount { volume: "v".into(), location: "/v".into() }],
        files: vec![JobFile { path: "/f".into(), digest: digest(), size: 1, executable: true }],
        cpus: vec![0],
        mems: vec![0],
        memory_bytes: 1,
        pids: 1,
        devices: vec!["nvidia.com/gpu=0".parse().unwrap()],
        isolated_network: true,
        log_limit_bytes: Some(64 << 20),
        log_times: true,
    }
}

fn start(work: Work) -> FromServer {
    let user = RunUser { name: "ann".into(), uid: 1001, gid: 100, groups: vec![5] };
    let forbidden = vec!["10.0.0.1:80".parse().unwrap()];
    let (run, workflow) = (run_id(), workflow_id());
    let spec = RunSpec {
        run,
        workflow,
        subject: "job a".into(),
        user,
        work,
        timeout_seconds: 60,
        forbidden,
        awaits_release: true,
    };
    FromServer::StartRun { spec: Box::new(spec) }
}

fn stream_requests() -> Vec<StreamRequest> {
    let terminal = Terminal { name: "xterm".into(), size: Size { rows: 24, columns: 80 } };
    vec![
        StreamRequest::Exec { command: vec!["ls".into()], terminal: Some(terminal), input: true },
        StreamRequest::Attach { all: true },
        StreamRequest::Port { port: 80 },
        StreamRequest::CopyOut { path: "/a".into() },
        StreamRequest::CopyIn { path: "/a".into(), name: "b".into() },
    ]
}

fn server_messages() -> Vec<FromServer> {
    let run = run_id();
    let (volume, path) = (|| "v".to_owned(), || "p".to_owned());
    let sources =
        [Source::Http { url: "http://a/".into() }, Source::Artifact { digest: digest(), size: 1 }];
    let destinations = [
        Destination::Http { url: "http://a/".into() },
        Destination::Client { takes_directories: true },
    ];
    let ingress = |source| start(Work::Ingress { volume: volume(), path: path(), source });
    let egress = |destination| start(Work::Egress { volume: volume(), path: path(), destination });
    let stream = StreamId(uuid::Uuid::from_u128(8));
    let mut messages = vec![
        FromServer::Welcome {
            agreement: Agreement { protocol: 2, capabilities: Capabilities::all() },
            server_time: Timestamp(1),
            heartbeat_seconds: 20,
            resumed: true,
        },
        FromServer::Overlays { generation: Generation { digest: digest(), size: 9 } },
        FromServer::Reboot { reason: "r".into() },
        FromServer::UpgradeAgent { digest: digest(), size: 1 },
        FromServer::Servers { fleet_servers: vec!["10.0.0.1:9443".parse().unwrap()] },
        FromServer::SendInventory {},
        start(Work::Volume { volume: volume(), limit_bytes: None }),
        start(Work::Job(Box::new(job()))),
        FromServer::ReleaseRun { run },
        FromServer::StopRun { run, grace_seconds: 1, why: "w".into() },
        FromServer::PauseRun { run },
        FromServer::ResumeRun { run },
        FromServer::SendUsage { runs: vec![run] },
        FromServer::ForgetRuns { runs: vec![run] },
        FromServer::RemoveVolumes { workflow: workflow_id() },
    ];
    messages.extend(sources.map(ingress));
    messages.extend(destinations.map(egress));
    let open = |request| FromServer::OpenStream { stream, run, request };
    messages.extend(stream_requests().into_iter().map(open));
    messages
}

/// Calls `change` on a copy of `tree` for each of its nodes, with the key it is under, and gives
/// the copies that it changed.
fn mutations(tree: &Value, change: &dyn Fn(&str, &mut Value) -> bool) -> Vec<Value> {
    fn paths(tree: &Value, key: &str, at: String, all: &mut Vec<(String, String)>) {
        all.push((at.clone(), key.to_owned()));
        match tree {
            Value::Object(fields) => {
                fields
                    .iter()
                    .for_each(|(key, value)| paths(value, key, format!("{at}/{key}"), all));
            }
            Value::Array(items) => (0_usize..)
                .zip(items)
                .for_each(|(index, value)| paths(value, key, format!("{at}/{index}"), all)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    paths(tree, "", String::new(), &mut all);
    let changed = |(at, key): (String, String)| {
        let mut copy = tree.clone();
        let place = copy.pointer_mut(&at)?;
        change(&key, place).then_some(copy)
    };
    all.into_iter().filter_map(changed).collect()
}

/// An invented field in any object changes nothing.
fn ignores_invented_fields<T>(value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let tree = serde_json::to_value(value).unwrap();
    let add = |_: &str, place: &mut Value| {
        let Value::Object(fields) = place else { return false };
        fields.insert("invented-field".into(), json!({"type": "x", "deep": [1, {"a": null}]}));
        true
    };
    let changed = mutations(&tree, &add);
    assert!(!changed.is_empty() || !tree.is_object());
    for changed in changed {
        // Maps with keys of people's own (interfaces) would take it as an entry.
        let read = serde_json::from_value::<T>(changed.clone());
        assert_eq!(read.as_ref().ok(), Some(value), "{:?}\n{changed:#}", read.as_ref().err());
    }
}

/// An invented variant of any enum is read. Gives what was read.
fn reads_invented_variants<T: Serialize + DeserializeOwned>(value: &T) -> Vec<T> {
    let tree = serde_json::to_value(value).unwrap();
    let replace = |key: &str, place: &mut Value| {
        let is_variant = place.is_string() && VARIANT_KEYS.contains(&key);
        if is_variant {
            *place = "invented-variant".into();
        }
        is_variant
    };
    let read = |changed: Value| {
        let text = serde_json::to_string_pretty(&changed).unwrap();
        serde_json::from_value(changed).unwrap_or_else(|error| panic!("{error}\n{text}"))
    };
    mutations(&tree, &replace).into_iter().map(read).collect()
}

fn kinds<M: Serialize>(messages: &[M]) -> BTreeSet<String> {
    let kind =
        |message: &M| serde_json::to_value(message).unwrap()["type"].as_str().unwrap().to_owned();
    messages.iter().map(kind).collect()
}

#[test]
fn the_samples_hold_every_kind_of_message() {
    // Written down here, so that a new message, or a new name for one, is seen by whoever makes it.
    let kinds = [kinds(&agent_messages()), kinds(&server_messages())]
        .map(|kinds| kinds.into_iter().collect::<Vec<_>>().join(" "));
    expect_test::expect![[r#"
        going-down heartbeat hello inventory overlays-applied refusing run run-news runs topology unsupported upgrade-failed usage
        forget-runs open-stream overlays pause-run reboot release-run remove-volumes resume-run send-inventory send-usage servers start-run stop-run upgrade-agent welcome
    "#]]
    .assert_eq(&(kinds.join("\n") + "\n"));
}

#[test]
fn invented_fields_are_ignored_in_both_directions() {
    for message in agent_messages() {
        ignores_invented_fields(&Frame { seq: 1, ack: 3, message: Some(message) });
    }
    for message in server_messages() {
        ignores_invented_fields(&Frame { seq: 2, ack: 3, message: Some(message) });
    }
}

#[test]
fn invented_variants_are_read_as_unknown_in_both_directions() {
    for message in agent_messages() {
        let read = reads_invented_variants(&message);
        assert!(read.contains(&FromAgent::Unknown), "{message:?}");
        // What is nested is unknown, and not the whole message: its other parts are still of use.
        assert_eq!(
            read.iter().filter(|read| **read == FromAgent::Unknown).count(),
            1,
            "{message:?}"
        );
    }
    for message in server_messages() {
        let read = reads_invented_variants(&message);
        assert_eq!(
            read.iter().filter(|read| **read == FromServer::Unknown).count(),
            1,
            "{message:?}"
        );
        let nested = read.iter().filter(|read| **read != FromServer::Unknown);
        for nested in nested {
            let is_refused = match nested {
                FromServer::StartRun { spec } => !spec.work.is_known(),
                FromServer::OpenStream { request, .. } => *request == StreamRequest::Unknown,
                _ => false,
            };
            assert!(is_refused, "{nested:?}");
        }
    }
}

#[test]
fn unknown_messages_are_named_and_never_sent() {
    let text = r#"{"seq":4,"ack":0,"message":{"type":"dance","steps":[1,2]}}"#;
    let frame: Frame<FromAgent> = serde_json::from_str(text).unwrap();
    assert_eq!(frame.message, Some(FromAgent::Unknown));
    assert_eq!(kind_of_message(text), "dance");
    let hostile =
        format!(r#"{{"seq":4,"ack":0,"message":{{"type":"a\n{}"}}}}"#, "b".repeat(1 << 20));
    assert_eq!(kind_of_message(&hostile).len(), MAX_KIND_CHARS);
    for nothing in ["", "{}", r#"{"seq":1,"ack":1}"#, r#"{"seq":1,"ack":1,"message":{"type":7}}"#] {
        assert_eq!(kind_of_message(nothing), "");
    }
    assert!(serde_json::to_string(&FromAgent::Unknown).is_err());
    assert!(serde_json::to_string(&FromServer::Unknown).is_err());
}

#[test]
fn the_other_documents_between_releases_ignore_what_is_invented() {
    let id = crate::ids::NodeId(uuid::Uuid::from_u128(1));
    let name: crate::ids::NodeName = "n1".parse().unwrap();
    let not_after = Timestamp(9);
    ignores_invented_fields(&Enroll { id, token: "t".into(), csr: "c".into() });
    ignores_invented_fields(&Renew { csr: "c".into() });
    ignores_invented_fields(&Enrolled {
        node: name.clone(),
        certificate: "c".into(),
        ca: "a".into(),
        not_after,
        server_time: Timestamp(1),
    });
    let report = Report { phase: BootPhase::Fetching, percent: Some(4), message: "m".into() };
    ignores_invented_fields(&report);
    let later: Report = serde_json::from_str(r#"{"phase":"dancing","message":"m"}"#).unwrap();
    assert_eq!(later.phase, BootPhase::Unknown);
    ignores_invented_fields(&LogTaken { length: 3 });
    ignores_invented_fields(&Generation { digest: digest(), size: 1 });
    let stage1 = Stage1 {
        node: name,
        id,
        server_time: Timestamp(1),
        boot_servers: vec!["10.0.0.1:80".parse().unwrap()],
        fleet_servers: vec!["10.0.0.1:81".parse().unwrap()],
        ca_fingerprint: digest(),
        token: Some("t".into()),
        root: RootImage {
            format: "squashfs".into(),
            digest: digest(),
            size: 1,
            version: "debian-node@2".into(),
        },
        machine: serde_json::from_value(json!({
            "dns": {"servers": ["10.0.0.1"]}, "root": {"writable-size": "1GiB"},
        }))
        .unwrap(),
        fallback_address: None,
    };
    ignores_invented_fields(&stage1);
    let interfaces = json!({"lan0": {"mac": "52:54:00:12:34:56", "invented": 1,
        "bond": {"mode": "802.3ad", "members": ["a"], "invented": {}}}});
    let machine =
        serde_json::from_value::<crate::machine::MachineSpec>(json!({"interfaces": interfaces}));
    assert!(machine.is_ok(), "{machine:?}");
    let size = Size { rows: 1, columns: 2 };
    let controls = [
        Control::Taken { bytes: 1 },
        Control::EndOf { channel: crate::stream::Channel::Input },
        Control::Resize { size },
        Control::Ended { outcome: Outcome::Exited { code: 0 } },
        Control::Copied { copied: Copied::default() },
        Control::Failed { why: "w".into() },
    ];
    for control in controls {
        ignores_invented_fields(&control);
        assert!(reads_invented_variants(&control).contains(&Control::Unknown));
    }
}

/// The frames of an agent and a server of commit 244c59b, as they went over the wire.
#[test]
fn frames_of_commit_244c59b_are_read() {
    let transcript = include_str!("tests/frames-244c59b.jsonl");
    let (mut agent, mut server) = (BTreeSet::new(), BTreeSet::new());
    for line in transcript.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = line["frame"].to_string();
        let frame_kind = kind_of_message(&text);
        if line["from"] == "agent" {
            let frame: Frame<FromAgent> = serde_json::from_str(&text).unwrap();
            assert_ne!(frame.message, Some(FromAgent::Unknown), "{text}");
            agent.insert(frame_kind);
            if let Some(FromAgent::Hello { offer, .. }) = frame.message {
                assert_eq!(offer, Offer::version_1());
            }
        } else {
            let frame: Frame<FromServer> = serde_json::from_str(&text).unwrap();
            assert_ne!(frame.message, Some(FromServer::Unknown), "{text}");
            server.insert(frame_kind);
            if let Some(FromServer::Welcome { agreement, .. }) = frame.message {
                let none = Capabilities::default();
                assert_eq!(agreement, Agreement { protocol: 1, capabilities: none });
            }
        }
    }
    for kind in ["hello", "inventory", "topology", "runs", "run", "heartbeat", "overlays-applied"] {
        assert!(agent.contains(kind), "no {kind} in the transcript: {agent:?}");
    }
    for kind in ["welcome", "start-run", "forget-runs"] {
        assert!(server.contains(kind), "no {kind} in the transcript: {server:?}");
    }
}
