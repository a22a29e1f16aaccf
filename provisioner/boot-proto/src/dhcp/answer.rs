//! What an answer holds: the server's address, the settings of the subnet, the boot file.

use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;

use super::{
    Destination, DhcpServer, Effect, Mode, NodeRequest, Port, Refusal, Reply,
    reply::{self, BootFile, Lease},
};
use crate::{
    event::{BootEvent, Client},
    host::Host,
    script::MEMORY_PARAMETER,
};

impl DhcpServer {
    /// An OFFER or ACK with an address, and a boot file if the client is one that boots.
    pub(super) fn grant(
        &mut self,
        asked: &NodeRequest<'_>,
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
    pub(super) fn boot_only(
        &mut self,
        asked: &NodeRequest<'_>,
        message: MessageType,
    ) -> Vec<Effect> {
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
        let event =
            BootEvent::Offered { node: asked.node(), client: asked.request.client, address: None };
        vec![Effect::Event(event), Effect::Send(Reply { bytes, from: server, to })]
    }

    /// The server's own address as the client can reach it.
    pub(super) fn server_address(
        &self,
        asked: &NodeRequest<'_>,
        subnet: Option<usize>,
    ) -> Ipv4Addr {
        let network = subnet.map(|index| self.config.subnets[index].network);
        asked
            .arrival
            .addresses
            .iter()
            .copied()
            .find(|address| network.is_some_and(|network| network.contains(address)))
            .unwrap_or(asked.arrival.local)
    }

    pub(super) fn lease<'a>(
        &'a self,
        host: &'a Host,
        subnet: usize,
        granted: Option<(Ipv4Addr, u32)>,
    ) -> Lease<'a> {
        let subnet = &self.config.subnets[subnet];
        Lease {
            granted,
            network: subnet.network,
            gateway: host.gateway.or(subnet.gateway),
            dns: if host.dns.is_empty() { &subnet.dns } else { &host.dns },
            ntp: &subnet.ntp,
            domain: host.domain.as_deref().or(subnet.domain.as_deref()),
            host_name: host.name.as_str(),
        }
    }

    /// What this client should load; `Err` if the administrator configured nothing for
    /// its architecture.
    pub(super) fn boot_file(
        &self,
        asked: &NodeRequest<'_>,
        server: Ipv4Addr,
    ) -> Result<Option<BootFile>, ()> {
        let port = self.config.http_port;
        let firmware = |architecture| self.config.firmware.file(architecture).ok_or(());
        Ok(match asked.request.client {
            Client::System => None,
            Client::Ipxe => Some(BootFile {
                // iPXE puts its settings into the name (`usr/autoboot.c`); unknown
                // ones are nothing.
                name: format!(
                    "http://{server}:{port}/boot/{}/script{MEMORY_PARAMETER}",
                    asked.host.mac.hyphenated()
                ),
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

    pub(super) fn missing_firmware(&mut self, asked: &NodeRequest<'_>) -> Vec<Effect> {
        let (Client::Pxe(architecture) | Client::Http(architecture)) = asked.request.client else {
            return Vec::new();
        };
        self.refuse(Refusal::NoBootProgram);
        let event = BootEvent::MissingFirmware { node: asked.node(), architecture };
        self.complain(asked.host.mac, "firmware", event, asked.now)
    }
}
