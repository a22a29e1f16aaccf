//! The hardware facts of a node ([`api::inventory::Inventory`]) from sysfs, procfs, hwloc,
//! `nvidia-smi` and CDI specs: blocking, without tokio (ring 1). The agent calls
//! [`Collector::collect`] on a thread of its own.
//!
//! Nothing here fails: what is missing, unreadable, too large or no text becomes a
//! [`api::inventory::Gap`]. Every read has a limit ([`MAX_FILE_BYTES`], [`MAX_ENTRIES`]) and the
//! one child process a deadline ([`NVIDIA_SMI_DEADLINE`]).
//!
//! The root is `/`, or a directory that holds a capture of a machine:
//!
//! ```text
//! ROOT/sys, ROOT/proc, ROOT/etc     as on the machine
//! ROOT/topology.xml                 what `lstopo --of xml` prints there
//! ROOT/nvidia-smi.xml               what `nvidia-smi -q -x` prints there; `nvidia-topo.txt`: `topo -m`, `nvidia-list.txt`: `-L`
//! ROOT/ioctls                       what drivers answer there (`ioctls.rs`)
//! ```
//!
//! A capture has no addresses of network interfaces, since they are not in sysfs.

mod bmc;
mod cdi;
pub mod devices;
mod disk;
pub mod edits;
mod firmware;
mod gpu;
pub mod health;
mod infiniband;
pub mod ioctls;
mod nic;
mod nvidia;
mod nvidia_report;
mod nvidia_smi;
mod parts;
mod pci;
mod read;
mod smbios;
pub mod soname;
mod system;
mod topology;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use api::inventory::{Gap, Inventory};

use ioctls::Ioctls;
pub use nvidia_smi::DEADLINE as NVIDIA_SMI_DEADLINE;
use read::MAX_GAPS;

pub use parts::Parts;
pub use read::{MAX_ENTRIES, MAX_FILE_BYTES};

/// Collects a capture once. See [`Collector`] for collecting again and again.
#[must_use]
pub fn collect(root: &Path) -> Inventory {
    Collector::new(root, Box::new(ioctls::Captured::new(root))).collect(Parts::ALL)
}

/// Collects the inventory of one machine, as often as wanted, and only what may have changed.
///
/// It remembers what `nvidia-smi` said for as long as the driver shows the same GPUs: asking takes
/// seconds on a machine with eight of them and disturbs who computes there.
#[derive(Debug)]
pub struct Collector {
    root: PathBuf,
    ioctls: Box<dyn Ioctls>,
    nvidia: nvidia::LastAnswer,
    health: health::Memory,
    known: Inventory,
    locality: topology::Locality,
    topology_xml: Option<Arc<str>>,
    pages: system::Pages,
    /// Gaps by the part that has them.
    gaps: BTreeMap<Parts, Vec<Gap>>,
}

impl Collector {
    /// Of the machine or capture at `root`, whose drivers are asked through `ioctls`. Nothing is
    /// read before the first [`Self::collect`].
    #[must_use]
    pub fn new(root: &Path, ioctls: Box<dyn Ioctls>) -> Self {
        Self {
            root: root.to_owned(),
            ioctls,
            nvidia: nvidia::LastAnswer::default(),
            health: health::Memory::default(),
            known: Inventory::default(),
            locality: topology::Locality::default(),
            topology_xml: None,
            pages: system::Pages::default(),
            gaps: BTreeMap::new(),
        }
    }

    /// Reads these parts, and what depends on them; everything else is as it was. All of it takes
    /// 10 to 100 ms, up to [`NVIDIA_SMI_DEADLINE`] more where there are NVIDIA GPUs.
    ///
    /// [`Parts::HEALTH`] is meant to be asked for about once a minute: what grew is a fault for the
    /// ten times after.
    pub fn collect(&mut self, parts: Parts) -> Inventory {
        self.collect_with(parts, |_, _| ())
    }

    /// As [`Self::collect`]; before each part, `before` gets what is known until then, and which
    /// part is next. So somebody else can tell if a device holds this thread for ever.
    pub fn collect_with(
        &mut self,
        parts: Parts,
        mut before: impl FnMut(&Inventory, Parts),
    ) -> Inventory {
        let mut parts = parts;
        if parts.contains(Parts::HEALTH) {
            self.health.start_scan();
            if self.pages.have_changed(&mut read::Reader::new(&self.root)) {
                parts |= Parts::TOPOLOGY;
            }
        }
        if parts != Parts::HEALTH {
            self.health.rescan_targets();
        }
        let parts = parts.with_dependents();
        let root = self.root.clone();
        for part in Parts::EACH.into_iter().filter(|part| parts.contains(*part)) {
            before(&self.known, part);
            let mut read = read::Reader::new(&root);
            self.collect_part(part, &mut read);
            self.gaps.insert(part, read.into_gaps());
        }
        self.known.gaps = self.gaps.values().flatten().take(MAX_GAPS).cloned().collect();
        self.known.clone()
    }

    fn collect_part(&mut self, part: Parts, read: &mut read::Reader<'_>) {
        let known = &mut self.known;
        match part {
            Parts::MACHINE => {
                known.bmc = bmc::collect(read, &*self.ioctls);
                known.system = system::system(read);
                known.firmware = firmware::collect(read);
                known.memory_modules = smbios::collect(read);
                known.os = system::os(read);
            }
            Parts::TOPOLOGY => {
                let found = topology::collect(read);
                (known.topology, self.locality, self.topology_xml) =
                    (found.topology, found.locality, found.xml);
                known.memory_bytes = system::memory_bytes(read);
            }
            Parts::PCI => {
                known.pci = pci::collect(read);
                for device in &mut known.pci {
                    device.numa_node =
                        device.numa_node.or_else(|| self.locality.of(&device.address));
                }
            }
            Parts::NICS => known.nics = nic::collect(read, &known.pci, &*self.ioctls),
            Parts::DISKS => known.disks = disk::collect(read, &known.pci, &*self.ioctls),
            Parts::INFINIBAND => known.infiniband = infiniband::collect(read, &known.pci),
            Parts::GPUS => known.gpus = gpu::collect(read, &known.pci, &mut self.nvidia),
            Parts::DEVICES => known.devices = devices::collect(read, &known.pci),
            _ => health::collect(read, known, &mut self.health, &*self.ioctls),
        }
    }

    /// What the kernel's log told ([`health::kernel_log`]). A device with an
    /// [`api::inventory::FaultLevel::Error`] is out of service from the next [`Self::collect`] on,
    /// until [`Self::rebound`]; all else is a warning for ten looks. An agent that begins again
    /// reads the log from its start. What its driver counts of it is asked again when
    /// [`Parts::GPUS`] are next read.
    pub fn incident(&mut self, incident: &health::Incident) {
        self.health.keep(incident);
        if incident.pci.is_some() {
            self.nvidia.forget();
        }
    }

    /// A driver was bound to the device at a PCI address: it was reset, and what the log told of it
    /// before is over.
    pub fn rebound(&mut self, pci_address: &str) {
        self.health.release(pci_address);
        self.nvidia.forget();
    }

    /// The topology as hwloc writes it, which `lstopo` and every other program with hwloc 2 opens.
    /// `None` before the topology was read, and if it could not be.
    #[must_use]
    pub fn topology_xml(&self) -> Option<Arc<str>> {
        self.topology_xml.clone()
    }
}
