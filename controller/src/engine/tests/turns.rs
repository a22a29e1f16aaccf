//! Whose job is next.

use super::*;

/// A workflow of one user: so many tasks of a job of this name, each with so many cores.
fn tasks(
    stage: &mut Stage,
    number: u128,
    user: &str,
    job: &str,
    (count, cores): (u32, u32),
    now: i64,
) {
    let text = format!(
        "version: v1\njobs: {{{job}: {{image: docker://a, command: [x], task-array: {{start: 1, end: {count}}}, \
         policy: {{timeout: {{execute: 100s}}}}, resource: {{cpu: {{cores: {cores}}}, memory: {{size: 1MiB}}}}}}}}"
    );
    let owner = Owner { name: user.to_owned(), uid: 1001, gid: 100, groups: vec![] };
    stage.engine.submit(Submission { owner, ..submission(number, &text) }, at(now));
    stage.proceed(now);
}

/// Subjects of what runs.
fn running(stage: &Stage) -> Vec<&str> {
    stage.runs.keys().map(String::as_str).collect()
}

#[test]
fn the_other_users_job_is_next() {
    let mut stage = Stage::new(&[(1, 2)]);
    for number in 1..=20 {
        tasks(&mut stage, number, "ann", &format!("ann-{number}"), (100, 1), 1);
    }
    tasks(&mut stage, 30, "bob", "bob", (3, 1), 2);
    assert_eq!(running(&stage), ["job ann-1[1]", "job ann-1[2]"]);
    stage.end("job ann-1[1]", OK, 3);
    assert_eq!(running(&stage), ["job ann-1[2]", "job bob[1]"]);
    // Each has a core: the older job is next, then it is the other's turn.
    stage.end("job ann-1[2]", OK, 4);
    assert_eq!(running(&stage), ["job ann-1[3]", "job bob[1]"]);
    stage.end("job bob[1]", OK, 5);
    assert_eq!(running(&stage), ["job ann-1[3]", "job bob[2]"]);
    // Ann's next could have begun then and was passed over: it is first now, and bob's after it.
    stage.end("job bob[2]", OK, 6);
    assert_eq!(running(&stage), ["job ann-1[3]", "job ann-1[4]"]);
    stage.end("job ann-1[3]", OK, 7);
    assert_eq!(running(&stage), ["job ann-1[4]", "job bob[3]"]);
    // Who is alone has all of it.
    stage.end("job bob[3]", OK, 8);
    assert_eq!(running(&stage), ["job ann-1[4]", "job ann-1[5]"]);
}

/// The oldest job wants all cores. While it waits for the last one, another user's job, who holds
/// nothing, begins only if it is over before.
#[test]
fn the_oldest_job_keeps_its_reservation() {
    let mut stage = Stage::new(&[(1, 2)]);
    tasks(&mut stage, 1, "ann", "long", (1, 1), 0);
    tasks(&mut stage, 2, "ann", "wide", (1, 2), 10);
    tasks(&mut stage, 3, "bob", "bob", (1, 1), 20);
    assert_eq!(running(&stage), ["job long[1]"], "bob's would run until 120, wide begins at 100");
    stage.end("job long[1]", OK, 90);
    assert_eq!(running(&stage), ["job wide[1]"]);
    stage.end("job wide[1]", OK, 95);
    assert_eq!(running(&stage), ["job bob[1]"]);
}

/// Ann holds cores elsewhere, so it is always somebody else's turn. Her oldest job, which wants a
/// whole node, is passed over once and not again.
#[test]
fn a_wide_job_is_not_passed_over_for_ever() {
    let mut stage = Stage::new(&[(1, 4), (2, 2)]);
    tasks(&mut stage, 1, "ann", "hold", (1, 2), 0);
    tasks(&mut stage, 2, "cat", "cat", (4, 1), 0);
    tasks(&mut stage, 3, "ann", "wide", (1, 4), 0);
    tasks(&mut stage, 4, "bob", "bob", (100, 1), 1);
    for (task, now) in (1..=4).zip(50..) {
        stage.end(&format!("job cat[{task}]"), OK, now);
    }
    assert_eq!(running(&stage).len(), 5, "bob's four, in place of cat's: {:?}", running(&stage));
    for (task, now) in (1..=4).zip(60..) {
        stage.end(&format!("job bob[{task}]"), OK, now);
    }
    assert_eq!(running(&stage), ["job hold[1]", "job wide[1]"]);
}

/// The oldest job fits on no node. The next one waits for a whole node, and gets it, though it is
/// always somebody else's turn.
#[test]
fn a_job_that_fits_nowhere_keeps_no_reservation_from_the_next() {
    let mut stage = Stage::new(&[(1, 4), (2, 2)]);
    tasks(&mut stage, 1, "bob", "hold", (1, 2), 0);
    tasks(&mut stage, 2, "cat", "cat", (4, 1), 0);
    tasks(&mut stage, 3, "ann", "huge", (1, 8), 0);
    tasks(&mut stage, 4, "bob", "wide", (1, 4), 0);
    tasks(&mut stage, 5, "dan", "dan", (100, 1), 1);
    for (task, now) in (1..=4).zip(50..) {
        stage.end(&format!("job cat[{task}]"), OK, now);
    }
    assert_eq!(running(&stage).len(), 5, "dan's four, in place of cat's: {:?}", running(&stage));
    for (task, now) in (1..=4).zip(60..) {
        stage.end(&format!("job dan[{task}]"), OK, now);
    }
    assert_eq!(running(&stage), ["job hold[1]", "job wide[1]"]);
}

/// What the last run of the server left ends in time for a reservation, as what this
/// one began does.
#[test]
fn what_runs_is_known_to_end_by_its_limit() {
    let mut stage = Stage::new(&[(1, 2)]);
    tasks(&mut stage, 1, "ann", "a", (1, 1), 7);
    let ends = |stage: &Stage| {
        let workflow_state = stage.engine.workflow_states.values().next().unwrap();
        schedule::ends(workflow_state, workflow_state.runs.values().next().unwrap())
    };
    assert_eq!(ends(&stage), Some(107));
    stage.report("job a[1]", RunState::Running { started: at(9) }, 9);
    assert_eq!(ends(&stage), Some(109));
    let id = WorkflowId(uuid::Uuid::from_u128(1));
    assert!(stage.engine.pause(id, true, "ann", at(10)));
    assert_eq!(ends(&stage), None, "it stands still");
}

/// The order in which jobs are offered: what `workflow why` tells of it.
#[test]
fn a_job_knows_its_place_in_the_queue() {
    let mut stage = Stage::new(&[(1, 2)]);
    tasks(&mut stage, 1, "ann", "ann-1", (3, 1), 1);
    tasks(&mut stage, 2, "ann", "ann-2", (1, 1), 1);
    tasks(&mut stage, 3, "bob", "bob-1", (1, 1), 2);
    tasks(&mut stage, 4, "cat", "cat-1", (1, 1), 3);
    assert_eq!(running(&stage), ["job ann-1[1]", "job ann-1[2]"]);
    let places = |stage: &mut Stage| {
        let view = stage.engine.view(at(4));
        let told = |number: u128| {
            let id = WorkflowId(uuid::Uuid::from_u128(number));
            let why = view.why(id, None, &BTreeMap::new(), at(4)).unwrap();
            why.into_iter().flat_map(|one| one.reasons).last().unwrap()
        };
        [1, 2, 3, 4].map(told)
    };
    // Who holds nothing is before who does, though she is the oldest.
    let before = |count: u32| format!("{count} jobs are before it in the queue of jobs");
    let one = "1 job is before it in the queue of jobs".to_owned();
    let first = "it is the first in the queue of jobs".to_owned();
    assert_eq!(places(&mut stage), [before(2), before(3), first, one]);
}
