//! What server and converter say to each other. Both are the same program, so there is one version
//! of it; the server believes nothing that the converter says, and bounds all of it.
//!
//! Server to converter, over a UNIX stream socket that is its standard input (little-endian):
//!
//! ```text
//! u32 count of descriptors · u32 bytes of JSON
//! one byte with up to 128 descriptors (SCM_RIGHTS), until all are over
//! JSON: Request
//! ```
//!
//! Converter to server, over the pipe that is its standard output, in frames:
//!
//! ```text
//! u8 kind: 'm' a Message in JSON, 'd' bytes of the artifact that began · u32 bytes · bytes
//! ```

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

use crate::layer::{Layer, MAX_LAYERS};

/// Descriptors in one message; the kernel takes 253.
const DESCRIPTORS_AT_ONCE: usize = 128;

/// Most descriptors of a request: all layers, the output, the substrate program.
const MAX_DESCRIPTORS: usize = MAX_LAYERS + 2;

/// Longest request, bytes: 512 layers have some 200 KB.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Longest frame, bytes.
pub(super) const MAX_FRAME_BYTES: usize = 1 << 20;

/// Kinds of frames.
const MESSAGE: u8 = b'm';
const DATA: u8 = b'd';

/// What is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Work {
    /// Root image, kernels and stage 1.
    Image,
    /// The root image of containers alone.
    JobRoot,
    /// Kernels and stage 1 alone.
    Stage1,
}

impl Work {
    /// Whether a root image is written: then its file is among the descriptors, after the layers.
    pub(super) fn has_root(self) -> bool {
        self != Self::Stage1
    }

    /// Whether the substrate program is needed: then it is the last descriptor.
    pub(super) fn has_substrate(self) -> bool {
        self != Self::JobRoot
    }
}

/// What the converter is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Request {
    pub work: Work,
    /// Lowest first; the descriptors have the same order.
    pub layers: Vec<Layer>,
    /// Largest root image, bytes.
    pub output_bytes: u64,
    /// What a test wants to see done inside the jail; see [`super::main`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
}

/// A kernel, by the numbers of its artifacts in the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SentKernel {
    pub release: String,
    pub kernel: usize,
    pub stage1: usize,
    pub stage1_unpacked: u64,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The image cannot be taken.
    Image,
    /// `tar2sqfs` could not write; the disk may be full.
    Writer,
    /// The machine lacks something that has nothing to do with the image.
    Machine,
    /// What a newer or broken converter says.
    #[serde(other)]
    Other,
}

/// What the converter says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(super) enum Message {
    /// The jail is shut. `missing`: what of it this kernel does not have.
    Jailed { missing: Vec<String> },
    /// See [`crate::Progress::advance`].
    Progress { label: String, done: u64, total: u64 },
    /// An artifact of this format begins; its bytes follow.
    Artifact { format: String },
    /// The artifact is whole.
    ArtifactEnd,
    /// All is done.
    Done { kernels: Vec<SentKernel>, warnings: Vec<String> },
    /// There will be nothing.
    Failed { kind: RefusalKind, message: String },
}

/// A frame from the converter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Message(Message),
    Data(Vec<u8>),
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// Sends a request with its descriptors.
pub(super) fn send_request(
    mut socket: &UnixStream,
    request: &Request,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let json = serde_json::to_vec(request)?;
    if json.len() > MAX_REQUEST_BYTES || descriptors.len() > MAX_DESCRIPTORS {
        return Err(invalid("the image has too many layers"));
    }
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
    socket.write_all(&[count(descriptors.len()), count(json.len())].concat())?;
    for some in descriptors.chunks(DESCRIPTORS_AT_ONCE) {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(some)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        rustix::net::sendmsg(
            socket.as_fd(),
            &[IoSlice::new(&[0])],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
    }
    socket.write_all(&json)
}

/// Receives a request.
pub(super) fn receive_request(mut socket: &UnixStream) -> io::Result<(Request, Vec<OwnedFd>)> {
    let mut head = [0; 8];
    socket.read_exact(&mut head)?;
    let number = |at: usize| {
        let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
        usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
    };
    let (count, length) = (number(0), number(4));
    if count > MAX_DESCRIPTORS || length > MAX_REQUEST_BYTES {
        return Err(invalid("a request is too long"));
    }
    let mut descriptors = Vec::with_capacity(count);
    while descriptors.len() < count {
        let before = descriptors.len();
        descriptors.extend(receive_descriptors(socket)?);
        if descriptors.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut json = vec![0; length];
    socket.read_exact(&mut json)?;
    Ok((serde_json::from_slice(&json)?, descriptors))
}

/// One byte and the descriptors with it.
fn receive_descriptors(socket: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket.as_fd(), &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(descriptors.flatten().collect())
}

/// Writes a frame with a message.
pub(super) fn write_message(out: &mut dyn Write, message: &Message) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    write_frame(out, MESSAGE, &json)?;
    out.flush()
}

/// Writes bytes of an artifact, in as many frames as they need.
pub(super) fn write_data(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    bytes.chunks(MAX_FRAME_BYTES).try_for_each(|some| write_frame(out, DATA, some))
}

fn write_frame(out: &mut dyn Write, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MAX_FRAME_BYTES);
    let length = length.ok_or_else(|| invalid("a frame is too long"))?;
    out.write_all(&[kind])?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(bytes)
}

/// Frames out of bytes that come in pieces.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pending: Vec<u8>,
    /// How many of them were taken; they go when more come, all at once.
    taken: usize,
}

impl Frames {
    /// Takes bytes as they come.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.pending.drain(..self.taken);
        self.taken = 0;
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one. What is kept is never more than a frame and a read.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        let [kind, a, b, c, d, rest @ ..] = &self.pending[self.taken..] else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        if length > MAX_FRAME_BYTES {
            return Err(invalid("a frame is too long"));
        }
        let Some(bytes) = rest.get(..length) else { return Ok(None) };
        let frame = match *kind {
            MESSAGE => Frame::Message(serde_json::from_slice(bytes)?),
            DATA => Frame::Data(bytes.to_vec()),
            _ => return Err(invalid("a frame is of no known kind")),
        };
        self.taken += 5 + length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_arrives_with_all_its_descriptors() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let files: Vec<File> = (0..300).map(|_| tempfile::tempfile().unwrap()).collect();
        for (number, mut file) in files.iter().enumerate() {
            write!(file, "{number}").unwrap();
        }
        let request =
            Request { work: Work::Image, layers: Vec::new(), output_bytes: 7, probe: None };
        let descriptors: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        send_request(&ours, &request, &descriptors).unwrap();
        let (received, descriptors) = receive_request(&theirs).unwrap();
        assert_eq!(
            (received.work, received.output_bytes, descriptors.len()),
            (Work::Image, 7, 300)
        );
        for (number, descriptor) in descriptors.into_iter().enumerate() {
            let mut text = [0; 3];
            let count = rustix::io::pread(&descriptor, &mut text, 0).unwrap();
            assert_eq!(text[..count], *number.to_string().as_bytes());
        }
    }

    #[test]
    fn what_no_converter_says_is_refused() {
        for bytes in [&b"x\0\0\0\0"[..], b"m\x01\0\0\0{", b"d\xff\xff\xff\xff", b"m\x02\0\0\0{}"] {
            let mut frames = Frames::default();
            frames.push(bytes);
            assert!(frames.next().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_frame_that_is_taken_moves_none_of_those_behind_it() {
        let (mut frames, mut bytes) = (Frames::default(), Vec::new());
        for _ in 0..1_000 {
            write_frame(&mut bytes, DATA, b"x").unwrap();
        }
        frames.push(&bytes);
        for taken in 1..=1_000 {
            assert_eq!(frames.next().unwrap(), Some(Frame::Data(b"x".to_vec())));
            assert_eq!((frames.pending.len(), frames.taken), (6_000, taken * 6));
        }
        assert_eq!(frames.next().unwrap(), None);
        frames.push(b"d");
        assert_eq!((frames.pending.len(), frames.taken), (1, 0));
    }

    proptest! {
        /// Frames are the same, however the pipe cuts them.
        #[test]
        fn frames_survive_any_cuts(
            contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..6),
            cut in 1_usize..40,
        ) {
            let mut bytes = Vec::new();
            for content in &contents {
                let label = format!("{content:?}");
                write_message(&mut bytes, &Message::Progress { label, done: 1, total: 2 }).unwrap();
                write_frame(&mut bytes, DATA, content).unwrap();
            }
            let (mut frames, mut got) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(cut) {
                frames.push(piece);
                while let Some(frame) = frames.next().unwrap() {
                    got.push(frame);
                }
            }
            let want: Vec<Frame> = contents
                .into_iter()
                .flat_map(|content| {
                    let label = format!("{content:?}");
                    [Frame::Message(Message::Progress { label, done: 1, total: 2 }), Frame::Data(content)]
                })
                .collect();
            prop_assert_eq!(got, want);
        }

        #[test]
        fn any_bytes_end_in_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::default();
            frames.push(&bytes);
            while let Ok(Some(_)) = frames.next() {}
        }
    }
}
