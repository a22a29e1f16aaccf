//! The sockets of DHCP: `Provisioner::serve` runs one [`Server`] beside the other boot services.
//!
//! All decisions are [`boot_proto::dhcp`]'s. Here are: one socket per interface on port 67, in proxy mode a second one
//! on port 4011, and the temporary neighbour entry by which a frame reaches a client that has no address yet.

mod neighbour;

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use boot_proto::{
    BootEvent, FirmwareMap, HostTable,
    dhcp::{Arrival, Config, Destination, DhcpServer, Effect, MAX_PACKET_BYTES, Mode, Port, Reply, Subnet},
};
use nix::net::if_::if_nametoindex;
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::neighbour::Neighbours;
use crate::{
    boot_log,
    clock::now,
    config::{DhcpConfig, DhcpMode},
    datagram,
};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const BOOT_PORT: u16 = 4011;

/// The addresses of an interface are read again after this time: somebody may change them while the server runs.
const ADDRESS_AGE: Duration = Duration::from_secs(2);

/// Pause after a socket error, such as an interface that is down.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// Why DHCP could not start.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// An interface of the configuration is not there.
    #[error("dhcp.interfaces names {interface:?}, which this machine does not have")]
    NoInterface {
        /// Its name.
        interface: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The port is taken, or the right to bind it is missing.
    #[error(
        "cannot listen on UDP port {port} of {interface}: is another DHCP server running, or does this process lack \
         CAP_NET_BIND_SERVICE and CAP_NET_RAW?"
    )]
    Bind {
        /// The interface.
        interface: String,
        /// The port.
        port: u16,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel's routing socket cannot be opened.
    #[error("cannot open the kernel's routing socket, which DHCP needs to reach clients without an address")]
    Netlink(#[source] io::Error),
}

/// The DHCP server with its ports bound.
#[derive(Debug)]
pub struct Server {
    core: DhcpServer,
    listeners: Vec<Listener>,
}

/// One socket.
#[derive(Debug)]
struct Listener {
    interface: String,
    index: u32,
    port: Port,
    socket: UdpSocket,
}

impl Server {
    /// Binds the ports. In mode `off` there are none. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// An interface that does not exist or a port that cannot be bound.
    pub fn bind(config: &DhcpConfig, firmware: &FirmwareMap, http_port: u16) -> Result<Self, DhcpError> {
        let mode = match config.mode {
            DhcpMode::Authoritative => Some(Mode::Authoritative),
            DhcpMode::Proxy => Some(Mode::Proxy),
            DhcpMode::Off => None,
        };
        let ports: &[(Port, u16)] = match mode {
            None => &[],
            Some(Mode::Authoritative) => &[(Port::Dhcp, SERVER_PORT)],
            Some(Mode::Proxy) => &[(Port::Dhcp, SERVER_PORT), (Port::Boot, BOOT_PORT)],
        };
        let mut listeners = Vec::new();
        for interface in &config.interfaces {
            for &(port, number) in ports {
                listeners.push(Listener::bind(interface, port, number)?);
            }
        }
        let subnets = config.subnets.iter().map(|subnet| Subnet {
            network: subnet.network,
            pool: subnet.pool,
            gateway: subnet.gateway,
            dns: subnet.dns.clone(),
            domain: subnet.domain.clone(),
        });
        let core = DhcpServer::new(Config {
            mode: mode.unwrap_or(Mode::Authoritative),
            subnets: subnets.collect(),
            lease_seconds: config.lease_seconds,
            http_port,
            firmware: firmware.clone(),
        });
        Ok(Self { core, listeners })
    }

    /// Answers until `shutdown`. Events go to the log and to `events`, each before the packet that it belongs to.
    ///
    /// # Errors
    /// The routing socket cannot be opened.
    pub async fn serve(
        self,
        hosts: watch::Receiver<Arc<HostTable>>,
        events: mpsc::Sender<BootEvent>,
        shutdown: CancellationToken,
    ) -> Result<(), DhcpError> {
        let neighbours = Neighbours::open().map_err(DhcpError::Netlink)?;
        let core = Arc::new(Mutex::new(self.core));
        let mut tasks = JoinSet::new();
        for listener in self.listeners {
            let service = Service {
                core: Arc::clone(&core),
                hosts: hosts.clone(),
                events: events.clone(),
                neighbours: neighbours.clone(),
                addresses: Vec::new(),
                addresses_read: None,
            };
            tasks.spawn(service.run(listener));
        }
        shutdown.cancelled().await;
        Ok(())
    }
}

impl Listener {
    fn bind(interface: &str, port: Port, number: u16) -> Result<Self, DhcpError> {
        let index = if_nametoindex(interface).map_err(|error| DhcpError::NoInterface {
            interface: interface.to_owned(),
            source: error.into(),
        })?;
        let socket = datagram::open(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, number), Some(interface))
            .and_then(UdpSocket::from_std)
            .map_err(|source| DhcpError::Bind { interface: interface.to_owned(), port: number, source })?;
        Ok(Self { interface: interface.to_owned(), index, port, socket })
    }
}

/// What serves one socket.
struct Service {
    core: Arc<Mutex<DhcpServer>>,
    hosts: watch::Receiver<Arc<HostTable>>,
    events: mpsc::Sender<BootEvent>,
    neighbours: Neighbours,
    addresses: Vec<Ipv4Addr>,
    addresses_read: Option<Instant>,
}

impl Service {
    async fn run(mut self, listener: Listener) {
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        loop {
            if let Err(error) = self.answer_one(&listener, &mut buffer).await {
                tracing::warn!(interface = listener.interface, "DHCP cannot receive: {error}");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }

    async fn answer_one(&mut self, listener: &Listener, buffer: &mut [u8]) -> io::Result<()> {
        let received = datagram::receive(&listener.socket, buffer).await?;
        self.refresh_addresses(&listener.interface)?;
        let arrival = Arrival {
            addresses: &self.addresses,
            local: received.local,
            source: received.source,
            port: listener.port,
        };
        let hosts = Arc::clone(&self.hosts.borrow());
        let effects = self.core.lock().unwrap_or_else(PoisonError::into_inner).handle(
            &buffer[..received.bytes],
            &arrival,
            &hosts,
            now(),
        );
        for effect in effects {
            match effect {
                Effect::Event(event) => boot_log::publish(event, &self.events),
                Effect::Send(reply) => {
                    if let Err(error) = self.send(listener, &reply).await {
                        tracing::warn!(interface = listener.interface, to = ?reply.to, "DHCP cannot send: {error}");
                    }
                }
            }
        }
        Ok(())
    }

    async fn send(&self, listener: &Listener, reply: &Reply) -> io::Result<()> {
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
        let to = match reply.to {
            Destination::Broadcast => everybody,
            Destination::Unicast(to) => to,
            Destination::Hardware { address, mac } => {
                match self.neighbours.introduce(listener.index, address, mac).await {
                    Ok(()) => SocketAddrV4::new(address, CLIENT_PORT),
                    Err(error) => {
                        tracing::debug!(
                            "no neighbour entry for {address} ({mac}), broadcasting instead: {error}"
                        );
                        everybody
                    }
                }
            }
        };
        datagram::send(&listener.socket, &reply.bytes, reply.from, to).await
    }

    fn refresh_addresses(&mut self, interface: &str) -> io::Result<()> {
        let now = Instant::now();
        if self.addresses_read.is_some_and(|read| now < read + ADDRESS_AGE) {
            return Ok(());
        }
        self.addresses = nix::ifaddrs::getifaddrs()?
            .filter(|found| found.interface_name == interface)
            .filter_map(|found| Some(found.address?.as_sockaddr_in()?.ip()))
            .collect();
        self.addresses_read = Some(now);
        Ok(())
    }
}
