//! Writing and hashing what was fetched, in a thread of its own, beside the network.

use std::{
    fs::File,
    io::{self, Seek, Write},
    path::Path,
};

use api::ids::Digest;
use bytes::Bytes;
use ring::digest::{Context, SHA256};
use tokio::{sync::mpsc, task::JoinHandle};

/// Pieces between network and file. A piece is at most what one read of the socket gives, some
/// hundred KiB; enough to keep both sides busy.
const MAX_PIECES: usize = 32;

/// The writing thread has ended; [`Writer::finish`] says why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended;

enum Piece {
    Content(Bytes),
    Restart,
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    pieces: mpsc::Sender<Piece>,
    thread: JoinHandle<io::Result<Digest>>,
}

impl Writer {
    /// Makes the file, or empties it.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let (pieces, received) = mpsc::channel(MAX_PIECES);
        let thread = tokio::task::spawn_blocking(move || write_all(file, received));
        Ok(Self { pieces, thread })
    }

    /// Appends.
    ///
    /// # Errors
    /// [`Ended`].
    pub(super) async fn write(&self, content: Bytes) -> Result<(), Ended> {
        self.pieces.send(Piece::Content(content)).await.map_err(|_| Ended)
    }

    /// Forgets everything written.
    ///
    /// # Errors
    /// [`Ended`].
    pub(super) async fn restart(&self) -> Result<(), Ended> {
        self.pieces.send(Piece::Restart).await.map_err(|_| Ended)
    }

    /// Waits until all is written, and gives its digest.
    ///
    /// # Errors
    /// Why the file could not be written.
    pub(super) async fn finish(self) -> io::Result<Digest> {
        drop(self.pieces);
        self.thread.await.map_err(io::Error::other)?
    }
}

fn write_all(mut file: File, mut pieces: mpsc::Receiver<Piece>) -> io::Result<Digest> {
    let mut hash = Context::new(&SHA256);
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Content(content) => {
                hash.update(&content);
                file.write_all(&content)?;
            }
            Piece::Restart => {
                hash = Context::new(&SHA256);
                file.set_len(0)?;
                file.rewind()?;
            }
        }
    }
    file.flush()?;
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    Ok(Digest(digest))
}
