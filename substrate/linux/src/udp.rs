//! UDP sockets tied to one network device, for DHCP: they send and receive broadcasts while the
//! device has no address.

use std::net::{Ipv4Addr, UdpSocket};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket,
    sockopt::{BindToDevice, Broadcast, ReuseAddr},
};

use crate::{LinuxError, Result};

/// A non-blocking socket on `port` of every address, that sees only `device` and may broadcast.
///
/// # Errors
/// `EADDRINUSE` if another DHCP client has the port, `ENODEV` without such a device.
pub fn bound_to_device(device: &str, port: u16) -> Result<UdpSocket> {
    let open = || -> nix::Result<UdpSocket> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        setsockopt(&fd, ReuseAddr, &true)?;
        setsockopt(&fd, Broadcast, &true)?;
        setsockopt(&fd, BindToDevice, &device.into())?;
        let address = std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrIn::from(address))?;
        Ok(UdpSocket::from(fd))
    };
    open().map_err(|errno| {
        LinuxError::new("open a UDP socket on", format!("{device} port {port}"), errno)
    })
}
