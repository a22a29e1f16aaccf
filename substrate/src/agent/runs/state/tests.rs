//! Orders against the core.

use api::run::{FailedTry, RunUser, Work};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::*;
use crate::samples;

fn run(number: u8) -> RunId {
    RunId(uuid::Uuid::from_bytes([number; 16]))
}

fn spec(number: u8) -> Box<RunSpec> {
    Box::new(RunSpec {
        run: run(number),
        workflow: WorkflowId(uuid::Uuid::from_bytes([1; 16])),
        subject: format!("job j{number}"),
        user: RunUser { name: "u".into(), uid: 1000, gid: 1000, groups: Vec::new() },
        work: Work::Volume { volume: "v".into(), limit_bytes: None },
        timeout_seconds: 10,
        forbidden: Vec::new(),
        awaits_release: false,
    })
}

fn running(number: u8) -> RunReport {
    RunReport { run: run(number), state: RunState::Running { started: Timestamp(5) } }
}

fn ended(number: u8, code: i32) -> RunReport {
    let outcome = Outcome::Exited { code };
    let end = RunEnd {
        started: Some(Timestamp(5)),
        ended: Timestamp(6),
        outcome,
        log_bytes: 3,
        usage: Usage::default(),
    };
    RunReport { run: run(number), state: RunState::Ended(Box::new(end)) }
}

fn stop(number: u8) -> ServerRequest {
    ServerRequest::Stop { run: run(number), grace_seconds: 3, why: "because".into() }
}

/// The next report of a run.
fn said(core: &mut Core) -> Option<RunReport> {
    match core.take_pending_report()? {
        FromAgent::Run { report } => Some(report),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_is_accepted_once_and_only_goes_forward() {
    let mut core = Core::default();
    assert_eq!(core.order(ServerRequest::Start(spec(1)), Timestamp(1)), [Effect::Accept(spec(1))]);
    assert_eq!(core.order(ServerRequest::Start(spec(1)), Timestamp(1)), []);
    assert_eq!(said(&mut core).unwrap().state, RunState::Preparing {});
    assert!(core.advanced(running(1)));
    assert!(!core.advanced(running(1)));
    assert!(core.advanced(ended(1, 7)));
    assert!(!core.advanced(running(1)));
    assert!(!core.advanced(ended(1, 0)));
    // Only its last state is said.
    assert_eq!(said(&mut core), Some(ended(1, 7)));
    assert_eq!(said(&mut core), None);
    assert_eq!(core.order(ServerRequest::Start(spec(1)), Timestamp(9)), []);
    assert_eq!(core.list(), [ended(1, 7)]);
}

#[test]
fn that_a_run_has_begun_may_wait_and_is_never_said_after_its_end() {
    let mut core = Core::default();
    core.order(ServerRequest::Start(spec(1)), Timestamp(1));
    core.order(ServerRequest::Start(spec(2)), Timestamp(1));
    assert!(core.has_urgent(), "the server must know that it is here");
    core.advanced(running(1));
    assert_eq!(said(&mut core), Some(running(1)), "it is accepted, and has begun");
    assert_eq!(said(&mut core).unwrap(), RunReport { run: run(2), state: RunState::Preparing {} });
    core.advanced(running(2));
    assert!(core.has_pending_reports() && !core.has_urgent());
    core.advanced(ended(2, 0));
    assert!(core.has_urgent());
    assert_eq!(said(&mut core), Some(ended(2, 0)));
    assert!(!core.has_pending_reports());
}

#[test]
fn only_what_has_ended_is_forgotten() {
    let mut core = Core::default();
    core.adopt(run(1), running(1).state);
    core.adopt(run(2), ended(2, 0).state);
    let forget = ServerRequest::Forget(vec![run(1), run(2), run(3)]);
    assert_eq!(core.order(forget.clone(), Timestamp(1)), [Effect::Delete(run(2))]);
    assert_eq!(core.order(forget, Timestamp(1)), []);
    assert_eq!(core.list(), [running(1)]);
}

#[test]
fn a_stop_reaches_what_lives_and_is_answered_for_what_does_not() {
    let mut core = Core::default();
    core.adopt(run(1), running(1).state);
    core.adopt(run(2), ended(2, 7).state);
    let effect = Effect::Stop { run: run(1), grace_seconds: 3, why: "because".into() };
    assert_eq!(core.order(stop(1), Timestamp(1)), [effect]);
    assert_eq!(core.order(stop(2), Timestamp(1)), []);
    assert_eq!(said(&mut core), Some(ended(2, 7)));
    assert_eq!(core.order(stop(3), Timestamp(1)), []);
    let state = never(Timestamp(1), Outcome::Stopped { why: "because".into() });
    assert_eq!(said(&mut core), Some(RunReport { run: run(3), state }));
    // It was told, it is not held.
    assert_eq!(core.list().len(), 2);
}

#[test]
fn what_cannot_be_kept_is_refused_and_may_come_again() {
    let mut core = Core::default();
    core.order(ServerRequest::Start(spec(1)), Timestamp(1));
    core.not_accepted(run(1), "no space".into(), Timestamp(2));
    let state = never(Timestamp(2), Outcome::Failed { why: "no space".into(), transient: true });
    assert_eq!(said(&mut core), Some(RunReport { run: run(1), state }));
    assert_eq!(core.order(ServerRequest::Start(spec(1)), Timestamp(3)), [Effect::Accept(spec(1))]);

    let mut core = Core::default();
    for number in 0..MAX_RUNS_PER_NODE {
        core.adopt(RunId(uuid::Uuid::from_u128(number as u128)), RunState::Preparing {});
    }
    assert_eq!(core.order(ServerRequest::Start(spec(1)), Timestamp(1)), []);
    let why = "the node already holds 4096 runs".to_owned();
    let state = never(Timestamp(1), Outcome::Failed { why, transient: true });
    assert_eq!(said(&mut core), Some(RunReport { run: run(1), state }));
}

proptest! {
    /// After any history the list and what was said agree, and no run was accepted twice.
    #[test]
    fn nothing_is_lost_or_done_twice(history in proptest::collection::vec(step(), 0..60)) {
        let mut core = Core::default();
        let mut accepted = std::collections::BTreeSet::new();
        let mut heard: BTreeMap<RunId, RunState> = BTreeMap::new();
        for step in history {
            let effects = match step {
                Step::ServerRequest(order) => core.order(order, Timestamp(1)),
                Step::Advance(report) => { core.advanced(report); Vec::new() }
                Step::Say => {
                    if let Some(report) = said(&mut core) {
                        if let Some(before) = heard.get(&report.run) {
                            assert!(rank(before) <= rank(&report.state));
                        }
                        heard.insert(report.run, report.state);
                    }
                    Vec::new()
                }
            };
            for effect in effects {
                match effect {
                    Effect::Accept(spec) => assert!(accepted.insert(spec.run)),
                    // The server does not use it again; this history may.
                    Effect::Delete(run) => { accepted.remove(&run); heard.remove(&run); }
                    _ => {}
                }
            }
        }
        while let Some(report) = said(&mut core) {
            heard.insert(report.run, report.state);
        }
        for report in core.list() {
            assert_eq!(heard.get(&report.run), Some(&report.state));
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    ServerRequest(ServerRequest),
    Advance(RunReport),
    Say,
}

/// Stops are left out: that of an unknown run is told as its end.
fn step() -> impl Strategy<Value = Step> {
    let number = 0..4_u8;
    prop_oneof![
        number.clone().prop_map(|number| Step::ServerRequest(ServerRequest::Start(spec(number)))),
        number
            .clone()
            .prop_map(|number| Step::ServerRequest(ServerRequest::Forget(vec![run(number)]))),
        number.clone().prop_map(|number| Step::Advance(running(number))),
        (number, any::<bool>()).prop_map(|(number, bad)| Step::Advance(ended(number, bad.into()))),
        Just(Step::Say),
    ]
}

#[test]
fn a_node_that_refuses_says_so_before_what_it_refuses() {
    let mut core = Core::default();
    core.refuse(None);
    assert!(!core.has_pending_reports());
    core.refuse(Some("no memory".into()));
    assert_eq!(core.order(ServerRequest::Start(Box::new(samples::job_run(1))), Timestamp(7)), []);
    let refusing = FromAgent::Refusing { reason: Some("no memory".into()) };
    assert_eq!(core.take_pending_report().as_ref(), Some(&refusing));
    let refused = never(Timestamp(7), Outcome::Refused { why: "no memory".into() });
    assert_eq!(said(&mut core), Some(RunReport { run: run(1), state: refused }));
    // What belongs to a workflow that runs here already is begun.
    assert_eq!(core.order(ServerRequest::Start(spec(2)), Timestamp(7)).len(), 1);
    // A new session is told.
    core.list();
    assert_eq!(core.take_pending_report(), Some(refusing));
    core.refuse(None);
    assert_eq!(core.take_pending_report(), Some(FromAgent::Refusing { reason: None }));
    assert_eq!(
        core.order(ServerRequest::Start(Box::new(samples::job_run(1))), Timestamp(8)).len(),
        1,
        "it is no run that was"
    );
}

#[test]
fn what_is_over_or_unknown_is_not_paused() {
    let mut core = Core::default();
    core.order(ServerRequest::Start(spec(1)), Timestamp(7));
    let pause = |number| ServerRequest::Pause { run: run(number), paused: true };
    assert_eq!(core.order(pause(1), Timestamp(7)), [Effect::Pause { run: run(1), paused: true }]);
    core.advanced(ended(1, 7));
    assert_eq!(core.order(pause(1), Timestamp(7)), []);
    assert_eq!(core.order(pause(2), Timestamp(7)), []);
}

#[test]
fn what_happened_is_said_before_the_end_and_again_in_each_session() {
    let mut core = Core::default();
    core.order(ServerRequest::Start(spec(1)), Timestamp(1));
    let failed = |number| {
        RunNews::FailedTry(FailedTry { number, of: 6, why: "w".to_owned(), pause_seconds: 1 })
    };
    let remark = || RunNews::Remark { text: "t".to_owned() };
    let news = |core: &mut Core| match core.take_pending_report() {
        Some(FromAgent::RunNews { news, .. }) => Some(news),
        _ => None,
    };
    core.happened(run(1), failed(1));
    core.happened(run(2), failed(1));
    core.happened(run(1), failed(2));
    for _ in 0..9 {
        core.happened(run(1), remark());
    }
    assert!(core.has_urgent());
    assert_eq!(news(&mut core), Some(failed(2)), "of tries the last one matters");
    assert_eq!(news(&mut core), Some(remark()));
    // A session begins again: all of it, once.
    core.list();
    core.happened(run(1), failed(3));
    core.advanced(running(1));
    core.advanced(ended(1, 0));
    for _ in 0..MAX_REMARKS {
        assert_eq!(news(&mut core), Some(remark()));
    }
    assert_eq!(news(&mut core), Some(failed(3)));
    assert_eq!(said(&mut core), Some(ended(1, 0)));
    assert_eq!(core.take_pending_report(), None);
    // What is over is told by its end, but for remarks.
    core.happened(run(1), failed(4));
    core.list();
    for _ in 0..MAX_REMARKS {
        assert_eq!(news(&mut core), Some(remark()));
    }
    assert_eq!(core.take_pending_report(), None);
    core.order(ServerRequest::Forget(vec![run(1)]), Timestamp(9));
    core.list();
    assert_eq!(core.take_pending_report(), None);
}

#[test]
fn a_run_is_released_until_it_runs() {
    let mut core = Core::default();
    assert_eq!(core.order(ServerRequest::Release(run(1)), Timestamp(1)), [], "it is not known");
    core.order(ServerRequest::Start(spec(1)), Timestamp(1));
    assert_eq!(core.order(ServerRequest::Release(run(1)), Timestamp(1)), [Effect::Release(run(1))]);
    let prepared = RunReport { run: run(1), state: RunState::Prepared {} };
    assert!(core.advanced(prepared.clone()));
    assert_eq!(said(&mut core), Some(prepared), "in place of its acceptance, and at once");
    assert_eq!(core.order(ServerRequest::Release(run(1)), Timestamp(1)), [Effect::Release(run(1))]);
    core.advanced(running(1));
    assert_eq!(core.order(ServerRequest::Release(run(1)), Timestamp(1)), []);
}
