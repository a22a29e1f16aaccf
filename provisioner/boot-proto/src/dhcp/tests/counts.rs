//! What the server counts of itself.

use super::*;

#[test]
fn each_refused_request_counts_as_its_kind_however_often_it_is_told() {
    let mut server = DhcpServer::new(config(Mode::Authoritative));
    let elsewhere: HostTable = [host("n1", MAC, Some("10.2.0.7/16"))].into_iter().collect();
    let stranger = Ask::new(MessageType::Discover, [2, 0, 0, 0, 0, 9]);
    let no_subnet = discover().relay([172, 16, 0, 1]);
    let no_pool = Ask::new(MessageType::Discover, POOL_MAC).relay([10, 2, 0, 1]);
    for _ in 0..3 {
        ask(&mut server, &stranger);
        ask(&mut server, &no_subnet);
        ask(&mut server, &no_pool);
        ask(&mut server, &discover().pxe(11));
        ask(&mut server, &request().wants([10, 1, 0, 12]));
        server.handle(&discover().bytes(), &arrival(), &elsewhere, Timestamp(0));
        server.handle(b"no packet", &arrival(), &hosts(), Timestamp(0));
        // This one is answered.
        ask(&mut server, &discover().pxe(7));
    }
    expect![[r#"
        [
            (
                "unreadable",
                3,
            ),
            (
                "unregistered",
                3,
            ),
            (
                "no-subnet",
                3,
            ),
            (
                "other-subnet",
                3,
            ),
            (
                "no-pool",
                3,
            ),
            (
                "pool-exhausted",
                0,
            ),
            (
                "no-boot-program",
                3,
            ),
            (
                "not-its-address",
                3,
            ),
            (
                "too-many-changes",
                0,
            ),
        ]
    "#]]
    .assert_debug_eq(&server.refused());
}

#[test]
fn a_pool_says_who_has_its_addresses() {
    let mac = |last| [2, 0, 0, 0, 0, last];
    let mut table: Vec<Host> =
        (1..=6).map(|last| host(&format!("n{last}"), mac(last), None)).collect();
    table.push(host("fixed", mac(7), Some("10.1.0.101/24")));
    let hosts: HostTable = table.into_iter().collect();
    let mut server = DhcpServer::new(config(Mode::Authoritative));
    let at = |seconds| Timestamp(0).plus_seconds(seconds);
    let none = PoolUse {
        subnet: "10.1.0.0/24".parse().unwrap(),
        size: 4,
        leased: 0,
        offered: 0,
        unusable: 0,
        reserved: 1,
    };
    assert_eq!(server.pools(&hosts, at(0)), [none]);
    let offered: Vec<Ipv4Addr> =
        (1..=3).map(|last| offered(&mut server, mac(last), None, &hosts, 0).unwrap()).collect();
    assert_eq!(server.pools(&hosts, at(0)), [PoolUse { offered: 3, ..none }]);
    let asked = Ask::new(MessageType::Request, mac(1)).wants(offered[0].octets());
    for effect in server.handle(&asked.bytes(), &arrival(), &hosts, at(1)) {
        if let Effect::Save { record, .. } = effect {
            assert!(server.saved(&record, at(1)));
        }
    }
    let declined = Ask::new(MessageType::Decline, mac(2)).wants(offered[1].octets());
    server.handle(&declined.bytes(), &arrival(), &hosts, at(1));
    let taken = PoolUse { leased: 1, offered: 1, unusable: 1, ..none };
    assert_eq!(server.pools(&hosts, at(1)), [taken]);
    let fourth = Ask::new(MessageType::Discover, mac(4));
    server.handle(&fourth.bytes(), &arrival(), &hosts, at(1));
    assert!(server.refused().contains(&("pool-exhausted", 1)));
    assert_eq!(server.pools(&hosts, at(100)), [PoolUse { offered: 0, ..taken }], "nobody took it");
    assert_eq!(server.pools(&hosts, at(10_000)), [none], "the lease is over");
}

#[test]
fn messages_have_the_names_of_the_standard() {
    let kinds =
        [MessageType::Discover, MessageType::Request, MessageType::Inform, MessageType::Release];
    let words = kinds.map(|kind| message_word(&Ask::new(kind, MAC).pxe(7).bytes()));
    assert_eq!(words, ["discover", "request", "inform", "release"]);
    let mut server = DhcpServer::new(config(Mode::Authoritative));
    let effects = ask(&mut server, &discover().pxe(7));
    let reply = effects.iter().find_map(|effect| match effect {
        Effect::Send(reply) => Some(message_word(&reply.bytes)),
        _ => None,
    });
    assert_eq!(reply, Some("offer"));
    let fixed = vec![0; 240];
    for options in [&[][..], &[53], &[53, 1], &[53, 0], &[0, 0, 255], &[12, 200, 1], &[53, 1, 99]] {
        assert_eq!(message_word(&[fixed.as_slice(), options].concat()), "other", "{options:?}");
    }
    assert_eq!(message_word(&fixed[..100]), "other");
}
