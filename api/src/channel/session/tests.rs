//! Two halves over a connection that breaks anywhere.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

impl Message for u64 {
    fn needs(&self) -> Option<Capability> {
        None
    }
}

impl Message for &str {
    fn needs(&self) -> Option<Capability> {
        self.starts_with("new:").then_some(Capability::Unsupported)
    }
}

/// What happens next; indexes choose among what is possible.
#[derive(Debug, Clone)]
enum Step {
    /// A side sends a message.
    Send { left: bool },
    /// The oldest frame on the way to a side arrives, and it acknowledges or doesn't.
    Deliver { left: bool, acknowledge: bool },
    /// The connection breaks with all that is on the way, and comes back.
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(|left| Step::Send { left }),
        5 => any::<(bool, bool)>().prop_map(|(left, acknowledge)| Step::Deliver { left, acknowledge }),
        1 => Just(Step::Cut),
    ]
}

#[derive(Default)]
struct Side {
    session: Session<u64>,
    said: Vec<u64>,
    heard: Vec<u64>,
    /// On the way to this side.
    coming: VecDeque<Frame<u64>>,
}

fn deliver(to: &mut Side, from: &mut Side, acknowledge: bool) {
    let Some(frame) = to.coming.pop_front() else { return };
    if let Some(message) = to.session.receive(frame).unwrap() {
        to.heard.push(message);
        to.session.done();
    }
    if acknowledge {
        from.coming.push_back(to.session.acknowledgement());
    }
}

fn reconnect(a: &mut Side, b: &mut Side) {
    a.coming.clear();
    b.coming.clear();
    let (heard_by_a, heard_by_b) = (a.session.received(), b.session.received());
    a.session.acknowledge(heard_by_b).unwrap();
    b.session.acknowledge(heard_by_a).unwrap();
    b.coming.extend(a.session.unacknowledged());
    a.coming.extend(b.session.unacknowledged());
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_swapped_over_any_cuts(steps in prop::collection::vec(step(), 0..400)) {
        let (mut a, mut b) = (Side::default(), Side::default());
        for (number, step) in (1_u64..).zip(steps) {
            match step {
                Step::Send { left } => {
                    let (from, to) = if left { (&mut a, &mut b) } else { (&mut b, &mut a) };
                    to.coming.push_back(from.session.send(number).unwrap());
                    from.said.push(number);
                }
                Step::Deliver { left: true, acknowledge } => deliver(&mut a, &mut b, acknowledge),
                Step::Deliver { left: false, acknowledge } => deliver(&mut b, &mut a, acknowledge),
                Step::Cut => reconnect(&mut a, &mut b),
            }
            prop_assert!(a.said.starts_with(&b.heard) && b.said.starts_with(&a.heard));
        }
        reconnect(&mut a, &mut b);
        while !a.coming.is_empty() || !b.coming.is_empty() {
            let quiet = a.session.is_acknowledged() && b.session.is_acknowledged();
            deliver(&mut a, &mut b, !quiet);
            deliver(&mut b, &mut a, !quiet);
        }
        prop_assert_eq!(&a.said, &b.heard);
        prop_assert_eq!(&b.said, &a.heard);
        prop_assert!(a.session.is_acknowledged() && b.session.is_acknowledged());
    }

    #[test]
    fn any_frame_is_taken_or_refused_and_never_breaks_the_count(
        frames in prop::collection::vec((0_u64..6, 0_u64..6, any::<bool>()), 0..60),
    ) {
        let mut session: Session<u64> = Session::default();
        for number in 1..=3 {
            session.send(number).unwrap();
        }
        let mut heard = 0;
        for (seq, ack, speaks) in frames {
            let before = session.clone();
            match session.receive(Frame { seq, ack, message: speaks.then_some(()) }) {
                Ok(Some(())) => {
                    heard += 1;
                    prop_assert_eq!(seq, heard);
                    session.done();
                }
                Ok(None) => prop_assert!(!speaks || seq <= heard),
                Err(SessionError::OtherSession { .. }) => {
                    prop_assert!(ack > 3);
                    prop_assert_eq!(session.unacknowledged().count(), before.unacknowledged().count());
                }
                Err(_) => prop_assert!(speaks && (seq == 0 || seq > heard + 1)),
            }
            prop_assert_eq!(session.received(), heard);
        }
    }
}

#[test]
fn a_peer_that_acknowledges_nothing_is_given_up() {
    let mut session = Session::default();
    for number in 0..MAX_UNACKNOWLEDGED as u64 {
        session.send(number).unwrap();
    }
    assert_eq!(session.send(0), Err(SendError::Full));
    session.acknowledge(1).unwrap();
    assert_eq!(session.send(0).unwrap().seq, MAX_UNACKNOWLEDGED as u64 + 1);
}

#[test]
fn a_message_is_acknowledged_only_after_it_was_dealt_with() {
    let mut session = Session::<u64>::default();
    let frame = |seq| Frame { seq, ack: 0, message: Some(seq) };
    assert_eq!(session.receive(frame(1)), Ok(Some(1)));
    assert_eq!(session.received(), 0);
    assert_eq!(session.receive(frame(1)), Ok(Some(1)), "resent on another connection");
    session.done();
    assert_eq!(session.received(), 1);
    assert_eq!(session.receive(frame(1)), Ok(None));
    assert_eq!(session.receive(frame(3)), Err(SessionError::Gap { expected: 2, found: 3 }));
    assert_eq!(session.receive(frame(0)), Err(SessionError::Unnumbered));
}

#[test]
fn nothing_is_sent_that_the_other_side_did_not_offer() {
    let mut session = Session::default();
    let refused = Err(SendError::NotOffered(Capability::Unsupported));
    assert_eq!(session.send("new: a"), refused);
    session.agree(Capabilities::all());
    assert_eq!(
        session.send("new: b").map(|frame| frame.seq),
        Ok(1),
        "the refused one took no number"
    );
    session.send("old").unwrap();
    session.restart(Capabilities::default(), |_| true);
    let left: Vec<_> = session.unacknowledged().filter_map(|frame| frame.message).collect();
    assert_eq!(left, ["old"], "the next server is of an older release");
    assert_eq!(session.send("new: c"), refused);
}

#[test]
fn a_new_session_numbers_what_is_kept_from_one() {
    let mut session = Session::default();
    for message in ["kept", "dropped", "kept too"] {
        session.send(message).unwrap();
    }
    session.receive(Frame { seq: 1, ack: 0, message: Some(()) }).unwrap();
    session.done();
    session.restart(Capabilities::default(), |message| message.starts_with("kept"));
    let frames: Vec<_> = session.unacknowledged().collect();
    let frame = |seq, message| Frame { seq, ack: 0, message: Some(message) };
    assert_eq!(frames, [frame(1, "kept"), frame(2, "kept too")]);
}
