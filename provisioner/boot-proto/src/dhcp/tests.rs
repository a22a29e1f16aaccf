//! Requests in, effects out, as text.

use std::{fmt::Write as _, net::SocketAddrV4};

use dhcproto::{
    Decodable, Decoder, Encodable,
    v4::{DhcpOption, Flags, Message, OptionCode, UnknownOption},
};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::firmware::{FirmwareClass, FirmwareMap};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const POOL_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x57];

fn config(mode: Mode) -> Config {
    Config {
        mode,
        subnets: vec![
            Subnet {
                network: "10.1.0.0/24".parse().unwrap(),
                pool: Some(("10.1.0.100".parse().unwrap(), "10.1.0.103".parse().unwrap())),
                gateway: Some("10.1.0.254".parse().unwrap()),
                dns: vec!["10.1.0.2".parse().unwrap(), "10.1.0.3".parse().unwrap()],
                ntp: vec!["10.1.0.4".parse().unwrap(), "192.0.2.123".parse().unwrap()],
                domain: Some("cluster.test".to_owned()),
            },
            Subnet {
                network: "10.2.0.0/16".parse().unwrap(),
                pool: None,
                gateway: None,
                dns: Vec::new(),
                ntp: Vec::new(),
                domain: None,
            },
        ],
        server_addresses: vec![SERVER],
        lease_seconds: 3600,
        http_port: 9480,
        firmware: FirmwareMap(
            [(FirmwareClass::Bios, "undionly.kpxe"), (FirmwareClass::EfiX86_64, "snponly.efi")]
                .map(|(class, file)| (class, file.to_owned()))
                .into(),
        ),
    }
}

fn host(name: &str, mac: [u8; 6], address: Option<&str>) -> Host {
    Host {
        id: "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".parse().unwrap(),
        name: name.parse().unwrap(),
        mac: MacAddr(mac),
        address: address.map(|address| address.parse().unwrap()),
        gateway: None,
        dns: Vec::new(),
        domain: None,
    }
}

fn hosts() -> HostTable {
    [host("n1", MAC, Some("10.1.0.11/24")), host("n2", POOL_MAC, None)].into_iter().collect()
}

fn arrival() -> Arrival<'static> {
    Arrival {
        addresses: &[SERVER],
        local: SERVER,
        source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        port: Port::Dhcp,
    }
}

/// A request under construction.
struct Ask(Message);

impl Ask {
    fn new(kind: MessageType, mac: [u8; 6]) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(0x1234_5678, none, none, none, none, &mac);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        Self(message)
    }
    fn option(mut self, option: DhcpOption) -> Self {
        self.0.opts_mut().insert(option);
        self
    }
    fn raw(self, code: u8, value: &[u8]) -> Self {
        self.option(DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), value.to_vec())))
    }
    fn pxe(self, architecture: u16) -> Self {
        self.option(DhcpOption::ClassIdentifier(
            format!("PXEClient:Arch:{architecture:05}:UNDI:002001").into_bytes(),
        ))
        .raw(93, &architecture.to_be_bytes())
        .option(DhcpOption::ClientMachineIdentifier([0; 17].to_vec()))
    }
    fn broadcast(mut self) -> Self {
        self.0.set_flags(Flags::default().set_broadcast());
        self
    }
    fn from(mut self, address: [u8; 4]) -> Self {
        self.0.set_ciaddr(address);
        self
    }
    fn relay(mut self, address: [u8; 4]) -> Self {
        self.0.set_giaddr(address);
        self
    }
    fn wants(self, address: [u8; 4]) -> Self {
        self.option(DhcpOption::RequestedIpAddress(address.into()))
    }
    fn chose(self, server: Ipv4Addr) -> Self {
        self.option(DhcpOption::ServerIdentifier(server))
    }
    fn bytes(&self) -> Vec<u8> {
        self.0.to_vec().unwrap()
    }
}

fn discover() -> Ask {
    Ask::new(MessageType::Discover, MAC)
}
fn request() -> Ask {
    Ask::new(MessageType::Request, MAC)
}

fn describe(effects: &[Effect]) -> String {
    let mut text = String::new();
    for effect in effects {
        match effect {
            Effect::Record(record) => writeln!(text, "record {record:?}").unwrap(),
            Effect::Save { record, then } => {
                writeln!(text, "save {record:?}, then").unwrap();
                text += &describe(then);
            }
            Effect::Probe(address) => writeln!(text, "probe {address}").unwrap(),
            Effect::Event(event) => {
                let level = if event.is_warning() { "warn" } else { "info" };
                writeln!(text, "{level}: {event}").unwrap();
            }
            Effect::Send(reply) => {
                let message = Message::decode(&mut Decoder::new(&reply.bytes)).unwrap();
                writeln!(
                    text,
                    "send {} bytes from {} to {:?}",
                    reply.bytes.len(),
                    reply.from,
                    reply.to
                )
                .unwrap();
                writeln!(
                    text,
                    "  yiaddr {} siaddr {} file {}",
                    message.yiaddr(),
                    message.siaddr(),
                    file(&message)
                )
                .unwrap();
                for (_, option) in message.opts().iter() {
                    writeln!(text, "  {}", show(option)).unwrap();
                }
            }
        }
    }
    text
}

/// The boot file of the fixed part.
fn file(message: &Message) -> String {
    String::from_utf8_lossy(message.fname().unwrap_or_default()).trim_end_matches('\0').to_owned()
}

fn show(option: &DhcpOption) -> String {
    match option {
        DhcpOption::BootfileName(text) => {
            format!("BootfileName({:?})", String::from_utf8_lossy(text))
        }
        DhcpOption::TFTPServerName(text) => {
            format!("TFTPServerName({:?})", String::from_utf8_lossy(text))
        }
        DhcpOption::ClassIdentifier(text) => {
            format!("ClassIdentifier({:?})", String::from_utf8_lossy(text))
        }
        other => format!("{other:?}"),
    }
}

fn ask(server: &mut DhcpServer, ask: &Ask) -> Vec<Effect> {
    server.handle(&ask.bytes(), &arrival(), &hosts(), Timestamp(0))
}

fn check(asked: &Ask, expected: &Expect) {
    expected.assert_eq(&describe(&ask(&mut DhcpServer::new(config(Mode::Authoritative)), asked)));
}

fn reply_of(effects: &[Effect]) -> Option<(Message, Destination)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send(reply) => {
            Some((Message::decode(&mut Decoder::new(&reply.bytes)).unwrap(), reply.to))
        }
        Effect::Save { then, .. } => reply_of(then),
        Effect::Event(_) | Effect::Record(_) | Effect::Probe(_) => None,
    })
}

#[test]
fn bios_firmware_is_offered_undionly() {
    check(
        &discover().pxe(0).broadcast(),
        &expect![[r#"
            info: n1 (52:54:00:12:34:56): offered 10.1.0.11 to PXE firmware, BIOS (type 0)
            send 386 bytes from 10.1.0.1 to Broadcast
              yiaddr 10.1.0.11 siaddr 10.1.0.1 file undionly.kpxe
              SubnetMask(255.255.255.0)
              Router([10.1.0.254])
              DomainNameServer([10.1.0.2, 10.1.0.3])
              Hostname("n1")
              DomainName("cluster.test")
              BroadcastAddr(10.1.0.255)
              NtpServers([10.1.0.4, 192.0.2.123])
              VendorExtensions([6, 1, 8, 255])
              AddressLeaseTime(3600)
              MessageType(Offer)
              ServerIdentifier(10.1.0.1)
              Renewal(1800)
              Rebinding(3150)
              ClassIdentifier("PXEClient")
              TFTPServerName("10.1.0.1")
              BootfileName("undionly.kpxe\0")
              ClientMachineIdentifier([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        "#]],
    );
}

#[test]
fn uefi_firmware_gets_snponly_with_its_lease() {
    check(
        &request().pxe(7).wants([10, 1, 0, 11]).chose(SERVER),
        &expect![[r#"
            info: n1 (52:54:00:12:34:56): leased 10.1.0.11 for 3600 s to PXE firmware, UEFI x86-64 (type 7)
            send 384 bytes from 10.1.0.1 to Hardware { address: 10.1.0.11, mac: MacAddr([82, 84, 0, 18, 52, 86]) }
              yiaddr 10.1.0.11 siaddr 10.1.0.1 file snponly.efi
              SubnetMask(255.255.255.0)
              Router([10.1.0.254])
              DomainNameServer([10.1.0.2, 10.1.0.3])
              Hostname("n1")
              DomainName("cluster.test")
              BroadcastAddr(10.1.0.255)
              NtpServers([10.1.0.4, 192.0.2.123])
              VendorExtensions([6, 1, 8, 255])
              AddressLeaseTime(3600)
              MessageType(Ack)
              ServerIdentifier(10.1.0.1)
              Renewal(1800)
              Rebinding(3150)
              ClassIdentifier("PXEClient")
              TFTPServerName("10.1.0.1")
              BootfileName("snponly.efi\0")
              ClientMachineIdentifier([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        "#]],
    );
}

#[test]
fn http_firmware_gets_a_url() {
    let class = DhcpOption::ClassIdentifier(b"HTTPClient:Arch:00016:UNDI:003001".to_vec());
    check(
        &discover().option(class).raw(93, &[0, 16]),
        &expect![[r#"
            info: n1 (52:54:00:12:34:56): offered 10.1.0.11 to HTTP boot firmware, UEFI x86-64 HTTP (type 16)
            send 380 bytes from 10.1.0.1 to Hardware { address: 10.1.0.11, mac: MacAddr([82, 84, 0, 18, 52, 86]) }
              yiaddr 10.1.0.11 siaddr 10.1.0.1 file http://10.1.0.1:9480/firmware/snponly.efi
              SubnetMask(255.255.255.0)
              Router([10.1.0.254])
              DomainNameServer([10.1.0.2, 10.1.0.3])
              Hostname("n1")
              DomainName("cluster.test")
              BroadcastAddr(10.1.0.255)
              NtpServers([10.1.0.4, 192.0.2.123])
              AddressLeaseTime(3600)
              MessageType(Offer)
              ServerIdentifier(10.1.0.1)
              Renewal(1800)
              Rebinding(3150)
              ClassIdentifier("HTTPClient")
              BootfileName("http://10.1.0.1:9480/firmware/snponly.efi\0")
        "#]],
    );
}

#[test]
fn ipxe_gets_its_script() {
    check(
        &discover().pxe(0).raw(175, &[177, 1, 1]).option(DhcpOption::UserClass(b"iPXE".to_vec())),
        &expect![[r#"
            info: n1 (52:54:00:12:34:56): offered 10.1.0.11 to iPXE
            send 419 bytes from 10.1.0.1 to Hardware { address: 10.1.0.11, mac: MacAddr([82, 84, 0, 18, 52, 86]) }
              yiaddr 10.1.0.11 siaddr 10.1.0.1 file http://10.1.0.1:9480/boot/52-54-00-12-34-56/script?memory=${memsize}
              SubnetMask(255.255.255.0)
              Router([10.1.0.254])
              DomainNameServer([10.1.0.2, 10.1.0.3])
              Hostname("n1")
              DomainName("cluster.test")
              BroadcastAddr(10.1.0.255)
              NtpServers([10.1.0.4, 192.0.2.123])
              AddressLeaseTime(3600)
              MessageType(Offer)
              ServerIdentifier(10.1.0.1)
              Renewal(1800)
              Rebinding(3150)
              BootfileName("http://10.1.0.1:9480/boot/52-54-00-12-34-56/script?memory=${memsize}\0")
              ClientMachineIdentifier([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
              Unknown(UnknownOption { code: 175, data: [176, 1, 1] })
        "#]],
    );
    let by_class = discover().pxe(7).option(DhcpOption::UserClass(b"\x04iPXE".to_vec()));
    let (reply, _) =
        reply_of(&ask(&mut DhcpServer::new(config(Mode::Authoritative)), &by_class)).unwrap();
    assert_eq!(
        file(&reply),
        "http://10.1.0.1:9480/boot/52-54-00-12-34-56/script?memory=${memsize}"
    );
}

#[test]
fn a_system_gets_an_address_only() {
    check(
        &request().wants([10, 1, 0, 11]).option(DhcpOption::ClientIdentifier(vec![1, 2, 3])),
        &expect![[r#"
            info: n1 (52:54:00:12:34:56): leased 10.1.0.11 for 3600 s to operating system
            send 329 bytes from 10.1.0.1 to Hardware { address: 10.1.0.11, mac: MacAddr([82, 84, 0, 18, 52, 86]) }
              yiaddr 10.1.0.11 siaddr 0.0.0.0 file 
              SubnetMask(255.255.255.0)
              Router([10.1.0.254])
              DomainNameServer([10.1.0.2, 10.1.0.3])
              Hostname("n1")
              DomainName("cluster.test")
              BroadcastAddr(10.1.0.255)
              NtpServers([10.1.0.4, 192.0.2.123])
              AddressLeaseTime(3600)
              MessageType(Ack)
              ServerIdentifier(10.1.0.1)
              Renewal(1800)
              Rebinding(3150)
              ClientIdentifier([1, 2, 3])
        "#]],
    );
}

#[test]
fn arm64_without_a_file_gets_no_answer_and_names_the_file() {
    check(
        &discover().pxe(11),
        &expect![[r#"
        warn: no answer to n1 (52:54:00:12:34:56): firmware file snponly-arm64.efi for UEFI arm64 (type 11) is missing; set firmware.efi-arm64 to the path of such a file
    "#]],
    );
    check(
        &discover().pxe(6),
        &expect![[r#"
            warn: no answer to n1 (52:54:00:12:34:56): there is no boot file for UEFI x86-32 (type 6)
        "#]],
    );
    let mut config = config(Mode::Authoritative);
    config.firmware.0.insert(FirmwareClass::EfiArm64, "snponly-arm64.efi".to_owned());
    let (reply, _) = reply_of(&ask(&mut DhcpServer::new(config), &discover().pxe(11))).unwrap();
    assert_eq!(file(&reply), "snponly-arm64.efi");
}

#[test]
fn an_unknown_machine_gets_no_answer_and_one_line_a_minute() {
    let mut server = DhcpServer::new(config(Mode::Authoritative));
    let stranger = Ask::new(MessageType::Discover, [2, 0, 0, 0, 0, 9]).pxe(7).bytes();
    let mut heard = |seconds| {
        let now = Timestamp(0).plus_seconds(seconds);
        describe(&server.handle(&stranger, &arrival(), &hosts(), now))
    };
    expect![[r#"
        warn: no answer to 02:00:00:00:00:09 (PXE firmware, UEFI x86-64 (type 7)): no node has this MAC address; add one with `bedplate node add NAME --mac 02:00:00:00:00:09`
    "#]].assert_eq(&heard(0));
    assert_eq!(heard(59), "");
    assert_ne!(heard(60), "");
}

#[test]
fn complaints_are_bounded() {
    let mut server = DhcpServer::new(config(Mode::Authoritative));
    let mut said = 0;
    for number in 0..2 * MAX_COMPLAINTS {
        let [.., high, low] = number.to_be_bytes();
        let stranger = Ask::new(MessageType::Discover, [2, 0, 0, 0, high, low]).bytes();
        said += server.handle(&stranger, &arrival(), &hosts(), Timestamp(0)).len();
    }
    assert_eq!(said, MAX_COMPLAINTS);
    assert_eq!(server.complaints.len(), MAX_COMPLAINTS);
}

#[test]
fn replies_go_where_the_client_hears_them() {
    let to = |asked: &Ask| {
        reply_of(&ask(&mut DhcpServer::new(config(Mode::Authoritative)), asked)).unwrap().1
    };
    let address = Ipv4Addr::new(10, 1, 0, 11);
    assert_eq!(to(&discover()), Destination::Hardware { address, mac: MacAddr(MAC) });
    assert_eq!(to(&discover().broadcast()), Destination::Broadcast);
    assert_eq!(
        to(&request().from([10, 1, 0, 11])),
        Destination::Unicast(SocketAddrV4::new(address, 68))
    );
    let wrong = request().wants([10, 1, 0, 12]);
    assert_eq!(to(&wrong), Destination::Broadcast);
}

#[test]
fn a_wrong_address_is_refused() {
    check(
        &request().wants([10, 1, 0, 12]),
        &expect![[r#"
            warn: n1 (52:54:00:12:34:56): refused 10.1.0.12, its address here is 10.1.0.11
            send 300 bytes from 10.1.0.1 to Broadcast
              yiaddr 0.0.0.0 siaddr 0.0.0.0 file 
              MessageType(Nak)
              ServerIdentifier(10.1.0.1)
              Message("not your address")
        "#]],
    );
    check(
        &request().from([192, 168, 7, 7]),
        &expect![[r#"
            warn: n1 (52:54:00:12:34:56): refused 192.168.7.7, its address here is 10.1.0.11
            send 300 bytes from 10.1.0.1 to Broadcast
              yiaddr 0.0.0.0 siaddr 0.0.0.0 file 
              MessageType(Nak)
              ServerIdentifier(10.1.0.1)
              Message("not your address")
        "#]],
    );
}

#[test]
fn a_request_for_another_server_is_none_of_ours() {
    check(&request().wants([10, 1, 0, 11]).chose(Ipv4Addr::new(10, 1, 0, 9)), &expect![[""]]);
}

#[test]
fn inform_is_answered_without_an_address() {
    check(
        &Ask::new(MessageType::Inform, MAC).from([10, 1, 0, 11]),
        &expect![[r#"
            send 306 bytes from 10.1.0.1 to Unicast(10.1.0.11:68)
              yiaddr 0.0.0.0 siaddr 0.0.0.0 file 
              SubnetMask(255.255.255.0)
              Router([10.1.0.254])
              DomainNameServer([10.1.0.2, 10.1.0.3])
              Hostname("n1")
              DomainName("cluster.test")
              BroadcastAddr(10.1.0.255)
              NtpServers([10.1.0.4, 192.0.2.123])
              MessageType(Ack)
              ServerIdentifier(10.1.0.1)
        "#]],
    );
}

#[test]
fn a_relay_chooses_the_subnet_and_gets_its_option_back_last() {
    let hosts: HostTable = [host("n1", MAC, Some("10.2.3.4/16"))].into_iter().collect();
    let mut server = DhcpServer::new(config(Mode::Authoritative));
    // Sub-options out of order, and one that nobody knows: repeated as they are.
    let agent = [2, 2, 7, 7, 1, 3, 9, 9, 9, 200, 0];
    let asked = discover().pxe(7).relay([10, 2, 0, 1]).raw(82, &agent);
    let arrival = Arrival { source: "10.2.0.1:67".parse().unwrap(), ..arrival() };
    let effects = server.handle(&asked.bytes(), &arrival, &hosts, Timestamp(0));
    let Some(Effect::Send(reply)) = effects.last() else { panic!("no reply: {effects:?}") };
    assert_eq!(reply.to, Destination::Unicast("10.2.0.1:67".parse().unwrap()));
    let mut ending = vec![82, 11];
    ending.extend(agent);
    ending.push(255);
    let end = reply.bytes.iter().rposition(|&byte| byte == 255).unwrap();
    assert_eq!(&reply.bytes[end + 1 - ending.len()..=end], ending);
    let (message, _) = reply_of(&effects).unwrap();
    assert_eq!(message.yiaddr(), Ipv4Addr::new(10, 2, 3, 4));
    assert_eq!(message.giaddr(), Ipv4Addr::new(10, 2, 0, 1));
    assert_eq!(
        message.opts().get(OptionCode::SubnetMask),
        Some(&DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 0, 0)))
    );
    let nak = server.handle(
        &request().wants([10, 1, 0, 11]).relay([10, 2, 0, 1]).bytes(),
        &arrival,
        &hosts,
        Timestamp(0),
    );
    let (message, to) = reply_of(&nak).unwrap();
    assert_eq!(message.opts().msg_type(), Some(MessageType::Nak));
    assert!(message.flags().broadcast());
    assert_eq!(to, Destination::Unicast("10.2.0.1:67".parse().unwrap()));
}

#[test]
fn relay_and_client_may_name_another_network_than_the_relays() {
    let hosts: HostTable = [host("n1", MAC, Some("10.2.3.4/16"))].into_iter().collect();
    let link = [1, 2, 7, 7, 5, 4, 10, 2, 0, 0];
    let offered = |asked: &Ask| {
        let mut server = DhcpServer::new(config(Mode::Authoritative));
        reply_of(&server.handle(&asked.bytes(), &arrival(), &hosts, Timestamp(0)))
    };
    // A relay whose own address is in a network that nobody boots from (RFC 3527).
    let relayed = || discover().pxe(7).relay([10, 255, 0, 1]);
    let (offer, to) = offered(&relayed().raw(82, &link)).unwrap();
    assert_eq!(offer.yiaddr(), Ipv4Addr::new(10, 2, 3, 4));
    assert_eq!(to, Destination::Unicast("10.255.0.1:67".parse().unwrap()), "to the relay as ever");
    assert!(offered(&relayed()).is_none());
    // The client's word (RFC 3011), which is repeated; the relay's counts more.
    let (offer, _) = offered(&relayed().raw(118, &[10, 2, 0, 0])).unwrap();
    assert_eq!(offer.yiaddr(), Ipv4Addr::new(10, 2, 3, 4));
    let repeated = DhcpOption::SubnetSelection(Ipv4Addr::new(10, 2, 0, 0));
    assert_eq!(offer.opts().get(OptionCode::SubnetSelection), Some(&repeated));
    assert!(offered(&relayed().raw(118, &[10, 1, 0, 0]).raw(82, &link)).is_some());
    // One without a relay.
    assert!(offered(&discover().raw(118, &[10, 2, 0, 0])).is_some());
    // Sub-options that are cut, and options of another length, name nothing.
    for broken in [&[5, 4, 10, 2, 0][..], &[5], &[1, 9, 5, 4, 10, 2, 0, 0], &[5, 3, 10, 2, 0]] {
        assert!(offered(&relayed().raw(82, broken)).is_none(), "{broken:?}");
    }
    assert!(offered(&relayed().raw(118, &[10, 2, 0])).is_none());
    // Without a subnet of that name, the log has it.
    let mut server = DhcpServer::new(config(Mode::Authoritative));
    let asked = relayed().raw(118, &[10, 7, 0, 0]).bytes();
    expect![[r#"
        warn: no answer to n1 (52:54:00:12:34:56): it asks from the network of 10.7.0.0, which is not among dhcp.subnets
    "#]].assert_eq(&describe(&server.handle(&asked, &arrival(), &hosts, Timestamp(0))));
}

#[test]
fn no_address_says_why() {
    let mut server = DhcpServer::new(config(Mode::Authoritative));
    let asked = discover().relay([172, 16, 0, 1]).bytes();
    let mut lines = describe(&server.handle(&asked, &arrival(), &hosts(), Timestamp(0)));
    let elsewhere: HostTable = [host("n1", MAC, Some("10.2.0.7/16"))].into_iter().collect();
    let later = Timestamp(0).plus_seconds(100);
    lines += &describe(&server.handle(&discover().bytes(), &arrival(), &elsewhere, later));
    let asked = Ask::new(MessageType::Discover, POOL_MAC).relay([10, 2, 0, 1]).bytes();
    lines += &describe(&server.handle(&asked, &arrival(), &hosts(), later));
    expect![[r#"
        warn: no answer to n1 (52:54:00:12:34:56): it asks from the network of 172.16.0.1, which is not among dhcp.subnets
        warn: no answer to n1 (52:54:00:12:34:56): its address 10.2.0.7/16 is not in 10.1.0.0/24, the network that it asks from
        warn: no answer to n2 (52:54:00:12:34:57): it has no address, and 10.2.0.0/16 has no pool; give the node an address or set dhcp.subnets[].pool
    "#]].assert_eq(&lines);
}

#[test]
fn proxy_offers_a_boot_program_and_no_address() {
    let mut server = DhcpServer::new(config(Mode::Proxy));
    expect![[r#"
        info: n1 (52:54:00:12:34:56): offered a boot file to PXE firmware, BIOS (type 0)
        send 312 bytes from 10.1.0.1 to Broadcast
          yiaddr 0.0.0.0 siaddr 10.1.0.1 file undionly.kpxe
          VendorExtensions([6, 1, 8, 255])
          MessageType(Offer)
          ServerIdentifier(10.1.0.1)
          ClassIdentifier("PXEClient")
          TFTPServerName("10.1.0.1")
          BootfileName("undionly.kpxe\0")
          ClientMachineIdentifier([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    "#]]
    .assert_eq(&describe(&ask(&mut server, &discover().pxe(0))));
    let ipxe = discover().pxe(0).raw(175, &[177, 1, 1]);
    expect![[r#"
        info: n1 (52:54:00:12:34:56): offered a boot file to iPXE
        send 351 bytes from 10.1.0.1 to Broadcast
          yiaddr 0.0.0.0 siaddr 10.1.0.1 file http://10.1.0.1:9480/boot/52-54-00-12-34-56/script?memory=${memsize}
          MessageType(Offer)
          ServerIdentifier(10.1.0.1)
          ClassIdentifier("PXEClient")
          BootfileName("http://10.1.0.1:9480/boot/52-54-00-12-34-56/script?memory=${memsize}\0")
          ClientMachineIdentifier([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    "#]]
    .assert_eq(&describe(&ask(&mut server, &ipxe)));
    assert_eq!(ask(&mut server, &discover()), [], "a system needs no proxy");
    assert_eq!(
        ask(&mut server, &request().pxe(0)),
        [],
        "the request is for the server that gives addresses"
    );
    assert_eq!(
        ask(&mut server, &Ask::new(MessageType::Discover, [2, 0, 0, 0, 0, 9])),
        [],
        "an office computer"
    );
}

#[test]
fn the_boot_server_port_answers_its_sender() {
    let mut server = DhcpServer::new(config(Mode::Proxy));
    let arrival =
        Arrival { port: Port::Boot, source: "10.1.0.11:4011".parse().unwrap(), ..arrival() };
    let asked = request().pxe(7).from([10, 1, 0, 11]).bytes();
    let effects = server.handle(&asked, &arrival, &hosts(), Timestamp(0));
    let (message, to) = reply_of(&effects).unwrap();
    assert_eq!(to, Destination::Unicast("10.1.0.11:4011".parse().unwrap()));
    assert_eq!(message.opts().msg_type(), Some(MessageType::Ack));
    assert_eq!(file(&message), "snponly.efi");
}

/// The address that a node without its own is offered.
fn offered(
    server: &mut DhcpServer,
    mac: [u8; 6],
    wanted: Option<[u8; 4]>,
    hosts: &HostTable,
    at: i64,
) -> Option<Ipv4Addr> {
    let mut asked = Ask::new(MessageType::Discover, mac);
    if let Some(wanted) = wanted {
        asked = asked.wants(wanted);
    }
    let effects = server.handle(&asked.bytes(), &arrival(), hosts, Timestamp(0).plus_seconds(at));
    reply_of(&effects).map(|(message, _)| message.yiaddr())
}

#[test]
fn the_pool_is_stable_and_gives_nothing_twice() {
    let mac = |last| [2, 0, 0, 0, 0, last];
    let mut table: Vec<Host> =
        (1..=6).map(|last| host(&format!("n{last}"), mac(last), None)).collect();
    // One address of the pool belongs to a node.
    table.push(host("fixed", mac(7), Some("10.1.0.101/24")));
    let hosts: HostTable = table.into_iter().collect();
    let mut server = DhcpServer::new(config(Mode::Authoritative));
    let first: Vec<_> =
        (1..=3).map(|last| offered(&mut server, mac(last), None, &hosts, 0).unwrap()).collect();
    let mut distinct = first.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let free = [100, 102, 103].map(|last| Ipv4Addr::new(10, 1, 0, last));
    assert_eq!(distinct, free);
    assert_eq!(offered(&mut server, mac(4), None, &hosts, 0), None, "the pool is used up");
    assert_eq!(offered(&mut server, mac(2), None, &hosts, 1), Some(first[1]), "the same again");
    // After a restart the client asks for what it had.
    let mut restarted = DhcpServer::new(config(Mode::Authoritative));
    for (last, address) in (1..=3).rev().zip(first.iter().rev()) {
        assert_eq!(
            offered(&mut restarted, mac(last), Some(address.octets()), &hosts, 0),
            Some(*address)
        );
    }
    // An offer that nobody took is free again later.
    assert!(offered(&mut server, mac(4), None, &hosts, 100).is_some());
    assert_eq!(
        offered(&mut server, mac(5), Some([10, 1, 0, 101]), &hosts, 200).map(|a| free.contains(&a)),
        Some(true)
    );
}

#[test]
fn what_is_no_request_is_dropped() {
    let mut server = DhcpServer::new(config(Mode::Authoritative));
    let good = discover().pxe(7).bytes();
    let mut reply = good.clone();
    reply[0] = 2;
    let mut long_hardware_address = good.clone();
    long_hardware_address[2] = 255;
    let mut no_cookie = good.clone();
    no_cookie[236] = 0;
    for packet in [
        &[][..],
        &good[..239],
        &reply,
        &long_hardware_address,
        &long_hardware_address[..240],
        &no_cookie,
    ] {
        assert_eq!(server.handle(packet, &arrival(), &hosts(), Timestamp(0)), []);
    }
    assert_ne!(server.handle(&good, &arrival(), &hosts(), Timestamp(0)), []);
}

proptest! {
    #[test]
    fn no_packet_panics(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        options in proptest::collection::vec(any::<u8>(), 0..400),
        proxy in any::<bool>(),
        boot_port in any::<bool>(),
    ) {
        let mut packet = discover().pxe(7).bytes();
        packet.truncate(240);
        packet.extend([53, 1, 1]);
        packet.extend(options);
        for (place, value) in damage {
            let place = place.index(packet.len());
            packet[place] = value;
        }
        let mode = if proxy { Mode::Proxy } else { Mode::Authoritative };
        let port = if boot_port { Port::Boot } else { Port::Dhcp };
        let mut server = DhcpServer::new(config(mode));
        prop_assert!(!message_word(&packet).is_empty());
        let arrival = Arrival { port, ..arrival() };
        for effect in server.handle(&packet, &arrival, &hosts(), Timestamp(0)) {
            if let Effect::Send(reply) = effect {
                prop_assert!(reply.bytes.len() >= MIN_REPLY_BYTES);
                prop_assert!(Message::decode(&mut Decoder::new(&reply.bytes)).is_ok());
            }
        }
    }
}

mod counts;
mod leases;
mod strangers;
