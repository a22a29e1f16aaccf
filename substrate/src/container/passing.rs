//! Datagrams with descriptors between agent, spawner and what it starts: UNIX sockets that keep the
//! borders of messages (`unix(7)`, `SOCK_SEQPACKET`).

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Most descriptors in one message: input, output and errors of a program.
pub const MAX_DESCRIPTORS: usize = 3;

/// Longest message, bytes: the order to enter a container, with a long command.
pub const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// Two ends that are connected.
///
/// # Errors
/// Too many open files.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends a message.
///
/// # Errors
/// `EPIPE` if nobody is there any more; `EMSGSIZE`.
pub fn send(socket: impl AsFd, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(socket, message, descriptors, SendFlags::NOSIGNAL)
}

/// Sends a message, and does not wait where the other side reads none.
///
/// # Errors
/// As [`send`]; `EAGAIN`.
pub fn send_at_once(socket: impl AsFd, message: &[u8]) -> io::Result<()> {
    send_with(socket, message, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

fn send_with(
    socket: impl AsFd,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(message)], &mut ancillary, flags)?;
    Ok(())
}

/// Receives a message, through a `buffer` of at least [`MAX_MESSAGE_BYTES`]; `None` if the
/// other side is gone.
///
/// # Errors
/// `EAGAIN` of a socket that does not block and has none; `InvalidData` for one that was too long.
pub fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut buffers = [IoSliceMut::new(&mut *buffer)];
        match rustix::net::recvmsg(&socket, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    let descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((buffer[..received.bytes].to_vec(), descriptors)))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Write as _},
    };

    use super::*;

    #[test]
    fn messages_keep_their_borders_and_descriptors() {
        let (ours, theirs) = pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        send(&ours, b"one", &[writer.as_fd()]).unwrap();
        send_at_once(&ours, b"two").unwrap();
        drop((ours, writer));
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let (message, mut descriptors) = receive(&theirs, &mut buffer).unwrap().unwrap();
        assert_eq!((message.as_slice(), descriptors.len()), (b"one".as_slice(), 1));
        File::from(descriptors.remove(0)).write_all(b"x").unwrap();
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        assert_eq!(receive(&theirs, &mut buffer).unwrap().unwrap().0, b"two");
        assert!(receive(&theirs, &mut buffer).unwrap().is_none());
        assert_eq!(send(&theirs, b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
