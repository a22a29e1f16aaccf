//! Machines, and others in their names, that ask for more than a machine that boots.

use super::*;

fn pool_of(size: u32) -> DhcpServer {
    let mut config = config(Mode::Authoritative);
    let first = Ipv4Addr::new(10, 1, 0, 100);
    config.subnets[0].pool = Some((first, Ipv4Addr::from(u32::from(first) + size - 1)));
    DhcpServer::new(config)
}

fn mac(number: u32) -> [u8; 6] {
    let [_, _, high, low] = number.to_be_bytes();
    [2, 0, 0, 0, high, low]
}

fn nodes(count: u32) -> HostTable {
    (0..count).map(|number| host(&format!("p{number}"), mac(number), None)).collect()
}

/// What a machine is offered; nobody answers probes.
fn offer(
    server: &mut DhcpServer,
    number: u32,
    hosts: &HostTable,
    now: Timestamp,
) -> Option<Ipv4Addr> {
    loop {
        let asked = Ask::new(MessageType::Discover, mac(number));
        let effects = server.handle(&asked.bytes(), &arrival(), hosts, now);
        let [Effect::Probe(address)] = effects[..] else {
            return reply_of(&effects).map(|(message, _)| message.yiaddr());
        };
        server.probed(address, None, hosts, now);
    }
}

/// Whether it led to a record.
fn decline(
    asked: Ask,
    server: &mut DhcpServer,
    address: Ipv4Addr,
    hosts: &HostTable,
    now: Timestamp,
) -> bool {
    let asked = asked.wants(address.octets());
    let effects = server.handle(&asked.bytes(), &arrival(), hosts, now);
    effects.iter().any(|effect| matches!(effect, Effect::Record(_)))
}

/// In the name of the first node.
fn release(
    server: &mut DhcpServer,
    address: Ipv4Addr,
    hosts: &HostTable,
    now: Timestamp,
) -> Vec<Effect> {
    let asked = Ask::new(MessageType::Release, mac(0)).from(address.octets());
    server.handle(&asked.bytes(), &arrival(), hosts, now)
}

fn of_machine(number: u32) -> Ask {
    Ask::new(MessageType::Decline, mac(number))
}

fn unusable(server: &DhcpServer, hosts: &HostTable, now: Timestamp) -> u32 {
    server.pools(hosts, now)[0].unusable
}

#[test]
fn one_machine_that_declines_takes_three_addresses_and_no_more() {
    let (mut server, hosts, now) = (pool_of(100), nodes(2), Timestamp(0));
    let mut records = 0;
    for _ in 0..400 {
        let address = offer(&mut server, 0, &hosts, now).unwrap();
        records += u32::from(decline(of_machine(0), &mut server, address, &hosts, now));
    }
    assert_eq!((records, unusable(&server, &hosts, now)), (3, 3));
    assert!(server.refused().contains(&("too-many-changes", 397)));
    assert!(offer(&mut server, 1, &hosts, now).is_some());
    let later = now.plus_seconds(601);
    assert_eq!(unusable(&server, &hosts, later), 0, "they come back");
}

#[test]
fn all_machines_that_decline_take_an_eighth_of_the_pool_and_the_oldest_comes_back_first() {
    let (mut server, hosts, now) = (pool_of(80), nodes(80), Timestamp(0));
    let mut declined = Vec::new();
    for number in 0..40 {
        let address = offer(&mut server, number, &hosts, now).unwrap();
        assert!(decline(of_machine(number), &mut server, address, &hosts, now));
        declined.push(address);
        assert!(unusable(&server, &hosts, now) <= 10);
    }
    // All others get one: what was declined first is asked for on the network, and given.
    let given: Vec<Option<Ipv4Addr>> =
        (10..80).map(|number| offer(&mut server, number, &hosts, now)).collect();
    assert!(given.iter().all(Option::is_some));
    let last = &declined[30..];
    assert!(
        given.iter().flatten().all(|address| !last.contains(address)),
        "the newest are left alone"
    );
    assert_eq!(offer(&mut server, 0, &hosts, now), None);
}

#[test]
fn what_declines_behind_one_port_of_a_relay_has_one_share() {
    let (mut server, hosts, now) = (pool_of(150), nodes(40), Timestamp(0));
    let mut of_port = [0, 0];
    for number in 0..40 {
        let port = usize::from(number >= 30);
        let address = offer(&mut server, number, &hosts, now).unwrap();
        let asked =
            of_machine(number).relay([10, 1, 0, 254]).raw(82, &[1, 1, u8::try_from(port).unwrap()]);
        of_port[port] += u32::from(decline(asked, &mut server, address, &hosts, now));
    }
    assert_eq!(of_port, [16, 10]);
}

#[test]
fn taking_and_giving_back_at_the_speed_of_the_network_ends_after_some_records() {
    let (mut server, hosts, now) = (pool_of(100), nodes(1), Timestamp(0));
    let mut records = 0;
    for round in 0..1_000 {
        let now = now.plus_seconds(round / 500);
        let address = offer(&mut server, 0, &hosts, now).unwrap();
        let asked = Ask::new(MessageType::Request, mac(0)).wants(address.octets());
        for effect in server.handle(&asked.bytes(), &arrival(), &hosts, now) {
            if let Effect::Save { record, .. } = effect {
                records += 1;
                assert!(server.saved(&record, now));
            }
        }
        let effects = release(&mut server, address, &hosts, now);
        records += effects.iter().filter(|effect| matches!(effect, Effect::Record(_))).count();
    }
    assert_eq!(records, 7, "three times given back, and had before and after each");
    let later = now.plus_seconds(61);
    let address = offer(&mut server, 0, &hosts, later).unwrap();
    release(&mut server, address, &hosts, later);
    let asked = Ask::new(MessageType::Request, mac(0)).wants(address.octets());
    let effects = server.handle(&asked.bytes(), &arrival(), &hosts, later);
    assert!(matches!(effects[..], [Effect::Save { .. }]));
}

#[test]
fn who_gives_a_nodes_address_back_in_its_name_does_not_keep_the_node_from_it() {
    let (mut server, hosts) = (pool_of(100), nodes(1));
    let address = offer(&mut server, 0, &hosts, Timestamp(0)).unwrap();
    let asked = Ask::new(MessageType::Request, mac(0)).wants(address.octets());
    let mut records = 0;
    for second in 0..600 {
        let now = Timestamp(0).plus_seconds(second);
        for _ in 0..20 {
            // The one and the other, in the node's name; the last request is its own.
            release(&mut server, address, &hosts, now);
            let effects = server.handle(&asked.bytes(), &arrival(), &hosts, now);
            let acknowledged = reply_of(&effects).map(|(message, _)| message.opts().msg_type());
            assert_eq!(acknowledged, Some(Some(MessageType::Ack)), "second {second}");
            for effect in effects {
                if let Effect::Save { record, .. } = effect {
                    records += 1;
                    assert!(server.saved(&record, now));
                }
            }
        }
    }
    assert_eq!(records, 30, "one for each of three releases a minute");
}

#[test]
fn requests_in_one_name_that_wait_for_the_disk_leave_room_for_others() {
    let (mut server, hosts, now) = (pool_of(100), nodes(2), Timestamp(0));
    let ask = |server: &mut DhcpServer, number: u32| {
        let address = offer(server, number, &hosts, now).unwrap();
        let asked = Ask::new(MessageType::Request, mac(number)).wants(address.octets());
        server.handle(&asked.bytes(), &arrival(), &hosts, now)
    };
    let is_save = |effect: &Effect| matches!(effect, Effect::Save { .. });
    let waiting: Vec<Effect> =
        (0..1_000).flat_map(|_| ask(&mut server, 0)).filter(is_save).collect();
    assert_eq!(waiting.len(), 16);
    assert!(ask(&mut server, 1).iter().any(is_save), "another node");
    // The disk refuses them all: they may be asked for again.
    for effect in &waiting {
        let Effect::Save { record, .. } = effect else { continue };
        server.unsaved(record, now);
    }
    let again = ask(&mut server, 0);
    let Some(Effect::Save { record, .. }) = again.first() else { panic!("{again:?}") };
    assert!(server.saved(record, now));
    assert!(reply_of(&ask(&mut server, 0)).is_some(), "it is renewed from then on");
}

#[test]
fn invented_machines_get_no_address_and_those_of_nodes_are_left_to_them() {
    let (mut server, now) = (pool_of(8), Timestamp(0));
    let mut table: Vec<Host> = (0..4).map(|n| host(&format!("p{n}"), mac(n), None)).collect();
    table.push(host("fixed", MAC, Some("10.1.0.103/24")));
    let hosts: HostTable = table.into_iter().collect();
    for number in 1_000..11_000 {
        assert_eq!(offer(&mut server, number, &hosts, now), None);
    }
    assert_eq!(server.pools(&hosts, now)[0].offered, 0);
    for number in 0..4 {
        let address = offer(&mut server, number, &hosts, now).unwrap();
        assert_ne!(address, Ipv4Addr::new(10, 1, 0, 103), "it is reserved");
    }
}
