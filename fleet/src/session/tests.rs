//! Resending, and that nothing is lost or doubled whatever connection breaks when.

use api::channel::FromAgent;
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::*;

fn beat(seq: u64, ack: u64) -> Frame<FromAgent> {
    Frame { seq, ack, message: Some(FromAgent::Heartbeat { uptime_seconds: seq }) }
}

#[test]
fn frames_are_taken_in_order_once() {
    let mut session = Session::default();
    assert!(session.receive(beat(1, 0)).unwrap().is_some());
    assert_eq!(session.received(), 0, "not acknowledged before it was dealt with");
    session.done();
    assert_eq!(session.received(), 1);
    assert_eq!(session.receive(beat(1, 0)), Ok(None));
    assert_eq!(session.receive(beat(3, 0)), Err(SessionError::Gap { expected: 2, found: 3 }));
    assert_eq!(session.receive(beat(0, 0)), Err(SessionError::Unnumbered));
    assert_eq!(session.receive(Frame { seq: 0, ack: 0, message: None }), Ok(None));
}

#[test]
fn what_is_not_acknowledged_is_kept_up_to_a_limit() {
    let mut session = Session::default();
    for _ in 0..MAX_UNACKNOWLEDGED {
        session.send(FromServer::SendInventory {}).unwrap();
    }
    assert_eq!(session.send(FromServer::SendInventory {}), Err(SessionError::Unacknowledged));
    session.acknowledge(1_000).unwrap();
    let kept: Vec<u64> = session.unacknowledged().map(|frame| frame.seq).collect();
    assert_eq!(kept, (1_001..=1_024).collect::<Vec<_>>());
    assert_eq!(
        session.acknowledge(1_025),
        Err(SessionError::Acknowledged { acknowledged: 1_025, sent: 1_024 })
    );
}

proptest! {
    /// The agent sends `n` messages; each connection carries some frames, then breaks, perhaps before the answer.
    #[test]
    fn nothing_is_lost_or_doubled(cuts in prop::collection::vec((0..6usize, any::<bool>()), 0..20), n in 0..30u64) {
        let mut session = Session::default();
        let mut taken = Vec::new();
        let mut acknowledged = 0;
        let last = [(usize::MAX, true)];
        for (carried, answered) in cuts.into_iter().chain(last) {
            for seq in (acknowledged + 1..=n).take(carried) {
                if let Some(FromAgent::Heartbeat { uptime_seconds }) = session.receive(beat(seq, 0)).unwrap() {
                    taken.push(uptime_seconds);
                    session.done();
                }
            }
            if answered {
                acknowledged = session.received();
            }
        }
        prop_assert_eq!(taken, (1..=n).collect::<Vec<_>>());
    }
}
