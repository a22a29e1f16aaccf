//! A DHCP request as far as the server reads it.
//!
//! Layout (RFC 2131 section 2): a fixed part of 236 bytes, the magic cookie, options as code,
//! length, value. Only the options below are read, each by its raw bytes, so that a malformed one
//! costs nothing but itself.

use std::net::Ipv4Addr;

use api::ids::MacAddr;
use dhcproto::v4::{Flags, MessageType, Opcode, borrowed};

use crate::{event::Client, firmware::Architecture};

/// Length of an Ethernet address.
const ETHERNET_BYTES: u8 = 6;

/// Sub-option of option 82 (RFC 3527).
const LINK_SELECTION: u8 = 5;

/// The parts of a request that decide the answer, and those that the answer repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) message: MessageType,
    pub(super) client: Client,
    pub(super) xid: u32,
    pub(super) flags: Flags,
    pub(super) ciaddr: Ipv4Addr,
    pub(super) giaddr: Ipv4Addr,
    pub(super) mac: MacAddr,
    /// Option 50.
    pub(super) requested: Option<Ipv4Addr>,
    /// Option 54.
    pub(super) server: Option<Ipv4Addr>,
    /// Option 61, repeated (RFC 6842).
    pub(super) client_id: Option<Vec<u8>>,
    /// Option 82, repeated as it is (RFC 3046 section 2.2).
    pub(super) relay_agent: Option<Vec<u8>>,
    /// Its sub-option 5: an address of the client's link, where the relay's own is of another one
    /// (RFC 3527).
    link_selection: Option<Ipv4Addr>,
    /// Option 118: the client's own word on its subnet, repeated (RFC 3011).
    pub(super) subnet_selection: Option<Ipv4Addr>,
    /// Option 97, repeated (PXE 2.1 section 2.2.1).
    pub(super) machine_id: Option<Vec<u8>>,
}

/// Options that say what the client is.
#[derive(Default)]
struct Identity {
    class: Vec<u8>,
    architecture: Option<Architecture>,
    ipxe: bool,
}

impl Request {
    /// Reads a packet; `None` if it is not a request of an Ethernet client.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let fixed = borrowed::Message::new(packet).ok()?;
        if fixed.opcode() != Opcode::BootRequest || fixed.hlen() != ETHERNET_BYTES {
            return None;
        }
        let mut request = Self {
            message: MessageType::Unknown(0),
            client: Client::System,
            xid: fixed.xid(),
            flags: fixed.flags(),
            ciaddr: fixed.ciaddr(),
            giaddr: fixed.giaddr(),
            mac: MacAddr(fixed.chaddr().try_into().ok()?),
            requested: None,
            server: None,
            client_id: None,
            relay_agent: None,
            link_selection: None,
            subnet_selection: None,
            machine_id: None,
        };
        let mut identity = Identity::default();
        for option in fixed.opts() {
            request.read_option(u8::from(option.code()), option.data(), &mut identity);
        }
        request.client = identity.client();
        let known = matches!(
            request.message,
            MessageType::Discover
                | MessageType::Request
                | MessageType::Inform
                | MessageType::Decline
                | MessageType::Release
        );
        known.then_some(request)
    }

    /// An address of the network that the client is in, if the request names one: the relay's word
    /// before the client's (RFC 3527 section 3), and both before the address that the relay has.
    pub(super) fn link(&self) -> Option<Ipv4Addr> {
        let named = [self.link_selection, self.subnet_selection, Some(self.giaddr)];
        named.into_iter().flatten().find(|address| !address.is_unspecified())
    }

    fn read_option(&mut self, code: u8, value: &[u8], identity: &mut Identity) {
        match code {
            50 => self.requested = address(value),
            53 => self.message = value.first().map_or(MessageType::Unknown(0), |&kind| kind.into()),
            54 => self.server = address(value),
            60 => identity.class = value.to_vec(),
            61 => self.client_id = Some(value.to_vec()),
            77 => identity.ipxe |= is_ipxe_class(value),
            82 => {
                self.link_selection = sub_option(value, LINK_SELECTION).and_then(address);
                self.relay_agent = Some(value.to_vec());
            }
            93 => {
                identity.architecture =
                    value.first_chunk().map(|code| Architecture(u16::from_be_bytes(*code)))
            }
            97 => self.machine_id = Some(value.to_vec()),
            118 => self.subnet_selection = address(value),
            175 => identity.ipxe = true,
            _ => {}
        }
    }
}

impl Identity {
    fn client(&self) -> Client {
        if self.ipxe {
            return Client::Ipxe;
        }
        let http = self.class.starts_with(b"HTTPClient");
        if !http && !self.class.starts_with(b"PXEClient") {
            return Client::System;
        }
        let architecture = self
            .architecture
            .or_else(|| architecture_of_class(&self.class))
            .unwrap_or(Architecture(0));
        if http { Client::Http(architecture) } else { Client::Pxe(architecture) }
    }
}

fn address(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}

/// A part of option 82: code, length, value, one after the other (RFC 3046 section 2.0).
fn sub_option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [code, length, rest @ ..] = options {
        let (value, behind) = rest.split_at_checked(usize::from(*length))?;
        if *code == wanted {
            return Some(value);
        }
        options = behind;
    }
    None
}

/// Option 77 of iPXE: the bare word, or a list of length-prefixed words (RFC 3004).
fn is_ipxe_class(value: &[u8]) -> bool {
    value == b"iPXE" || value.windows(5).any(|window| window == b"\x04iPXE")
}

/// The number in `PXEClient:Arch:00007:UNDI:003016`.
fn architecture_of_class(class: &[u8]) -> Option<Architecture> {
    let digits = class.split(|&byte| byte == b':').nth(2)?;
    std::str::from_utf8(digits).ok()?.parse().ok().map(Architecture)
}
