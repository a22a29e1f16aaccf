//! The cgroups of jobs, below the delegated unit `bedplate-jobs.service`:
//!
//! ```text
//! system.slice/bedplate-jobs.service/   CONTROLLERS for what is below
//!   holder/                             the process that keeps the unit alive (crate::container::holder)
//!   inits/                              every container init, without limits
//!   runs/RUN/                           the processes of one job: limits, device filter, egress filter
//! ```

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, SocketAddrV4},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use api::run::Usage;
use linux::{
    LinuxError,
    bpf::Program,
    cgroup::{Cgroup, cpu, cpuset, hugetlb, io as io_controller, memory, pids, pressure, rdma},
    device_filter::{self, Grant},
    egress,
};

use rustix::fs::{Mode, OFlags};

use super::{defence::Safeguard, devices, spec::ContainerSpec};

/// Where the kernel shows them.
pub const ROOT: &str = "/sys/fs/cgroup";

/// The unit's directory, relative to [`ROOT`].
pub const UNIT: &str = "system.slice/bedplate-jobs.service";

/// The directory of all runs in the unit's.
pub const RUNS: &str = "runs";

/// The directory of the container inits in the unit's.
pub const INITS: &str = "inits";

/// Controllers that jobs need. `cpuset`, `memory` and `pids` limit a job; `cpu` and `io` only
/// measure it ([`total`]): no weight or maximum is set.
pub const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

/// Controllers that not every kernel has, and what each keeps jobs from. systemd knows neither, so
/// we enable them from the root down.
pub const OPTIONAL_CONTROLLERS: [(&str, &str); 2] =
    [("hugetlb", "huge pages"), ("rdma", "RDMA adapters that they were not granted")];

/// Filters that are kept loaded. Most jobs of a node have the same.
const MAX_KEPT: usize = 32;

/// The groups as a spawner uses them.
#[derive(Debug)]
pub struct Groups {
    runs: PathBuf,
    runs_directory: OwnedFd,
    inits: OwnedFd,
    has_huge_pages: bool,
    has_rdma: bool,
    device_filters: BTreeMap<Vec<Grant>, Program>,
    egress_filters: BTreeMap<Vec<SocketAddrV4>, Program>,
}

/// The group of one run.
#[derive(Debug)]
pub struct RunGroup {
    name: PathBuf,
    runs: OwnedFd,
    directory: OwnedFd,
}

impl Groups {
    /// The groups of the unit at `unit`, which its holder has made.
    ///
    /// # Errors
    /// It has not.
    pub fn open(unit: &Path) -> Result<Self, LinuxError> {
        let runs = unit.join(RUNS);
        let group = Cgroup::at(&runs);
        Ok(Self {
            runs_directory: group.open()?,
            has_huge_pages: group.has("hugetlb"),
            has_rdma: group.has("rdma"),
            inits: Cgroup::at(unit.join(INITS)).open()?,
            runs,
            device_filters: BTreeMap::new(),
            egress_filters: BTreeMap::new(),
        })
    }

    /// Where container inits are made.
    #[must_use]
    pub fn inits(&self) -> BorrowedFd<'_> {
        self.inits.as_fd()
    }

    /// Makes the group of a run, with every limit and filter of `spec`.
    ///
    /// # Errors
    /// One limit cannot be set. Nothing is left of the group then.
    pub fn make(&mut self, name: &Path, spec: &ContainerSpec) -> Result<RunGroup, LinuxError> {
        let group = Cgroup::at(self.runs.join(name));
        group.make()?;
        self.limit(&group, spec)
            .and_then(|directory| {
                let runs = self.runs_directory.try_clone();
                let runs = runs.map_err(|errno| LinuxError::new("copy", "a descriptor", errno))?;
                Ok(RunGroup { name: name.to_owned(), runs, directory })
            })
            .inspect_err(|_| {
                let _ = group.remove();
            })
    }

    /// The directory of a run's group that is there, for a further process of its job.
    ///
    /// # Errors
    /// `ENOENT` if it is not, or not any more.
    pub fn existing(&self, name: Option<&Path>) -> Result<OwnedFd, LinuxError> {
        let name = name.unwrap_or(Path::new(""));
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.runs_directory, name, flags, Mode::empty())
            .map_err(|errno| LinuxError::new("open the cgroup of run", name.display(), errno))
    }

    fn limit(&mut self, group: &Cgroup, spec: &ContainerSpec) -> Result<OwnedFd, LinuxError> {
        if spec.keeps(Safeguard::ProcessorLimit) {
            cpuset::restrict(group, &spec.cpus, &spec.mems)?;
        }
        if spec.keeps(Safeguard::MemoryLimit) {
            memory::limit(group, spec.memory_bytes)?;
        }
        if spec.keeps(Safeguard::ProcessLimit) {
            pids::limit(group, spec.pids)?;
        }
        if self.has_huge_pages {
            hugetlb::forbid(group)?;
        }
        if self.has_rdma {
            for adapter in devices::withheld(Path::new(devices::VERBS), &spec.devices)? {
                rdma::forbid(group, &adapter.name)?;
            }
        }
        let directory = group.open()?;
        let grants = devices::grants(&spec.devices);
        if spec.keeps(Safeguard::DeviceFilter) {
            let programs = &mut self.device_filters;
            kept(programs, grants, |grants| device_filter::load(grants))?
                .attach(directory.as_fd())?;
        }
        let forbidden = ipv4(&spec.forbidden)?;
        if !forbidden.is_empty() && spec.keeps(Safeguard::EgressFilter) {
            kept(&mut self.egress_filters, forbidden, |to| egress::load(to))?
                .attach(directory.as_fd())?;
        }
        Ok(directory)
    }
}

impl RunGroup {
    /// Its directory, where processes are made.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The group, by a path that holds in a container as well.
    #[must_use]
    pub fn group(&self) -> Cgroup {
        opened(&self.directory)
    }

    /// Removes it. One that is not empty stays, for [`remove`].
    pub fn remove(&self) {
        let _ = rustix::fs::unlinkat(&self.runs, &self.name, rustix::fs::AtFlags::REMOVEDIR);
    }
}

/// A group whose directory is open, by a path that holds in a container as well: its `/proc` leads
/// to what is open. It holds as long as `directory` is open.
#[must_use]
pub fn opened(directory: &OwnedFd) -> Cgroup {
    Cgroup::at(Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()))
}

/// The group of all container inits, whether it is there or not.
#[must_use]
pub fn inits() -> Cgroup {
    Cgroup::at(Path::new(ROOT).join(UNIT).join(INITS))
}

/// The group of a run, whether it is there or not.
#[must_use]
pub fn of(run: &Path) -> Cgroup {
    Cgroup::at(Path::new(ROOT).join(UNIT).join(RUNS).join(run))
}

/// Removes what is left of the group of a run, if it is empty.
pub fn remove(run: &Path) {
    // One that holds a process refuses.
    let _ = of(run).remove();
}

/// What the processes of a group have used so far. What the kernel does not count is 0.
#[must_use]
pub fn total(group: &Cgroup) -> Usage {
    let transferred = io_controller::transferred(group).unwrap_or_default();
    let waited = |resource| pressure::waited_micros(group, resource).unwrap_or(0);
    Usage {
        cpu_micros: cpu::used_micros(group).unwrap_or(0),
        memory_peak_bytes: memory::peak(group).unwrap_or(0),
        read_bytes: transferred.read_bytes,
        written_bytes: transferred.written_bytes,
        cpu_wait_micros: waited(pressure::Resource::Cpu),
        memory_wait_micros: waited(pressure::Resource::Memory),
        io_wait_micros: waited(pressure::Resource::Io),
    }
}

/// A loaded program, from those that are kept if it is among them.
fn kept<K: Ord>(
    programs: &mut BTreeMap<K, Program>,
    key: K,
    load: impl FnOnce(&K) -> Result<Program, LinuxError>,
) -> Result<&Program, LinuxError> {
    use std::collections::btree_map::Entry;

    if programs.len() >= MAX_KEPT && !programs.contains_key(&key) {
        programs.clear();
    }
    match programs.entry(key) {
        Entry::Occupied(entry) => Ok(entry.into_mut()),
        Entry::Vacant(entry) => {
            let program = load(entry.key())?;
            Ok(entry.insert(program))
        }
    }
}

/// The filter knows IPv4. An address that it could not keep from a job must not be passed over.
fn ipv4(forbidden: &[SocketAddr]) -> Result<Vec<SocketAddrV4>, LinuxError> {
    let known = |address: &SocketAddr| match address {
        SocketAddr::V4(address) => Ok(*address),
        SocketAddr::V6(address) => Err(LinuxError::new(
            "keep jobs away from",
            format!("{address}: the egress filter knows IPv4 only"),
            io::Error::from_raw_os_error(libc::EAFNOSUPPORT),
        )),
    };
    forbidden.iter().map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_filtered_is_an_error() {
        let four: SocketAddr = "192.0.2.1:80".parse().unwrap();
        assert_eq!(ipv4(&[four]).unwrap().len(), 1);
        let error = ipv4(&[four, "[2001:db8::1]:80".parse().unwrap()]).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot keep jobs away from [2001:db8::1]:80"),
            "{error}"
        );
    }
}
