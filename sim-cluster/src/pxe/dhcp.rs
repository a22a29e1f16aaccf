//! DHCP as firmware and iPXE speak it (RFC 2131, RFC 4578, PXE 2.1 section 2.2), without sockets.
//!
//! | who | class (60) | architecture (93) | marks | broadcast flag |
//! |---|---|---|---|---|
//! | BIOS firmware | `PXEClient:Arch:00000:UNDI:002001` | 0 | | set |
//! | UEFI firmware | `PXEClient:Arch:00007:UNDI:003016` | 7 | | set |
//! | iPXE | as its firmware | as its firmware | user class (77) `iPXE`, features (175) | clear |

use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};
use api::ids::MacAddr;
use dhcproto::{
    Decodable as _, Decoder, Encodable as _,
    v4::{
        Architecture, DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption,
    },
};

/// Largest answer that firmware takes, bytes.
const MAX_MESSAGE_BYTES: u16 = 1_260;

/// Shortest message, bytes: BOOTP relays drop shorter ones (RFC 1542 section 2.1).
const MIN_MESSAGE_BYTES: usize = 300;

/// What iPXE says that it can do (option 175): PXE extensions, HTTP, DNS, bzImage, version 1.21.1.
const IPXE_FEATURES: [u8; 21] =
    [177, 5, 1, 0x80, 0x86, 0x10, 0x0e, 33, 1, 1, 19, 1, 1, 23, 1, 1, 235, 3, 1, 21, 1];

/// Firmware of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// PC BIOS.
    Bios,
    /// UEFI on x86-64.
    Uefi,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DhcpClientKind {
    pub(crate) mac: MacAddr,
    pub(crate) firmware: Firmware,
    /// iPXE runs already.
    pub(crate) ipxe: bool,
    /// Answers shall be broadcast.
    pub(crate) broadcast: bool,
}

/// An answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) kind: MessageType,
    pub(crate) mac: MacAddr,
    pub(crate) address: Ipv4Addr,
    /// Who offers (54).
    pub(crate) server: Ipv4Addr,
    /// Where the boot file is (`siaddr`).
    pub(crate) next_server: Ipv4Addr,
    /// The boot file, or its URL (67).
    pub(crate) file: String,
}

impl DhcpClientKind {
    /// Asks who would give it an address.
    pub(crate) fn discover(&self, transaction: u32, seconds: u16) -> anyhow::Result<Vec<u8>> {
        self.packet(MessageType::Discover, transaction, seconds, &[])
    }

    /// Takes an offer.
    pub(crate) fn request(
        &self,
        transaction: u32,
        seconds: u16,
        offer: &Reply,
    ) -> anyhow::Result<Vec<u8>> {
        let chosen = [
            DhcpOption::RequestedIpAddress(offer.address),
            DhcpOption::ServerIdentifier(offer.server),
        ];
        self.packet(MessageType::Request, transaction, seconds, &chosen)
    }

    fn packet(
        &self,
        kind: MessageType,
        transaction: u32,
        seconds: u16,
        more: &[DhcpOption],
    ) -> anyhow::Result<Vec<u8>> {
        let flags =
            if self.broadcast { Flags::default().set_broadcast() } else { Flags::default() };
        let mut message = Message::default();
        message
            .set_opcode(Opcode::BootRequest)
            .set_xid(transaction)
            .set_secs(seconds)
            .set_flags(flags)
            .set_chaddr(&self.mac.0);
        let (class, architecture, interface) = match self.firmware {
            Firmware::Bios => {
                ("PXEClient:Arch:00000:UNDI:002001", Architecture::X86_Bios, (1, 2, 1))
            }
            Firmware::Uefi => {
                ("PXEClient:Arch:00007:UNDI:003016", Architecture::from(7), (1, 3, 16))
            }
        };
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::MaxMessageSize(MAX_MESSAGE_BYTES));
        options.insert(DhcpOption::ParameterRequestList(wanted()));
        options.insert(DhcpOption::ClassIdentifier(class.as_bytes().to_vec()));
        options.insert(DhcpOption::ClientSystemArchitecture(architecture));
        options.insert(DhcpOption::ClientNetworkInterface(interface.0, interface.1, interface.2));
        options.insert(DhcpOption::ClientMachineIdentifier(self.machine()));
        if self.ipxe {
            options.insert(DhcpOption::UserClass(b"iPXE".to_vec()));
            let features = UnknownOption::new(OptionCode::from(175), IPXE_FEATURES.to_vec());
            options.insert(DhcpOption::Unknown(features));
            options.insert(DhcpOption::ClientIdentifier([&[1], &self.mac.0[..]].concat()));
        }
        more.iter().for_each(|option| drop(options.insert(option.clone())));
        let mut packet = message.to_vec().context("cannot write a DHCP message")?;
        packet.resize(packet.len().max(MIN_MESSAGE_BYTES), 0);
        Ok(packet)
    }

    /// Type 0 and a UUID (RFC 4578 section 2.3) that ends in the MAC address.
    fn machine(&self) -> Vec<u8> {
        [&[0; 11], &self.mac.0[..]].concat()
    }
}

/// What PXE firmware asks for (55).
fn wanted() -> Vec<OptionCode> {
    [
        1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60,
        66, 67, 97, 128,
    ]
    .map(OptionCode::from)
    .to_vec()
}

impl Reply {
    /// Reads an answer.
    pub(crate) fn parse(packet: &[u8]) -> anyhow::Result<Self> {
        let message =
            Message::decode(&mut Decoder::new(packet)).context("cannot read a DHCP message")?;
        ensure!(message.opcode() == Opcode::BootReply, "a request came where an answer should");
        let options = message.opts();
        let kind = options.msg_type().context("an answer without a type")?;
        let server = match options.get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(server)) => *server,
            _ => anyhow::bail!("an answer that names no server"),
        };
        let file = match options.get(OptionCode::BootfileName) {
            Some(DhcpOption::BootfileName(file)) => {
                String::from_utf8_lossy(file).trim_end_matches('\0').to_owned()
            }
            _ => String::new(),
        };
        let mac = MacAddr(message.chaddr().try_into().context("an answer to no Ethernet address")?);
        Ok(Self {
            kind,
            mac,
            address: message.yiaddr(),
            server,
            next_server: message.siaddr(),
            file,
        })
    }
}

/// The transaction of an answer (RFC 2131 section 2: bytes 4 to 7), without looking at the rest.
pub(crate) fn transaction(packet: &[u8]) -> Option<u32> {
    packet.get(4..8)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use boot_proto::{
        FirmwareClass, FirmwareMap, Host, HostTable,
        dhcp::{Arrival, Config, DhcpServer, Effect, Mode, Port, Subnet},
    };

    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 1, 0, 0, 9]);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

    /// The server's answer to a packet, by its real core.
    fn answer(packet: &[u8]) -> Reply {
        let subnet = Subnet {
            network: "10.88.0.0/16".parse().unwrap(),
            pool: None,
            gateway: None,
            dns: Vec::new(),
            ntp: Vec::new(),
            domain: None,
        };
        let firmware = [(FirmwareClass::Bios, "bios.kpxe"), (FirmwareClass::EfiX86_64, "uefi.efi")];
        let mut server = DhcpServer::new(Config {
            mode: Mode::Authoritative,
            subnets: vec![subnet],
            server_addresses: vec![SERVER],
            lease_seconds: 3600,
            http_port: 9480,
            firmware: FirmwareMap(firmware.map(|(class, file)| (class, file.to_owned())).into()),
        });
        let host = Host {
            id: "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".parse().unwrap(),
            name: "n9".parse().unwrap(),
            mac: MAC,
            address: Some("10.88.128.9/16".parse().unwrap()),
            gateway: None,
            dns: Vec::new(),
            domain: None,
        };
        let hosts: HostTable = [host].into_iter().collect();
        let source = std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let arrival = Arrival { addresses: &[SERVER], local: SERVER, source, port: Port::Dhcp };
        let effects = server.handle(packet, &arrival, &hosts, api::ids::Timestamp(0));
        let sent = effects.into_iter().find_map(|effect| match effect {
            Effect::Send(reply) => Some(reply.bytes),
            _ => None,
        });
        Reply::parse(&sent.expect("no answer")).unwrap()
    }

    #[test]
    fn the_server_takes_it_for_what_it_is() {
        let speaker =
            |firmware, ipxe| DhcpClientKind { mac: MAC, firmware, ipxe, broadcast: !ipxe };
        let script = "http://10.88.0.1:9480/boot/52-54-01-00-00-09/script?memory=${memsize}";
        for (speaker, file) in [
            (speaker(Firmware::Bios, false), "bios.kpxe"),
            (speaker(Firmware::Uefi, false), "uefi.efi"),
            (speaker(Firmware::Uefi, true), script),
        ] {
            let packet = speaker.discover(7, 0).unwrap();
            assert_eq!(transaction(&packet), Some(7));
            let offer = answer(&packet);
            assert_eq!((offer.kind, offer.mac, offer.server), (MessageType::Offer, MAC, SERVER));
            let taken = answer(&speaker.request(7, 0, &offer).unwrap());
            assert_eq!(taken.kind, MessageType::Ack);
            assert_eq!(taken.address, Ipv4Addr::new(10, 88, 128, 9));
            assert_eq!((taken.file.as_str(), taken.next_server), (file, SERVER));
        }
    }
}
