//! Nodes: what they have, and that they come and go.

use super::*;

#[test]
fn devices_are_granted_by_name_and_waited_for() {
    let mut stage = Stage::new(&[(1, 4), (2, 4)]);
    let device = |name: &str| planner::Device {
        kind: "nvidia.com/gpu".to_owned(),
        name: format!("nvidia.com/gpu={name}"),
        numa: None,
        unhealthy: false,
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
        let spec = stage
            .engine
            .workflow_state_of(run)
            .unwrap()
            .spec(run, &Surroundings::default())
            .unwrap();
        let Work::Job(job) = spec.work else { panic!() };
        job.devices.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(granted(&stage, "job a"), ["nvidia.com/gpu=0"]);
    let why: Vec<String> = stage
        .engine
        .view(at(0))
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
    assert!(
        stage
            .lines
            .contains("job b goes to n2, CPUs 0, 1024 MiB, nvidia.com/gpu=0, nvidia.com/gpu=1")
    );
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

#[test]
fn what_was_never_given_is_ended() {
    let mut stage = Stage::new(&[(1, 1), (2, 1)]);
    stage.submit("version: v1\njobs: {a: {image: docker://a, command: [x]}}", 1);
    stage.lines.clear();
    let (run, owner) = stage.runs["job a"];
    let other = if owner == node_id(1) { node_id(2) } else { node_id(1) };
    stage.engine.handle_report(other, &ended(run, OK, at(2)), at(2));
    let stranger = RunReport {
        run: RunId(uuid::Uuid::from_u128(99)),
        state: RunState::Running { started: at(1) },
    };
    stage.engine.handle_report(owner, &stranger, at(2));
    stage.proceed(2);
    stage.check(&expect![[r#"
        2   -> n1 stop 99: this server knows of no such run
        2   forget 1 of nothing
    "#]]);
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
    let why = stage.engine.view(at(0)).why(id, None, &BTreeMap::new(), at(20)).unwrap();
    assert!(why[0].reasons.concat().contains("in conflict (two claim to be it)"), "{why:?}");
    stage.engine.node_is(facts(1, 1, "boot1"), at(21));
    stage.proceed(21);
    assert!(stage.runs.contains_key("job b"), "an admin has decided");
}

#[test]
fn a_job_is_too_large_for_what_is_known_only() {
    let text = "version: v1\njobs: {a: {image: docker://a, command: [b], resource: {cpu: {cores: 4}, memory: {size: 1MiB}}}}";
    let document = document::parse(text).unwrap().workflow;
    let too_large = |nodes: &[(u128, u32)]| {
        let view = Stage::new(nodes).engine.view(at(0));
        super::too_large(&view, &document).len()
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
    let told = |stage: &mut Stage, rack: &str| {
        let document = document::parse(&text(rack)).unwrap().workflow;
        too_large(&stage.engine.view(at(0)), &document)
    };
    assert_eq!(told(&mut stage, "a1"), [(0, "no node has rack=a1; nodes have rack=a2".to_owned())]);
    assert!(told(&mut stage, "a2").is_empty());
    // A node that has not booted may have room for it.
    let labels = [("rack".to_owned(), "a3".to_owned())].into();
    stage.engine.node_is(NodeFacts { labels, is_ready: false, ..facts(2, 0, "boot1") }, at(1));
    assert!(told(&mut stage, "a3").is_empty());
    // It is taken, and then the node's label becomes another: it waits until a node has it again.
    stage.submit(&text("a2"), 2);
    assert!(stage.runs.contains_key("job a"), "{}", stage.lines);
    let mut waits = Stage::new(&[(1, 1)]);
    waits.submit(&text("a2"), 2);
    assert!(!waits.lines.contains("RESOURCES_ALLOCATED"), "{}", waits.lines);
    waits.engine.node_is(labelled("a2"), at(3));
    waits.proceed(4);
    assert!(waits.lines.contains("RESOURCES_ALLOCATED a: job a goes to n1"), "{}", waits.lines);
    // Its labels are known, though no node has told of its hardware.
    let mut unbooted = Stage::new(&[]);
    assert!(told(&mut unbooted, "a1").is_empty(), "nothing is known of no node");
    let labels = [("rack".to_owned(), "a3".to_owned())].into();
    unbooted.engine.node_is(NodeFacts { labels, is_ready: false, ..facts(1, 0, "boot1") }, at(1));
    assert_eq!(
        told(&mut unbooted, "a1"),
        [(0, "no node has rack=a1; nodes have rack=a3".to_owned())]
    );
    assert!(told(&mut unbooted, "a3").is_empty());
    let id = unbooted.submit(&text("a1"), 2);
    let waiting = unbooted.engine.view(at(0)).why(id, None, &BTreeMap::new(), at(3)).unwrap();
    let why: Vec<&String> = waiting.iter().flat_map(|waiting| &waiting.reasons).collect();
    assert!(why.contains(&&"no node has rack=a1; nodes have rack=a3".to_owned()), "{why:?}");
}
