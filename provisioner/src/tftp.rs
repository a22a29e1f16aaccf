//! The sockets of TFTP: `Provisioner::serve` runs one [`Server`] beside the other boot services.
//!
//! All decisions are [`boot_proto::tftp`]'s. Here are: the listening sockets on port 69, one socket
//! per transfer (its port is the transfer's identifier, RFC 1350 section 4) on the address that the
//! request came to, and the files, read once. A file is found by its exact name among those, so no
//! path of a client ever reaches the file system.
//!
//! All of it runs in one thread of its own: between two packets of a transfer there is next to
//! nothing to do, and handing each to another thread costs more than that.

mod firmware;
mod meter;
mod place;

use std::{
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    ops::Range,
    pin::pin,
    sync::Arc,
    thread,
    time::Duration,
};

use boot_proto::{
    BootEvent,
    tftp::{Outcome, ReadRequest, Refusal, Transfer, Transmit, packet},
};
use bytes::Bytes;
use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::dispatcher;

use self::place::{TransferSlot, TransferSlots};
pub use self::{
    firmware::{Firmware, FirmwareError},
    meter::Meter,
};
use crate::{boot_log::BootLog, clock::now, datagram};

/// The port of RFC 1350.
pub const PORT: u16 = 69;

/// Most packets and bytes that the kernel cuts from one call (UDP_MAX_SEGMENTS of Linux 6.1; an
/// IPv4 datagram).
const MAX_SEGMENTS: u64 = 64;
const MAX_SEGMENTED_BYTES: u64 = 65_000;

/// Longest packet that a client sends, bytes; an ERROR with its text.
const MAX_ANSWER_BYTES: usize = 600;

/// Pause after a socket error.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Why TFTP could not start.
#[derive(Debug, thiserror::Error)]
pub enum TftpError {
    /// The port is taken, or the right to bind it is missing.
    #[error(
        "cannot listen on UDP {address}: is another TFTP server running, or does this process lack \
         CAP_NET_BIND_SERVICE?"
    )]
    Bind {
        /// Address and port.
        address: SocketAddrV4,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The system has no thread or no descriptors to spare, or the thread ended badly.
    #[error(
        "the thread of TFTP does not run; if the cause below is a limit of threads or open files, raise it"
    )]
    Thread(#[source] io::Error),
}

/// The TFTP server with its ports bound.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<std::net::UdpSocket>,
    firmware: Arc<Firmware>,
    meter: Arc<Meter>,
}

/// What every task of the server needs.
#[derive(Debug, Clone)]
struct Service {
    firmware: Arc<Firmware>,
    log: BootLog,
    places: TransferSlots,
    meter: Arc<Meter>,
}

impl Server {
    /// Binds the ports. `meter` counts what happens.
    ///
    /// # Errors
    /// A port that cannot be bound.
    pub fn bind(
        listen: &[SocketAddrV4],
        firmware: Arc<Firmware>,
        meter: Arc<Meter>,
    ) -> Result<Self, TftpError> {
        let open = |&address| {
            datagram::open(address, None).map_err(|source| TftpError::Bind { address, source })
        };
        Ok(Self { listeners: listen.iter().map(open).collect::<Result<_, _>>()?, firmware, meter })
    }

    /// Serves until `shutdown`, then drops the transfers under way.
    ///
    /// # Errors
    /// [`TftpError::Thread`].
    pub async fn serve(
        self,
        events: mpsc::Sender<BootEvent>,
        shutdown: CancellationToken,
    ) -> Result<(), TftpError> {
        let service = Service {
            firmware: self.firmware,
            log: BootLog::new(events),
            places: TransferSlots::of_this_process(),
            meter: self.meter,
        };
        let (ended, end) = oneshot::channel();
        let log = dispatcher::get_default(Clone::clone);
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let serve = |runtime: tokio::runtime::Runtime| {
                runtime.block_on(service.listen_all(self.listeners, shutdown))
            };
            let served = dispatcher::with_default(&log, || runtime.and_then(serve));
            // Whoever started it may be gone.
            let _ = ended.send(served);
        };
        thread::Builder::new().name("tftp".to_owned()).spawn(serve).map_err(TftpError::Thread)?;
        let broken = |_| Err(io::Error::other("it panicked: the server's log says where"));
        end.await.unwrap_or_else(broken).map_err(TftpError::Thread)
    }
}

impl Service {
    async fn listen_all(
        self,
        listeners: Vec<std::net::UdpSocket>,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(self.clone().listen(UdpSocket::from_std(listener)?));
        }
        tasks.spawn(self.log.refusals().clone().sum_up());
        shutdown.cancelled().await;
        Ok(())
    }

    async fn listen(self, listener: UdpSocket) {
        let mut transfers = JoinSet::new();
        let mut buffer = [0; packet::MAX_REQUEST_BYTES + 1];
        loop {
            while transfers.try_join_next().is_some() {}
            let received = match datagram::receive(&listener, &mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!("TFTP cannot receive: {error}");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            let answer = match ReadRequest::parse(&buffer[..received.bytes]) {
                Ok(None) => continue,
                Ok(Some(request)) => {
                    self.open(request, received.local, received.source).map_or_else(Err, |task| {
                        if let Some(task) = task {
                            transfers.spawn(task);
                        }
                        Ok(())
                    })
                }
                Err(refusal) => {
                    self.log(&refusal, received.source);
                    Err(refusal)
                }
            };
            if let Err(refusal) = answer {
                self.meter.refused();
                let sent =
                    datagram::send(&listener, &refusal.packet(), received.local, received.source)
                        .await;
                if let Err(error) = sent {
                    tracing::debug!(client = %received.source, "TFTP cannot send: {error}");
                }
            }
        }
    }

    /// A request that is refused for its form.
    fn log(&self, refusal: &Refusal, client: SocketAddrV4) {
        let sender = IpAddr::V4(*client.ip());
        if let Some(times) = self.log.refusals().count(refusal.message, sender, now()) {
            tracing::warn!("refused a TFTP request of {sender}: {refusal}{times}");
        }
    }

    /// The transfer for a request, ready to run; `None` if too many run.
    fn open(
        &self,
        request: ReadRequest,
        local: Ipv4Addr,
        client: SocketAddrV4,
    ) -> Result<Option<impl Future<Output = ()> + Send + use<>>, Refusal> {
        let sender = IpAddr::V4(*client.ip());
        let Some(file) = self.firmware.file(&request.file) else {
            let file = request.file.chars().take(80).collect();
            if let Some(times) = self.log.refusals().count(packet::NOT_FOUND.message, sender, now())
            {
                let event = BootEvent::FirmwareNotFound { file, client: sender };
                tracing::warn!("{event}{times}");
            }
            return Err(packet::NOT_FOUND);
        };
        let Some(place) = self.places.take(*client.ip()) else {
            self.meter.too_many();
            if let Some(times) = self.log.refusals().count("too many transfers", sender, now()) {
                tracing::warn!(
                    "too many TFTP transfers run, the request of {client} for {} waits{times}",
                    request.file
                );
            }
            return Ok(None);
        };
        let (log, meter) = (self.log.clone(), self.meter.clone());
        Ok(Some(async move {
            let _running = meter.enter();
            let name = request.file.clone();
            match transfer(&request, file, local, client, &place).await {
                Ok(transfer) if transfer.outcome().is_none() => {
                    meter.displaced(transfer.acknowledged_bytes());
                    tracing::debug!(%client, "TFTP transfer of {name} was idle and made room for another");
                }
                Ok(transfer) => {
                    meter.ended(transfer.outcome(), transfer.acknowledged_bytes());
                    report(&transfer, name, client, &log);
                }
                Err(error) => {
                    meter.ended(None, 0);
                    tracing::debug!(%client, "TFTP transfer of {name} broke off: {error}");
                }
            }
            drop(place);
        }))
    }
}

fn report(transfer: &Transfer, file: String, client: SocketAddrV4, log: &BootLog) {
    let bytes = transfer.acknowledged_bytes();
    let client = IpAddr::V4(*client.ip());
    match transfer.outcome() {
        Some(Outcome::Complete) => log.publish(BootEvent::FirmwareSent { file, client, bytes }),
        Some(Outcome::Lost) => log.publish(BootEvent::FirmwareLost { file, client, bytes }),
        Some(Outcome::Aborted { code, message }) => {
            tracing::debug!(%client, code, "TFTP client ended its transfer of {file}: {message}");
        }
        None => {}
    }
}

/// Runs a transfer to its end, or until it loses its place.
async fn transfer(
    request: &ReadRequest,
    file: Bytes,
    local: Ipv4Addr,
    client: SocketAddrV4,
    place: &TransferSlot,
) -> io::Result<Transfer> {
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(client).await?;
    let mut blocks = BlockSender { socket: &socket, file: &file, segmented: true };
    let size = u64::try_from(file.len()).map_err(io::Error::other)?;
    let mut transfer = Transfer::new(request, size, Instant::now().into_std());
    let mut buffer = [0; MAX_ANSWER_BYTES];
    let mut told = None;
    let mut alarm = pin!(tokio::time::sleep_until(Instant::now()));
    loop {
        if let Some(transmit) = transfer.poll_transmit() {
            match transmit {
                Transmit::Packet(packet) => {
                    socket.send(&packet).await?;
                }
                Transmit::Blocks(range) => blocks.send(&transfer, range).await?,
            }
        }
        let Some(deadline) = transfer.poll_timeout() else { return Ok(transfer) };
        // Each packet moves the deadline on; an alarm that comes too early is cheaper than one set
        // for each packet.
        let deadline = Instant::from_std(deadline);
        if alarm.is_elapsed() || deadline < alarm.deadline() {
            alarm.as_mut().reset(deadline);
        }
        tokio::select! {
            received = socket.recv(&mut buffer) => {
                transfer.handle_packet(&buffer[..received?], Instant::now().into_std());
                place.tell(transfer.progressed(), &mut told);
            }
            () = place.lost() => return Ok(transfer),
            () = &mut alarm => {
                transfer.handle_timeout(Instant::now().into_std());
            }
        }
    }
}

/// Sends DATA packets, many in one system call where the kernel can.
struct BlockSender<'a> {
    socket: &'a UdpSocket,
    file: &'a Bytes,
    /// The kernel cuts packets for us, unless it has refused to: it does where one is larger than
    /// the link's unit.
    segmented: bool,
}

impl BlockSender<'_> {
    async fn send(&mut self, transfer: &Transfer, range: Range<u64>) -> io::Result<()> {
        let headers: Vec<_> =
            range.clone().map(|block| packet::data_header(Transfer::wire_number(block))).collect();
        let mut parts = Vec::with_capacity(headers.len() * 2);
        for (block, header) in range.zip(&headers) {
            parts.push(IoSlice::new(header));
            parts.push(IoSlice::new(slice(self.file, &transfer.bytes_of(block))?));
        }
        let segment_bytes = parts.iter().take(2).map(|part| part.len()).sum::<usize>();
        let per_call = (MAX_SEGMENTED_BYTES
            / u64::try_from(segment_bytes).map_err(io::Error::other)?)
        .min(MAX_SEGMENTS);
        let per_call = usize::try_from(per_call.max(1)).map_err(io::Error::other)?;
        for batch in parts.chunks(per_call * 2) {
            if self.segmented && batch.len() > 2 {
                let segment = u16::try_from(segment_bytes).map_err(io::Error::other)?;
                match datagram::send_segments(self.socket, batch, segment).await {
                    Ok(()) => continue,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        return Err(error);
                    }
                    Err(error) => {
                        tracing::debug!(
                            "the kernel does not cut UDP packets here, sending them one by one: {error}"
                        );
                        self.segmented = false;
                    }
                }
            }
            for packet in batch.chunks(2) {
                datagram::send_parts(self.socket, packet).await?;
            }
        }
        Ok(())
    }
}

fn slice<'a>(file: &'a Bytes, range: &Range<u64>) -> io::Result<&'a [u8]> {
    let start = usize::try_from(range.start).map_err(io::Error::other)?;
    let end = usize::try_from(range.end).map_err(io::Error::other)?;
    Ok(&file[start..end])
}
