//! What the kernel says of changes of the hardware, and which parts of the inventory they
//! are changes of.
//!
//! | source | tells of |
//! |---|---|
//! | netlink(7), kernel uevents | devices that come, go, change, or get another driver |
//! | netlink(7), routing | links and addresses |
//! | inotify(7) | CDI specs |
//! | `/dev/kmsg` (`Documentation/ABI/testing/dev-kmsg`) | incidents: machine checks, Xids, errors of disks |

use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use ::inventory::{
    Parts,
    health::{Incident, kernel_log},
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify},
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv,
            socket,
        },
    },
};

use crate::{clock, taken_down::TakenDown};

/// Events come in crowds; they are taken together when none came for this long…
const SETTLE: Duration = Duration::from_millis(100);

/// …or after so many of these: what was plugged in is at the server within two seconds.
const MAX_SETTLING: u32 = 8;

/// Multicast group of the kernel's own uevents (1; udev's are 2).
const UEVENTS: u32 = 1;

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`, rtnetlink(7).
const LINKS_AND_ADDRESSES: u32 = 0x1 | 0x10 | 0x100;

/// Largest message read, bytes. A uevent has at most 2 KiB (`UEVENT_BUFFER_SIZE`), a record
/// of the log 8 KiB.
const MAX_MESSAGE_BYTES: usize = 16 << 10;

/// Most records of the kernel's log taken at a time; the rest waits.
const MAX_RECORDS: u32 = 1_000;

/// Records of the log that are older say nothing of today: those before the agent's
/// start are read too.
const NEWS: Duration = Duration::from_secs(600);

/// Incidents of one kind in one crowd: a dying disk writes thousands.
const MAX_INCIDENTS: usize = 64;

/// What a crowd of events means.
#[derive(Debug, Default)]
pub struct Seen {
    /// What may have changed.
    pub parts: Parts,
    /// PCI devices whose driver took them again.
    pub rebound: Vec<String>,
    /// What the kernel's log told, each once.
    pub incidents: Vec<Incident>,
}

impl Seen {
    fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.rebound.is_empty() && self.incidents.is_empty()
    }

    /// The devices are looked at again, which is cheap and judges their health; asking for that
    /// itself would let a minute pass for what is counted by it.
    fn incident(&mut self, incident: Incident) {
        self.parts |= Parts::DEVICES;
        if self.incidents.len() < MAX_INCIDENTS && !self.incidents.contains(&incident) {
            self.incidents.push(incident);
        }
    }
}

/// Everything that is listened to. What cannot be opened is warned of and does without.
#[derive(Debug)]
pub struct Events {
    root: PathBuf,
    uevents: Option<OwnedFd>,
    links: Option<OwnedFd>,
    specs: Option<Inotify>,
    log: Option<File>,
    taken_down: TakenDown,
}

impl Events {
    /// Listens on the machine, or the capture of one, at `root`.
    #[must_use]
    pub fn listen(root: &Path) -> Self {
        let open = |protocol, groups| {
            let socket = open(protocol, groups);
            socket.inspect_err(
                |errno| tracing::warn!(?protocol, %errno, "cannot listen for changes of the hardware"),
            )
        };
        let specs = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let specs = specs
            .inspect_err(|errno| tracing::warn!(%errno, "cannot listen for changes of CDI specs"));
        let log = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
        let log = log.inspect_err(|error| tracing::warn!(%error, "cannot read the kernel's log"));
        Self {
            root: root.to_owned(),
            uevents: open(SockProtocol::NetlinkKObjectUEvent, UEVENTS).ok(),
            links: open(SockProtocol::NetlinkRoute, LINKS_AND_ADDRESSES).ok(),
            specs: specs.ok(),
            log: log.ok(),
            taken_down: TakenDown::load(root),
        }
    }

    /// Listens for changes in the directories of specs. A directory that does not exist is heard of
    /// when it is made; one that is watched already stays so.
    pub fn watch_specs(&self) {
        let Some(specs) = &self.specs else { return };
        let made =
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        let changed =
            AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE;
        for directory in ::inventory::devices::SPEC_DIRECTORIES {
            let directory = self.root.join(directory.trim_start_matches('/'));
            for (path, events) in
                [(directory.parent(), made), (Some(directory.as_path()), made | changed)]
            {
                match path.map(|path| specs.add_watch(path, events)) {
                    Some(Err(errno)) if errno != Errno::ENOENT => {
                        tracing::warn!(%errno, directory = %directory.display(), "cannot listen for changes of CDI specs");
                    }
                    _ => {}
                }
            }
        }
    }

    /// Returns after a crowd of events that mean something, or with nothing after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Seen {
        let end = clock::monotonic() + limit;
        let mut seen = Seen::default();
        while seen.is_empty() {
            if !self.happen_until(end) {
                return seen;
            }
            self.take(&mut seen);
        }
        for _ in 0..MAX_SETTLING {
            if !self.happen_until(clock::monotonic() + SETTLE) {
                break;
            }
            self.take(&mut seen);
        }
        seen
    }

    fn happen_until(&self, end: Instant) -> bool {
        let fds = [
            self.uevents.as_ref().map(AsFd::as_fd),
            self.links.as_ref().map(AsFd::as_fd),
            self.specs.as_ref().map(AsFd::as_fd),
            self.log.as_ref().map(AsFd::as_fd),
        ];
        let mut waits: Vec<_> =
            fds.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let left = end.saturating_duration_since(clock::monotonic());
        let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut waits, limit) {
            Ok(ready) => ready > 0,
            Err(Errno::EINTR) => true,
            Err(errno) => {
                tracing::warn!(%errno, "cannot wait for changes of the hardware");
                thread::sleep(left);
                false
            }
        }
    }

    /// Reads all that came.
    fn take(&mut self, seen: &mut Seen) {
        while self.specs.as_ref().is_some_and(|specs| specs.read_events().is_ok()) {
            seen.parts |= Parts::DEVICES;
        }
        let mut buffer = [0; MAX_MESSAGE_BYTES];
        if let Some(socket) = &self.links
            && drain(socket, &mut buffer, |_| ())
        {
            seen.parts |= Parts::NICS;
        }
        if let Some(socket) = &self.uevents {
            let mut whole = true;
            drain(socket, &mut buffer, |message| match message {
                Some(message) => uevent(message, seen),
                None => whole = false,
            });
            if !whole {
                seen.parts |= Parts::ALL;
            }
        }
        self.read_log(&mut buffer, seen);
    }

    fn read_log(&mut self, buffer: &mut [u8], seen: &mut Seen) {
        let Some(log) = &mut self.log else { return };
        for _ in 0..MAX_RECORDS {
            match log.read(buffer) {
                Ok(0) => return,
                Ok(length) => {
                    let record = String::from_utf8_lossy(&buffer[..length]);
                    if let Some(incident) = news(&record, uptime(), &self.taken_down) {
                        seen.incident(incident);
                    }
                }
                // Overtaken by newer records, or one that is larger than any can be.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::EINVAL)) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        tracing::warn!(%error, "cannot read the kernel's log any more");
                        self.log = None;
                    }
                    return;
                }
            }
        }
    }
}

/// Reads a socket empty; `None` stands for messages that the kernel had to drop. `false` if
/// there was nothing.
fn drain(socket: &OwnedFd, buffer: &mut [u8], mut each: impl FnMut(Option<&[u8]>)) -> bool {
    let mut any = false;
    loop {
        match recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length @ 1..) => each(Some(&buffer[..length])),
            Err(Errno::ENOBUFS) => each(None),
            Err(Errno::EINTR) => continue,
            _ => return any,
        }
        any = true;
    }
}

/// `ACTION@PATH` and `KEY=value`, each with a zero behind it (`lib/kobject_uevent.c`).
fn uevent(message: &[u8], seen: &mut Seen) {
    let text = String::from_utf8_lossy(message);
    let value =
        |key: &str| text.split('\0').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let subsystem = value("SUBSYSTEM").unwrap_or_default();
    let name = value("DEVPATH").and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    seen.parts |= parts_of(subsystem, name);
    // A device file came or went, which a CDI spec may name.
    if value("DEVNAME").is_some()
        && value("ACTION").is_some_and(|action| action == "add" || action == "remove")
    {
        let passing = subsystem == "block" && is_passing(name);
        seen.parts |= if passing { Parts::NONE } else { Parts::DEVICES };
    }
    if subsystem == "pci" && value("ACTION") == Some("bind") {
        seen.rebound.extend(value("PCI_SLOT_NAME").map(str::to_owned));
    }
}

/// Block devices that are no disks. Loop devices come and go with jobs.
fn is_passing(name: &str) -> bool {
    ["loop", "ram", "zram", "dm-"].iter().any(|kind| name.starts_with(kind))
}

/// Which parts of the inventory tell of a device of this subsystem.
fn parts_of(subsystem: &str, name: &str) -> Parts {
    match subsystem {
        "pci" => Parts::PCI,
        "net" => Parts::NICS | Parts::INFINIBAND,
        "block" if is_passing(name) => Parts::NONE,
        "block" | "nvme" | "scsi" => Parts::DISKS,
        "infiniband" | "infiniband_verbs" => Parts::INFINIBAND | Parts::DEVICES,
        "cpu" | "memory" | "node" | "memory_tiering" => Parts::TOPOLOGY,
        "drm" | "kfd" | "accel" => Parts::GPUS | Parts::DEVICES,
        "module" if ["nvidia", "amdgpu", "i915", "xe", "habanalabs"].contains(&name) => {
            Parts::GPUS | Parts::DEVICES
        }
        "tpm" | "ipmi" | "dmi" => Parts::MACHINE,
        "edac" => Parts::HEALTH,
        _ => Parts::NONE,
    }
}

/// What a record of the log tells, if it is new enough, and not of what stage 1 did itself. Xids
/// count for as long as the driver is not loaded again.
fn news(record: &str, uptime: Duration, taken_down: &TakenDown) -> Option<Incident> {
    let logged = Duration::from_micros(record.split(',').nth(2)?.parse().ok()?);
    let incident = kernel_log(record)?;
    let is_new = uptime.saturating_sub(logged) <= NEWS;
    let counts = (is_new || incident.pci.is_some()) && !taken_down.explains(&incident, logged);
    counts.then_some(incident)
}

/// Time since boot as the log counts it.
fn uptime() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default()
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

    fn seen(pairs: &str) -> Seen {
        let mut seen = Seen::default();
        uevent(format!("add@/devices/x {pairs} ").replace(' ', "\0").as_bytes(), &mut seen);
        seen
    }

    #[test]
    fn each_event_concerns_its_part() {
        let parts = |pairs| seen(pairs).parts;
        assert_eq!(
            parts("ACTION=remove DEVPATH=/devices/pci0000:00/0000:00:03.0 SUBSYSTEM=pci"),
            Parts::PCI
        );
        assert_eq!(
            parts("ACTION=move DEVPATH=/devices/virtual/net/lan0 SUBSYSTEM=net"),
            Parts::NICS | Parts::INFINIBAND
        );
        assert_eq!(parts("ACTION=add DEVPATH=/devices/x/block/vda SUBSYSTEM=block"), Parts::DISKS);
        assert_eq!(
            parts("ACTION=add DEVPATH=/devices/virtual/misc/fuse SUBSYSTEM=misc DEVNAME=fuse"),
            Parts::DEVICES
        );
        assert_eq!(
            parts("ACTION=add DEVPATH=/devices/virtual/block/loop3 SUBSYSTEM=block DEVNAME=loop3"),
            Parts::NONE
        );
        assert_eq!(
            parts("ACTION=change DEVPATH=/devices/virtual/block/loop3 SUBSYSTEM=block"),
            Parts::NONE
        );
        assert_eq!(
            parts("ACTION=add DEVPATH=/module/nvidia SUBSYSTEM=module"),
            Parts::GPUS | Parts::DEVICES
        );
        assert_eq!(parts("ACTION=add DEVPATH=/module/nfs SUBSYSTEM=module"), Parts::NONE);
        assert_eq!(
            parts("ACTION=add DEVPATH=/devices/virtual/bdi/0:50 SUBSYSTEM=bdi"),
            Parts::NONE
        );
        assert_eq!(parts(""), Parts::NONE);
    }

    #[test]
    fn a_driver_that_takes_a_device_again() {
        let bound = seen(
            "ACTION=bind DEVPATH=/devices/pci0000:00/x SUBSYSTEM=pci PCI_SLOT_NAME=0000:3b:00.0",
        );
        assert_eq!(bound.rebound, ["0000:3b:00.0"]);
        assert!(seen("ACTION=unbind SUBSYSTEM=pci PCI_SLOT_NAME=0000:3b:00.0").rebound.is_empty());
    }

    #[test]
    fn old_records_say_nothing_of_today() {
        let nothing = TakenDown::default();
        let record = "3,100,5000000,-;Buffer I/O error, dev sda, sector 8 op 0x0:(READ)";
        let told = news(record, Duration::from_secs(60), &nothing).unwrap();
        assert_eq!((told.subject.as_str(), told.pci), ("disk sda", None));
        assert!(news(record, Duration::from_secs(6_000), &nothing).is_none());
        assert!(news("no record", Duration::ZERO, &nothing).is_none());
    }

    #[test]
    fn a_link_that_stage_1_switched_off_is_no_news() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run/bedplate")).unwrap();
        let links = vec![crate::taken_down::TakenLink { name: "eth0".to_owned(), device: None }];
        let taken_down = TakenDown { links, from_micros: 4_900_000, until_micros: 5_000_000 };
        taken_down.store(root.path()).unwrap();
        let events = Events::listen(root.path());
        let record = "6,100,5000000,-;e1000e 0000:00:05.0 eth0: NIC Link is Down";
        assert!(news(record, Duration::from_secs(9), &TakenDown::default()).is_some());
        assert!(news(record, Duration::from_secs(9), &events.taken_down).is_none());
    }

    #[test]
    fn everything_is_listened_to_and_nothing_waited_for_longer_than_said() {
        let mut events = Events::listen(Path::new("/"));
        assert!(events.uevents.is_some() && events.links.is_some() && events.specs.is_some());
        let start = clock::monotonic();
        events.wait(Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn specs_are_heard_of_in_directories_that_are_not_there_yet() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        let mut events =
            Events { uevents: None, links: None, log: None, ..Events::listen(root.path()) };
        let mut hears = |change: &dyn Fn()| {
            events.watch_specs();
            change();
            events.wait(Duration::from_millis(100)).parts
        };
        let (directory, spec) = (root.path().join("etc/cdi"), root.path().join("etc/cdi/x.json"));
        assert_eq!(hears(&|| std::fs::create_dir(&directory).unwrap()), Parts::DEVICES);
        assert_eq!(hears(&|| std::fs::write(&spec, "{}").unwrap()), Parts::DEVICES);
        assert_eq!(hears(&|| std::fs::remove_file(&spec).unwrap()), Parts::DEVICES);
        assert_eq!(hears(&|| {}), Parts::NONE);
    }
}
