//! Workflows told as scripts: what happens in, what the engine wants out. And a cluster in a few
//! lines, in which anything may go wrong, to hold what must always hold ([`world`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::{
    channel::FromServer,
    ids::{Digest, NodeName},
    image::Artifact,
    run::{Outcome, RunEnd, RunReport, RunState, Usage, Work},
    workflow::{StageKind, State},
};
use document::plan::{self, Plan, StoredFile};
use expect_test::{Expect, expect};
use image_catalog::JobImage;
use planner::{Capacity, Core, NumaMemory};
use proptest::prelude::*;

use super::*;
use crate::record::Owner;

mod dependencies;
mod images;
mod logs;
mod members;
mod news;
mod nodes;
mod retries;
mod sharing;
mod stops;
mod turns;
mod volumes;
mod world;

fn at(second: i64) -> Timestamp {
    Timestamp(second * 1_000_000)
}

fn node_id(number: u128) -> NodeId {
    NodeId(uuid::Uuid::from_u128(number))
}

fn facts(number: u128, cores: u32, boot: &str) -> NodeFacts {
    let capacity = Capacity {
        cores: (0..cores).map(|core| Core { pus: vec![core], package: 0, numa: 0 }).collect(),
        memory: vec![NumaMemory { numa: 0, bytes: 64 << 30 }],
        devices: Vec::new(),
    };
    let name: NodeName = format!("n{number}").parse().unwrap();
    NodeFacts {
        id: node_id(number),
        name,
        boot: Some(boot.to_owned()),
        is_ready: true,
        drained: None,
        refuses: None,
        in_conflict: false,
        knows_attempts: Some(true),
        labels: api::labels::Labels::new(),
        capacity,
    }
}

/// Of jobs and of transfers.
const OUT_OF_REACH: [&str; 2] = ["192.0.2.1:9480", "192.0.2.1:9470"];

fn engine() -> Engine {
    let mut number = 0;
    let new_run = move || {
        number += 1;
        RunId(uuid::Uuid::from_u128(number))
    };
    let [forbidden, transfers_forbidden] = OUT_OF_REACH.map(|place| vec![place.parse().unwrap()]);
    let surroundings = Surroundings { forbidden, transfers_forbidden, log_limit_bytes: None };
    Engine::new(surroundings, Box::new(new_run))
}

fn submission(number: u128, text: &str) -> Submission {
    let document = document::parse(text).unwrap().workflow;
    let stored = StoredFile { digest: Digest([7; 32]), size: 1 };
    let files = plan::files(&document).map(|(key, _)| (key, stored)).collect();
    let plan = Plan::of(&document, &files).unwrap();
    Submission {
        id: WorkflowId(uuid::Uuid::from_u128(number)),
        sequence: u64::try_from(number).unwrap(),
        name: format!("w{number}"),
        owner: Owner { name: "ann".to_owned(), uid: 1001, gid: 100, groups: vec![7] },
        document: text.to_owned(),
        stored_plan: plan.to_json().unwrap(),
        key: None,
        plan,
    }
}

fn image() -> FetchedImage {
    let root = Artifact { format: "squashfs".to_owned(), digest: Digest([9; 32]), size: 4096 };
    let run = image_store::RunConfig {
        env: vec!["PATH=/bin".to_owned(), "HOME=/root".to_owned()],
        ..Default::default()
    };
    let image = JobImage { manifest: Digest([8; 32]), root, run, indexes: None, pulled_by: None };
    FetchedImage { image, was_cached: true }
}

fn ended(run: RunId, outcome: Outcome, now: Timestamp) -> RunReport {
    let end =
        RunEnd { started: Some(now), ended: now, outcome, log_bytes: 0, usage: Usage::default() };
    RunReport { run, state: RunState::Ended(Box::new(end)) }
}

/// The engine, and what it told.
struct Stage {
    engine: Engine,
    /// Runs that nodes were told to begin and did not end, by their subject.
    runs: BTreeMap<String, (RunId, NodeId)>,
    lines: String,
}

impl Stage {
    fn new(nodes: &[(u128, u32)]) -> Self {
        let mut engine = engine();
        for &(number, cores) in nodes {
            engine.node_is(facts(number, cores, "boot1"), at(0));
        }
        Self { engine, runs: BTreeMap::new(), lines: String::new() }
    }

    fn submit(&mut self, text: &str, now: i64) -> WorkflowId {
        let submission = submission(1, text);
        let id = submission.id;
        self.engine.submit(submission, at(now));
        self.proceed(now);
        id
    }

    /// Writes down what the engine wants, and fetches images at once.
    fn proceed(&mut self, now: i64) {
        loop {
            let effects = self.engine.proceed(at(now));
            for write in &effects.writes {
                if let Write::Event(_, event) = write {
                    let name = event.name.clone().unwrap_or_default();
                    self.lines += &format!("{now:<3} {} {name}: {}\n", event.event, event.message);
                }
            }
            for (node, message) in effects.messages {
                self.told(now, node, message);
            }
            for (workflow, run) in effects.forget.iter().map(|(_, workflow, run)| (workflow, run)) {
                let of = workflow
                    .map_or("nothing".to_owned(), |workflow| workflow.0.as_u128().to_string());
                self.lines += &format!("{now:<3} forget {} of {of}\n", run.0.as_u128());
            }
            if effects.fetch.is_empty() {
                return;
            }
            for (workflow, stage, _) in effects.fetch {
                self.engine.image_fetched(workflow, stage, Ok(image()), at(now));
            }
        }
    }

    fn told(&mut self, now: i64, node: NodeId, message: FromServer) {
        let node_number = node.0.as_u128();
        let text = match message {
            FromServer::StartRun { spec } => {
                self.runs.insert(spec.subject.clone(), (spec.run, node));
                let transfers = matches!(spec.work, Work::Ingress { .. } | Work::Egress { .. });
                let closed = OUT_OF_REACH[usize::from(transfers)].parse().unwrap();
                assert_eq!(spec.forbidden, [closed], "{}", spec.subject);
                let what = match &spec.work {
                    Work::Job(job) => {
                        format!("{:?} on {:?} with {:?}", job.command, job.cpus, job.mems)
                    }
                    other => format!("{other:?}"),
                };
                format!("start {} {what}", spec.subject)
            }
            FromServer::ReleaseRun { run } => format!("release {}", run.0.as_u128()),
            FromServer::StopRun { run, why, .. } => format!("stop {}: {why}", run.0.as_u128()),
            FromServer::ForgetRuns { runs } => format!("forget {}", runs.len()),
            FromServer::RemoveVolumes { .. } => "remove volumes".to_owned(),
            other => format!("{other:?}"),
        };
        self.lines += &format!("{now:<3} -> n{node_number} {text}\n");
    }

    fn report(&mut self, subject: &str, state: RunState, now: i64) {
        let (run, node) = self.runs[subject];
        self.engine.handle_report(node, &RunReport { run, state }, at(now));
        self.proceed(now);
    }

    fn end(&mut self, subject: &str, outcome: Outcome, now: i64) {
        let (run, node) = self.runs.remove(subject).unwrap();
        self.engine.handle_report(node, &ended(run, outcome, at(now)), at(now));
        self.proceed(now);
    }

    fn tick(&mut self, now: i64) {
        self.engine.tick(at(now), uptime(now));
        self.proceed(now);
    }

    fn check(&mut self, expected: &Expect) {
        expected.assert_eq(&std::mem::take(&mut self.lines));
    }
}

const OK: Outcome = Outcome::Exited { code: 0 };

#[test]
fn hello() {
    let mut stage = Stage::new(&[(1, 4)]);
    stage.submit(
        "version: v1\njobs: {hello: {image: docker://a, command: [echo, $FB_JOB_NAME, $$HOME], resource: {cpu: {cores: 2}, memory: {size: 1GiB}}}}",
        1,
    );
    stage.report("job hello", RunState::Preparing {}, 2);
    stage.report("job hello", RunState::Running { started: at(3) }, 3);
    stage.end("job hello", OK, 4);
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        1   DEPENDENCY_SATISFIED hello: may begin
        1   STAGE_STARTED hello: started
        1   RESOURCES_ALLOCATED hello: job hello goes to n1, CPUs 0,1, 1024 MiB
        1   -> n1 start job hello ["echo", "hello", "$HOME"] on [0, 1] with [0]
        3   CONTAINER_STARTED hello: job hello runs on n1
        4   CONTAINER_EXITED hello: job hello exited with status 0
        4   STAGE_FINISHED hello: finished
        4   WORKFLOW_FINISHED : finished
        4   forget 1 of 1
    "#]]);
    assert!(
        stage.engine.workflow_states.len() == 0,
        "a workflow that is over is in the store alone"
    );
}

#[test]
fn what_the_image_says_stands_where_the_document_leaves_room() {
    let mut stage = Stage::new(&[(1, 8)]);
    let text = r#"version: v1
jobs:
  count_words.v1:
    image: docker://a
    env: ["PATH=/opt/tool/bin:$PATH", "X=${FB_JOB_NAME}", "Y=$HOME $$PATH pa$$word $X"]
    command: [sh, -c, "echo $$X; $PATH; cd $HOME"]
    args: ["${HOME}"]
  ufs: {image: docker://a, cwd: /data, env: [HOME=/data], command: ["tar -C $HOME '$PATH'"], args: [x y]}
"#;
    stage.submit(text, 1);
    let job = |subject: &str| {
        let (run, _) = stage.runs[subject];
        let spec = stage
            .engine
            .workflow_state_of(run)
            .unwrap()
            .spec(run, &Surroundings::default())
            .unwrap();
        let Work::Job(job) = spec.work else { panic!() };
        let env: Vec<String> =
            job.env.iter().filter(|pair| !pair.starts_with("FB_")).cloned().collect();
        format!(
            "{:?} or {:?}\n{env:?}, HOME set: {}\n{} made: {}, on {}\n",
            job.command, job.program_words, job.sets_home, job.cwd, job.makes_cwd, job.hostname
        )
    };
    let found = job("job count_words.v1") + &job("job ufs");
    expect![[r#"
        ["sh", "-c", "echo $X; /opt/tool/bin:/bin; cd $HOME", "${HOME}"] or []
        ["HOME=/root", "PATH=/opt/tool/bin:/bin", "X=count_words.v1", "Y=$HOME $PATH pa$$word $X"], HOME set: false
        / made: false, on count-words-v1
        ["tar -C /data '/bin'", "x y"] or ["tar", "-C", "/data", "$PATH"]
        ["HOME=/data", "PATH=/bin"], HOME set: true
        /data made: false, on ufs
    "#]]
    .assert_eq(&found);
}

#[test]
fn an_array_keeps_its_concurrency() {
    let mut stage = Stage::new(&[(1, 3)]);
    stage.submit("version: v1\njobs: {s: {image: docker://a, command: [sleep, $FB_TASK_ID], task-array: {start: 5, end: 9, concurrency: 2}}}", 1);
    for (task, now) in (5..10).zip(2..) {
        assert!(stage.runs.len() <= 2);
        stage.end(&format!("job s[{task}]"), OK, now);
    }
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        1   DEPENDENCY_SATISFIED s: may begin
        1   STAGE_STARTED s: started
        1   RESOURCES_ALLOCATED s: job s[5] goes to n1, CPUs 0, 1024 MiB
        1   RESOURCES_ALLOCATED s: job s[6] goes to n1, CPUs 1, 1024 MiB
        1   -> n1 start job s[5] ["sleep", "5"] on [0] with [0]
        1   -> n1 start job s[6] ["sleep", "6"] on [1] with [0]
        2   CONTAINER_STARTED s: job s[5] runs on n1
        2   CONTAINER_EXITED s: job s[5] exited with status 0
        2   RESOURCES_ALLOCATED s: job s[7] goes to n1, CPUs 0, 1024 MiB
        2   -> n1 start job s[7] ["sleep", "7"] on [0] with [0]
        2   forget 1 of 1
        3   CONTAINER_STARTED s: job s[6] runs on n1
        3   CONTAINER_EXITED s: job s[6] exited with status 0
        3   RESOURCES_ALLOCATED s: job s[8] goes to n1, CPUs 1, 1024 MiB
        3   -> n1 start job s[8] ["sleep", "8"] on [1] with [0]
        3   forget 2 of 1
        4   CONTAINER_STARTED s: job s[7] runs on n1
        4   CONTAINER_EXITED s: job s[7] exited with status 0
        4   RESOURCES_ALLOCATED s: job s[9] goes to n1, CPUs 0, 1024 MiB
        4   -> n1 start job s[9] ["sleep", "9"] on [0] with [0]
        4   forget 3 of 1
        5   CONTAINER_STARTED s: job s[8] runs on n1
        5   CONTAINER_EXITED s: job s[8] exited with status 0
        5   forget 4 of 1
        6   CONTAINER_STARTED s: job s[9] runs on n1
        6   CONTAINER_EXITED s: job s[9] exited with status 0
        6   STAGE_FINISHED s: finished
        6   WORKFLOW_FINISHED : finished
        6   forget 5 of 1
    "#]]);
}

fn uptime(seconds: i64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds.try_into().unwrap())
}
