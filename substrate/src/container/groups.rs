//! The control groups of a run, below the delegated unit `bedplate-jobs.service`:
//!
//! ```text
//! system.slice/bedplate-jobs.service/   cpuset, memory and pids for what is below
//!   holder/                             the process that keeps the unit alive (crate::container::holder)
//!   runs/RUN/init/                      the container init, without limits
//!   runs/RUN/payload/                   the job: cpuset, memory, pids, egress filter
//! ```

use std::{
    io,
    net::{SocketAddr, SocketAddrV4},
    path::Path,
};

use linux::{
    LinuxError,
    cgroup::{Cgroup, cpuset, memory, pids},
    egress::Filter,
};

use super::spec::ContainerSpec;

/// Where the kernel shows them.
pub const ROOT: &str = "/sys/fs/cgroup";

/// The folder of all runs, relative to [`ROOT`].
pub const RUNS: &str = "system.slice/bedplate-jobs.service/runs";

/// Controllers that limit jobs.
pub const CONTROLLERS: [&str; 3] = ["cpuset", "memory", "pids"];

/// The groups of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    run: Cgroup,
    /// Of the container init.
    pub init: Cgroup,
    /// Of the job.
    pub payload: Cgroup,
}

impl Groups {
    /// The groups of the run whose own is at `path`, whether they are there or not.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        let run = Cgroup::at(path);
        Self { init: run.below("init"), payload: run.below("payload"), run }
    }

    /// Makes them, with every limit and the egress filter of `spec`.
    ///
    /// # Errors
    /// One limit cannot be set; the groups may be there in part.
    pub fn make(&self, spec: &ContainerSpec) -> Result<(), LinuxError> {
        self.run.make()?;
        self.run.enable(&CONTROLLERS)?;
        self.init.make()?;
        self.payload.make()?;
        cpuset::restrict(&self.payload, &spec.cpus, &spec.mems)?;
        memory::limit(&self.payload, spec.memory_bytes)?;
        pids::limit(&self.payload, spec.pids)?;
        let forbidden = ipv4(&spec.forbidden)?;
        if !forbidden.is_empty() {
            Filter::load(&forbidden)?.attach(std::os::fd::AsFd::as_fd(&self.payload.open()?))?;
        }
        Ok(())
    }

    /// Removes them, as far as they are empty.
    pub fn remove(&self) {
        for group in [&self.payload, &self.init, &self.run] {
            // One that holds a process refuses, and goes when the run is forgotten.
            let _ = group.remove();
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
        assert!(error.to_string().starts_with("cannot keep jobs away from [2001:db8::1]:80"), "{error}");
    }
}
