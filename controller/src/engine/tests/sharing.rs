//! What a view costs: what was changed since the one before, and nothing of what was not.

use super::*;

/// Tasks of the wide workflow that run at once.
const RUNNING: usize = 2_000;

const WIDE: &str = "version: v1
jobs:
  wide: {image: docker://a, command: [x], task-array: {start: 1, end: 100000},
    resource: {cpu: {cores: 1}, memory: {size: 1MiB}}}
  after: {image: docker://a, command: [x], depends-on: [{name: wide}]}
";

/// Whether two references are to one thing.
fn is_same<T>(one: &T, other: &T) -> bool {
    std::ptr::eq(one, other)
}

#[test]
fn the_end_of_one_task_copies_none_of_the_others() {
    let nodes: Vec<(u128, u32)> = (1..=20).map(|number| (number, 100)).collect();
    let mut stage = Stage::new(&nodes);
    stage
        .engine
        .submit(submission(2, "version: v1\njobs: {b: {image: docker://b, command: [x]}}"), at(1));
    let wide = stage.submit(WIDE, 1);
    let beside = WorkflowId(uuid::Uuid::from_u128(2));
    while stage.runs.len() < RUNNING {
        stage.proceed(2);
    }
    let before = stage.engine.view(at(2));
    stage.end("job wide[77]", OK, 3);
    let after = stage.engine.view(at(3));

    let (was, is) =
        (before.workflow_states.of(wide).unwrap(), after.workflow_states.of(wide).unwrap());
    assert!(!is_same(was, is));
    assert!(is_same(
        before.workflow_states.of(beside).unwrap(),
        after.workflow_states.of(beside).unwrap()
    ));
    let other_stages: Vec<StageId> = was
        .numbered()
        .filter(|(stage, now)| !is_same(*now, &is.stages[*stage]))
        .map(|(stage, _)| stage)
        .collect();
    assert_eq!(other_stages.len(), 1, "its own alone");
    let other_runs =
        is.runs.iter().filter(|(id, run)| was.runs.get(*id).is_none_or(|was| !is_same(was, *run)));
    assert_eq!(other_runs.count(), 1, "the one that took its place");
    let (was, is) = (&was.stages[other_stages[0]].tasks, &is.stages[other_stages[0]].tasks);
    assert_eq!((was.running.size(), is.running.size()), (RUNNING, RUNNING));
    let other_attempts = is
        .running
        .iter()
        .filter(|(task, of)| was.running.get(*task).is_none_or(|was| !is_same(was, *of)));
    assert_eq!(other_attempts.count(), 1);

    // What was read stays as it is.
    let counts = |view: &View| view.workflow(wide).unwrap().stages[other_stages[0].index()].tasks;
    assert_eq!((counts(&before).finished, counts(&after).finished), (0, 1));
}

#[test]
fn time_that_passes_copies_nothing() {
    let mut stage = Stage::new(&[(1, 2)]);
    let id = stage.submit("version: v1\njobs: {a: {image: docker://a, command: [x]}}", 1);
    let before = stage.engine.view(at(1));
    stage.tick(5);
    // Placing again looks at all, and finds nothing.
    stage.engine.node_is(facts(2, 2, "boot1"), at(6));
    stage.proceed(6);
    let after = stage.engine.view(at(6));
    assert!(is_same(before.workflow_states.of(id).unwrap(), after.workflow_states.of(id).unwrap()));
}
