//! IPv4 UDP sockets that know which of the server's addresses a packet came to and that choose the
//! one it leaves from (`IP_PKTINFO`, ip(7)). Used by [`crate::dhcp`] and [`crate::tftp`].

use std::{
    ffi::OsString,
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd, AsRawFd},
};

use nix::{
    cmsg_space, libc,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
        SockaddrIn, bind, recvmsg, sendmsg, setsockopt, socket, sockopt,
    },
};
use tokio::{io::Interest, net::UdpSocket};

/// What the kernel keeps of packets that the server has not read yet, bytes. A thousand machines
/// that get power at once send their first packets within a second, and firmware waits 4 s and more
/// before it asks again.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// A packet that came in; its bytes are in the caller's buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    /// Length of the packet.
    pub(crate) bytes: usize,
    /// Who sent it.
    pub(crate) source: SocketAddrV4,
    /// The server's address that it came to; for a broadcast, the one that the kernel
    /// would answer from.
    pub(crate) local: Ipv4Addr,
}

/// Binds a socket that may broadcast. With `device`, it hears and speaks on that interface only, so
/// that one socket per interface can have the same port.
pub(crate) fn open(address: SocketAddrV4, device: Option<&str>) -> io::Result<std::net::UdpSocket> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    if let Some(device) = device {
        setsockopt(&fd, sockopt::BindToDevice, &OsString::from(device))?;
    }
    setsockopt(&fd, sockopt::Broadcast, &true)?;
    setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
    // Beyond the limit of the system only with CAP_NET_ADMIN; without it the kernel gives
    // what it allows.
    if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
    }
    bind(fd.as_raw_fd(), &SockaddrIn::from(address))?;
    Ok(fd.into())
}

/// Waits for a packet. A longer one than `buffer` is cut.
pub(crate) async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    socket.async_io(Interest::READABLE, || try_receive(socket, buffer)).await
}

fn try_receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut ancillary = cmsg_space!(libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let fd = socket.as_fd().as_raw_fd();
    let message = recvmsg::<SockaddrIn>(fd, &mut parts, Some(&mut ancillary), MsgFlags::empty())?;
    let local = message.cmsgs()?.find_map(|item| match item {
        ControlMessageOwned::Ipv4PacketInfo(packet) => {
            Some(Ipv4Addr::from(packet.ipi_spec_dst.s_addr.to_ne_bytes()))
        }
        _ => None,
    });
    let source = message.address.ok_or(io::ErrorKind::InvalidData)?;
    Ok(Received {
        bytes: message.bytes,
        source: SocketAddrV4::new(source.ip(), source.port()),
        local: local.ok_or(io::ErrorKind::InvalidData)?,
    })
}

/// Sends a packet from a given address of the server.
pub(crate) async fn send(
    socket: &UdpSocket,
    bytes: &[u8],
    from: Ipv4Addr,
    to: SocketAddrV4,
) -> io::Result<()> {
    let packet_info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let ancillary = [ControlMessage::Ipv4PacketInfo(&packet_info)];
    let parts = [IoSlice::new(bytes)];
    let to = SockaddrIn::from(to);
    let fd = socket.as_fd().as_raw_fd();
    socket
        .async_io(Interest::WRITABLE, || {
            Ok(sendmsg(fd, &parts, &ancillary, MsgFlags::empty(), Some(&to))?)
        })
        .await
        .map(|_| ())
}

/// Sends consecutive packets to the peer of a connected socket in one system call (UDP_SEGMENT,
/// udp(7)): the parts, put together, are cut every `segment_bytes`.
pub(crate) async fn send_segments(
    socket: &UdpSocket,
    parts: &[IoSlice<'_>],
    segment_bytes: u16,
) -> io::Result<()> {
    let ancillary = [ControlMessage::UdpGsoSegments(&segment_bytes)];
    let fd = socket.as_fd().as_raw_fd();
    socket
        .async_io(Interest::WRITABLE, || {
            Ok(sendmsg::<SockaddrIn>(fd, parts, &ancillary, MsgFlags::empty(), None)?)
        })
        .await
        .map(|_| ())
}

/// Sends one packet, put together from parts, to the peer of a connected socket.
pub(crate) async fn send_parts(socket: &UdpSocket, parts: &[IoSlice<'_>]) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    socket
        .async_io(Interest::WRITABLE, || {
            Ok(sendmsg::<SockaddrIn>(fd, parts, &[], MsgFlags::empty(), None)?)
        })
        .await
        .map(|_| ())
}
