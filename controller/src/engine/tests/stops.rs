//! Workflows that wait, stand still and are stopped.

use super::*;

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
    let told = |stage: &mut Stage, now| {
        let waiting = stage.engine.view(at(0)).why(id, None, &BTreeMap::new(), at(now)).unwrap();
        waiting
            .iter()
            .map(|w| format!("{}: {}\n", w.name, w.reasons.join("; ")))
            .collect::<String>()
    };
    let mut lines = told(&mut stage, 1);
    stage.engine.node_is(NodeFacts { is_ready: false, ..facts(1, 2, "boot1") }, at(3));
    lines += &told(&mut stage, 3);
    expect![[r#"
        b: n1: 0 of 2 cores free, 2 wanted; it is the first in the queue of jobs
        c: waits for job a, job b
        a: n1 does not answer; 1 of its tasks run there
        b: n1: not ready; it is the first in the queue of jobs
        c: waits for job a, job b
    "#]]
    .assert_eq(&lines);
}

/// The four words for a workflow that is not over, from its handing in to its end.
#[test]
fn a_workflow_waits_runs_stands_still_and_stops() {
    let shown = |engine: &mut Engine| engine.view(at(0)).summaries().next().unwrap();
    let status = |engine: &mut Engine| shown(engine).status.unwrap().as_str();
    let mut engine = engine();
    engine
        .submit(submission(1, "version: v1\njobs: {a: {image: docker://a, command: [x]}}"), at(1));
    let effects = engine.proceed(at(1));
    assert_eq!(status(&mut engine), "waiting", "its image is pulled");
    let [(id, image_stage, _)] = &effects.fetch[..] else { panic!() };
    engine.image_fetched(*id, *image_stage, Ok(image()), at(2));
    engine.proceed(at(2));
    assert_eq!(status(&mut engine), "waiting", "there is no node");
    assert_eq!(shown(&mut engine).state, State::Started, "as clients of before have it");
    engine.node_is(facts(1, 2, "boot1"), at(3));
    let effects = engine.proceed(at(3));
    assert_eq!(status(&mut engine), "running");
    assert!(engine.pause(*id, true, "ann", at(4)));
    assert_eq!(
        (
            status(&mut engine),
            engine.view(at(0)).workflow(*id).unwrap().summary.status.unwrap().as_str()
        ),
        ("paused", "paused")
    );
    assert!(engine.pause(*id, false, "ann", at(5)));
    assert_eq!(status(&mut engine), "running");
    assert!(engine.stop(*id, "stopped by ann", at(6)));
    engine.proceed(at(6));
    assert_eq!(status(&mut engine), "stopping");
    let run = effects.messages.iter().find_map(|(_, message)| match message {
        FromServer::StartRun { spec } => Some(spec.run),
        _ => None,
    });
    let stopped = Outcome::Stopped { why: "stopped by ann".to_owned() };
    engine.handle_report(node_id(1), &ended(run.unwrap(), stopped, at(7)), at(7));
    let effects = engine.proceed(at(7));
    let end = effects.writes.iter().find_map(|write| match write {
        Write::Workflow(row) => row.view.clone(),
        _ => None,
    });
    assert_eq!(end.unwrap().summary.status.unwrap().as_str(), "canceled");
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
    assert!(
        stage.engine.pause(id, true, "ann", at(3)) && !stage.engine.pause(id, true, "ann", at(3))
    );
    stage.proceed(3);
    assert_eq!(stage.engine.view(at(0)).summaries().next().unwrap().paused.as_deref(), Some("ann"));
    stage.end("job a[1]", OK, 4);
    let why = stage.engine.view(at(0)).why(id, None, &BTreeMap::new(), at(5)).unwrap();
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
