//! Leases of pools: over restarts, with a disk that refuses, with records that are lost, with
//! clocks and networks as they are.

use super::*;

/// A server, and the records that are on its disk.
struct Site {
    server: DhcpServer,
    disk: Vec<LeaseRecord>,
    disk_is_full: bool,
    hosts: HostTable,
    now: Timestamp,
}

/// What a client hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    Offer(Ipv4Addr),
    Ack(Ipv4Addr),
    Nak,
    Nothing,
}

/// Two machines whose search begins at the same address of a pool of 100.
const FIRST: [u8; 6] = [0x52, 0x54, 0, 0x99, 0x0a, 0];
const SECOND: [u8; 6] = [0x52, 0x54, 0, 0x99, 0x0a, 0x7c];

const POOL_START: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 100);

fn pool_config(size: u32) -> Config {
    let last = Ipv4Addr::from(u32::from(POOL_START) + size - 1);
    let mut config = config(Mode::Authoritative);
    config.subnets[0].pool = Some((POOL_START, last));
    config
}

impl Site {
    fn new(pool_size: u32, macs: &[[u8; 6]]) -> Self {
        let hosts =
            macs.iter().enumerate().map(|(number, mac)| host(&format!("p{number}"), *mac, None));
        Self {
            server: DhcpServer::new(pool_config(pool_size)),
            disk: Vec::new(),
            disk_is_full: false,
            hosts: hosts.collect(),
            now: Timestamp(0),
        }
    }

    /// What was not on disk is lost; seconds of records go on by `down`.
    fn restart(&mut self, pool_size: u32, down: u32) {
        self.wait(down);
        self.server = DhcpServer::new(pool_config(pool_size));
        self.server.restore(self.disk.iter().copied(), self.now);
    }

    fn wait(&mut self, passed: u32) {
        self.now = self.now.plus_seconds(i64::from(passed));
        for record in &mut self.disk {
            match record {
                LeaseRecord::Leased { seconds, .. }
                | LeaseRecord::Unusable { seconds, .. }
                | LeaseRecord::Incomplete { seconds } => *seconds = seconds.saturating_sub(passed),
                LeaseRecord::Free { .. } => {}
            }
        }
    }

    fn effects(&mut self, asked: &Ask) -> Vec<Effect> {
        self.server.handle(&asked.bytes(), &arrival(), &self.hosts, self.now)
    }

    /// Does what the shell does; nobody on the network answers probes but `users`.
    fn ask_among(&mut self, asked: &Ask, users: &[(Ipv4Addr, [u8; 6])]) -> (Received, usize) {
        let mut probes = 0;
        let mut heard = Received::Nothing;
        let mut effects = self.effects(asked);
        while let [Effect::Probe(address)] = effects[..] {
            probes += 1;
            assert!(probes <= 8, "no end of probes");
            let user =
                users.iter().find(|(used, _)| *used == address).map(|(_, mac)| MacAddr(*mac));
            self.server.probed(address, user, &self.hosts, self.now);
            effects = self.effects(asked);
        }
        for effect in effects {
            match effect {
                Effect::Record(record) => drop(self.write(record)),
                Effect::Save { record, then } if self.write(record) => heard = hear(&then),
                Effect::Save { .. } | Effect::Event(_) => {}
                sent @ Effect::Send(_) => heard = hear(&[sent]),
                Effect::Probe(_) => panic!("a probe beside other effects"),
            }
        }
        (heard, probes)
    }

    fn ask(&mut self, asked: &Ask) -> Received {
        self.ask_among(asked, &[]).0
    }

    fn write(&mut self, record: LeaseRecord) -> bool {
        if self.disk_is_full {
            self.server.unsaved(&record, self.now);
            return false;
        }
        self.disk.push(record);
        self.server.saved(&record, self.now);
        true
    }

    /// The whole exchange, while nobody is up.
    fn boot(&mut self, mac: [u8; 6]) -> Option<Ipv4Addr> {
        self.boot_among(mac, &[])
    }

    /// The whole exchange, while others use addresses.
    fn boot_among(&mut self, mac: [u8; 6], users: &[(Ipv4Addr, [u8; 6])]) -> Option<Ipv4Addr> {
        let Received::Offer(offered) = self.ask_among(&discover_of(mac), users).0 else {
            return None;
        };
        match self.ask(&Ask::new(MessageType::Request, mac).wants(offered.octets()).chose(SERVER)) {
            Received::Ack(address) => Some(address),
            _ => None,
        }
    }

    fn renew(&mut self, mac: [u8; 6], address: Ipv4Addr) -> Received {
        self.ask(&Ask::new(MessageType::Request, mac).from(address.octets()))
    }
}

fn hear(effects: &[Effect]) -> Received {
    let Some((message, _)) = reply_of(effects) else { return Received::Nothing };
    match message.opts().msg_type() {
        Some(MessageType::Offer) => Received::Offer(message.yiaddr()),
        Some(MessageType::Ack) => Received::Ack(message.yiaddr()),
        Some(MessageType::Nak) => Received::Nak,
        other => panic!("{other:?}"),
    }
}

fn discover_of(mac: [u8; 6]) -> Ask {
    Ask::new(MessageType::Discover, mac)
}

#[test]
fn after_a_restart_two_machines_keep_two_addresses() {
    let mut site = Site::new(100, &[FIRST, SECOND]);
    let first = site.boot(FIRST).unwrap();
    let second = site.boot(SECOND).unwrap();
    assert_eq!(u32::from(second), u32::from(first) + 1, "both point at one address");
    site.restart(100, 5);
    // The second one's firmware asks first, and knows nothing of what it had.
    assert_eq!(site.ask(&discover_of(SECOND)), Received::Offer(second));
    assert_eq!(site.renew(FIRST, first), Received::Ack(first));
    assert_eq!(site.server.leased(MacAddr(FIRST)), Some(first));
    assert_eq!(site.server.holder(second), Some(MacAddr(SECOND)));
}

#[test]
fn only_what_is_new_waits_for_the_disk() {
    let mut site = Site::new(4, &[POOL_MAC]);
    let Received::Offer(address) = site.ask(&discover_of(POOL_MAC)) else { panic!("no offer") };
    assert_eq!(site.disk, [], "an offer is no lease");
    let asked = Ask::new(MessageType::Request, POOL_MAC).wants(address.octets());
    let new = site.effects(&asked);
    let term = LeaseRecord::Leased { address, mac: MacAddr(POOL_MAC), seconds: 4050 };
    assert!(matches!(&new[..], [Effect::Save { record, .. }] if *record == term), "{new:?}");
    assert_eq!(site.ask(&asked), Received::Ack(address));
    // iPXE, stage 1 and the system ask again within the minute: the record of before covers it.
    site.wait(60);
    assert!(!site.effects(&asked).iter().any(|effect| matches!(effect, Effect::Record(_))));
    // Half the term later the record says less than the client was granted.
    site.wait(1800);
    let renewed = site.effects(&asked);
    assert!(
        matches!(renewed[..], [Effect::Event(_), Effect::Send(_), Effect::Record(_)]),
        "{renewed:?}"
    );
}

#[test]
fn a_full_disk_refuses_new_leases_and_no_renewal() {
    let mut site = Site::new(4, &[POOL_MAC, FIRST]);
    let address = site.boot(POOL_MAC).unwrap();
    site.disk_is_full = true;
    for _ in 0..10 {
        assert_eq!(site.boot(FIRST), None);
        // Longer than the term, in all.
        site.wait(1800);
        assert_eq!(site.renew(POOL_MAC, address), Received::Ack(address));
    }
    assert_eq!(site.server.leased(MacAddr(FIRST)), None, "it was never acknowledged");
    site.disk_is_full = false;
    let other = site.boot(FIRST).unwrap();
    assert_ne!(other, address);
    // The renewals of before are recorded with the next one.
    site.renew(POOL_MAC, address);
    site.restart(4, 1000);
    assert_eq!(site.ask_among(&discover_of(FIRST), &[]), (Received::Offer(other), 0));
}

#[test]
fn an_address_that_could_not_be_recorded_is_free_again_soon() {
    let mut site = Site::new(1, &[FIRST, SECOND]);
    site.disk_is_full = true;
    assert_eq!(site.boot(FIRST), None);
    site.wait(61);
    site.disk_is_full = false;
    assert_eq!(site.boot(SECOND), Some(POOL_START));
}

#[test]
fn without_records_the_network_is_asked() {
    let mut site = Site::new(100, &[FIRST, SECOND]);
    let first = site.boot(FIRST).unwrap();
    site.disk = vec![LeaseRecord::Incomplete { seconds: 3600 }];
    site.restart(100, 5);
    let (heard, probes) = site.ask_among(&discover_of(SECOND), &[(first, FIRST)]);
    let Received::Offer(second) = heard else { panic!("{heard:?}") };
    assert_ne!(second, first);
    assert_eq!(probes, 2, "the first one's, and the next");
    // The first one's renewal is a new lease for this server, and granted.
    assert_eq!(site.renew(FIRST, first), Received::Ack(first));
    // One whose firmware asks for what it had, and which nobody else has, gets it.
    let asked = discover_of(SECOND).wants([10, 1, 0, 177]);
    site.restart(100, 5);
    assert_eq!(site.ask_among(&asked, &[]), (Received::Offer(Ipv4Addr::new(10, 1, 0, 177)), 1));
    // After the longest lease of before, nothing is in doubt any more.
    site.disk = vec![LeaseRecord::Incomplete { seconds: 3600 }];
    site.restart(100, 3601);
    assert_eq!(site.ask_among(&discover_of(SECOND), &[]).1, 0);
}

#[test]
fn an_address_used_without_a_lease_is_named_and_left_alone() {
    let mut site = Site::new(2, &[FIRST]);
    site.server.restore([LeaseRecord::Incomplete { seconds: 3600 }], site.now);
    let stranger = [2, 0, 0, 0, 0, 9];
    let used = match site.effects(&discover_of(FIRST))[..] {
        [Effect::Probe(address)] => address,
        ref other => panic!("{other:?}"),
    };
    let said = site.server.probed(used, Some(MacAddr(stranger)), &site.hosts, site.now);
    expect![[r#"
        warn: 10.1.0.100 is in a pool and 02:00:00:00:00:09 uses it without a lease; it is not given to others for now
    "#]].assert_eq(&describe(&said));
    let (heard, probes) = site.ask_among(&discover_of(FIRST), &[]);
    let other = Ipv4Addr::new(10, 1, 0, 101);
    assert_eq!((used, heard, probes), (POOL_START, Received::Offer(other), 1));
    assert_eq!(
        site.server.probed(used, None, &site.hosts, site.now),
        [],
        "of a probe that nobody made"
    );
}

#[test]
fn only_reuse_is_probed_and_only_where_the_network_can_be_asked() {
    let mut site = Site::new(1, &[FIRST, SECOND]);
    let address = site.boot(FIRST).unwrap();
    site.wait(7200);
    // Its own again: no question.
    assert_eq!(site.ask_among(&discover_of(FIRST), &[]), (Received::Offer(address), 0));
    site.wait(7200);
    let relayed = discover_of(SECOND).relay([10, 1, 0, 254]);
    assert!(reply_of(&site.effects(&relayed)).is_some(), "through a relay there is no ARP");
    let mut site = Site::new(1, &[FIRST, SECOND]);
    site.boot(FIRST).unwrap();
    site.wait(7200);
    let (heard, probes) = site.ask_among(&discover_of(SECOND), &[(address, FIRST)]);
    assert_eq!((heard, probes), (Received::Nothing, 1), "the first one uses it still");
    assert_eq!(site.renew(FIRST, address), Received::Ack(address));
    site.wait(7200);
    assert_eq!(site.ask_among(&discover_of(SECOND), &[]), (Received::Offer(address), 1));
    // Before the second has asked for it, the first one's word counts no more.
    assert_eq!(site.renew(FIRST, address), Received::Nak);
}

#[test]
fn a_client_that_answers_its_own_probe_gets_the_address() {
    let mut site = Site::new(1, &[FIRST]);
    site.server.restore([LeaseRecord::Incomplete { seconds: 3600 }], site.now);
    let heard = site.ask_among(&discover_of(FIRST), &[(POOL_START, FIRST)]);
    assert_eq!(heard, (Received::Offer(POOL_START), 1));
}

#[test]
fn one_address_is_probed_for_one_client() {
    let mut site = Site::new(100, &[FIRST, SECOND]);
    site.server.restore([LeaseRecord::Incomplete { seconds: 3600 }], site.now);
    let probe = |site: &mut Site, mac| match site.effects(&discover_of(mac))[..] {
        [Effect::Probe(address)] => Some(address),
        [] => None,
        ref other => panic!("{other:?}"),
    };
    let first = probe(&mut site, FIRST).unwrap();
    assert_eq!(probe(&mut site, FIRST), None, "it runs");
    assert_ne!(probe(&mut site, SECOND), Some(first));
    // One that could not be made is made for the next request.
    site.server.not_probed(first);
    assert_eq!(probe(&mut site, FIRST), Some(first));
    // A probe whose result does not come is made again.
    site.wait(6);
    assert_eq!(probe(&mut site, FIRST), Some(first));
    // Whoever says meanwhile that the address is its own has it.
    let claimed = Ask::new(MessageType::Request, SECOND).wants(first.octets());
    assert_eq!(site.ask(&claimed), Received::Ack(first));
    assert_ne!(site.ask(&discover_of(FIRST)), Received::Offer(first));
}

#[test]
fn a_declined_address_is_left_alone_over_a_restart_and_then_probed() {
    let mut site = Site::new(1, &[FIRST, SECOND]);
    let address = site.boot(FIRST).unwrap();
    let declined = Ask::new(MessageType::Decline, FIRST).wants(address.octets());
    assert!(matches!(
        site.effects(&declined)[..],
        [
            Effect::Event(BootEvent::Conflict { .. }),
            Effect::Record(LeaseRecord::Unusable { seconds: 600, .. })
        ]
    ));
    site.disk.push(LeaseRecord::Unusable { address, seconds: 600 });
    site.restart(1, 0);
    assert_eq!(site.boot(FIRST), None);
    site.wait(601);
    assert_eq!(site.ask_among(&discover_of(SECOND), &[]), (Received::Offer(address), 1));
}

#[test]
fn a_released_address_is_free_over_a_restart() {
    let mut site = Site::new(1, &[FIRST, SECOND]);
    let address = site.boot(FIRST).unwrap();
    assert_eq!(
        site.ask(&Ask::new(MessageType::Release, SECOND).from(address.octets())),
        Received::Nothing
    );
    assert_eq!(site.boot(SECOND), None, "it is not the second one's to give back");
    site.ask(&Ask::new(MessageType::Release, FIRST).from(address.octets()));
    site.restart(1, 0);
    assert_eq!(site.boot(SECOND), Some(address));
}

/// Anybody can send a RELEASE in the name of a machine that goes on.
#[test]
fn a_released_address_is_probed_before_it_is_given() {
    let release = |address: Ipv4Addr| Ask::new(MessageType::Release, FIRST).from(address.octets());
    let released = |what: fn(&mut Site)| {
        let mut site = Site::new(1, &[FIRST, SECOND]);
        let address = site.boot(FIRST).unwrap();
        site.ask(&release(address));
        assert_eq!(site.server.leased(MacAddr(FIRST)), None);
        what(&mut site);
        (site, address)
    };
    let others: [fn(&mut Site); 3] = [
        |_| {},
        |site| site.restart(1, 0),
        |site| {
            site.disk = site.server.records(site.now);
            site.restart(1, 0);
        },
    ];
    for other in others {
        let (mut site, address) = released(other);
        let in_use = site.ask_among(&discover_of(SECOND), &[(address, FIRST)]);
        assert_eq!(in_use, (Received::Nothing, 1), "the first one is up");
        assert_eq!(site.renew(FIRST, address), Received::Ack(address), "it goes on");
        // Nobody answers: it is given, and by way of DISCOVER alone.
        let (mut site, address) = released(other);
        let asked = Ask::new(MessageType::Request, SECOND).wants(address.octets());
        assert_eq!(site.ask(&asked), Received::Nak);
        assert_eq!(site.ask_among(&discover_of(SECOND), &[]), (Received::Offer(address), 1));
        // Who gave it back gets it again, without a question, and the disk is waited for.
        let (mut site, address) = released(other);
        assert_eq!(site.ask_among(&discover_of(FIRST), &[]), (Received::Offer(address), 0));
        assert_eq!(site.boot(FIRST), Some(address));
        site.restart(1, 0);
        assert_eq!(site.server.leased(MacAddr(FIRST)), Some(address));
        assert_eq!(site.boot(SECOND), None, "it is leased");
    }
    // A refused record leaves the lease as it is on disk.
    let mut site = Site::new(1, &[FIRST, SECOND]);
    let address = site.boot(FIRST).unwrap();
    site.disk_is_full = true;
    site.ask(&release(address));
    site.restart(1, 0);
    assert_eq!(site.boot(SECOND), None);
}

#[test]
fn a_released_address_that_could_not_be_taken_again_is_probed_before_it_is_given() {
    let mut site = Site::new(1, &[FIRST, SECOND]);
    let address = site.boot(FIRST).unwrap();
    site.ask(&Ask::new(MessageType::Release, FIRST).from(address.octets()));
    site.disk_is_full = true;
    assert_eq!(site.renew(FIRST, address), Received::Nothing);
    site.disk_is_full = false;
    site.wait(61);
    let in_use = site.ask_among(&discover_of(SECOND), &[(address, FIRST)]);
    assert_eq!(in_use, (Received::Nothing, 1), "the first one is up, and nobody acknowledged it");
}

/// The records may be written again at any time.
#[test]
fn a_released_address_stays_so_in_the_records_until_it_is_taken_again_on_disk() {
    let mut site = Site::new(1, &[FIRST, SECOND]);
    let address = site.boot(FIRST).unwrap();
    let asked = Ask::new(MessageType::Release, FIRST).from(address.octets());
    site.ask(&asked);
    let released = LeaseRecord::Leased { address, mac: MacAddr(FIRST), seconds: 0 };
    assert_eq!(site.server.records(site.now), [released]);
    let again = site.effects(&Ask::new(MessageType::Request, FIRST).from(address.octets()));
    let Some(Effect::Save { record, .. }) =
        again.into_iter().find(|effect| matches!(effect, Effect::Save { .. }))
    else {
        panic!("it does not wait for the disk")
    };
    assert_eq!(site.server.records(site.now), [released]);
    assert_eq!(site.server.pools(&site.hosts, site.now)[0].offered, 1);
    // Of another one it is not to be had meanwhile.
    assert_eq!(site.boot(SECOND), None);
    site.write(record);
    assert_eq!(site.server.records(site.now), [record]);
    assert_eq!(site.server.leased(MacAddr(FIRST)), Some(address));
}

#[test]
fn leases_outside_of_the_pools_are_remembered() {
    let mut site = Site::new(100, &[FIRST, SECOND]);
    let first = site.boot(FIRST).unwrap();
    // A mistake in the configuration, for one run.
    site.restart(1, 10);
    site.disk = site.server.records(site.now);
    site.restart(100, 10);
    assert_eq!(site.server.leased(MacAddr(FIRST)), Some(first));
}

#[test]
fn no_pool_gives_what_is_somebodys() {
    let pool = |first: &str, last: &str| Some((first.parse().unwrap(), last.parse().unwrap()));
    // All of a subnet, with the server, its gateway, a name server, and its own two names in it.
    let mut config = config(Mode::Authoritative);
    config.subnets = vec![Subnet {
        network: "10.1.0.0/29".parse().unwrap(),
        pool: pool("10.1.0.0", "10.1.0.7"),
        gateway: Some("10.1.0.6".parse().unwrap()),
        dns: vec!["10.1.0.5".parse().unwrap()],
        ntp: Vec::new(),
        domain: None,
    }];
    let clients: Vec<[u8; 6]> = (0..8).map(|last| [2, 0, 0, 0, 0, last]).collect();
    let mut site = Site::new(8, &clients);
    site.server = DhcpServer::new(config);
    // A VLAN of a node has one, too.
    site.hosts = site.hosts.clone().with_others(["10.1.0.3".parse().unwrap()]);
    let mut given: Vec<Ipv4Addr> = clients.iter().filter_map(|mac| site.boot(*mac)).collect();
    given.sort_unstable();
    assert_eq!(given, [2, 4].map(|last| Ipv4Addr::new(10, 1, 0, last)));
    // Nor to those that ask for one of them.
    for taken in [0, 1, 3, 5, 6, 7] {
        let asked = Ask::new(MessageType::Request, clients[7]).wants([10, 1, 0, taken]);
        assert_ne!(site.ask(&asked), Received::Ack(Ipv4Addr::new(10, 1, 0, taken)));
    }
}

#[test]
fn a_lease_ends_where_the_address_becomes_somebody_elses() {
    let mut site = Site::new(100, &[FIRST]);
    let address = site.boot(FIRST).unwrap();
    site.hosts = [host("p0", FIRST, None), host("fixed", SECOND, Some(&format!("{address}/24")))]
        .into_iter()
        .collect();
    assert_eq!(site.renew(FIRST, address), Received::Nak);
    assert_ne!(site.boot(FIRST), Some(address));
}

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
enum Step {
    Boot(u8),
    Renew(u8),
    Release(u8),
    /// By somebody else in the client's name: it goes on.
    Forged(u8),
    Decline(u8),
    Wait(u32),
    Restart(u32),
    Rewrite,
    Full(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6_u8).prop_map(Step::Boot),
        2 => (0..6_u8).prop_map(Step::Renew),
        1 => (0..6_u8).prop_map(Step::Release),
        1 => (0..6_u8).prop_map(Step::Forged),
        1 => (0..6_u8).prop_map(Step::Decline),
        2 => (0..3000_u32).prop_map(Step::Wait),
        2 => (0..3000_u32).prop_map(Step::Restart),
        1 => Just(Step::Rewrite),
        1 => any::<bool>().prop_map(Step::Full),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn no_address_is_two_clients_at_once(steps in steps()) {
        let macs: Vec<[u8; 6]> = (0..6).map(|last| [2, 0, 0, 0, 1, last]).collect();
        let mut site = Site::new(4, &macs);
        let mut leases: HashMap<[u8; 6], (Ipv4Addr, Timestamp)> = HashMap::new();
        for step in steps {
            let acknowledged = match step {
                Step::Boot(client) => {
                    let up = leases.iter().filter(|(_, (_, until))| *until > site.now);
                    let users: Vec<_> = up.map(|(mac, (address, _))| (*address, *mac)).collect();
                    site.boot_among(macs[usize::from(client)], &users).map(|address| (client, address))
                }
                Step::Renew(client) => leases.get(&macs[usize::from(client)]).copied().and_then(|(address, _)| {
                    let heard = site.renew(macs[usize::from(client)], address);
                    (heard == Received::Ack(address)).then_some((client, address))
                }),
                Step::Release(client) | Step::Decline(client) => {
                    let mac = macs[usize::from(client)];
                    if let Some((address, _)) = leases.remove(&mac) {
                        let asked = match step {
                            Step::Release(_) => Ask::new(MessageType::Release, mac).from(address.octets()),
                            _ => Ask::new(MessageType::Decline, mac).wants(address.octets()),
                        };
                        site.ask(&asked);
                    }
                    None
                }
                Step::Forged(client) => {
                    let mac = macs[usize::from(client)];
                    if let Some((address, _)) = leases.get(&mac) {
                        site.ask(&Ask::new(MessageType::Release, mac).from(address.octets()));
                    }
                    None
                }
                Step::Wait(seconds) => { site.wait(seconds); None }
                Step::Restart(down) => { site.restart(4, down); None }
                Step::Rewrite => {
                    if !site.disk_is_full { site.disk = site.server.records(site.now); }
                    None
                }
                Step::Full(full) => { site.disk_is_full = full; None }
            };
            if let Some((client, address)) = acknowledged {
                let mac = macs[usize::from(client)];
                let other = leases.iter().find(|(other, (held, until))| {
                    **other != mac && *held == address && *until > site.now
                });
                prop_assert!(other.is_none(), "{address} is given to {mac:?} and is {other:?}");
                leases.insert(mac, (address, site.now.plus_seconds(3600)));
            }
        }
    }
}
