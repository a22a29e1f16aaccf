//! What is said of a log, and how long it is waited for: rows and clocks in, words and pauses out.

use std::sync::atomic::{AtomicU64, Ordering};

use api::ids::{NodeId, Timestamp};
use expect_test::expect;

use super::*;

fn row(outcome: Option<Outcome>) -> RunRow {
    RunRow {
        run: RunId(uuid::Uuid::from_u128(1)),
        workflow: WorkflowId(uuid::Uuid::from_u128(2)),
        stage: StageId(0),
        task: 7,
        attempt: 2,
        member: 0,
        node: NodeId(uuid::Uuid::from_u128(3)),
        node_name: "n1".parse().unwrap(),
        boot: "boot1".to_owned(),
        grant: None,
        placed: Timestamp(1),
        accepted: true,
        started: Some(Timestamp(2)),
        ended: outcome.as_ref().map(|_| Timestamp(3)),
        outcome,
        usage: api::run::Usage::default(),
        log_bytes: 3_000_000,
    }
}

fn node(phase: Option<Phase>, boot: &str) -> LogNode {
    LogNode { phase, boot: Some(boot.to_owned()) }
}

#[test]
fn a_log_is_complete_coming_or_cut_and_the_reason_is_given() {
    let (ready, lost) = (node(Some(Phase::Ready), "boot1"), node(Some(Phase::Lost), "boot1"));
    let (rebooted, deleted) = (node(Some(Phase::Ready), "boot2"), node(None, "boot1"));
    let exited = || row(Some(Outcome::Exited { code: 0 }));
    let gone = row(Some(Outcome::Lost { why: "n1 was rebooted".to_owned(), rebooted: true }));
    let gone = RunRow { log_bytes: 0, ..gone };
    let init = Outcome::Lost { why: "the container's init is gone".to_owned(), rebooted: false };
    let init = || row(Some(init.clone()));
    let mut text = String::new();
    for (row, here, is_held, node) in [
        (row(None), 5, true, &ready),
        (exited(), 3_000_000, true, &ready),
        (exited(), 700_000, true, &ready),
        (exited(), 700_000, true, &lost),
        (exited(), 3_000_000, false, &lost),
        (exited(), 700_000, false, &lost),
        (exited(), 700_000, false, &rebooted),
        (exited(), 700_000, false, &deleted),
        (gone, 700_000, false, &ready),
        (init(), 700_000, true, &ready),
        (init(), 3_000_000, false, &ready),
    ] {
        let status = status(&row, here, is_held, node);
        assert_eq!((status.task, status.attempt, status.here), (7, 2, here));
        let words = status.shortfall().unwrap_or_default();
        text += &format!("{} {:?}: {words}\n", status.state.as_str(), status.bytes);
    }
    expect![[r#"
        open None: 
        complete Some(3000000): 
        arriving Some(3000000): the log has not arrived whole yet: 700000 of 3000000 bytes are here; n1 is still sending the rest
        arriving Some(3000000): the log has not arrived whole yet: 700000 of 3000000 bytes are here; n1, which has the rest, is not connected
        complete Some(3000000): 
        incomplete Some(3000000): the log is not whole: 700000 of 3000000 bytes are here; the node was lost before the rest of the log arrived: n1 did not send it within 600 s of its end
        incomplete Some(3000000): the log is not whole: 700000 of 3000000 bytes are here; the node was lost before the rest of the log arrived: n1 was rebooted
        incomplete Some(3000000): the log is not whole: 700000 of 3000000 bytes are here; the node was lost before the rest of the log arrived: n1 was deleted
        incomplete None: the log is not whole: 700000 bytes are here, of an unknown number; the attempt was lost before the rest of its log was known: n1 was rebooted
        arriving Some(3000000): the log has not arrived whole yet: 700000 of 3000000 bytes are here; n1 is still sending the rest
        incomplete None: the log is not whole: 3000000 bytes are here, of an unknown number; the attempt was lost before the rest of its log was known: the container's init is gone
    "#]]
    .assert_eq(&text);
}

#[test]
fn what_grows_is_waited_for_and_what_stalls_is_not() {
    let (begin, stall) = (Instant::now(), Duration::from_secs(30));
    let after = |seconds| begin + Duration::from_secs(seconds);
    let ready = node(Some(Phase::Ready), "boot1");
    let arriving = |here| status(&row(Some(Outcome::Exited { code: 0 })), here, true, &ready);
    let mut waiting = Waiting::new(stall);
    assert_eq!(waiting.pause(&status(&row(None), 0, true, &ready), begin), Some(LOOK_AGAIN));
    assert_eq!(waiting.pause(&arriving(0), begin), Some(LOOK_AGAIN));
    assert_eq!(waiting.pause(&arriving(1), after(29)), Some(LOOK_AGAIN));
    assert_eq!(waiting.pause(&arriving(1), after(58)), Some(LOOK_AGAIN));
    assert_eq!(waiting.pause(&arriving(1), after(59)), None);
    let mut waiting = Waiting::new(stall);
    assert_eq!(waiting.pause(&arriving(3_000_000), begin), None, "whole");
}

#[tokio::test]
async fn a_reader_of_an_ended_attempt_gets_its_answer_when_the_last_byte_is_here() {
    let ended = row(Some(Outcome::Exited { code: 0 }));
    let ready = node(Some(Phase::Ready), "boot1");
    let (here, grown) = (AtomicU64::new(0), watch::channel(None).0);
    let look = || status(&ended, here.load(Ordering::SeqCst), true, &ready);
    let mut listening = grown.subscribe();
    let growing = async {
        for length in [700_000, 1_000_000, 3_000_000] {
            tokio::time::sleep(Duration::from_millis(5)).await;
            here.store(length, Ordering::SeqCst);
            grown.send_replace(Some((ended.run, length)));
        }
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = arrived(look, &mut listening, Duration::from_secs(30)) => status,
        () = growing => unreachable!("it never ends"),
    };
    assert_eq!((status.state, status.here), (LogState::Complete, 3_000_000));

    here.store(5, Ordering::SeqCst);
    let status = arrived(look, &mut listening, Duration::from_millis(20)).await;
    assert_eq!((status.state, status.here), (LogState::Arriving, 5), "it stalls");
    let status =
        arrived(|| super::status(&row(None), 5, true, &ready), &mut listening, STALL).await;
    assert_eq!(status.state, LogState::Open, "nobody waits for what is not over");
}
