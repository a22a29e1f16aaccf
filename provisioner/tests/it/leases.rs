//! Leases of pools from the real sockets: over restarts, with a full disk, with the network asked.

use std::{net::Ipv4Addr, path::Path};

use dhcproto::v4::{DhcpOption, MessageType, OptionCode};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{
    client::{DhcpClient, Heard, Program, broadcast, request},
    network::{CLIENT_INTERFACE, Network},
    server::Server,
};

/// Two machines whose search begins at one address of a pool of 100.
const FIRST: [u8; 6] = [0x52, 0x54, 0, 0x99, 0x0a, 0];
const SECOND: [u8; 6] = [0x52, 0x54, 0, 0x99, 0x0a, 0x7c];

fn discover(network: &Network, mac: [u8; 6]) -> Option<Heard> {
    let asked = broadcast(request(MessageType::Discover, Program::Pxe(7), mac));
    network.as_client(|| DhcpClient::open().ask(&asked))
}

/// REQUEST as in SELECTING, after an offer.
fn choose(network: &Network, mac: [u8; 6], offer: &Heard) -> Option<Heard> {
    let mut asked = broadcast(request(MessageType::Request, Program::Pxe(7), mac));
    let server = offer.message.opts().get(OptionCode::ServerIdentifier).unwrap().clone();
    asked.opts_mut().insert(server);
    asked.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.message.yiaddr()));
    network.as_client(|| DhcpClient::open().ask(&asked))
}

/// REQUEST as in INIT-REBOOT, of a client that knows its address.
fn remind(network: &Network, mac: [u8; 6], address: Ipv4Addr) -> Option<MessageType> {
    let mut asked = broadcast(request(MessageType::Request, Program::Pxe(7), mac));
    asked.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
    network.as_client(|| DhcpClient::open().ask(&asked)).map(|heard| heard.kind())
}

fn boot(network: &Network, mac: [u8; 6]) -> Option<Ipv4Addr> {
    let offer = discover(network, mac)?;
    let ack = choose(network, mac, &offer)?;
    (ack.kind() == MessageType::Ack).then(|| ack.message.yiaddr())
}

#[test]
fn privileged_a_restart_gives_no_address_twice() {
    let (network, state) = (Network::new(), tempfile::tempdir().unwrap());
    let server = Server::start_with_pool(&network, &[FIRST, SECOND], state.path());
    let first = boot(&network, FIRST).unwrap();
    let second = boot(&network, SECOND).unwrap();
    assert_eq!(u32::from(second), u32::from(first) + 1, "both point at one address");
    drop(server);
    let _server = Server::start_with_pool(&network, &[FIRST, SECOND], state.path());
    // The second one's firmware asks first, without option 50.
    assert_eq!(boot(&network, SECOND), Some(second));
    assert_eq!(remind(&network, FIRST, first), Some(MessageType::Ack));
    assert_eq!(remind(&network, FIRST, second), Some(MessageType::Nak));
}

#[test]
fn privileged_without_its_log_the_server_asks_the_network() {
    let (network, state) = (Network::new(), tempfile::tempdir().unwrap());
    let server = Server::start_with_pool(&network, &[FIRST, SECOND], state.path());
    let first = boot(&network, FIRST).unwrap();
    drop(server);
    std::fs::remove_file(state.path().join("dhcp-leases.log")).unwrap();
    let server = Server::start_with_pool(&network, &[FIRST, SECOND], state.path());
    // The machine is up, and answers ARP.
    network.client_ip(&["address", "add", &format!("{first}/24"), "dev", CLIENT_INTERFACE]);
    let second = boot(&network, SECOND).unwrap();
    assert_ne!(second, first);
    let log = server.log();
    assert!(log.contains(&format!("{first} is in a pool and 52:54:00:b0:07:01 uses it")), "{log}");
    // Now it does not answer, and the address is left alone for a while nevertheless.
    network.client_ip(&["address", "flush", "dev", CLIENT_INTERFACE]);
    assert_eq!(boot(&network, SECOND), Some(second));
}

/// A file system of 64 KiB.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Self {
        mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
        Self(at)
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let error = std::fs::write(self.0.join("fill"), vec![0; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.0, MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.display());
        }
    }
}

#[test]
fn privileged_a_full_disk_refuses_new_leases_alone_and_for_as_long_as_it_is_full() {
    let (network, state) = (Network::new(), tempfile::tempdir().unwrap());
    let disk = SmallDisk::mount(state.path());
    let macs: Vec<[u8; 6]> = (0..90).map(|last| [2, 0, 0, 0, 7, last]).collect();
    let server = Server::start_with_pool(&network, &macs, state.path());
    let address = |client: u8| Ipv4Addr::new(10, 77, 0, 100 + client);
    let lease = |client: u8| remind(&network, macs[usize::from(client)], address(client));
    // First the disk is full when the log is to be made, then when it is to grow.
    let mut next = 0;
    for round in 0..2 {
        disk.fill();
        // What is left of the last page of the file is room yet.
        while let Some(answer) = lease(next) {
            assert_eq!(answer, MessageType::Ack);
            next += 1;
        }
        if let Some(last) = next.checked_sub(1) {
            assert_eq!(lease(last), Some(MessageType::Ack), "round {round}: a renewal");
        }
        assert_eq!(lease(next), None, "round {round}: it is full still");
        assert!(server.log().contains("no new lease of a pool is given"), "{}", server.log());
        disk.make_room();
        assert_eq!(lease(next), Some(MessageType::Ack), "round {round}: there is room");
        assert!(server.log().contains("is written again"), "{}", server.log());
        next += 1;
    }
    let metrics = server.metrics();
    assert!(!metrics.contains("bedplate_dhcp_lease_log_failures_total 0\n"), "{metrics}");
    let leased = format!("{{subnet=\"10.77.0.0/24\",state=\"leased\"}} {next}\n");
    assert!(metrics.contains(&format!("bedplate_dhcp_pool_taken_addresses{leased}")), "{metrics}");
    drop(server);
    let _server = Server::start_with_pool(&network, &macs, state.path());
    for client in (0..next).step_by(10) {
        assert_eq!(boot(&network, macs[usize::from(client)]), Some(address(client)), "of {next}");
    }
}
