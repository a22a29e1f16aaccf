//! Hashes a stream while it is read, in a thread of its own, so that the digest of a layer costs no
//! time where a core is idle. Called by `scan`.

use std::{
    io::{self, Read},
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use api::ids::Digest;
use sha2::{Digest as _, Sha256};

use crate::store::CHUNK_BYTES;

/// Chunks that wait for the thread: one MiB.
const CHUNKS_AHEAD: usize = 4;

/// Passes a stream on.
pub(crate) struct Hashing<R> {
    inner: R,
    /// What was read and is not yet with the thread.
    pending: Vec<u8>,
    sender: SyncSender<Vec<u8>>,
    thread: JoinHandle<Digest>,
}

impl<R: Read> Hashing<R> {
    /// Hashes `inner` from where it stands.
    ///
    /// # Errors
    /// There can be no further thread.
    pub(crate) fn new(inner: R) -> io::Result<Self> {
        let (sender, receiver) = sync_channel::<Vec<u8>>(CHUNKS_AHEAD);
        let thread = thread::Builder::new().name("layer digest".to_owned()).spawn(move || {
            let mut hash = Sha256::new();
            receiver.iter().for_each(|chunk| hash.update(&chunk));
            Digest(hash.finalize().into())
        })?;
        Ok(Self { inner, pending: Vec::with_capacity(CHUNK_BYTES), sender, thread })
    }

    /// Reads what is left, and gives the digest of all.
    ///
    /// # Errors
    /// Those of the stream.
    pub(crate) fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        let Self { pending, sender, thread, .. } = self;
        let ended = || io::Error::other("the thread that hashes has ended");
        sender.send(pending).map_err(|_| ended())?;
        drop(sender);
        thread.join().map_err(|_| ended())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if self.pending.len() + count > CHUNK_BYTES {
            let full = std::mem::replace(&mut self.pending, Vec::with_capacity(CHUNK_BYTES));
            if self.sender.send(full).is_err() {
                return Err(io::Error::other("the thread that hashes has ended"));
            }
        }
        self.pending.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_whole_stream() {
        let bytes: Vec<u8> =
            (0..3 * CHUNK_BYTES + 7).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut hashing = Hashing::new(bytes.as_slice()).unwrap();
        let mut start = vec![0; 1000];
        hashing.read_exact(&mut start).unwrap();
        assert_eq!(start, bytes[..1000]);
        assert_eq!(hashing.finish().unwrap(), Digest(Sha256::digest(&bytes).into()));
        let empty = Hashing::new(io::empty()).unwrap();
        assert_eq!(empty.finish().unwrap(), Digest(Sha256::digest([]).into()));
    }
}
