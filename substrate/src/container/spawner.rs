//! `substrate spawn-containers`: a small process with one thread beside the agent. It copies itself
//! into the container init of each job: no program is executed but the job's own, and what all
//! containers share is prepared once.
//!
//! The agent sends it datagrams, an order each, with one descriptor:
//!
//! ```text
//! s · path of the run's directory      start its container; the run's lock
//! e · JSON of EnterRequest                 enter its container (`enter.rs`); a socket for answers
//! ```
//! A start has no answer: what becomes of the run is in its directory; the lock is free when
//! neither spawner nor init hold it any more. A spawner ends when the agent has closed its end; the
//! container inits live on.

use std::{
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use linux::{
    LinuxError,
    process::{self, CloneSide, Namespaces},
    seccomp,
};

use super::{
    answer,
    defence::Safeguard,
    enter::{EnterRequest, Entering},
    groups::{self, Groups, RunGroup},
    init::{self, Init},
    log_room::LogRoom,
    passing,
    record::Record,
    spec::{self, ContainerSpec},
    system_calls,
};
use crate::run_directory::END;

/// Why a container was not started. It is told in the run's `end.json`.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot read container.json of the run")]
    Spec(#[source] std::io::Error),
    #[error("cannot make the job's cgroup")]
    Groups(#[source] LinuxError),
    #[error("cannot make the container's process")]
    Clone(#[source] LinuxError),
    #[error("cannot block signals")]
    Signals(#[source] nix::Error),
}

/// The spawner as the agent has it.
#[derive(Debug)]
pub struct Spawner {
    socket: OwnedFd,
    process: Child,
}

impl Spawner {
    /// Starts a spawner; `substrate` is the program.
    ///
    /// # Errors
    /// It cannot be started.
    #[expect(clippy::disallowed_methods, reason = "the home of the spawner")]
    pub fn start(substrate: &Path) -> std::io::Result<Self> {
        use std::os::unix::process::CommandExt as _;

        let (ours, theirs) = passing::pair()?;
        let process = Command::new(substrate)
            .arg("spawn-containers")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { socket: ours, process })
    }

    /// Lets it start the container of the run in `directory`, and does not wait. `lock` is held by
    /// what it starts.
    ///
    /// # Errors
    /// `EPIPE` if it is gone: nothing was started then.
    pub fn spawn(&self, directory: &Path, lock: BorrowedFd<'_>) -> io::Result<()> {
        let order = [b"s", directory.as_os_str().as_bytes()].concat();
        passing::send(&self.socket, &order, &[lock])
    }

    /// Lets it enter a container, and does not wait. `answers` is the other end of where the agent
    /// hears how that goes.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn enter(&self, entry: &EnterRequest, answers: BorrowedFd<'_>) -> io::Result<()> {
        let order = [b"e".as_slice(), &serde_json::to_vec(entry)?].concat();
        passing::send(&self.socket, &order, &[answers])
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        // It ends by itself when the socket is closed; one that is waited for leaves no zombie.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let _ = self.process.wait();
    }
}

/// What the agent wants.
#[derive(Debug)]
enum SpawnerRequest {
    Start { directory: PathBuf, lock: Option<OwnedFd> },
    Enter { entry: EnterRequest, answers: OwnedFd },
}

/// The spawner itself.
#[derive(Debug)]
struct SpawnerProcess {
    socket: OwnedFd,
    groups: Groups,
    system_calls: seccomp::Filter,
    /// What orders are read into: a new one for each would be copied with every container.
    buffer: Vec<u8>,
}

/// Serves the agent at standard input until it closes its end. The copies that become container
/// inits or enter a container leave this function by ending their process.
///
/// # Errors
/// There is no unit for jobs, or standard input is no socket of the agent.
pub fn serve() -> Result<(), LinuxError> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned();
    let socket = socket.map_err(|errno| LinuxError::new("copy", "standard input", errno))?;
    let null = std::fs::File::open("/dev/null")
        .map_err(|errno| LinuxError::new("open", "/dev/null", errno))?;
    rustix::stdio::dup2_stdin(null)
        .map_err(|errno| LinuxError::new("close", "standard input", errno))?;
    process::ignore_child_exits()?;
    // A site may have protected the agent. A job that cannot be killed would hang at its limit of
    // memory instead; what is made of this process has its score.
    process::be_killed_as_others()?;
    let unit = Path::new(groups::ROOT).join(groups::UNIT);
    let (groups, system_calls) = (Groups::open(&unit)?, system_calls::filter());
    let mut serving = SpawnerProcess {
        socket,
        groups,
        system_calls,
        buffer: vec![0; passing::MAX_MESSAGE_BYTES],
    };
    loop {
        let Some(order) = serving.next()? else { return Ok(()) };
        match order {
            SpawnerRequest::Start { directory, lock } => {
                if let Some(init) = serving.start(&directory, lock) {
                    // What is only the spawner's is closed in the copy: above all the socket.
                    drop(serving);
                    std::process::exit(init.run())
                }
            }
            SpawnerRequest::Enter { entry, answers } => {
                if let Some(entering) = serving.enter(entry, answers) {
                    drop(serving);
                    std::process::exit(entering.run())
                }
            }
        }
    }
}

impl SpawnerProcess {
    /// The next order; `None` if the agent is gone.
    fn next(&mut self) -> Result<Option<SpawnerRequest>, LinuxError> {
        loop {
            let received = passing::receive(&self.socket, &mut self.buffer);
            let received = received.map_err(|errno| LinuxError::new("hear", "the agent", errno))?;
            let Some((mut message, descriptors)) = received else { return Ok(None) };
            let kind = message.remove(0);
            let mut descriptors = descriptors.into_iter();
            match (kind, descriptors.next()) {
                (b's', lock) => {
                    let directory = PathBuf::from(std::ffi::OsString::from_vec(message));
                    return Ok(Some(SpawnerRequest::Start { directory, lock }));
                }
                (b'e', Some(answers)) => match serde_json::from_slice(&message) {
                    Ok(entry) => return Ok(Some(SpawnerRequest::Enter { entry, answers })),
                    Err(error) => tracing::error!(%error, "an order that is none"),
                },
                _ => tracing::error!(kind, "an order that is none"),
            }
        }
    }

    /// Starts a container. `Some` in the copy that is its init.
    fn start(&mut self, directory: &Path, lock: Option<OwnedFd>) -> Option<Init> {
        let record = match Record::open(directory) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!("{:#}", anyhow::Error::from(error));
                return None;
            }
        };
        let name = PathBuf::from(directory.file_name()?);
        let started = read_spec(&record).and_then(|spec| {
            let group = self.groups.make(&name, &spec).map_err(StartError::Groups)?;
            let side = self.copy(&spec);
            if side.is_err() {
                group.remove();
            }
            Ok((side?, spec, group))
        });
        match started {
            Ok((CloneSide::Parent { .. }, ..)) => None,
            Ok((CloneSide::Child, spec, group)) => {
                Some(self.init(spec, directory, record, group, lock))
            }
            Err(error) => {
                let why = format!("{:#}", anyhow::Error::from(error));
                if let Err(error) = record.write_json(END, &init::failed(why, true)) {
                    let directory = directory.display();
                    tracing::error!(%error, %directory, "cannot record that a container did not start");
                }
                None
            }
        }
    }

    /// Enters a container. `Some` in the copy that does.
    fn enter(&self, entry: EnterRequest, answers: OwnedFd) -> Option<Entering> {
        match process::clone_into(self.groups.inits(), Namespaces::empty()) {
            Ok(CloneSide::Parent { .. }) => None,
            Ok(CloneSide::Child) => {
                let group = self.groups.existing(entry.directory.file_name().map(Path::new));
                let system_calls = self.system_calls.clone();
                Some(Entering { entry, answers, group, system_calls })
            }
            Err(error) => {
                let why = format!("{:#}", anyhow::Error::from(StartError::Clone(error)));
                answer::fail(answers.as_fd(), why);
                None
            }
        }
    }

    fn copy(&self, spec: &ContainerSpec) -> Result<CloneSide, StartError> {
        init::signals().thread_block().map_err(StartError::Signals)?;
        let mut kinds = Namespaces::CLONE_NEWNS;
        kinds.set(Namespaces::CLONE_NEWPID, spec.keeps(Safeguard::ProcessNamespace));
        kinds.set(Namespaces::CLONE_NEWIPC, spec.keeps(Safeguard::IpcNamespace));
        kinds.set(Namespaces::CLONE_NEWUTS, spec.keeps(Safeguard::HostNamespace));
        let isolated = spec.isolated_network && spec.keeps(Safeguard::NetworkNamespace);
        kinds.set(Namespaces::CLONE_NEWNET, isolated);
        let side = process::clone_into(self.groups.inits(), kinds);
        if !matches!(side, Ok(CloneSide::Child)) {
            init::signals().thread_unblock().map_err(StartError::Signals)?;
        }
        side.map_err(StartError::Clone)
    }

    fn init(
        &self,
        spec: ContainerSpec,
        directory: &Path,
        record: Record,
        group: RunGroup,
        lock: Option<OwnedFd>,
    ) -> Init {
        // A log without its share of the room still has its own limit.
        let inits = self.groups.inits().try_clone_to_owned().ok();
        Init {
            spec,
            directory: directory.to_owned(),
            record,
            group,
            log_room: inits.map(LogRoom::of_container),
            lock,
            system_calls: self.system_calls.clone(),
        }
    }
}

fn read_spec(record: &Record) -> Result<ContainerSpec, StartError> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let read = record.read_json(spec::FILE).and_then(|spec| spec.ok_or_else(missing));
    read.map_err(StartError::Spec)
}
