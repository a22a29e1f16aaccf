//! Network links, addresses and routes through rtnetlink.

use std::net::IpAddr;

use api::ids::MacAddr;
use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::{
    Handle, LinkBond, LinkMessageBuilder, LinkUnspec, LinkVlan, RouteMessageBuilder,
    packet_route::link::{BondMode, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

/// How often the members of a bond are looked at, milliseconds: the usual value of the
/// kernel's documentation.
const BOND_MONITOR_MS: u32 = 100;

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Socket(#[source] std::io::Error),
    /// One request.
    #[error("cannot {step} {subject}")]
    Request {
        /// What was tried.
        step: &'static str,
        /// On which link.
        subject: String,
        /// The kernel's answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// The kernel knows no such mode.
    #[error("{mode:?} is no mode of a bond; use one of {}", BOND_MODES.map(|(name, _)| name).join(", "))]
    BondMode {
        /// The mode as declared.
        mode: String,
    },
    /// A link that was just made is not there.
    #[error("the link {name} was made and is not there")]
    Vanished {
        /// Its kernel name: `eth0`.
        name: String,
    },
}

/// Kernel names of the modes (`Documentation/networking/bonding.rst`).
const BOND_MODES: [(&str, BondMode); 7] = [
    ("balance-rr", BondMode::BalanceRr),
    ("active-backup", BondMode::ActiveBackup),
    ("balance-xor", BondMode::BalanceXor),
    ("broadcast", BondMode::Broadcast),
    ("802.3ad", BondMode::Ieee8023Ad),
    ("balance-tlb", BondMode::BalanceTlb),
    ("balance-alb", BondMode::BalanceAlb),
];

/// A network link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number.
    pub index: u32,
    /// Its kernel name: `eth0`.
    pub name: String,
    /// Its present MAC address.
    pub mac: Option<MacAddr>,
    /// It is a bond or a VLAN on another link.
    pub stacked: bool,
    /// It is switched on.
    pub up: bool,
    /// It is up, has a carrier, and the kernel has noticed: what is sent goes out.
    pub running: bool,
}

/// The links of this network namespace.
#[derive(Debug, Clone)]
pub struct Links {
    handle: Handle,
}

impl Links {
    /// Opens a netlink socket; a task of the present tokio runtime serves it.
    ///
    /// # Errors
    /// [`LinkError::Socket`].
    pub fn open() -> Result<Self, LinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The netlink connection itself.
    #[cfg(test)]
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// All links.
    ///
    /// # Errors
    /// [`LinkError::Request`].
    pub async fn list(&self) -> Result<Vec<Link>, LinkError> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(request("list", "the links"))?;
        Ok(messages.iter().map(link).collect())
    }

    /// The network card with this address; bonds and VLANs share it and are not meant.
    ///
    /// # Errors
    /// [`LinkError::Request`].
    pub async fn card(&self, mac: MacAddr) -> Result<Option<Link>, LinkError> {
        Ok(self.list().await?.into_iter().find(|link| !link.stacked && link.mac == Some(mac)))
    }

    /// The link with this name.
    ///
    /// # Errors
    /// [`LinkError::Vanished`] if there is none.
    pub async fn named(&self, name: &str) -> Result<Link, LinkError> {
        let found = self.list().await?.into_iter().find(|link| link.name == name);
        found.ok_or_else(|| LinkError::Vanished { name: name.to_owned() })
    }

    /// Switches a link on.
    ///
    /// # Errors
    /// [`LinkError::Request`].
    pub async fn up(&self, link: &Link) -> Result<(), LinkError> {
        self.set(LinkUnspec::new_with_index(link.index).up(), "switch on", link).await
    }

    /// Switches a link off.
    ///
    /// # Errors
    /// [`LinkError::Request`].
    pub async fn down(&self, link: &Link) -> Result<(), LinkError> {
        self.set(LinkUnspec::new_with_index(link.index).down(), "switch off", link).await
    }

    /// Sets the MTU, bytes.
    ///
    /// # Errors
    /// [`LinkError::Request`] if the hardware cannot do it.
    pub async fn set_mtu(&self, link: &Link, mtu: u32) -> Result<(), LinkError> {
        self.set(LinkUnspec::new_with_index(link.index).mtu(mtu), "set the MTU of", link).await
    }

    /// Makes `member`, which must be off, a member of `bond`.
    ///
    /// # Errors
    /// [`LinkError::Request`].
    pub async fn join(&self, member: &Link, bond: &Link) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(member.index).controller(bond.index);
        self.set(message, "add to the bond the link", member).await
    }

    /// Makes a bond with the MAC address of the card that booted.
    ///
    /// # Errors
    /// [`LinkError::BondMode`], [`LinkError::Request`] without the module `bonding`.
    pub async fn add_bond(&self, name: &str, mode: &str, mac: MacAddr) -> Result<Link, LinkError> {
        let mode = BOND_MODES
            .into_iter()
            .find(|(known, _)| *known == mode)
            .map(|(_, mode)| mode)
            .ok_or_else(|| LinkError::BondMode { mode: mode.to_owned() })?;
        let message =
            LinkBond::new(name).mode(mode).miimon(BOND_MONITOR_MS).address(mac.0.to_vec()).build();
        self.add(message, "make the bond", name).await
    }

    /// Makes VLAN `id` on `parent`.
    ///
    /// # Errors
    /// [`LinkError::Request`] without the module `8021q`.
    pub async fn add_vlan(&self, name: &str, parent: &Link, id: u16) -> Result<Link, LinkError> {
        self.add(LinkVlan::new(name, parent.index, id).build(), "make the VLAN", name).await
    }

    /// Deletes a link that was made.
    ///
    /// # Errors
    /// [`LinkError::Request`].
    pub async fn delete(&self, link: &Link) -> Result<(), LinkError> {
        self.handle.link().del(link.index).execute().await.map_err(request("delete", &link.name))
    }

    /// Gives a link an address.
    ///
    /// # Errors
    /// [`LinkError::Request`].
    pub async fn add_address(&self, link: &Link, address: IpNet) -> Result<(), LinkError> {
        let add = self.handle.address().add(link.index, address.addr(), address.prefix_len());
        add.replace().execute().await.map_err(request("set the address of", &link.name))
    }

    /// Routes everything else through `gateway`.
    ///
    /// # Errors
    /// [`LinkError::Request`] if the gateway cannot be reached on the link.
    pub async fn add_default_route(&self, link: &Link, gateway: IpAddr) -> Result<(), LinkError> {
        let failed = request("route through", &gateway.to_string());
        let message = match gateway {
            IpAddr::V4(gateway) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .gateway(gateway)
                .output_interface(link.index)
                .build(),
            IpAddr::V6(gateway) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .gateway(gateway)
                .output_interface(link.index)
                .build(),
        };
        self.handle.route().add(message).replace().execute().await.map_err(failed)
    }

    /// Takes all addresses from a link; its routes go with them.
    ///
    /// # Errors
    /// [`LinkError::Request`].
    pub async fn flush_addresses(&self, link: &Link) -> Result<(), LinkError> {
        let failed = || request("take the addresses from", &link.name);
        let addresses: Vec<_> = self
            .handle
            .address()
            .get()
            .set_link_index_filter(link.index)
            .execute()
            .try_collect()
            .await
            .map_err(failed())?;
        for address in addresses {
            self.handle.address().del(address).execute().await.map_err(failed())?;
        }
        Ok(())
    }

    async fn set(
        &self,
        message: LinkMessageBuilder<LinkUnspec>,
        step: &'static str,
        link: &Link,
    ) -> Result<(), LinkError> {
        self.handle.link().set(message.build()).execute().await.map_err(request(step, &link.name))
    }

    async fn add(
        &self,
        message: LinkMessage,
        step: &'static str,
        name: &str,
    ) -> Result<Link, LinkError> {
        self.handle.link().add(message).execute().await.map_err(request(step, name))?;
        self.named(name).await
    }
}

fn request(
    step: &'static str,
    subject: &str,
) -> impl FnOnce(rtnetlink::Error) -> LinkError + use<> {
    let subject = subject.to_owned();
    move |source| LinkError::Request { step, subject, source }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        stacked: false,
        up: message.header.flags.contains(LinkFlags::Up),
        running: message.header.flags.contains(LinkFlags::Up | LinkFlags::Running),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => {
                link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr)
            }
            LinkAttribute::LinkInfo(infos) => {
                link.stacked = infos
                    .iter()
                    .any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bond | InfoKind::Vlan)));
            }
            _ => {}
        }
    }
    link
}
