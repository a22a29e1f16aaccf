//! Packets of the boot network.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use api::ids::{MacAddr, NodeId, NodeName, Timestamp};
use boot_proto::{
    FirmwareClass, FirmwareMap, Host, HostTable,
    dhcp::{Arrival, Config, DhcpServer, Effect, Mode, Port, Subnet, message_word},
    tftp::{ReadRequest, Transfer, Transmit},
};

use crate::parts;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// First and last address of the pool: fewer than there are nodes without an address of their own.
const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 1, 0, 100), Ipv4Addr::new(10, 1, 0, 101));

/// Last bytes of the MAC addresses of the nodes: the first has an address, the others
/// are of the pool.
const NODES: std::ops::RangeInclusive<u8> = 0x56..=0x59;

/// What one packet may cause, with what waits for the disk: an event, a record, a
/// packet and some more.
const MAX_EFFECTS: usize = 8;

/// What is sent fits into one frame of Ethernet, headers of IP and UDP off (1500 - 28).
const MAX_REPLY_BYTES: usize = 1472;

fn mac(last: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0x12, 0x34, last])
}

fn host(last: u8) -> Option<Host> {
    let id: NodeId = format!("6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d{last:02x}").parse().ok()?;
    let name: NodeName = format!("n{last}").parse().ok()?;
    let address = if last == *NODES.start() { "10.1.0.10/24".parse().ok() } else { None };
    let (gateway, dns, domain) = (None, Vec::new(), None);
    Some(Host { id, name, mac: mac(last), address, gateway, dns, domain })
}

fn server(mode: Mode) -> Option<DhcpServer> {
    let subnet = Subnet {
        network: "10.1.0.0/24".parse().ok()?,
        pool: Some(POOL),
        gateway: Some(Ipv4Addr::new(10, 1, 0, 254)),
        dns: vec![Ipv4Addr::new(10, 1, 0, 2)],
        ntp: vec![Ipv4Addr::new(10, 1, 0, 4)],
        domain: Some("cluster.test".to_owned()),
    };
    let firmware =
        [(FirmwareClass::Bios, "undionly.kpxe"), (FirmwareClass::EfiX86_64, "snponly.efi")];
    let firmware = FirmwareMap(firmware.map(|(class, file)| (class, file.to_owned())).into());
    Some(DhcpServer::new(Config {
        mode,
        subnets: vec![subnet],
        server_addresses: vec![SERVER],
        lease_seconds: 3600,
        http_port: 9480,
        firmware,
    }))
}

/// Packets, one second after the other, to a server of each kind at each of its ports.
pub(crate) fn dhcp(input: &[u8]) -> bool {
    let hosts: HostTable = NODES.filter_map(host).collect();
    assert_eq!(hosts.len(), NODES.count(), "all nodes can be told");
    let packets = parts(input);
    let mut is_answered = false;
    for (mode, port) in [
        (Mode::Authoritative, Port::Dhcp),
        (Mode::Authoritative, Port::Boot),
        (Mode::Proxy, Port::Dhcp),
        (Mode::Proxy, Port::Boot),
    ] {
        let Some(server) = server(mode) else { unreachable!("the configuration is right") };
        let mut run = Run { server, hosts: &hosts, port, given: HashMap::new() };
        for (number, packet) in (0..).zip(&packets) {
            is_answered |=
                run.packet(packet, Timestamp(1_700_000_000_000_000).plus_seconds(number));
        }
    }
    is_answered
}

/// A server and what it acknowledged.
struct Run<'a> {
    server: DhcpServer,
    hosts: &'a HostTable,
    port: Port,
    /// MAC address by the address of the pool that was acknowledged to it and not given back.
    given: HashMap<Ipv4Addr, [u8; 6]>,
}

impl Run<'_> {
    /// Whether it was answered.
    fn packet(&mut self, packet: &[u8], now: Timestamp) -> bool {
        if matches!(message_word(packet), "release" | "decline") {
            let of = mac_of(packet);
            self.given.retain(|_, mac| Some(*mac) != of);
        }
        let source = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let arrival = Arrival { addresses: &[SERVER], local: SERVER, source, port: self.port };
        let mut effects = self.server.handle(packet, &arrival, self.hosts, now);
        if let &[Effect::Probe(address)] = effects.as_slice() {
            assert!((POOL.0..=POOL.1).contains(&address), "{address} is none of the pool");
            self.server.probed(address, None, self.hosts, now);
            effects = self.server.handle(packet, &arrival, self.hosts, now);
        }
        let (mut count, mut is_answered) = (0, false);
        while !effects.is_empty() {
            let mut later = Vec::new();
            for effect in effects {
                count += 1;
                match effect {
                    Effect::Send(reply) => {
                        self.reply(&reply.bytes);
                        is_answered = true;
                    }
                    Effect::Save { record, then } => {
                        if self.server.saved(&record, now) {
                            later.extend(then);
                        }
                    }
                    Effect::Record(record) => {
                        self.server.saved(&record, now);
                    }
                    Effect::Event(_) | Effect::Probe(_) => {}
                }
            }
            effects = later;
        }
        assert!(count <= MAX_EFFECTS, "one packet has {count} effects");
        is_answered
    }

    fn reply(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= MAX_REPLY_BYTES, "a reply of {} bytes", bytes.len());
        let word = message_word(bytes);
        assert!(matches!(word, "offer" | "ack" | "nak"), "a server sends no {word}");
        // `yiaddr` (RFC 2131, section 2).
        let (Some(&[a, b, c, d]), Some(mac)) = (bytes.get(16..20), mac_of(bytes)) else {
            panic!("a reply of {} bytes", bytes.len());
        };
        let address = Ipv4Addr::new(a, b, c, d);
        if word != "ack" || !(POOL.0..=POOL.1).contains(&address) {
            return;
        }
        if let Some(before) = self.given.insert(address, mac) {
            assert_eq!(before, mac, "{address} is acknowledged to two");
        }
    }
}

/// `chaddr` (RFC 2131, section 2).
fn mac_of(packet: &[u8]) -> Option<[u8; 6]> {
    packet.get(28..34)?.try_into().ok()
}

/// Size of the file that is asked for, bytes: several windows of the smallest blocks,
/// and an odd end.
const FILE_BYTES: u64 = 100_003;

/// What a transfer may take to end when its client says nothing more, in its own timeouts.
const MAX_TIMEOUTS: usize = 64;

/// A request to read and what its client says then; 10 ms pass before each packet.
pub(crate) fn tftp(input: &[u8]) -> bool {
    let packets = parts(input);
    let Some((first, answers)) = packets.split_first() else { return false };
    let request = match ReadRequest::parse(first) {
        Ok(Some(request)) => request,
        Ok(None) => return false,
        Err(refusal) => {
            let packet = refusal.packet();
            assert!(packet.starts_with(&[0, 5]) && packet.len() <= first.len() + 128);
            return false;
        }
    };
    assert!(request.block_bytes >= 8 && request.window_blocks >= 1, "{request:?}");
    let oack = request.oack(FILE_BYTES).unwrap_or_default();
    // A value is written in at most 20 digits; each option took three bytes of the request or more.
    assert!(oack.len() <= first.len() * 8, "{} bytes confirm {}", oack.len(), first.len());
    #[expect(clippy::disallowed_methods, reason = "an instant to count from; nothing waits")]
    let mut now = Instant::now();
    let mut transfer = Transfer::new(&request, FILE_BYTES, now);
    sent(&mut transfer, &request);
    for answer in answers {
        now += Duration::from_millis(10);
        transfer.handle_packet(answer, now);
        sent(&mut transfer, &request);
    }
    let mut timeouts = 0;
    while let Some(deadline) = transfer.poll_timeout() {
        transfer.handle_timeout(deadline);
        sent(&mut transfer, &request);
        timeouts += 1;
        assert!(timeouts <= MAX_TIMEOUTS, "it never ends: {transfer:?}");
    }
    assert!(transfer.outcome().is_some() && transfer.acknowledged_bytes() <= FILE_BYTES);
    true
}

/// What is sent at a time is one window at most, of blocks of the file.
fn sent(transfer: &mut Transfer, request: &ReadRequest) {
    let Some(transmit) = transfer.poll_transmit() else { return };
    let Transmit::Blocks(blocks) = transmit else { return };
    assert!(
        blocks.start >= 1 && blocks.end - blocks.start <= u64::from(request.window_blocks),
        "{blocks:?}"
    );
    for block in blocks {
        let bytes = transfer.bytes_of(block);
        let length = bytes.end - bytes.start;
        assert!(
            bytes.end <= FILE_BYTES && length <= u64::from(request.block_bytes),
            "block {block}: {bytes:?}"
        );
    }
}
