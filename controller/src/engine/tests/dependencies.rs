//! What a stage waits for of another.

use document::plan::{Dependency, Until};

use super::*;

/// Job `b`, which waits for `a`, an array of two tasks of which one runs at a time, until this.
fn two(until: Until) -> (Stage, WorkflowId) {
    let text = "version: v1
jobs:
  a: {image: docker://a, command: [x], task-array: {start: 1, end: 2, concurrency: 1}}
  b: {image: docker://a, command: [x]}";
    let mut stage = Stage::new(&[(1, 4)]);
    let mut submission = submission(1, text);
    submission.plan.stages[2].after.push(Dependency { stage: StageId(1), until });
    let id = submission.id;
    stage.engine.submit(submission, at(1));
    stage.proceed(1);
    (stage, id)
}

/// Whether `b` runs after: a task runs; the tasks ended with these statuses. `None`:
/// it was canceled.
fn begins(until: Until, codes: [i32; 2]) -> (bool, Option<bool>) {
    let (mut stage, id) = two(until);
    assert!(!stage.runs.contains_key("job b"));
    stage.report("job a[1]", RunState::Running { started: at(2) }, 2);
    let early = stage.runs.contains_key("job b");
    for (task, code) in (1..).zip(codes) {
        stage.end(&format!("job a[{task}]"), Outcome::Exited { code }, 3);
    }
    let runs = stage.runs.contains_key("job b");
    let is_over = stage.engine.view(at(0)).workflow(id).is_none();
    (early, (!is_over).then_some(runs))
}

#[test]
fn what_is_waited_for_happens_or_cannot_any_more() {
    for (until, codes, expected) in [
        (Until::Finished, [0, 0], (false, Some(true))),
        (Until::Finished, [0, 1], (false, None)),
        (Until::Failed, [0, 0], (false, None)),
        (Until::Failed, [1, 0], (false, Some(true))),
        (Until::Any, [0, 0], (false, Some(true))),
        (Until::Any, [1, 1], (false, Some(true))),
        (Until::Running, [0, 0], (true, Some(true))),
        (Until::Running, [1, 1], (true, Some(true))),
    ] {
        assert_eq!(begins(until, codes), expected, "{until:?} {codes:?}");
    }
}

#[test]
fn what_never_ran_is_waited_for_in_vain() {
    let (mut stage, id) = two(Until::Running);
    let why = |stage: &mut Stage| {
        let why =
            stage.engine.view(at(0)).why(id, Some(StageId(2)), &BTreeMap::new(), at(2)).unwrap();
        why.into_iter().flat_map(|waiting| waiting.reasons).collect::<Vec<_>>().join("; ")
    };
    let told = why(&mut stage);
    assert!(told.contains("waits for job a to run"), "{told}");
    let failed = |now| {
        let outcome = Outcome::Failed { why: "no such command".to_owned(), transient: false };
        let end = RunEnd {
            started: None,
            ended: at(now),
            outcome,
            log_bytes: 0,
            usage: Usage::default(),
        };
        RunState::Ended(Box::new(end))
    };
    stage.report("job a[1]", failed(2), 2);
    stage.report("job a[2]", failed(3), 3);
    assert!(stage.lines.contains("STAGE_CANCELED b: job a failed"), "{}", stage.lines);
}
