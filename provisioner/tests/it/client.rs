//! Plain firmware: a DHCP client that hears whole frames, and a TFTP client. Both run in the
//! client's namespace.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, SystemTime},
};

use dhcproto::{
    Decodable, Decoder, Encodable,
    v4::{DhcpOption, Flags, Message, MessageType, OptionCode, UnknownOption},
};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind, recv, sendto,
        setsockopt, socket, sockopt,
    },
    sys::time::{TimeVal, TimeValLike},
};

use crate::network::{CLIENT_INTERFACE, CLIENT_MAC};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the client says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// PXE firmware of this architecture.
    Pxe(u16),
    /// iPXE on BIOS.
    Ipxe,
}

/// An answer with the addresses of its frame.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) ethernet_destination: [u8; 6],
    pub(crate) ip_source: Ipv4Addr,
    pub(crate) ip_destination: Ipv4Addr,
    pub(crate) bytes: usize,
    pub(crate) message: Message,
}

impl Heard {
    /// The boot file of the fixed part.
    pub(crate) fn file(&self) -> String {
        String::from_utf8_lossy(self.message.fname().unwrap_or_default())
            .trim_end_matches('\0')
            .to_owned()
    }
    /// Option 60.
    pub(crate) fn class(&self) -> Option<String> {
        match self.message.opts().get(OptionCode::ClassIdentifier)? {
            DhcpOption::ClassIdentifier(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        }
    }
    /// Option 53.
    pub(crate) fn kind(&self) -> MessageType {
        self.message.opts().msg_type().unwrap()
    }
}

/// A request of firmware or iPXE.
pub(crate) fn request(kind: MessageType, program: Program, mac: [u8; 6]) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new(none, none, none, none, &mac);
    let architecture = match program {
        Program::Pxe(architecture) => architecture,
        Program::Ipxe => 0,
    };
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    let class = format!("PXEClient:Arch:{architecture:05}:UNDI:002001");
    options.insert(DhcpOption::ClassIdentifier(class.into_bytes()));
    options.insert(raw(93, &architecture.to_be_bytes()));
    options.insert(raw(97, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]));
    if program == Program::Ipxe {
        options.insert(raw(175, &[177, 5, 1, 0x80, 0x86, 0x10, 0x0e]));
        options.insert(raw(77, b"iPXE"));
    }
    message
}

/// An option by its number.
pub(crate) fn raw(code: u8, value: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), value.to_vec()))
}

/// The message with the broadcast flag set.
pub(crate) fn broadcast(mut message: Message) -> Message {
    message.set_flags(Flags::default().set_broadcast());
    message
}

/// The client's two sockets: one to speak as a machine without an address, one to hear every frame.
pub(crate) struct DhcpClient {
    mouth: OwnedFd,
    ear: OwnedFd,
}

impl DhcpClient {
    /// Opens the sockets in the calling thread's namespace.
    pub(crate) fn open() -> Self {
        let none = SockFlag::SOCK_CLOEXEC;
        let ear = socket(AddressFamily::Packet, SockType::Raw, none, SockProtocol::EthAll).unwrap();
        let mouth = socket(AddressFamily::Inet, SockType::Datagram, none, None).unwrap();
        setsockopt(&mouth, sockopt::BindToDevice, &OsString::from(CLIENT_INTERFACE)).unwrap();
        setsockopt(&mouth, sockopt::Broadcast, &true).unwrap();
        bind(mouth.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 68)).unwrap();
        Self { mouth, ear }
    }

    /// Broadcasts a request and returns the answer to it, or `None` after a while.
    pub(crate) fn ask(&self, message: &Message) -> Option<Heard> {
        let to = SockaddrIn::new(255, 255, 255, 255, 67);
        sendto(self.mouth.as_raw_fd(), &message.to_vec().unwrap(), &to, MsgFlags::empty()).unwrap();
        self.hear(message.xid(), 68)
    }

    /// The next answer with this transaction number to this UDP port.
    pub(crate) fn hear(&self, xid: u32, port: u16) -> Option<Heard> {
        let until = now() + PATIENCE;
        let mut frame = [0; 2048];
        while let Ok(left) = until.duration_since(now()) {
            let left = TimeVal::milliseconds(i64::try_from(left.as_millis()).unwrap().max(1));
            setsockopt(&self.ear, sockopt::ReceiveTimeout, &left).unwrap();
            match recv(self.ear.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(bytes) => {
                    if let Some(heard) = parse(&frame[..bytes], port)
                        && heard.message.xid() == xid
                    {
                        return Some(heard);
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => panic!("cannot hear: {error}"),
            }
        }
        None
    }

    /// The whole exchange of a client without an address: DISCOVER, OFFER, REQUEST, ACK.
    pub(crate) fn boot(&self, program: Program, flags: fn(Message) -> Message) -> (Heard, Heard) {
        let offer = self
            .ask(&flags(request(MessageType::Discover, program, CLIENT_MAC)))
            .expect("an offer");
        assert_eq!(offer.kind(), MessageType::Offer);
        let mut message = flags(request(MessageType::Request, program, CLIENT_MAC));
        let server = offer.message.opts().get(OptionCode::ServerIdentifier).unwrap().clone();
        message.opts_mut().insert(server);
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.message.yiaddr()));
        let ack = self.ask(&message).expect("an acknowledgement");
        assert_eq!(ack.kind(), MessageType::Ack);
        (offer, ack)
    }
}

/// Ethernet, IPv4, UDP to `port`, a DHCP reply; anything else is `None`.
fn parse(frame: &[u8], port: u16) -> Option<Heard> {
    let (ethernet, ip) = frame.split_at_checked(14)?;
    if ethernet[12..] != [8, 0] || ip.len() < 28 || ip[9] != 17 {
        return None;
    }
    let udp = ip.get(usize::from(ip[0] & 15) * 4..)?;
    let payload = udp.get(8..)?;
    if udp[2..4] != port.to_be_bytes() || payload.first() != Some(&2) {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    Some(Heard {
        ethernet_destination: ethernet[..6].try_into().ok()?,
        ip_source: address(12),
        ip_destination: address(16),
        bytes: payload.len(),
        message: Message::decode(&mut Decoder::new(payload)).ok()?,
    })
}

#[expect(clippy::disallowed_methods, reason = "the home of these tests' clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// What a TFTP server answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// The whole file.
    File(Vec<u8>),
    /// An error packet.
    Refused(u16, String),
}

/// A TFTP request.
pub(crate) fn tftp_request(opcode: u8, file: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = vec![0, opcode];
    let fields = [file, "octet"]
        .into_iter()
        .chain(options.iter().flat_map(|&(option, value)| [option, value]));
    for field in fields {
        packet.extend(field.bytes());
        packet.push(0);
    }
    packet
}

/// Fetches a file as firmware does; checks that every packet comes from the server's
/// address and one port.
pub(crate) fn tftp_fetch(server: Ipv4Addr, file: &str, options: &[(&str, &str)]) -> Fetched {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&tftp_request(1, file, options), SocketAddrV4::new(server, 69)).unwrap();
    tftp_receive(&socket, server, options)
}

/// Takes a transfer whose request has been sent.
pub(crate) fn tftp_receive(
    socket: &UdpSocket,
    server: Ipv4Addr,
    options: &[(&str, &str)],
) -> Fetched {
    let option = |name: &str| {
        options
            .iter()
            .find(|(option, _)| *option == name)
            .map(|(_, value)| value.parse::<usize>().unwrap())
    };
    let (block_bytes, window) =
        (option("blksize").unwrap_or(512), option("windowsize").unwrap_or(1));
    let (mut file, mut next, mut since_ack, mut peer) = (Vec::new(), 1_u16, 0, None);
    let mut packet = vec![0; 70_000];
    loop {
        let (bytes, from) = socket.recv_from(&mut packet).expect("a packet of the TFTP server");
        assert_eq!(from.ip(), server);
        // An error may come from the listening port; data may not.
        let ack = |block: u16| {
            let [high, low] = block.to_be_bytes();
            socket.send_to(&[0, 4, high, low], from).unwrap();
        };
        match &packet[..bytes] {
            [0, 5, high, low, text @ ..] => {
                let text = String::from_utf8_lossy(text.strip_suffix(&[0]).unwrap()).into_owned();
                return Fetched::Refused(u16::from_be_bytes([*high, *low]), text);
            }
            [0, 6, ..] => ack(0),
            [0, 3, high, low, data @ ..] => {
                assert_eq!(*peer.get_or_insert(from), from, "one port per transfer");
                assert_ne!(from.port(), 69);
                assert_eq!(u16::from_be_bytes([*high, *low]), next);
                file.extend_from_slice(data);
                since_ack += 1;
                let last = data.len() < block_bytes;
                if since_ack == window || last {
                    since_ack = 0;
                    ack(next);
                }
                if last {
                    return Fetched::File(file);
                }
                next = next.wrapping_add(1);
            }
            other => panic!("not a TFTP packet: {other:?}"),
        }
    }
}
