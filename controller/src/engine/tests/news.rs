//! What fails and is tried again is told at once, and again while it goes on.

use api::run::{FailedTry, RunNews};

use super::*;

const TRANSFERS: &str = "version: v1
volumes: {data: {ingress: [{source: 'http://host/in.tar', destination: file://in.tar, policy: {timeout: {execute: 4m}}}]}}
jobs: {a: {image: docker://a, command: [x], mounts: {data: {location: /data}}, resource: {memory: {size: 1GiB}}}}
";

const FILE: &str = "file data/in.tar";

fn failed(number: u32, why: &str) -> RunNews {
    RunNews::FailedTry(FailedTry { number, of: 6, why: why.to_owned(), pause_seconds: 8 })
}

impl Stage {
    fn news(&mut self, news: &RunNews, now: i64) {
        let (run, node) = self.runs[FILE];
        self.engine.run_news(node, run, news, at(now));
        self.proceed(now);
    }

    /// Up to a file that its node fetches.
    fn fetching() -> (Self, WorkflowId) {
        let mut stage = Self::new(&[(1, 4)]);
        let id = stage.submit(TRANSFERS, 1);
        stage.report("volume data", RunState::Running { started: at(1) }, 1);
        stage.end("volume data", OK, 1);
        stage.report(FILE, RunState::Running { started: at(2) }, 2);
        stage.lines.clear();
        (stage, id)
    }

    /// The reason of the file's stage, and those that `why` gives.
    fn reasons(&mut self, id: WorkflowId, now: i64) -> (Option<String>, Vec<String>) {
        let view = self.engine.view(at(0)).workflow(id).unwrap();
        let shown = view.stages.iter().find(|stage| stage.name == "data/in.tar").unwrap();
        let why = self.engine.view(at(0)).why(id, None, &BTreeMap::new(), at(now)).unwrap();
        let why = why.into_iter().filter(|waiting| waiting.stage == shown.index);
        (shown.reason.clone(), why.flat_map(|waiting| waiting.reasons).collect())
    }
}

#[test]
fn a_failed_try_is_shown_at_once_and_until_the_file_is_there() {
    let (mut stage, id) = Stage::fetching();
    assert_eq!(stage.reasons(id, 2), (None, Vec::new()));
    stage.news(&failed(1, "http://host/in.tar: refused\n\u{1b}[31m"), 3);
    let told =
        "try 1 of 6 failed: http://host/in.tar: refused  [31m; the next 8 s later".to_owned();
    assert_eq!(stage.reasons(id, 3), (Some(told.clone()), vec![told]));
    // A session that begins again tells it again.
    stage.news(&failed(1, "http://host/in.tar: refused\n\u{1b}[31m"), 4);
    stage.news(&failed(2, "http://host/in.tar answers 503"), 5);
    stage.news(&RunNews::Remark { text: "left out: a (a socket)".to_owned() }, 6);
    stage.news(&RunNews::Unknown, 6);
    let told = "try 2 of 6 failed: http://host/in.tar answers 503; the next 8 s later".to_owned();
    stage.tick(12);
    assert_eq!(stage.reasons(id, 12).0, Some(told));
    stage.tick(13);
    let told = "try 3 of 6 is under way; try 2 failed: http://host/in.tar answers 503".to_owned();
    assert_eq!(stage.reasons(id, 13).0, Some(told));
    stage.end(FILE, OK, 14);
    assert_eq!(stage.engine.view(at(0)).workflow(id).unwrap().stages[2].reason, None);
    stage.check(&expect![[r#"
        3   ERROR data/in.tar: file data/in.tar: try 1 of 6: http://host/in.tar: refused  [31m; next in 8 s
        5   ERROR data/in.tar: file data/in.tar: try 2 of 6: http://host/in.tar answers 503; next in 8 s
        6   FILE_TRANSFER_INFO data/in.tar: file data/in.tar: left out: a (a socket)
        14  FILE_TRANSFER_COMPLETED data/in.tar: file data/in.tar is done
        14  STAGE_FINISHED data/in.tar: finished
        14  DEPENDENCY_SATISFIED a: may begin
        14  STAGE_STARTED a: started
        14  RESOURCES_ALLOCATED a: job a goes to n1, CPUs 0, 1024 MiB
        14  -> n1 start job a ["x"] on [0] with [0]
        14  forget 2 of 1
    "#]]);
}

#[test]
fn a_failed_attempt_stands_with_its_stage_while_another_follows() {
    let (mut stage, id) = Stage::fetching();
    let gave_up =
        Outcome::Failed { why: "gave up after 6 tries: refused".to_owned(), transient: true };
    stage.end(FILE, gave_up, 40);
    let told = "attempt 1 failed: gave up after 6 tries: refused; the next 1 s later".to_owned();
    let (shown, why) = stage.reasons(id, 40);
    assert_eq!((shown.as_ref(), why.first()), (Some(&told), Some(&told)));
    stage.tick(42);
    let told =
        "attempt 2 is under way; attempt 1 failed: gave up after 6 tries: refused".to_owned();
    assert_eq!(stage.reasons(id, 42).0, Some(told), "while the second has not failed yet");
    stage.news(&failed(1, "refused"), 43);
    let told = "attempt 2, try 1 of 6 failed: refused; the next 8 s later".to_owned();
    assert_eq!(stage.reasons(id, 43).0, Some(told));

    // Its own timeout says what kept it.
    let cause = Some("try 1 of 6: http://host/in.tar: refused".to_owned());
    stage.end(FILE, Outcome::TimedOut { seconds: 240, cause }, 282);
    let view = stage.engine.view(at(0)).workflow(id);
    assert!(view.is_none(), "it is over");
    let lines = std::mem::take(&mut stage.lines);
    let last = lines.lines().find(|line| line.contains("WORKFLOW_FAILED")).unwrap();
    assert_eq!(
        last,
        "282 WORKFLOW_FAILED : file data/in.tar: ended by its timeout of 240 s: try 1 of 6: \
         http://host/in.tar: refused"
    );
}

#[test]
fn what_a_node_tells_is_bounded_and_is_of_its_own_runs() {
    let (mut stage, id) = Stage::fetching();
    let (run, _) = stage.runs[FILE];
    stage.engine.run_news(node_id(2), run, &failed(1, "x"), at(3));
    stage.engine.run_news(node_id(1), RunId(uuid::Uuid::from_u128(99)), &failed(1, "x"), at(3));
    stage.proceed(3);
    assert_eq!(stage.reasons(id, 3).0, None);
    for number in 0..1_000 {
        stage.news(&failed(number, &"long ".repeat(1_000)), 4);
    }
    assert_eq!(stage.lines.lines().count(), 64);
    assert!(stage.lines.lines().all(|line| line.chars().count() < 1_200));
    let shown = stage.reasons(id, 4).0.unwrap();
    assert!(shown.starts_with("try 999 of 6") && shown.chars().count() < 1_200);
}

#[test]
fn a_remark_is_taken_after_the_end_and_once() {
    let (mut stage, _) = Stage::fetching();
    let (run, node) = stage.runs[FILE];
    let remark = |text: &str| RunNews::Remark { text: text.to_owned() };
    stage.news(&remark("left out: a"), 3);
    // Its end comes with the list of a new session, and what was told before it again.
    let mut report = ended(run, OK, at(5));
    if let RunState::Ended(end) = &mut report.state {
        end.log_bytes = 30;
    }
    stage.engine.handle_report(node, &report, at(5));
    stage.proceed(5);
    for text in ["left out: a", "left out: b"] {
        stage.news(&remark(text), 6);
    }
    stage.news(&failed(1, "too late"), 6);
    let told: Vec<&str> =
        stage.lines.lines().filter(|line| line.contains("file data/in.tar: ")).collect();
    assert_eq!(
        told,
        [
            "3   FILE_TRANSFER_INFO data/in.tar: file data/in.tar: left out: a",
            "6   FILE_TRANSFER_INFO data/in.tar: file data/in.tar: left out: b",
        ]
    );
}

#[test]
fn a_log_that_is_not_kept_for_a_quota_is_told_once() {
    let (mut stage, id) = Stage::fetching();
    let (run, _) = stage.runs[FILE];
    for now in [3, 4] {
        stage.engine.quota_met(
            run,
            "a part of its log is not kept: ann has 5 bytes of logs",
            at(now),
        );
        stage.proceed(now);
    }
    let (shown, why) = stage.reasons(id, 4);
    assert_eq!(shown.as_ref(), why.first(), "{why:?}");
    assert!(shown.unwrap().starts_with("a part of it is not kept, for a quota of its user: "));
    stage.check(&expect![[r#"
        3   ERROR data/in.tar: file data/in.tar: a part of its log is not kept: ann has 5 bytes of logs
    "#]]);
}
