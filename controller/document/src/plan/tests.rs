//! Documents in, plans out; stored plans in, errors out.

use std::{fs, path::PathBuf};

use expect_test::{expect, expect_file};

use super::*;
use crate::{parse, read_accepted};

/// Stands in for the store of files: a digest for each, in their order.
fn stored(workflow: &Workflow) -> StoredFiles {
    let file = |(number, (key, text)): (u8, (FileKey, &str))| {
        (key, StoredFile { digest: Digest([number; 32]), size: text.len() as u64 })
    };
    (1..).zip(files(workflow)).map(file).collect()
}

fn plan_of(workflow: &Workflow) -> Plan {
    Plan::of(workflow, &stored(workflow)).unwrap()
}

fn plan(text: &str) -> Plan {
    plan_of(&parse(text).unwrap().workflow)
}

fn pretty(plan: &Plan) -> String {
    let value: serde_json::Value = serde_json::from_str(&plan.to_json().unwrap()).unwrap();
    serde_json::to_string_pretty(&value).unwrap() + "\n"
}

/// What release 244c59b accepted and what plan each of it is converted to.
///
/// A CHANGED SNAPSHOT BREAKS RUNNING SITES: workflows that ran when plans came were converted to
/// what is in these files, and their stages, tasks and attempts are in databases under these
/// numbers. Whoever wants to read such documents in another way leaves this one as it is, and makes
/// another beside it. Documents may be added; a snapshot is never rewritten.
/// `docs/decisions/0007-stored-plans.md`.
#[test]
#[expect(clippy::disallowed_methods, reason = "the corpus grows by files, without a list of them")]
fn documents_that_were_accepted_before_plans_are_converted_as_ever() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/plan/accepted");
    let mut documents: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    documents.sort();
    assert!(documents.len() >= 14, "documents are missing: {documents:?}");
    for path in documents {
        let text = fs::read_to_string(&path).unwrap();
        let workflow =
            read_accepted(&text).unwrap_or_else(|diagnostics| panic!("{path:?}: {diagnostics:?}"));
        let plan = plan_of(&workflow);
        expect_file![path.with_extension("json")].assert_eq(&pretty(&plan));
        assert_eq!(Plan::read(&plan.to_json().unwrap()).unwrap(), plan, "{path:?}");
    }
}

#[test]
fn a_plan_has_the_oldest_version_that_understands_it() {
    let text = |rest: &str| {
        format!("version: v4\n{rest}jobs: {{a: {{image: docker://a, command: [x]}}}}\n")
    };
    let plain = plan(&text(""));
    assert!(plain.to_json().unwrap().starts_with("{\"plan\":1,"), "a release of before reads it");
    let labelled = plan(&text("annotations: {rack: a1}\n"));
    let json = labelled.to_json().unwrap();
    assert!(
        json.starts_with("{\"plan\":2,"),
        "a release of before would place it anywhere: {json}"
    );
    assert_eq!(Plan::read(&json).unwrap(), labelled);
    let StageAction::Job(job) = &labelled.stages[1].work else { panic!("{labelled:?}") };
    assert_eq!(api::labels::line(&job.resource.labels), "rack=a1");
    let newer = json.replacen("\"plan\":2", "\"plan\":4", 1);
    assert!(matches!(Plan::read(&newer), Err(PlanError::Version { found: 4 })));
    let mut members = plain;
    members.stages[1].members = 2;
    let json = members.to_json().unwrap();
    assert!(
        json.starts_with("{\"plan\":3,"),
        "a release of before would start each by itself: {json}"
    );
    assert_eq!(Plan::read(&json).unwrap(), members);
    let with_volumes = {
        let text = "version: v4\nvolumes: {d: {}}\njobs: {a: {image: docker://a, command: [x], mounts: {/d: d}}}\n";
        let mut plan = plan(text);
        let job =
            plan.stages.iter_mut().find(|stage| matches!(stage.work, StageAction::Job(_))).unwrap();
        job.members = 2;
        plan.to_json().unwrap()
    };
    assert!(with_volumes.contains("\"group\":0"), "{with_volumes}");
    let of = |count: u32| json.replace("\"members\":2", &format!("\"members\":{count}"));
    assert!(Plan::read(&of(4_096)).is_ok());
    for wrong in [of(0), of(4_097), with_members_of_an_image(&members), with_volumes] {
        assert!(matches!(Plan::read(&wrong), Err(PlanError::Inconsistent { .. })), "{wrong}");
    }
}

fn with_members_of_an_image(plan: &Plan) -> String {
    let mut plan = plan.clone();
    plan.stages[0].members = 2;
    plan.to_json().unwrap()
}

#[test]
fn a_job_waits_until_another_finished_or_runs() {
    let text = "version: v4\njobs:\n  a: {image: docker://a, command: [x]}\n  b: {image: docker://a, command: [x], \
                depends-on: [{name: a, status: running}]}\n  c: {image: docker://a, command: [x], depends-on: \
                [{name: a, status: Finished}, {name: b, status: RUNNING}, {name: b}]}\n";
    let plan = plan(text);
    let json = plan.to_json().unwrap();
    assert!(
        json.starts_with("{\"plan\":3,"),
        "a release of before would wait for their ends: {json}"
    );
    let stages: serde_json::Value = serde_json::from_str(&json).unwrap();
    let after = |stage: usize| stages["stages"][stage]["after"].to_string();
    assert_eq!(after(1), "[0]");
    assert_eq!(after(2), r#"[0,{"stage":1,"until":"running"}]"#);
    assert_eq!(after(3), r#"[0,1,2,{"stage":2,"until":"running"}]"#);
    assert_eq!(Plan::read(&json).unwrap(), plan);
    let all = r#"[{"stage":0,"until":"failed"},{"stage":0,"until":"any"},0]"#;
    let read: Vec<Dependency> = serde_json::from_str(all).unwrap();
    assert_eq!(
        read.iter().map(|one| one.until).collect::<Vec<_>>(),
        [Until::Failed, Until::Any, Until::Finished]
    );
    let unknown = json.replace("running", "paused");
    assert!(matches!(Plan::read(&unknown), Err(PlanError::Damaged(_))));
}

#[test]
fn a_diamond_with_data() {
    let plan = plan(include_str!("accepted/diamond.yaml"));
    let mut lines = String::new();
    for (index, stage) in plan.stages.iter().enumerate() {
        let group = stage.group.map(|group| format!(" group {group}")).unwrap_or_default();
        let tasks = match stage.tasks {
            Tasks { first: Some(first), count, concurrency } => {
                format!(" {count} tasks from {first}, {concurrency} at once")
            }
            _ => String::new(),
        };
        let kind = stage.work.kind().as_str();
        let after: Vec<u32> = stage.after.iter().map(|after| after.stage.0).collect();
        lines += &format!("{index} {kind} {} after {after:?}{group}{tasks}\n", stage.name);
    }
    expect![[r#"
        0 image docker://busybox after []
        1 image docker://debian after []
        2 volume in after [] group 0
        3 volume out after [] group 0
        4 volume apart after [] group 1
        5 file in/a after [2] group 0
        6 job d after [0, 3, 8, 9] group 0
        7 job a after [0, 2, 3, 5] group 0
        8 job b after [1, 2, 5, 7] group 0
        9 job c after [0, 7] 3 tasks from 3, 2 at once
        10 file out/b after [3, 6, 7] group 0
    "#]]
    .assert_eq(&lines);
}

#[test]
fn rules_of_what_is_accepted_are_not_held_against_what_was_accepted() {
    let many: String = (0..crate::MAX_JOBS + 1)
        .map(|job| format!("  j{job}: {{image: docker://a, command: [x]}}\n"))
        .collect();
    let large = format!(
        "# {}\nversion: v1\njobs: {{a: {{image: docker://a, command: [x]}}}}\n",
        "x".repeat(5 << 20)
    );
    for (text, stages) in [
        ("version: v1\njobs: {A_b: {image: docker://a, command: [x]}}", 2),
        ("version: v1\njobs: {a: {image: docker://a, script: no interpreter}}", 2),
        ("version: v1\njobs: {a: {image: docker://a}}", 2),
        (
            "version: v1\nvolumes: {d: {}}\njobs: {a: {image: docker://a, command: [x], mounts: {/dev/x: d}}}",
            3,
        ),
        ("version: v1\njobs: {a: {image: docker://a, command: [x], cwd: work}}", 2),
        (
            "version: v1\njobs: {a: {image: docker://a, command: [x], resource: {devices: {gpu: 1}}}}",
            2,
        ),
        (
            "version: v1\njobs: {a: {image: docker://a, command: [x], task-array: {start: 0, end: 2000000}}}",
            2,
        ),
        ("version: v1\njobs: {}", 0),
        (&format!("version: v1\njobs:\n{many}"), crate::MAX_JOBS + 2),
        (&large, 2),
    ] {
        let short = &text[..text.len().min(100)];
        assert!(parse(text).is_err(), "no rule refuses it any more, choose another: {short}");
        let workflow =
            read_accepted(text).unwrap_or_else(|diagnostics| panic!("{short}: {diagnostics:?}"));
        assert_eq!(plan_of(&workflow).stages.len(), stages, "{short}");
    }
}

#[test]
fn what_cannot_be_read_is_never_guessed() {
    let job = |rest: &str| {
        format!("version: v1\njobs: {{a: {{image: docker://a, command: [x], {rest}}}}}")
    };
    for text in [
        &job("comand: [y]"),
        &job("multinode: {nodes: 2}"),
        &job("resource: {memory: {size: lots}}"),
        &job("resource: {cpu: {cores: 0}}"),
        &job("policy: {retry: {attempts: 101}}"),
        &job("requires: [b]"),
        &job("requires: [a]"),
        &job("depends-on: [{name: a, status: failed}]"),
        &job("mounts: {/d: d}"),
        &job("mounts: {d: /d}"),
        &job("env: [KEY=secret://a]"),
        &job("env: [FB_X=1]"),
        &job("task-array: {start: 2, end: 1}"),
        &job("task-array: {start: 0, end: 4294967295}"),
        &job("task-array: {start: 0, end: 1, concurrency: 0}"),
        "version: v1\njobs: {a: {command: [x]}}",
        "version: v1\njobs: {a: {image: oras://a, command: [x]}}",
        "version: v9\njobs: {a: {image: docker://a, command: [x]}}",
        "version: v4\nvolumes: {d: {type: PERSISTENT}}\njobs: {a: {image: docker://a, command: [x]}}",
        "version: v4\nvolumes: {d: {ingress: [{source: file://f, destination: file://f}]}}\njobs: {}",
        "version: v4\nvolumes: {d: {ingress: [{source: http://f, destination: file://../f}]}}\njobs: {}",
        "[",
        "",
    ] {
        assert!(read_accepted(text).is_err(), "{text}");
    }
}

#[test]
fn a_plan_is_as_large_for_a_million_tasks_and_a_megabyte_of_files_as_for_one() {
    let text = |last: u32, contents: &str| {
        format!(
            "version: v1
files: {{data: '{contents}'}}
volumes: {{d: {{ingress: [{{source: file://data, destination: file://data}}]}}}}
jobs: {{a: {{image: docker://a, script: '#!{contents}', files: {{/f: '{contents}'}}, task-array: {{start: 1, end: {last}}}}}}}"
        )
    };
    let size = |text: &str| plan(text).to_json().unwrap().len();
    let (small, large) = (size(&text(1, "x")), size(&text(crate::MAX_TASKS, &"x".repeat(1 << 20))));
    // The numbers themselves have more digits: of three sizes, of tasks and of concurrency.
    assert!(large <= small + 3 * 7 + 2 * 7, "{small} and {large} bytes");
    assert!(large < 1_000, "{large} bytes");
}

#[test]
fn what_defaults_come_to_is_bounded() {
    let jobs: String =
        (0..1_000).map(|job| format!("  j{job}: {{image: docker://a, command: [x]}}\n")).collect();
    let text = format!(
        "version: v4\ndefaults: {{job: {{env: [A={}]}}}}\njobs:\n{jobs}",
        "x".repeat(1 << 20)
    );
    let diagnostics = parse(&text).unwrap_err();
    expect!["2:17: defaults.job: in all 1000 jobs the defaults come to 1048578000 bytes; at most 16777216 are taken (put what is large into an entry of `files`)"]
    .assert_eq(&diagnostics.iter().map(ToString::to_string).collect::<String>());
}

#[test]
fn what_jobs_wait_for_is_bounded() {
    let files = |count: usize| "{source: http://a, destination: file://a}, ".repeat(count);
    let job = |number: usize| {
        format!("  j{number}: {{image: docker://a, command: [x], mounts: {{/d: d}}}}\n")
    };
    let jobs: String = (0..1_000).map(job).collect();
    let text = |count| {
        format!("version: v4\nvolumes: {{d: {{ingress: [{}]}}}}\njobs:\n{jobs}", files(count))
    };
    assert!(parse(&text(1_000)).is_ok());
    let diagnostics = parse(&text(1_001)).unwrap_err();
    expect![[r#"
        2:10: volumes: its jobs mount volumes with 1001000 files in or out, a file counted for each job; at most 1000000 are taken (take many files in as one archive)"#]]
    .assert_eq(&diagnostics.iter().map(ToString::to_string).collect::<String>());
    assert!(read_accepted(&text(1_001)).is_ok(), "it may run from before there was this rule");
}

#[test]
fn fields_of_later_releases_are_ignored_and_their_versions_are_not() {
    let plan = plan(include_str!("accepted/volumes.yaml"));
    let mut value: serde_json::Value = serde_json::from_str(&plan.to_json().unwrap()).unwrap();
    add_everywhere(&mut value);
    assert_eq!(Plan::read(&value.to_string()).unwrap(), plan);
    value["plan"] = 4.into();
    value["stages"] = "of another form".into();
    let error = Plan::read(&value.to_string()).unwrap_err().to_string();
    expect!["the stored plan has version 4, and this release reads up to 3: go on with the release that stored it, or a later one"]
        .assert_eq(&error);
}

/// Adds a field to every object that is a struct; a map (`env`) and an enum's (`work`) are none.
fn add_everywhere(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in &mut *object {
                match (key.as_str(), value) {
                    ("env" | "devices", _) => {}
                    ("work" | "source" | "destination", value) => {
                        value.as_object_mut().unwrap().values_mut().for_each(add_everywhere);
                    }
                    (_, value) => add_everywhere(value),
                }
            }
            object.insert("of-a-later-release".to_owned(), true.into());
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(add_everywhere),
        _ => {}
    }
}

#[test]
fn a_damaged_plan_is_refused_with_its_stage() {
    let whole = plan(include_str!("accepted/diamond.yaml")).to_json().unwrap();
    let damaged = |what: &str, instead: &str| {
        assert!(whole.contains(what), "{what} is not in {whole}");
        let mut error: &dyn std::error::Error =
            &Plan::read(&whole.replacen(what, instead, 1)).unwrap_err();
        let mut text = error.to_string();
        while let Some(source) = error.source() {
            (text, error) = (format!("{text}: {source}"), source);
        }
        text + "\n"
    };
    let errors = [
        damaged("{\"plan\":1", "{"),
        damaged("\"plan\":1", "\"plan\":0"),
        damaged("\"groups\":2", "\"groups\":1"),
        damaged("\"after\":[0,7]", "\"after\":[0,70]"),
        damaged("\"image\":1", "\"image\":2"),
        damaged("\"image\":1", "\"image\":11"),
        damaged("\"count\":3", "\"count\":0"),
        damaged("\"first\":3", "\"first\":4294967295"),
        damaged("\"work\":{\"volume\"", "\"work\":{\"balloon\""),
        damaged(
            "\"work\":{\"volume\":{\"volume\":\"in\"}}",
            "\"work\":{\"unknown\":{\"kind\":\"job\"}}",
        ),
        damaged("\"stages\"", "\"stages"),
    ];
    expect![[r#"
        the stored plan is damaged: key must be a string at line 1 column 2
        the stored plan has version 0, and this release reads up to 3: go on with the release that stored it, or a later one
        the stored plan is damaged: stage 4 needs volumes of group 1, which is not there
        the stored plan is damaged: stage 9 waits for stage 70, which is not there
        the stored plan is damaged: stage 8 has its image from stage 2, which is none
        the stored plan is damaged: stage 8 has its image from stage 11, which is none
        the stored plan is damaged: stage 9 has 0 tasks from Some(3), 2 at once
        the stored plan is damaged: stage 9 has 3 tasks from Some(4294967295), 2 at once
        the stored plan is damaged: unknown variant `balloon`, expected one of `image`, `volume`, `ingress`, `egress`, `job` at line 1 column 279
        the stored plan is damaged: unknown variant `unknown`, expected one of `image`, `volume`, `ingress`, `egress`, `job` at line 1 column 279
        the stored plan is damaged: expected `:` at line 1 column 33
    "#]].assert_eq(&errors.concat());
}

#[test]
fn what_stands_in_for_an_unknown_stage_is_never_stored() {
    let mut plan = plan("version: v1\njobs: {a: {image: docker://a, command: [x]}}");
    plan.stages[1].work = StageAction::Unknown { kind: StageKind::Job };
    assert!(matches!(plan.to_json(), Err(PlanError::Unwritable(_))));
}

#[test]
fn tasks_are_known_by_stage_and_number() {
    let plan = plan(include_str!("accepted/diamond.yaml"));
    let has = [(9, 3), (9, 5), (9, 2), (9, 6), (7, 0), (7, 1), (0, 0), (11, 0)]
        .map(|(s, t)| plan.has_task(StageId(s), t));
    assert_eq!(has, [true, true, false, false, true, false, false, false]);
}

#[test]
fn a_file_that_is_not_stored_is_named() {
    let workflow = parse(include_str!("accepted/volumes.yaml")).unwrap().workflow;
    let mut files = stored(&workflow);
    files.remove(&FileKey::Script { job: "count".to_owned() });
    let error = Plan::of(&workflow, &files).unwrap_err().to_string();
    assert_eq!(error, "the contents of the script of job count are not stored");
}

/// Volumes that jobs mount in pairs, in an order that makes one group of many late.
#[test]
fn groups_are_named_as_in_plans_that_are_stored() {
    let volumes: String = (0..6).map(|volume| format!("v{volume}: {{}}, ")).collect();
    let text = |pairs: &[(usize, usize)]| {
        let job = |(number, (one, other)): (usize, &(usize, usize))| {
            format!(
                "j{number}: {{image: docker://a, command: [x], mounts: {{/a: v{one}, /b: v{other}}}}}, "
            )
        };
        let jobs: String = pairs.iter().enumerate().map(job).collect();
        format!("version: v1\nvolumes: {{{volumes}}}\njobs: {{{jobs}}}\n")
    };
    for pairs in [
        &[(5, 0), (1, 2)][..],
        &[(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)],
        &[(4, 5), (2, 3), (0, 1), (3, 4), (1, 2)],
        &[(0, 5), (5, 1), (4, 0)],
    ] {
        // As the groups were made when the first plans were stored: all volumes for each pair.
        let mut of: Vec<usize> = (0..6).collect();
        for &(first, other) in pairs {
            let (to, from) = (of[first], of[other]);
            of.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
        }
        let mut names = of.clone();
        names.sort_unstable();
        names.dedup();
        let plan = plan(&text(pairs));
        assert_eq!(plan.groups, names.len(), "{pairs:?}");
        let is_volume = |stage: &&StagePlan| matches!(stage.work, StageAction::Volume { .. });
        let groups: Vec<_> =
            plan.stages.iter().filter(is_volume).map(|stage| stage.group).collect();
        let expected: Vec<_> = of.iter().map(|group| names.binary_search(group).ok()).collect();
        assert_eq!(groups, expected, "{pairs:?}");
    }
}
