//! What failed and is tried again, or is not.

use super::*;

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

/// The node does not begin the run of job a.
fn refuse(stage: &mut Stage, time: i64) {
    let (outcome, usage) = (Outcome::Refused { why: "no memory".to_owned() }, Usage::default());
    let end = RunEnd { started: None, ended: at(time), outcome, log_bytes: 0, usage };
    stage.report("job a", RunState::Ended(Box::new(end)), time);
}

#[test]
fn a_refusal_is_no_attempt_and_a_reboot_is_nobodys_fault() {
    let mut stage = Stage::new(&[(1, 1)]);
    stage.submit("version: v1\njobs: {a: {image: docker://a, command: [x]}}", 1);
    for time in [2, 10] {
        refuse(&mut stage, time);
        stage.tick(time + 4);
    }
    stage.engine.node_is(
        NodeFacts { refuses: Some("no memory".to_owned()), ..facts(1, 1, "boot1") },
        at(15),
    );
    let id = WorkflowId(uuid::Uuid::from_u128(1));
    stage.proceed(15);
    refuse(&mut stage, 16);
    stage.tick(30);
    let why = stage.engine.view(at(0)).why(id, None, &BTreeMap::new(), at(30)).unwrap();
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
