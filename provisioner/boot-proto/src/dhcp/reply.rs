//! Replies on the wire.
//!
//! Options are written in ascending order with option 82 last, as RFC 3046 section 2.1 wants it;
//! the whole is padded with zeros to [`MIN_REPLY_BYTES`].

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::{
    Encodable,
    v4::{
        CLIENT_PORT, DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, SERVER_PORT,
        UnknownOption,
    },
};
use ipnet::Ipv4Net;

use super::{Destination, MIN_REPLY_BYTES, Reply, request::Request};

/// Option 43 of PXE 2.1: PXE_DISCOVERY_CONTROL (6) = 8, "boot the file that is named here, look for
/// no other boot server", then the end mark.
pub(super) const BOOT_THE_FILE: [u8; 4] = [6, 1, 8, 255];

/// Option 175 of iPXE: `no-pxedhcp` (176) = 1. Without it iPXE waits two seconds for a
/// proxyDHCP server.
const NO_PROXY_DHCP: [u8; 3] = [176, 1, 1];

/// Room for a file name in the fixed part, less the final zero.
const FILE_FIELD_BYTES: usize = 127;

/// The address settings of a reply.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    /// Address and length of the lease in seconds; `None` in an answer to INFORM.
    pub(super) granted: Option<(Ipv4Addr, u32)>,
    pub(super) network: Ipv4Net,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) dns: &'a [Ipv4Addr],
    pub(super) ntp: &'a [Ipv4Addr],
    pub(super) domain: Option<&'a str>,
    pub(super) host_name: &'a str,
}

/// What to load.
#[derive(Debug)]
pub(super) struct BootFile {
    /// File name for TFTP, or a URL.
    pub(super) name: String,
    /// Option 60: says that this is an answer for such a client.
    pub(super) class: Option<&'static str>,
    /// Option 43.
    pub(super) vendor: Option<Vec<u8>>,
    /// Tells iPXE that nobody else has to say anything.
    pub(super) complete: bool,
}

/// An OFFER or ACK. `None` cannot happen as long as the fields above fit their places.
pub(super) fn encode(
    request: &Request,
    kind: MessageType,
    server: Ipv4Addr,
    lease: Option<&Lease<'_>>,
    boot: Option<&BootFile>,
) -> Option<Vec<u8>> {
    let granted = lease.and_then(|lease| lease.granted);
    let mut message = blank(request, kind, server);
    message.set_yiaddr(granted.map_or(Ipv4Addr::UNSPECIFIED, |(address, _)| address));
    if kind == MessageType::Ack {
        message.set_ciaddr(request.ciaddr);
    }
    if let Some(lease) = lease {
        add_lease(&mut message, lease);
    }
    if let Some(boot) = boot {
        add_boot(&mut message, boot, server);
        if let Some(machine) = &request.machine_id {
            message.opts_mut().insert(DhcpOption::ClientMachineIdentifier(machine.clone()));
        }
    }
    finish(&message, request)
}

/// A refusal; always broadcast on the client's network (RFC 2131 section 4.3.2).
pub(super) fn nak(request: &Request, server: Ipv4Addr, why: &str) -> Option<Reply> {
    let mut message = blank(request, MessageType::Nak, server);
    message.opts_mut().insert(DhcpOption::Message(why.to_owned()));
    let to = if request.giaddr.is_unspecified() {
        Destination::Broadcast
    } else {
        message.set_flags(Flags::default().set_broadcast());
        Destination::Unicast(SocketAddrV4::new(request.giaddr, SERVER_PORT))
    };
    Some(Reply { bytes: finish(&message, request)?, from: server, to })
}

/// RFC 2131 section 4.1.
pub(super) fn destination(request: &Request, address: Ipv4Addr) -> Destination {
    if !request.giaddr.is_unspecified() {
        Destination::Unicast(SocketAddrV4::new(request.giaddr, SERVER_PORT))
    } else if !request.ciaddr.is_unspecified() {
        Destination::Unicast(SocketAddrV4::new(request.ciaddr, CLIENT_PORT))
    } else if request.flags.broadcast() || address.is_unspecified() {
        Destination::Broadcast
    } else {
        Destination::Hardware { address, mac: request.mac }
    }
}

fn blank(request: &Request, kind: MessageType, server: Ipv4Addr) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message =
        Message::new_with_id(request.xid, none, none, none, request.giaddr, &request.mac.0);
    message.set_opcode(Opcode::BootReply).set_flags(request.flags);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(server));
    if let Some(id) = &request.client_id {
        options.insert(DhcpOption::ClientIdentifier(id.clone()));
    }
    if let Some(subnet) = request.subnet_selection {
        options.insert(DhcpOption::SubnetSelection(subnet));
    }
    message
}

fn add_lease(message: &mut Message, lease: &Lease<'_>) {
    let options = message.opts_mut();
    options.insert(DhcpOption::SubnetMask(lease.network.netmask()));
    options.insert(DhcpOption::BroadcastAddr(lease.network.broadcast()));
    options.insert(DhcpOption::Hostname(lease.host_name.to_owned()));
    if let Some(gateway) = lease.gateway {
        options.insert(DhcpOption::Router(vec![gateway]));
    }
    if !lease.dns.is_empty() {
        options.insert(DhcpOption::DomainNameServer(lease.dns.to_vec()));
    }
    if !lease.ntp.is_empty() {
        options.insert(DhcpOption::NtpServers(lease.ntp.to_vec()));
    }
    if let Some(domain) = lease.domain {
        options.insert(DhcpOption::DomainName(domain.to_owned()));
    }
    if let Some((_, seconds)) = lease.granted {
        options.insert(DhcpOption::AddressLeaseTime(seconds));
        options.insert(DhcpOption::Renewal(seconds / 2));
        options.insert(DhcpOption::Rebinding(seconds - seconds / 8));
    }
}

fn add_boot(message: &mut Message, boot: &BootFile, server: Ipv4Addr) {
    message.set_siaddr(server);
    if boot.name.len() <= FILE_FIELD_BYTES {
        message.set_fname_str(&boot.name);
    }
    let options = message.opts_mut();
    // RFC 2132 wants no zero at the end, and firmware reads on until there is one: into the mark of
    // the options' end, 0xff.
    let mut name = boot.name.clone().into_bytes();
    name.push(0);
    options.insert(DhcpOption::BootfileName(name));
    if !boot.name.starts_with("http://") {
        options.insert(DhcpOption::TFTPServerName(server.to_string().into_bytes()));
    }
    if let Some(class) = boot.class {
        options.insert(DhcpOption::ClassIdentifier(class.as_bytes().to_vec()));
    }
    if let Some(vendor) = &boot.vendor {
        options.insert(DhcpOption::VendorExtensions(vendor.clone()));
    }
    if boot.complete {
        let ipxe = UnknownOption::new(OptionCode::from(175), NO_PROXY_DHCP.to_vec());
        options.insert(DhcpOption::Unknown(ipxe));
    }
}

/// Writes the message, the relay's option behind all others, and the padding.
fn finish(message: &Message, request: &Request) -> Option<Vec<u8>> {
    let mut bytes = message.to_vec().ok()?;
    if let Some(relay) = &request.relay_agent {
        let end = bytes.pop();
        for chunk in relay.chunks(usize::from(u8::MAX)) {
            bytes.push(82);
            bytes.push(u8::try_from(chunk.len()).ok()?);
            bytes.extend_from_slice(chunk);
        }
        bytes.extend(end);
    }
    if bytes.len() < MIN_REPLY_BYTES {
        bytes.resize(MIN_REPLY_BYTES, 0);
    }
    Some(bytes)
}
