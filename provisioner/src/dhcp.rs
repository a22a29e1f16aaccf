//! The sockets of DHCP: `Provisioner::serve` runs one [`Server`] beside the other boot services.
//!
//! All decisions are [`boot_proto::dhcp`]'s. Here are: one socket per interface on port 67, in
//! proxy mode a second one on port 4011, and the temporary neighbour entry by which a frame
//! reaches a client that has no address yet; probes of doubtful addresses ([`arp`]); and the log
//! of leases ([`lease_log`], [`lease_writer`]). A client that waits for a probe or for the disk
//! delays no other.

mod arp;
mod core;
mod lease_log;
mod lease_writer;
mod meter;
mod neighbour;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use boot_proto::{
    BootEvent, HostTable,
    dhcp::{Arrival, Destination, Effect, LeaseRecord, MAX_PACKET_BYTES, Port, Reply},
};
use nix::net::if_::if_nametoindex;
use tokio::{
    net::UdpSocket,
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::dispatcher;

pub use self::{core::DhcpCore, lease_log::LeaseLogError};
use self::{
    lease_writer::{LeaseWriter, Waiting},
    neighbour::Neighbours,
};
use crate::{
    boot_log::BootLog,
    clock,
    config::{DhcpConfig, DhcpMode},
    datagram,
    refusals::RefusalCount,
};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const BOOT_PORT: u16 = 4011;

/// The addresses of an interface are read again after this time: somebody may change them while
/// the server runs.
const ADDRESS_AGE: Duration = Duration::from_secs(2);

/// Pause after a socket error, such as an interface that is down.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// Probes at once, over all interfaces: each has a socket that hears all ARP of its network for
/// half a second. A client beyond it gets no answer, and asks again.
const MAX_PROBES: usize = 64;

/// Probes for one request: a third address that is in use means that the pool is somebody else's.
const MAX_PROBES_PER_REQUEST: u32 = 3;

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
    #[error(
        "cannot open the kernel's routing socket, which DHCP needs to reach clients without an address"
    )]
    Netlink(#[source] io::Error),
}

/// The DHCP server with its ports bound.
#[derive(Debug)]
pub struct Server {
    core: DhcpCore,
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
    pub fn bind(config: &DhcpConfig, core: DhcpCore) -> Result<Self, DhcpError> {
        let ports: &[(Port, u16)] = match config.mode {
            DhcpMode::Off => &[],
            DhcpMode::Authoritative => &[(Port::Dhcp, SERVER_PORT)],
            DhcpMode::Proxy => &[(Port::Dhcp, SERVER_PORT), (Port::Boot, BOOT_PORT)],
        };
        let mut listeners = Vec::new();
        for interface in &config.interfaces {
            for &(port, number) in ports {
                listeners.push(Listener::bind(interface, port, number)?);
            }
        }
        Ok(Self { core, listeners })
    }

    /// Answers until `shutdown`. Events go to the log and to `events`, each before the packet that
    /// it belongs to. Records of leases that wait are written before it returns.
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
        let (writer, write_all, answered) = LeaseWriter::new(self.core.clone());
        let log = dispatcher::get_default(Clone::clone);
        let writing =
            tokio::task::spawn_blocking(move || dispatcher::with_default(&log, write_all));
        let service = Service {
            leases: self.core.has_log().then_some(writer),
            core: self.core,
            hosts,
            log: BootLog::new(events),
            neighbours,
            probes: Arc::new(Semaphore::new(MAX_PROBES)),
            shutdown: shutdown.clone(),
        };
        let acknowledging = tokio::spawn(service.clone().without_leases().acknowledge(answered));
        let mut tasks = JoinSet::new();
        tasks.spawn(service.log.refusals().clone().sum_up());
        for listener in self.listeners {
            tasks.spawn(service.clone().run(Arc::new(listener)));
        }
        drop(service);
        shutdown.cancelled().await;
        // With the last listener and probe the writer's last sender goes, and the writer ends.
        tasks.shutdown().await;
        for (part, ended) in [("writer", writing.await), ("sender", acknowledging.await)] {
            if let Err(error) = ended {
                tracing::error!("the {part} of DHCP leases ended badly: {error}");
            }
        }
        Ok(())
    }
}

impl Listener {
    fn bind(interface: &str, port: Port, number: u16) -> Result<Self, DhcpError> {
        let index = if_nametoindex(interface).map_err(|error| DhcpError::NoInterface {
            interface: interface.to_owned(),
            source: error.into(),
        })?;
        let socket =
            datagram::open(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, number), Some(interface))
                .and_then(UdpSocket::from_std)
                .map_err(|source| DhcpError::Bind {
                    interface: interface.to_owned(),
                    port: number,
                    source,
                })?;
        Ok(Self { interface: interface.to_owned(), index, port, socket })
    }
}

/// What serves the sockets. Clones share everything.
#[derive(Debug, Clone)]
struct Service {
    core: DhcpCore,
    hosts: watch::Receiver<Arc<HostTable>>,
    log: BootLog,
    neighbours: Neighbours,
    /// `None`: there are no pools.
    leases: Option<LeaseWriter>,
    probes: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// A packet and how it came in.
#[derive(Debug, Clone)]
struct Packet<'a> {
    bytes: &'a [u8],
    arrival: Arrival<'a>,
    /// Probes that were made for it.
    probes: u32,
}

/// The addresses of an interface, read now and then.
#[derive(Debug, Default)]
struct OwnAddresses {
    addresses: Vec<Ipv4Addr>,
    read: Option<Instant>,
}

impl Service {
    async fn run(self, listener: Arc<Listener>) {
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        let mut own = OwnAddresses::default();
        loop {
            if let Err(error) = self.answer_one(&listener, &mut own, &mut buffer).await {
                tracing::warn!(interface = listener.interface, "DHCP cannot receive: {error}");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }

    async fn answer_one(
        &self,
        listener: &Arc<Listener>,
        own: &mut OwnAddresses,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let received = datagram::receive(&listener.socket, buffer).await?;
        own.refresh(&listener.interface)?;
        let arrival = Arrival {
            addresses: &own.addresses,
            local: received.local,
            source: received.source,
            port: listener.port,
        };
        self.core.meter().received(&buffer[..received.bytes]);
        self.answer(listener, Packet { bytes: &buffer[..received.bytes], arrival, probes: 0 })
            .await;
        Ok(())
    }

    async fn answer(&self, listener: &Arc<Listener>, packet: Packet<'_>) {
        let hosts = Arc::clone(&self.hosts.borrow());
        for effect in self.core.handle(packet.bytes, &packet.arrival, &hosts) {
            match effect {
                Effect::Event(_) | Effect::Send(_) => self.perform(listener, effect).await,
                Effect::Record(record) => self.record(listener, record, None),
                Effect::Save { record, then } => self.record(listener, record, Some(then)),
                Effect::Probe(address) => self.probe(listener, address, &packet),
            }
        }
    }

    async fn perform(&self, listener: &Listener, effect: Effect) {
        match effect {
            Effect::Event(event) => self.log.publish(event),
            Effect::Send(reply) => {
                let sent = self.send(listener, &reply).await;
                self.core.meter().sent(&reply.bytes, sent.is_ok());
                if let Err(error) = sent
                    && let Some(times) = self.count("unsent answer", reply.from)
                {
                    tracing::warn!(
                        interface = listener.interface, to = ?reply.to, "DHCP cannot send: {error}{times}"
                    );
                }
            }
            // Only a packet leads to these.
            Effect::Record(_) | Effect::Save { .. } | Effect::Probe(_) => {}
        }
    }

    /// Has a record written; `then` is done once it is.
    fn record(&self, listener: &Arc<Listener>, record: LeaseRecord, then: Option<Vec<Effect>>) {
        let waiting = then.map(|effects| Waiting { listener: Arc::clone(listener), effects });
        if !self.leases.as_ref().is_some_and(|leases| leases.write(record, waiting)) {
            tracing::debug!("too many DHCP leases wait for the disk: {record:?} is not recorded");
            self.core.unsaved(&record);
        }
    }

    /// Does what waited for the disk, until nothing more can come.
    async fn acknowledge(self, mut answered: mpsc::Receiver<Vec<Waiting>>) {
        while let Some(batch) = answered.recv().await {
            for Waiting { listener, effects } in batch {
                for effect in effects {
                    self.perform(&listener, effect).await;
                }
            }
        }
    }

    /// Counts what failed at an address; the number, if it is to be logged.
    fn count(&self, kind: &'static str, address: Ipv4Addr) -> Option<RefusalCount> {
        self.log.refusals().count(kind, IpAddr::V4(address), clock::now())
    }

    /// Without the way to the writer, which ends when nobody has it any more.
    fn without_leases(self) -> Self {
        Self { leases: None, ..self }
    }

    /// Probes an address, beside everything else, and then answers the packet again.
    fn probe(&self, listener: &Arc<Listener>, address: Ipv4Addr, packet: &Packet<'_>) {
        let permit = match Arc::clone(&self.probes).try_acquire_owned() {
            Ok(permit) if packet.probes < MAX_PROBES_PER_REQUEST => permit,
            _ => {
                tracing::debug!("no probe of {address}: too many");
                self.core.meter().not_probed();
                return self.core.not_probed(address);
            }
        };
        let (service, listener) = (self.clone(), Arc::clone(listener));
        let (bytes, addresses) = (packet.bytes.to_vec(), packet.arrival.addresses.to_vec());
        let (local, source, port) =
            (packet.arrival.local, packet.arrival.source, packet.arrival.port);
        let probes = packet.probes + 1;
        let shutdown = self.shutdown.clone();
        // Boxed: the answer may be another probe.
        let probing: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            let answer = arp::probe(&listener.interface, address).await;
            service.core.meter().probed(answer.as_ref().ok().map(Option::is_some));
            let answer = answer.unwrap_or_else(|error| {
                if let Some(times) = service.count("failed probe", Ipv4Addr::UNSPECIFIED) {
                    tracing::warn!(
                        interface = listener.interface,
                        "cannot probe {address}: {error}{times}"
                    );
                }
                None
            });
            drop(permit);
            let hosts = Arc::clone(&service.hosts.borrow());
            for effect in service.core.probed(address, answer, &hosts) {
                service.perform(&listener, effect).await;
            }
            let arrival = Arrival { addresses: &addresses, local, source, port };
            service.answer(&listener, Packet { bytes: &bytes, arrival, probes }).await;
        });
        tokio::spawn(async move { shutdown.run_until_cancelled(probing).await });
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
}

impl OwnAddresses {
    fn refresh(&mut self, interface: &str) -> io::Result<()> {
        let now = Instant::now();
        if self.read.is_some_and(|read| now < read + ADDRESS_AGE) {
            return Ok(());
        }
        self.addresses = nix::ifaddrs::getifaddrs()?
            .filter(|found| found.interface_name == interface)
            .filter_map(|found| Some(found.address?.as_sockaddr_in()?.ip()))
            .collect();
        self.read = Some(now);
        Ok(())
    }
}
