//! What keeps a job inside its container, by name. All of it is always on: only the test build
//! (feature `switches`) can start a container without some of it, to show what each is good for
//! (`docs/reference/escapes.md`).

use serde::{Deserialize, Serialize};

/// One thing that stands in the way of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Safeguard {
    /// No capability in any set, none to be had.
    Capabilities,
    /// The process is the user, not root.
    User,
    /// `no_new_privs`. The seccomp filter sets it too.
    NoNewPrivileges,
    /// The seccomp filter.
    SystemCalls,
    /// Devices that were not granted cannot be opened.
    DeviceFilter,
    /// Mounts on which devices are dead.
    NoDevices,
    /// Mounts on which set-user-ID and file capabilities are dead.
    NoSetuid,
    /// `/proc/sys` and others are read-only.
    ReadOnlyProc,
    /// `/sys` is read-only.
    ReadOnlySys,
    /// The job's cgroup is shown read-only.
    ReadOnlyCgroup,
    /// Files of `/proc` and `/sys` that are covered.
    MaskedPaths,
    /// The root is changed by `pivot_root`, not by `chroot` alone.
    NewRoot,
    /// Paths of images and documents are resolved in the root, without the links of `/proc`.
    PathsInRoot,
    /// Nothing that the init has open is open in the job.
    ClosedDescriptors,
    /// Own process namespace.
    ProcessNamespace,
    /// Own System V objects and message queues.
    IpcNamespace,
    /// Own host name.
    HostNamespace,
    /// Own network, for isolated jobs.
    NetworkNamespace,
    /// Addresses and ports of the server are out of reach.
    EgressFilter,
    /// Limit of memory.
    MemoryLimit,
    /// Limit of processes.
    ProcessLimit,
    /// Granted processors only.
    ProcessorLimit,
    /// Size of what can be written to the root.
    RootSize,
    /// Longest log.
    LogLimit,
    /// Every process of the job is killed at its end.
    KillAll,
}
