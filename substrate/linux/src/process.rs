//! Making a process in a cgroup and new namespaces, and what a process gives up before it runs a
//! user's program.

use std::{
    convert::Infallible,
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use caps::{CapSet, errors::CapsError};
use nix::{
    sys::signal::{SigHandler, SigSet, SigmaskHow, Signal},
    unistd::{Gid, Uid},
};
use rustix::process::Rlimit;

pub use nix::sched::CloneFlags as Namespaces;
pub use rustix::process::Resource;

use crate::{LinuxError, Result};

/// `CLONE_INTO_CGROUP` of `linux/sched.h`; it does not fit the flags of the older calls.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The number of the descriptor that [`close_all_but`] keeps.
const KEPT: libc::c_int = 3;

/// The two sides of [`clone_into`].
#[derive(Debug)]
pub enum CloneSide {
    /// The process that called.
    Parent {
        /// The child's number as the caller sees it.
        pid: u32,
        /// The child, whoever has its number later.
        pidfd: OwnedFd,
    },
    /// The new process, which goes on behind the call.
    Child,
}

/// `struct clone_args` of `linux/sched.h`.
#[derive(Debug, Default)]
#[repr(C, align(8))]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The threads of this process, for [`clone_seeing`].
#[derive(Debug)]
pub struct Threads(OwnedFd);

impl Threads {
    /// Where the kernel lists them. What is open stays so in a mount namespace without this
    /// process's `/proc`.
    ///
    /// # Errors
    /// `ENOENT` without a `/proc`.
    pub fn open() -> Result<Self> {
        let path = Path::new("/proc/self/task");
        let directory =
            fs::File::open(path).map_err(|errno| LinuxError::path("open", path, errno))?;
        Ok(Self(directory.into()))
    }

    fn is_one(&self) -> rustix::io::Result<bool> {
        let mut threads = 0;
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            threads += usize::from(!matches!(entry?.file_name().to_bytes(), b"." | b".."));
        }
        Ok(threads == 1)
    }
}

/// Makes a copy of this process in a cgroup (version 2) and in new namespaces (`clone3(2)`).
///
/// # Errors
/// `EBUSY` if this process has several threads: locks that another one holds would stay locked in
/// the copy for ever. `EACCES`, `EBUSY` or `EOPNOTSUPP` for a group that takes no processes,
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn clone_into(group: BorrowedFd<'_>, namespaces: Namespaces) -> Result<CloneSide> {
    clone_seeing(&Threads::open()?, group, namespaces)
}

/// As [`clone_into`], for a process that sees another `/proc` by now. `threads` are its
/// own, opened before.
///
/// # Errors
/// As [`clone_into`].
pub fn clone_seeing(
    threads: &Threads,
    group: BorrowedFd<'_>,
    namespaces: Namespaces,
) -> Result<CloneSide> {
    let fail = |errno: io::Error| LinuxError::new("make", "a process in its cgroup", errno);
    if !threads.is_one().map_err(|errno| fail(errno.into()))? {
        return Err(fail(io::Error::from_raw_os_error(libc::EBUSY)));
    }
    let mut pidfd: libc::c_int = -1;
    let flags = u64::from(namespaces.bits().cast_unsigned());
    let mut arguments = CloneArguments {
        flags: flags | libc::CLONE_PIDFD.cast_unsigned() as u64 | CLONE_INTO_CGROUP,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD.cast_unsigned().into(),
        cgroup: group.as_raw_fd().cast_unsigned().into(),
        ..CloneArguments::default()
    };
    // SAFETY: without CLONE_VM the child has a copy of all memory, and without a second thread no
    // lock in it is held by anybody who is not there. The arguments live until the call returns;
    // the kernel writes into `pidfd` alone.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            (&raw mut arguments).cast::<libc::c_void>(),
            size_of::<CloneArguments>(),
        )
    };
    match pid {
        0 => Ok(CloneSide::Child),
        pid => match u32::try_from(pid) {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            Ok(pid) => Ok(CloneSide::Parent { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
            Err(_) => Err(fail(io::Error::last_os_error())),
        },
    }
}

/// Who a process becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id, not 0; nor `u32::MAX`, which tells the kernel to change nothing.
    pub uid: u32,
    /// Group id, not 0 or `u32::MAX`.
    pub gid: u32,
    /// Supplementary groups, without 0 and `u32::MAX`.
    pub groups: Vec<u32>,
}

/// Becomes a user for good: groups, ids, no capability in any set, none to be had by any program
/// (`no_new_privs`).
///
/// # Errors
/// `EINVAL` for root, its group and what is no id (`u32::MAX`), `EPERM` for who is not root.
pub fn become_user(identity: &Identity) -> Result<()> {
    drop_bounding_set()?;
    take_identity(identity)?;
    give_up_capabilities()?;
    forbid_new_privileges()
}

/// The part of [`become_user`] that is about groups and ids.
///
/// # Errors
/// As [`become_user`].
pub fn take_identity(identity: &Identity) -> Result<()> {
    let Identity { uid, gid, groups } = identity;
    let fail = |step, errno: io::Error| LinuxError::new(step, format!("{uid}:{gid}"), errno);
    // setresuid(2): -1 leaves an id as it is, and that is root.
    if [uid, gid].into_iter().chain(groups).any(|id| matches!(*id, 0 | u32::MAX)) {
        return Err(fail("become the user", io::Error::from_raw_os_error(libc::EINVAL)));
    }
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    nix::unistd::setgroups(&groups).map_err(|errno| fail("take the groups of", errno.into()))?;
    let gid = Gid::from_raw(*gid);
    nix::unistd::setresgid(gid, gid, gid)
        .map_err(|errno| fail("take the group of", errno.into()))?;
    let user = Uid::from_raw(*uid);
    nix::unistd::setresuid(user, user, user).map_err(|errno| fail("become the user", errno.into()))
}

/// The part of [`become_user`] that empties every set of capabilities but the bounding set.
///
/// # Errors
/// None that the kernel is known to give.
pub fn give_up_capabilities() -> Result<()> {
    // With the permitted set goes the effective one.
    [CapSet::Ambient, CapSet::Permitted, CapSet::Inheritable]
        .into_iter()
        .try_for_each(|set| caps::clear(None, set))
        .map_err(|error| capability_error("give up", error))
}

/// The library tells the errno as text.
fn capability_error(step: &'static str, error: CapsError) -> LinuxError {
    LinuxError::new(step, "the capabilities", io::Error::other(error))
}

/// The part of [`become_user`] that sets `no_new_privs`.
///
/// # Errors
/// None that the kernel is known to give.
pub fn forbid_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| LinuxError::new("forbid", "new privileges", errno))
}

/// Lets the next [`take_identity`] keep the capabilities, for [`raise_capabilities`].
///
/// # Errors
/// None that the kernel is known to give.
#[cfg(feature = "switches")]
pub fn keep_capabilities() -> Result<()> {
    caps::securebits::set_keepcaps(true).map_err(|error| capability_error("keep", error))
}

/// Gives every capability that this process may have to it and to the programs that it becomes.
///
/// # Errors
/// None that the kernel is known to give.
#[cfg(feature = "switches")]
pub fn raise_capabilities() -> Result<()> {
    let raise = || {
        let all = caps::read(None, CapSet::Permitted)?;
        // Ambient is what is permitted and inheritable.
        [CapSet::Effective, CapSet::Inheritable, CapSet::Ambient]
            .into_iter()
            .try_for_each(|set| caps::set(None, set, &all))
    };
    raise().map_err(|error| capability_error("raise", error))
}

/// The part of [`become_user`] that takes every capability of this kernel out of the bounding set.
/// Not by the library: that knows the capabilities of its own time only, and tells no errno.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
pub fn drop_bounding_set() -> Result<()> {
    for capability in 0..64 {
        // SAFETY: this option takes a number and touches no memory.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if dropped != 0 {
            let errno = io::Error::last_os_error();
            // Past the last one that there is.
            if errno.raw_os_error() == Some(libc::EINVAL) && capability > 0 {
                return Ok(());
            }
            return Err(LinuxError::new("drop", format!("capability {capability}"), errno));
        }
    }
    Ok(())
}

/// Sets the soft limit of a resource, and the hard one up to which a program may raise it;
/// `None` is no limit.
///
/// # Errors
/// `EPERM` for a hard limit above the present one without `CAP_SYS_RESOURCE`, `EINVAL` for a soft
/// one above the hard one.
pub fn limit_resource(resource: Resource, soft: Option<u64>, hard: Option<u64>) -> Result<()> {
    rustix::process::setrlimit(resource, Rlimit { current: soft, maximum: hard })
        .map_err(|errno| LinuxError::new("limit", format!("{resource:?}"), errno))
}

/// Lets the kernel choose this process like any other when memory runs out, whatever its parent was
/// given (`/proc/PID/oom_score_adj`, `proc_pid_oom_score_adj(5)`).
///
/// # Errors
/// `/proc` is not mounted; `EACCES` without `CAP_SYS_RESOURCE`.
pub fn be_killed_as_others() -> Result<()> {
    let path = "/proc/self/oom_score_adj";
    fs::write(path, "0").map_err(|errno| LinuxError::new("write", path, errno))
}

/// Closes every descriptor but the three standard streams and a copy of `kept`, which is returned
/// and closed at the next `exec`. What owned them must not be used or dropped any more: call this
/// only where the process ends or becomes a program.
///
/// # Errors
/// `ENOSYS` before kernel 5.9.
pub fn close_all_but(kept: BorrowedFd<'_>) -> Result<OwnedFd> {
    let fail = || LinuxError::new("close", "descriptors from 3 on", io::Error::last_os_error());
    // SAFETY: the call takes numbers and touches no memory. Nobody uses what is closed
    // again: see above.
    let placed = kept.as_raw_fd() == KEPT
        || unsafe { libc::dup3(kept.as_raw_fd(), KEPT, libc::O_CLOEXEC) } == KEPT;
    if !placed {
        return Err(fail());
    }
    // SAFETY: as above.
    let done = unsafe { libc::syscall(libc::SYS_close_range, KEPT + 1, libc::c_uint::MAX, 0) };
    // SAFETY: the descriptor is open, and whoever had the number before does not use it
    // again: see above.
    if done == 0 { Ok(unsafe { OwnedFd::from_raw_fd(KEPT) }) } else { Err(fail()) }
}

/// Puts every signal back to its default and blocks none: both pass through `exec`, and a program
/// that finds `SIGPIPE` ignored or `SIGTERM` blocked behaves oddly.
///
/// # Errors
/// None that the kernel is known to give.
pub fn reset_signals() -> Result<()> {
    let fail = |errno: nix::Error| LinuxError::new("reset", "the signals", errno);
    for signal in
        Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP))
    {
        // SAFETY: SIG_DFL is no handler of ours, so no code runs in signal context
        // because of this call.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }.map_err(fail)?;
    }
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(fail)
}

/// Lets the kernel forget children that have ended (`wait(2)`, "notes"); a copy of this process
/// that waits for its own children calls [`reset_signals`].
///
/// # Errors
/// None that the kernel is known to give.
pub fn ignore_child_exits() -> Result<()> {
    // SAFETY: SIG_IGN is no handler of ours, so no code runs in signal context
    // because of this call.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigIgn) }
        .map(drop)
        .map_err(|errno| LinuxError::new("ignore", "children that end", errno))
}

/// Replaces this process by a program with an environment of its own.
///
/// # Errors
/// Returns only on failure: `ENOENT`, `EACCES`, `ENOEXEC`.
pub fn execute(program: &Path, arguments: &[CString], env: &[CString]) -> Result<Infallible> {
    let fail = |errno: nix::Error| LinuxError::path("execute", program, errno);
    let path =
        CString::new(program.as_os_str().as_bytes()).map_err(|_| fail(nix::Error::EINVAL))?;
    nix::unistd::execve(&path, arguments, env).map_err(fail)
}

/// Lets no process without capabilities look into this one: not its memory, not its descriptors,
/// not what it executes (`PR_SET_DUMPABLE` of `prctl(2)`, `ptrace(2)`). Copies of it are so too,
/// until they execute a program.
///
/// # Errors
/// None that the kernel is known to give.
pub fn hide() -> Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|errno| LinuxError::new("hide", "this process", errno))
}

/// Ignores the loss of a terminal or of a pipe's reader: it shows as an error of what is
/// read or written.
///
/// # Errors
/// None that the kernel is known to give.
pub fn ignore_hang_ups() -> Result<()> {
    for signal in [Signal::SIGHUP, Signal::SIGPIPE] {
        // SAFETY: SIG_IGN is no handler of ours, so no code runs in signal context
        // because of this call.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }
            .map_err(|errno| LinuxError::new("ignore", signal, errno))?;
    }
    Ok(())
}

/// Makes this process the leader of a session and a process group of its own.
///
/// # Errors
/// `EPERM` if it leads a group already.
pub fn begin_session() -> Result<()> {
    nix::unistd::setsid().map(drop).map_err(|errno| LinuxError::new("begin", "a session", errno))
}

/// Puts descriptors in the places of standard input, output and error.
///
/// # Errors
/// `EBADF` for one that is not open.
pub fn set_standard_streams(
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    errors: BorrowedFd<'_>,
) -> Result<()> {
    rustix::stdio::dup2_stdin(input)
        .and_then(|()| rustix::stdio::dup2_stdout(output))
        .and_then(|()| rustix::stdio::dup2_stderr(errors))
        .map_err(|errno| LinuxError::new("set", "the standard streams", errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each thread has its own sets.
    #[test]
    fn who_gives_up_the_capabilities_has_none_in_any_set() {
        let sets = || {
            give_up_capabilities().unwrap();
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            let of = |name: &str| {
                status.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
            };
            ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"].map(of)
        };
        let sets = std::thread::spawn(sets).join().unwrap();
        for set in sets {
            assert_eq!(set.as_deref().map(str::trim), Some("0000000000000000"));
        }
    }

    #[test]
    fn nobody_becomes_root_or_stays_it() {
        let who = |uid, gid, group| Identity { uid, gid, groups: vec![7, group] };
        for bad in [0, u32::MAX] {
            for identity in [who(bad, 7, 7), who(7, bad, 7), who(7, 7, bad)] {
                let error = take_identity(&identity).unwrap_err();
                assert_eq!(error.raw(), Some(libc::EINVAL), "{identity:?}");
            }
        }
    }
}
