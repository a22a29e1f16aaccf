//! The process in the container that a stream wants: it becomes one of the job's and then a
//! program, or does the little that is wanted itself, under the job's seccomp filter.
//! [`super::enter`] makes it and tells why that is safe.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, BufReader, BufWriter},
    mem::ManuallyDrop,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use api::stream::{Copied, StreamRequest, Terminal};
use copy_tree::{CopyError, Target, pack, unpack};
use linux::{
    LinuxError, namespace,
    process::{begin_session, close_all_but, hide, ignore_hang_ups, set_standard_streams},
    seccomp, terminal,
};
use rustix::pipe::{PipeFlags, pipe_with};

use super::{
    answer::{self, EnterReply},
    defence::Safeguard,
    passing,
    payload::{self, PayloadError},
    spec::ContainerSpec,
};

/// How long a port may take to answer. On a loopback it is at once, or nobody listens.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Exit status where the entered process itself failed, as shells have it for a program
/// that is not there.
const FAILED: i32 = 127;

/// Bytes that are read from or written to a pipe at once.
const PIPE_BYTES: usize = 64 << 10;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
enum EnteredError {
    #[error(transparent)]
    Step(#[from] LinuxError),
    #[error(transparent)]
    Program(#[from] PayloadError),
    #[error("cannot make a pipe")]
    Pipe(#[source] io::Error),
    #[error("cannot tell the agent")]
    Tell(#[source] io::Error),
    #[error("nothing in the job listens on port {port} of 127.0.0.1 or ::1")]
    Connect {
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("a container is not entered for this")]
    Nothing,
}

/// Lives as the entered process. What its maker had open is closed in here: nothing
/// of it is dropped.
pub(super) fn run_entered(
    spec: &ContainerSpec,
    request: &StreamRequest,
    system_calls: &seccomp::Filter,
    answers: BorrowedFd<'_>,
) -> ! {
    let answers = match close_all_for(answers) {
        Ok(answers) => answers,
        Err(error) => {
            answer::fail(answers, format!("{:#}", anyhow::Error::from(error)));
            std::process::exit(FAILED)
        }
    };
    let entered = Entered { spec, system_calls, answers };
    let done =
        drop_to_job_context(spec).map_err(EnteredError::Step).and_then(|()| entered.act(request));
    let code = match done {
        Ok(()) => 0,
        Err(error) => {
            answer::fail(entered.answers.as_fd(), format!("{:#}", anyhow::Error::from(error)));
            FAILED
        }
    };
    std::process::exit(code)
}

/// Nothing of the node stays open but the answers.
fn close_all_for(answers: BorrowedFd<'_>) -> Result<OwnedFd, LinuxError> {
    begin_session()?;
    let null =
        File::open("/dev/null").map_err(|errno| LinuxError::new("open", "/dev/null", errno))?;
    // Closed with all others.
    let null = ManuallyDrop::new(null);
    set_standard_streams(null.as_fd(), null.as_fd(), null.as_fd())?;
    close_all_but(answers)
}

fn drop_to_job_context(spec: &ContainerSpec) -> Result<(), LinuxError> {
    namespace::enter_own_cgroup_root()?;
    payload::drop_to_job_context(spec)?;
    // The change of user has set it to what the node has for programs with other rights
    // (`fs.suid_dumpable`).
    hide()
}

struct Entered<'a> {
    spec: &'a ContainerSpec,
    system_calls: &'a seccomp::Filter,
    answers: OwnedFd,
}

impl Entered<'_> {
    fn act(&self, request: &StreamRequest) -> Result<(), EnteredError> {
        match request {
            StreamRequest::Exec { command, terminal, input } => {
                let Err(error) = self.execute(command, terminal.as_ref(), *input);
                Err(error)
            }
            StreamRequest::Port { port } => self.connect(*port),
            StreamRequest::CopyOut { path } => {
                let (reader, writer) = self.begin_copy()?;
                self.begin(&[reader.as_fd()])?;
                drop(reader);
                let writer = BufWriter::with_capacity(PIPE_BYTES, File::from(writer));
                self.copied(pack(Path::new(path), writer)?)
            }
            StreamRequest::CopyIn { path, name } => {
                let place = Target::of(Path::new(path), name)?;
                let (reader, writer) = self.begin_copy()?;
                self.begin(&[writer.as_fd()])?;
                drop(writer);
                let reader = BufReader::with_capacity(PIPE_BYTES, File::from(reader));
                self.copied(unpack(reader, &place)?)
            }
            StreamRequest::Attach { .. } | StreamRequest::Unknown => Err(EnteredError::Nothing),
        }
    }

    /// Hands the agent its ends.
    fn begin(&self, ends: &[BorrowedFd<'_>]) -> Result<(), EnteredError> {
        let message = serde_json::to_vec(&EnterReply::Began {})
            .map_err(|error| EnteredError::Tell(error.into()))?;
        passing::send(&self.answers, &message, ends).map_err(EnteredError::Tell)
    }

    fn execute(
        &self,
        command: &[String],
        terminal: Option<&Terminal>,
        input: bool,
    ) -> Result<Infallible, EnteredError> {
        let mut env = self.spec.env.clone();
        match terminal {
            Some(Terminal { name, size }) => {
                // As the user, whose terminal it is then.
                let (master, slave) = terminal::open(Path::new("/dev/pts/ptmx"))?;
                terminal::resize(master.as_fd(), size.rows, size.columns)?;
                self.begin(&[master.as_fd()])?;
                terminal::control(slave.as_fd())?;
                set_standard_streams(slave.as_fd(), slave.as_fd(), slave.as_fd())?;
                env.push(format!("TERM={name}"));
            }
            None => {
                let (stdin, to_stdin) = pipe()?;
                let (from_stdout, stdout) = pipe()?;
                let (from_stderr, stderr) = pipe()?;
                let ends = [to_stdin.as_fd(), from_stdout.as_fd(), from_stderr.as_fd()];
                self.begin(if input { &ends } else { &ends[1..] })?;
                // Without input it is the container's /dev/null by now.
                let empty = io::stdin();
                let stdin = if input { stdin.as_fd() } else { empty.as_fd() };
                set_standard_streams(stdin, stdout.as_fd(), stderr.as_fd())?;
            }
        }
        Ok(payload::execute(self.spec, command, &env, self.system_calls)?)
    }

    fn connect(&self, port: u16) -> Result<(), EnteredError> {
        self.filter()?;
        let connect = |address: IpAddr| {
            TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT_DEADLINE)
        };
        let socket = connect(Ipv4Addr::LOCALHOST.into())
            .or_else(|error| connect(Ipv6Addr::LOCALHOST.into()).map_err(|_| error))
            .map_err(|source| EnteredError::Connect { port, source })?;
        self.begin(&[socket.as_fd()])
    }

    /// A pipe for a copy; from here on this process may do what the job may.
    fn begin_copy(&self) -> Result<(OwnedFd, OwnedFd), EnteredError> {
        // Half a file is removed when the stream breaks off: that takes a process which
        // is still there.
        ignore_hang_ups()?;
        self.filter()?;
        pipe()
    }

    fn filter(&self) -> Result<(), LinuxError> {
        if self.spec.keeps(Safeguard::SystemCalls) { self.system_calls.install() } else { Ok(()) }
    }

    fn copied(&self, copied: Copied) -> Result<(), EnteredError> {
        answer::answer(self.answers.as_fd(), &EnterReply::Copied { copied });
        Ok(())
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), EnteredError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| EnteredError::Pipe(errno.into()))
}
