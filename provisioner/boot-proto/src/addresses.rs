//! Which addresses are somebody's: the one place that pools, the check of nodes and the check of
//! the server's configuration ask. What nodes have is [`crate::HostTable`]'s.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;

use crate::dhcp::Subnet;

/// Whose an address is by the server's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This server's.
    Server,
    /// The gateway of a subnet.
    Gateway {
        /// The network of the subnet, as the configuration has it.
        subnet: Ipv4Net,
    },
    /// A name server of a subnet.
    NameServer {
        /// The network of the subnet, as the configuration has it.
        subnet: Ipv4Net,
    },
    /// An NTP server of a subnet.
    TimeServer {
        /// The network of the subnet, as the configuration has it.
        subnet: Ipv4Net,
    },
    /// It names a subnet itself.
    Network {
        /// The network of the subnet, as the configuration has it.
        subnet: Ipv4Net,
    },
    /// All machines of a subnet.
    Broadcast {
        /// The network of the subnet, as the configuration has it.
        subnet: Ipv4Net,
    },
    /// A pool's, to be given to nodes that have no address of their own.
    Pool {
        /// First address of the pool.
        first: Ipv4Addr,
        /// Last address of the pool.
        last: Ipv4Addr,
    },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("this server's"),
            Self::Gateway { subnet } => write!(f, "the gateway of {subnet}"),
            Self::NameServer { subnet } => write!(f, "a name server of {subnet}"),
            Self::TimeServer { subnet } => write!(f, "an NTP server of {subnet}"),
            Self::Network { subnet } => write!(f, "the network address of {subnet}"),
            Self::Broadcast { subnet } => write!(f, "the broadcast address of {subnet}"),
            Self::Pool { first, last } => write!(f, "in the pool {first}-{last}"),
        }
    }
}

/// The addresses that the server's configuration gives a meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPlan {
    /// All owners but pools.
    single: HashMap<Ipv4Addr, Vec<Owner>>,
    pools: Vec<(Ipv4Addr, Ipv4Addr)>,
    networks: Vec<Ipv4Net>,
}

impl AddressPlan {
    /// The plan of a server with these addresses and subnets.
    #[must_use]
    pub fn new(server_addresses: &[Ipv4Addr], subnets: &[Subnet]) -> Self {
        let mut plan = Self::default();
        for &address in server_addresses {
            plan.own(address, Owner::Server);
        }
        for subnet in subnets {
            let network = subnet.network.trunc();
            if let Some(gateway) = subnet.gateway {
                plan.own(gateway, Owner::Gateway { subnet: network });
            }
            for &server in subnet.dns.iter().filter(|server| network.contains(*server)) {
                plan.own(server, Owner::NameServer { subnet: network });
            }
            for &server in subnet.ntp.iter().filter(|server| network.contains(*server)) {
                plan.own(server, Owner::TimeServer { subnet: network });
            }
            // A network of one or two addresses has hosts only (RFC 3021).
            if network.prefix_len() < 31 {
                plan.own(network.network(), Owner::Network { subnet: network });
                plan.own(network.broadcast(), Owner::Broadcast { subnet: network });
            }
            plan.pools.extend(subnet.pool);
            plan.networks.push(network);
        }
        plan
    }

    fn own(&mut self, address: Ipv4Addr, owner: Owner) {
        let owners = self.single.entry(address).or_default();
        if !owners.contains(&owner) {
            owners.push(owner);
        }
    }

    /// Everybody whose this address is; nobody's is good for a node.
    #[must_use]
    pub fn owners(&self, address: Ipv4Addr) -> Vec<Owner> {
        let mut owners = self.single.get(&address).cloned().unwrap_or_default();
        let pool = self.pools.iter().find(|(first, last)| (*first..=*last).contains(&address));
        owners.extend(pool.map(|&(first, last)| Owner::Pool { first, last }));
        owners
    }

    /// Whether no pool may give this address away.
    #[must_use]
    pub fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.single.contains_key(&address)
    }

    /// The addresses of a pool that it must not give, in order, each with its owners.
    #[must_use]
    pub fn taken_of_pool(&self, (first, last): (Ipv4Addr, Ipv4Addr)) -> Vec<(Ipv4Addr, &[Owner])> {
        let inside = self.single.iter().filter(|(address, _)| (first..=last).contains(*address));
        let mut taken: Vec<_> =
            inside.map(|(address, owners)| (*address, owners.as_slice())).collect();
        taken.sort_unstable_by_key(|(address, _)| *address);
        taken
    }

    /// The networks that addresses are given in.
    #[must_use]
    pub fn networks(&self) -> &[Ipv4Net] {
        &self.networks
    }

    /// Whether an address is in one of the subnets, so that DHCP can give it.
    #[must_use]
    pub fn is_in_a_subnet(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.networks.iter().any(|network| network.contains(&address)),
            IpAddr::V6(_) => false,
        }
    }
}

/// Owners as a sentence goes on: "this server's, and the gateway of 10.1.0.0/24".
#[must_use]
pub fn list(owners: &[Owner]) -> String {
    let words: Vec<String> = owners.iter().map(Owner::to_string).collect();
    words.join(", and ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn subnet(
        network: &str,
        pool: Option<(&str, &str)>,
        gateway: Option<&str>,
        dns: &[&str],
    ) -> Subnet {
        Subnet {
            network: network.parse().unwrap(),
            pool: pool.map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap())),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            dns: dns.iter().map(|server| server.parse().unwrap()).collect(),
            ntp: vec!["10.98.0.3".parse().unwrap()],
            domain: None,
        }
    }

    #[test]
    fn all_owners_of_an_address_are_named() {
        let server = Ipv4Addr::new(10, 98, 0, 1);
        let plan = AddressPlan::new(
            &[server],
            &[
                subnet(
                    "10.98.0.0/24",
                    Some(("10.98.0.253", "10.98.0.254")),
                    Some("10.98.0.254"),
                    &["10.98.0.1", "192.0.2.1"],
                ),
                subnet("10.99.0.0/31", None, None, &[]),
            ],
        );
        let mut text = String::new();
        for address in [
            "10.98.0.0",
            "10.98.0.1",
            "10.98.0.2",
            "10.98.0.3",
            "10.98.0.253",
            "10.98.0.254",
            "10.98.0.255",
            "10.99.0.0",
            "192.0.2.1",
        ] {
            let parsed: Ipv4Addr = address.parse().unwrap();
            let owners = list(&plan.owners(parsed));
            text += &format!("{address}: {owners} (taken: {})\n", plan.is_taken(parsed));
        }
        expect![[r#"
            10.98.0.0: the network address of 10.98.0.0/24 (taken: true)
            10.98.0.1: this server's, and a name server of 10.98.0.0/24 (taken: true)
            10.98.0.2:  (taken: false)
            10.98.0.3: an NTP server of 10.98.0.0/24 (taken: true)
            10.98.0.253: in the pool 10.98.0.253-10.98.0.254 (taken: false)
            10.98.0.254: the gateway of 10.98.0.0/24, and in the pool 10.98.0.253-10.98.0.254 (taken: true)
            10.98.0.255: the broadcast address of 10.98.0.0/24 (taken: true)
            10.99.0.0:  (taken: false)
            192.0.2.1:  (taken: false)
        "#]]
        .assert_eq(&text);
        assert!(plan.is_in_a_subnet("10.98.0.77".parse().unwrap()));
        assert!(!plan.is_in_a_subnet("10.97.0.77".parse().unwrap()));
    }
}
