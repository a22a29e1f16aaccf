//! The DHCP server without its sockets: RFC 2131 for registered nodes, RFC 4578 and PXE 2.1 for
//! their firmware, and proxyDHCP beside a server of the site's own.
//!
//! The shell (`provisioner::dhcp`) passes each packet to [`DhcpServer::handle`] and does what the
//! [`Effect`]s say.
//!
//! | request | authoritative | proxy, port 67 | proxy, port 4011 |
//! |---|---|---|---|
//! | DISCOVER | OFFER | OFFER of a boot file | ACK of a boot file |
//! | REQUEST | ACK, NAK, or silence if it chose another server | silence | ACK of a boot file |
//! | INFORM | ACK without an address | silence | ACK of a boot file |
//! | DECLINE, RELEASE | the pool takes note | silence | silence |
//!
//! A machine that is not registered gets no answer at all, so that Bedplate can share a network.

mod answer;
mod budget;
mod config;
mod counts;
mod exchange;
mod giving_back;
mod leases;
mod pool;
mod reply;
mod request;

use std::{collections::HashMap, net::Ipv4Addr, sync::Arc};

use api::ids::{MacAddr, Timestamp};
use dhcproto::v4::MessageType;

use self::{
    budget::Budget,
    counts::{Refusal, RefusalCounts},
    leases::OutsideLeases,
    pool::{ClientRequest, Grant, Offer, Pool},
    request::Request,
};
pub use self::{
    config::{Config, Mode, Subnet},
    counts::{PoolUse, message_word},
    exchange::{Arrival, Destination, Effect, Port, Reply},
    leases::LeaseRecord,
};
use crate::{
    addresses::AddressPlan,
    event::{BootEvent, NoAddress, NodeRef},
    host::{Host, HostTable},
};

/// Largest packet that is read, bytes: an Ethernet jumbo frame; a client's DHCP message
/// is below 1,500.
pub const MAX_PACKET_BYTES: usize = 9000;

/// Shortest reply, bytes: BOOTP relays and old boot ROMs drop shorter ones (RFC 1542 section 2.1).
pub const MIN_REPLY_BYTES: usize = 300;

/// An address that was offered and not yet asked for is held this long, seconds: PXE firmware waits
/// up to 8 s for further offers before it chooses.
const OFFER_HOLD_SECONDS: u32 = 60;

/// The same complaint about the same machine is made once in this many seconds: firmware asks again
/// every few seconds.
const COMPLAINT_INTERVAL_SECONDS: i64 = 60;

/// Machines whose complaints are remembered; beyond it, new ones wait for the oldest to age. Bounds
/// memory when somebody invents MAC addresses.
const MAX_COMPLAINTS: usize = 4096;

/// The server: its configuration, the leases of its pools, and what it has complained about.
#[derive(Debug)]
pub struct DhcpServer {
    config: Config,
    pools: Vec<Option<Pool>>,
    outside: OutsideLeases,
    plan: Arc<AddressPlan>,
    complaints: HashMap<(MacAddr, &'static str), Timestamp>,
    budget: Budget,
    refused: RefusalCounts,
}

/// A request of a registered node, and the answers to the questions that every branch asks.
struct NodeRequest<'a> {
    request: &'a Request,
    arrival: &'a Arrival<'a>,
    host: &'a Host,
    hosts: &'a HostTable,
    now: Timestamp,
}

/// Why a DISCOVER is not answered with an address, or not yet.
enum NotOffered {
    NoAddress(NoAddress),
    Probe(Ipv4Addr),
    Wait,
}

impl From<NoAddress> for NotOffered {
    fn from(reason: NoAddress) -> Self {
        Self::NoAddress(reason)
    }
}

impl NodeRequest<'_> {
    fn asking(&self) -> ClientRequest {
        ClientRequest { mac: self.host.mac, now: self.now }
    }

    /// Whether an address is not a pool's to give.
    fn reserved(&self, plan: &AddressPlan) -> impl Fn(Ipv4Addr) -> bool {
        |address| {
            plan.is_taken(address)
                || self.hosts.is_taken(address)
                || self.arrival.addresses.contains(&address)
        }
    }

    /// Whether an address that a machine has leased is not its own any more. That somebody names
    /// it, as a name server or gateway of nodes, takes it from nobody.
    fn withdrawn(&self, plan: &AddressPlan) -> impl Fn(Ipv4Addr) -> bool {
        |address| {
            plan.is_taken(address)
                || self.hosts.is_fixed(address)
                || self.arrival.addresses.contains(&address)
        }
    }

    fn node(&self) -> NodeRef {
        NodeRef { id: self.host.id, name: self.host.name.clone(), mac: self.host.mac }
    }
}

impl DhcpServer {
    /// A server without leases.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let pools = config.subnets.iter().map(|subnet| subnet.pool.map(Pool::new)).collect();
        let plan = Arc::new(AddressPlan::new(&config.server_addresses, &config.subnets));
        Self {
            config,
            pools,
            outside: OutsideLeases::default(),
            plan,
            complaints: HashMap::new(),
            budget: Budget::default(),
            refused: RefusalCounts::default(),
        }
    }

    /// Which addresses are somebody's by the configuration.
    #[must_use]
    pub fn plan(&self) -> Arc<AddressPlan> {
        Arc::clone(&self.plan)
    }

    /// Decides about one packet. A packet that is no DHCP request is dropped without a word.
    pub fn handle(
        &mut self,
        packet: &[u8],
        arrival: &Arrival<'_>,
        hosts: &HostTable,
        now: Timestamp,
    ) -> Vec<Effect> {
        let Some(request) = Request::parse(packet) else {
            self.refuse(Refusal::Unreadable);
            return Vec::new();
        };
        if self.config.mode == Mode::Proxy && !request.client.boots() {
            return Vec::new();
        }
        let Some(host) = hosts.get(request.mac) else {
            self.refuse(Refusal::Unregistered);
            let relay = (!request.giaddr.is_unspecified()).then_some(request.giaddr);
            let event = BootEvent::UnknownMac { mac: request.mac, client: request.client, relay };
            return self.complain(request.mac, "unknown", event, now);
        };
        let asked = NodeRequest { request: &request, arrival, host, hosts, now };
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

    fn authoritative(&mut self, asked: &NodeRequest<'_>) -> Vec<Effect> {
        match asked.request.message {
            MessageType::Discover => self.discover(asked),
            MessageType::Request => self.request(asked),
            MessageType::Inform => self.inform(asked),
            MessageType::Decline => self.decline(asked),
            MessageType::Release => self.release(asked),
            _ => Vec::new(),
        }
    }

    fn discover(&mut self, asked: &NodeRequest<'_>) -> Vec<Effect> {
        let (subnet, address) = match self.offer(asked) {
            Ok(found) => found,
            Err(NotOffered::NoAddress(reason)) => return self.no_address(asked, reason),
            Err(NotOffered::Probe(address)) => return vec![Effect::Probe(address)],
            Err(NotOffered::Wait) => return Vec::new(),
        };
        let event = BootEvent::Offered {
            node: asked.node(),
            client: asked.request.client,
            address: Some(address),
        };
        self.grant(asked, MessageType::Offer, subnet, address, event)
    }

    fn offer(&mut self, asked: &NodeRequest<'_>) -> Result<(usize, Ipv4Addr), NotOffered> {
        let subnet = match self.subnet_of(asked)? {
            (subnet, Some(own)) => return Ok((subnet, own)),
            (subnet, None) => subnet,
        };
        // ARP reaches no other network.
        let can_probe = asked.request.giaddr.is_unspecified();
        let (asking, wanted) = (asked.asking(), asked.request.requested);
        let plan = self.plan();
        let pool = self.pool(subnet)?;
        match pool.offer(asking, wanted, OFFER_HOLD_SECONDS, can_probe, asked.reserved(&plan)) {
            Offer::Address(address) => Ok((subnet, address)),
            Offer::Probe(address) => Err(NotOffered::Probe(address)),
            Offer::Wait => Err(NotOffered::Wait),
            Offer::Exhausted => {
                Err(NoAddress::PoolExhausted { subnet: self.config.subnets[subnet].network }.into())
            }
        }
    }

    /// RFC 2131 section 4.3.2: SELECTING names a server, INIT-REBOOT an address, RENEWING and
    /// REBINDING use one.
    fn request(&mut self, asked: &NodeRequest<'_>) -> Vec<Effect> {
        let request = asked.request;
        if let Some(server) = request.server
            && server != asked.arrival.local
            && !asked.arrival.addresses.contains(&server)
        {
            return Vec::new();
        }
        let wanted =
            if request.ciaddr.is_unspecified() { request.requested } else { Some(request.ciaddr) };
        let Some(wanted) = wanted else { return Vec::new() };
        let (subnet, own) = match self.subnet_of(asked) {
            Ok(found) => found,
            Err(reason) => return self.no_address(asked, reason),
        };
        let grant = match own {
            Some(own) if own == wanted => Grant::Renewed(None),
            Some(own) => Grant::Refused(Some(own)),
            None => {
                let (seconds, plan) = (self.config.lease_seconds, self.plan());
                match self.pool(subnet) {
                    Ok(pool) => {
                        let (reserved, withdrawn) = (asked.reserved(&plan), asked.withdrawn(&plan));
                        pool.request(asked.asking(), wanted, seconds, reserved, withdrawn)
                    }
                    Err(reason) => return self.no_address(asked, reason),
                }
            }
        };
        self.acknowledge(asked, subnet, wanted, grant)
    }

    fn acknowledge(
        &mut self,
        asked: &NodeRequest<'_>,
        subnet: usize,
        address: Ipv4Addr,
        grant: Grant,
    ) -> Vec<Effect> {
        if let Grant::Refused(assigned) = grant {
            self.refuse(Refusal::NotItsAddress);
            let event = BootEvent::Refused { node: asked.node(), wanted: address, assigned };
            let server = self.server_address(asked, Some(subnet));
            let mut effects = vec![Effect::Event(event)];
            effects.extend(reply::nak(asked.request, server, "not your address").map(Effect::Send));
            return effects;
        }
        let event = BootEvent::Leased {
            node: asked.node(),
            client: asked.request.client,
            address,
            lease_seconds: self.config.lease_seconds,
        };
        let mut effects = self.grant(asked, MessageType::Ack, subnet, address, event);
        match grant {
            Grant::New(record)
                if effects.iter().any(|effect| matches!(effect, Effect::Send(_))) =>
            {
                if self.budget.wait(asked.host.mac) {
                    return vec![Effect::Save { record, then: effects }];
                }
                self.refuse(Refusal::TooManyChanges);
                Vec::new()
            }
            // There is no boot file: the answer is silence, and no lease.
            Grant::New(_) => effects,
            Grant::Renewed(record) => {
                effects.extend(record.map(Effect::Record));
                effects
            }
            Grant::Refused(_) => effects,
        }
    }

    /// A client that has an address by other means asks for the other settings (RFC 2131
    /// section 4.3.5).
    fn inform(&mut self, asked: &NodeRequest<'_>) -> Vec<Effect> {
        let server = self.server_address(asked, None);
        let Ok(boot) = self.boot_file(asked, server) else { return self.missing_firmware(asked) };
        let lease = self.subnets_of(asked).next().map(|index| self.lease(asked.host, index, None));
        let reply =
            reply::encode(asked.request, MessageType::Ack, server, lease.as_ref(), boot.as_ref());
        let to = reply::destination(asked.request, Ipv4Addr::UNSPECIFIED);
        reply.map(|bytes| Effect::Send(Reply { bytes, from: server, to })).into_iter().collect()
    }

    /// Which subnet the request belongs to, and the address that the node's record says, if it
    /// does. Without one, the subnet has a pool.
    fn subnet_of(&self, asked: &NodeRequest<'_>) -> Result<(usize, Option<Ipv4Addr>), NoAddress> {
        let mut subnets = self.subnets_of(asked).peekable();
        let Some(&first) = subnets.peek() else {
            let network = asked.request.link().or(asked.arrival.addresses.first().copied());
            return Err(NoAddress::NoSubnet { network });
        };
        let subnet = self.config.subnets[first].network;
        if let Some(own) = asked.host.address {
            return subnets
                .find(|&index| self.config.subnets[index].network.contains(&own.addr()))
                .map(|index| (index, Some(own.addr())))
                .ok_or(NoAddress::OtherSubnet { address: own, subnet });
        }
        let with_pool = subnets.find(|&index| self.pools[index].is_some());
        with_pool.map(|index| (index, None)).ok_or(NoAddress::NoPool { subnet })
    }

    fn pool(&mut self, subnet: usize) -> Result<&mut Pool, NoAddress> {
        let network = self.config.subnets[subnet].network;
        self.pools[subnet].as_mut().ok_or(NoAddress::NoPool { subnet: network })
    }

    /// The subnets of the network that the request or its relay names, or of the
    /// receiving interface.
    fn subnets_of<'a>(&'a self, asked: &NodeRequest<'a>) -> impl Iterator<Item = usize> + 'a {
        let link = asked.request.link();
        let addresses = asked.arrival.addresses;
        self.config.subnets.iter().enumerate().filter_map(move |(index, subnet)| {
            let here = match link {
                None => addresses.iter().any(|address| subnet.network.contains(address)),
                Some(link) => subnet.network.contains(&link),
            };
            here.then_some(index)
        })
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
