//! The DHCP server without its sockets: RFC 2131 for registered nodes, RFC 4578 and PXE 2.1 for their firmware, and
//! proxyDHCP beside a server of the site's own.
//!
//! The shell (`provisioner::dhcp`) passes each packet to [`DhcpServer::handle`] and does what the [`Effect`]s say.
//!
//! | request | authoritative | proxy, port 67 | proxy, port 4011 |
//! |---|---|---|---|
//! | DISCOVER | OFFER | OFFER of a boot program | ACK of a boot program |
//! | REQUEST | ACK, NAK, or silence if it chose another server | silence | ACK of a boot program |
//! | INFORM | ACK without an address | silence | ACK of a boot program |
//! | DECLINE, RELEASE | the pool takes note | silence | silence |
//!
//! A machine that is not registered gets no answer at all, so that Bedplate can share a network.

mod pool;
mod reply;
mod request;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use api::ids::{MacAddr, Timestamp};
use dhcproto::v4::MessageType;
use ipnet::Ipv4Net;

use self::{
    pool::Pool,
    reply::{BootFile, Lease},
    request::Request,
};
use crate::{
    event::{BootEvent, Client, NoAddress, NodeRef},
    firmware::FirmwareMap,
    host::{Host, HostTable},
};

/// Largest packet that is read, bytes: an Ethernet jumbo frame; a client's DHCP message is below 1,500.
pub const MAX_PACKET_BYTES: usize = 9000;

/// Shortest reply, bytes: BOOTP relays and old boot ROMs drop shorter ones (RFC 1542 section 2.1).
pub const MIN_REPLY_BYTES: usize = 300;

/// An address that was offered and not yet asked for is held this long, seconds: PXE firmware waits up to 8 s for
/// further offers before it chooses.
const OFFER_HOLD_SECONDS: u32 = 60;

/// The same complaint about the same machine is made once in this many seconds: firmware asks again every few seconds.
const COMPLAINT_INTERVAL_SECONDS: i64 = 60;

/// Machines whose complaints are remembered; beyond it, new ones wait for the oldest to age. Bounds memory when somebody
/// invents hardware addresses.
const MAX_COMPLAINTS: usize = 4096;

/// How the server takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Gives addresses and boot programs.
    Authoritative,
    /// Gives boot programs only, beside a server that gives addresses.
    Proxy,
}

/// One network that addresses are given in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The network.
    pub network: Ipv4Net,
    /// First and last address for registered nodes that have no address of their own.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Domain.
    pub domain: Option<String>,
}

/// What the administrator decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The mode.
    pub mode: Mode,
    /// The networks.
    pub subnets: Vec<Subnet>,
    /// Length of a lease in seconds.
    pub lease_seconds: u32,
    /// Port of the HTTP boot listener, on the same address as the DHCP server.
    pub http_port: u16,
    /// Boot programs.
    pub firmware: FirmwareMap,
}

/// The port that a packet came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// 67.
    Dhcp,
    /// 4011, the boot server port of PXE 2.1.
    Boot,
}

/// How a packet came in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// IPv4 addresses of the receiving interface.
    pub addresses: &'a [Ipv4Addr],
    /// The server's address that it was sent to; for a broadcast, the one that the kernel would answer from.
    pub local: Ipv4Addr,
    /// Who sent it.
    pub source: SocketAddrV4,
    /// The port that it came to.
    pub port: Port,
}

/// Where a reply goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// 255.255.255.255 port 68 on the interface that the request came from.
    Broadcast,
    /// An address that answers ARP: a bound client, a relay, a PXE client on port 4011.
    Unicast(SocketAddrV4),
    /// A client that has no address yet and wants a frame to its hardware address (broadcast flag clear, RFC 2131
    /// section 4.1).
    Hardware {
        /// The address that it is being given; the IP destination.
        address: Ipv4Addr,
        /// The Ethernet destination.
        mac: MacAddr,
    },
}

/// A packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The UDP payload.
    pub bytes: Vec<u8>,
    /// Source address.
    pub from: Ipv4Addr,
    /// Destination.
    pub to: Destination,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Something happened that people and the state of the nodes should know. Comes before the packet that it belongs
    /// to, so that a node's address is known before the node can use it.
    Event(BootEvent),
    /// Send this.
    Send(Reply),
}

/// The server: its configuration, the leases of its pools, and what it has complained about.
#[derive(Debug)]
pub struct DhcpServer {
    config: Config,
    pools: Vec<Option<Pool>>,
    complaints: HashMap<(MacAddr, &'static str), Timestamp>,
}

/// A request of a registered node, and the answers to the questions that every branch asks.
struct Asked<'a> {
    request: &'a Request,
    arrival: &'a Arrival<'a>,
    host: &'a Host,
    hosts: &'a HostTable,
    now: Timestamp,
}

impl Asked<'_> {
    fn node(&self) -> NodeRef {
        NodeRef { id: self.host.id, name: self.host.name.clone(), mac: self.host.mac }
    }
}

impl DhcpServer {
    /// A server without leases.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let pools = config.subnets.iter().map(|subnet| subnet.pool.map(Pool::new)).collect();
        Self { config, pools, complaints: HashMap::new() }
    }

    /// Decides about one packet. A packet that is no DHCP request is dropped without a word.
    pub fn handle(
        &mut self,
        packet: &[u8],
        arrival: &Arrival<'_>,
        hosts: &HostTable,
        now: Timestamp,
    ) -> Vec<Effect> {
        let Some(request) = Request::parse(packet) else { return Vec::new() };
        if self.config.mode == Mode::Proxy && !request.client.boots() {
            return Vec::new();
        }
        let Some(host) = hosts.get(request.mac) else {
            let relay = (!request.giaddr.is_unspecified()).then_some(request.giaddr);
            let event = BootEvent::UnknownMac { mac: request.mac, client: request.client, relay };
            return self.complain(request.mac, "unknown", event, now);
        };
        let asked = Asked { request: &request, arrival, host, hosts, now };
        match (self.config.mode, arrival.port) {
            (Mode::Authoritative, Port::Dhcp) => self.authoritative(&asked),
            (Mode::Proxy, Port::Dhcp) if request.message == MessageType::Discover => {
                self.boot_only(&asked, MessageType::Offer)
            }
            (_, Port::Boot)
                if matches!(
                    request.message,
                    MessageType::Discover | MessageType::Request | MessageType::Inform
                ) =>
            {
                self.boot_only(&asked, MessageType::Ack)
            }
            _ => Vec::new(),
        }
    }

    fn authoritative(&mut self, asked: &Asked<'_>) -> Vec<Effect> {
        match asked.request.message {
            MessageType::Discover => self.discover(asked),
            MessageType::Request => self.request(asked),
            MessageType::Inform => self.inform(asked),
            MessageType::Decline => self.decline(asked),
            MessageType::Release => self.release(asked),
            _ => Vec::new(),
        }
    }

    fn discover(&mut self, asked: &Asked<'_>) -> Vec<Effect> {
        let (subnet, address) = match self.assign(asked, asked.request.requested, OFFER_HOLD_SECONDS) {
            Ok(found) => found,
            Err(reason) => return self.no_address(asked, reason),
        };
        let event =
            BootEvent::Offered { node: asked.node(), client: asked.request.client, address: Some(address) };
        self.grant(asked, MessageType::Offer, subnet, address, event)
    }

    /// RFC 2131 section 4.3.2: SELECTING names a server, INIT-REBOOT an address, RENEWING and REBINDING use one.
    fn request(&mut self, asked: &Asked<'_>) -> Vec<Effect> {
        let request = asked.request;
        if let Some(server) = request.server
            && server != asked.arrival.local
            && !asked.arrival.addresses.contains(&server)
        {
            return Vec::new();
        }
        let wanted = if request.ciaddr.is_unspecified() { request.requested } else { Some(request.ciaddr) };
        let Some(wanted) = wanted else { return Vec::new() };
        let (subnet, address) = match self.assign(asked, Some(wanted), self.config.lease_seconds) {
            Ok(found) => found,
            Err(reason) => return self.no_address(asked, reason),
        };
        if wanted != address {
            let event = BootEvent::Refused { node: asked.node(), wanted, assigned: Some(address) };
            let server = self.server_address(asked, Some(subnet));
            let mut effects = vec![Effect::Event(event)];
            effects.extend(reply::nak(request, server, "not your address").map(Effect::Send));
            return effects;
        }
        let event = BootEvent::Leased {
            node: asked.node(),
            client: request.client,
            address,
            lease_seconds: self.config.lease_seconds,
        };
        self.grant(asked, MessageType::Ack, subnet, address, event)
    }

    /// A client that has an address by other means asks for the other settings (RFC 2131 section 4.3.5).
    fn inform(&mut self, asked: &Asked<'_>) -> Vec<Effect> {
        let server = self.server_address(asked, None);
        let Ok(boot) = self.boot_file(asked, server) else { return self.missing_firmware(asked) };
        let lease = self.subnets_of(asked).next().map(|index| self.lease(asked.host, index, None));
        let reply = reply::encode(asked.request, MessageType::Ack, server, lease.as_ref(), boot.as_ref());
        let to = reply::destination(asked.request, Ipv4Addr::UNSPECIFIED);
        reply.map(|bytes| Effect::Send(Reply { bytes, from: server, to })).into_iter().collect()
    }

    fn decline(&mut self, asked: &Asked<'_>) -> Vec<Effect> {
        let Some(address) = asked.request.requested else { return Vec::new() };
        for pool in self.pools.iter_mut().flatten() {
            pool.decline(asked.host.mac, address, asked.now);
        }
        vec![Effect::Event(BootEvent::Conflict { node: asked.node(), address })]
    }

    fn release(&mut self, asked: &Asked<'_>) -> Vec<Effect> {
        let address = asked.request.ciaddr;
        for pool in self.pools.iter_mut().flatten() {
            pool.release(asked.host.mac, address);
        }
        vec![Effect::Event(BootEvent::Released { node: asked.node(), address })]
    }

    /// An OFFER or ACK with an address, and a boot program if the client is one that boots.
    fn grant(
        &mut self,
        asked: &Asked<'_>,
        message: MessageType,
        subnet: usize,
        address: Ipv4Addr,
        event: BootEvent,
    ) -> Vec<Effect> {
        let server = self.server_address(asked, Some(subnet));
        let Ok(boot) = self.boot_file(asked, server) else { return self.missing_firmware(asked) };
        let lease = self.lease(asked.host, subnet, Some((address, self.config.lease_seconds)));
        let to = reply::destination(asked.request, address);
        let mut effects = vec![Effect::Event(event)];
        effects.extend(
            reply::encode(asked.request, message, server, Some(&lease), boot.as_ref())
                .map(|bytes| Effect::Send(Reply { bytes, from: server, to })),
        );
        effects
    }

    /// A proxyDHCP answer: no address, only what to load.
    fn boot_only(&mut self, asked: &Asked<'_>, message: MessageType) -> Vec<Effect> {
        let server = self.server_address(asked, None);
        let Ok(boot) = self.boot_file(asked, server) else { return self.missing_firmware(asked) };
        let Some(bytes) = reply::encode(asked.request, message, server, None, boot.as_ref()) else {
            return Vec::new();
        };
        let to = match asked.arrival.port {
            Port::Boot => Destination::Unicast(asked.arrival.source),
            Port::Dhcp if !asked.request.giaddr.is_unspecified() => {
                reply::destination(asked.request, Ipv4Addr::UNSPECIFIED)
            }
            Port::Dhcp => Destination::Broadcast,
        };
        let event = BootEvent::Offered { node: asked.node(), client: asked.request.client, address: None };
        vec![Effect::Event(event), Effect::Send(Reply { bytes, from: server, to })]
    }

    /// Which subnet the request belongs to and which address the node has there.
    fn assign(
        &mut self,
        asked: &Asked<'_>,
        wanted: Option<Ipv4Addr>,
        seconds: u32,
    ) -> Result<(usize, Ipv4Addr), NoAddress> {
        let subnets: Vec<usize> = self.subnets_of(asked).collect();
        let Some(&first) = subnets.first() else {
            let relay = Some(asked.request.giaddr).filter(|relay| !relay.is_unspecified());
            return Err(NoAddress::NoSubnet { network: relay.or(asked.arrival.addresses.first().copied()) });
        };
        if let Some(own) = asked.host.address {
            return subnets
                .into_iter()
                .find(|&index| self.config.subnets[index].network.contains(&own.addr()))
                .map(|index| (index, own.addr()))
                .ok_or(NoAddress::OtherSubnet { address: own, subnet: self.config.subnets[first].network });
        }
        let Some((index, pool)) = subnets
            .into_iter()
            .find_map(|index| self.pools[index].as_ref().map(|_| index))
            .and_then(|index| self.pools[index].as_mut().map(|pool| (index, pool)))
        else {
            return Err(NoAddress::NoPool { subnet: self.config.subnets[first].network });
        };
        let taken = |address: Ipv4Addr| {
            asked.hosts.holder(address).is_some() || asked.arrival.addresses.contains(&address)
        };
        pool.assign(asked.host.mac, wanted, seconds, asked.now, taken)
            .map(|address| (index, address))
            .ok_or(NoAddress::PoolExhausted { subnet: self.config.subnets[index].network })
    }

    /// The subnets of the relay's network, or of the receiving interface.
    fn subnets_of<'a>(&'a self, asked: &Asked<'a>) -> impl Iterator<Item = usize> + 'a {
        let giaddr = asked.request.giaddr;
        let addresses = asked.arrival.addresses;
        self.config.subnets.iter().enumerate().filter_map(move |(index, subnet)| {
            let here = if giaddr.is_unspecified() {
                addresses.iter().any(|address| subnet.network.contains(address))
            } else {
                subnet.network.contains(&giaddr)
            };
            here.then_some(index)
        })
    }

    /// The server's own address as the client can reach it.
    fn server_address(&self, asked: &Asked<'_>, subnet: Option<usize>) -> Ipv4Addr {
        let network = subnet.map(|index| self.config.subnets[index].network);
        asked
            .arrival
            .addresses
            .iter()
            .copied()
            .find(|address| network.is_some_and(|network| network.contains(address)))
            .unwrap_or(asked.arrival.local)
    }

    fn lease<'a>(&'a self, host: &'a Host, subnet: usize, granted: Option<(Ipv4Addr, u32)>) -> Lease<'a> {
        let subnet = &self.config.subnets[subnet];
        Lease {
            granted,
            network: subnet.network,
            gateway: host.gateway.or(subnet.gateway),
            dns: if host.dns.is_empty() { &subnet.dns } else { &host.dns },
            domain: host.domain.as_deref().or(subnet.domain.as_deref()),
            host_name: host.name.as_str(),
        }
    }

    /// What this client should load; `Err` if the administrator configured nothing for its architecture.
    fn boot_file(&self, asked: &Asked<'_>, server: Ipv4Addr) -> Result<Option<BootFile>, ()> {
        let port = self.config.http_port;
        let firmware = |architecture| self.config.firmware.file(architecture).ok_or(());
        Ok(match asked.request.client {
            Client::System => None,
            Client::Ipxe => Some(BootFile {
                name: format!("http://{server}:{port}/boot/{}/script", asked.host.mac.hyphenated()),
                class: (self.config.mode == Mode::Proxy).then_some("PXEClient"),
                vendor: None,
                complete: self.config.mode == Mode::Authoritative,
            }),
            Client::Pxe(architecture) => Some(BootFile {
                name: firmware(architecture)?.to_owned(),
                class: Some("PXEClient"),
                vendor: Some(reply::BOOT_THE_FILE.to_vec()),
                complete: false,
            }),
            Client::Http(architecture) => Some(BootFile {
                name: format!("http://{server}:{port}/firmware/{}", firmware(architecture)?),
                class: Some("HTTPClient"),
                vendor: None,
                complete: false,
            }),
        })
    }

    fn missing_firmware(&mut self, asked: &Asked<'_>) -> Vec<Effect> {
        let (Client::Pxe(architecture) | Client::Http(architecture)) = asked.request.client else {
            return Vec::new();
        };
        let event = BootEvent::MissingFirmware { node: asked.node(), architecture };
        self.complain(asked.host.mac, "firmware", event, asked.now)
    }

    fn no_address(&mut self, asked: &Asked<'_>, reason: NoAddress) -> Vec<Effect> {
        let event = BootEvent::NoAddress { node: asked.node(), reason };
        self.complain(asked.host.mac, "address", event, asked.now)
    }

    /// The event, unless the same was said about the same machine a moment ago.
    fn complain(
        &mut self,
        mac: MacAddr,
        about: &'static str,
        event: BootEvent,
        now: Timestamp,
    ) -> Vec<Effect> {
        let quiet_until = |said: Timestamp| said.plus_seconds(COMPLAINT_INTERVAL_SECONDS);
        let key = (mac, about);
        if self.complaints.get(&key).is_some_and(|&said| now < quiet_until(said)) {
            return Vec::new();
        }
        if self.complaints.len() >= MAX_COMPLAINTS {
            self.complaints.retain(|_, &mut said| now < quiet_until(said));
            if self.complaints.len() >= MAX_COMPLAINTS {
                return Vec::new();
            }
        }
        self.complaints.insert(key, now);
        vec![Effect::Event(event)]
    }
}

#[cfg(test)]
mod tests;
