//! Workflows told as scripts: what happens in, what the engine wants out. And a cluster in a few lines, in which anything may
//! go wrong, to hold what must always hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::{
    ids::{Digest, NodeName},
    image::Artifact,
    run::{Outcome, RunEnd, RunReport, RunState, Usage, Work},
    workflow::State,
};
use document::plan::{self, StoredFile};
use expect_test::{Expect, expect};
use oci_pull::PullError;
use planner::{Capacity, Core, NumaMemory};
use proptest::prelude::*;

use super::*;
use crate::{
    images::{FetchError, Fetched, JobImage, ToldFetchError},
    store::Owner,
};

mod news;
mod turns;

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
        labels: api::labels::Labels::new(),
        capacity,
    }
}

fn engine() -> Engine {
    let mut number = 0;
    let new_run = move || {
        number += 1;
        RunId(uuid::Uuid::from_u128(number))
    };
    Engine::new(Surroundings::default(), Box::new(new_run))
}

fn submission(number: u128, text: &str) -> Submission {
    let document = document::parse(text).unwrap().workflow;
    let stored = StoredFile { digest: Digest([7; 32]), size: 1 };
    let files = plan::files(&document).map(|(key, _)| (key, stored)).collect();
    let plan = Plan::of(&document, &files).unwrap();
    Submission {
        id: WorkflowId(uuid::Uuid::from_u128(number)),
        place: u64::try_from(number).unwrap(),
        name: format!("w{number}"),
        owner: Owner { name: "ann".to_owned(), uid: 1001, gid: 100, groups: vec![7] },
        document: text.to_owned(),
        stored_plan: plan.to_json().unwrap(),
        key: None,
        plan,
    }
}

fn image() -> Fetched {
    let root = Artifact { format: "squashfs".to_owned(), digest: Digest([9; 32]), size: 4096 };
    let run = image_store::RunConfig {
        env: vec!["PATH=/bin".to_owned(), "HOME=/root".to_owned()],
        ..Default::default()
    };
    let image = JobImage { manifest: Digest([8; 32]), root, run, indexes: None, pulled_by: None };
    Fetched { image, was_cached: true }
}

fn ended(run: RunId, outcome: Outcome, now: Timestamp) -> RunReport {
    let end = RunEnd { started: Some(now), ended: now, outcome, log_bytes: 0, usage: Usage::default() };
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
            let output = self.engine.proceed(at(now));
            for write in &output.writes {
                if let Write::Event(_, event) = write {
                    let name = event.name.clone().unwrap_or_default();
                    self.lines += &format!("{now:<3} {} {name}: {}\n", event.event, event.message);
                }
            }
            for (node, message) in output.tell {
                self.told(now, node, message);
            }
            for (workflow, run) in output.forget.iter().map(|(_, workflow, run)| (workflow, run)) {
                let of = workflow.map_or("nothing".to_owned(), |workflow| workflow.0.as_u128().to_string());
                self.lines += &format!("{now:<3} forget {} of {of}\n", run.0.as_u128());
            }
            if output.fetch.is_empty() {
                return;
            }
            for (workflow, stage, _) in output.fetch {
                self.engine.image_fetched(workflow, stage, Ok(image()), at(now));
            }
        }
    }

    fn told(&mut self, now: i64, node: NodeId, message: FromServer) {
        let node_number = node.0.as_u128();
        let text = match message {
            FromServer::StartRun { spec } => {
                self.runs.insert(spec.subject.clone(), (spec.run, node));
                let what = match &spec.work {
                    Work::Job(job) => format!("{:?} on {:?} with {:?}", job.command, job.cpus, job.mems),
                    other => format!("{other:?}"),
                };
                format!("start {} {what}", spec.subject)
            }
            FromServer::StopRun { run, why, .. } => format!("stop {}: {why}", run.0.as_u128()),
            FromServer::ForgetRuns { runs } => format!("forget {}", runs.len()),
            FromServer::RemoveVolumes { .. } => "remove volumes".to_owned(),
            other => format!("{other:?}"),
        };
        self.lines += &format!("{now:<3} -> n{node_number} {text}\n");
    }

    fn report(&mut self, subject: &str, state: RunState, now: i64) {
        let (run, node) = self.runs[subject];
        self.engine.run_told(node, &RunReport { run, state }, at(now));
        self.proceed(now);
    }

    fn end(&mut self, subject: &str, outcome: Outcome, now: i64) {
        let (run, node) = self.runs.remove(subject).unwrap();
        self.engine.run_told(node, &ended(run, outcome, at(now)), at(now));
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

/// A workflow whose image is not here yet.
fn pulls() -> (Stage, WorkflowId) {
    let mut stage = Stage::new(&[(1, 4)]);
    let submission = submission(1, "version: v1\njobs: {a: {image: docker://a, command: [x]}}");
    let id = submission.id;
    stage.engine.submit(submission, at(1));
    assert_eq!(stage.engine.proceed(at(1)).fetch.len(), 1);
    (stage, id)
}

#[test]
fn a_registry_that_is_waited_for_is_shown() {
    let (mut stage, id) = pulls();
    let shown = |stage: &Stage| {
        let reasons = stage.engine.why(id, None, &BTreeMap::new(), at(2)).unwrap().remove(0).reasons;
        (stage.engine.view(id).unwrap().stages[0].reason.clone(), reasons.concat())
    };
    assert_eq!(shown(&stage), (None, "docker://a is being pulled".to_owned()));
    let why = "waiting for registry.example: connection refused; next try in 8 s".to_owned();
    stage.engine.image_waits(id, 0, Some(why.clone()));
    let output = stage.engine.proceed(at(2));
    assert!(output.changed.contains(&id) && output.writes.is_empty(), "shown, and not kept");
    assert_eq!(shown(&stage), (Some(why.clone()), why));
    stage.engine.image_waits(id, 0, None);
    assert_eq!(shown(&stage).0, None);
    stage.engine.image_waits(id, 0, Some("again".to_owned()));
    stage.engine.image_fetched(id, 0, Ok(image()), at(3));
    stage.engine.image_waits(id, 0, Some("too late".to_owned()));
    stage.engine.image_waits(id, 99, Some("nowhere".to_owned()));
    assert_eq!(stage.engine.view(id).unwrap().stages[0].reason, None);
}

#[test]
fn who_stops_a_workflow_wants_no_image() {
    let (mut stage, id) = pulls();
    assert_eq!(stage.engine.wants_image(id, 0).as_deref(), Some("ann"));
    stage.engine.image_waits(id, 0, Some("waiting".to_owned()));
    assert!(stage.engine.stop(id, "stopped by ann", at(2)));
    assert_eq!(stage.engine.wants_image(id, 0), None);
    stage.engine.image_waits(id, 0, Some("waiting".to_owned()));
    let writes = stage.engine.proceed(at(2)).writes;
    let reason = writes.iter().find_map(|write| match write {
        Write::Stage(row) if row.stage == 0 => row.reason.clone(),
        _ => None,
    });
    assert_eq!(reason.as_deref(), Some("stopped by ann"));
}

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
    assert!(stage.engine.flows.is_empty(), "a workflow that is over is in the store alone");
}

/// What is not over needs its images and inline files.
#[test]
fn a_workflow_needs_its_images_and_files_until_it_is_over() {
    let mut stage = Stage::new(&[]);
    assert!(stage.engine.images_in_use().blobs.is_empty());
    let text = "version: v1\njobs: {hello: {image: docker://a, script: '#!/bin/sh', resource: {cpu: {cores: 2}, \
                memory: {size: 1GiB}}}}";
    let submitted = submission(1, text);
    let id = submitted.id;
    stage.engine.submit(submitted, at(1));
    let needed = |stage: &Stage| {
        let in_use = stage.engine.images_in_use();
        assert_eq!(in_use.unknown, None);
        in_use.blobs.into_iter().map(|digest| digest.0[0]).collect::<BTreeSet<_>>()
    };
    assert_eq!(needed(&stage), [7].into(), "the script");
    stage.proceed(1);
    assert_eq!(needed(&stage), [7, 8, 9].into(), "manifest and squashfs too");
    stage.engine.stop(id, "enough", at(2));
    stage.proceed(2);
    assert_eq!(needed(&stage), [0; 0].into());
    let any_run = crate::store::Spared { any_run: true, ..Default::default() };
    stage.engine.spare(None, any_run);
    assert!(stage.engine.images_in_use().unknown.is_some());
}

#[test]
fn devices_are_granted_by_name_and_waited_for() {
    let mut stage = Stage::new(&[(1, 4), (2, 4)]);
    let device = |name: &str| planner::Device {
        kind: "nvidia.com/gpu".to_owned(),
        name: format!("nvidia.com/gpu={name}"),
        numa: None,
        sick: false,
    };
    let mut with_gpus = facts(2, 4, "boot1");
    with_gpus.capacity.devices = vec![device("0"), device("1")];
    stage.engine.node_is(with_gpus, at(0));
    let job = |name: &str, count: u32| {
        format!(
            "  {name}: {{image: docker://a, command: [x], resource: {{memory: {{size: 1GiB}}, devices: {{nvidia.com/gpu: {count}}}}}}}\n"
        )
    };
    let text = format!("version: v1\njobs:\n{}{}{}", job("a", 1), job("b", 2), job("c", 3));
    let id = stage.submit(&text, 1);
    let granted = |stage: &Stage, subject: &str| {
        let (run, _) = stage.runs[subject];
        let spec = stage.engine.flow_of(run).unwrap().spec(run, &Surroundings::default()).unwrap();
        let Work::Job(job) = spec.work else { panic!() };
        job.devices.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(granted(&stage, "job a"), ["nvidia.com/gpu=0"]);
    let why: Vec<String> = stage
        .engine
        .why(id, None, &BTreeMap::new(), at(2))
        .unwrap()
        .into_iter()
        .flat_map(|waiting| waiting.reasons)
        .collect();
    expect![[r#"
        n2: 1 nvidia.com/gpu free, 2 wanted
        n1: too small
        it is the first in the queue of jobs
        it wants 3 nvidia.com/gpu, and the largest node for it has 2 nvidia.com/gpu (n2)
        1 job is before it in the queue of jobs"#]]
    .assert_eq(&why.join("\n"));
    stage.end("job a", OK, 3);
    assert_eq!(granted(&stage, "job b"), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
    assert!(stage.lines.contains("job b goes to n2, CPUs 0, 1024 MiB, nvidia.com/gpu=0, nvidia.com/gpu=1"));
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
        let spec = stage.engine.flow_of(run).unwrap().spec(run, &Surroundings::default()).unwrap();
        let Work::Job(job) = spec.work else { panic!() };
        let env: Vec<String> = job.env.iter().filter(|pair| !pair.starts_with("FB_")).cloned().collect();
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
fn data_goes_where_the_volume_is() {
    let mut stage = Stage::new(&[(1, 2), (2, 4)]);
    stage.submit(
        "version: v4
files: {words: x}
volumes: {data: {ingress: [{source: file://words, destination: file://in/words}], egress: [{source: file://out, destination: local:///tmp/out}]}}
jobs: {a: {image: docker://a, command: [x], mounts: {data: {location: /d}}}, b: {image: docker://a, command: [x], mounts: {data: {location: /d}}, requires: [a]}}",
        1,
    );
    for subject in ["volume data", "file data/in/words", "job a", "job b", "file data/out"] {
        stage.end(subject, OK, 2);
    }
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   VOLUME_STORAGE_INFO data: volumes go to n2
        1   STAGE_STARTED data: started
        1   RESOURCES_ALLOCATED data: volume data goes to n2
        1   -> n2 start volume data Volume { volume: "data" }
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        2   VOLUME_CREATE_STARTED data: volume data runs on n2
        2   VOLUME_CREATED data: volume data is done
        2   STAGE_FINISHED data: finished
        2   DEPENDENCY_SATISFIED data/in/words: may begin
        2   STAGE_STARTED data/in/words: started
        2   RESOURCES_ALLOCATED data/in/words: file data/in/words goes to n2
        2   -> n2 start file data/in/words Ingress { volume: "data", path: "in/words", source: Artifact { digest: Digest([7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]), size: 1 } }
        2   forget 1 of 1
        2   FILE_TRANSFER_STARTED data/in/words: file data/in/words runs on n2
        2   FILE_TRANSFER_COMPLETED data/in/words: file data/in/words is done
        2   STAGE_FINISHED data/in/words: finished
        2   DEPENDENCY_SATISFIED a: may begin
        2   STAGE_STARTED a: started
        2   RESOURCES_ALLOCATED a: job a goes to n2, CPUs 0, 1024 MiB
        2   -> n2 start job a ["x"] on [0] with [0]
        2   forget 2 of 1
        2   CONTAINER_STARTED a: job a runs on n2
        2   CONTAINER_EXITED a: job a exited with status 0
        2   STAGE_FINISHED a: finished
        2   DEPENDENCY_SATISFIED b: may begin
        2   STAGE_STARTED b: started
        2   RESOURCES_ALLOCATED b: job b goes to n2, CPUs 0, 1024 MiB
        2   -> n2 start job b ["x"] on [0] with [0]
        2   forget 3 of 1
        2   CONTAINER_STARTED b: job b runs on n2
        2   CONTAINER_EXITED b: job b exited with status 0
        2   STAGE_FINISHED b: finished
        2   DEPENDENCY_SATISFIED data/out: may begin
        2   STAGE_STARTED data/out: started
        2   RESOURCES_ALLOCATED data/out: file data/out goes to n2
        2   -> n2 start file data/out Egress { volume: "data", path: "out", destination: Client { takes_folders: true } }
        2   forget 4 of 1
        2   FILE_TRANSFER_STARTED data/out: file data/out runs on n2
        2   FILE_TRANSFER_COMPLETED data/out: file data/out is done
        2   STAGE_FINISHED data/out: finished
        2   WORKFLOW_FINISHED : finished
        2   -> n2 remove volumes
        2   forget 5 of 1
    "#]]);
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

#[test]
fn what_fails_is_tried_again_and_takes_others_with_it() {
    let mut stage = Stage::new(&[(1, 3)]);
    stage.submit(
        "version: v1\njobs: {a: {image: docker://a, command: [x], policy: {retry: {attempts: 2}}}, b: {image: docker://a, command: [x], requires: [a]}, c: {image: docker://a, command: [x]}}",
        1,
    );
    stage.end("job a", Outcome::Exited { code: 3 }, 2);
    stage.tick(2);
    stage.tick(3);
    stage.end("job a", Outcome::OutOfMemory { limit_bytes: 1 << 30 }, 4);
    stage.tick(6);
    stage.end("job a", Outcome::TimedOut { seconds: 9, cause: None }, 7);
    stage.end("job c", OK, 8);
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        1   DEPENDENCY_SATISFIED a: may begin
        1   DEPENDENCY_SATISFIED c: may begin
        1   STAGE_STARTED a: started
        1   RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        1   STAGE_STARTED c: started
        1   RESOURCES_ALLOCATED c: job c goes to n1, CPUs 1, 1024 MiB
        1   -> n1 start job a ["x"] on [0] with [0]
        1   -> n1 start job c ["x"] on [1] with [0]
        2   CONTAINER_STARTED a: job a runs on n1
        2   CONTAINER_EXITED a: job a exited with status 3; attempt 2 in 1 s
        2   forget 1 of 1
        3   RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        3   -> n1 start job a ["x"] on [0] with [0]
        4   CONTAINER_STARTED a: job a runs on n1
        4   CONTAINER_EXITED a: job a killed for memory: it reached its limit of 1073741824 bytes; attempt 3 in 2 s
        4   forget 3 of 1
        6   RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        6   -> n1 start job a ["x"] on [0] with [0]
        7   CONTAINER_STARTED a: job a runs on n1
        7   CONTAINER_EXITED a: job a ended by its timeout of 9 s
        7   STAGE_FAILED a: ended by its timeout of 9 s
        7   STAGE_CANCELED b: job a failed
        7   forget 4 of 1
        8   CONTAINER_STARTED c: job c runs on n1
        8   CONTAINER_EXITED c: job c exited with status 0
        8   STAGE_FINISHED c: finished
        8   WORKFLOW_FAILED : job a: ended by its timeout of 9 s
        8   forget 2 of 1
    "#]]);
}

#[test]
fn a_command_that_is_not_there_is_not_tried_again() {
    let mut stage = Stage::new(&[(1, 3)]);
    stage.submit(
        "version: v1\njobs: {a: {image: docker://a, command: [x], policy: {retry: {attempts: 2}}}}",
        1,
    );
    let why = "cannot run x: no such command in the image".to_owned();
    stage.end("job a", Outcome::Failed { why, transient: false }, 2);
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        1   DEPENDENCY_SATISFIED a: may begin
        1   STAGE_STARTED a: started
        1   RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        1   -> n1 start job a ["x"] on [0] with [0]
        2   CONTAINER_STARTED a: job a runs on n1
        2   CONTAINER_EXITED a: job a cannot run x: no such command in the image
        2   STAGE_FAILED a: cannot run x: no such command in the image
        2   WORKFLOW_FAILED : job a: cannot run x: no such command in the image
        2   forget 1 of 1
    "#]]);
}

#[test]
fn stopping_ends_what_runs_and_cancels_what_waits() {
    let mut stage = Stage::new(&[(1, 1)]);
    let id = stage.submit(
        "version: v1\njobs: {a: {image: docker://a, command: [x]}, b: {image: docker://a, command: [x]}}",
        1,
    );
    assert!(stage.engine.stop(id, "stopped by ann", at(2)));
    assert!(!stage.engine.stop(id, "stopped by ann", at(2)));
    stage.proceed(2);
    stage.end("job a", Outcome::Stopped { why: "stopped by ann".to_owned() }, 3);
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        1   DEPENDENCY_SATISFIED a: may begin
        1   DEPENDENCY_SATISFIED b: may begin
        1   STAGE_STARTED a: started
        1   RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        1   -> n1 start job a ["x"] on [0] with [0]
        2   STAGE_CANCELED b: stopped by ann
        2   -> n1 stop 1: stopped by ann
        3   CONTAINER_STARTED a: job a runs on n1
        3   CONTAINER_EXITED a: job a stopped: stopped by ann
        3   STAGE_CANCELED a: stopped by ann
        3   WORKFLOW_CANCELED : stopped by ann
        3   forget 1 of 1
    "#]]);
}

#[test]
fn an_image_that_cannot_be_had_fails_what_needs_it() {
    let mut engine = engine();
    engine.node_is(facts(1, 1, "boot1"), at(0));
    let id = submission(1, "version: v1\njobs: {a: {image: docker://a, command: [x]}}");
    engine.submit(id, at(1));
    let output = engine.proceed(at(1));
    let (workflow, stage, reference) = output.fetch[0].clone();
    assert_eq!(reference, "a");
    let error = FetchError::from(PullError::Cancelled);
    engine.image_fetched(workflow, stage, Err(ToldFetchError::from(&error)), at(2));
    let output = engine.proceed(at(2));
    let row = output.writes.iter().rev().find_map(|write| match write {
        Write::Workflow(row) => Some(row),
        _ => None,
    });
    assert_eq!(row.unwrap().state, State::Failed);
    let reason = format!("image docker://a: {}", PullError::Cancelled);
    assert_eq!(row.unwrap().reason, Some(reason));
}

#[test]
fn a_node_that_comes_back_goes_on_and_one_that_rebooted_does_not() {
    let mut stage = Stage::new(&[(1, 1)]);
    stage.submit(
        "version: v1\njobs: {a: {image: docker://a, command: [x], policy: {retry: {attempts: 1}}}}",
        1,
    );
    stage.report("job a", RunState::Running { started: at(2) }, 2);
    let (run, node) = stage.runs["job a"];
    // Away and back in the same boot, with the run: nothing happens.
    stage.engine.node_is(NodeFacts { is_ready: false, ..facts(1, 1, "boot1") }, at(3));
    stage.tick(100);
    stage.engine.runs_listed(node, "boot1", &BTreeMap::from([(run, false)]), at(101));
    stage.engine.node_is(facts(1, 1, "boot1"), at(101));
    stage.proceed(101);
    stage.lines += "-- rebooted\n";
    stage.engine.node_is(facts(1, 1, "boot2"), at(200));
    stage.engine.runs_listed(node, "boot2", &BTreeMap::new(), at(200));
    stage.proceed(200);
    stage.tick(201);
    stage.lines += "-- rebooted before it was told\n";
    stage.engine.node_is(facts(1, 1, "boot3"), at(300));
    stage.engine.runs_listed(node, "boot3", &BTreeMap::new(), at(300));
    stage.proceed(300);
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        1   DEPENDENCY_SATISFIED a: may begin
        1   STAGE_STARTED a: started
        1   RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        1   -> n1 start job a ["x"] on [0] with [0]
        2   CONTAINER_STARTED a: job a runs on n1
        -- rebooted
        200 CONTAINER_EXITED a: job a lost: n1 was rebooted; attempt 2 in 1 s
        200 forget 1 of 1
        201 RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        201 -> n1 start job a ["x"] on [0] with [0]
        -- rebooted before it was told
        300 -> n1 start job a ["x"] on [0] with [0]
    "#]]);
}

fn uptime(seconds: i64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds.try_into().unwrap())
}

/// An ended run of job a on n1, of whose log 10 of 30 bytes came.
fn ended_without_its_log() -> (Stage, RunId, NodeId) {
    let mut stage = Stage::new(&[(1, 1)]);
    stage.submit("version: v1\njobs: {a: {image: docker://a, command: [x]}}", 1);
    let (run, node) = stage.runs["job a"];
    let mut report = ended(run, OK, at(2));
    if let RunState::Ended(end) = &mut report.state {
        end.log_bytes = 30;
    }
    stage.tick(2);
    stage.engine.run_told(node, &report, at(2));
    stage.engine.log_grew(run, 10);
    stage.proceed(2);
    stage.lines.clear();
    (stage, run, node)
}

#[test]
fn the_rest_of_a_log_is_awaited_until_it_is_here_or_cannot_come() {
    const FORGOTTEN: &str = "2   forget 1 of 1\n";
    let waits = |what: &str, happens: &dyn Fn(&mut Stage, RunId, NodeId), is_forgotten: bool| {
        let (mut stage, run, node) = ended_without_its_log();
        assert!(stage.engine.holds(run));
        happens(&mut stage, run, node);
        stage.proceed(2);
        assert_eq!(stage.engine.holds(run), !is_forgotten, "{what}");
        assert_eq!(stage.lines, if is_forgotten { FORGOTTEN } else { "" }, "{what}");
    };
    let listed = |runs: &[RunId]| runs.iter().map(|run| (*run, false)).collect();
    waits("all is here", &|stage, run, _| stage.engine.log_grew(run, 30), true);
    waits("more is here", &|stage, run, _| stage.engine.log_grew(run, 29), false);
    waits(
        "its node went away",
        &|stage, _, _| stage.engine.node_is(NodeFacts { is_ready: false, ..facts(1, 1, "boot1") }, at(3)),
        false,
    );
    waits(
        "its node still has it",
        &|stage, run, node| stage.engine.runs_listed(node, "boot1", &listed(&[run]), at(3)),
        false,
    );
    waits(
        "its node does not have it",
        &|stage, _, node| stage.engine.runs_listed(node, "boot1", &listed(&[]), at(3)),
        true,
    );
    waits(
        "another node does not have it",
        &|stage, _, _| stage.engine.runs_listed(node_id(9), "boot1", &listed(&[]), at(3)),
        false,
    );
    waits("it was rebooted", &|stage, _, _| stage.engine.node_is(facts(1, 1, "boot2"), at(3)), true);
    waits("it was deleted", &|stage, _, node| stage.engine.node_gone(node, at(3)), true);
    waits(
        "it was deleted while nobody looked",
        &|stage, _, _| stage.engine.give_up_all_but(&std::collections::BTreeSet::new(), at(3)),
        true,
    );
    // By the clock that nobody sets, from the first look after the end.
    let waits_for = |what: &str, wall: i64, seconds: i64, is_forgotten: bool| {
        let look = |stage: &mut Stage, _, _| {
            stage.engine.tick(at(3), uptime(3));
            stage.engine.tick(at(wall), uptime(3 + seconds));
        };
        waits(what, &look, is_forgotten);
    };
    waits_for("not long enough", 602, 599, false);
    waits_for("long enough", 603, 600, true);
    waits_for("the machine's clock was set forward", 1_000_000, 1, false);
    waits_for("it was set back", -1_000_000, 600, true);
}

#[test]
fn volumes_of_what_is_over_are_removed_when_their_node_tells_of_them() {
    let mut stage = Stage::new(&[(1, 1)]);
    stage.submit(
        "version: v4\nvolumes: {d: {}}\njobs: {a: {image: docker://a, command: [x], mounts: {/d: d}}}",
        1,
    );
    let running = stage.engine.summaries()[0].id;
    let over = WorkflowId(uuid::Uuid::from_u128(99));
    stage.engine.volumes_listed(node_id(1), &[running, over]);
    let told = stage.engine.proceed(at(2)).tell;
    assert_eq!(told, [(node_id(1), FromServer::RemoveVolumes { workflow: over })]);
}

#[test]
fn volumes_do_not_outlive_their_node() {
    let mut stage = Stage::new(&[(1, 1)]);
    stage.submit(
        "version: v4\nvolumes: {d: {}}\njobs: {a: {image: docker://a, command: [x], mounts: {/d: d}}}",
        1,
    );
    stage.end("volume d", OK, 2);
    stage.engine.node_is(facts(1, 1, "boot2"), at(3));
    stage.proceed(3);
    stage.engine.runs_listed(node_id(1), "boot2", &BTreeMap::new(), at(4));
    stage.proceed(4);
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   VOLUME_STORAGE_INFO d: volumes go to n1
        1   STAGE_STARTED d: started
        1   RESOURCES_ALLOCATED d: volume d goes to n1
        1   -> n1 start volume d Volume { volume: "d" }
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        2   VOLUME_CREATE_STARTED d: volume d runs on n1
        2   VOLUME_CREATED d: volume d is done
        2   STAGE_FINISHED d: finished
        2   DEPENDENCY_SATISFIED a: may begin
        2   STAGE_STARTED a: started
        2   RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        2   -> n1 start job a ["x"] on [0] with [0]
        2   forget 1 of 1
        3   STAGE_FAILED a: its volume is lost: n1 was rebooted
        4   ERROR a: job a lost: n1 was rebooted
        4   WORKFLOW_FAILED : job a: its volume is lost: n1 was rebooted
        4   -> n1 remove volumes
        4   forget 2 of 1
    "#]]);
}

#[test]
fn what_was_never_given_is_ended() {
    let mut stage = Stage::new(&[(1, 1), (2, 1)]);
    stage.submit("version: v1\njobs: {a: {image: docker://a, command: [x]}}", 1);
    stage.lines.clear();
    let (run, owner) = stage.runs["job a"];
    let other = if owner == node_id(1) { node_id(2) } else { node_id(1) };
    stage.engine.run_told(other, &ended(run, OK, at(2)), at(2));
    let stranger =
        RunReport { run: RunId(uuid::Uuid::from_u128(99)), state: RunState::Running { started: at(1) } };
    stage.engine.run_told(owner, &stranger, at(2));
    stage.proceed(2);
    stage.check(&expect![[r#"
        2   -> n1 stop 99: this server knows of no such run
        2   forget 1 of nothing
    "#]]);
}

#[test]
fn waiting_has_its_reasons() {
    let mut stage = Stage::new(&[(1, 2)]);
    let id = stage.submit(
        "version: v1
jobs:
  a: {image: docker://a, command: [x], resource: {cpu: {cores: 2}}}
  b: {image: docker://a, command: [x], resource: {cpu: {cores: 2}}}
  c: {image: docker://a, command: [x], requires: [a, b]}",
        1,
    );
    let told = |stage: &Stage, now| {
        let waiting = stage.engine.why(id, None, &BTreeMap::new(), at(now)).unwrap();
        waiting.iter().map(|w| format!("{}: {}\n", w.name, w.reasons.join("; "))).collect::<String>()
    };
    let mut lines = told(&stage, 1);
    stage.engine.node_is(NodeFacts { is_ready: false, ..facts(1, 2, "boot1") }, at(3));
    lines += &told(&stage, 3);
    expect![[r#"
        b: n1: 0 of 2 cores free, 2 wanted; it is the first in the queue of jobs
        c: waits for job a, job b
        a: n1 does not answer; 1 of its tasks run there
        b: n1: not ready; it is the first in the queue of jobs
        c: waits for job a, job b
    "#]]
    .assert_eq(&lines);
}

/// The image of a job is pulled: that is what it waits for, and how far the pull is is told.
#[test]
fn an_image_that_is_pulled_is_named_with_its_pull() {
    let mut engine = engine();
    engine.node_is(facts(1, 2, "boot1"), at(0));
    let text = "version: v1
jobs:
  a: {image: docker://a, command: [x]}
  b: {image: docker://b, command: [x]}";
    let handed_in = submission(1, text);
    let (id, plan) = (handed_in.id, handed_in.plan.clone());
    engine.submit(handed_in, at(1));
    engine.proceed(at(1));
    let stage_of = |name: &str| {
        let stage = plan.stages.iter().position(|stage| stage.name == name).unwrap();
        u32::try_from(stage).unwrap()
    };
    let pulls = BTreeMap::from([(stage_of("docker://b"), "pulling b: 40 MiB of 120 MiB".to_owned())]);
    let why = |engine: &Engine, of: Option<&str>| {
        let waiting = engine.why(id, of.map(stage_of), &pulls, at(2)).unwrap();
        waiting.iter().map(|one| format!("{}: {}\n", one.name, one.reasons.join("; "))).collect::<String>()
    };
    expect![[r#"
        docker://a: docker://a is being pulled
        docker://b: pulling b: 40 MiB of 120 MiB
        a: waits for image docker://a
        b: waits for image docker://b
    "#]]
    .assert_eq(&why(&engine, None));
    expect![[r#"
        docker://b: pulling b: 40 MiB of 120 MiB
        b: waits for image docker://b
    "#]]
    .assert_eq(&why(&engine, Some("b")));
    let of_a = "docker://a: docker://a is being pulled\na: waits for image docker://a\n";
    assert_eq!(why(&engine, Some("a")), of_a);
}

/// The four words for a workflow that is not over, from its handing in to its end.
#[test]
fn a_workflow_waits_runs_stands_still_and_stops() {
    let status = |engine: &Engine| engine.summaries()[0].status.unwrap().as_str();
    let mut engine = engine();
    engine.submit(submission(1, "version: v1\njobs: {a: {image: docker://a, command: [x]}}"), at(1));
    let output = engine.proceed(at(1));
    assert_eq!(status(&engine), "waiting", "its image is pulled");
    let [(id, image_stage, _)] = &output.fetch[..] else { panic!() };
    engine.image_fetched(*id, *image_stage, Ok(image()), at(2));
    engine.proceed(at(2));
    assert_eq!(status(&engine), "waiting", "there is no node");
    assert_eq!(engine.summaries()[0].state, State::Started, "as clients of before have it");
    engine.node_is(facts(1, 2, "boot1"), at(3));
    let output = engine.proceed(at(3));
    assert_eq!(status(&engine), "running");
    assert!(engine.pause(*id, true, "ann", at(4)));
    assert_eq!(
        (status(&engine), engine.view(*id).unwrap().summary.status.unwrap().as_str()),
        ("paused", "paused")
    );
    assert!(engine.pause(*id, false, "ann", at(5)));
    assert_eq!(status(&engine), "running");
    assert!(engine.stop(*id, "stopped by ann", at(6)));
    engine.proceed(at(6));
    assert_eq!(status(&engine), "stopping");
    let run = output.tell.iter().find_map(|(_, message)| match message {
        FromServer::StartRun { spec } => Some(spec.run),
        _ => None,
    });
    let stopped = Outcome::Stopped { why: "stopped by ann".to_owned() };
    engine.run_told(node_id(1), &ended(run.unwrap(), stopped, at(7)), at(7));
    let output = engine.proceed(at(7));
    let end = output.writes.iter().find_map(|write| match write {
        Write::Workflow(row) => row.view.clone(),
        _ => None,
    });
    assert_eq!(end.unwrap().summary.status.unwrap().as_str(), "canceled");
}

/// A cluster in which anything may go wrong.
#[derive(Debug, Clone)]
enum Happening {
    /// The n-th run that a node holds goes on: accepted, running, ended with this outcome.
    GoesOn(prop::sample::Index, u8),
    /// A node reboots and lists what it holds: nothing.
    Reboots(bool),
    /// An agent restarts and lists what it holds.
    Lists(bool),
    Time(u8),
    /// Somebody pauses the workflow, or lets it go on.
    Pauses(bool),
    /// A node is away from now on until it lists: it is told nothing.
    GoesAway(bool),
    /// The server is killed and starts again from what it wrote; perhaps as a release that cannot
    /// read the plan.
    ServerDies(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        12 => (any::<prop::sample::Index>(), 0..10_u8).prop_map(|(which, how)| Happening::GoesOn(which, how)),
        1 => any::<bool>().prop_map(Happening::Reboots),
        2 => any::<bool>().prop_map(Happening::Lists),
        4 => (1..60_u8).prop_map(Happening::Time),
        2 => any::<bool>().prop_map(Happening::Pauses),
        1 => any::<bool>().prop_map(Happening::GoesAway),
        2 => any::<bool>().prop_map(Happening::ServerDies),
    ]
}

/// What a server would find after a crash, and what nodes hold.
struct World {
    engine: Engine,
    now: i64,
    boots: [u32; 2],
    /// Runs on nodes: the node, and how far it is.
    held: BTreeMap<RunId, (NodeId, u8)>,
    /// Those that the node was told to pause.
    paused: BTreeSet<RunId>,
    away: [bool; 2],
    /// Every run that ever was told to begin, with stage and task.
    begun: BTreeMap<RunId, (u32, u32)>,
    /// What was written.
    rows: BTreeMap<RunId, crate::store::RunRow>,
    stages: BTreeMap<u32, crate::store::StageRow>,
    workflow: Option<crate::store::WorkflowRow>,
    events: u64,
    text: &'static str,
    next_run: Arc<std::sync::atomic::AtomicU64>,
}

const WORLD: &str = "version: v4
volumes: {d: {}}
jobs:
  array: {image: docker://a, command: [x], task-array: {start: 1, end: 6, concurrency: 3}, policy: {retry: {attempts: 2}}}
  with: {image: docker://a, command: [x], mounts: {/d: d}}
  last: {image: docker://a, command: [x], depends-on: [{name: array}], policy: {retry: {attempts: 1}}}
";

impl World {
    fn fresh_engine(next_run: &Arc<std::sync::atomic::AtomicU64>) -> Engine {
        let next = next_run.clone();
        let new_run = move || {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            RunId(uuid::Uuid::from_u128(u128::from(number)))
        };
        Engine::new(Surroundings::default(), Box::new(new_run))
    }

    fn new() -> Self {
        let next_run = Arc::new(std::sync::atomic::AtomicU64::new(1));
        let mut world = Self {
            engine: Self::fresh_engine(&next_run),
            now: 1,
            boots: [1, 1],
            held: BTreeMap::new(),
            paused: BTreeSet::new(),
            away: [false; 2],
            begun: BTreeMap::new(),
            rows: BTreeMap::new(),
            stages: BTreeMap::new(),
            workflow: None,
            events: 0,
            text: WORLD,
            next_run,
        };
        world.nodes();
        world.engine.submit(submission(1, WORLD), at(1));
        world.settle();
        world
    }

    fn nodes(&mut self) {
        for (index, number) in (0..).zip([1, 2]) {
            let boot = format!("boot{}", self.boots[index]);
            self.engine.node_is(facts(number, 2, &boot), at(self.now));
        }
    }

    fn settle(&mut self) {
        loop {
            let output = self.engine.proceed(at(self.now));
            for write in output.writes {
                match write {
                    Write::Run(row) => drop(self.rows.insert(row.run, *row)),
                    Write::Stage(row) => drop(self.stages.insert(row.stage, *row)),
                    Write::Submit(submitted) => self.workflow = Some(submitted.row),
                    Write::Workflow(row) => self.workflow = Some(*row),
                    Write::Event(_, event) => {
                        assert_eq!(event.number, self.events + 1, "a line of the history is lost or doubled");
                        self.events = event.number;
                    }
                    Write::Forget(_) | Write::Image { .. } | Write::ForgetImage(_) | Write::Plan { .. } => {}
                }
            }
            for (node, message) in output.tell {
                if self.away[usize::from(node == node_id(2))] {
                    continue;
                }
                match message {
                    FromServer::PauseRun { run } => drop(self.paused.insert(run)),
                    FromServer::ResumeRun { run } => drop(self.paused.remove(&run)),
                    FromServer::StartRun { spec } => {
                        assert!(self.rows.contains_key(&spec.run), "told before it was written");
                        let row = &self.rows[&spec.run];
                        self.begun.insert(spec.run, (row.stage, row.task));
                        self.held.entry(spec.run).or_insert((node, 0));
                    }
                    FromServer::StopRun { run, .. } if !self.rows.contains_key(&run) => {
                        self.held.remove(&run);
                    }
                    _ => {}
                }
            }
            for (_, _, run) in &output.forget {
                self.held.remove(run);
            }
            if output.fetch.is_empty() {
                return;
            }
            for (workflow, stage, _) in output.fetch {
                self.engine.image_fetched(workflow, stage, Ok(image()), at(self.now));
            }
        }
    }

    fn list(&mut self, index: usize) {
        self.away[index] = false;
        let id = node_id(index as u128 + 1);
        let listed: Vec<(RunId, u8)> = self
            .held
            .iter()
            .filter(|(_, (node, _))| *node == id)
            .map(|(run, (_, how_far))| (*run, *how_far))
            .collect();
        for (run, how_far) in &listed {
            let report = match how_far {
                0 => RunReport { run: *run, state: RunState::Preparing {} },
                1 => RunReport { run: *run, state: RunState::Running { started: at(self.now) } },
                _ => ended(*run, OK, at(self.now)),
            };
            self.engine.run_told(id, &report, at(self.now));
        }
        let listed = listed.into_iter().map(|(run, _)| (run, self.paused.contains(&run))).collect();
        self.engine.runs_listed(id, &format!("boot{}", self.boots[index]), &listed, at(self.now));
        self.settle();
    }

    fn happens(&mut self, happening: &Happening) {
        match happening {
            Happening::GoesOn(which, how) => {
                if self.held.is_empty() {
                    return;
                }
                let run = *self.held.keys().nth(which.index(self.held.len())).unwrap();
                let (node, how_far) = self.held[&run];
                let stands_still = how_far == 1 && self.paused.contains(&run);
                if stands_still || self.away[usize::from(node == node_id(2))] {
                    return;
                }
                if *how == 2 && how_far == 0 {
                    let refused = ended(run, Outcome::Refused { why: "no memory".to_owned() }, at(self.now));
                    self.held.insert(run, (node, 2));
                    self.engine.run_told(node, &refused, at(self.now));
                    self.settle();
                    return;
                }
                let outcome = match how {
                    0 => Outcome::Exited { code: 1 },
                    1 => Outcome::Failed { why: "disk full".to_owned(), transient: true },
                    _ => OK,
                };
                let report = match how_far {
                    0 => RunReport { run, state: RunState::Preparing {} },
                    1 => RunReport { run, state: RunState::Running { started: at(self.now) } },
                    _ => ended(run, outcome, at(self.now)),
                };
                self.held.insert(run, (node, how_far.saturating_add(1).min(2)));
                self.engine.run_told(node, &report, at(self.now));
                self.settle();
            }
            Happening::Reboots(second) => {
                let index = usize::from(*second);
                self.boots[index] += 1;
                let id = node_id(index as u128 + 1);
                self.held.retain(|_, (node, _)| *node != id);
                self.paused.retain(|run| self.held.contains_key(run));
                self.nodes();
                self.list(index);
            }
            Happening::Lists(second) => self.list(usize::from(*second)),
            Happening::Pauses(paused) => {
                let id = WorkflowId(uuid::Uuid::from_u128(1));
                self.engine.pause(id, *paused, "ann", at(self.now));
                self.settle();
            }
            Happening::GoesAway(second) => self.away[usize::from(*second)] = true,
            Happening::Time(seconds) => {
                self.now += i64::from(*seconds);
                self.engine.tick(at(self.now), uptime(self.now));
                self.settle();
            }
            Happening::ServerDies(blocked) => self.server_dies(*blocked),
        }
    }

    fn server_dies(&mut self, blocked: bool) {
        self.engine = Self::fresh_engine(&self.next_run);
        let row = self.workflow.clone().unwrap();
        if row.ended.is_none() {
            let mut runs: Vec<_> = self.rows.values().cloned().collect();
            runs.sort_by_key(|row| (row.stage, row.task, row.attempt));
            let stages: Vec<_> = self.stages.values().cloned().collect();
            let plan = submission(1, self.text).plan;
            let known = if blocked {
                let names = (0..).zip(plan.stages).map(|(index, stage)| (index, stage.name));
                let stand_in = crate::restore::stand_in(&stages, &runs, &names.collect::<Vec<_>>());
                Known::Blocked { why: "its plan is of tomorrow".to_owned(), stand_in }
            } else {
                Known::Plan(plan)
            };
            self.engine.adopt(Flow::restore(row, known, stages, runs, self.events, |_| 0));
        }
        self.nodes();
        self.settle();
        self.list(0);
        self.list(1);
    }

    /// Nodes that are there let stand still what should, and nothing else.
    fn hold_pauses(&self) {
        let Some(row) = self.workflow.as_ref().filter(|row| row.ended.is_none()) else { return };
        let running = self.rows.values().filter(|row| row.ended.is_none() && row.grant.is_some());
        for run in running.filter(|run| !self.away[usize::from(run.node == node_id(2))]) {
            assert_eq!(self.paused.contains(&run.run), row.paused.is_some(), "{:?}", run.run);
        }
    }

    /// What must hold at any time.
    fn hold(&self) {
        self.hold_pauses();
        let running = self.rows.values().filter(|row| row.ended.is_none());
        let mut tasks = BTreeSet::new();
        let mut per_stage: BTreeMap<u32, u32> = BTreeMap::new();
        let mut cores: BTreeSet<(NodeId, u32)> = BTreeSet::new();
        for row in running {
            assert!(tasks.insert((row.stage, row.task)), "a task runs twice at once");
            *per_stage.entry(row.stage).or_default() += 1;
            for cpu in row.grant.iter().flat_map(|grant| &grant.cpus) {
                assert!(cores.insert((row.node, *cpu)), "a core is granted twice");
            }
        }
        let plan = submission(1, self.text).plan;
        for (stage, count) in per_stage {
            assert!(count <= plan.stages[stage as usize].tasks.concurrency, "more at once than allowed");
        }
        let mut done = BTreeSet::new();
        for row in self.rows.values() {
            if row.outcome.as_ref().is_some_and(Outcome::is_success) {
                assert!(done.insert((row.stage, row.task)), "a task was done twice");
            }
        }
    }
}

proptest! {
    #[test]
    fn every_task_ends_once_whatever_happens(happenings in prop::collection::vec(happening(), 0..80)) {
        let mut world = World::new();
        for happening in &happenings {
            world.happens(happening);
            world.hold();
        }
        // From here on all goes well.
        world.happens(&Happening::ServerDies(false));
        world.happens(&Happening::Lists(false));
        world.happens(&Happening::Lists(true));
        world.happens(&Happening::Pauses(false));
        for _ in 0..400 {
            if world.workflow.as_ref().is_some_and(|row| row.ended.is_some()) {
                break;
            }
            world.happens(&Happening::Time(30));
            for run in world.held.keys().copied().collect::<Vec<_>>() {
                let index = world.held.keys().position(|other| *other == run);
                if let Some((node, how_far)) = index.and(world.held.get(&run).copied()) {
                    let report = match how_far {
                        0 => RunReport { run, state: RunState::Preparing {} },
                        1 => RunReport { run, state: RunState::Running { started: at(world.now) } },
                        _ => ended(run, OK, at(world.now)),
                    };
                    world.held.insert(run, (node, (how_far + 1).min(2)));
                    world.engine.run_told(node, &report, at(world.now));
                    world.settle();
                }
            }
            world.hold();
        }
        let row = world.workflow.clone().unwrap();
        prop_assert!(row.ended.is_some(), "it does not end: {:?}", world.engine.why(row.id, None, &BTreeMap::new(), at(world.now)));
        let open = world.rows.values().filter(|row| row.ended.is_none()).count();
        prop_assert_eq!(open, 0, "a run is left open");
        let view = row.view.unwrap();
        for stage in &view.stages {
            let counts = stage.tasks;
            prop_assert_eq!(counts.pending + counts.started, 0, "{}", stage.name);
        }
        if row.state == State::Finished {
            let tasks: BTreeSet<_> = world.rows.values()
                .filter(|row| row.outcome.as_ref().is_some_and(Outcome::is_success)).map(|row| (row.stage, row.task)).collect();
            prop_assert_eq!(tasks.len(), 9);
        }
    }
}

#[test]
fn a_paused_workflow_stands_still_and_begins_nothing() {
    let mut stage = Stage::new(&[(1, 1)]);
    stage.submit(
        "version: v1\njobs: {a: {image: docker://a, command: [x], task-array: {start: 1, end: 2, concurrency: 1}}}",
        1,
    );
    stage.report("job a[1]", RunState::Running { started: at(2) }, 2);
    let id = WorkflowId(uuid::Uuid::from_u128(1));
    assert!(stage.engine.pause(id, true, "ann", at(3)) && !stage.engine.pause(id, true, "ann", at(3)));
    stage.proceed(3);
    assert_eq!(stage.engine.summaries()[0].paused.as_deref(), Some("ann"));
    stage.end("job a[1]", OK, 4);
    let why = stage.engine.why(id, None, &BTreeMap::new(), at(5)).unwrap();
    assert_eq!(why[0].reasons, ["it is paused by ann"]);
    assert!(stage.engine.pause(id, false, "bob", at(6)));
    stage.proceed(6);
    stage.engine.pause(id, true, "ann", at(7));
    assert!(stage.engine.stop(id, "enough", at(8)), "what stands still can be stopped");
    assert!(!stage.engine.pause(id, false, "ann", at(9)));
    stage.proceed(9);
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        1   DEPENDENCY_SATISFIED a: may begin
        1   STAGE_STARTED a: started
        1   RESOURCES_ALLOCATED a: job a[1] goes to n1, CPUs 0, 1024 MiB
        1   -> n1 start job a[1] ["x"] on [0] with [0]
        2   CONTAINER_STARTED a: job a[1] runs on n1
        3   WORKFLOW_PAUSED : paused by ann
        3   -> n1 PauseRun { run: RunId(00000000-0000-0000-0000-000000000001) }
        4   CONTAINER_EXITED a: job a[1] exited with status 0
        4   forget 1 of 1
        6   WORKFLOW_RESUMED : resumed by bob
        6   RESOURCES_ALLOCATED a: job a[2] goes to n1, CPUs 0, 1024 MiB
        6   -> n1 start job a[2] ["x"] on [0] with [0]
        9   WORKFLOW_PAUSED : paused by ann
        9   -> n1 PauseRun { run: RunId(00000000-0000-0000-0000-000000000002) }
        9   -> n1 stop 2: enough
    "#]]);
}

/// The node does not begin the run of job a.
fn refuse(stage: &mut Stage, time: i64) {
    let (outcome, usage) = (Outcome::Refused { why: "no memory".to_owned() }, Usage::default());
    let end = RunEnd { started: None, ended: at(time), outcome, log_bytes: 0, usage };
    stage.report("job a", RunState::Ended(Box::new(end)), time);
}

#[test]
fn a_node_in_conflict_gets_no_new_jobs_and_keeps_those_that_run() {
    let mut stage = Stage::new(&[(1, 1)]);
    let job = |name: &str| {
        format!("  {name}: {{image: docker://a, command: [x], resource: {{cpu: {{cores: 1}}}}}}\n")
    };
    let id = stage.submit(&format!("version: v1\njobs:\n{}{}", job("a"), job("b")), 1);
    stage.report("job a", RunState::Running { started: at(2) }, 2);
    assert_eq!(stage.runs.len(), 1, "one core, one job");
    stage.engine.node_is(NodeFacts { in_conflict: true, ..facts(1, 1, "boot1") }, at(3));
    stage.proceed(3);
    assert!(!stage.lines.contains("stop "), "{}", stage.lines);
    stage.end("job a", OK, 4);
    stage.tick(20);
    assert!(stage.runs.is_empty(), "nothing new: {:?}", stage.runs);
    let why = stage.engine.why(id, None, &BTreeMap::new(), at(20)).unwrap();
    assert!(why[0].reasons.concat().contains("in conflict (two claim to be it)"), "{why:?}");
    stage.engine.node_is(facts(1, 1, "boot1"), at(21));
    stage.proceed(21);
    assert!(stage.runs.contains_key("job b"), "an admin has decided");
}

#[test]
fn a_refusal_is_no_attempt_and_a_reboot_is_nobodys_fault() {
    let mut stage = Stage::new(&[(1, 1)]);
    stage.submit("version: v1\njobs: {a: {image: docker://a, command: [x]}}", 1);
    for time in [2, 10] {
        refuse(&mut stage, time);
        stage.tick(time + 4);
    }
    stage.engine.node_is(NodeFacts { refuses: Some("no memory".to_owned()), ..facts(1, 1, "boot1") }, at(15));
    let id = WorkflowId(uuid::Uuid::from_u128(1));
    stage.proceed(15);
    refuse(&mut stage, 16);
    stage.tick(30);
    let why = stage.engine.why(id, None, &BTreeMap::new(), at(30)).unwrap();
    assert!(why[0].reasons.concat().contains("refusing jobs (no memory)"), "{why:?}");
    stage.engine.node_is(facts(1, 1, "boot1"), at(31));
    stage.proceed(31);
    for (time, boot) in [(40, "boot2"), (50, "boot3")] {
        stage.report("job a", RunState::Running { started: at(time) }, time);
        stage.engine.node_is(facts(1, 1, boot), at(time + 1));
        stage.engine.runs_listed(node_id(1), boot, &BTreeMap::new(), at(time + 1));
        stage.proceed(time + 1);
        stage.tick(time + 8);
    }
    stage.end("job a", OK, 60);
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        1   DEPENDENCY_SATISFIED a: may begin
        1   STAGE_STARTED a: started
        1   RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        1   -> n1 start job a ["x"] on [0] with [0]
        2   ERROR a: job a not begun: no memory; attempt 2 in 1 s
        2   forget 1 of 1
        6   RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        6   -> n1 start job a ["x"] on [0] with [0]
        10  ERROR a: job a not begun: no memory; attempt 3 in 2 s
        10  forget 2 of 1
        14  RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        14  -> n1 start job a ["x"] on [0] with [0]
        16  ERROR a: job a not begun: no memory; attempt 4 in 4 s
        16  forget 3 of 1
        31  RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        31  -> n1 start job a ["x"] on [0] with [0]
        40  CONTAINER_STARTED a: job a runs on n1
        41  CONTAINER_EXITED a: job a lost: n1 was rebooted; attempt 5 in 1 s
        41  forget 5 of 1
        48  RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        48  -> n1 start job a ["x"] on [0] with [0]
        50  CONTAINER_STARTED a: job a runs on n1
        51  CONTAINER_EXITED a: job a lost: n1 was rebooted; attempt 6 in 2 s
        51  forget 6 of 1
        58  RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        58  -> n1 start job a ["x"] on [0] with [0]
        60  CONTAINER_STARTED a: job a runs on n1
        60  CONTAINER_EXITED a: job a exited with status 0
        60  STAGE_FINISHED a: finished
        60  WORKFLOW_FINISHED : finished
        60  forget 7 of 1
    "#]]);
}

#[test]
fn a_job_is_too_large_for_what_is_known_only() {
    let text = "version: v1\njobs: {a: {image: docker://a, command: [b], resource: {cpu: {cores: 4}, memory: {size: 1MiB}}}}";
    let document = document::parse(text).unwrap().workflow;
    let too_large = |nodes: &[(u128, u32)]| {
        let stage = Stage::new(nodes);
        super::too_large(|| &stage.engine, &document).len()
    };
    assert_eq!(too_large(&[]), 0, "there are no nodes yet");
    assert_eq!(too_large(&[(1, 0)]), 0, "it has not booted");
    assert_eq!(too_large(&[(1, 2), (2, 0)]), 1, "the largest that is known");
    assert_eq!(too_large(&[(1, 2), (2, 3)]), 1);
    assert_eq!(too_large(&[(1, 2), (2, 4)]), 0);
}

#[test]
fn a_label_that_no_node_has_is_told_with_those_that_there_are() {
    let text = |rack: &str| {
        format!(
            "version: v4\njobs: {{a: {{image: docker://a, command: [b], resource: {{annotations: {{rack: {rack}}}}}}}}}"
        )
    };
    let labelled = |rack: &str| {
        let labels = [("rack".to_owned(), rack.to_owned())].into();
        NodeFacts { labels, ..facts(1, 1, "boot1") }
    };
    let mut stage = Stage::new(&[(1, 1)]);
    stage.engine.node_is(labelled("a2"), at(1));
    let told = |stage: &Stage, rack: &str| {
        let document = document::parse(&text(rack)).unwrap().workflow;
        too_large(|| &stage.engine, &document)
    };
    assert_eq!(told(&stage, "a1"), [(0, "no node has rack=a1; nodes have rack=a2".to_owned())]);
    assert!(told(&stage, "a2").is_empty());
    // A node that has not booted may have room for it.
    let labels = [("rack".to_owned(), "a3".to_owned())].into();
    stage.engine.node_is(NodeFacts { labels, is_ready: false, ..facts(2, 0, "boot1") }, at(1));
    assert!(told(&stage, "a3").is_empty());
    // Its labels are known, though no node has told of its hardware.
    let mut unbooted = Stage::new(&[]);
    assert!(told(&unbooted, "a1").is_empty(), "nothing is known of no node");
    let labels = [("rack".to_owned(), "a3".to_owned())].into();
    unbooted.engine.node_is(NodeFacts { labels, is_ready: false, ..facts(1, 0, "boot1") }, at(1));
    assert_eq!(told(&unbooted, "a1"), [(0, "no node has rack=a1; nodes have rack=a3".to_owned())]);
    assert!(told(&unbooted, "a3").is_empty());
    let id = unbooted.submit(&text("a1"), 2);
    let waiting = unbooted.engine.why(id, None, &BTreeMap::new(), at(3)).unwrap();
    let why: Vec<&String> = waiting.iter().flat_map(|waiting| &waiting.reasons).collect();
    assert!(why.contains(&&"no node has rack=a1; nodes have rack=a3".to_owned()), "{why:?}");
    // It is taken, and then the node's label becomes another: it waits until a node has it again.
    stage.submit(&text("a2"), 2);
    assert!(stage.runs.contains_key("job a"), "{}", stage.lines);
    let mut waits = Stage::new(&[(1, 1)]);
    waits.submit(&text("a2"), 2);
    assert!(!waits.lines.contains("RESOURCES_ALLOCATED"), "{}", waits.lines);
    waits.engine.node_is(labelled("a2"), at(3));
    waits.proceed(4);
    assert!(waits.lines.contains("RESOURCES_ALLOCATED a: job a goes to n1"), "{}", waits.lines);
}
