//! A DHCPv4 client (RFC 2131) as a pure state machine: packets and time in, packets
//! and a lease out.
//!
//! States and the events that are legal in them:
//!
//! | state | event | next |
//! |---|---|---|
//! | `Selecting` | `Received` a good OFFER | `Requesting`, REQUEST sent |
//! | `Selecting` | `Timer` | `Selecting`, DISCOVER sent again, or `GaveUp` after the last |
//! | `Requesting` | `Received` ACK | `Bound` |
//! | `Requesting` | `Received` NAK | `Selecting`, DISCOVER sent |
//! | `Requesting` | `Timer` | `Requesting`, REQUEST sent again, or `Selecting` after the last |
//! | `Bound`, `GaveUp` | any | unchanged |
//!
//! Everything else that is received is dropped. The client names itself by its MAC address, in the
//! client identifier too (type 1 and the address, RFC 2132 section 9.14): iPXE asked so before it
//! and the node's own network asks so after it, so that a site's server finds the same lease for
//! all three. It asks for broadcast replies, because the interface has no address yet. The lease is
//! not renewed: stage 1 gives the address up again.

use std::{net::Ipv4Addr, time::Duration};

use api::ids::MacAddr;
use dhcproto::{
    Decodable, Decoder, Encodable,
    v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode},
};
use ipnet::Ipv4Net;

/// Waits after each DISCOVER of a round, milliseconds. Shorter than RFC 2131's 4 s to begin
/// with, since the server has just talked to this machine's firmware; the last ones leave time
/// for a spanning tree.
const DISCOVER_WAITS_MS: [u32; 7] = [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000];

/// Waits after each REQUEST before the offer is given up, milliseconds.
const REQUEST_WAITS_MS: [u32; 3] = [1_000, 2_000, 4_000];

/// REQUESTs that may be refused or stay unanswered before the round is over: a server that offers
/// and then refuses would be asked for ever.
const MAX_OFFERS: u8 = 8;

/// Smallest message, bytes: BOOTP relays drop shorter ones (RFC 1542, section 2.1).
const MIN_MESSAGE_BYTES: usize = 300;

/// Hardware type of Ethernet, at the head of the client identifier.
const ETHERNET: u8 = 1;

/// An address to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Address and prefix length. Without a subnet mask the prefix length is 32.
    pub address: Ipv4Net,
    /// First router of the answer (option 3).
    pub gateway: Option<Ipv4Addr>,
    /// Address of the server that gave it.
    pub server: Ipv4Addr,
}

/// Input of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A datagram came to port 68.
    Received(&'a [u8]),
    /// The time of the last [`Effect::Wait`] has come.
    Timer,
}

/// What the shell is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Broadcast this datagram to port 67.
    Send(Vec<u8>),
    /// Give [`Event::Timer`] when this much time has passed, unless another wait is
    /// asked for before.
    Wait(Duration),
    /// Done: use this.
    Bound(Lease),
    /// Nobody answered in this round.
    GaveUp,
}

/// The client. `now` is time since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpClient {
    mac: MacAddr,
    transaction: u32,
    wanted: Option<Ipv4Addr>,
    offers: u8,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Selecting { sent: usize },
    Requesting { offer: Offer, sent: usize },
    Bound,
    GaveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offer {
    address: Ipv4Addr,
    server: Ipv4Addr,
}

impl DhcpClient {
    /// Starts a round. `transaction` is random; `wanted` is the address to ask for if it is known.
    #[must_use]
    pub fn start(mac: MacAddr, transaction: u32, wanted: Option<Ipv4Addr>) -> (Self, Vec<Effect>) {
        let mut client =
            Self { mac, transaction, wanted, offers: 0, state: State::Selecting { sent: 0 } };
        let effects = client.discover(Duration::ZERO);
        (client, effects)
    }

    /// One event, `now` after the start.
    pub fn handle(&mut self, event: Event<'_>, now: Duration) -> Vec<Effect> {
        match (self.state, event) {
            (State::Bound | State::GaveUp, _) => Vec::new(),
            (State::Selecting { .. }, Event::Timer) => self.discover(now),
            (State::Requesting { offer, .. }, Event::Timer) => self.request(offer, now),
            (state, Event::Received(packet)) => {
                let Some(reply) = self.reply(packet) else { return Vec::new() };
                match (state, reply.opts().msg_type()) {
                    (State::Selecting { .. }, Some(MessageType::Offer)) => {
                        self.offered(&reply, now)
                    }
                    (State::Requesting { offer, .. }, Some(MessageType::Ack)) => {
                        self.acknowledged(&reply, offer)
                    }
                    (State::Requesting { offer, .. }, Some(MessageType::Nak))
                        if server_of(&reply) == Some(offer.server) =>
                    {
                        self.wanted = None;
                        self.state = State::Selecting { sent: 0 };
                        self.discover(now)
                    }
                    _ => Vec::new(),
                }
            }
        }
    }

    fn discover(&mut self, now: Duration) -> Vec<Effect> {
        let State::Selecting { sent } = self.state else { return Vec::new() };
        let Some(wait) = DISCOVER_WAITS_MS.get(sent).filter(|_| self.offers < MAX_OFFERS) else {
            self.state = State::GaveUp;
            return vec![Effect::GaveUp];
        };
        self.state = State::Selecting { sent: sent + 1 };
        let mut message = self.message(MessageType::Discover, now);
        if let Some(wanted) = self.wanted {
            message.opts_mut().insert(DhcpOption::RequestedIpAddress(wanted));
        }
        self.send(&message, *wait, sent)
    }

    fn offered(&mut self, reply: &Message, now: Duration) -> Vec<Effect> {
        // A proxy offers a boot file and no address.
        let Some(server) = server_of(reply).filter(|_| !reply.yiaddr().is_unspecified()) else {
            return Vec::new();
        };
        self.offers = self.offers.saturating_add(1);
        let offer = Offer { address: reply.yiaddr(), server };
        self.state = State::Requesting { offer, sent: 0 };
        self.request(offer, now)
    }

    fn request(&mut self, offer: Offer, now: Duration) -> Vec<Effect> {
        let State::Requesting { sent, .. } = self.state else { return Vec::new() };
        let Some(wait) = REQUEST_WAITS_MS.get(sent) else {
            self.state = State::Selecting { sent: 0 };
            return self.discover(now);
        };
        self.state = State::Requesting { offer, sent: sent + 1 };
        let mut message = self.message(MessageType::Request, now);
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.address));
        message.opts_mut().insert(DhcpOption::ServerIdentifier(offer.server));
        self.send(&message, *wait, sent)
    }

    fn acknowledged(&mut self, reply: &Message, offer: Offer) -> Vec<Effect> {
        if server_of(reply) != Some(offer.server) || reply.yiaddr() != offer.address {
            return Vec::new();
        }
        let prefix = match reply.opts().get(OptionCode::SubnetMask) {
            Some(DhcpOption::SubnetMask(mask)) => ipnet::ipv4_mask_to_prefix(*mask).unwrap_or(32),
            _ => 32,
        };
        let gateway = match reply.opts().get(OptionCode::Router) {
            Some(DhcpOption::Router(routers)) => routers.first().copied(),
            _ => None,
        };
        self.state = State::Bound;
        let address =
            Ipv4Net::new(offer.address, prefix).unwrap_or_else(|_| Ipv4Net::from(offer.address));
        vec![Effect::Bound(Lease { address, gateway, server: offer.server })]
    }

    /// The packet as a reply to this client in this transaction.
    fn reply(&self, packet: &[u8]) -> Option<Message> {
        let message = Message::decode(&mut Decoder::new(packet)).ok()?;
        let ours = message.opcode() == Opcode::BootReply
            && message.xid() == self.transaction
            && message.chaddr() == self.mac.0;
        ours.then_some(message)
    }

    fn message(&self, kind: MessageType, now: Duration) -> Message {
        let mut message = Message::default();
        message
            .set_opcode(Opcode::BootRequest)
            .set_xid(self.transaction)
            .set_flags(Flags::default().set_broadcast())
            .set_secs(u16::try_from(now.as_secs()).unwrap_or(u16::MAX))
            .set_chaddr(&self.mac.0);
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ClientIdentifier([&[ETHERNET], &self.mac.0[..]].concat()));
        options.insert(DhcpOption::ParameterRequestList(vec![
            OptionCode::SubnetMask,
            OptionCode::Router,
        ]));
        message
    }

    fn send(&self, message: &Message, wait_ms: u32, sent: usize) -> Vec<Effect> {
        // A message of ours is far below every limit of the codec.
        let mut packet = message.to_vec().unwrap_or_default();
        packet.resize(packet.len().max(MIN_MESSAGE_BYTES), 0);
        // Up to half a second that differs by machine, so that a room of machines does
        // not ask in step.
        let jitter = self.transaction.rotate_right(u32::try_from(sent).unwrap_or(0) * 5) & 0x1ff;
        vec![Effect::Send(packet), Effect::Wait(Duration::from_millis((wait_ms + jitter).into()))]
    }
}

fn server_of(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
        _ => None,
    }
}

#[cfg(test)]
#[path = "dhcp_client/tests.rs"]
mod tests;
