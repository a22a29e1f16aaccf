//! The way to the servers: from the card that booted to an address on the topmost link, and
//! back to nothing.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use api::{
    ids::MacAddr,
    stage1::{FallbackAddress, Stage1},
};
use ipnet::IpNet;

use crate::{
    net::{
        dhcp::{self, DhcpError},
        dhcp_client::Lease,
        links::{Link, LinkError, Links},
        plan::{Plan, plan},
    },
    taken_down::TakenLink,
};

/// Time for the card to appear: slow firmware on a big card takes half of it.
pub const CARD_LIMIT: Duration = Duration::from_secs(60);

/// Time for the carrier: link training, LACP and a spanning tree together.
pub const CARRIER_LIMIT: Duration = Duration::from_secs(60);

/// Rounds of DHCP where there is no address to fall back on: about five minutes.
pub const DHCP_ROUNDS: u32 = 10;

/// Between two looks at the links.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The card did not appear.
    #[error(
        "no network card has the MAC address {mac} after {} s; there are: {present}. \
         Does the image have the card's driver?", CARD_LIMIT.as_secs()
    )]
    NoCard {
        /// The address that the firmware booted from.
        mac: MacAddr,
        /// The cards that are there.
        present: String,
    },
    /// The cable is out, or the switch does not let us.
    #[error(
        "{name} ({mac}) has no carrier after {} s; check the cable and the switch port. Interfaces: {interfaces}",
        CARRIER_LIMIT.as_secs()
    )]
    NoCarrier {
        /// The link.
        name: String,
        /// The address of the card.
        mac: MacAddr,
        /// All that there are, each with its state.
        interfaces: String,
    },
    /// The kernel refused something.
    #[error("cannot set up the network")]
    Link(#[from] LinkError),
    /// No address.
    #[error("cannot get an address")]
    Dhcp(#[from] DhcpError),
}

/// The network as it was set up.
#[derive(Debug)]
pub struct Network {
    links: Links,
    /// Cards that were switched on.
    cards: Vec<Link>,
    /// Links that were made, lowest first.
    made: Vec<Link>,
    /// The address in use.
    pub address: IpNet,
}

/// Brings the network up. `progress` gets lines for people; `coldplug` is called while the card has
/// not appeared, to load drivers of devices that came since.
///
/// # Errors
/// [`NetworkError`].
pub async fn bring_up(
    card: MacAddr,
    stage1: &Stage1,
    progress: &mut dyn FnMut(&str),
    coldplug: &mut dyn FnMut(),
) -> Result<Network, NetworkError> {
    let fallback = stage1.fallback_address.as_ref();
    let plan = plan(card, &stage1.machine.interfaces, fallback.map(|fallback| fallback.address));
    let links = Links::open()?;
    let found = wait_for_card(&links, card, coldplug).await?;
    progress(&format!("booting from {} ({card})", found.name));
    let mut network =
        Network { links, cards: Vec::new(), made: Vec::new(), address: IpNet::default() };
    let top = network.stack(card, found, &plan).await?;
    network.wait_for_carrier(card, &top, progress).await?;
    let (address, gateway) = ask_for_address(&top, card, fallback, progress).await?;
    network.links.add_address(&top, address).await?;
    if let Some(gateway) = gateway {
        network.route(&top, gateway, progress).await;
    }
    network.address = address;
    Ok(network)
}

async fn wait_for_card(
    links: &Links,
    mac: MacAddr,
    coldplug: &mut dyn FnMut(),
) -> Result<Link, NetworkError> {
    let found = async {
        loop {
            if let Some(link) = links.card(mac).await? {
                return Ok::<_, LinkError>(link);
            }
            coldplug();
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if let Ok(found) = tokio::time::timeout(CARD_LIMIT, found).await {
        return Ok(found?);
    }
    let present = in_words(&links.list().await?);
    Err(NetworkError::NoCard { mac, present })
}

/// All interfaces but the loopback, each with its address and whether it has a carrier:
/// `eth0 52:54:… no carrier`.
fn in_words(links: &[Link]) -> String {
    let words: Vec<String> = links
        .iter()
        .filter(|link| link.name != "lo")
        .map(|link| {
            let mac = link.mac.map_or_else(String::new, |mac| format!(" {mac}"));
            // Of one that is off, the kernel knows no carrier.
            let state = match (link.up, link.running) {
                (_, true) => "carrier",
                (true, false) => "no carrier",
                (false, false) => "off",
            };
            format!("{}{mac} {state}", link.name)
        })
        .collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

async fn ask_for_address(
    top: &Link,
    mac: MacAddr,
    fallback: Option<&FallbackAddress>,
    progress: &mut dyn FnMut(&str),
) -> Result<(IpNet, Option<IpAddr>), NetworkError> {
    let wanted = fallback.and_then(|fallback| match fallback.address {
        IpNet::V4(net) => Some(net.addr()),
        IpNet::V6(_) => None,
    });
    for round in 1.. {
        match (ask_once(top, mac, wanted).await, fallback) {
            (Ok(lease), _) => {
                progress(&format!(
                    "{} has {} from DHCP server {}",
                    top.name, lease.address, lease.server
                ));
                return Ok((lease.address.into(), lease.gateway.map(IpAddr::V4)));
            }
            (Err(error), Some(fallback)) => {
                progress(&format!(
                    "{error}; using the address that the server knows: {}",
                    fallback.address
                ));
                return Ok((fallback.address, fallback.gateway));
            }
            (Err(error), None) if round >= DHCP_ROUNDS => return Err(error.into()),
            (Err(error), None) => {
                progress(&format!("{error}; asking again ({round} of {DHCP_ROUNDS})"))
            }
        }
    }
    unreachable!("the loop has no end")
}

async fn ask_once(top: &Link, mac: MacAddr, wanted: Option<Ipv4Addr>) -> Result<Lease, DhcpError> {
    dhcp::acquire(&top.name, mac, wanted).await
}

impl Network {
    /// Switches the cards on and makes what the plan wants on top. Answers the topmost link.
    async fn stack(&mut self, mac: MacAddr, card: Link, plan: &Plan) -> Result<Link, NetworkError> {
        let mut top = card.clone();
        self.cards.push(card);
        if let Some(bond) = &plan.bond {
            for member in bond.members.iter().filter(|member| **member != mac) {
                // A member that is missing is what bonds are for.
                self.cards.extend(self.links.card(*member).await?);
            }
            top = self.links.add_bond(&bond.name, &bond.mode, mac).await?;
            self.made.push(top.clone());
            for member in &self.cards {
                self.links.down(member).await?;
                self.links.join(member, &top).await?;
            }
        }
        for link in self.cards.iter().chain(&self.made) {
            if let Some(mtu) = plan.mtu {
                self.links.set_mtu(link, mtu).await?;
            }
            self.links.up(link).await?;
        }
        if let Some(vlan) = &plan.vlan {
            top = self.links.add_vlan(&vlan.name, &top, vlan.id).await?;
            self.made.push(top.clone());
            if let Some(mtu) = plan.mtu {
                self.links.set_mtu(&top, mtu).await?;
            }
            self.links.up(&top).await?;
        }
        Ok(top)
    }

    async fn wait_for_carrier(
        &self,
        mac: MacAddr,
        top: &Link,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), NetworkError> {
        let mut told = false;
        let running = async {
            loop {
                if self.links.named(&top.name).await?.running {
                    return Ok::<_, LinkError>(());
                }
                if !told {
                    told = true;
                    progress(&format!("waiting for the carrier of {}", top.name));
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        match tokio::time::timeout(CARRIER_LIMIT, running).await {
            Ok(result) => Ok(result?),
            Err(_) => {
                let interfaces = in_words(&self.links.list().await?);
                Err(NetworkError::NoCarrier { name: top.name.clone(), mac, interfaces })
            }
        }
    }

    /// Routes everything else through `gateway`. The servers are most often on the link itself, so
    /// a gateway that cannot be used is no reason to stop.
    async fn route(&self, top: &Link, gateway: IpAddr, progress: &mut dyn FnMut(&str)) {
        if let Err(error) = self.links.add_default_route(top, gateway).await {
            progress(&format!("{}; going on without a gateway", crate::console::chain(&error)));
        }
    }

    /// The links that [`Self::tear_down`] switches off.
    #[must_use]
    pub fn links(&self) -> Vec<TakenLink> {
        self.cards.iter().chain(&self.made).map(|link| TakenLink::find(&link.name)).collect()
    }

    /// Leaves the network as it was found: no addresses, no links that were made, cards off, so
    /// that the image's udev can rename them. Goes on after an error and gives the first.
    ///
    /// # Errors
    /// [`NetworkError::Link`].
    pub async fn tear_down(self) -> Result<(), NetworkError> {
        let mut result = Ok(());
        for link in self.made.iter().rev() {
            result = result.and(self.links.flush_addresses(link).await);
            result = result.and(self.links.delete(link).await);
        }
        for card in &self.cards {
            result = result.and(self.links.flush_addresses(card).await);
            result = result.and(self.links.down(card).await);
        }
        Ok(result?)
    }
}

#[cfg(test)]
#[path = "boot/tests.rs"]
mod tests;
