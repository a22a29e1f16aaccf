//! Where pulls may go. Users name registries, and registries name token services and storage; the
//! server connects to all of them, as root's peer on its own loopback and on networks that users do
//! not reach. So each address is held against [`Reach`] when it is connected to: of the reference,
//! of the `realm` of a challenge, of every redirect; if it is a name, what the name stands for at
//! that moment, and the connection goes to what was looked at.
//!
//! ```text
//! the configuration names HOST:PORT (hosts, mirrors, token services)   go
//! allow has ADDRESS:PORT                                               go
//! a port of this server's, at an address of this machine               refused
//! an admin named HOST:PORT as the registry                             go
//! an address of special use, or of deny, that allow does not have      refused
//! all else, private networks too                                       go
//! ```
//!
//! A proxy looks names up itself: then addresses in URLs and `localhost` are held against the list
//! here, and the rest is the proxy's to refuse.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use api::address::{SpecialUse, canonical};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::registries::{HostSettings, Proxy, Registries, RegistryHost};

/// Names that one client keeps the ports of. A registry has one, its token service and its storage
/// a few; past it all are forgotten, and requests under way are tried again.
const MAX_NAMES: usize = 1024;

/// Environment variables that name proxies, as `reqwest` reads them.
const PROXY_VARIABLES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"];

/// Addresses that pulls go to, or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// What the configuration names of addresses that are otherwise out of reach.
    pub allowed: Vec<AddressPattern>,
    /// What the configuration keeps from users: networks of the site that this machine is on and
    /// its nodes are not.
    pub denied: Vec<AddressPattern>,
    /// TCP ports that this server listens at, whichever of this machine's addresses is asked.
    pub own_ports: BTreeSet<u16>,
    /// Addresses that lead to this server though no interface of this machine has them: those that
    /// it announces.
    pub own_addresses: BTreeSet<IpAddr>,
}

impl Reach {
    /// Whether `allowed` names this address and port.
    pub(crate) fn is_allowed(&self, address: SocketAddr) -> bool {
        self.allowed.iter().any(|allowed| allowed.has(address))
    }

    /// Whether `allowed` names this very port, be it one of the server's own.
    #[must_use]
    pub fn names_port(&self, address: SocketAddr) -> bool {
        self.allowed.iter().any(|allowed| allowed.port.is_some() && allowed.has(address))
    }

    /// `is_trusted`: an admin has named the host.
    fn check(&self, address: SocketAddr, is_trusted: bool) -> Result<(), Refusal> {
        let (ip, port) = (canonical(address.ip()), address.port());
        if self.names_port(address) {
            return Ok(());
        }
        let is_own = || {
            self.own_addresses.contains(&ip)
                || is_of_this_machine(ip)
                || is_of_this_machine(address.ip())
        };
        if self.own_ports.contains(&port) && is_own() {
            return Err(Refusal::OwnPort);
        }
        if is_trusted || self.is_allowed(address) {
            return Ok(());
        }
        if let Some(special) = SpecialUse::of(ip) {
            return Err(Refusal::Special(special));
        }
        let is_denied = self.denied.iter().any(|denied| denied.has(address));
        if is_denied { Err(Refusal::Denied) } else { Ok(()) }
    }
}

/// Whether a connection to an address stays on this machine: only its own addresses can be bound.
/// Asked again each time, for addresses come and go. No packet is sent.
fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Addresses as the configuration names them: `ADDRESS[/PREFIX]`, or `ADDRESS:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPattern {
    network: IpAddr,
    prefix: u32,
    port: Option<u16>,
}

/// The text is none of the forms of [`AddressPattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not ADDRESS, ADDRESS:PORT or NETWORK/PREFIX")]
pub struct InvalidAddressPattern;

impl AddressPattern {
    fn has(&self, address: SocketAddr) -> bool {
        if self.port.is_some_and(|port| port != address.port()) {
            return false;
        }
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let ((network, width), (asked, asked_width)) =
            (bits(self.network), bits(canonical(address.ip())));
        // The first bits of both are shifted down to the last; a shift by all bits is none.
        let first = |bits: u128| bits.checked_shr(128 - self.prefix).unwrap_or_default();
        width == asked_width && first(network) == first(asked)
    }
}

impl FromStr for AddressPattern {
    type Err = InvalidAddressPattern;

    fn from_str(text: &str) -> Result<Self, InvalidAddressPattern> {
        let width = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
        if let Some((network, prefix)) = text.split_once('/') {
            let network: IpAddr = network.parse().map_err(|_| InvalidAddressPattern)?;
            let prefix: u32 = prefix.parse().map_err(|_| InvalidAddressPattern)?;
            let is_plain = canonical(network) == network && prefix <= width(network);
            return if is_plain {
                Ok(Self { network, prefix, port: None })
            } else {
                Err(InvalidAddressPattern)
            };
        }
        let (address, port) = match text.parse::<SocketAddr>() {
            Ok(socket) if socket.port() > 0 => (socket.ip(), Some(socket.port())),
            Ok(_) => return Err(InvalidAddressPattern),
            Err(_) => (text.parse().map_err(|_| InvalidAddressPattern)?, None),
        };
        let network = canonical(address);
        Ok(Self { network, prefix: width(network), port })
    }
}

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Special(SpecialUse),
    Denied,
    OwnPort,
}

/// A pull was to go where none goes. Names addresses: for admins and the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutOfReach {
    /// To an address of special use.
    #[error(
        "{host} is {address}, {use_of}: no pull goes there unless the server's configuration names it \
         (registries.allow: ['{address}'])"
    )]
    Special {
        /// As the URL has it.
        host: String,
        /// What was to be connected to.
        address: SocketAddr,
        /// What the address is for.
        use_of: SpecialUse,
    },
    /// To what the configuration keeps from users.
    #[error("{host} is {address}, where no pull of a user goes (registries.deny)")]
    Denied {
        /// As the URL has it.
        host: String,
        /// What was to be connected to.
        address: SocketAddr,
    },
    /// To one of the server's own ports.
    #[error("{host} is {address}, a port of this server")]
    OwnPort {
        /// As the URL has it.
        host: String,
        /// What was to be connected to.
        address: SocketAddr,
    },
    /// A name was looked up that nobody has announced, or no longer ([`MAX_NAMES`]).
    #[error("{host} was not asked for when it was looked up")]
    Unannounced {
        /// The name.
        host: String,
    },
}

/// What one client is held to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    reach: Reach,
    /// Hosts with their ports that the configuration names, as URLs have them.
    named: BTreeSet<(String, u16)>,
    /// The host that an admin has named, with its ports.
    trusted: BTreeSet<(String, u16)>,
    /// Hosts of proxies: they are looked up by clients too, and are not asked for images.
    proxies: BTreeSet<String>,
}

impl Rules {
    /// For the client of `host`. `is_trusted`: an admin has named it.
    pub(crate) fn new(registries: &Registries, host: &RegistryHost, is_trusted: bool) -> Self {
        let settings = registries.hosts.get(host);
        Self {
            reach: registries.reach.clone(),
            named: registries.named(),
            trusted: if is_trusted { host.authorities().collect() } else { BTreeSet::new() },
            proxies: proxies(settings.unwrap_or(&HostSettings::default())),
        }
    }
}

/// Hosts of the proxies that a client with these settings may use.
fn proxies(settings: &HostSettings) -> BTreeSet<String> {
    match &settings.proxy {
        Proxy::Direct => BTreeSet::new(),
        Proxy::Through(url) => url.host_str().map(str::to_owned).into_iter().collect(),
        Proxy::Environment => {
            let written =
                PROXY_VARIABLES.iter().filter_map(|variable| std::env::var(variable).ok());
            let urls = written.filter_map(|text| {
                let url = if text.contains("://") { text } else { format!("http://{text}") };
                Url::parse(&url).ok()
            });
            urls.filter_map(|url| url.host_str().map(str::to_ascii_lowercase)).collect()
        }
    }
}

/// Holds one client to its rules. Clones share the announcements.
#[derive(Debug, Clone)]
pub(crate) struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Rules,
    /// Ports that are asked, by name: a resolver is told the name alone.
    ports: Mutex<BTreeMap<String, BTreeSet<u16>>>,
}

impl Guard {
    pub(crate) fn new(rules: Rules) -> Self {
        Self(Arc::new(Inner { rules, ports: Mutex::default() }))
    }

    /// Announces a request for `url`, which is refused if its address is out of reach. That of a
    /// name is looked at when the name is looked up.
    pub(crate) fn announce(&self, url: &Url) -> Result<(), OutOfReach> {
        let Some(port) = url.port_or_known_default() else { return Ok(()) };
        match url.host() {
            Some(Host::Ipv4(address)) => self.check(&address.to_string(), (address, port).into()),
            Some(Host::Ipv6(address)) => {
                self.check(&format!("[{address}]"), (address, port).into())
            }
            Some(Host::Domain(name)) => {
                // Always this machine (RFC 6761, section 6.3), also where a proxy looks it up.
                let bare = name.strip_suffix('.').unwrap_or(name);
                if bare == "localhost" || bare.ends_with(".localhost") {
                    self.check(name, ([127, 0, 0, 1], port).into())?;
                }
                let mut ports = self.0.ports.lock().unwrap_or_else(PoisonError::into_inner);
                if ports.len() >= MAX_NAMES && !ports.contains_key(name) {
                    ports.clear();
                }
                ports.entry(name.to_owned()).or_default().insert(port);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check(&self, host: &str, address: SocketAddr) -> Result<(), OutOfReach> {
        let Rules { reach, named, trusted, .. } = &self.0.rules;
        let is_in =
            |hosts: &BTreeSet<(String, u16)>| hosts.contains(&(host.to_owned(), address.port()));
        if is_in(named) {
            return Ok(());
        }
        reach.check(address, is_in(trusted)).map_err(|refusal| {
            let host = host.to_owned();
            match refusal {
                Refusal::Special(use_of) => OutOfReach::Special { host, address, use_of },
                Refusal::Denied => OutOfReach::Denied { host, address },
                Refusal::OwnPort => OutOfReach::OwnPort { host, address },
            }
        })
    }

    /// Those of a name's addresses that are within reach, at every port that it is asked at.
    fn within_reach(&self, name: &str, found: Vec<IpAddr>) -> Result<Vec<IpAddr>, OutOfReach> {
        let ports = {
            let ports = self.0.ports.lock().unwrap_or_else(PoisonError::into_inner);
            ports.get(name).cloned().unwrap_or_default()
        };
        if ports.is_empty() {
            let is_proxy = self.0.rules.proxies.contains(name);
            return if is_proxy {
                Ok(found)
            } else {
                Err(OutOfReach::Unannounced { host: name.to_owned() })
            };
        }
        let mut refused = None;
        let mut within = Vec::new();
        for address in found {
            let checked =
                ports.iter().try_for_each(|&port| self.check(name, SocketAddr::new(address, port)));
            match checked {
                Ok(()) => within.push(address),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if within.is_empty() => Err(error),
            _ => Ok(within),
        }
    }
}

/// As the C library looks names up, and then only what is within reach.
impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let name = name.as_str();
            let found = tokio::net::lookup_host((name, 0)).await?;
            let within = guard.within_reach(name, found.map(|found| found.ip()).collect())?;
            if within.is_empty() {
                return Err(
                    io::Error::new(io::ErrorKind::NotFound, "the name has no address").into()
                );
            }
            Ok(Box::new(within.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.network, port)),
            None => write!(f, "{}/{}", self.network, self.prefix),
        }
    }
}

#[cfg(test)]
mod tests;
