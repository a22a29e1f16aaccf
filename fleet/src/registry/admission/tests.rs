//! Honest machines through all that fleet knows of a node: life, tokens, enrolments and the link.

use std::{net::Ipv4Addr, time::Duration};

use api::{
    channel::{Agreement, Capabilities},
    ids::Digest,
    status::NodeConflict,
};
use fastrand::Rng;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::{
    clock,
    config::Deadlines,
    connection::{Connection, Outgoing},
    lifecycle::{AgentInstance, Event, Limits, NodeLifecycle},
    register::NodeChange,
    store::{NodeRow, RegisterChange, StoredNode},
};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// The server with one node.
struct Site {
    registry: Registry,
    id: NodeId,
    began: Instant,
    second: u64,
    tokens: u8,
}

/// What is on a machine from a boot until the next.
#[derive(Debug, Clone)]
struct Boot {
    epoch: u64,
    number: u32,
    /// When its connections were accepted.
    connections: Vec<u64>,
}

impl Site {
    fn new() -> Self {
        let id = NodeId(uuid::Uuid::from_u128(7));
        let row = NodeRow {
            id,
            name: "n1".parse().unwrap(),
            life: NodeLifecycle::new(Timestamp(0)),
            arming: crate::arming::Arming::default(),
            enrolments: Enrolments::default(),
            history: 0,
        };
        let registry = Registry::new(Vec::new(), limits(), Timestamp(0));
        registry.apply(RegisterChange { added: vec![row], ..RegisterChange::default() });
        Self { registry, id, began: clock::monotonic(), second: 0, tokens: 0 }
    }

    fn now(&self) -> Timestamp {
        Timestamp(0).plus_seconds(i64::try_from(self.second).unwrap())
    }

    fn at(&self, second: u64) -> Instant {
        self.began + Duration::from_secs(second)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Change<'_>) -> T) -> T {
        self.registry.update(self.id, self.now(), change).unwrap().0
    }

    fn is_armed(&self) -> bool {
        self.registry.status(self.id).unwrap().armed
    }

    fn conflict(&self) -> Option<NodeConflict> {
        self.registry.status(self.id).unwrap().conflict
    }

    /// Its firmware asks for an address, and its boot for a token, which it gets: the connection of
    /// the boot before is known to be gone.
    fn token(&mut self) -> Digest {
        self.tokens = self.tokens.wrapping_add(1);
        let token = Digest([self.tokens; 32]);
        self.gone();
        self.change(|change| change.apply_event(Event::Offered { address: HERE }));
        let show = arming::Event::Show { token, source: HERE, expected: Some(HERE) };
        assert_eq!(self.change(|change| change.token(show)), Verdict::Allowed);
        token
    }

    fn redeem(&self, token: Digest, key: u8) -> (Verdict, u64) {
        let (key, at) = (Digest([key; 32]), self.at(self.second));
        let redeem = arming::Event::Redeem { token, key, source: HERE };
        self.change(|change| {
            let redeemed = change.redeem(redeem, HERE, at);
            if redeemed.0 == Verdict::Granted {
                change.apply_event(Event::CertificateIssued { address: HERE });
            }
            redeemed
        })
    }

    /// A request over a connection that was accepted at this second.
    fn ask(&self, epoch: u64, accepted: u64) -> NodeIdentityState {
        let accepted = self.at(accepted);
        let presented =
            PresentedCertificate { epoch, serial: "5a".to_owned(), address: HERE, accepted };
        self.registry.admit(self.id, &presented, self.now()).unwrap().unwrap().standing
    }

    /// The agent dials now. A cut connection is still there at the server's end, and is replaced.
    fn connect(&mut self, boot: &mut Boot, instance: u64) {
        self.gone();
        assert_eq!(self.ask(boot.epoch, self.second), NodeIdentityState::Node);
        boot.connections.push(self.second);
        let connection = Connection {
            epoch: boot.epoch,
            outgoing: mpsc::channel::<Outgoing>(1).0,
            closing: watch::channel(None).0,
            applied: None,
            told: None,
            tell_again: None,
        };
        let boot_id = format!("boot {}", boot.number);
        let agent = AgentInstance { boot_id: boot_id.clone(), instance: instance.to_string() };
        let (version, image) = ("1".to_owned(), "debian-node@2".to_owned());
        let agreement = Agreement { protocol: 1, capabilities: Capabilities::default() };
        self.change(|change| {
            change.enrolments(|enrolments, _| enrolments.attach(boot.epoch, &boot_id)).unwrap();
            change.entry.link.connect(connection, &agreement, false, 0);
            change.apply_event(Event::Connected { agent, version, image, address: HERE });
            change.apply_event(Event::InventoryStored { changed: false, news: Vec::new() });
        });
    }

    /// The server sees that the connection is gone.
    fn gone(&self) {
        self.change(|change| {
            change.entry.link.disconnect();
            change.apply_event(Event::Disconnected { why: "cut".to_owned() });
        });
    }

    /// The server stops and starts.
    fn restart(&mut self) {
        let (batch, _) = self.registry.take(true);
        let kept = serde_json::to_string(&batch.nodes[0].enrolments).unwrap();
        let row =
            NodeRow { enrolments: serde_json::from_str(&kept).unwrap(), ..batch.nodes[0].clone() };
        self.registry =
            Registry::new(vec![StoredNode { row, unreadable: None }], limits(), self.now());
    }
}

fn limits() -> Limits {
    Limits { deadlines: Deadlines::default(), grace_seconds: 60 }
}

/// One honest machine for a while. Returns how often it booted.
fn honest(site: &mut Site, dice: &mut Rng) -> u32 {
    // Enrolled with a release that did not count.
    let mut boot = Boot { epoch: 0, number: 0, connections: Vec::new() };
    site.connect(&mut boot, 0);
    for step in 1..dice.u64(2..60) {
        site.second += dice.u64(1..400);
        match dice.u8(0..10) {
            0..=3 => boot = rebooted(site, dice, &boot),
            // A cut, a restart of the agent, an upgrade: it dials again, and says this and that.
            4..=6 => {
                site.connect(&mut boot, step / 3);
                for _ in 0..dice.usize(0..4) {
                    site.ask(boot.epoch, *dice.choice(&boot.connections).unwrap());
                }
            }
            7 => {
                site.restart();
                boot.connections.clear();
                site.second += 1;
                site.connect(&mut boot, step);
            }
            // It is away for long, or stuck.
            8 => {
                site.second += 10_000;
                site.registry.tick(site.now());
            }
            _ => site.change(|change| change.apply_event(Event::GoingDown { reboot: true })),
        }
    }
    boot.number
}

/// It boots, perhaps only at the second or third try.
fn rebooted(site: &mut Site, dice: &mut Rng, gone: &Boot) -> Boot {
    loop {
        let (token, key) = (site.token(), dice.u8(..));
        site.second += dice.u64(1..60);
        let (verdict, epoch) = site.redeem(token, key);
        assert_eq!(verdict, Verdict::Granted);
        // What was on its way when it went down arrives.
        for _ in 0..dice.usize(0..3) {
            if let Some(accepted) = dice.choice(&gone.connections) {
                assert_eq!(site.ask(gone.epoch, *accepted), NodeIdentityState::Superseded);
            }
        }
        match dice.u8(0..8) {
            // Stage 1 fails, or the power is cut.
            0 => continue,
            // The answer is lost, and it asks again.
            1 => assert_eq!(site.redeem(token, key), (Verdict::Granted, epoch)),
            // It is lost for so long that the boot counts as failed.
            2 => {
                site.second += 500;
                site.registry.tick(site.now());
                assert!(site.is_armed());
                assert_eq!(site.redeem(token, key), (Verdict::Granted, epoch));
                assert!(!site.is_armed());
            }
            // For so long that the token has expired: it boots again.
            3 => {
                site.second += 600;
                site.registry.tick(site.now());
                assert_eq!(site.redeem(token, key).0, Verdict::Refused(Refused::Expired));
                assert!(site.is_armed());
                continue;
            }
            _ => {}
        }
        site.second += dice.u64(1..60);
        let mut boot = Boot { epoch, number: gone.number + 1, connections: Vec::new() };
        site.connect(&mut boot, 0);
        return boot;
    }
}

#[test]
fn five_hundred_honest_machines_are_never_in_conflict_and_a_thief_of_each_is() {
    let (mut boots, mut changes) = (0, 0);
    for seed in 0..500 {
        let mut site = Site::new();
        let mut dice = Rng::with_seed(seed);
        let mut told = site.registry.watch();
        boots += honest(&mut site, &mut dice);
        assert_eq!(site.conflict(), None, "seed {seed}");
        while let Ok(NodeChange::Updated(update)) = told.try_recv() {
            assert_eq!(update.status.conflict, None, "seed {seed}: at no time");
            changes += 1;
        }
        // Somebody enrols once more while it is cut off, and it comes back.
        let epoch = site.registry.read(site.id, |entry| entry.enrolments.current()).unwrap();
        site.second += 1;
        let token = site.token();
        assert_eq!(site.redeem(token, 1).0, Verdict::Granted);
        site.second += 1;
        assert_eq!(site.ask(epoch, site.second), NodeIdentityState::Holder);
        assert!(site.conflict().is_some(), "seed {seed}");
    }
    assert!(boots > 1_000 && changes > 1_000, "{boots} boots, {changes} changes");
}

#[test]
fn a_conflict_is_in_the_history_once() {
    let mut site = Site::new();
    let first = site.token();
    assert_eq!(site.redeem(first, 1), (Verdict::Granted, 1));
    site.second += 10;
    let second = site.token();
    assert_eq!(site.redeem(second, 2), (Verdict::Granted, 2));
    site.second += 10;
    for _ in 0..5 {
        assert_eq!(site.ask(1, site.second), NodeIdentityState::Holder);
        assert_eq!(site.ask(2, site.second), NodeIdentityState::Rival);
    }
    // A machine that is refused boots and boots again.
    for _ in 0..5 {
        let token = site.token();
        assert_eq!(site.redeem(token, 3).0, Verdict::Granted);
        site.second += 100;
    }
    assert!(site.conflict().unwrap().cause.contains("again as 7"), "{:?}", site.conflict());
    let (batch, _) = site.registry.take(false);
    let is_alarm =
        |(_, event): &&(u64, api::status::NodeEvent)| event.severity == Severity::Security;
    assert_eq!(batch.events.iter().filter(is_alarm).count(), 1, "{:?}", batch.events);
}

#[test]
fn a_stage_1_that_asks_again_after_the_server_was_away_gets_its_certificate_and_alarms_nobody() {
    let mut site = Site::new();
    let token = site.token();
    assert_eq!(site.redeem(token, 9), (Verdict::Granted, 1));
    // The answer is lost with the server, whose first tick is after the deadline of stage 1.
    site.second += 200;
    site.restart();
    site.registry.tick(site.now());
    assert!(site.is_armed());
    assert_eq!(site.redeem(token, 9), (Verdict::Granted, 1));
    let status = site.registry.status(site.id).unwrap();
    assert_eq!((status.conflict, status.armed, status.overdue_seconds), (None, false, None));
    // It is lost once more; the boot has its time again.
    site.second += 150;
    site.registry.tick(site.now());
    assert_eq!(site.redeem(token, 9), (Verdict::Granted, 1));
    let (batch, _) = site.registry.take(false);
    assert!(
        batch.events.iter().all(|(_, event)| event.severity != Severity::Security),
        "{batch:?}"
    );
    site.connect(&mut Boot { epoch: 1, number: 1, connections: Vec::new() }, 0);
    // With another key it is what it was.
    assert_eq!(site.redeem(token, 8).0, Verdict::Refused(Refused::SecondUse));
    assert!(site.conflict().is_some());
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_out_of_the_history() {
    let mut site = Site::new();
    let told = |site: &Site| site.change(|change| change.record(Severity::Warning, "the same"));
    for second in [1_000, 1_010, 10, 20] {
        site.second = second;
        told(&site);
    }
    let (batch, _) = site.registry.take(false);
    let times: Vec<Timestamp> = batch.events.iter().map(|(_, event)| event.at).collect();
    assert_eq!(times, [1_000, 10].map(|second| Timestamp(0).plus_seconds(second)));
}
