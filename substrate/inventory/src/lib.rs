//! The hardware facts of a node ([`api::inventory::Inventory`]) from sysfs, procfs, hwloc, `nvidia-smi` and CDI specs: blocking,
//! without tokio (ring 1). The agent calls [`Collector::collect`] on a thread of its own.
//!
//! Nothing here fails: what is missing, unreadable, too large or no text becomes a [`api::inventory::Gap`]. Every read
//! has a limit ([`MAX_FILE_BYTES`], [`MAX_ENTRIES`]) and the one child process a deadline ([`NVIDIA_SMI_DEADLINE`]).
//!
//! The root is `/`, or a folder that holds a capture of a machine:
//!
//! ```text
//! ROOT/sys, ROOT/proc, ROOT/etc     as on the machine
//! ROOT/topology.xml                 what `lstopo --of xml` prints there
//! ROOT/nvidia-smi.xml               what `nvidia-smi -q -x` prints there
//! ```
//!
//! A capture has no addresses of network interfaces, since they are not in sysfs.

mod cdi;
pub mod devices;
mod disk;
pub mod edits;
mod gpu;
mod infiniband;
mod nic;
mod nvidia;
mod nvidia_smi;
mod pci;
mod read;
pub mod soname;
mod system;
mod topology;

use std::path::{Path, PathBuf};

use api::inventory::Inventory;

pub use nvidia_smi::DEADLINE as NVIDIA_SMI_DEADLINE;
pub use read::{MAX_ENTRIES, MAX_FILE_BYTES};

/// Collects once. See [`Collector`] for collecting again and again.
#[must_use]
pub fn collect(root: &Path) -> Inventory {
    Collector::new(root).collect()
}

/// Collects the inventory of one machine, as often as wanted.
///
/// It remembers what `nvidia-smi` said for as long as the driver shows the same GPUs: asking takes seconds on a
/// machine with eight of them and disturbs who computes there.
#[derive(Debug)]
pub struct Collector {
    root: PathBuf,
    nvidia: nvidia::Known,
}

impl Collector {
    /// Of the machine or capture at `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), nvidia: nvidia::Known::default() }
    }

    /// Reads everything. Takes 10 to 100 ms, up to [`NVIDIA_SMI_DEADLINE`] more where there are NVIDIA GPUs.
    pub fn collect(&mut self) -> Inventory {
        let mut read = read::Reader::new(&self.root);
        let (topology, locality) = topology::collect(&mut read);
        let mut pci = pci::collect(&mut read);
        for device in &mut pci {
            device.numa_node = device.numa_node.or_else(|| locality.get(&device.address).copied());
        }
        let nics = nic::collect(&mut read, &pci);
        let disks = disk::collect(&mut read);
        let infiniband = infiniband::collect(&mut read, &pci);
        let gpus = gpu::collect(&mut read, &pci, &mut self.nvidia);
        let devices = devices::collect(&mut read, &pci);
        Inventory {
            system: system::system(&mut read),
            os: system::os(&mut read),
            memory_bytes: system::memory_bytes(&mut read),
            topology,
            pci,
            nics,
            disks,
            gpus,
            infiniband,
            devices,
            gaps: read.into_gaps(),
        }
    }
}
