//! Keeps the inventory: collected at the start, and then what the kernel says has
//! changed ([`events`]).
//!
//! Two plain threads, because an unhealthy device can hold a read of sysfs for ever. One listens
//! and tells the rest of the agent, the other collects. When that one hangs, what was collected
//! before is told all the same, with a gap that names what it hangs at; and everything else of
//! the agent goes on.

pub mod events;
pub mod ioctls;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use ::inventory::{Collector, Parts, health::Incident, ioctls::Ioctls};
use api::{
    channel::MAX_TOPOLOGY_BYTES,
    inventory::{Gap, Inventory},
};
use tokio::sync::watch;

use self::events::{Events, Seen};
use crate::clock;

/// Counters of errors are looked at so often: no event tells of them.
const HEALTH_EVERY: Duration = Duration::from_secs(60);

/// Everything is collected again after so many looks at the counters, an hour: for what changes
/// without any word.
const LOOKS_BETWEEN_FULL: u32 = 60;

/// The pause after a collection is so many times as long as it was: a link that flaps must not cost
/// a job its core…
const PAUSE_FACTOR: u32 = 10;

/// …and never longer than this: some of its time is waiting for a driver.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A collection that takes longer hangs: its longest part, `nvidia-smi`, has a deadline of its own
/// ([`::inventory::NVIDIA_SMI_DEADLINE`]).
const HANGING_AFTER: Duration = Duration::from_secs(30);

/// What is known of the hardware, kept up to date. Each has `None` until it is known.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// The inventory as it was last read; `None` before the first scan is done.
    pub inventory: watch::Receiver<Option<Arc<Inventory>>>,
    /// The topology as hwloc writes it.
    pub topology_xml: watch::Receiver<Option<Arc<str>>>,
}

/// Starts the threads for this machine.
///
/// # Errors
/// As [`keep`].
pub fn start_for_this_machine() -> io::Result<Hardware> {
    keep("/".into(), Box::new(ioctls::Kernel))
}

/// Starts the threads for the machine, or the capture of one, at `root`.
///
/// # Errors
/// If the system has no thread to spare.
pub fn keep(root: PathBuf, ioctls: Box<dyn Ioctls>) -> io::Result<Hardware> {
    let (inventory_in, inventory) = watch::channel(None);
    let (xml_in, topology_xml) = watch::channel(None);
    let told = CollectedHardware { inventory: inventory_in, topology_xml: xml_in };
    let (orders, work) = mpsc::channel();
    let (done, results) = mpsc::channel();
    let collector = Collector::new(&root, ioctls);
    let progress = Arc::new(Mutex::new(Progress::default()));
    let seen = progress.clone();
    thread::Builder::new()
        .name("collector".to_owned())
        .spawn(move || collect(collector, &work, &done, &seen))?;
    let listener = Listener { told, orders, results, progress, patience: HANGING_AFTER };
    thread::Builder::new().name("inventory".to_owned()).spawn(move || listener.run(&root))?;
    Ok(Hardware { inventory, topology_xml })
}

/// What the collecting thread shall do.
#[derive(Debug)]
struct CollectorRequest {
    parts: Parts,
    /// PCI devices whose driver took them again.
    rebound: Vec<String>,
    incidents: Vec<Incident>,
}

/// What it found.
#[derive(Debug)]
struct CollectedFacts {
    inventory: Inventory,
    topology_xml: Option<Arc<str>>,
}

/// How far it is, for when it does not come back.
#[derive(Debug, Default)]
struct Progress {
    known: Inventory,
    at: &'static str,
}

fn look(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

fn collect(
    mut collector: Collector,
    work: &mpsc::Receiver<CollectorRequest>,
    done: &mpsc::Sender<CollectedFacts>,
    progress: &Mutex<Progress>,
) {
    while let Ok(order) = work.recv() {
        order.rebound.iter().for_each(|address| collector.rebound(address));
        order.incidents.iter().for_each(|incident| collector.incident(incident));
        let inventory = collector.collect_with(order.parts, |known, part| {
            let mut progress = look(progress);
            progress.at = part.name();
            // Only a first collection has less than what was told already.
            if progress.known != *known {
                progress.known.clone_from(known);
            }
        });
        let topology_xml = collector.topology_xml();
        if done.send(CollectedFacts { inventory, topology_xml }).is_err() {
            return;
        }
    }
}

#[derive(Debug)]
struct CollectedHardware {
    inventory: watch::Sender<Option<Arc<Inventory>>>,
    topology_xml: watch::Sender<Option<Arc<str>>>,
}

impl CollectedHardware {
    fn tell(&self, mut found: CollectedFacts) {
        if let Some(xml) = found.topology_xml.take_if(|xml| xml.len() > MAX_TOPOLOGY_BYTES) {
            let cause = format!("{} bytes; more than {MAX_TOPOLOGY_BYTES} are not sent", xml.len());
            found.inventory.gaps.push(Gap { subject: "hwloc's XML".to_owned(), cause });
        }
        self.topology_xml.send_if_modified(|known| {
            let changed = found.topology_xml.is_some() && *known != found.topology_xml;
            if changed {
                known.clone_from(&found.topology_xml);
            }
            changed
        });
        let found = found.inventory;
        self.inventory.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&found);
            if changed {
                tracing::info!(
                    pus = found.topology.pus,
                    memory = found.memory_bytes,
                    nics = found.nics.len(),
                    disks = found.disks.len(),
                    gpus = found.gpus.len(),
                    devices = found.devices.len(),
                    faults = found.faults.len(),
                    gaps = found.gaps.len(),
                    "inventory collected"
                );
                *known = Some(Arc::new(found));
            }
            changed
        });
    }
}

#[derive(Debug)]
struct Listener {
    told: CollectedHardware,
    orders: mpsc::Sender<CollectorRequest>,
    results: mpsc::Receiver<CollectedFacts>,
    progress: Arc<Mutex<Progress>>,
    /// [`HANGING_AFTER`].
    patience: Duration,
}

impl Listener {
    fn run(self, root: &Path) {
        // Listening first, so that no change falls between the first collection and the first wait.
        let mut events = Events::listen(root);
        let mut seen = Seen { parts: Parts::ALL, ..Seen::default() };
        let mut looks = 0_u32;
        let mut due = clock::monotonic() + HEALTH_EVERY;
        loop {
            events.watch_specs();
            let started = clock::monotonic();
            if !self.work(seen) {
                return;
            }
            thread::sleep((started.elapsed() * PAUSE_FACTOR).min(LONGEST_PAUSE));
            seen = events.wait(due.saturating_duration_since(clock::monotonic()));
            if clock::monotonic() >= due {
                looks += 1;
                let is_full = looks.is_multiple_of(LOOKS_BETWEEN_FULL);
                seen.parts |= if is_full { Parts::ALL } else { Parts::HEALTH };
                due = clock::monotonic() + HEALTH_EVERY;
            }
        }
    }

    /// Has it collected. `false` when nobody wants to know any more.
    fn work(&self, seen: Seen) -> bool {
        let Seen { parts, rebound, incidents } = seen;
        for incident in &incidents {
            tracing::warn!(subject = incident.subject, "the kernel's log: {}", incident.message);
        }
        if self.orders.send(CollectorRequest { parts, rebound, incidents }).is_err() {
            return false;
        }
        let mut limit = self.patience;
        loop {
            match self.results.recv_timeout(limit) {
                Ok(found) => {
                    self.told.tell(found);
                    return !self.told.inventory.is_closed();
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.told.tell(self.what_there_is());
                    // Said once; it may come back, after minutes or never.
                    limit = Duration::MAX;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn what_there_is(&self) -> CollectedFacts {
        let progress = look(&self.progress);
        let mut inventory = progress.known.clone();
        let cause = format!("no answer for {} s", self.patience.as_secs());
        tracing::error!("the inventory hangs at {}: {cause}", progress.at);
        inventory.gaps.push(Gap { subject: progress.at.to_owned(), cause });
        CollectedFacts { inventory, topology_xml: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its BMC never answers.
    #[derive(Debug)]
    struct Mute;

    impl Ioctls for Mute {
        fn nvme_smart_log(
            &self,
            _: &str,
        ) -> io::Result<[u8; ::inventory::ioctls::SMART_LOG_BYTES]> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn ethtool_firmware(&self, _: &str) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn ipmi(&self, _: u8, _: u8, _: &[u8]) -> io::Result<Vec<u8>> {
            loop {
                thread::park();
            }
        }
    }

    #[tokio::test]
    async fn a_device_that_never_answers_is_named_and_everything_else_told() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("sys/class/ipmi/ipmi0")).unwrap();
        let (told, mut inventory) = watch::channel(None);
        let (orders, work) = mpsc::channel();
        let (done, results) = mpsc::channel();
        let progress = Arc::new(Mutex::new(Progress::default()));
        let seen = progress.clone();
        let collector = Collector::new(root.path(), Box::new(Mute));
        thread::spawn(move || collect(collector, &work, &done, &seen));
        let told = CollectedHardware { inventory: told, topology_xml: watch::Sender::new(None) };
        let patience = Duration::from_millis(200);
        let listener = Listener { told, orders, results, progress, patience };
        thread::spawn(move || listener.work(Seen { parts: Parts::ALL, ..Seen::default() }));
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, inventory.wait_for(Option::is_some)).await.unwrap().unwrap();
        let known = inventory.borrow().clone().unwrap();
        let gap = Gap { subject: "machine".to_owned(), cause: "no answer for 0 s".to_owned() };
        assert_eq!(known.gaps, [gap]);
    }

    #[tokio::test]
    async fn the_first_inventory_comes_by_itself() {
        let root = tempfile::tempdir().unwrap();
        let captured = ::inventory::ioctls::Captured::default();
        let mut hardware = keep(root.path().to_owned(), Box::new(captured)).unwrap();
        let found = tokio::time::timeout(
            Duration::from_secs(10),
            hardware.inventory.wait_for(Option::is_some),
        );
        assert_eq!(found.await.unwrap().unwrap().as_ref().unwrap().pci, []);
        assert!(hardware.topology_xml.borrow().is_none());
    }
}
