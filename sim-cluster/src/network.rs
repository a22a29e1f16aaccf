//! Two network namespaces with a pair of interfaces between them: one for the server,
//! one for all nodes.
//!
//! ```text
//!   nodes:   nodes0  10.88.0.2     every address of 10.88.128.0/17 is local (any-IP routing)
//!   server:  bp0     10.88.0.1/16  10.88.0.0/16 is reached by way of 10.88.0.2
//! ```
//! To the server it is one flat network: requests are broadcast, nodes have addresses of the
//! interface's own network. Only the kernel's route differs, because its neighbour table is one for
//! all namespaces of the machine and has 1,024 places.
//!
//! The namespaces have no names. They end with the processes in them, so nothing is left
//! behind by a crash.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::AsRawFd as _,
    path::PathBuf,
    thread,
};

use anyhow::{Context as _, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

use crate::process::run;

/// The server's interface and address.
pub(crate) const SERVER_INTERFACE: &str = "bp0";
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

/// The nodes' interface.
pub(crate) const NODES_INTERFACE: &str = "nodes0";

/// Prefix length of the network that the server sees.
pub(crate) const PREFIX: u8 = 16;

/// The address before that of the first node.
const FIRST: u32 = u32::from_be_bytes([10, 88, 128, 0]);

/// Nodes that the addresses are for, less those that are not for hosts.
pub(crate) const MAX_NODES: u32 = 30_000;

/// The namespaces. The calling thread and those that it starts are in that of the nodes.
#[derive(Debug)]
pub(crate) struct Network {
    server: File,
}

impl Network {
    /// Makes both and enters that of the nodes. To be called before any other thread is started.
    ///
    /// # Errors
    /// Without the right to make namespaces, or if `ip` fails.
    pub(crate) fn enter() -> anyhow::Result<Self> {
        let make = || -> anyhow::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("no network namespace can be made: a simulated cluster needs root")?;
            let path = "/proc/thread-self/ns/net";
            File::open(path).with_context(|| format!("cannot open {path}"))
        };
        let network = Self { server: make()? };
        let beside = network.path().display().to_string();
        let in_server = |line: &str| run(&format!("nsenter --net={beside} -- ip {line}"));
        let in_nodes = |line: &str| run(&format!("ip {line}"));
        make()?;
        in_nodes("link set lo up")?;
        in_server("link set lo up")?;
        in_nodes(&format!("link add {NODES_INTERFACE} type veth peer name {SERVER_INTERFACE}"))?;
        in_nodes(&format!("link set {SERVER_INTERFACE} netns {beside}"))?;
        in_nodes(&format!("address add 10.88.0.2/32 dev {NODES_INTERFACE}"))?;
        in_nodes(&format!("link set {NODES_INTERFACE} up"))?;
        in_nodes(&format!("route add {SERVER}/32 dev {NODES_INTERFACE}"))?;
        in_nodes("route add local 10.88.128.0/17 dev lo")?;
        in_server(&format!("address add {SERVER}/{PREFIX} dev {SERVER_INTERFACE} noprefixroute"))?;
        in_server(&format!("link set {SERVER_INTERFACE} up"))?;
        in_server(&format!("route add 10.88.0.2/32 dev {SERVER_INTERFACE}"))?;
        in_server(&format!("route add 10.88.0.0/{PREFIX} via 10.88.0.2 dev {SERVER_INTERFACE}"))?;
        Ok(network)
    }

    /// The server's namespace, by a path that other processes can open while this one lives.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.server.as_raw_fd()).into()
    }

    /// A listener in the server's namespace. The calling thread stays where it is.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub(crate) fn listen_beside_server(&self, address: SocketAddr) -> anyhow::Result<TcpListener> {
        let listening = thread::scope(|scope| {
            let there = scope.spawn(|| -> anyhow::Result<TcpListener> {
                setns(&self.server, CloneFlags::CLONE_NEWNET)
                    .context("cannot enter the server's namespace")?;
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            there.join()
        });
        listening
            .map_err(|_| anyhow!("the thread that listens broke"))?
            .with_context(|| format!("cannot listen on {address}"))
    }
}

/// Address of a node, counted from 1.
pub(crate) fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_an_address_in_the_part_that_is_local() {
        assert_eq!(address(1), Ipv4Addr::new(10, 88, 128, 1));
        assert_eq!(address(300), Ipv4Addr::new(10, 88, 129, 44));
        assert!(address(MAX_NODES) < Ipv4Addr::new(10, 88, 255, 255));
    }
}
