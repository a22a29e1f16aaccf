//! Who is admitted, and who goes for it.

use proptest::prelude::*;

use super::*;
use crate::tftp::transfer::FIRST_TIMEOUT;

const LIMITS: Limits = Limits { in_all: 64, per_source: 8 };

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
fn start() -> Instant {
    Instant::now()
}

fn source(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + number)
}

/// Opens transfers that nobody answers; the ids of those that were ended for them.
fn flood(
    admission: &mut Admission,
    sources: impl Iterator<Item = u32>,
    now: Instant,
) -> Vec<TransferId> {
    let admitted = sources.filter_map(|number| admission.admit(source(number), now));
    admitted.filter_map(|admitted| admitted.instead_of).collect()
}

#[test]
fn one_source_with_thousands_of_half_open_requests_has_its_share_and_no_more() {
    let (mut admission, now) = (Admission::new(LIMITS), start());
    let ended = flood(&mut admission, std::iter::repeat_n(1, 4_200), now);
    assert_eq!((admission.running(), ended.len()), (8, 4_192), "they displace each other");
    let good = admission.admit(source(2), now).unwrap();
    assert_eq!(good.instead_of, None);
}

#[test]
fn invented_sources_displace_each_other_and_nobody_who_receives() {
    let (mut admission, now) = (Admission::new(LIMITS), start());
    let good = admission.admit(source(1), now).unwrap().id;
    admission.progressed(good, now);
    let later = now + IDLE * 1_000;
    admission.progressed(good, later);
    let ended = flood(&mut admission, 2..10_002, later);
    assert_eq!(admission.running(), LIMITS.in_all);
    assert!(!ended.contains(&good));
    let next = admission.admit(source(1), later).unwrap();
    assert!(next.instead_of.is_some_and(|ended| ended != good), "a good client gets in at once");
}

#[test]
fn of_those_that_were_answered_the_one_that_is_silent_for_longest_goes() {
    let limits = Limits { in_all: 3, per_source: 3 };
    let (mut admission, now) = (Admission::new(limits), start());
    let ids: Vec<TransferId> =
        (1..=3).map(|n| admission.admit(source(n), now).unwrap().id).collect();
    for (step, &id) in (0..).zip(&ids) {
        admission.progressed(id, now + IDLE * step);
    }
    admission.progressed(ids[0], now + IDLE * 3);
    let admitted = admission.admit(source(4), now + IDLE * 3).unwrap();
    assert_eq!(admitted.instead_of, Some(ids[1]));
}

#[test]
fn where_all_receive_a_new_one_waits() {
    let limits = Limits { in_all: 2, per_source: 2 };
    let (mut admission, now) = (Admission::new(limits), start());
    for number in 1..=2 {
        let id = admission.admit(source(number), now).unwrap().id;
        admission.progressed(id, now);
    }
    assert_eq!(admission.admit(source(3), now), None);
    assert!(admission.admit(source(3), now + IDLE).is_some());
}

#[test]
fn a_client_that_lost_a_packet_keeps_its_place_while_that_is_sent_again() {
    let limits = Limits { in_all: 1, per_source: 1 };
    let (mut admission, now) = (Admission::new(limits), start());
    let id = admission.admit(source(1), now).unwrap().id;
    admission.progressed(id, now);
    let sent_again = now + FIRST_TIMEOUT;
    assert_eq!(admission.admit(source(2), sent_again), None);
    assert_eq!(admission.admit(source(2), sent_again + Duration::from_millis(1_999)), None);
    assert!(admission.admit(source(2), sent_again + Duration::from_secs(2)).is_some());
}

#[test]
fn what_ended_takes_no_place() {
    let (mut admission, now) = (Admission::new(LIMITS), start());
    for _ in 0..1_000 {
        let id = admission.admit(source(1), now).unwrap().id;
        admission.progressed(id, now);
        admission.ended(id);
        admission.ended(id);
        admission.progressed(id, now);
    }
    assert_eq!(admission.running(), 0);
    assert!(admission.by_source.is_empty() && admission.ranks.is_empty());
}

proptest! {
    #[test]
    fn no_limit_is_passed_and_no_transfer_is_counted_twice(
        steps in prop::collection::vec((0..4_u8, 0..12_u32, 0..800_u64), 0..400),
    ) {
        let limits = Limits { in_all: 10, per_source: 3 };
        let (mut admission, mut now) = (Admission::new(limits), start());
        let mut known: Vec<TransferId> = Vec::new();
        for (what, number, pause) in steps {
            now += Duration::from_millis(pause);
            let picked = known.get(usize::try_from(number).unwrap() % known.len().max(1)).copied();
            match (what, picked) {
                (0 | 1, _) => known.extend(admission.admit(source(number), now).map(|new| new.id)),
                (2, Some(id)) => admission.progressed(id, now),
                (_, Some(id)) => admission.ended(id),
                (_, None) => {}
            }
            prop_assert!(admission.running() <= limits.in_all);
            prop_assert!(admission.by_source.values().all(|own| own.len() <= limits.per_source));
            prop_assert_eq!(admission.ranks.len(), admission.running.len());
            let by_source: usize = admission.by_source.values().map(BTreeSet::len).sum();
            prop_assert_eq!(by_source, admission.running.len());
        }
    }
}
