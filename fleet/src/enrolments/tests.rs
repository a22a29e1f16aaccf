//! Thefts that are seen, honest sequences that are not, and decisions.

use std::{collections::BTreeSet, time::Duration};

use fastrand::Rng;

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const NOW: Timestamp = Timestamp(1_795_464_000_000_000);

/// A node as the server sees it, at whole seconds of this process.
struct Stage {
    began: Instant,
    enrolments: Enrolments,
    connected: Option<u64>,
    /// What the clock on the wall says.
    wall: Timestamp,
}

impl Stage {
    fn new() -> Self {
        Self {
            began: crate::clock::monotonic(),
            enrolments: Enrolments::default(),
            connected: None,
            wall: NOW,
        }
    }

    fn at(&self, second: u64) -> Instant {
        self.began + Duration::from_secs(second)
    }

    fn enrol(&mut self, second: u64) -> u64 {
        let at = self.at(second);
        self.enrolments.enrol(HERE, self.wall, at)
    }

    /// A request over a connection that was accepted at this second, as
    /// `registry/admission.rs` deals with it.
    fn ask(&mut self, epoch: u64, accepted: u64) -> Result<NodeIdentityState, Revoked> {
        let accepted = self.at(accepted);
        let presented =
            PresentedCertificate { epoch, serial: "5a".to_owned(), address: HERE, accepted };
        self.enrolments.check(epoch)?;
        self.enrolments.seen(&presented, self.wall);
        if self.enrolments.is_news(&presented) {
            self.enrolments.learn(&presented, self.connected, self.wall);
        } else {
            let before = self.enrolments.clone();
            self.enrolments.learn(&presented, self.connected, self.wall);
            assert_eq!(before, self.enrolments, "what is no news changes nothing");
        }
        Ok(self.enrolments.standing(epoch))
    }

    fn connect(&mut self, epoch: u64, accepted: u64) {
        self.ask(epoch, accepted).unwrap();
        if self.enrolments.attach(epoch, "boot").is_ok() {
            self.connected = Some(epoch);
        }
    }

    fn cause(&self) -> Option<Cause> {
        self.enrolments.conflict().map(|conflict| conflict.cause.clone())
    }
}

#[test]
fn who_enrols_while_the_node_is_off_is_seen_with_its_first_word_after_the_node_is_back() {
    let mut stage = Stage::new();
    let thief = stage.enrol(1);
    assert_eq!(stage.ask(thief, 2), Ok(NodeIdentityState::Node), "nobody can tell yet");
    let node = stage.enrol(100);
    assert_eq!(stage.ask(node, 101), Ok(NodeIdentityState::Node));
    assert_eq!(
        stage.ask(thief, 2),
        Ok(NodeIdentityState::Superseded),
        "over its old connection it is told to come again"
    );
    assert_eq!(stage.cause(), None);
    assert_eq!(stage.ask(thief, 102), Ok(NodeIdentityState::Holder));
    assert_eq!(stage.cause(), Some(Cause::TwoAgents { older: thief, newer: node }));
    assert_eq!(stage.ask(node, 101), Ok(NodeIdentityState::Rival));
    stage.enrolments.revoke(Some(thief)).unwrap();
    assert_eq!((stage.cause(), stage.ask(node, 101)), (None, Ok(NodeIdentityState::Node)));
    assert_eq!(stage.ask(thief, 103), Err(Revoked { epoch: thief }));
}

#[test]
fn who_enrols_while_the_node_is_cut_off_is_seen_when_it_is_back_and_does_not_get_its_channel() {
    let mut stage = Stage::new();
    let node = stage.enrol(1);
    stage.connect(node, 2);
    stage.connected = None;
    let thief = stage.enrol(100);
    assert_eq!(stage.ask(thief, 101), Ok(NodeIdentityState::Node));
    stage.connect(node, 200);
    assert_eq!(stage.connected, Some(node));
    assert_eq!(stage.ask(thief, 201), Ok(NodeIdentityState::Rival));
    assert_eq!(stage.enrolments.attach(thief, "boot"), Err(NotTheNode::Rival));
    // Whatever boots meanwhile is heard as little.
    let again = stage.enrol(300);
    assert_eq!(stage.ask(again, 301), Ok(NodeIdentityState::Rival));
    assert_eq!(stage.cause(), Some(Cause::TwoAgents { older: node, newer: again }));
    stage.enrolments.trust(node).unwrap();
    assert_eq!((stage.cause(), stage.ask(node, 200)), (None, Ok(NodeIdentityState::Node)));
    for dead in [thief, again] {
        assert_eq!(stage.ask(dead, 400), Err(Revoked { epoch: dead }));
    }
    let next = stage.enrol(500);
    assert!(next > again, "no epoch comes again");
    assert_eq!(stage.ask(next, 501), Ok(NodeIdentityState::Node));
}

#[test]
fn who_is_connected_when_another_one_shows_up_keeps_the_channel() {
    let mut stage = Stage::new();
    let thief = stage.enrol(1);
    let node = stage.enrol(100);
    stage.connect(node, 101);
    assert_eq!(stage.ask(thief, 500), Ok(NodeIdentityState::Rival));
    assert_eq!(stage.ask(node, 501), Ok(NodeIdentityState::Holder), "its jobs go on");
}

#[test]
fn a_token_used_twice_is_a_conflict_until_the_node_enrols_again() {
    let mut stage = Stage::new();
    let first = stage.enrol(1);
    stage.enrolments.token_used_twice(HERE, NOW);
    assert_eq!(stage.cause(), Some(Cause::TokenUsedTwice { epoch: first, address: HERE }));
    assert_eq!(stage.ask(first, 2), Ok(NodeIdentityState::Holder), "its jobs go on");
    let second = stage.enrol(100);
    assert_eq!((stage.cause(), stage.ask(second, 101)), (None, Ok(NodeIdentityState::Node)));
    stage.ask(first, 102).unwrap();
    assert_eq!(stage.cause(), Some(Cause::TwoAgents { older: first, newer: second }));
    // Of two things that are wrong the worse is told.
    stage.enrolments.token_used_twice(HERE, NOW);
    assert_eq!(stage.cause(), Some(Cause::TwoAgents { older: first, newer: second }));
}

#[test]
fn all_certificates_are_dead_after_a_revocation_and_the_next_is_good() {
    let mut stage = Stage::new();
    let epochs = [stage.enrol(1), stage.enrol(2), stage.enrol(3)];
    stage.enrolments.revoke(None).unwrap();
    for epoch in [0, epochs[0], epochs[1], epochs[2]] {
        assert_eq!(stage.ask(epoch, 9), Err(Revoked { epoch }));
        assert_eq!(
            stage.enrolments.attach(epoch, "boot"),
            Err(NotTheNode::Revoked(Revoked { epoch }))
        );
        assert_eq!(stage.enrolments.trust(epoch), Err(Undecidable::Dead { epoch }));
    }
    assert_eq!(stage.enrolments.newest_good(), None);
    assert_eq!(stage.enrolments.revoke(Some(9)), Err(Undecidable::NotYet { epoch: 9, current: 3 }));
    let next = stage.enrol(10);
    assert_eq!(stage.ask(next, 11), Ok(NodeIdentityState::Node));
}

#[test]
fn certificates_of_releases_before_are_good_until_the_node_boots() {
    let mut stage = Stage::new();
    stage.connect(0, 1);
    assert_eq!(stage.connected, Some(0));
    assert_eq!(stage.enrol(100), 1);
    assert_eq!(stage.ask(0, 1), Ok(NodeIdentityState::Superseded));
    stage.ask(0, 101).unwrap();
    assert_eq!(stage.cause(), Some(Cause::TwoAgents { older: 0, newer: 1 }));
}

#[test]
fn certificates_that_are_newer_than_a_restored_database_count() {
    let mut stage = Stage::new();
    assert_eq!(stage.ask(7, 1), Ok(NodeIdentityState::Node));
    assert_eq!(stage.enrol(100), 8);
}

#[test]
fn what_cannot_be_read_lets_its_agent_go_on_and_gives_it_nothing_new() {
    let enrolments = Enrolments::unreadable(NOW);
    let mut stage = Stage { enrolments, ..Stage::new() };
    assert_eq!(stage.ask(5, 1), Ok(NodeIdentityState::Holder));
    stage.enrolments.trust(5).unwrap();
    assert_eq!(stage.ask(5, 2), Ok(NodeIdentityState::Node));
    assert_eq!(stage.ask(4, 3), Err(Revoked { epoch: 4 }));
}

#[test]
fn what_is_revoked_or_not_trusted_is_dead_though_it_is_newer_than_what_is_known() {
    // A restored backup, and what could not be read.
    let restored = || {
        let mut stage = Stage::new();
        (1..=5).for_each(|second| assert_eq!(stage.enrol(second), second));
        stage
    };
    let unreadable = || Stage { enrolments: Enrolments::unreadable(NOW), ..Stage::new() };
    for mut stage in [restored(), unreadable()] {
        stage.enrolments.revoke(None).unwrap();
        assert_eq!((stage.cause(), stage.enrolments.newest_good()), (None, None));
        assert_eq!(stage.ask(7, 10), Err(Revoked { epoch: 7 }));
        let next = stage.enrol(20);
        assert_eq!(stage.ask(next, 21), Ok(NodeIdentityState::Node));
        assert_eq!(stage.ask(7, 22), Err(Revoked { epoch: 7 }));
        assert_eq!(stage.enrol(30), next + 1, "it counts on from there");
    }
    let mut stage = restored();
    stage.enrolments.trust(5).unwrap();
    assert_eq!(stage.ask(5, 10), Ok(NodeIdentityState::Node));
    for dead in [4, 6, 7] {
        assert_eq!(stage.ask(dead, 11), Err(Revoked { epoch: dead }));
    }
    let next = stage.enrol(20);
    assert_eq!((stage.ask(next, 21), stage.cause()), (Ok(NodeIdentityState::Node), None));
    // Who says which are not the node leaves the later ones.
    let mut stage = restored();
    stage.enrolments.revoke(Some(4)).unwrap();
    assert_eq!(stage.ask(7, 10), Ok(NodeIdentityState::Node));
}

#[test]
fn part_of_what_cannot_be_read_decides_nothing() {
    let mut stage = unreadable_with(5);
    stage.enrolments.revoke(Some(5)).unwrap();
    assert_eq!(
        (stage.ask(5, 2), stage.cause()),
        (Err(Revoked { epoch: 5 }), Some(Cause::Unreadable {}))
    );
    stage.enrolments.revoke(None).unwrap();
    assert_eq!(stage.cause(), None);
}

/// Nothing could be read, and this one has asked since.
fn unreadable_with(epoch: u64) -> Stage {
    let mut stage = Stage { enrolments: Enrolments::unreadable(NOW), ..Stage::new() };
    assert_eq!(stage.ask(epoch, 1), Ok(NodeIdentityState::Holder));
    stage
}

#[test]
fn who_has_read_a_token_makes_no_conflict_about_an_enrolment_that_is_trusted() {
    let mut stage = Stage::new();
    let first = stage.enrol(1);
    stage.enrolments.token_used_twice(HERE, NOW);
    stage.enrolments.trust(first).unwrap();
    let before = stage.enrolments.clone();
    stage.enrolments.token_used_twice(HERE, NOW);
    assert_eq!(stage.enrolments, before);
    let second = stage.enrol(2);
    stage.enrolments.token_used_twice(HERE, NOW);
    assert_eq!(stage.cause(), Some(Cause::TokenUsedTwice { epoch: second, address: HERE }));
}

#[test]
fn both_claimants_are_shown_however_many_machines_boot_in_the_conflict() {
    let mut stage = Stage::new();
    let older = stage.enrol(1);
    let holder = stage.enrol(2);
    stage.connect(holder, 3);
    assert_eq!(stage.ask(older, 4), Ok(NodeIdentityState::Rival));
    let mut newest = 0;
    for second in 10..110 {
        newest = stage.enrol(second);
        stage.ask(newest, second).unwrap();
    }
    let shown = stage.enrolments.shown(stage.connected).unwrap();
    let epochs: BTreeSet<u64> = shown.enrolments.iter().map(|enrolment| enrolment.epoch).collect();
    assert_eq!(epochs.len(), MAX_KNOWN);
    assert!([older, holder, newest].iter().all(|epoch| epochs.contains(epoch)), "{shown:?}");
    assert_eq!(stage.ask(holder, 200), Ok(NodeIdentityState::Holder));
    // The trusted one stays too.
    stage.enrolments.trust(holder).unwrap();
    for second in 300..400 {
        stage.enrol(second);
    }
    assert!(stage.enrolments.known.contains_key(&holder));
}

#[test]
fn a_restart_keeps_all_but_the_moment_and_what_is_kept_is_bounded() {
    let mut stage = Stage::new();
    for second in 0..100 {
        let epoch = stage.enrol(second * 10);
        stage.connect(epoch, second * 10 + 1);
    }
    assert_eq!(stage.enrolments.known.len(), MAX_KNOWN);
    stage.ask(99, 2_000).unwrap();
    let text = serde_json::to_string(&stage.enrolments).unwrap();
    assert!(text.len() < 4_096, "{text}");
    stage.enrolments.enrolled = None;
    assert_eq!(serde_json::from_str::<Enrolments>(&text).unwrap(), stage.enrolments);
    assert_eq!(serde_json::from_str::<Enrolments>("{}").unwrap(), Enrolments::default());
    let shown = stage.enrolments.shown(Some(100)).unwrap();
    assert_eq!(shown.enrolments.len(), MAX_KNOWN);
    assert!(shown.enrolments[0].connected && shown.enrolments[0].epoch == 100, "{shown:?}");
}

/// One boot of an honest machine: all that it will ever send, by whether its power is on.
struct Boot {
    epoch: u64,
    /// When its connections were accepted.
    connections: Vec<u64>,
}

/// A machine that reboots, loses power, is cut off, fails to boot, restarts and upgrades its agent,
/// while the server restarts and its clock jumps; what was on its way arrives late.
fn honest(dice: &mut Rng) -> (Stage, u32) {
    let (mut stage, mut second, mut reboots) = (Stage::new(), 0, 0);
    // Of the releases before.
    let mut boot = Boot { epoch: 0, connections: vec![0] };
    for _ in 0..dice.usize(1..60) {
        second += dice.u64(1..5_000);
        match dice.u8(0..8) {
            // It boots: the earlier agent is gone, but for what is on its way.
            0..=2 => {
                let epoch = stage.enrol(second);
                let gone = std::mem::replace(&mut boot, Boot { epoch, connections: Vec::new() });
                reboots += 1;
                for _ in 0..dice.usize(0..4) {
                    if let Some(accepted) = dice.choice(&gone.connections) {
                        stage.ask(gone.epoch, *accepted).unwrap();
                    }
                }
                stage.connected = None;
                // One in four fails after it has enrolled, and nothing more is heard of it.
                if dice.u8(0..4) > 0 {
                    stage.connect(epoch, second + 1);
                    boot.connections.push(second + 1);
                }
            }
            // Its agent comes again: a cut, a restart, an upgrade. A renewal keeps the epoch.
            3..=5 => {
                stage.connect(boot.epoch, second);
                boot.connections.push(second);
                for _ in 0..dice.usize(0..5) {
                    stage.ask(boot.epoch, *dice.choice(&boot.connections).unwrap()).unwrap();
                }
            }
            // The server comes again: its connections are gone, and with them what was on its way.
            6 => {
                let kept = serde_json::to_string(&stage.enrolments).unwrap();
                stage.enrolments = serde_json::from_str(&kept).unwrap();
                boot.connections.clear();
                stage.connect(boot.epoch, second);
                boot.connections.push(second);
            }
            // The clock of the wall is set.
            _ => stage.wall = stage.wall.plus_seconds(dice.i64(-100_000..100_000)),
        }
    }
    (stage, reboots)
}

#[test]
fn five_hundred_honest_sequences_make_no_alarm_and_a_thief_in_each_does() {
    let (mut reboots, mut epochs) = (0, BTreeSet::new());
    for seed in 0..500 {
        let (mut stage, count) = honest(&mut Rng::with_seed(seed));
        assert_eq!(stage.cause(), None, "seed {seed}");
        reboots += count;
        epochs.insert(stage.enrolments.current());
        // Each of its earlier enrolments, if somebody had kept it, is seen with its first word.
        let last = 10_000_000;
        let earlier = stage.enrolments.current();
        stage.enrol(last);
        stage.ask(earlier, last + 1).unwrap();
        assert!(matches!(stage.cause(), Some(Cause::TwoAgents { .. })), "seed {seed}");
    }
    assert!(
        reboots > 1_000 && epochs.len() > 10,
        "{reboots} reboots: they are no sequences of nothing"
    );
}
