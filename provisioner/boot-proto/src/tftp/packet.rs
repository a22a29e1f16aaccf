//! TFTP packets (RFC 1350 section 5, RFC 2347). Big-endian; strings end in a zero byte.
//!
//! ```text
//! RRQ   1  file 0 mode 0 { option 0 value 0 }
//! WRQ   2  likewise
//! DATA  3  block:u16 bytes
//! ACK   4  block:u16
//! ERROR 5  code:u16 message 0
//! OACK  6  { option 0 value 0 }
//! ```

/// Longest request that is read, bytes (RFC 2347: "a maximum of 512 octets").
pub const MAX_REQUEST_BYTES: usize = 512;

/// Bytes in front of the data of a DATA packet.
pub const DATA_HEADER_BYTES: usize = 4;

/// Smallest and largest block size (RFC 2348).
const BLOCK_BYTES: std::ops::RangeInclusive<u16> = 8..=65_464;

/// Block size without the option.
const DEFAULT_BLOCK_BYTES: u16 = 512;

/// Largest window granted, blocks: what fits a client's usual socket buffer of 212 kB with blocks
/// of 1,468 bytes.
const MAX_WINDOW_BLOCKS: u16 = 64;

/// Longest interval of retransmissions granted, seconds: firmware asks for a few.
const MAX_TIMEOUT_SECONDS: u8 = 30;

/// Error codes that the server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// 1.
    FileNotFound,
    /// 2.
    AccessViolation,
    /// 4.
    IllegalOperation,
    /// 0, with a text.
    NotDefined,
}

impl ErrorCode {
    fn number(self) -> u16 {
        match self {
            Self::NotDefined => 0,
            Self::FileNotFound => 1,
            Self::AccessViolation => 2,
            Self::IllegalOperation => 4,
        }
    }
}

/// Why a request is not served; told to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Error code of the packet (RFC 1350).
    pub code: ErrorCode,
    /// Text of the packet, for people.
    pub message: &'static str,
}

impl Refusal {
    /// The ERROR packet.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let mut bytes = vec![0, 5];
        bytes.extend(self.code.number().to_be_bytes());
        bytes.extend(self.message.as_bytes());
        bytes.push(0);
        bytes
    }
}

/// The file that is not there.
pub const NOT_FOUND: Refusal = Refusal { code: ErrorCode::FileNotFound, message: "file not found" };

/// A request to read, with the options that the server grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// Name of the file without leading slashes.
    pub file: String,
    /// Bytes per block.
    pub block_bytes: u16,
    /// Blocks per acknowledgement.
    pub window_blocks: u16,
    /// Seconds until a packet is sent again, if the client set it (RFC 2349).
    pub timeout_seconds: Option<u8>,
    /// The options to confirm, in the client's order and spelling; empty: begin with
    /// the first block.
    pub granted: Vec<Granted>,
}

/// One option of the OACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    /// The option and its value.
    Value(String, u32),
    /// `tsize`: the size of the file, known only when it is opened.
    Size(String),
}

impl ReadRequest {
    /// Reads the first packet of a client. `Ok(None)`: neither a request nor worth an answer.
    ///
    /// # Errors
    /// A request to write, a mode other than `octet`, or a request that is cut off.
    pub fn parse(packet: &[u8]) -> Result<Option<Self>, Refusal> {
        let illegal = |message| Refusal { code: ErrorCode::IllegalOperation, message };
        match packet {
            [0, 1, ..] if packet.len() <= MAX_REQUEST_BYTES => {}
            [0, 1, ..] => return Err(illegal("request is longer than 512 bytes")),
            [0, 2, ..] => {
                return Err(Refusal {
                    code: ErrorCode::AccessViolation,
                    message: "this server is read only",
                });
            }
            _ => return Ok(None),
        }
        let Some(body) = packet[2..].strip_suffix(&[0]) else {
            return Err(illegal("request does not end in a zero byte"));
        };
        let mut fields = body.split(|&byte| byte == 0);
        let (Some(file), Some(mode)) = (fields.next(), fields.next()) else {
            return Err(illegal("request has no transfer mode"));
        };
        // Firmware that reads option 67 past its end appends the mark of the options' end, 0xff,
        // which no UTF-8 text has.
        let file = file.split(|&byte| byte == 0xff).next().unwrap_or_default();
        let texts = |field| std::str::from_utf8(field).map_err(|_| illegal("request is not UTF-8"));
        let (file, mode) = (texts(file)?, texts(mode)?);
        if !mode.eq_ignore_ascii_case("octet") {
            return Err(illegal("only transfer mode octet is served"));
        }
        let mut request = Self {
            file: file.trim_start_matches('/').to_owned(),
            block_bytes: DEFAULT_BLOCK_BYTES,
            window_blocks: 1,
            timeout_seconds: None,
            granted: Vec::new(),
        };
        while let (Some(option), Some(value)) = (fields.next(), fields.next()) {
            request.grant(texts(option)?, texts(value)?);
        }
        Ok(Some(request))
    }

    /// Takes an option over if it is known and its value makes sense; else it is left out of the
    /// OACK, which tells the client that it was not granted (RFC 2347).
    fn grant(&mut self, option: &str, value: &str) {
        let Ok(value) = value.parse::<u32>() else { return };
        let granted = match option.to_ascii_lowercase().as_str() {
            "blksize" => match u16::try_from(value.min(u32::from(*BLOCK_BYTES.end()))) {
                Ok(bytes) if BLOCK_BYTES.contains(&bytes) => {
                    self.block_bytes = bytes;
                    u32::from(bytes)
                }
                _ => return,
            },
            "windowsize" => match u16::try_from(value.min(u32::from(MAX_WINDOW_BLOCKS))) {
                Ok(blocks) if blocks > 0 && value <= u32::from(u16::MAX) => {
                    self.window_blocks = blocks;
                    u32::from(blocks)
                }
                _ => return,
            },
            "timeout" => match u8::try_from(value) {
                Ok(seconds) if (1..=MAX_TIMEOUT_SECONDS).contains(&seconds) => {
                    self.timeout_seconds = Some(seconds);
                    u32::from(seconds)
                }
                _ => return,
            },
            "tsize" => {
                self.granted.push(Granted::Size(option.to_owned()));
                return;
            }
            _ => return,
        };
        self.granted.push(Granted::Value(option.to_owned(), granted));
    }

    /// The OACK packet for a file of `size` bytes, or `None` if no option was granted.
    #[must_use]
    pub fn oack(&self, size: u64) -> Option<Vec<u8>> {
        if self.granted.is_empty() {
            return None;
        }
        let mut bytes = vec![0, 6];
        for granted in &self.granted {
            let (option, value) = match granted {
                Granted::Value(option, value) => (option, u64::from(*value)),
                Granted::Size(option) => (option, size),
            };
            bytes.extend(option.as_bytes());
            bytes.push(0);
            bytes.extend(value.to_string().as_bytes());
            bytes.push(0);
        }
        Some(bytes)
    }
}

/// What a client says during a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has every block up to this one.
    Ack(u16),
    /// It gives up.
    Error {
        /// Error code.
        code: u16,
        /// Its text, cut to 80 characters.
        message: String,
    },
}

impl Answer {
    /// Reads a packet; `None` if it is neither an ACK nor an ERROR.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        match packet {
            [0, 4, high, low, ..] => Some(Self::Ack(u16::from_be_bytes([*high, *low]))),
            [0, 5, high, low, text @ ..] => {
                let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
                let message = String::from_utf8_lossy(text).chars().take(80).collect();
                Some(Self::Error { code: u16::from_be_bytes([*high, *low]), message })
            }
            _ => None,
        }
    }
}

/// The first bytes of the DATA packet of this block number.
#[must_use]
pub fn data_header(block: u16) -> [u8; DATA_HEADER_BYTES] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}
