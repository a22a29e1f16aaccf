//! Two network namespaces of this checkout, joined by a veth pair of MTU 1500: servers on one side,
//! clients on the other.
//!
//! The whole program enters the servers' side. Nothing of the machine's network is touched. What a
//! crashed run left, processes too, is removed by the next.

use std::{fs::File, net::Ipv4Addr, path::Path, thread};

use anyhow::{Context as _, anyhow};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{checkout_paths::CheckoutPaths, process::run, report::complain};

/// The servers' interface.
pub(crate) const SERVER_INTERFACE: &str = "s0";

/// The clients' interface.
pub(crate) const CLIENT_INTERFACE: &str = "c0";

/// The servers' address, of a network of 2^20 addresses.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);

/// The clients' address.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 2);

/// Bits of the network's prefix.
pub(crate) const PREFIX: u8 = 12;

/// The namespaces; removed when dropped.
#[derive(Debug)]
pub(crate) struct Network {
    servers: String,
    clients: String,
}

impl Network {
    /// Removes what a crashed run left.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn clear(checkout_paths: &CheckoutPaths) -> anyhow::Result<()> {
        let (servers, clients) = names(checkout_paths);
        remove(&servers)?;
        remove(&clients)
    }

    /// Makes the namespaces and moves the calling thread, and so all that it starts from now on,
    /// into the servers'.
    ///
    /// # Errors
    /// If `ip` fails, or without the right to make namespaces.
    pub(crate) fn enter(checkout_paths: &CheckoutPaths) -> anyhow::Result<Self> {
        Self::clear(checkout_paths)?;
        let (servers, clients) = names(checkout_paths);
        let network = Self { servers, clients };
        let (servers, clients) = (network.servers.as_str(), network.clients.as_str());
        run("ip", &["netns", "add", servers])?;
        run("ip", &["netns", "add", clients])?;
        let ends =
            [SERVER_INTERFACE, "type", "veth", "peer", "name", CLIENT_INTERFACE, "netns", clients];
        run("ip", &[&["-n", servers, "link", "add"], ends.as_slice()].concat())?;
        for (namespace, interface, address) in
            [(servers, SERVER_INTERFACE, SERVER), (clients, CLIENT_INTERFACE, CLIENT)]
        {
            let address = format!("{address}/{PREFIX}");
            run("ip", &["-n", namespace, "address", "add", &address, "dev", interface])?;
            run("ip", &["-n", namespace, "link", "set", "lo", "up"])?;
            run("ip", &["-n", namespace, "link", "set", interface, "up"])?;
        }
        enter(servers)?;
        Ok(network)
    }

    /// Lets a thread work on the clients' side; children that it starts must end before it does.
    ///
    /// # Errors
    /// Those of the work.
    pub(crate) fn as_client<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        thread::scope(|scope| {
            let client = scope.spawn(|| enter(&self.clients).and_then(|()| work()));
            client.join().map_err(|_| anyhow!("the clients' thread panicked"))?
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in [&self.servers, &self.clients] {
            if let Err(error) = run("ip", &["netns", "delete", name]) {
                complain(format!("{error:#}"));
            }
        }
    }
}

fn names(checkout_paths: &CheckoutPaths) -> (String, String) {
    let mark = checkout_paths.mark();
    (format!("bench-{mark}-servers"), format!("bench-{mark}-clients"))
}

fn enter(name: &str) -> anyhow::Result<()> {
    let path = format!("/run/netns/{name}");
    let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter namespace {name}"))
}

/// Removes a namespace, and first the processes in it, all of which a benchmark has started.
fn remove(name: &str) -> anyhow::Result<()> {
    if !Path::new("/run/netns").join(name).exists() {
        return Ok(());
    }
    for pid in run("ip", &["netns", "pids", name])?.split_whitespace() {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(pid.parse()?), Signal::SIGKILL);
    }
    run("ip", &["netns", "delete", name]).map(drop)
}
