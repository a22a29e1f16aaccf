//! TFTP as boot firmware does it (RFC 1350, options of RFC 2347, 2348, 2349 and 7440): read only,
//! the bytes are counted and thrown away.
//!
//! | state | packet | answer |
//! |---|---|---|
//! | asked | OACK | ACK 0; or ERROR 0 where only the size was wanted, and done |
//! | asked, receiving | the DATA that is due | ACK at the end of a window and at the last block |
//! | receiving | DATA ahead of it: one was lost | ACK of the last in order, once per loss |
//! | receiving | the last DATA again: our ACK was lost | that ACK again |
//! | any | ERROR | the download has failed |
//! | any | nothing for a while | the last packet again |

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::{net::UdpSocket, time::timeout};

/// The port of requests.
const PORT: u16 = 69;

/// Block size without an option (RFC 1350).
const DEFAULT_BLOCK_BYTES: u16 = 512;

/// Time after which firmware says its last word again, and how often it does (EDK2's
/// PXE base code).
const REPEAT: Duration = Duration::from_secs(4);
const MAX_REPEATS: u32 = 6;

/// Largest packet, bytes: an Ethernet frame's worth.
const MAX_PACKET_BYTES: usize = 1_500;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileRequest {
    pub(crate) file: String,
    pub(crate) block_bytes: u16,
    pub(crate) window_blocks: u16,
    /// Ask how long the file is, and go away: firmware makes room first.
    pub(crate) only_size: bool,
}

/// What follows from a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// More will come.
    Wait,
    /// Send this, more will come.
    Send(Vec<u8>),
    /// Send this; the download is done.
    Done(Vec<u8>),
}

/// A download.
#[derive(Debug)]
pub(crate) struct Download {
    wish: FileRequest,
    block_bytes: u16,
    window: u64,
    size: Option<u64>,
    /// Blocks that came in order.
    received: u64,
    acknowledged: u64,
    bytes: u64,
    /// The block after which a loss was last told.
    told: Option<u64>,
    last_sent: Vec<u8>,
}

impl Download {
    /// Begins. The request is the first packet to send.
    pub(crate) fn new(wish: FileRequest) -> (Self, Vec<u8>) {
        let request = request(&wish);
        let download = Self {
            wish,
            block_bytes: DEFAULT_BLOCK_BYTES,
            window: 1,
            size: None,
            received: 0,
            acknowledged: 0,
            bytes: 0,
            told: None,
            last_sent: request.clone(),
        };
        (download, request)
    }

    /// Length of the file: as the server told it, or as it came.
    pub(crate) fn size(&self) -> u64 {
        self.size.unwrap_or(self.bytes)
    }

    /// Takes a packet.
    ///
    /// # Errors
    /// The server's refusal, or what breaks the protocol.
    pub(crate) fn handle(&mut self, packet: &[u8]) -> anyhow::Result<Step> {
        match packet {
            [0, 3, high, low, data @ ..] => self.data(u16::from_be_bytes([*high, *low]), data),
            [0, 5, high, low, words @ ..] => {
                let words = String::from_utf8_lossy(
                    words.split(|byte| *byte == 0).next().unwrap_or_default(),
                );
                bail!("the server says {words:?} (code {})", u16::from_be_bytes([*high, *low]));
            }
            [0, 6, options @ ..] if self.received == 0 => self.granted(options),
            _ => Ok(Step::Wait),
        }
    }

    /// Nothing came: what to send again.
    pub(crate) fn handle_timeout(&mut self) -> Vec<u8> {
        if self.received > 0 {
            self.acknowledge();
        }
        self.last_sent.clone()
    }

    fn granted(&mut self, options: &[u8]) -> anyhow::Result<Step> {
        let mut fields = options.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        while let (Some(name), Some(value)) =
            (fields.next().filter(|name| !name.is_empty()), fields.next())
        {
            let value: u64 =
                value.parse().with_context(|| format!("option {name} is {value:?}"))?;
            match name.as_ref() {
                "tsize" => self.size = Some(value),
                "blksize" => {
                    ensure!(
                        value <= self.wish.block_bytes.into(),
                        "blksize {value} was never asked for"
                    );
                    self.block_bytes = u16::try_from(value)?;
                }
                "windowsize" => {
                    ensure!(
                        value <= self.wish.window_blocks.into(),
                        "windowsize {value} was never asked for"
                    );
                    self.window = value;
                }
                other => bail!("option {other} was never asked for"),
            }
        }
        if self.wish.only_size {
            return Ok(Step::Done([&[0, 5, 0, 0], &b"TFTP Aborted\0"[..]].concat()));
        }
        Ok(Step::Send(self.acknowledge()))
    }

    fn data(&mut self, number: u16, data: &[u8]) -> anyhow::Result<Step> {
        let due = wire_number(self.received + 1);
        if number != due {
            let is_ahead = number.wrapping_sub(due) < u16::MAX / 2;
            let is_new_loss = self.told != Some(self.received);
            let is_repeated = number == wire_number(self.received);
            if is_ahead && is_new_loss {
                self.told = Some(self.received);
                return Ok(Step::Send(self.acknowledge()));
            }
            return Ok(if is_repeated { Step::Send(self.acknowledge()) } else { Step::Wait });
        }
        let whole = usize::from(self.block_bytes);
        ensure!(data.len() <= whole, "block {number} has {} bytes", data.len());
        self.received += 1;
        self.bytes += data.len() as u64;
        if data.len() < whole {
            let size = self.size();
            ensure!(self.bytes == size, "{} bytes came of {size}", self.bytes);
            return Ok(Step::Done(self.acknowledge()));
        }
        if self.received - self.acknowledged >= self.window {
            return Ok(Step::Send(self.acknowledge()));
        }
        Ok(Step::Wait)
    }

    fn acknowledge(&mut self) -> Vec<u8> {
        self.acknowledged = self.received;
        let [high, low] = wire_number(self.received).to_be_bytes();
        self.last_sent = vec![0, 4, high, low];
        self.last_sent.clone()
    }
}

/// Fetches a file of the server at `server` from the address `from`; its length. `repeated` counts
/// what was said again.
///
/// # Errors
/// If the server is silent, refuses, or sends other than it promised.
pub(crate) async fn fetch(
    from: Ipv4Addr,
    server: Ipv4Addr,
    wish: FileRequest,
    repeated: &AtomicU64,
) -> anyhow::Result<u64> {
    let socket =
        UdpSocket::bind((from, 0)).await.with_context(|| format!("no port of {from} is free"))?;
    let (mut download, first) = Download::new(wish);
    let mut peer = SocketAddr::V4(SocketAddrV4::new(server, PORT));
    let mut silent = 0;
    socket.send_to(&first, peer).await?;
    let mut buffer = [0; MAX_PACKET_BYTES];
    loop {
        let Ok(received) = timeout(REPEAT, socket.recv_from(&mut buffer)).await else {
            silent += 1;
            ensure!(
                silent <= MAX_REPEATS,
                "{server} is silent in the middle of {}",
                download.wish.file
            );
            repeated.fetch_add(1, Ordering::Relaxed);
            socket.send_to(&download.handle_timeout(), peer).await?;
            continue;
        };
        let (length, source) = received?;
        // The first answer comes from the port that the transfer has from now on (RFC
        // 1350 section 4).
        if peer.port() == PORT && source.ip() == peer.ip() {
            peer = source;
        }
        if source != peer {
            continue;
        }
        silent = 0;
        match download.handle(&buffer[..length])? {
            Step::Wait => {}
            Step::Send(packet) => drop(socket.send_to(&packet, peer).await?),
            Step::Done(packet) => {
                socket.send_to(&packet, peer).await?;
                return Ok(download.size());
            }
        }
    }
}

fn request(wish: &FileRequest) -> Vec<u8> {
    let mut packet = vec![0, 1];
    let mut word = |word: &str| {
        packet.extend(word.as_bytes());
        packet.push(0);
    };
    word(&wish.file);
    word("octet");
    word("tsize");
    word("0");
    word("blksize");
    word(&wish.block_bytes.to_string());
    if wish.window_blocks > 1 {
        word("windowsize");
        word(&wish.window_blocks.to_string());
    }
    packet
}

/// A block's number on the wire.
fn wire_number(block: u64) -> u16 {
    let [.., high, low] = block.to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
#[path = "tftp/tests.rs"]
mod tests;
