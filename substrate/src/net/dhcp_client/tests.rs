//! Packets in, effects out; each case ends by asserting that nothing else was sent.

use super::*;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 9]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const TRANSACTION: u32 = 0x1234_5678;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn reply(kind: MessageType, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::default();
    message
        .set_opcode(Opcode::BootReply)
        .set_xid(TRANSACTION)
        .set_chaddr(&MAC.0)
        .set_yiaddr(ADDRESS);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message.opts_mut().insert(DhcpOption::ServerIdentifier(SERVER));
    message.opts_mut().insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
    message.opts_mut().insert(DhcpOption::Router(vec![SERVER]));
    change(&mut message);
    message.to_vec().unwrap()
}

/// The one message that is sent, and that a wait follows it.
fn sent(effects: &[Effect]) -> Message {
    let [Effect::Send(packet), Effect::Wait(wait)] = effects else { panic!("{effects:?}") };
    assert!(packet.len() >= MIN_MESSAGE_BYTES);
    assert!(*wait >= Duration::from_millis(500));
    Message::decode(&mut Decoder::new(packet)).unwrap()
}

#[test]
fn a_lease_in_four_packets() {
    let (mut client, effects) = DhcpClient::start(MAC, TRANSACTION, Some(ADDRESS));
    let discover = sent(&effects);
    assert_eq!(discover.opts().msg_type(), Some(MessageType::Discover));
    assert_eq!(
        discover.opts().get(OptionCode::RequestedIpAddress),
        Some(&DhcpOption::RequestedIpAddress(ADDRESS))
    );
    let name = Some(DhcpOption::ClientIdentifier(vec![1, 0x52, 0x54, 0, 0, 0, 9]));
    assert_eq!(discover.opts().get(OptionCode::ClientIdentifier), name.as_ref());
    assert!(discover.flags().broadcast());
    assert_eq!(discover.chaddr(), MAC.0);

    let request = sent(&client.handle(Event::Received(&reply(MessageType::Offer, |_| {})), at(3)));
    assert_eq!(request.opts().msg_type(), Some(MessageType::Request));
    assert_eq!(
        request.opts().get(OptionCode::ServerIdentifier),
        Some(&DhcpOption::ServerIdentifier(SERVER))
    );
    assert_eq!(request.secs(), 3);

    let effects = client.handle(Event::Received(&reply(MessageType::Ack, |_| {})), at(3));
    let lease =
        Lease { address: "10.0.0.9/24".parse().unwrap(), gateway: Some(SERVER), server: SERVER };
    assert_eq!(effects, [Effect::Bound(lease)]);
    assert_eq!(client.handle(Event::Received(&reply(MessageType::Nak, |_| {})), at(4)), []);
    assert_eq!(client.handle(Event::Timer, at(4)), []);
}

#[test]
fn what_is_not_for_us_is_dropped() {
    let (mut client, _) = DhcpClient::start(MAC, TRANSACTION, None);
    let before = client.clone();
    for packet in [
        reply(MessageType::Offer, |m| {
            m.set_xid(1);
        }),
        reply(MessageType::Offer, |m| {
            m.set_chaddr(&[2, 0, 0, 0, 0, 1]);
        }),
        reply(MessageType::Offer, |m| {
            m.set_opcode(Opcode::BootRequest);
        }),
        reply(MessageType::Offer, |m| {
            m.set_yiaddr(Ipv4Addr::UNSPECIFIED);
        }),
        reply(MessageType::Offer, |m| drop(m.opts_mut().remove(OptionCode::ServerIdentifier))),
        reply(MessageType::Ack, |_| {}),
        reply(MessageType::Offer, |_| {})[..200].to_vec(),
        Vec::new(),
    ] {
        assert_eq!(client.handle(Event::Received(&packet), at(1)), []);
        assert_eq!(client, before);
    }
}

#[test]
fn another_servers_ack_is_dropped_and_a_nak_starts_again() {
    let (mut client, _) = DhcpClient::start(MAC, TRANSACTION, Some(ADDRESS));
    client.handle(Event::Received(&reply(MessageType::Offer, |_| {})), at(1));
    let other = |m: &mut Message| {
        drop(m.opts_mut().insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 0, 2))))
    };
    assert_eq!(client.handle(Event::Received(&reply(MessageType::Ack, other)), at(1)), []);
    assert_eq!(client.handle(Event::Received(&reply(MessageType::Nak, other)), at(1)), []);
    let discover = sent(&client.handle(Event::Received(&reply(MessageType::Nak, |_| {})), at(1)));
    assert_eq!(discover.opts().msg_type(), Some(MessageType::Discover));
    assert_eq!(discover.opts().get(OptionCode::RequestedIpAddress), None);
}

#[test]
fn silence_ends_after_the_last_discover() {
    let (mut client, effects) = DhcpClient::start(MAC, TRANSACTION, None);
    let mut discovers =
        usize::from(sent(&effects).opts().msg_type() == Some(MessageType::Discover));
    loop {
        let effects = client.handle(Event::Timer, at(1));
        if effects == [Effect::GaveUp] {
            break;
        }
        sent(&effects);
        discovers += 1;
    }
    assert_eq!(discovers, DISCOVER_WAITS_MS.len());
    assert_eq!(client.handle(Event::Timer, at(99)), []);
}

#[test]
fn a_server_that_offers_and_refuses_is_not_asked_for_ever() {
    let (mut client, _) = DhcpClient::start(MAC, TRANSACTION, None);
    for _ in 0..1000 {
        client.handle(Event::Received(&reply(MessageType::Offer, |_| {})), at(1));
        if client.handle(Event::Received(&reply(MessageType::Nak, |_| {})), at(1))
            == [Effect::GaveUp]
        {
            return;
        }
    }
    panic!("still asking");
}

#[test]
fn requests_without_answer_lead_back_to_discover() {
    let (mut client, _) = DhcpClient::start(MAC, TRANSACTION, None);
    client.handle(Event::Received(&reply(MessageType::Offer, |_| {})), at(1));
    let kinds: Vec<_> =
        (0..3).map(|_| sent(&client.handle(Event::Timer, at(2))).opts().msg_type()).collect();
    assert_eq!(
        kinds,
        [Some(MessageType::Request), Some(MessageType::Request), Some(MessageType::Discover)]
    );
}

proptest::proptest! {
    #[test]
    fn no_options_make_it_panic(options in proptest::collection::vec(proptest::collection::vec(0_u8.., 0..300), 0..8)) {
        let (mut client, _) = DhcpClient::start(MAC, TRANSACTION, None);
        for options in &options {
            // A header that is ours, then anything: fixed fields are 236 bytes, the magic
            // cookie 4 (RFC 2131).
            let mut packet = reply(MessageType::Offer, |_| {});
            packet.truncate(240);
            packet.extend_from_slice(options);
            client.handle(Event::Received(&packet), at(1));
        }
    }
}
