//! Attempts of several members over a kill of the server, in the real tables.

use api::{ids::Digest, image::Artifact, workflow::EventKind};
use image_catalog::{FetchedImage, JobImage};

use super::*;
use crate::{engine::Submission, record::Owner};

const PAIR: &str = "version: v1
jobs: {a: {image: docker://a, command: [x], resource: {cpu: {cores: 4}, memory: {size: 1MiB}}}}";

fn node(number: u128) -> NodeId {
    NodeId(uuid::Uuid::from_u128(number))
}

impl Site {
    fn empty() -> Self {
        let nodes = Nodes { runs: Vec::new(), volumes: Vec::new() };
        Self { directory: tempfile::tempdir().unwrap(), nodes }
    }
}

impl Server {
    /// Both nodes are there, with four cores each.
    fn see_nodes(&mut self, now: Timestamp) {
        for number in [1, 2] {
            let name = format!("n{number}").parse().unwrap();
            self.engine.node_is(facts(node(number), name, "boot1"), now);
        }
    }

    /// Hands in a workflow whose job has attempts of two members, and gives them to their nodes.
    async fn begin_pair(&mut self, now: Timestamp) -> Vec<(NodeId, RunId)> {
        self.see_nodes(now);
        let workflow = document::parse(PAIR).unwrap().workflow;
        let mut plan = Plan::of(&workflow, &BTreeMap::new()).unwrap();
        plan.stages[1].members = 2;
        let id = WorkflowId(uuid::Uuid::from_u128(7));
        self.engine.submit(
            Submission {
                id,
                sequence: 1,
                name: "pair".to_owned(),
                owner: Owner { name: "ann".to_owned(), uid: 1001, gid: 100, groups: Vec::new() },
                document: PAIR.to_owned(),
                stored_plan: plan.to_json().unwrap(),
                plan,
                key: None,
            },
            now,
        );
        self.proceed(now).await;
        let root = Artifact { format: "squashfs".to_owned(), digest: Digest([9; 32]), size: 1 };
        let run = image_store::RunConfig::default();
        let image =
            JobImage { manifest: Digest([8; 32]), root, run, indexes: None, pulled_by: None };
        self.engine.image_fetched(
            id,
            StageId(0),
            Ok(FetchedImage { image, was_cached: true }),
            now,
        );
        let effects = self.proceed(now).await;
        let start = |(node, message): (NodeId, FromServer)| match message {
            FromServer::StartRun { spec } if spec.awaits_release => Some((node, spec.run)),
            _ => None,
        };
        effects.messages.into_iter().filter_map(start).collect()
    }

    /// The nodes come back and list their members in these states.
    fn list(&mut self, members: &[(NodeId, RunId)], state: &RunState, now: Timestamp) {
        self.see_nodes(now);
        for &(node, run) in members {
            self.engine.handle_report(node, &RunReport { run, state: state.clone() }, now);
            self.engine.runs_listed(node, "boot1", &BTreeMap::from([(run, false)]), now);
        }
    }

    /// The run of a member is over.
    fn report_end(&mut self, (node, run): (NodeId, RunId), outcome: Outcome, now: Timestamp) {
        let usage = Usage::default();
        let end = Box::new(RunEnd { started: None, ended: now, outcome, log_bytes: 0, usage });
        self.engine.handle_report(node, &RunReport { run, state: RunState::Ended(end) }, now);
    }
}

fn released(effects: &Effects) -> Vec<RunId> {
    let release = |(_, message): &(NodeId, FromServer)| match message {
        FromServer::ReleaseRun { run } => Some(*run),
        _ => None,
    };
    let mut runs: Vec<RunId> = effects.messages.iter().filter_map(release).collect();
    runs.sort_unstable();
    runs
}

#[tokio::test]
async fn a_server_that_is_killed_between_prepared_and_released_releases_both() {
    let (site, now) = (Site::empty(), clock::now());
    let mut server = site.start().await;
    let members = server.begin_pair(now).await;
    assert_eq!(members.len(), 2);
    let both: Vec<RunId> = members.iter().map(|(_, run)| *run).collect();
    let prepared = RunState::Prepared {};
    for &(node, run) in &members {
        server.engine.handle_report(node, &RunReport { run, state: prepared.clone() }, now);
    }
    // It wants to, and is killed before that is on disk.
    assert_eq!(released(&server.engine.proceed(now)), both);
    assert_eq!(
        site.number("SELECT COUNT(*) FROM controller_attempts WHERE released IS NOT NULL").await,
        0
    );

    let mut server = site.start().await;
    server.list(&members[..1], &prepared, now);
    assert_eq!(released(&server.proceed(now).await), [], "one of them may be anywhere");
    server.list(&members[1..], &prepared, now);
    assert_eq!(released(&server.proceed(now).await), both);
    assert_eq!(
        site.number("SELECT COUNT(*) FROM controller_attempts WHERE released IS NOT NULL").await,
        1
    );

    // It is killed before the nodes hear of it: each is told when it lists its run.
    let mut server = site.start().await;
    server.list(&members, &prepared, now);
    assert_eq!(released(&server.proceed(now).await), both);
    let started = RunState::Running { started: now };
    server.list(&members, &started, now);
    let effects = server.proceed(now).await;
    assert_eq!(released(&effects), []);
    assert_nothing_is_ended(&effects);

    // One of them dies; the server is killed before it tells the other.
    server.report_end(members[0], Outcome::Exited { code: 3 }, now);
    server.proceed(now).await;
    let mut server = site.start().await;
    server.list(&members[1..], &started, now);
    let effects = server.proceed(now).await;
    let stop = |(_, message): &(NodeId, FromServer)| match message {
        FromServer::StopRun { run, why, .. } => Some((*run, why.clone())),
        _ => None,
    };
    let stopped: Vec<_> = effects.messages.iter().filter_map(stop).collect();
    assert_eq!(
        stopped,
        [(members[1].1, "member 0 of its attempt: exited with status 3".to_owned())]
    );
    server.report_end(members[1], Outcome::Stopped { why: "as told".to_owned() }, now);
    server.proceed(now).await;
    let ends = site.texts("SELECT outcome FROM controller_attempts WHERE ended IS NOT NULL").await;
    assert_eq!(ends, [r#"{"outcome":"exited","code":3}"#]);
    let workflow =
        server.store.workflow(WorkflowId(uuid::Uuid::from_u128(7))).await.unwrap().unwrap();
    assert_eq!(
        (workflow.state, workflow.reason.as_deref()),
        (State::Failed, Some("job a: exited with status 3"))
    );
    let history = server.store.events(workflow.id, 0, 100).await.unwrap();
    assert_eq!(history.iter().filter(|event| event.event == EventKind::AttemptReleased).count(), 1);
}

#[tokio::test]
async fn runs_of_before_are_the_only_members_of_their_attempts() {
    let site = Site::before().await;
    let before = site.number("SELECT COUNT(*) FROM controller_runs").await;
    let store = site.store().await;
    assert_eq!(site.number("SELECT COUNT(*) FROM controller_runs WHERE member = 0").await, before);
    assert_eq!(site.number("SELECT COUNT(*) FROM controller_attempts").await, 0);
    let mut server = site.start().await;
    let rows = store.rows(server.id("array"), None).await.unwrap();
    assert!(
        !rows.runs.is_empty()
            && rows.runs.iter().all(|run| run.member == 0)
            && rows.attempts.is_empty()
    );
}

/// Nodes are told to end these runs.
fn stopped(effects: &Effects) -> Vec<RunId> {
    let stop = |(_, message): &(NodeId, FromServer)| match message {
        FromServer::StopRun { run, .. } => Some(*run),
        _ => None,
    };
    effects.messages.iter().filter_map(stop).collect()
}

/// Both members of a pair are prepared and released, and that is on disk.
async fn released_pair(site: &Site, now: Timestamp) -> Vec<(NodeId, RunId)> {
    let mut server = site.start().await;
    let members = server.begin_pair(now).await;
    for &(node, run) in &members {
        server.engine.handle_report(node, &RunReport { run, state: RunState::Prepared {} }, now);
    }
    assert_eq!(released(&server.proceed(now).await).len(), 2);
    members
}

#[tokio::test]
async fn what_was_released_is_not_begun_again_after_a_reboot_that_no_server_saw() {
    let (site, now) = (Site::empty(), clock::now());
    let members = released_pair(&site, now).await;
    let mut server = site.start().await;
    server.see_nodes(now);
    let (node, _) = members[0];
    let name = if node == self::node(1) { "n1" } else { "n2" };
    server.engine.node_is(facts(node, name.parse().unwrap(), "boot2"), now);
    server.engine.runs_listed(node, "boot2", &BTreeMap::new(), now);
    let effects = server.proceed(now).await;
    assert_eq!(started(&effects), BTreeMap::new());
    assert_eq!(stopped(&effects), [members[1].1], "it would wait for the other for ever");
}

#[tokio::test]
async fn an_attempt_whose_row_cannot_be_read_goes_on_as_its_members_say() {
    const DAMAGED: &str = "SELECT COUNT(*) FROM controller_attempts WHERE outcome = '{'";
    for is_start_known in [false, true] {
        let (site, now) = (Site::empty(), clock::now());
        let members = released_pair(&site, now).await;
        let runs = RunState::Running { started: now };
        if is_start_known {
            let mut server = site.start().await;
            server.list(&members, &runs, now);
            server.proceed(now).await;
        }
        site.execute("UPDATE controller_attempts SET outcome = '{'").await;
        for _ in 0..2 {
            let mut server = site.start().await;
            server.list(&members, &runs, now);
            assert_nothing_is_ended(&server.proceed(now).await);
            assert_eq!(site.number(DAMAGED).await, 1);
        }
        let mut server = site.start().await;
        server.list(&members, &runs, now);
        server.report_end(members[0], Outcome::Exited { code: 3 }, now);
        assert_eq!(stopped(&server.proceed(now).await), [members[1].1]);
        assert_eq!(site.number(DAMAGED).await, 1, "it stays, for somebody who mends it");
    }
}
