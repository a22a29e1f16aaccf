//! The socket around [`crate::net::dhcp_client`].

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use api::ids::MacAddr;
use tokio::{net::UdpSocket, time::Instant};

use crate::{
    clock,
    net::dhcp_client::{DhcpClient, Effect, Event, Lease},
};

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// Largest reply read, bytes: a full Ethernet frame.
const MAX_REPLY_BYTES: usize = 1500;

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum DhcpError {
    /// No socket.
    #[error("cannot ask for an address by DHCP")]
    Socket(#[source] linux::LinuxError),
    /// The kernel refuses to send or receive.
    #[error("cannot speak DHCP on {interface}")]
    Wire {
        /// The interface.
        interface: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No random number for the transaction.
    #[error("the kernel gives no random numbers")]
    Random,
    /// Nobody answered.
    #[error("no DHCP server gave {mac} an address on {interface} within {seconds} s")]
    Silence {
        /// The interface.
        interface: String,
        /// Its MAC address.
        mac: MacAddr,
        /// How long it was tried.
        seconds: u64,
    },
}

/// One round of asking on `interface`, whose MAC address is `mac`.
///
/// # Errors
/// [`DhcpError`]; [`DhcpError::Silence`] after about half a minute.
pub async fn acquire(
    interface: &str,
    mac: MacAddr,
    wanted: Option<Ipv4Addr>,
) -> Result<Lease, DhcpError> {
    let wire = |source| DhcpError::Wire { interface: interface.to_owned(), source };
    let socket = linux::udp::bound_to_device(interface, CLIENT_PORT).map_err(DhcpError::Socket)?;
    let socket = UdpSocket::from_std(socket).map_err(wire)?;
    let started = clock::monotonic();
    let (mut client, mut effects) = DhcpClient::start(mac, random_transaction()?, wanted);
    let mut deadline = Instant::from_std(started);
    let mut buffer = vec![0; MAX_REPLY_BYTES];
    loop {
        for effect in effects.drain(..) {
            match effect {
                Effect::Send(packet) => broadcast(&socket, &packet).await.map_err(wire)?,
                Effect::Wait(wait) => deadline = Instant::from_std(clock::monotonic()) + wait,
                Effect::Bound(lease) => return Ok(lease),
                Effect::GaveUp => {
                    let seconds = started.elapsed().as_secs();
                    return Err(DhcpError::Silence {
                        interface: interface.to_owned(),
                        mac,
                        seconds,
                    });
                }
            }
        }
        effects = tokio::select! {
            received = socket.recv(&mut buffer) => {
                let length = received.map_err(wire)?;
                client.handle(Event::Received(&buffer[..length]), started.elapsed())
            }
            () = tokio::time::sleep_until(deadline) => client.handle(Event::Timer, started.elapsed()),
        };
    }
}

async fn broadcast(socket: &UdpSocket, packet: &[u8]) -> std::io::Result<()> {
    let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
    match socket.send_to(packet, everybody).await {
        // The link went down for a moment; the timer sends again.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NetworkDown | std::io::ErrorKind::NetworkUnreachable
            ) =>
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(())
        }
        other => other.map(drop),
    }
}

fn random_transaction() -> Result<u32, DhcpError> {
    let random = ring::rand::SystemRandom::new();
    let bytes: [u8; 4] = ring::rand::generate(&random).map_err(|_| DhcpError::Random)?.expose();
    Ok(u32::from_be_bytes(bytes))
}
