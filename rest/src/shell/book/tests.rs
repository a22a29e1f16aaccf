//! Who is let in, and who has to go.

use std::time::Duration;

use super::*;
use crate::shell::Deadlines;

const ME: &str = "10.0.0.1";

fn limits() -> Limits {
    let deadlines = Deadlines {
        settling: Duration::from_secs(1),
        stale: Duration::from_secs(10),
        ..Deadlines::default()
    };
    Limits {
        connections: 12,
        unproven: 16,
        unproven_per_address: 4,
        body_bytes: 1,
        unproven_body_bytes: 1,
        deadlines,
    }
}

fn source(address: &str) -> Source {
    Source::of(address.parse().unwrap())
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Was this connection told to end?
fn is_kicked(entered: &Entered) -> bool {
    let notified = std::pin::pin!(entered.kick.notified());
    notified.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
}

#[test]
fn an_address_has_its_share_and_its_oldest_silent_connection_goes_for_a_new_one() {
    let now = Instant::now();
    let mut book = ConnectionTable::new(limits(), now);
    let mut enter = |address, at| book.enter(Listener::Api, source(address), at);
    let first = enter(ME, now).unwrap();
    for _ in 1..4 {
        assert!(enter(ME, now).unwrap().evicted.is_empty());
    }
    assert_eq!(enter(ME, now).unwrap_err(), Cause::Address, "those before are too young to go");
    assert!(
        enter("10.0.0.2", now).unwrap().evicted.is_empty(),
        "another address has its own share"
    );
    assert_eq!(enter(ME, now + seconds(1)).unwrap().evicted, [Listener::Api]);
    assert!(is_kicked(&first));
    assert_eq!(book.leaving(), 1);
    book.leave(first.id);
    assert_eq!(book.leaving(), 0);
}

#[test]
fn who_has_proved_something_is_not_counted_by_address() {
    let now = Instant::now();
    let mut book = ConnectionTable::new(limits(), now);
    for _ in 0..11 {
        let entered = book.enter(Listener::Fleet, source(ME), now).unwrap();
        assert!(entered.evicted.is_empty());
        book.prove(entered.id);
    }
    assert_eq!(book.open(Listener::Fleet), (11, 11));
    let stranger = book.enter(Listener::Fleet, source(ME), now).unwrap();
    // All places are taken: the one that has proved nothing goes, the others never.
    let next = book.enter(Listener::Fleet, source("10.0.0.2"), now).unwrap();
    assert!(is_kicked(&stranger));
    book.prove(next.id);
    assert_eq!(
        book.enter(Listener::Fleet, source(ME), now + seconds(3_600)).unwrap_err(),
        Cause::All
    );
}

#[test]
fn a_flood_at_one_listener_leaves_the_others_their_places() {
    let limits = Limits { connections: 100, unproven_per_address: 100, ..limits() };
    let now = Instant::now();
    let mut book = ConnectionTable::new(limits, now);
    for count in 0..100_u64 {
        let entered = book.enter(Listener::Boot, source(ME), now + seconds(count)).unwrap();
        assert_eq!(entered.evicted.len(), usize::from(count >= 12));
    }
    assert_eq!(book.open(Listener::Boot), (12, 0), "all but what is kept for the two others");
    for listener in [Listener::Fleet, Listener::Api] {
        for _ in 0..2 {
            assert!(book.enter(listener, source(ME), now).unwrap().evicted.is_empty());
        }
        assert_eq!(book.enter(listener, source(ME), now).unwrap().evicted, [listener]);
    }
}

#[test]
fn a_download_that_goes_on_is_not_ended_for_silent_connections() {
    let now = Instant::now();
    let mut book = ConnectionTable::new(limits(), now);
    let ids: Vec<Id> =
        (0..4).map(|_| book.enter(Listener::Api, source(ME), now).unwrap().id).collect();
    for &id in &ids {
        book.set_phase(id, Phase::Busy, now);
    }
    assert_eq!(
        book.enter(Listener::Api, source(ME), now + seconds(9)).unwrap_err(),
        Cause::Address
    );
    for &id in &ids[1..] {
        book.set_phase(id, Phase::Busy, now + seconds(9));
    }
    let entered = book.enter(Listener::Api, source(ME), now + seconds(10)).unwrap();
    assert_eq!(entered.evicted.len(), 1, "the one that has stood still for ten seconds went");
    book.set_phase(ids[0], Phase::Busy, now + seconds(11));
    assert_eq!(book.open(Listener::Api), (4, 0), "who is gone does not come back");
}

/// The boot port with room for 24 strangers of whatever address, whose share is four each.
fn full_of_one_address(phase: Phase) -> (ConnectionTable, Instant, Vec<Entered>) {
    let limits = Limits { connections: 100, unproven: 32, ..limits() };
    let now = Instant::now();
    let mut book = ConnectionTable::new(limits, now);
    assert!(book.enter(Listener::Boot, source("10.0.0.2"), now).unwrap().evicted.is_empty());
    let flood: Vec<Entered> = (0..23)
        .map(|_| book.enter(Listener::Boot, source(ME), now + seconds(1)).unwrap())
        .inspect(|entered| assert!(entered.evicted.is_empty()))
        .collect();
    for entered in &flood {
        book.set_phase(entered.id, phase, now + seconds(1));
    }
    (book, now + seconds(3), flood)
}

#[test]
fn nodes_that_boot_behind_one_address_have_all_places_that_nobody_else_wants() {
    for phase in [Phase::Waiting, Phase::Busy] {
        let (mut book, now, flood) = full_of_one_address(phase);
        // Others come: one of the many goes for each, though the other address has the oldest.
        for (count, address) in ["10.0.0.2", "10.0.0.3", "10.0.0.3"].into_iter().enumerate() {
            let entered = book.enter(Listener::Boot, source(address), now).unwrap();
            assert_eq!(entered.evicted, [Listener::Boot]);
            assert!(is_kicked(&flood[count]), "{phase:?}: the oldest first");
        }
        assert_eq!(book.sources[&(Listener::Boot, source("10.0.0.2"))].len(), 2);
        // The many come again, and take no place of another.
        let again = book.enter(Listener::Boot, source(ME), now);
        match phase {
            Phase::Waiting => assert_eq!(again.unwrap().evicted, [Listener::Boot]),
            Phase::Busy => assert_eq!(again.unwrap_err(), Cause::Unproven),
        }
        assert_eq!(book.sources[&(Listener::Boot, source("10.0.0.2"))].len(), 2);
        // What they have there is not counted where they show their tokens.
        assert!(book.enter(Listener::Fleet, source(ME), now).unwrap().evicted.is_empty());
    }
}

#[test]
fn addresses_of_one_ipv6_network_are_one_source() {
    assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
    assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
    assert_ne!(source("10.0.0.2"), source("10.0.0.1"));
}

proptest::proptest! {
    /// Whatever happens, the limits hold, and counts and queues agree.
    #[test]
    fn the_limits_always_hold(steps in proptest::collection::vec((0..6_u8, 0..5_u8, 0..3_usize, 0..40_u64), 0..300)) {
        let limits = limits();
        let (mut now, mut ids) = (Instant::now(), Vec::new());
        let mut book = ConnectionTable::new(limits, now);
        for (what, who, listener, wait) in steps {
            now += Duration::from_millis(wait * 100);
            let listener = Listener::ALL[listener];
            let id = ids.get(usize::from(who) % ids.len().max(1)).copied().unwrap_or(0);
            match what {
                0..=2 => {
                    let source = Source::of(std::net::Ipv4Addr::from([10, 0, 0, who]).into());
                    if let Ok(entered) = book.enter(listener, source, now) {
                        ids.push(entered.id);
                    }
                }
                3 => book.set_phase(id, Phase::Busy, now),
                4 => book.prove(id),
                _ => {
                    ids.retain(|other| *other != id);
                    book.leave(id);
                }
            }
            proptest::prop_assert!(book.entries.len() <= limits.connections);
            let open: usize = Listener::ALL.iter().map(|&listener| book.open(listener).0).sum();
            proptest::prop_assert_eq!(open, book.entries.len());
            proptest::prop_assert!(book.unproven_taken() <= limits.unproven);
            for ((listener, source), queue) in &book.sources {
                proptest::prop_assert!((1..=limits.of_one_address(*listener)).contains(&queue.len()));
                proptest::prop_assert!(book.largest[listener.index()].contains(&(queue.len(), *source)));
            }
            let ranked: usize = book.largest.iter().map(BTreeSet::len).sum();
            proptest::prop_assert_eq!(ranked, book.sources.len());
            let by_source: usize = book.sources.values().map(Queue::len).sum();
            let by_listener: usize = book.listeners.iter().map(Queue::len).sum();
            let counted = book.entries.values().filter(|entry| entry.unproven.is_some()).count();
            proptest::prop_assert_eq!([by_source, by_listener], [counted, counted]);
        }
    }
}

#[test]
fn what_connections_note_themselves_is_known_when_somebody_has_to_go() {
    let now = Instant::now();
    let mut book = ConnectionTable::new(limits(), now);
    let entered: Vec<Entered> =
        (0..4).map(|_| book.enter(Listener::Api, source(ME), now).unwrap()).collect();
    // The first is busy, the second waits for a while, the third waits since its last request.
    assert!(entered[0].now.note(Phase::Busy, now + seconds(3)));
    assert!(entered[2].now.note(Phase::Busy, now + seconds(1)));
    assert!(entered[2].now.note(Phase::Waiting, now + seconds(2)));
    for kicked in [1, 3, 2] {
        book.enter(Listener::Api, source(ME), now + seconds(4)).unwrap();
        let gone: Vec<bool> = entered.iter().map(is_kicked).collect();
        assert!(gone[kicked], "{kicked}: {gone:?}");
    }
    assert!(
        book.enter(Listener::Api, source(ME), now + seconds(4)).is_err(),
        "the others are too young"
    );
    // The book knows that the first is busy, so it has to be told that it is no longer.
    assert!(!entered[0].now.note(Phase::Waiting, now + seconds(4)));
    book.set_phase(entered[0].id, Phase::Waiting, now + seconds(4));
    assert!(entered[0].now.note(Phase::Busy, now + seconds(5)));
}
