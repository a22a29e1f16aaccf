//! The agent's end of a pipe, a terminal or a socket, without a runtime's own type for each: they
//! came from elsewhere.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll, ready},
};

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::container::{answer::EnterReply, passing};

/// One end. It may be shared: reading does not disturb writing.
#[derive(Debug)]
pub(super) struct End(AsyncFd<OwnedFd>);

impl End {
    /// # Errors
    /// It is nothing that can be waited for.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        registered(descriptor).map(Self)
    }

    /// Reads what there is; 0 at the end. A terminal that nobody has open any more
    /// has ended as well.
    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            match ready.try_io(|inner| Ok(rustix::io::read(inner.get_ref(), &mut *buffer)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(0));
                }
                Ok(read) => return Poll::Ready(read),
                Err(_would_block) => {}
            }
        }
    }

    /// Whether there is something to read now; not its end.
    pub(super) fn has_bytes(&self) -> bool {
        // Pipes, terminals and sockets can all say (FIONREAD of ioctl(2)).
        rustix::io::ioctl_fionread(self.0.get_ref()).is_ok_and(|bytes| bytes > 0)
    }

    /// Writes what fits. Cancel-safe.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|inner| Ok(rustix::io::write(inner.get_ref(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return written,
                Err(_would_block) => {}
            }
        }
    }

    /// Lets the other side of a socket know that nothing more comes.
    pub(super) fn end_of_writing(&self) {
        // Only a socket has two directions; one that is closed knows already.
        let _ = rustix::net::shutdown(self.0.get_ref(), rustix::net::Shutdown::Write);
    }

    /// For requests to a terminal.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

/// Where the entering process answers.
#[derive(Debug)]
pub(super) struct EnterReplies(AsyncFd<OwnedFd>);

impl EnterReplies {
    /// # Errors
    /// As [`End::new`].
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        registered(socket).map(Self)
    }

    /// The next answer; `None` when nobody can give one any more. Cancel-safe.
    pub(super) async fn next(&self) -> io::Result<Option<(EnterReply, Vec<OwnedFd>)>> {
        let mut buffer = Vec::new();
        loop {
            let mut ready = self.0.readable().await?;
            buffer.resize(passing::MAX_MESSAGE_BYTES, 0);
            match ready.try_io(|inner| passing::receive(inner.get_ref(), &mut buffer)) {
                Ok(Ok(Some((message, descriptors)))) => {
                    return Ok(Some((serde_json::from_slice(&message)?, descriptors)));
                }
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe: it demands that the descriptor stays the same, as an OwnedFd does"
)]
fn registered(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&descriptor, true)?;
    AsyncFd::new(descriptor)
}
