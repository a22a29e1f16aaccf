//! Whether a machine on a network uses an address: ARP probes (RFC 5227 section 2.1.1), which every
//! machine answers, whatever its firewall.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use api::ids::MacAddr;
use nix::sys::socket::{LinkAddr, bind};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, eth, recv, send, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use tokio::time::Instant;

/// Requests sent: one may be lost.
const REQUESTS: u32 = 2;

/// An answer to one request is waited for this long. On a local network it takes a millisecond, and
/// firmware waits 4 s for its offer.
const ANSWER_LIMIT: Duration = Duration::from_millis(250);

const ETHERNET_HEADER_BYTES: usize = 14;

/// Ethernet header and ARP packet for IPv4.
const FRAME_BYTES: usize = ETHERNET_HEADER_BYTES + 28;

/// Ethernet type ARP, hardware Ethernet, protocol IPv4, lengths 6 and 4: frame bytes 12 to 19.
const ETHERNET_IPV4: [u8; 8] = [8, 6, 0, 1, 8, 0, 6, 4];

/// Who uses `address` on the network of `interface`; `None` if nobody says so in time.
///
/// # Errors
/// The kernel's: the interface is gone, or the right to send is missing.
pub(super) async fn probe(interface: &str, address: Ipv4Addr) -> io::Result<Option<MacAddr>> {
    let link = link_address(interface)?;
    let own = link.addr().ok_or(io::ErrorKind::Unsupported)?;
    // Opened here and not in the thread below: sockets belong to the network
    // namespace of the caller.
    let socket =
        socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, Some(eth::ARP))?;
    bind(socket.as_raw_fd(), &link)?;
    let asking = tokio::task::spawn_blocking(move || ask(&socket, own, address));
    asking.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Blocks until there is an answer or the time is over.
fn ask(socket: &OwnedFd, own: [u8; 6], address: Ipv4Addr) -> io::Result<Option<MacAddr>> {
    let request = request(own, address);
    for _ in 0..REQUESTS {
        send(socket, &request, SendFlags::empty())?;
        let until = Instant::now() + ANSWER_LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            set_socket_timeout(socket, Timeout::Recv, Some(left))?;
            let mut frame = [0; 128];
            match recv(socket, &mut frame, RecvFlags::empty()) {
                Ok((_, bytes)) => {
                    if let Some(mac) = sender(frame.get(..bytes).unwrap_or(&frame), address) {
                        return Ok(Some(mac));
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(None)
}

/// The kernel's address of the interface itself, for [`bind`].
fn link_address(interface: &str) -> io::Result<LinkAddr> {
    let found = nix::ifaddrs::getifaddrs()?
        .filter(|found| found.interface_name == interface)
        .find_map(|found| found.address?.as_link_addr().copied());
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// "Who has `address`? Tell nobody": the sender's address is zero, so that nobody takes note.
fn request(own: [u8; 6], address: Ipv4Addr) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&own);
    frame[12..20].copy_from_slice(&ETHERNET_IPV4);
    frame[21] = 1;
    frame[22..28].copy_from_slice(&own);
    frame[38..].copy_from_slice(&address.octets());
    frame
}

/// The MAC address of the sender, if it says, by a request or an answer, that it uses `address`.
fn sender(frame: &[u8], address: Ipv4Addr) -> Option<MacAddr> {
    let frame: &[u8; FRAME_BYTES] = frame.first_chunk()?;
    if frame[12..20] != ETHERNET_IPV4 || frame[28..32] != address.octets() {
        return None;
    }
    frame[22..28].try_into().ok().map(MacAddr)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 150);

    #[test]
    fn who_answers_uses_the_address() {
        let mut answer = request(OWN, Ipv4Addr::UNSPECIFIED);
        answer[21] = 2;
        answer[28..32].copy_from_slice(&ADDRESS.octets());
        assert_eq!(sender(&answer, ADDRESS), Some(MacAddr(OWN)));
        assert_eq!(sender(&answer, Ipv4Addr::new(10, 98, 0, 151)), None);
        assert_eq!(sender(&answer[..41], ADDRESS), None, "cut");
        // Padded, as Ethernet pads it.
        assert_eq!(sender(&[&answer[..], &[0; 18]].concat(), ADDRESS), Some(MacAddr(OWN)));
    }

    #[test]
    fn our_own_request_is_no_use() {
        assert_eq!(sender(&request(OWN, ADDRESS), ADDRESS), None);
    }
}
