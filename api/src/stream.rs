//! Streams: what a user has of a running job beside its log. A program started in it, its output as
//! it comes, its ports, its files. Each stream is one WebSocket from the user to the server and one
//! from the node to the server; the server passes messages on and reads none of them.
//!
//! ```text
//! user ── GET /v1/workflows/ID/streams?request=… ──► server ── OpenStream over the channel ──► agent
//!                                                       ◄── GET /node/v1/streams/STREAM ─────────┘
//! ```
//! The request is [`StreamRequest`] in JSON. A binary message is data, a text message is a
//! [`Control`] in JSON:
//!
//! ```text
//! binary   channel (1 byte: 0 input, 1 output, 2 errors) · data, 1 to MAX_DATA_BYTES bytes
//! text     {"type":"resize","rows":24,"columns":80}
//! ```
//!
//! | kind | input | output | errors |
//! |---|---|---|---|
//! | exec | the program's standard input | its output; with a terminal all of it | its standard error |
//! | attach | | what the job writes | a line for what is left out of it |
//! | port | to the port | from it | |
//! | copy-out | | a tar stream | |
//! | copy-in | a tar stream | | |
//!
//! Each side sends at most [`WINDOW_BYTES`] of data that the other has not yet told to have
//! [`Control::Taken`]. So each side always reads its socket: a program that takes no input holds up
//! neither its output nor the end ([`FlowWindow`]).
//!
//! The node says how it went ([`Control::Ended`], [`Control::Failed`]) and closes. A user's
//! connection that is gone ends what the stream started.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{InvalidId, string_serde},
    run::Outcome,
};

/// Most data in one message, bytes: large enough that headers do not count, small enough that a
/// resize does not wait long.
pub const MAX_DATA_BYTES: usize = 64 << 10;

/// Largest message, bytes: data with its channel. A control is smaller.
pub const MAX_STREAM_MESSAGE_BYTES: usize = MAX_DATA_BYTES + 1;

/// Data that a side may send before the other has taken it, bytes: 100 MB/s over a way of 10 ms.
pub const WINDOW_BYTES: usize = 1 << 20;

/// A receiver tells what it has taken at the latest after so many bytes.
const TELL_BYTES: usize = WINDOW_BYTES / 4;

/// Longest request, JSON, bytes: it travels in a URL.
pub const MAX_REQUEST_BYTES: usize = 16 << 10;

/// Streams of one run that are open at once: a browser on a forwarded port opens some dozens.
pub const MAX_STREAMS_PER_RUN: usize = 128;

/// Streams of one node that are open at once.
pub const MAX_STREAMS_PER_NODE: usize = 512;

/// How long a node may take until it dials, seconds.
pub const DIAL_SECONDS: u64 = 15;

/// Things that a copy left out which are named; further ones are counted.
pub const MAX_LEFT_OUT: usize = 20;

/// Identity of a stream, made by the server at random and used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub uuid::Uuid);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}
impl FromStr for StreamId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        uuid::Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| InvalidId::new("stream id", text, "use 32 hexadecimal digits"))
    }
}
string_serde!(StreamId, "6f1c1f0e52a14a539f0b6f5f6d1f2d11");

/// What a user wants of a running job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "what")]
pub enum StreamRequest {
    /// A program in the job's container, as the job's user, within the job's limits.
    Exec {
        /// Program and arguments, not empty.
        command: Vec<String>,
        /// With a terminal of this kind.
        terminal: Option<Terminal>,
        /// It gets input; else its standard input is empty.
        input: bool,
    },
    /// What the job writes from now on.
    Attach {
        /// From its beginning.
        all: bool,
    },
    /// A TCP connection to a port of the job's loopback.
    Port {
        /// The port, not 0.
        port: u16,
    },
    /// A file or directory out of the container.
    CopyOut {
        /// Path of the file or directory in the container, absolute.
        path: String,
    },
    /// A file or directory into the container.
    CopyIn {
        /// Where to, absolute: into a directory that is there, else the new name.
        path: String,
        /// Its name where the path is a directory.
        name: String,
    },
    /// What a server of a later release may pass on; the agent answers that it does not know it.
    /// Never sent, and refused from users ([`Self::parse`]).
    #[serde(other)]
    Unknown,
}

/// A request that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// It is too long.
    #[error(
        "the request has {bytes} bytes, and at most {MAX_REQUEST_BYTES} are taken: shorten the command"
    )]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It is not JSON of this form.
    #[error("the request is no stream: {why}")]
    NoStream {
        /// What the parser says.
        why: String,
    },
    /// A field that no request has.
    #[error("the request is no stream: unknown field `{0}`")]
    UnknownField(String),
    /// The kind of it.
    #[error("`what` must be exec, attach, port, copy-out or copy-in")]
    UnknownKind,
    /// No program is named.
    #[error("the command is empty: name a program")]
    NoProgram,
    /// A text that a program cannot be given.
    #[error("{0} holds a zero byte")]
    ZeroByte(&'static str),
    /// Nothing listens there.
    #[error("0 is no port: use 1 to 65535")]
    NoPort,
    /// A path that means nothing by itself.
    #[error("{0:?} is not absolute: a path in a container begins with /")]
    RelativePath(String),
    /// More than one name, or none.
    #[error("{0:?} is no name of a file")]
    NoFileName(String),
}

impl StreamRequest {
    /// Reads a request and holds it against the rules.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(json: &str) -> Result<Self, InvalidRequest> {
        if json.len() > MAX_REQUEST_BYTES {
            return Err(InvalidRequest::TooLong { bytes: json.len() });
        }
        let no_stream =
            |error: serde_json::Error| InvalidRequest::NoStream { why: error.to_string() };
        let given: serde_json::Value = serde_json::from_str(json).map_err(no_stream)?;
        let request: Self = serde_json::from_str(json).map_err(no_stream)?;
        // `crate::strict` cannot look into an enum with a tag inside. All fields of this one are
        // always written, so what is given and not written again is unknown.
        let known = serde_json::to_value(&request).map_err(no_stream)?;
        if let Some(field) = unknown_field(&given, &known) {
            return Err(InvalidRequest::UnknownField(field.to_owned()));
        }
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), InvalidRequest> {
        let no_zero = |what, text: &str| match text.contains('\0') {
            true => Err(InvalidRequest::ZeroByte(what)),
            false => Ok(()),
        };
        match self {
            Self::Exec { command, terminal, .. } => {
                if command.first().is_none_or(String::is_empty) {
                    return Err(InvalidRequest::NoProgram);
                }
                command.iter().try_for_each(|word| no_zero("the command", word))?;
                terminal
                    .iter()
                    .try_for_each(|terminal| no_zero("the terminal's name", &terminal.name))
            }
            Self::Unknown => Err(InvalidRequest::UnknownKind),
            Self::Attach { .. } => Ok(()),
            Self::Port { port: 0 } => Err(InvalidRequest::NoPort),
            Self::Port { .. } => Ok(()),
            Self::CopyOut { path } | Self::CopyIn { path, .. } => {
                no_zero("the path", path)?;
                if !path.starts_with('/') {
                    return Err(InvalidRequest::RelativePath(path.clone()));
                }
                match self {
                    Self::CopyIn { name, .. } if !is_name(name) => {
                        Err(InvalidRequest::NoFileName(name.clone()))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// What is done, for the audit log: `exec ls -l`.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Exec { command, .. } => format!("exec {}", command.join(" ")),
            Self::Attach { .. } => "attach".to_owned(),
            Self::Port { port } => format!("port-forward {port}"),
            Self::CopyOut { path } => format!("copy out {path}"),
            Self::CopyIn { path, name } => format!("copy {name} to {path}"),
            Self::Unknown => "unknown".to_owned(),
        }
    }
}

/// The first field of `given`, at any depth, that `known` doesn't have.
fn unknown_field<'a>(given: &'a serde_json::Value, known: &serde_json::Value) -> Option<&'a str> {
    let (given, known) = (given.as_object()?, known.as_object()?);
    given.iter().find_map(|(name, value)| match known.get(name) {
        Some(known) => unknown_field(value, known),
        None => Some(name.as_str()),
    })
}

/// Whether this is one name in a directory.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\0'])
}

/// A terminal as a program finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Terminal {
    /// Value of the environment variable `TERM`.
    pub name: String,
    /// Its size at the beginning.
    pub size: Size,
}

/// Size of a terminal, characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Size {
    /// Height, lines.
    pub rows: u16,
    /// Width, columns.
    pub columns: u16,
}

/// A channel of data within a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// From the user.
    Input,
    /// From the node.
    Output,
    /// From the node, standard error.
    Errors,
    /// One of a later release. Never sent.
    #[serde(other)]
    Unknown,
}

/// Control messages of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "type")]
pub enum Control {
    /// So much more data of the other side has gone where it should: it may send as much again.
    Taken {
        /// Bytes, of all channels together.
        bytes: usize,
    },
    /// Nothing more comes on a channel.
    EndOf {
        /// The channel that ends.
        channel: Channel,
    },
    /// The user's terminal has another size.
    Resize {
        /// Its size.
        size: Size,
    },
    /// It is over; from the node, its last word.
    Ended {
        /// How the program, or for `attach` the job, ended.
        outcome: Outcome,
    },
    /// A copy is done; from the node, its last word.
    Copied {
        /// Summary of what was copied.
        copied: Copied,
    },
    /// It could not be done; from the node, its last word.
    Failed {
        /// The operation that failed, its subject and its cause, for people.
        why: String,
    },
    /// What a later release may say; ignored. Never sent.
    #[serde(other)]
    Unknown,
}

/// Summary of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Copied {
    /// Files, directories and links.
    pub entries: u64,
    /// Contents of files, bytes.
    pub bytes: u64,
    /// What was left out and why, the first [`MAX_LEFT_OUT`].
    pub left_out: Vec<String>,
    /// Number of entries that were left out.
    pub left_out_count: u64,
}

/// A message that is none of this protocol's, or comes when it must not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the other side breaks the protocol of streams: {0}")]
pub struct Malformed(pub String);

/// Puts data into a message.
#[must_use]
pub fn data(channel: Channel, bytes: &[u8]) -> Vec<u8> {
    let number = match channel {
        Channel::Input => 0,
        Channel::Output => 1,
        Channel::Errors => 2,
        // Never sent; the other side refuses it.
        Channel::Unknown => u8::MAX,
    };
    let mut message = Vec::with_capacity(1 + bytes.len());
    message.push(number);
    message.extend_from_slice(bytes);
    message
}

/// Takes data out of a message.
///
/// # Errors
/// [`Malformed`].
pub fn parse_data(message: &[u8]) -> Result<(Channel, &[u8]), Malformed> {
    let (number, bytes) =
        message.split_first().ok_or_else(|| Malformed("an empty message".to_owned()))?;
    let channel = match number {
        0 => Channel::Input,
        1 => Channel::Output,
        2 => Channel::Errors,
        other => return Err(Malformed(format!("there is no channel {other}"))),
    };
    if bytes.is_empty() || bytes.len() > MAX_DATA_BYTES {
        return Err(Malformed(format!("{} bytes of data in one message", bytes.len())));
    }
    Ok((channel, bytes))
}

/// How much may be sent, and how much was received and not taken: one side's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowWindow {
    room: usize,
    held: usize,
    untold: usize,
}

impl Default for FlowWindow {
    fn default() -> Self {
        Self { room: WINDOW_BYTES, held: 0, untold: 0 }
    }
}

impl FlowWindow {
    /// Bytes that may be sent now, at most one message's.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room.min(MAX_DATA_BYTES)
    }

    /// Data was sent, within [`Self::room`].
    pub fn sent(&mut self, bytes: usize) {
        self.room = self.room.saturating_sub(bytes);
    }

    /// The other side has taken data.
    ///
    /// # Errors
    /// [`Malformed`]: more than was sent.
    pub fn was_taken(&mut self, bytes: usize) -> Result<(), Malformed> {
        let room = self.room.checked_add(bytes).filter(|room| *room <= WINDOW_BYTES);
        self.room =
            room.ok_or_else(|| Malformed(format!("{bytes} bytes taken that were not sent")))?;
        Ok(())
    }

    /// Data came.
    ///
    /// # Errors
    /// [`Malformed`]: more than the window.
    pub fn received(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.held += bytes;
        if self.held + self.untold > WINDOW_BYTES {
            return Err(Malformed(format!("more than {WINDOW_BYTES} bytes that were not taken")));
        }
        Ok(())
    }

    /// Data has gone where it should. Some: to be told to the other side now.
    pub fn took(&mut self, bytes: usize) -> Option<Control> {
        // What was never held (a key of our own for a terminal) is nothing that the other
        // side waits for.
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.untold += bytes;
        // What is little and all of it is told as well: the other side may wait for it.
        if self.untold == 0 || (self.untold < TELL_BYTES && self.held > 0) {
            return None;
        }
        Some(Control::Taken { bytes: std::mem::take(&mut self.untold) })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn controls_and_requests_look_so() {
        let size = Size { rows: 24, columns: 80 };
        let controls = [
            Control::Taken { bytes: 7 },
            Control::EndOf { channel: Channel::Input },
            Control::Resize { size },
            Control::Ended { outcome: Outcome::Exited { code: 7 } },
            Control::Failed { why: "no".to_owned() },
        ];
        let requests = [
            StreamRequest::Exec {
                command: vec!["ls".to_owned(), "-l".to_owned()],
                terminal: Some(Terminal { name: "xterm".to_owned(), size }),
                input: true,
            },
            StreamRequest::Attach { all: false },
            StreamRequest::Port { port: 80 },
            StreamRequest::CopyIn { path: "/tmp".to_owned(), name: "a".to_owned() },
        ];
        let mut text = String::new();
        for control in &controls {
            text += &(serde_json::to_string(control).unwrap() + "\n");
        }
        for request in &requests {
            let json = serde_json::to_string(request).unwrap();
            assert_eq!(StreamRequest::parse(&json).as_ref(), Ok(request));
            text += &(json + "\n");
        }
        expect![[r#"
            {"type":"taken","bytes":7}
            {"type":"end-of","channel":"input"}
            {"type":"resize","size":{"rows":24,"columns":80}}
            {"type":"ended","outcome":{"outcome":"exited","code":7}}
            {"type":"failed","why":"no"}
            {"what":"exec","command":["ls","-l"],"terminal":{"name":"xterm","size":{"rows":24,"columns":80}},"input":true}
            {"what":"attach","all":false}
            {"what":"port","port":80}
            {"what":"copy-in","path":"/tmp","name":"a"}
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn a_request_that_breaks_a_rule_is_told() {
        let long = format!(
            r#"{{"what":"exec","command":["{}"],"terminal":null,"input":false}}"#,
            "x".repeat(MAX_REQUEST_BYTES)
        );
        let mut text = String::new();
        for wrong in [
            "{}",
            r#"{"what":"exec","command":[],"terminal":null,"input":false}"#,
            r#"{"what":"exec","command":["a\u0000"],"terminal":null,"input":false}"#,
            r#"{"what":"port","port":0}"#,
            r#"{"what":"copy-out","path":"etc"}"#,
            r#"{"what":"copy-in","path":"/tmp","name":".."}"#,
            r#"{"what":"attach","all":true,"more":1}"#,
            r#"{"what":"exec","command":["a"],"terminal":{"name":"x","size":{"rows":1,"columns":1,"pixels":1}},"input":true}"#,
            r#"{"what":"dance"}"#,
            &long,
        ] {
            text += &(StreamRequest::parse(wrong).unwrap_err().to_string() + "\n");
        }
        expect![[r#"
            the request is no stream: missing field `what` at line 1 column 2
            the command is empty: name a program
            the command holds a zero byte
            0 is no port: use 1 to 65535
            "etc" is not absolute: a path in a container begins with /
            ".." is no name of a file
            the request is no stream: unknown field `more`
            the request is no stream: unknown field `pixels`
            `what` must be exec, attach, port, copy-out or copy-in
            the request has 16444 bytes, and at most 16384 are taken: shorten the command
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn data_keeps_its_channel() {
        for channel in [Channel::Input, Channel::Output, Channel::Errors] {
            assert_eq!(parse_data(&data(channel, b"x")), Ok((channel, b"x".as_slice())));
        }
        for wrong in [&b""[..], b"\x01", b"\x03x", &vec![0; MAX_DATA_BYTES + 2]] {
            assert!(parse_data(wrong).is_err());
        }
    }

    #[test]
    fn who_sends_too_much_is_found_out() {
        let mut window = FlowWindow::default();
        window.received(WINDOW_BYTES).unwrap();
        assert!(window.received(1).is_err());
        assert!(FlowWindow::default().was_taken(1).is_err());
        // Nor is more told than came.
        assert_eq!(FlowWindow::default().took(1), None);
        window = FlowWindow::default();
        window.received(5).unwrap();
        assert_eq!(window.took(6), Some(Control::Taken { bytes: 5 }));
    }

    proptest! {
        /// Two sides that keep to their rooms never break the other's window, and
        /// never stand still.
        #[test]
        fn a_flow_neither_breaks_nor_stands_still(steps in proptest::collection::vec((1_usize..200_000, 1_usize..200_000), 1..200)) {
            let (mut sender, mut receiver) = (FlowWindow::default(), FlowWindow::default());
            let mut waiting = 0;
            for (send, take) in steps {
                let send = send.min(sender.room());
                if send > 0 {
                    sender.sent(send);
                    prop_assert!(receiver.received(send).is_ok());
                    waiting += send;
                }
                let take = take.min(waiting);
                if take > 0 {
                    waiting -= take;
                    if let Some(Control::Taken { bytes }) = receiver.took(take) {
                        prop_assert!(sender.was_taken(bytes).is_ok());
                    }
                }
                prop_assert!(waiting > 0 || sender.room() == MAX_DATA_BYTES);
            }
        }
    }
}
