//! A further process in the container of a running job: a program that the user wants there, a
//! connection to one of its ports, a copy of its files. The agent has several threads, so the
//! spawner copies itself, and the copy enters.
//!
//! The copy opens the container init as a pidfd, so that no later process of the same number is
//! meant, joins its namespaces in one step and makes the entered process ([`super::entered`]) in
//! the job's own cgroup: limits, filters and the kill at the job's end hold for it. Then the
//! copy waits for the end of what it made, or of who wanted it. The agent is told in answers
//! ([`super::answer`]).
//!
//! # Why a job cannot use the way in as a way out
//!
//! - The copy stays in the node's process namespace: no process of the container sees it. It never
//!   runs a file of the image.
//! - The entered process is seen by the job. Until it has become the user it is root's, and no
//!   process of the job may touch it. From before it enters until it executes a program it is
//!   hidden (`PR_SET_DUMPABLE`): its memory, its descriptors, `/proc/PID/exe` and `ptrace` are
//!   closed to the job, though they have one uid.
//! - CVE-2019-5736 (a program of the node overwritten through `/proc/PID/exe`): nothing of the
//!   image is executed before the process is the user, who may not write the node's file. An image
//!   whose program leads to `/proc/self/exe` starts the substrate as that user, in the container,
//!   without a right; its text is no secret, every node fetches it.
//! - CVE-2024-21626 (a descriptor or working directory of the node): every descriptor but the
//!   answers' is closed before anything else, that one at `exec`; the working directory is looked
//!   for within the container's root, as the user.
//! - The spawner's memory, of which the entered process has a copy, holds no key and no
//!   certificate: it is another program's start than the agent's.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use api::{run::Outcome, stream::StreamRequest};
use linux::{
    LinuxError, namespace,
    process::{self, CloneSide, Namespaces, Threads},
    seccomp,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill, killpg},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::{
    answer::{EnterReply, answer, fail},
    entered,
    record::Record,
    running_init,
    spec::{self, ContainerSpec},
};
use crate::run_directory::STARTED;

/// Time between SIGHUP and SIGKILL for a program whose user is gone.
const HANG_UP_GRACE: Duration = Duration::from_secs(5);

/// What the spawner is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EnterRequest {
    /// The run's directory.
    #[serde(rename = "folder")]
    pub directory: PathBuf,
    /// What is wanted inside.
    pub request: StreamRequest,
}

/// Why a container was not entered.
#[derive(Debug, thiserror::Error)]
enum EnterError {
    #[error("cannot read container.json of the run")]
    Spec(#[source] io::Error),
    #[error("the job does not run (any more)")]
    NotRunning,
    #[error("the job has as many processes as it may have")]
    ProcessLimit,
    #[error(transparent)]
    Step(#[from] LinuxError),
    #[error("cannot wait for events")]
    Events(#[source] Errno),
}

/// A copy of the spawner that is about to enter.
#[derive(Debug)]
pub struct Entering {
    /// What the agent asks for.
    pub entry: EnterRequest,
    /// Socket to the agent, for the answer.
    pub answers: OwnedFd,
    /// The job's cgroup.
    pub group: Result<OwnedFd, LinuxError>,
    /// What the entered process may ask of the kernel.
    pub system_calls: seccomp::Filter,
}

impl Entering {
    /// Enters, and stays until the entered process has ended; 0 if there was one.
    #[must_use]
    pub fn run(self) -> i32 {
        let Self { entry, answers, group, system_calls } = self;
        let done = group.map_err(EnterError::Step).and_then(|group| {
            let entered = enter(&entry, &answers, group.as_fd(), &system_calls)?;
            attend(entered, answers.as_fd())
        });
        match done {
            Ok(()) => 0,
            Err(error) => {
                fail(answers.as_fd(), format!("{:#}", anyhow::Error::from(error)));
                1
            }
        }
    }
}

/// Makes the entered process; in it, this never returns.
fn enter(
    entry: &EnterRequest,
    answers: &OwnedFd,
    group: BorrowedFd<'_>,
    system_calls: &seccomp::Filter,
) -> Result<Pid, EnterError> {
    process::hide()?;
    process::reset_signals()?;
    child_signals().thread_block().map_err(EnterError::Events)?;
    process::begin_session()?;
    // For people who look at processes; nothing depends on it.
    let _ = std::fs::write("/proc/self/comm", "container-enter");
    let threads = Threads::open()?;
    let spec = read_spec(entry)?;
    let pid = running_init(&entry.directory).ok_or(EnterError::NotRunning)?;
    let init = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(EnterError::NotRunning)?;
    let init = rustix::process::pidfd_open(init, rustix::process::PidfdFlags::empty());
    let init = init.map_err(|errno| LinuxError::new("open", "the container's init", errno))?;
    // The number may have been given to another process before it was opened.
    if running_init(&entry.directory) != Some(pid) || !entry.directory.join(STARTED.name()).exists()
    {
        return Err(EnterError::NotRunning);
    }
    namespace::join(init.as_fd())?;
    match process::clone_seeing(&threads, group, Namespaces::empty()) {
        Ok(CloneSide::Parent { pid, .. }) => Ok(Pid::from_raw(pid.cast_signed())),
        Ok(CloneSide::Child) => {
            entered::run_entered(&spec, &entry.request, system_calls, answers.as_fd())
        }
        Err(error) if error.raw() == Some(libc::EAGAIN) => Err(EnterError::ProcessLimit),
        Err(error) => Err(error.into()),
    }
}

fn read_spec(entry: &EnterRequest) -> Result<ContainerSpec, EnterError> {
    let spec = Record::open(&entry.directory)?.read_json(spec::FILE).map_err(EnterError::Spec)?;
    spec.ok_or(EnterError::NotRunning)
}

fn child_signals() -> SigSet {
    [Signal::SIGCHLD].into_iter().collect()
}

/// Waits for the end of the entered process, and brings it about if the agent is gone.
fn attend(entered: Pid, answers: BorrowedFd<'_>) -> Result<(), EnterError> {
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&child_signals(), flags).map_err(EnterError::Events)?;
    let mut kill_at = None;
    loop {
        if let Some(outcome) = reap(entered) {
            answer(answers, &EnterReply::Ended { outcome });
            return Ok(());
        }
        let now = linux::clock::monotonic();
        if kill_at.is_some_and(|at| at <= now) {
            signal(entered, Signal::SIGKILL);
        }
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if kill_at.is_none() {
            fds.push(PollFd::new(answers, PollFlags::POLLIN));
        }
        let timeout = if kill_at.is_some() { PollTimeout::from(100_u8) } else { PollTimeout::NONE };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(EnterError::Events(errno)),
        }
        // The agent sends nothing here: whatever can be read is its end.
        let is_gone = fds.get(1).and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
        while let Ok(Some(_)) = signals.read_signal() {}
        if is_gone {
            signal(entered, Signal::SIGHUP);
            // One that is stopped would not hear of it.
            signal(entered, Signal::SIGCONT);
            kill_at = Some(now + HANG_UP_GRACE);
        }
    }
}

/// To the process and its group. It was not waited for yet, so the number is its own.
fn signal(entered: Pid, signal: Signal) {
    // Before it leads a group of its own there is none of this number.
    let _ = killpg(entered, signal);
    let _ = kill(entered, signal);
}

fn reap(entered: Pid) -> Option<Outcome> {
    match waitpid(entered, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Some(Outcome::Exited { code }),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(Outcome::Signaled { signal: signal as i32 }),
        Err(Errno::ECHILD) => {
            Some(Outcome::Lost { why: "nobody knows how it ended".to_owned(), rebooted: false })
        }
        Ok(_) | Err(_) => None,
    }
}
