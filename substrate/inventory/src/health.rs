//! What is not well ([`api::inventory::Fault`]), and which devices are out of service for it.
//!
//! The agent looks about once a minute and pays for each read, so the first look after something
//! else was collected finds out which files there are ([`WatchedFiles`]), and those after it read
//! only these. One look in [`SLOW`] also asks what is dear.
//!
//! | file | faults of |
//! |---|---|
//! | `links.rs` | network interfaces, links of PCI Express |
//! | `ports.rs` | ports of InfiniBand |
//! | `memory.rs` | memory, by EDAC |
//! | `heat.rs` | processors that are throttled |
//! | `bus.rs` | PCI Express, by AER |
//! | `disks.rs`, `arrays.rs` | disks, md arrays |
//! | `gpus.rs` | GPUs |
//! | `incident.rs`, `xid.rs` | the kernel's log, read by the agent |

mod arrays;
mod bus;
mod counters;
mod disks;
mod gpus;
mod heat;
mod incident;
mod links;
mod memory;
mod ports;
mod xid;

use std::collections::{BTreeMap, BTreeSet};

use api::inventory::{Fault, FaultLevel, Inventory, PciLink};

pub use incident::{Incident, kernel_log};

use crate::{
    ioctls::Ioctls,
    read::{Reader, is_pci_address},
};
use counters::Counters;

/// One look in so many asks disks, links and GPUs for what they answer slowly.
const SLOW: u64 = 10;

/// What the kernel's log told once is a fault for so many looks.
const PASSING: u64 = 10;

/// Most devices and most faults of each that the kernel's log puts out of service: far more than
/// a node has GPUs.
const MAX_LATCHED: usize = 256;

/// What was seen before, by which later looks are judged.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Looks that were asked for.
    looks: u64,
    counters: Counters,
    /// Interfaces that had a carrier.
    were_up: BTreeSet<String>,
    /// Ports that were active, by device and number.
    were_active: BTreeSet<(String, u32)>,
    /// Links of PCI Express as seen by a slow look, by address.
    links: BTreeMap<String, PciLink>,
    watched: Option<WatchedFiles>,
    /// What the kernel's log told, by PCI address.
    latched: BTreeMap<String, BTreeSet<Fault>>,
    /// What else it told, and the look after which that is over.
    passing: BTreeMap<Fault, u64>,
}

/// Which files there are to look at.
#[derive(Debug, Default)]
struct WatchedFiles {
    memory: Vec<memory::Controller>,
    heat: Vec<heat::Package>,
    bus: Vec<bus::Counter>,
    gpus: Vec<gpus::Card>,
    arrays: bool,
}

impl WatchedFiles {
    fn new(read: &mut Reader<'_>, inventory: &Inventory) -> Self {
        Self {
            memory: memory::controllers(read),
            heat: heat::packages(read, inventory),
            bus: bus::counters(read, inventory),
            gpus: gpus::cards(read, inventory),
            arrays: arrays::exist(read),
        }
    }
}

impl Memory {
    /// A look was asked for: about a minute has passed since the one before.
    pub(crate) fn start_scan(&mut self) {
        self.looks += 1;
        self.passing.retain(|_, last| *last >= self.looks);
        self.counters.tick();
    }

    /// Other parts were read again: there may be other files to look at.
    pub(crate) fn rescan_targets(&mut self) {
        self.watched = None;
        self.links.clear();
    }

    fn is_slow(&self) -> bool {
        self.looks > 0 && self.looks.is_multiple_of(SLOW)
    }

    /// Keeps what put a device out of service until [`Self::release`], and what did not
    /// for some looks.
    pub(crate) fn keep(&mut self, incident: &Incident) {
        let Some(pci) = incident.pci.as_ref().filter(|_| incident.level == FaultLevel::Error)
        else {
            // What puts no device out of service is a warning, whatever the kernel calls it.
            let fault = Fault { level: FaultLevel::Warning, ..Fault::from(incident.clone()) };
            if self.passing.len() < MAX_LATCHED || self.passing.contains_key(&fault) {
                self.passing.insert(fault, self.looks + PASSING);
            }
            return;
        };
        if !is_pci_address(pci)
            || (self.latched.len() >= MAX_LATCHED && !self.latched.contains_key(pci))
        {
            return;
        }
        let faults = self.latched.entry(pci.clone()).or_default();
        if faults.len() < MAX_LATCHED {
            faults.insert(Fault::from(incident.clone()));
        }
    }

    /// The device works again.
    pub(crate) fn release(&mut self, pci: &str) {
        self.latched.remove(pci);
    }
}

/// Sets `faults`, and `unhealthy` of the devices that jobs could be granted. Also reads again what
/// of the inventory changes without a word of the kernel: states of ports, counters of disks.
pub(crate) fn collect(
    read: &mut Reader<'_>,
    inventory: &mut Inventory,
    memory: &mut Memory,
    ioctls: &dyn Ioctls,
) {
    let watched = memory.watched.take().unwrap_or_else(|| WatchedFiles::new(read, inventory));
    let is_slow = memory.is_slow();
    let mut found = ScanFaults::default();
    links::interfaces(read, inventory, &mut memory.were_up, &mut found);
    if is_slow {
        links::look(read, inventory, &mut memory.links);
    }
    links::check(inventory, &memory.links, &mut found);
    ports::check(read, inventory, &mut memory.were_active, &mut found);
    memory::check(read, &watched.memory, &mut memory.counters, &mut found);
    heat::check(read, &watched.heat, &mut memory.counters, &mut found);
    bus::check(read, &watched.bus, is_slow, &mut memory.counters, &mut found);
    disks::check(read, inventory, is_slow.then_some(ioctls), &mut memory.counters, &mut found);
    if watched.arrays {
        arrays::check(read, &mut found);
    }
    gpus::check(read, inventory, &watched.gpus, is_slow, &mut found);
    for (pci, faults) in &memory.latched {
        found.0.extend(faults.iter().map(|fault| (fault.clone(), Some(Target::Pci(pci.clone())))));
    }
    found.0.extend(memory.passing.keys().map(|fault| (fault.clone(), None)));
    memory.watched = Some(watched);
    found.put(inventory);
}

/// Which of the devices that jobs could be granted a fault puts out of service.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// Those at a PCI address.
    Pci(String),
    /// `rdma/hca=NAME`, and those at its PCI address.
    Adapter(String, Option<String>),
}

impl Target {
    fn is(&self, device: &api::device::GrantableDevice) -> bool {
        match self {
            Self::Pci(address) => device.pci.as_ref() == Some(address),
            Self::Adapter(name, address) => {
                let is_named =
                    device.name.kind().as_str() == "rdma/hca" && device.name.name() == name;
                is_named || (address.is_some() && device.pci == *address)
            }
        }
    }
}

/// Faults of one look.
#[derive(Debug, Default)]
struct ScanFaults(Vec<(Fault, Option<Target>)>);

impl ScanFaults {
    fn warning(&mut self, subject: impl Into<String>, message: impl Into<String>) {
        let (subject, message) = (subject.into(), message.into());
        self.0.push((Fault { level: FaultLevel::Warning, subject, message }, None));
    }

    fn error(
        &mut self,
        subject: impl Into<String>,
        message: impl Into<String>,
        target: Option<Target>,
    ) {
        let (subject, message) = (subject.into(), message.into());
        self.0.push((Fault { level: FaultLevel::Error, subject, message }, target));
    }

    /// Sorted, each once.
    fn put(mut self, inventory: &mut Inventory) {
        self.0.sort_by(|(one, _), (other, _)| one.cmp(other));
        for device in &mut inventory.devices {
            let own = self
                .0
                .iter()
                .filter(|(_, target)| target.as_ref().is_some_and(|target| target.is(device)));
            let mut reasons: Vec<String> =
                own.map(|(fault, _)| format!("{}: {}", fault.subject, fault.message)).collect();
            reasons.dedup();
            device.unhealthy = (!reasons.is_empty()).then(|| reasons.join("; "));
        }
        inventory.faults = self.0.into_iter().map(|(fault, _)| fault).collect();
        inventory.faults.dedup();
    }
}
