//! The table of the module's head, and what must hold over any sequence of events.

use super::*;
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const NOW: Timestamp = Timestamp(1_000_000_000);

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

fn show(n: u8) -> Event {
    Event::Show { token: digest(n), source: HERE, expected: Some(HERE) }
}

fn redeem(n: u8, key: u8, source: IpAddr) -> Event {
    Event::Redeem { token: digest(n), key: digest(key), source }
}

/// Runs events that come at once; returns the end and each verdict.
fn run(events: impl IntoIterator<Item = Event>) -> (Arming, Vec<Verdict>) {
    let mut arming = Arming::default();
    let mut verdicts = Vec::new();
    for event in events {
        let (next, verdict) = arming.step(event, NOW);
        arming = next;
        verdicts.push(verdict);
    }
    (arming, verdicts)
}

#[test]
fn a_boot_from_token_to_channel() {
    let (arming, verdicts) = run([show(1), redeem(1, 9, HERE), Event::Connected]);
    assert_eq!(verdicts, [Verdict::Allowed, Verdict::Granted, Verdict::Noted]);
    assert!(!arming.is_armed());
    assert_eq!(arming.step(show(2), NOW).1, Verdict::Refused(Refused::Connected));
    let (gone, _) = arming.step(Event::ChannelGone, NOW);
    assert!(gone.is_armed());
}

#[test]
fn no_second_token_while_a_boot_goes_on() {
    let (arming, _) = run([show(1), redeem(1, 9, HERE)]);
    assert_eq!(arming.step(show(2), NOW).1, Verdict::Refused(Refused::BootInProgress));
    for over in [Event::BootSeen, Event::BootFailed, Event::Ordered] {
        let (arming, _) = arming.step(over, NOW);
        assert_eq!(arming.step(show(2), NOW).1, Verdict::Allowed);
    }
}

#[test]
fn the_same_key_may_ask_again_and_no_other() {
    let (arming, verdicts) = run([show(1), redeem(1, 9, HERE), redeem(1, 9, HERE)]);
    assert_eq!(verdicts[2], Verdict::Granted);
    for thief in [redeem(1, 8, HERE), redeem(1, 9, THERE)] {
        let (disarmed, verdict) = arming.step(thief, NOW);
        assert_eq!(verdict, Verdict::Refused(Refused::SecondUse));
        assert_eq!(disarmed.step(show(2), NOW).1, Verdict::Refused(Refused::Disarmed));
    }
    let late = NOW.plus_seconds(TOKEN_SECONDS);
    let refused = arming.step(redeem(1, 9, HERE), late);
    assert_eq!(refused, (arming, Verdict::Refused(Refused::Expired)), "it disarms nobody");
}

#[test]
fn an_answer_that_was_lost_is_given_again_even_when_its_boot_counts_as_failed() {
    for meanwhile in [vec![Event::BootFailed], vec![Event::BootSeen, show(2)], vec![Event::Ordered]]
    {
        let before = [show(1), redeem(1, 9, HERE)];
        let (arming, _) = run(before.into_iter().chain(meanwhile.clone()));
        assert!(arming.is_armed());
        let (again, verdict) = arming.step(redeem(1, 9, HERE), NOW.plus_seconds(TOKEN_SECONDS - 1));
        assert_eq!(verdict, Verdict::Granted, "{meanwhile:?}");
        assert_eq!(again.spent(), arming.spent());
        assert!(again.is_in_use() && !again.is_armed());
        let late = arming.step(redeem(1, 9, HERE), NOW.plus_seconds(TOKEN_SECONDS));
        assert_eq!(late, (arming.clone(), Verdict::Refused(Refused::Expired)));
        for thief in [redeem(1, 8, HERE), redeem(1, 9, THERE)] {
            assert_eq!(arming.step(thief, NOW).1, Verdict::Refused(Refused::SecondUse));
        }
    }
    // Once its agent was there, or a person has spoken, nobody asks for it honestly.
    for over in [vec![Event::Connected, Event::ChannelGone], vec![Event::Revoked, Event::Ordered]] {
        let (arming, _) = run([show(1), redeem(1, 9, HERE)].into_iter().chain(over));
        assert!(arming.is_armed());
        assert_eq!(arming.step(redeem(1, 9, HERE), NOW).1, Verdict::Refused(Refused::SecondUse));
    }
}

#[test]
fn each_misuse_and_revocation_that_may_meet_tokens_that_are_out_is_counted_once() {
    let voids = |events: Vec<Event>| run(events).0.voids();
    let misuse = || redeem(1, 8, HERE);
    assert_eq!(voids(vec![show(1), redeem(1, 9, HERE), Event::Connected, Event::ChannelGone]), 0);
    assert_eq!(voids(vec![Event::Revoked]), 1);
    assert_eq!(voids(vec![Event::Revoked, Event::Revoked]), 1, "no token was made between");
    assert_eq!(voids(vec![Event::Revoked, Event::Ordered, show(1), Event::Revoked]), 2);
    assert_eq!(voids(vec![show(1), redeem(1, 9, HERE), misuse(), misuse(), misuse()]), 1);
}

#[test]
fn use_from_elsewhere_or_in_another_name_disarms() {
    for misuse in [redeem(1, 9, THERE), Event::ShownForOtherNode { token: digest(1) }] {
        let (arming, _) = run([show(1), misuse]);
        assert!(!arming.is_armed());
        let right = arming.step(redeem(1, 9, HERE), NOW);
        assert_eq!(right.1, Verdict::Refused(Refused::SecondUse), "the token is void");
        for weak in [Event::BootSeen, Event::BootFailed, Event::ChannelGone] {
            assert!(!arming.step(weak, NOW).0.is_armed());
        }
        assert!(arming.step(Event::Ordered, NOW).0.is_armed());
    }
}

#[test]
fn misuse_while_connected_disarms_when_the_channel_goes() {
    let (arming, verdicts) = run([
        show(1),
        redeem(1, 9, HERE),
        Event::Connected,
        redeem(1, 8, HERE),
        Event::ChannelGone,
    ]);
    assert_eq!(verdicts[3], Verdict::Refused(Refused::SecondUse));
    assert_eq!(arming.step(show(2), NOW).1, Verdict::Refused(Refused::Disarmed));
    let (pardoned, _) = run([
        show(1),
        redeem(1, 9, HERE),
        Event::Connected,
        redeem(1, 8, HERE),
        Event::Ordered,
        Event::ChannelGone,
    ]);
    assert!(pardoned.is_armed());
}

#[test]
fn a_revoked_node_gets_no_token_until_somebody_orders_it() {
    for before in [vec![], vec![show(1)], vec![show(1), redeem(1, 9, HERE), Event::Connected]] {
        let (revoked, _) =
            run(before.into_iter().chain([Event::Revoked, Event::ChannelGone, Event::BootSeen]));
        assert!(!revoked.is_armed() && !revoked.is_in_use());
        assert_eq!(revoked.step(show(2), NOW).1, Verdict::Refused(Refused::Disarmed));
        assert!(revoked.step(Event::Ordered, NOW).0.is_armed());
    }
    let (void, _) = run([show(1), Event::Revoked]);
    assert_ne!(void.step(redeem(1, 9, HERE), NOW).1, Verdict::Granted, "the token that was out");
}

#[test]
fn too_late_is_refused_and_leaves_the_node_armed() {
    let (arming, _) = run([show(1)]);
    let (arming, verdict) = arming.step(redeem(1, 9, HERE), NOW.plus_seconds(TOKEN_SECONDS));
    assert_eq!(verdict, Verdict::Refused(Refused::Expired));
    assert_eq!(arming.step(show(2), NOW).1, Verdict::Allowed);
}

#[test]
fn a_fetch_from_a_wrong_address_gets_nothing_and_changes_nothing() {
    let (before, _) = run([show(1)]);
    let foreign = Event::Show { token: digest(2), source: THERE, expected: Some(HERE) };
    assert_eq!(before.step(foreign, NOW), (before.clone(), Verdict::Refused(Refused::WrongSource)));
    let nowhere = Event::Show { token: digest(2), source: THERE, expected: None };
    assert_eq!(before.step(nowhere, NOW), (before.clone(), Verdict::Refused(Refused::NoAddress)));
}

#[test]
fn guessed_and_replaced_tokens_disarm_nobody() {
    let (arming, verdicts) = run([show(1), show(2), redeem(1, 9, HERE), redeem(7, 9, THERE)]);
    assert_eq!(
        verdicts[2..],
        [Verdict::Refused(Refused::Unknown), Verdict::Refused(Refused::Unknown)]
    );
    assert_eq!(arming.step(redeem(2, 9, HERE), NOW).1, Verdict::Granted);
}

#[test]
fn past_tokens_are_known_as_this_node_s_and_are_no_misuse() {
    let known = |arming: &Arming| arming.tokens().map(|token| token.0[0]).collect::<Vec<_>>();
    // Replaced, spent before the last one, expired.
    let (arming, _) =
        run([show(1), show(2), redeem(2, 9, HERE), Event::BootSeen, show(3), redeem(3, 9, HERE)]);
    assert_eq!(known(&arming), [3, 1, 2]);
    let (arming, _) = run([show(1)]);
    let (arming, _) = arming.step(redeem(1, 9, HERE), NOW.plus_seconds(TOKEN_SECONDS));
    assert_eq!(known(&arming), [1]);
    let again = arming.step(redeem(1, 9, HERE), NOW);
    assert_eq!(again, (arming.clone(), Verdict::Refused(Refused::Unknown)));
    let shown = arming.step(Event::ShownForOtherNode { token: digest(1) }, NOW);
    assert_eq!(
        shown,
        (arming, Verdict::Refused(Refused::Unknown)),
        "it is worth nothing to a thief"
    );
    // Four of them, whatever is tried.
    let (arming, _) = run((0..100).map(show));
    assert_eq!(known(&arming), [99, 95, 96, 97, 98]);
    // A row of an earlier release.
    let text = serde_json::to_string(&arming).unwrap();
    assert!(text.contains(r#""state":"issued""#), "the word that releases before wrote: {text}");
    let mut tree: serde_json::Value = serde_json::from_str(&text).unwrap();
    for later in ["past", "redeemed", "voids"] {
        tree.as_object_mut().unwrap().remove(later).unwrap();
    }
    assert_eq!(known(&serde_json::from_value(tree).unwrap()), [99]);
}

fn events() -> impl Strategy<Value = Vec<(Event, i64)>> {
    let address = prop_oneof![Just(HERE), Just(THERE)];
    let event = prop_oneof![
        (0..6u8, address.clone(), prop::option::of(address.clone()))
            .prop_map(|(n, source, expected)| Event::Show { token: digest(n), source, expected }),
        (address.clone(), prop::option::of(address.clone()))
            .prop_map(|(source, expected)| Event::Ask { source, expected }),
        (0..6u8, 0..3u8, address).prop_map(|(n, key, source)| redeem(n, key, source)),
        (0..6u8).prop_map(|n| Event::ShownForOtherNode { token: digest(n) }),
        Just(Event::Connected),
        Just(Event::ChannelGone),
        Just(Event::BootSeen),
        Just(Event::BootFailed),
        Just(Event::Ordered),
        Just(Event::Revoked),
    ];
    prop::collection::vec((event, prop_oneof![4 => Just(0), 1 => 0..1_000i64]), 0..40)
}
use proptest::strategy::Just;

proptest! {
    #[test]
    fn never_two_good_tokens_and_none_while_connected(events in events(), probe_key in any::<u8>()) {
        let mut arming = Arming::default();
        let mut now = NOW;
        let mut connected = false;
        let mut misused = false;
        for (event, pause) in events {
            now = now.plus_seconds(pause);
            let before = arming.clone();
            let (next, verdict) = arming.step(event.clone(), now);
            match (&event, &verdict) {
                (Event::Show { source, expected, .. }, Verdict::Allowed) => {
                    prop_assert!(!connected && !misused && Some(*source) == *expected);
                }
                (Event::Ask { source, expected }, Verdict::Allowed) => {
                    prop_assert!(!connected && !misused && Some(*source) == *expected);
                    prop_assert_eq!(&before, &next, "who asks changes nothing");
                }
                (Event::Show { .. } | Event::Ask { .. }, _) => prop_assert_eq!(&before, &next, "a refusal changes nothing"),
                (Event::Redeem { token, .. }, Verdict::Granted) => {
                    prop_assert!(!connected && before.tokens().any(|known| known == *token));
                }
                (_, Verdict::Refused(why)) if why.is_security() => misused = true,
                (Event::Connected, _) => connected = true,
                (Event::ChannelGone, _) => connected = false,
                // Its connection is closed with it.
                (Event::Revoked, _) => (connected, misused) = (false, true),
                (Event::Ordered, _) => misused = false,
                _ => {}
            }
            prop_assert!(!(next.is_armed() && (connected || misused)));
            // Whatever happened: with a key of its own, at most one token is good, from at
            // most one address.
            let key = probe_key | 0x80;
            let good = (0..6u8)
                .flat_map(|n| [HERE, THERE].map(|source| redeem(n, key, source)))
                .filter(|probe| next.step(probe.clone(), now).1 == Verdict::Granted)
                .count();
            prop_assert!(good <= 1);
            let kept = serde_json::to_string(&next).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Arming>(&kept).unwrap(), &next, "a restart changes nothing");
            arming = next;
        }
    }
}
