//! Keeps the inventory: collected at the start, and again after the kernel says that devices, links or addresses changed.
//!
//! A plain thread of its own, because a sick device can hold a read of sysfs for ever: then the node keeps its last
//! inventory and everything else goes on. Two netlink sockets say when to look: kernel uevents (devices) and routing
//! (links and addresses), see netlink(7).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use api::inventory::Inventory;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use tokio::sync::watch;

/// Without any event: huge pages and driver versions change silently.
const RECHECK: Duration = Duration::from_secs(600);

/// Events come in crowds; the inventory is collected when none came for this long…
const SETTLE: Duration = Duration::from_secs(1);

/// …or after so many of these.
const MAX_SETTLING: u32 = 10;

/// Least pause between two collections. Jobs make and remove links and mounts all the time.
const LEAST_PAUSE: Duration = Duration::from_secs(10);

/// Multicast group of the kernel's own uevents (1; udev's are 2).
const UEVENTS: u32 = 1;

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`, rtnetlink(7).
const LINKS_AND_ADDRESSES: u32 = 0x1 | 0x10 | 0x100;

/// Starts the thread. The receiver has `None` until the first collection is done.
///
/// # Errors
/// If the system has no thread to spare.
pub fn watch_inventory(root: PathBuf) -> io::Result<watch::Receiver<Option<Arc<Inventory>>>> {
    let (sender, receiver) = watch::channel(None);
    thread::Builder::new().name("inventory".to_owned()).spawn(move || keep(&root, &sender))?;
    Ok(receiver)
}

fn keep(root: &std::path::Path, inventory: &watch::Sender<Option<Arc<Inventory>>>) {
    // Listening first, so that no change falls between the first collection and the first wait.
    let changes = Changes::listen();
    let mut collector = inventory::Collector::new(root);
    while !inventory.is_closed() {
        let found = collector.collect();
        inventory.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&found);
            if changed {
                tracing::info!(
                    pus = found.topology.pus,
                    memory = found.memory_bytes,
                    nics = found.nics.len(),
                    disks = found.disks.len(),
                    gpus = found.gpus.len(),
                    gaps = found.gaps.len(),
                    "inventory collected"
                );
                *known = Some(Arc::new(found));
            }
            changed
        });
        changes.wait();
        thread::sleep(LEAST_PAUSE);
        changes.forget();
    }
}

/// The netlink sockets that could be opened; without any only [`RECHECK`] counts.
struct Changes {
    sockets: Vec<OwnedFd>,
}

impl Changes {
    fn listen() -> Self {
        let wanted = [
            (SockProtocol::NetlinkKObjectUEvent, UEVENTS),
            (SockProtocol::NetlinkRoute, LINKS_AND_ADDRESSES),
        ];
        let mut sockets = Vec::new();
        for (protocol, groups) in wanted {
            match open(protocol, groups) {
                Ok(socket) => sockets.push(socket),
                Err(errno) => tracing::warn!(?protocol, %errno, "cannot listen for changes of the hardware"),
            }
        }
        Self { sockets }
    }

    /// Returns after a crowd of changes, or after [`RECHECK`].
    fn wait(&self) {
        if self.happen_within(RECHECK) {
            for _ in 0..MAX_SETTLING {
                self.forget();
                if !self.happen_within(SETTLE) {
                    break;
                }
            }
        }
    }

    fn happen_within(&self, limit: Duration) -> bool {
        let mut waits: Vec<_> =
            self.sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut waits, limit) {
            Ok(ready) => ready > 0,
            Err(Errno::EINTR) => true,
            Err(errno) => {
                tracing::warn!(%errno, "cannot wait for changes of the hardware");
                thread::sleep(RECHECK);
                true
            }
        }
    }

    /// Reads all that came. What it says does not matter, and when the kernel dropped some (`ENOBUFS`) neither.
    fn forget(&self) {
        let mut buffer = [0; 16 << 10];
        for socket in &self.sockets {
            while matches!(
                recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT),
                Ok(1..) | Err(Errno::ENOBUFS | Errno::EINTR)
            ) {}
        }
    }
}

fn open(protocol: SockProtocol, groups: u32) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sockets_open_and_nothing_is_waited_for_longer_than_said() {
        let changes = Changes::listen();
        assert_eq!(changes.sockets.len(), 2);
        changes.forget();
        let start = crate::clock::monotonic();
        changes.happen_within(Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn the_first_inventory_comes_by_itself() {
        let root = tempfile::tempdir().unwrap();
        let mut inventory = watch_inventory(root.path().to_owned()).unwrap();
        let found = tokio::time::timeout(Duration::from_secs(10), inventory.wait_for(Option::is_some)).await;
        assert_eq!(found.unwrap().unwrap().as_ref().unwrap().pci, []);
    }
}
