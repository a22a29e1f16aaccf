//! The container init: PID 1 of the container's process namespace. It makes the container's files,
//! starts the payload, takes its output, ends it when that is due, and writes the end to disk. It
//! outlives spawner and agent.
//!
//! It goes on in the process that the spawner copied itself into, with one thread,
//! and never returns.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use api::{
    ids::Timestamp,
    run::{Outcome, RunEnd, Usage},
};
use linux::{
    LinuxError,
    cgroup::{self, Cgroup},
    process::{self, CloneSide, Namespaces},
    seccomp,
};
use log_files::Limits;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, killpg},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    defence::Safeguard,
    ending::{Due, Ending, Status},
    files,
    groups::{self, RunGroup},
    log::{Log, Pumped},
    log_room::LogRoom,
    payload,
    record::Record,
    spec::ContainerSpec,
};
use crate::{
    clock,
    run_directory::{END, INIT_PID, PAUSED, STARTED, STOP, Started},
};

/// Longest that the loop sleeps without an event.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// How long output is awaited after every process of the payload is gone: somebody else may hold a
/// copy of the pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// Tries and pause to write the end: a node whose RAM is full may have some again soon.
const WRITE_TRIES: u32 = 60;
const WRITE_PAUSE: Duration = Duration::from_secs(1);

/// Longest reason read from a payload that could not start, bytes.
const MAX_REASON_BYTES: u64 = 64 << 10;

/// The signals that the init reads from a descriptor. Blocked before it is made, so
/// that none is lost.
#[must_use]
pub fn signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD].into_iter().collect()
}

/// A container about to be.
#[derive(Debug)]
pub struct Init {
    /// Description of the container.
    pub spec: ContainerSpec,
    /// The run's directory, as the node sees it.
    pub directory: PathBuf,
    /// Handle to that directory, open since before the container has a root of its own.
    pub record: Record,
    /// The job's cgroup.
    pub group: RunGroup,
    /// The room that its log shares with those of other jobs.
    pub log_room: Option<LogRoom>,
    /// Held as long as the container lives.
    pub lock: Option<OwnedFd>,
    /// What the payload may ask of the kernel.
    pub system_calls: seccomp::Filter,
}

/// Why there is no payload.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot {0} of the run")]
    Record(&'static str, #[source] io::Error),
    #[error("cannot make the container's files")]
    Files(#[source] LinuxError),
    #[error(transparent)]
    Step(#[from] LinuxError),
    #[error("cannot make a pipe")]
    Pipe(#[source] io::Error),
    #[error("cannot wait for events")]
    Events(#[source] Errno),
}

impl StartError {
    /// Whether the node may do better at another time. What lies in the image or the order
    /// stays as it is.
    fn is_transient(&self) -> bool {
        let Self::Files(error) = self else { return true };
        let of_the_image = [
            libc::ENOTDIR,
            libc::EISDIR,
            libc::EEXIST,
            libc::ELOOP,
            libc::ENAMETOOLONG,
            libc::EINVAL,
        ];
        !error.raw().is_some_and(|errno| of_the_image.contains(&errno))
    }
}

/// What is read and waited for while the payload runs.
#[derive(Debug)]
struct Running {
    pid: Pid,
    group: Cgroup,
    signals: SignalFd,
    output: Option<File>,
    /// When output is taken again.
    output_at: Duration,
    /// Says why the payload did not start; its end without a word says that it did.
    exec: Option<File>,
    why_not: Vec<u8>,
    ending: Ending,
    started: Option<Timestamp>,
}

impl Init {
    /// Lives as the init of the container, to its end. 0 if there was a payload.
    #[must_use]
    pub fn run(mut self) -> i32 {
        let lived = self.run_init();
        self.group.remove();
        let (end, code) = match lived {
            Ok(end) => (end, 0),
            Err(error) => {
                let transient = error.is_transient();
                (failed(format!("{:#}", anyhow::Error::from(error)), transient), 1)
            }
        };
        for _ in 0..WRITE_TRIES {
            if self.record.write_json(END, &end).is_ok() {
                return code;
            }
            std::thread::sleep(WRITE_PAUSE);
        }
        1
    }

    fn run_init(&mut self) -> Result<RunEnd, StartError> {
        process::reset_signals()?;
        signals().thread_block().map_err(StartError::Events)?;
        process::begin_session()?;
        // For people who look at processes; nothing depends on it.
        let _ = std::fs::write("/proc/self/comm", "container-init");
        let room = self.log_room.take();
        let mut log = self.log(room).map_err(|error| StartError::Record("open the log", error))?;
        self.write_pid()?;
        files::make(&self.spec, &self.directory).map_err(StartError::Files)?;
        let mut running = self.start()?;
        let status = self.watch(&mut running, &mut log)?;
        Ok(self.end(running, log, status))
    }

    fn log(&self, room: Option<LogRoom>) -> io::Result<Log> {
        let is_limited = self.spec.keeps(Safeguard::LogLimit);
        let limit = if is_limited { self.spec.log_limit_bytes } else { u64::MAX };
        if self.spec.log_has_tail {
            let mut log = Log::new(self.record.log(Limits::of(limit))?);
            if self.spec.log_has_times {
                log = log.timed(self.record.log_times()?, clock::now);
            }
            return Ok(match room.filter(|_| is_limited) {
                Some(room) => log.sharing(room, limit),
                None => log,
            });
        }
        Ok(Log::cut_at(self.record.log(Limits::NONE)?, limit))
    }

    /// `init.pid`: the number that the node knows this process by, and when it began
    /// (`proc_pid_stat(5)`, fields 1 and 22).
    fn write_pid(&self) -> Result<(), StartError> {
        let fail = |error| StartError::Record("write init.pid", error);
        let stat = std::fs::read_to_string("/proc/self/stat").map_err(fail)?;
        let text = pid_and_start(&stat).ok_or_else(|| fail(io::ErrorKind::InvalidData.into()))?;
        self.record.write(INIT_PID, text.as_bytes()).map_err(fail)
    }

    fn start(&self) -> Result<Running, StartError> {
        let spec = &self.spec;
        let (output, output_end) = pipe()?;
        // Programs open /dev/stdout by its name, as the user that they are.
        let owner =
            (Some(rustix::fs::Uid::from_raw(spec.uid)), Some(rustix::fs::Gid::from_raw(spec.gid)));
        rustix::fs::fchown(&output_end, owner.0, owner.1)
            .map_err(|errno| LinuxError::new("give the output to", spec.uid, errno))?;
        let (exec, mut exec_end) = pipe()?;
        let input =
            File::open("/dev/null").map_err(|errno| LinuxError::new("open", "/dev/null", errno))?;
        let pid = match process::clone_into(self.group.directory(), Namespaces::empty())? {
            CloneSide::Parent { pid, .. } => pid,
            CloneSide::Child => {
                let closed = process::set_standard_streams(
                    input.as_fd(),
                    output_end.as_fd(),
                    output_end.as_fd(),
                )
                .and_then(|()| match spec.keeps(Safeguard::ClosedDescriptors) {
                    true => process::close_all_but(exec_end.as_fd()).map(Some),
                    false => Ok(None),
                });
                let (kept, error) = match closed {
                    Ok(kept) => {
                        let Err(error) = payload::become_program(spec, &self.system_calls);
                        (kept.map(File::from), error)
                    }
                    Err(error) => (None, error.into()),
                };
                let why = format!("{:#}", anyhow::Error::from(error));
                // The init is told nothing only if it is gone, and this process with it. Nothing is
                // dropped here: most descriptors are closed already.
                let _ = match kept {
                    Some(mut kept) => kept.write_all(why.as_bytes()),
                    None => exec_end.write_all(why.as_bytes()),
                };
                std::process::exit(127)
            }
        };
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&signals(), flags).map_err(StartError::Events)?;
        Ok(Running {
            pid: Pid::from_raw(pid.cast_signed()),
            group: self.group.group(),
            signals,
            output: Some(output),
            output_at: Duration::ZERO,
            exec: Some(exec),
            ending: Ending::new(monotonic(), spec.timeout_seconds, spec.grace_seconds),
            why_not: Vec::new(),
            started: None,
        })
    }

    /// Takes output and ends what is due until the payload's first process has ended.
    fn watch(&self, running: &mut Running, log: &mut Log) -> Result<Status, StartError> {
        // An order may have come before there was an init to be told of it.
        self.take_orders(running, log);
        loop {
            match running.ending.due(monotonic()) {
                Some(Due::Terminate) => {
                    // What stands still hears nothing. A group that is gone already
                    // is reaped below.
                    set_paused(running, log, false);
                    let _ = killpg(running.pid, Signal::SIGTERM);
                }
                Some(Due::Kill) => kill_all(running, log),
                None => {}
            }
            wait_for_event(running)?;
            while let Ok(Some(signal)) = running.signals.read_signal() {
                if signal.ssi_signo != Signal::SIGCHLD as u32 {
                    self.take_orders(running, log);
                }
            }
            take_output(running, log);
            self.take_exec(running);
            if let Some(status) = reap(running.pid) {
                return Ok(status);
            }
        }
    }

    fn take_orders(&self, running: &mut Running, log: &mut Log) {
        if let Ok(Some(order)) = self.record.read_json(STOP) {
            running.ending.stop(monotonic(), order.grace_seconds, order.why);
        }
        // What must end is not held up.
        if !running.ending.is_begun() {
            set_paused(running, log, self.record.has(PAUSED));
        }
    }

    /// Hears whether the program was executed.
    fn take_exec(&self, running: &mut Running) {
        let Some(exec) = &mut running.exec else { return };
        match exec.take(MAX_REASON_BYTES).read_to_end(&mut running.why_not) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            _ => running.exec = None,
        }
        if !running.why_not.is_empty() {
            return;
        }
        let started = clock::now();
        running.started = Some(started);
        // The end says it as well.
        let _ = self.record.write_json(STARTED, &Started { started });
    }

    fn end(&self, mut running: Running, mut log: Log, status: Status) -> RunEnd {
        if self.spec.keeps(Safeguard::KillAll) {
            kill_all(&running, &mut log);
        }
        while reap(running.pid).is_some() {}
        let deadline = monotonic() + DRAIN;
        while running.output.is_some() && monotonic() < deadline {
            take_output(&mut running, &mut log);
            std::thread::sleep(Duration::from_millis(1));
        }
        self.take_exec(&mut running);
        if !running.why_not.is_empty() {
            let why = String::from_utf8_lossy(&running.why_not).into_owned();
            log.say(&why);
            return RunEnd { log_bytes: log.finish(), ..failed(why, false) };
        }
        let kills = cgroup::memory::kills(&running.group).unwrap_or(0);
        let usage = groups::total(&running.group);
        let outcome = running.ending.outcome(status, kills, self.spec.memory_bytes);
        match &outcome {
            Outcome::TimedOut { seconds, .. } => {
                log.say(&format!("ended: not done within {seconds} s"))
            }
            Outcome::Stopped { why } => log.say(&format!("stopped: {why}")),
            Outcome::OutOfMemory { limit_bytes } => {
                log.say(&format!("killed: more than {limit_bytes} bytes of memory"));
            }
            _ => {}
        }
        RunEnd {
            started: running.started,
            ended: clock::now(),
            outcome,
            log_bytes: log.finish(),
            usage,
        }
    }
}

/// A pipe whose reading end does not block.
fn pipe() -> Result<(File, File), StartError> {
    let make = || {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        Ok((reader.into(), writer.into()))
    };
    make().map_err(|errno: rustix::io::Errno| StartError::Pipe(errno.into()))
}

fn wait_for_event(running: &Running) -> Result<(), StartError> {
    let read = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let (now, output_at) = (monotonic(), running.output_at);
    let output = running.output.as_ref().map(AsFd::as_fd).filter(|_| output_at <= now);
    let exec = running.exec.as_ref().map(AsFd::as_fd);
    let mut fds: Vec<PollFd<'_>> =
        [Some(running.signals.as_fd()), output, exec].into_iter().flatten().map(read).collect();
    let output_at = running.output.is_some().then_some(output_at).filter(|at| *at > now);
    let next = [running.ending.next(), output_at].into_iter().flatten().min();
    let sleep = next.map_or(LONGEST_SLEEP, |at| at.saturating_sub(now));
    // Rounded up: asked again a moment too early, nothing would be due yet.
    let millis = sleep.min(LONGEST_SLEEP).as_millis() + 1;
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(StartError::Events(errno)),
    }
}

fn take_output(running: &mut Running, log: &mut Log) {
    let now = monotonic();
    let Some(output) = running.output.as_mut().filter(|_| running.output_at <= now) else { return };
    match log.pump(output) {
        Ok(Pumped::More(pause)) => running.output_at = now + pause,
        Ok(Pumped::Ended) | Err(_) => running.output = None,
    }
}

/// Lets every process of the payload stand still, and its timeout with it, or go on.
fn set_paused(running: &mut Running, log: &mut Log, paused: bool) {
    if !running.ending.pause(monotonic(), paused) {
        return;
    }
    if let Err(error) = cgroup::freezer::set(&running.group, paused) {
        log.say(&format!("{:#}", anyhow::Error::from(error)));
    }
}

fn kill_all(running: &Running, log: &mut Log) {
    if let Err(error) = running.group.kill() {
        log.say(&format!("{:#}", anyhow::Error::from(error)));
    }
}

/// Waits for every child that has ended; the status of the payload's first process if
/// it is among them.
fn reap(payload: Pid) -> Option<Status> {
    let mut found = None;
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == payload => {
                found = Some(Status::Exited(code))
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == payload => {
                found = Some(Status::Signaled(signal as i32));
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

/// The end of a container whose payload never was.
pub(super) fn failed(why: String, transient: bool) -> RunEnd {
    let outcome = Outcome::Failed { why, transient };
    RunEnd { started: None, ended: clock::now(), outcome, log_bytes: 0, usage: Usage::default() }
}

/// `PID START` of a process's `stat`: its name, field 2, is in parentheses and may hold anything.
pub(super) fn pid_and_start(stat: &str) -> Option<String> {
    let (pid, _) = stat.split_once(' ')?;
    let (_, after) = stat.rsplit_once(')')?;
    let start = after.split_whitespace().nth(19)?;
    Some(format!("{pid} {start}\n"))
}

fn monotonic() -> Duration {
    linux::clock::monotonic()
}
