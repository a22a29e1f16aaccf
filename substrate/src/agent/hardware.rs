//! Keeps the inventory: collected at the start, and again after the kernel says that devices, links, addresses or CDI specs
//! changed.
//!
//! A plain thread of its own, because a sick device can hold a read of sysfs for ever: then the node keeps its last
//! inventory and everything else goes on. Two netlink sockets say when to look: kernel uevents (devices) and routing
//! (links and addresses), see netlink(7); and inotify(7) for the folders of CDI specs, and those in which they are made.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use api::inventory::Inventory;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify},
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
        },
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

fn keep(root: &Path, inventory: &watch::Sender<Option<Arc<Inventory>>>) {
    // Listening first, so that no change falls between the first collection and the first wait.
    let changes = Changes::listen(root);
    let mut collector = inventory::Collector::new(root, Box::new(inventory::ioctls::Captured::new(root)));
    while !inventory.is_closed() {
        changes.watch_specs();
        let found = collector.collect(inventory::Parts::ALL);
        inventory.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&found);
            if changed {
                tracing::info!(
                    pus = found.topology.pus,
                    memory = found.memory_bytes,
                    nics = found.nics.len(),
                    disks = found.disks.len(),
                    gpus = found.gpus.len(),
                    devices = found.devices.len(),
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

/// The netlink sockets that could be opened, and what tells of CDI specs; without any only [`RECHECK`] counts.
struct Changes {
    root: PathBuf,
    sockets: Vec<OwnedFd>,
    specs: Option<Inotify>,
}

impl Changes {
    fn listen(root: &Path) -> Self {
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
        let specs = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let specs =
            specs.inspect_err(|errno| tracing::warn!(%errno, "cannot listen for changes of CDI specs")).ok();
        Self { root: root.to_owned(), sockets, specs }
    }

    /// Listens for changes in the folders of specs. A folder that does not exist is heard of when it is made; one that is
    /// watched already stays so.
    fn watch_specs(&self) {
        let Some(specs) = &self.specs else { return };
        let made = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        let changed = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE;
        for folder in inventory::devices::SPEC_FOLDERS {
            let folder = self.root.join(folder.trim_start_matches('/'));
            for (path, events) in [(folder.parent(), made), (Some(folder.as_path()), made | changed)] {
                match path.map(|path| specs.add_watch(path, events)) {
                    Some(Err(errno)) if errno != Errno::ENOENT => {
                        tracing::warn!(%errno, folder = %folder.display(), "cannot listen for changes of CDI specs");
                    }
                    _ => {}
                }
            }
        }
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
        let all = self.sockets.iter().map(OwnedFd::as_fd).chain(self.specs.iter().map(Inotify::as_fd));
        let mut waits: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
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
        while self.specs.as_ref().is_some_and(|specs| specs.read_events().is_ok()) {}
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
        let changes = Changes::listen(Path::new("/"));
        assert_eq!(changes.sockets.len(), 2);
        changes.forget();
        let start = crate::clock::monotonic();
        changes.happen_within(Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn specs_are_heard_of_in_folders_that_are_not_there_yet() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        let changes =
            Changes { root: root.path().to_owned(), sockets: Vec::new(), ..Changes::listen(root.path()) };
        let hears = |change: &dyn Fn()| {
            changes.forget();
            changes.watch_specs();
            let before = changes.happen_within(Duration::ZERO);
            change();
            (before, changes.happen_within(Duration::from_millis(100)))
        };
        let (folder, spec) = (root.path().join("etc/cdi"), root.path().join("etc/cdi/x.json"));
        assert_eq!(hears(&|| std::fs::create_dir(&folder).unwrap()), (false, true));
        assert_eq!(hears(&|| std::fs::write(&spec, "{}").unwrap()), (false, true));
        assert_eq!(hears(&|| std::fs::remove_file(&spec).unwrap()), (false, true));
        assert_eq!(hears(&|| {}), (false, false));
    }

    #[tokio::test]
    async fn the_first_inventory_comes_by_itself() {
        let root = tempfile::tempdir().unwrap();
        let mut inventory = watch_inventory(root.path().to_owned()).unwrap();
        let found = tokio::time::timeout(Duration::from_secs(10), inventory.wait_for(Option::is_some)).await;
        assert_eq!(found.unwrap().unwrap().as_ref().unwrap().pci, []);
    }
}
