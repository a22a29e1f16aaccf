//! Images of jobs: pulled, waited for, needed.

use super::*;

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
    let shown = |stage: &mut Stage| {
        let reasons = stage
            .engine
            .view(at(0))
            .why(id, None, &BTreeMap::new(), at(2))
            .unwrap()
            .remove(0)
            .reasons;
        (stage.engine.view(at(0)).workflow(id).unwrap().stages[0].reason.clone(), reasons.concat())
    };
    assert_eq!(shown(&mut stage), (None, "docker://a is being pulled".to_owned()));
    let why = "waiting for registry.example: connection refused; next try in 8 s".to_owned();
    stage.engine.image_waits(id, StageId(0), Some(why.clone()));
    let effects = stage.engine.proceed(at(2));
    assert!(effects.changed.contains(&id) && effects.writes.is_empty(), "shown, and not kept");
    assert_eq!(shown(&mut stage), (Some(why.clone()), why));
    stage.engine.image_waits(id, StageId(0), None);
    assert_eq!(shown(&mut stage).0, None);
    stage.engine.image_waits(id, StageId(0), Some("again".to_owned()));
    stage.engine.image_fetched(id, StageId(0), Ok(image()), at(3));
    stage.engine.image_waits(id, StageId(0), Some("too late".to_owned()));
    stage.engine.image_waits(id, StageId(99), Some("nowhere".to_owned()));
    assert_eq!(stage.engine.view(at(0)).workflow(id).unwrap().stages[0].reason, None);
}

#[test]
fn who_stops_a_workflow_wants_no_image() {
    let (mut stage, id) = pulls();
    assert_eq!(stage.engine.wants_image(id, StageId(0)).as_deref(), Some("ann"));
    stage.engine.image_waits(id, StageId(0), Some("waiting".to_owned()));
    assert!(stage.engine.stop(id, "stopped by ann", at(2)));
    assert_eq!(stage.engine.wants_image(id, StageId(0)), None);
    stage.engine.image_waits(id, StageId(0), Some("waiting".to_owned()));
    let writes = stage.engine.proceed(at(2)).writes;
    let reason = writes.iter().find_map(|write| match write {
        Write::Stage(row) if row.stage == StageId(0) => row.reason.clone(),
        _ => None,
    });
    assert_eq!(reason.as_deref(), Some("stopped by ann"));
}

/// What is not over needs its images and inline files.
#[test]
fn a_workflow_needs_its_images_and_files_until_it_is_over() {
    let mut stage = Stage::new(&[]);
    assert!(stage.engine.view(at(0)).images_in_use().blobs.is_empty());
    let text = "version: v1\njobs: {hello: {image: docker://a, script: '#!/bin/sh', resource: {cpu: {cores: 2}, \
                memory: {size: 1GiB}}}}";
    let submitted = submission(1, text);
    let id = submitted.id;
    stage.engine.submit(submitted, at(1));
    let needed = |stage: &mut Stage| {
        let in_use = stage.engine.view(at(0)).images_in_use();
        assert_eq!(in_use.unknown, None);
        in_use.blobs.into_iter().map(|digest| digest.0[0]).collect::<BTreeSet<_>>()
    };
    assert_eq!(needed(&mut stage), [7].into(), "the script");
    stage.proceed(1);
    assert_eq!(needed(&mut stage), [7, 8, 9].into(), "manifest and squashfs too");
    stage.engine.stop(id, "enough", at(2));
    stage.proceed(2);
    assert_eq!(needed(&mut stage), [0; 0].into());
    let any_run = crate::record::SparedRows { any_run: true, ..Default::default() };
    stage.engine.spare(None, any_run);
    assert!(stage.engine.view(at(0)).images_in_use().unknown.is_some());
}

#[test]
fn an_image_that_cannot_be_had_fails_what_needs_it() {
    let mut engine = engine();
    engine.node_is(facts(1, 1, "boot1"), at(0));
    let id = submission(1, "version: v1\njobs: {a: {image: docker://a, command: [x]}}");
    engine.submit(id, at(1));
    let effects = engine.proceed(at(1));
    let (workflow, stage, reference) = effects.fetch[0].clone();
    assert_eq!(reference, "a");
    let error = ToldFetchError::new("the registry has no a".to_owned());
    engine.image_fetched(workflow, stage, Err(error), at(2));
    let effects = engine.proceed(at(2));
    let row = effects.writes.iter().rev().find_map(|write| match write {
        Write::Workflow(row) => Some(row),
        _ => None,
    });
    assert_eq!(row.unwrap().state, State::Failed);
    assert_eq!(row.unwrap().reason.as_deref(), Some("image docker://a: the registry has no a"));
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
        StageId::of_index(stage)
    };
    let pulls =
        BTreeMap::from([(stage_of("docker://b"), "pulling b: 40 MiB of 120 MiB".to_owned())]);
    let why = |engine: &mut Engine, of: Option<&str>| {
        let waiting = engine.view(at(0)).why(id, of.map(stage_of), &pulls, at(2)).unwrap();
        waiting
            .iter()
            .map(|one| format!("{}: {}\n", one.name, one.reasons.join("; ")))
            .collect::<String>()
    };
    expect![[r#"
        docker://a: docker://a is being pulled
        docker://b: pulling b: 40 MiB of 120 MiB
        a: waits for image docker://a
        b: waits for image docker://b
    "#]]
    .assert_eq(&why(&mut engine, None));
    expect![[r#"
        docker://b: pulling b: 40 MiB of 120 MiB
        b: waits for image docker://b
    "#]]
    .assert_eq(&why(&mut engine, Some("b")));
    let of_a = "docker://a: docker://a is being pulled\na: waits for image docker://a\n";
    assert_eq!(why(&mut engine, Some("a")), of_a);
}
