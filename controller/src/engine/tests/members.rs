//! Attempts of several members: prepared, released, ended together.

use super::*;

const PAIR: &str =
    "version: v1\njobs: {a: {image: docker://a, command: [x], policy: {retry: {attempts: 1}}}}";

impl Stage {
    /// Hands in a workflow whose jobs have attempts of so many members.
    fn submit_members(&mut self, text: &str, members: u32, now: i64) -> WorkflowId {
        let mut submission = submission(1, text);
        let jobs =
            submission.plan.stages.iter_mut().filter(|stage| stage.work.kind() == StageKind::Job);
        jobs.for_each(|stage| stage.members = members);
        let id = submission.id;
        self.engine.submit(submission, at(now));
        self.proceed(now);
        id
    }

    fn why(&mut self, id: WorkflowId, now: i64) -> String {
        let why = self.engine.view(at(0)).why(id, None, &BTreeMap::new(), at(now)).unwrap();
        why.into_iter().flat_map(|waiting| waiting.reasons).collect::<Vec<_>>().join("; ")
    }
}

/// Two nodes of one core each, and an attempt on both of which nothing is prepared.
fn pair() -> (Stage, WorkflowId) {
    let mut stage = Stage::new(&[(1, 1), (2, 1)]);
    let id = stage.submit_members(PAIR, 2, 1);
    assert_eq!(stage.runs.len(), 2);
    stage.lines.clear();
    (stage, id)
}

const BOTH: [&str; 2] = ["job a member 0", "job a member 1"];

/// Both members of the attempt that was placed are prepared, and then run.
fn run_both(stage: &mut Stage, now: i64) {
    for member in BOTH {
        stage.report(member, RunState::Prepared {}, now);
    }
    for member in BOTH {
        stage.report(member, RunState::Running { started: at(now + 1) }, now + 1);
    }
}

/// The same, released, and running.
fn running_pair() -> (Stage, WorkflowId) {
    let (mut stage, id) = pair();
    run_both(&mut stage, 2);
    stage.lines.clear();
    (stage, id)
}

#[test]
fn members_are_placed_prepared_and_released_together() {
    let mut stage = Stage::new(&[(1, 1)]);
    let id = stage.submit_members(PAIR, 2, 1);
    assert!(stage.runs.is_empty(), "half of it is nothing: {}", stage.lines);
    assert_eq!(stage.engine.cluster.free_cores(node_id(1)), 1);
    stage.engine.node_is(facts(2, 1, "boot1"), at(2));
    stage.proceed(2);
    stage.report("job a member 1", RunState::Preparing {}, 3);
    stage.report("job a member 1", RunState::Prepared {}, 3);
    assert_eq!(stage.why(id, 3), "job a: 1 of 2 members are prepared");
    stage.report("job a member 0", RunState::Prepared {}, 4);
    stage.report("job a member 1", RunState::Running { started: at(5) }, 5);
    stage.report("job a member 0", RunState::Ready { started: at(5) }, 5);
    stage.end("job a member 0", OK, 6);
    stage.end("job a member 1", OK, 7);
    stage.check(&expect![[r#"
        1   WORKFLOW_STARTED : w1 was handed in
        1   STAGE_STARTED docker://a: started
        1   IMAGE_PULL_STARTED docker://a: pulling a
        1   IMAGE_CACHE_HIT docker://a: sha256:0808080808080808080808080808080808080808080808080808080808080808 was here already, 4096 bytes
        1   STAGE_FINISHED docker://a: finished
        1   DEPENDENCY_SATISFIED a: may begin
        2   STAGE_STARTED a: started
        2   RESOURCES_ALLOCATED a: job a member 0 goes to n1, CPUs 0, 1024 MiB
        2   RESOURCES_ALLOCATED a: job a member 1 goes to n2, CPUs 0, 1024 MiB
        2   -> n1 start job a member 0 ["x"] on [0] with [0]
        2   -> n2 start job a member 1 ["x"] on [0] with [0]
        4   ATTEMPT_RELEASED a: job a: all 2 members are prepared
        4   -> n1 release 3
        4   -> n2 release 4
        5   CONTAINER_STARTED a: job a member 1 runs on n2
        5   CONTAINER_STARTED a: job a member 0 runs on n1
        6   CONTAINER_EXITED a: job a member 0 exited with status 0
        6   forget 3 of 1
        7   CONTAINER_EXITED a: job a member 1 exited with status 0
        7   STAGE_FINISHED a: finished
        7   WORKFLOW_FINISHED : finished
        7   forget 4 of 1
    "#]]);
}

#[test]
fn one_that_ends_badly_ends_the_attempt_which_is_tried_again_as_a_whole() {
    let (mut stage, _) = running_pair();
    stage.end("job a member 1", Outcome::Exited { code: 3 }, 4);
    stage.tick(10);
    assert!(!stage.lines.contains("RESOURCES_ALLOCATED"), "the other is not over: {}", stage.lines);
    stage.end("job a member 0", Outcome::Stopped { why: "as told".to_owned() }, 11);
    stage.tick(12);
    let lines = std::mem::take(&mut stage.lines);
    expect![[r#"
        4   CONTAINER_EXITED a: job a member 1 exited with status 3
        4   -> n1 stop 1: member 1 of its attempt: exited with status 3
        4   forget 2 of 1
        11  CONTAINER_EXITED a: job a member 0 stopped: as told; attempt 2 in 1 s
        11  forget 1 of 1
        12  RESOURCES_ALLOCATED a: job a member 0 goes to n1, CPUs 0, 1024 MiB
        12  RESOURCES_ALLOCATED a: job a member 1 goes to n2, CPUs 0, 1024 MiB
        12  -> n1 start job a member 0 ["x"] on [0] with [0]
        12  -> n2 start job a member 1 ["x"] on [0] with [0]
    "#]]
    .assert_eq(&lines);
}

#[test]
fn a_member_that_cannot_be_prepared_lets_none_start() {
    let (mut stage, _) = pair();
    stage.report("job a member 0", RunState::Prepared {}, 2);
    let outcome = Outcome::Failed { why: "disk full".to_owned(), transient: true };
    let end =
        RunEnd { started: None, ended: at(3), outcome, log_bytes: 0, usage: Usage::default() };
    stage.report("job a member 1", RunState::Ended(Box::new(end)), 3);
    stage.report("job a member 0", RunState::Prepared {}, 3);
    assert!(!stage.lines.contains("release"), "{}", stage.lines);
    assert!(
        stage.lines.contains("-> n1 stop 1: member 1 of its attempt: disk full"),
        "{}",
        stage.lines
    );
}

#[test]
fn a_lost_node_ends_the_attempt_and_the_others_are_told_again_when_they_come_back() {
    let (mut stage, _) = running_pair();
    stage.engine.node_is(NodeFacts { is_ready: false, ..facts(2, 1, "boot1") }, at(10));
    stage.tick(910);
    let told = "-> n1 stop 1: member 1 of its attempt: lost: n2 has not answered for 900 s";
    assert!(stage.lines.contains(told), "{}", stage.lines);
    // It did not hear of it.
    stage.lines.clear();
    let (run, node) = stage.runs["job a member 0"];
    stage.engine.runs_listed(node, "boot1", &BTreeMap::from([(run, false)]), at(920));
    stage.proceed(920);
    assert!(stage.lines.contains(told), "{}", stage.lines);
}

#[test]
fn a_paused_workflow_releases_nothing_until_it_goes_on() {
    let (mut stage, id) = pair();
    assert!(stage.engine.pause(id, true, "ann", at(2)));
    for member in ["job a member 0", "job a member 1"] {
        stage.report(member, RunState::Prepared {}, 3);
    }
    assert!(!stage.lines.contains("release"), "{}", stage.lines);
    assert!(stage.engine.pause(id, false, "ann", at(4)));
    stage.proceed(4);
    assert_eq!(stage.lines.matches("release ").count(), 2, "{}", stage.lines);
}

#[test]
fn an_agent_that_prepares_again_is_waited_for_again() {
    let (mut stage, _) = pair();
    stage.report("job a member 0", RunState::Prepared {}, 2);
    stage.report("job a member 0", RunState::Preparing {}, 3);
    stage.report("job a member 1", RunState::Prepared {}, 4);
    assert!(!stage.lines.contains("release"), "{}", stage.lines);
    stage.report("job a member 0", RunState::Prepared {}, 5);
    assert_eq!(stage.lines.matches("release ").count(), 2, "{}", stage.lines);
    stage.lines.clear();
    // One that was killed before it wrote that down is told again.
    stage.report("job a member 0", RunState::Prepared {}, 6);
    stage.check(&expect![[r#"
        6   -> n1 release 1
    "#]]);
}

#[test]
fn a_member_that_starts_by_itself_ends_the_attempt() {
    let (mut stage, _) = pair();
    stage.report("job a member 0", RunState::Running { started: at(2) }, 2);
    let told = "stop 2: member 0 of its attempt: it started before all members were prepared";
    assert!(stage.lines.contains(told), "{}", stage.lines);
    assert!(stage.lines.contains("stop 1: "), "{}", stage.lines);
}

#[test]
fn nodes_whose_agents_are_of_before_get_no_members() {
    let mut stage = Stage::new(&[(1, 1)]);
    stage.engine.node_is(NodeFacts { knows_attempts: Some(false), ..facts(2, 4, "boot1") }, at(0));
    let id = stage.submit_members(PAIR, 2, 1);
    assert!(stage.runs.is_empty(), "{}", stage.lines);
    let why = stage.why(id, 2);
    assert!(
        why.contains("the agents of 1 of 2 nodes know no attempts of several members"),
        "{why}"
    );
    stage.engine.node_is(facts(2, 4, "boot1"), at(3));
    stage.proceed(3);
    assert_eq!(stage.runs.len(), 2);
    // What one did not get yet is refused when its agent turns out to be of before.
    stage.engine.node_is(NodeFacts { knows_attempts: Some(false), ..facts(2, 4, "boot1") }, at(4));
    stage.proceed(4);
    assert!(stage.lines.contains("upgrade it with `bedplate node upgrade`"), "{}", stage.lines);
}

#[test]
fn what_an_agent_that_is_away_knows_is_what_it_knew() {
    let unknown = |number| NodeFacts { knows_attempts: None, ..facts(number, 1, "boot1") };
    let mut stage = Stage::new(&[(1, 1)]);
    // A server that was just started has heard no agent yet: what waits for one is not refused.
    stage.engine.node_is(unknown(2), at(0));
    let id = stage.submit_members(PAIR, 2, 1);
    assert_eq!(stage.runs.len(), 2, "{}", stage.lines);
    stage.engine.node_is(NodeFacts { is_ready: false, ..unknown(1) }, at(2));
    stage.engine.node_is(unknown(1), at(3));
    stage.proceed(3);
    assert!(!stage.lines.contains("upgrade it"), "{}", stage.lines);
    // It turns out to be of before, and stays that while it is away.
    stage.engine.node_is(NodeFacts { knows_attempts: Some(false), ..facts(2, 1, "boot1") }, at(4));
    stage.engine.node_is(unknown(2), at(5));
    stage.proceed(5);
    assert!(stage.lines.contains("upgrade it with `bedplate node upgrade`"), "{}", stage.lines);
    stage.end("job a member 0", Outcome::Stopped { why: "as told".to_owned() }, 5);
    let why = stage.why(id, 6);
    assert!(
        why.contains("the agents of 1 of 2 nodes know no attempts of several members"),
        "{why}"
    );
}

#[test]
fn a_release_is_written_with_its_runs() {
    let (mut stage, _) = pair();
    let runs: BTreeMap<RunId, NodeId> = stage.runs.values().copied().collect();
    let mut written = Vec::new();
    for (&run, &node) in &runs {
        let report = RunReport { run, state: RunState::Prepared {} };
        stage.engine.handle_report(node, &report, at(2));
        written = stage.engine.proceed(at(2)).writes;
    }
    let accepted = |write: &Write| match write {
        Write::Run(row) if row.accepted => Some(row.run),
        _ => None,
    };
    let accepted: BTreeSet<RunId> = written.iter().filter_map(accepted).collect();
    assert_eq!(
        accepted,
        runs.into_keys().collect::<BTreeSet<_>>(),
        "one of them would be begun again after a reboot"
    );
    let is_release = |write: &Write| matches!(write, Write::Attempt(row) if row.released.is_some());
    assert!(written.iter().any(is_release), "{written:?}");
}

#[test]
fn a_release_is_not_repeated_while_the_workflow_is_paused_or_the_attempt_ends() {
    let (mut stage, id) = pair();
    for member in BOTH {
        stage.report(member, RunState::Prepared {}, 2);
    }
    assert!(stage.engine.pause(id, true, "ann", at(3)));
    stage.proceed(3);
    stage.lines.clear();
    // One did not hear of it, and lists its prepared run.
    stage.report("job a member 0", RunState::Prepared {}, 4);
    assert_eq!(stage.lines, "");
    stage.report("job a member 1", RunState::Running { started: at(4) }, 4);
    stage.lines.clear();
    assert!(stage.engine.pause(id, false, "ann", at(5)));
    stage.proceed(5);
    assert_eq!(stage.lines.matches(" release ").count(), 1, "{}", stage.lines);
    assert!(stage.lines.contains("-> n1 release 1"), "{}", stage.lines);
    stage.end("job a member 1", Outcome::Exited { code: 3 }, 6);
    stage.lines.clear();
    stage.report("job a member 0", RunState::Prepared {}, 7);
    assert!(!stage.lines.contains("release"), "{}", stage.lines);
}

#[test]
fn what_keeps_a_member_from_its_end_counts_where_others_have_run() {
    let failed = Outcome::Failed { why: "disk full".to_owned(), transient: true };
    let refused = Outcome::Refused { why: "no memory".to_owned() };
    for outcome in [failed, refused] {
        let (mut stage, _) = running_pair();
        for now in [4, 20] {
            stage.end("job a member 1", outcome.clone(), now);
            stage.end("job a member 0", Outcome::Stopped { why: "as told".to_owned() }, now);
            stage.tick(now + 2);
            if now == 4 {
                run_both(&mut stage, now + 3);
            }
        }
        assert!(
            stage.lines.contains("STAGE_FAILED a: "),
            "one more attempt was granted: {}",
            stage.lines
        );
    }
}
