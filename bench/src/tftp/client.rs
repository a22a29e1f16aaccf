//! A TFTP client (RFC 1350, options of RFC 2347 and 2348, windows of RFC 7440): fast enough that it
//! is not what is measured.

use std::{io::ErrorKind, net::UdpSocket, time::Duration};

use anyhow::{Context as _, bail};

use crate::network::{CLIENT, SERVER};

const PORT: u16 = 69;

const DATA: u16 = 3;
const ERROR: u16 = 5;
const OPTIONS: u16 = 6;

/// Bytes of a block where the server knows no options.
const DEFAULT_BLOCK_BYTES: usize = 512;

/// After so long without a packet the last one is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(1);

/// So often.
const TRIES: u32 = 5;

/// Room for a block with its header.
const MAX_PACKET_BYTES: usize = 2048;

/// Fetches a file from [`SERVER`].
///
/// # Errors
/// What the server says, or that it is silent.
pub(super) fn fetch(file: &str, block_bytes: u16, window: Option<u16>) -> anyhow::Result<Vec<u8>> {
    let socket = UdpSocket::bind((CLIENT, 0)).context("cannot open a socket")?;
    socket.set_read_timeout(Some(RESEND_AFTER))?;
    let mut buffer = [0; MAX_PACKET_BYTES];
    let request = request(file, block_bytes, window);
    let (length, server) = 'asked: {
        for _ in 0..TRIES {
            socket.send_to(&request, (SERVER, PORT)).context("cannot ask")?;
            match socket.recv_from(&mut buffer) {
                Ok(received) => break 'asked received,
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error).context("cannot receive"),
            }
        }
        bail!("the server does not answer");
    };
    socket.connect(server).context("cannot connect")?;
    let mut transfer = Transfer::new();
    let mut step = transfer.handle(&buffer[..length])?;
    let mut silent = 0;
    loop {
        match step {
            Step::Wait => {}
            Step::Acknowledge => {
                socket.send(&transfer.acknowledgement()).context("cannot acknowledge")?;
            }
            Step::End => {
                socket.send(&transfer.acknowledgement()).context("cannot acknowledge")?;
                return Ok(transfer.bytes);
            }
        }
        step = match socket.recv(&mut buffer) {
            Ok(length) => {
                silent = 0;
                transfer.handle(&buffer[..length])?
            }
            Err(error) if is_timeout(&error) && silent < TRIES => {
                silent += 1;
                Step::Acknowledge
            }
            Err(error) => {
                return Err(error).with_context(|| format!("after block {}", transfer.last));
            }
        };
    }
}

/// What is to be done after a packet.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Wait,
    Acknowledge,
    End,
}

#[derive(Debug)]
struct Transfer {
    block_bytes: usize,
    window: u16,
    /// Number of the last block that came in order, as on the wire.
    last: u16,
    /// Blocks since the last acknowledgement.
    in_window: u16,
    /// What came last was not in order, and the server was told.
    gap_told: bool,
    bytes: Vec<u8>,
}

impl Transfer {
    /// Before the server's first packet.
    fn new() -> Self {
        Self {
            block_bytes: DEFAULT_BLOCK_BYTES,
            window: 1,
            last: 0,
            in_window: 0,
            gap_told: false,
            bytes: Vec::new(),
        }
    }

    fn handle(&mut self, packet: &[u8]) -> anyhow::Result<Step> {
        let word = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
        match (word(0), word(2)) {
            (Some(OPTIONS), _) => {
                self.read_options(&packet[2..])?;
                Ok(Step::Acknowledge)
            }
            (Some(DATA), Some(number)) => Ok(self.block(number, &packet[4..])),
            (Some(ERROR), Some(code)) => {
                bail!(
                    "the server says: error {code}: {}",
                    String::from_utf8_lossy(&packet[4..]).trim_end_matches('\0')
                )
            }
            _ => bail!("the server sent what is no TFTP packet"),
        }
    }

    fn block(&mut self, number: u16, content: &[u8]) -> Step {
        if number != self.last.wrapping_add(1) {
            // One acknowledgement for a gap: the server begins again behind it.
            self.in_window = 0;
            return if std::mem::replace(&mut self.gap_told, true) {
                Step::Wait
            } else {
                Step::Acknowledge
            };
        }
        self.gap_told = false;
        self.last = number;
        self.in_window += 1;
        self.bytes.extend_from_slice(content);
        if content.len() < self.block_bytes {
            return Step::End;
        }
        if self.in_window < self.window {
            return Step::Wait;
        }
        self.in_window = 0;
        Step::Acknowledge
    }

    fn read_options(&mut self, text: &[u8]) -> anyhow::Result<()> {
        let words: Vec<String> = text
            .split(|&byte| byte == 0)
            .map(|word| String::from_utf8_lossy(word).to_lowercase())
            .collect();
        for pair in words.chunks_exact(2) {
            match pair[0].as_str() {
                "blksize" => {
                    self.block_bytes =
                        pair[1].parse().context("the server's blksize is no number")?
                }
                "windowsize" => {
                    self.window = pair[1].parse().context("the server's windowsize is no number")?
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn acknowledgement(&self) -> [u8; 4] {
        let number = self.last.to_be_bytes();
        [0, 4, number[0], number[1]]
    }
}

fn request(file: &str, block_bytes: u16, window: Option<u16>) -> Vec<u8> {
    let mut words =
        vec![file.to_owned(), "octet".to_owned(), "blksize".to_owned(), block_bytes.to_string()];
    if let Some(window) = window {
        words.extend(["windowsize".to_owned(), window.to_string()]);
    }
    let text = words.iter().flat_map(|word| word.bytes().chain([0]));
    [0, 1].into_iter().chain(text).collect()
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(number: u16, length: usize) -> Vec<u8> {
        let mut packet = vec![0, 3];
        packet.extend(number.to_be_bytes());
        packet.resize(4 + length, 7);
        packet
    }

    #[test]
    fn a_window_is_acknowledged_once_and_a_gap_once() {
        let mut transfer = Transfer::new();
        assert_eq!(
            transfer.handle(b"\0\x06blksize\x008\0windowsize\x002\0").unwrap(),
            Step::Acknowledge
        );
        assert_eq!(transfer.handle(&data(1, 8)).unwrap(), Step::Wait);
        assert_eq!(transfer.handle(&data(2, 8)).unwrap(), Step::Acknowledge);
        assert_eq!(transfer.acknowledgement(), [0, 4, 0, 2]);
        assert_eq!(transfer.handle(&data(3, 8)).unwrap(), Step::Wait);
        assert_eq!(transfer.handle(&data(5, 8)).unwrap(), Step::Acknowledge);
        assert_eq!(transfer.acknowledgement(), [0, 4, 0, 3]);
        assert_eq!(transfer.handle(&data(6, 8)).unwrap(), Step::Wait);
        assert_eq!(transfer.handle(&data(4, 3)).unwrap(), Step::End);
        assert_eq!(transfer.bytes.len(), 27);
    }

    #[test]
    fn a_request_names_its_options() {
        assert_eq!(
            request("f", 1468, Some(32)),
            b"\0\x01f\0octet\0blksize\x001468\0windowsize\x0032\0"
        );
    }

    #[test]
    fn an_error_is_told_in_the_servers_words() {
        let mut transfer = Transfer::new();
        let error = transfer.handle(b"\0\x05\0\x01no such file\0").unwrap_err().to_string();
        assert_eq!(error, "the server says: error 1: no such file");
    }
}
