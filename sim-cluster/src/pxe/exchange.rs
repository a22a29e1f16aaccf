//! DHCP for all machines of this process over one socket: an answer goes to whoever asked in
//! its transaction.
//!
//! Firmware and iPXE ask again after 4, 8, 16 and 32 s (PXE 2.1 section 2.2.3; RFC 2131 section
//! 4.1); stage 1 is the substrate's own client.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use api::ids::MacAddr;
use dhcproto::v4::MessageType;
use fastrand::Rng;
use nix::sys::socket::{setsockopt, sockopt};
use substrate::{
    clock,
    net::dhcp_client::{DhcpClient, Effect, Event, Lease},
};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::dhcp::{DhcpClientKind, Reply, transaction};
use crate::network::NODES_INTERFACE;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// Waits before firmware asks again.
const WAITS: [Duration; 4] = [
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
];

/// Receive buffer, bytes: each machine has one of its own, so what is lost here would be
/// lost by us alone.
const BUFFER_BYTES: usize = 16 << 20;

/// Largest answer read, bytes.
const MAX_REPLY_BYTES: usize = 1_500;

/// Answers that wait for the machine that they are for.
const MAX_ANSWERS: usize = 8;

/// Port 68 of all machines.
#[derive(Debug)]
pub(crate) struct Exchange {
    socket: UdpSocket,
    waiting: Mutex<HashMap<u32, mpsc::Sender<Vec<u8>>>>,
    repeated: AtomicU64,
}

/// One transaction; its answers go nowhere else. Forgotten when dropped.
struct Transaction<'a> {
    exchange: &'a Exchange,
    number: u32,
    answers: mpsc::Receiver<Vec<u8>>,
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        self.exchange.waiting().remove(&self.number);
    }
}

impl Exchange {
    /// Opens the port and hands answers out for as long as the runtime lives.
    ///
    /// # Errors
    /// If the port cannot be had.
    pub(crate) fn open() -> anyhow::Result<Arc<Self>> {
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT);
        let socket =
            std::net::UdpSocket::bind(any).with_context(|| format!("cannot listen on {any}"))?;
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket.as_fd(), sockopt::BindToDevice, &NODES_INTERFACE.into())?;
        setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &BUFFER_BYTES)?;
        let socket = UdpSocket::from_std(socket)?;
        let exchange =
            Arc::new(Self { socket, waiting: Mutex::default(), repeated: AtomicU64::new(0) });
        tokio::spawn(exchange.clone().hand_out());
        Ok(exchange)
    }

    /// Packets that were sent again.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    /// The four packets of firmware or iPXE: the lease, and what to load.
    ///
    /// # Errors
    /// If nobody answers in a minute, or the server refuses what it has offered.
    pub(crate) async fn lease(
        &self,
        speaker: &DhcpClientKind,
        dice: &mut Rng,
    ) -> anyhow::Result<Reply> {
        let started = clock::monotonic();
        let mut open = self.transaction(dice.u32(..));
        let number = open.number;
        let seconds = || u16::try_from(started.elapsed().as_secs()).unwrap_or(u16::MAX);
        let offer = open
            .ask(speaker.mac, MessageType::Offer, || speaker.discover(number, seconds()))
            .await
            .context("DISCOVER")?;
        let taken = open
            .ask(speaker.mac, MessageType::Ack, || speaker.request(number, seconds(), &offer))
            .await
            .context("REQUEST")?;
        ensure!(
            taken.address == offer.address,
            "{} was offered, {} came",
            offer.address,
            taken.address
        );
        Ok(taken)
    }

    /// The address of stage 1, as the substrate asks for it.
    ///
    /// # Errors
    /// If nobody answers in half a minute.
    pub(crate) async fn stage1_lease(&self, mac: MacAddr, dice: &mut Rng) -> anyhow::Result<Lease> {
        let started = clock::monotonic();
        let mut open = self.transaction(dice.u32(..));
        let (mut client, mut effects) = DhcpClient::start(mac, open.number, None);
        let mut deadline = Instant::from_std(started);
        loop {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Send(packet) => self.send(&packet).await?,
                    Effect::Wait(wait) => deadline = Instant::now() + wait,
                    Effect::Bound(lease) => return Ok(lease),
                    Effect::GaveUp => bail!("nobody gave {mac} an address in stage 1"),
                }
            }
            effects = tokio::select! {
                Some(packet) = open.answers.recv() => client.handle(Event::Received(&packet), started.elapsed()),
                () = sleep_until(deadline) => {
                    self.repeated.fetch_add(1, Ordering::Relaxed);
                    client.handle(Event::Timer, started.elapsed())
                }
            };
        }
    }

    fn transaction(&self, number: u32) -> Transaction<'_> {
        let (sender, answers) = mpsc::channel(MAX_ANSWERS);
        self.waiting().insert(number, sender);
        Transaction { exchange: self, number, answers }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u32, mpsc::Sender<Vec<u8>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a packet to all servers, and waits for no answer.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub(crate) async fn send(&self, packet: &[u8]) -> anyhow::Result<()> {
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
        self.socket.send_to(packet, everybody).await.context("cannot send to port 67")?;
        Ok(())
    }

    async fn hand_out(self: Arc<Self>) {
        let mut buffer = vec![0; MAX_REPLY_BYTES];
        loop {
            let Ok(length) = self.socket.recv(&mut buffer).await else { continue };
            let Some(number) = transaction(&buffer[..length]) else { continue };
            let asked = self.waiting().get(&number).cloned();
            if let Some(asked) = asked {
                // A machine that has had its answer needs no second one.
                let _ = asked.try_send(buffer[..length].to_vec());
            }
        }
    }
}

impl Transaction<'_> {
    /// Asks until an answer of the kind comes.
    async fn ask(
        &mut self,
        mac: MacAddr,
        wanted: MessageType,
        packet: impl Fn() -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<Reply> {
        for (turn, wait) in WAITS.into_iter().enumerate() {
            if turn > 0 {
                self.exchange.repeated.fetch_add(1, Ordering::Relaxed);
            }
            self.exchange.send(&packet()?).await?;
            if let Ok(reply) = timeout(wait, self.answer(mac, wanted)).await {
                return reply;
            }
        }
        bail!("no answer to {mac} in {} s", WAITS.iter().sum::<Duration>().as_secs())
    }

    async fn answer(&mut self, mac: MacAddr, wanted: MessageType) -> anyhow::Result<Reply> {
        loop {
            let packet = self.answers.recv().await.context("the exchange has ended")?;
            let reply = Reply::parse(&packet)?;
            ensure!(reply.mac == mac, "an answer for {} in the transaction of {mac}", reply.mac);
            if reply.kind == wanted {
                return Ok(reply);
            }
            ensure!(reply.kind != MessageType::Nak, "{} refuses {mac}", reply.server);
        }
    }
}
