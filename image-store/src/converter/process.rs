//! The converter as the server sees it: started, heard, ended. What it says is bounded in bytes, in
//! messages and in the time between them.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use api::image::{Artifact, KernelArtifact};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{
        Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid,
    },
};

use super::{
    Program,
    child::plain,
    error::ConvertError,
    jail::{MAX_CPU_SECONDS, MAX_MEMORY_BYTES},
    protocol::{self, Frame, Frames, Message, RefusalKind, Request, SentKernel},
};
use crate::{
    progress::Progress,
    store::{RESERVED_BYTES, Store, Temporary},
};

/// How long the server listens before it looks whether the work is still wanted.
const TICK: Duration = Duration::from_millis(100);

/// Ticks without a word after which the converter is ended: half an hour. It says nothing while it
/// reads one layer, and 64 GiB take ten minutes on a slow disk.
const MAX_SILENT_TICKS: u32 = 18_000;

/// Longest conversion: it may say something for ever, and wait.
const MAX_TIME: Duration = Duration::from_secs(6 * 3600);

/// Ticks between the end of its output and its own end: five seconds.
const MAX_END_TICKS: u32 = 50;

/// How often it is looked whether what it started is gone after it was killed, and how long
/// between: five seconds. A process may have to wait for a disk first.
const MAX_GROUP_LOOKS: u32 = 500;
const GROUP_LOOK: Duration = Duration::from_millis(10);

/// Most messages. Each part of the work tells its progress a thousand times at most; of artifacts,
/// each frame counts, and a large one once for each [`COUNTED_BYTES`].
const MAX_MESSAGES: u32 = 100_000;

/// Bytes of an artifact that count as one message. A converter sends about so many at once.
const COUNTED_BYTES: u64 = 256 << 10;

/// After how many bytes of artifacts it is looked whether the disk has room for more.
const LOOK_BYTES: u64 = 1 << 20;

/// Most artifacts, two for each kernel, and most bytes of them together.
const MAX_ARTIFACTS: usize = 256;
const MAX_ARTIFACT_BYTES: u64 = 2 << 30;

/// Warnings that are taken.
const MAX_WARNINGS: usize = 200;

/// Longest release of a kernel, bytes: the longest name of a directory.
const MAX_RELEASE_BYTES: usize = 255;

/// What is kept of its messages to people, bytes: its last words name the reason.
const MAX_LAST_WORDS_BYTES: u64 = 16 << 10;

/// What Rust's runtime says when an allocation fails.
const NO_MEMORY: &str = "memory allocation of";

/// How a conversion ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConversionEnd {
    Done,
    /// It says that the image cannot be taken.
    Failed {
        kind: RefusalKind,
        message: String,
    },
    Cancelled,
    /// Killed, and not by us.
    Killed,
    Crashed {
        cause: String,
    },
}

/// What is heard of the converter.
pub(super) struct FrameHandler<'a> {
    store: &'a Store,
    progress: &'a dyn Progress,
    missing: Vec<String>,
    /// Its jail is shut: what happens from here on may be the image's doing.
    is_jailed: bool,
    messages: u32,
    bytes: u64,
    artifacts: Vec<Artifact>,
    /// The artifact that is coming.
    coming: Option<(String, Temporary)>,
    kernels: Vec<KernelArtifact>,
    warnings: Vec<String>,
}

/// What a frame means for the conversation.
enum FrameOutcome {
    Enough(ConversionEnd),
    More,
    /// No converter says so.
    Nonsense(&'static str),
}

impl<'a> FrameHandler<'a> {
    pub(super) fn new(store: &'a Store, progress: &'a dyn Progress) -> Self {
        Self {
            store,
            progress,
            missing: Vec::new(),
            is_jailed: false,
            messages: 0,
            bytes: 0,
            artifacts: Vec::new(),
            coming: None,
            kernels: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// What this kernel lacks for the jail.
    pub(super) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Kernels and warnings.
    pub(super) fn into_parts(self) -> (Vec<KernelArtifact>, Vec<String>) {
        (self.kernels, self.warnings)
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<FrameOutcome, ConvertError> {
        self.messages += 1;
        if self.messages > MAX_MESSAGES {
            return Ok(FrameOutcome::Nonsense("it talks without end"));
        }
        match frame {
            Frame::Data(bytes) => return self.data(&bytes),
            Frame::Message(Message::Jailed { missing }) => {
                self.is_jailed = true;
                self.missing = missing.iter().take(8).map(|text| plain(text)).collect();
            }
            Frame::Message(Message::Progress { label, done, total }) => {
                // Only what it is known to do reaches the bars.
                if ["reading layers", "squashfs", "stage 1"].contains(&label.as_str()) {
                    self.progress.advance(&label, done.min(total), total);
                }
            }
            Frame::Message(Message::Artifact { format }) => {
                let is_known = ["vmlinuz", "initramfs"].contains(&format.as_str());
                if self.coming.is_some() || !is_known || self.artifacts.len() >= MAX_ARTIFACTS {
                    return Ok(FrameOutcome::Nonsense("an artifact came that nobody waits for"));
                }
                self.coming = Some((format, self.store.temporary()?));
            }
            Frame::Message(Message::ArtifactEnd) => {
                let Some((format, temporary)) = self.coming.take() else {
                    return Ok(FrameOutcome::Nonsense("an artifact ended that never began"));
                };
                let (digest, size) = self.store.adopt(temporary)?;
                self.artifacts.push(Artifact { format, digest, size });
            }
            Frame::Message(Message::Done { kernels, warnings }) => {
                return Ok(self.done(kernels, &warnings));
            }
            Frame::Message(Message::Failed { kind, message }) => {
                return Ok(FrameOutcome::Enough(ConversionEnd::Failed {
                    kind,
                    message: plain(&message),
                }));
            }
        }
        Ok(FrameOutcome::More)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<FrameOutcome, ConvertError> {
        let (before, length) = (self.bytes, bytes.len() as u64);
        self.bytes += length;
        // The frame itself is counted already.
        let more = length.div_ceil(COUNTED_BYTES).saturating_sub(1);
        self.messages = self.messages.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        let Some((_, temporary)) = &self.coming else {
            return Ok(FrameOutcome::Nonsense("bytes came that belong to nothing"));
        };
        if bytes.is_empty() || self.bytes > MAX_ARTIFACT_BYTES {
            return Ok(FrameOutcome::Nonsense("its artifacts are too large"));
        }
        // What is left belongs to the database.
        if before / LOOK_BYTES != self.bytes / LOOK_BYTES && self.store.is_full() {
            return Err(self.store.no_space(RESERVED_BYTES + LOOK_BYTES).into());
        }
        temporary.file().write_all(bytes).map_err(|error| {
            self.store.write_failed("write stage 1 to", temporary.path(), 0, error)
        })?;
        Ok(FrameOutcome::More)
    }

    fn done(&mut self, kernels: Vec<SentKernel>, warnings: &[String]) -> FrameOutcome {
        for SentKernel { release, kernel, stage1, stage1_unpacked } in kernels {
            let is_release = (1..=MAX_RELEASE_BYTES).contains(&release.len())
                && !release.chars().any(|one| one.is_control() || one == '/');
            let artifact = |number: usize, format: &str| {
                self.artifacts.get(number).filter(|artifact| artifact.format == format).cloned()
            };
            let (Some(kernel), Some(stage1), true) =
                (artifact(kernel, "vmlinuz"), artifact(stage1, "initramfs"), is_release)
            else {
                return FrameOutcome::Nonsense("it names a kernel that it did not send");
            };
            let stage1_unpacked = Some(stage1_unpacked);
            self.kernels.push(KernelArtifact { release, kernel, stage1, stage1_unpacked });
        }
        self.warnings = warnings.iter().take(MAX_WARNINGS).map(|text| plain(text)).collect();
        FrameOutcome::Enough(ConversionEnd::Done)
    }
}

/// Starts the converter, hands it its request, hears it to its end, and leaves no process behind,
/// however it comes to that.
///
/// # Errors
/// It cannot be started; an artifact cannot be stored.
pub(super) fn converse(
    program: &Program,
    request: &Request,
    descriptors: &[BorrowedFd<'_>],
    handler: &mut FrameHandler<'_>,
) -> Result<ConversionEnd, ConvertError> {
    let (mut process, socket) = Process::start(program).map_err(ConvertError::Start)?;
    // If it is gone already, its end says why.
    let sent = protocol::send_request(&socket, request, descriptors);
    drop(socket);
    if let Some(end) = process.listen(handler)? {
        // What it wrote is hashed next: nobody may write into it any more.
        return Ok(match end {
            ConversionEnd::Done if !process.end() => ConversionEnd::Crashed {
                cause: "it left a process behind that does not end".to_owned(),
            },
            end => end,
        });
    }
    match process.end_of_itself() {
        // It has not looked at the image yet.
        ConversionEnd::Crashed { cause } if !handler.is_jailed => {
            Err(ConvertError::Start(sent.err().unwrap_or_else(|| io::Error::other(cause))))
        }
        end => Ok(end),
    }
}

/// The process; killed with all that it started when this is dropped.
struct Process {
    child: Child,
    output: OwnedFd,
    last_words: Option<JoinHandle<Vec<u8>>>,
    /// It was ended, and whether what it started is gone.
    is_gone: Option<bool>,
    /// How it ended.
    status: Option<ExitStatus>,
}

impl Process {
    fn start(program: &Program) -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let (output, their_output) = io::pipe()?;
        // The number is the same in the new process until it becomes the program, and the file is
        // the one that was opened, whatever has its name now (proc_pid_fd(5)).
        let path = format!("/proc/self/fd/{}", program.file.as_raw_fd());
        #[expect(clippy::disallowed_methods, reason = "this file is the home of the converter")]
        let mut command = Command::new(path);
        command
            .arg0("bedplate")
            .args(&program.arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            // What glibc's arenas have left over counts as the converter's memory, and each thread
            // would have one of its own.
            .env("MALLOC_ARENA_MAX", "2")
            .current_dir("/")
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(OwnedFd::from(their_output))
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // With the command go our copies of its ends of the pipes.
        drop(command);
        let last_words =
            child.stderr.take().map(|stderr| thread::spawn(move || last_words(stderr)));
        Ok((Self { child, output: output.into(), last_words, is_gone: None, status: None }, ours))
    }

    /// Hears it until there is nothing more to hear; `None` if it fell silent for good
    /// without a result.
    fn listen(
        &mut self,
        handler: &mut FrameHandler<'_>,
    ) -> Result<Option<ConversionEnd>, ConvertError> {
        let mut frames = Frames::default();
        let mut buffer = vec![0; 1 << 16];
        let mut silent = 0;
        let crashed = |cause: String| Ok(Some(ConversionEnd::Crashed { cause }));
        #[expect(clippy::disallowed_methods, reason = "this file is the home of the converter")]
        let began = Instant::now();
        loop {
            if began.elapsed() > MAX_TIME {
                return crashed("it took more than six hours".to_owned());
            }
            if handler.progress.cancelled() {
                return Ok(Some(ConversionEnd::Cancelled));
            }
            let count = match self.read(&mut buffer).map_err(ConvertError::Start)? {
                Some(0) => return Ok(None),
                Some(count) => count,
                None if silent >= MAX_SILENT_TICKS => {
                    return crashed("it said nothing for half an hour".to_owned());
                }
                None => {
                    silent += 1;
                    continue;
                }
            };
            silent = 0;
            frames.push(&buffer[..count]);
            loop {
                match frames.next() {
                    Ok(None) => break,
                    Err(error) => {
                        return crashed(format!("it says what no converter says: {error}"));
                    }
                    Ok(Some(frame)) => match handler.handle_frame(frame)? {
                        FrameOutcome::More => {}
                        FrameOutcome::Enough(end) => return Ok(Some(end)),
                        FrameOutcome::Nonsense(problem) => return crashed(problem.to_owned()),
                    },
                }
            }
        }
    }

    /// Bytes of its output, 0 at the end; `None` if there were none for a [`TICK`].
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        let mut waited = [PollFd::new(&self.output, PollFlags::IN)];
        match poll(&mut waited, Some(&tick)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(None),
            Ok(_) => Ok(Some(rustix::io::retry_on_intr(|| {
                rustix::io::read(self.output.as_fd(), &mut *buffer)
            })?)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Why it ended without a result.
    fn end_of_itself(&mut self) -> ConversionEnd {
        let has_ended = (0..MAX_END_TICKS).any(|_| {
            let has_ended = self.has_ended();
            if !has_ended {
                thread::sleep(TICK);
            }
            has_ended
        });
        self.end();
        let said = self.last_words.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let said = plain(String::from_utf8_lossy(&said).trim());
        match self.status.filter(|_| has_ended) {
            None => {
                ConversionEnd::Crashed { cause: "it closed its output and did not end".to_owned() }
            }
            Some(status) if status.signal() == Some(Signal::KILL.as_raw()) => ConversionEnd::Killed,
            Some(status) => ConversionEnd::Crashed { cause: cause(status, &said) },
        }
    }

    /// Its number, which is that of its process group too.
    fn group(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Whether it has ended. It is not waited for, so that its number stays its own.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.group().is_some_and(|pid| matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_))))
    }

    /// Kills it and what it started, and waits until all of it is gone. `false`:
    /// something does not end.
    fn end(&mut self) -> bool {
        if let Some(is_gone) = self.is_gone {
            return is_gone;
        }
        let group = self.group();
        if let Some(group) = group {
            // Nobody is left in it: that is all that is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
        self.status = self.child.wait().ok();
        // The kernel gives the number to nobody else while somebody is in the group.
        let is_gone = group.is_none_or(|group| {
            (0..MAX_GROUP_LOOKS).any(|_| {
                let is_gone = test_kill_process_group(group).is_err() || !has_living(group);
                if !is_gone {
                    thread::sleep(GROUP_LOOK);
                }
                is_gone
            })
        });
        self.is_gone = Some(is_gone);
        is_gone
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether a process of the group lives, threads of it among them. What has ended is in its
/// group until its parent waits for it, and the parent of what the converter left is one that
/// may take its time.
fn has_living(group: Pid) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    processes.flatten().any(|process| {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // proc_pid_stat(5): behind the name, which may hold anything, state, parent, group; then
        // the 18th, how many threads there are.
        let facts: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, facts)| facts.split_whitespace().collect())
            .unwrap_or_default();
        let [state, _, of, ..] = facts.as_slice() else { return false };
        let threads = facts.get(17).and_then(|threads| threads.parse().ok()).unwrap_or(0_u32);
        let is_dead = ["Z", "X"].contains(state) && threads <= 1;
        !is_dead && of.parse::<i32>() == Ok(group.as_raw_pid())
    })
}

/// How it ended, in words.
fn cause(status: ExitStatus, said: &str) -> String {
    let signal = |signal: Signal| status.signal() == Some(signal.as_raw());
    if signal(Signal::XCPU) {
        return format!("it took more than {MAX_CPU_SECONDS} s of processor time");
    }
    if signal(Signal::ABORT) && said.contains(NO_MEMORY) {
        return format!("it wanted more than {} MiB of memory", MAX_MEMORY_BYTES >> 20);
    }
    if signal(Signal::SYS) {
        return "it made a system call that is forbidden to it".to_owned();
    }
    if said.is_empty() { status.to_string() } else { format!("{status}: {said}") }
}

fn last_words(stderr: ChildStderr) -> Vec<u8> {
    let mut stderr = stderr;
    let mut words = Vec::new();
    let _ = (&mut stderr).take(MAX_LAST_WORDS_BYTES).read_to_end(&mut words);
    // What comes after is read so that it does not wait for us, and dropped.
    let _ = io::copy(&mut stderr, &mut io::sink());
    words
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::progress::NoProgress;

    #[test]
    fn what_a_converter_started_is_gone_when_it_was_ended() {
        let file = File::open("/bin/sh").unwrap();
        let arguments = vec!["-c".into(), "sleep 600 & echo; exec sleep 600".into()];
        let (mut process, _socket) = Process::start(&Program { file, arguments }).unwrap();
        // Once it says something, it has started another.
        while process.read(&mut [0; 8]).unwrap().is_none() {}
        let group = process.group().unwrap();
        assert!(!process.has_ended() && has_living(group));
        assert!(process.end());
        assert!(!has_living(group));
        assert_eq!(process.status.unwrap().signal(), Some(Signal::KILL.as_raw()));
    }

    #[test]
    fn bytes_of_artifacts_count_as_messages() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut handler = FrameHandler::new(&store, &NoProgress);
        let mut handle_frame = |frame| {
            assert!(matches!(handler.handle_frame(frame), Ok(FrameOutcome::More)));
            handler.messages
        };
        assert_eq!(
            handle_frame(Frame::Message(Message::Artifact { format: "vmlinuz".to_owned() })),
            1
        );
        assert_eq!(handle_frame(Frame::Data(vec![0; 1 << 20])), 5);
        assert_eq!(handle_frame(Frame::Data(vec![0])), 6);
        handler.messages = MAX_MESSAGES;
        assert!(matches!(
            handler.handle_frame(Frame::Data(vec![0])),
            Ok(FrameOutcome::Nonsense("it talks without end"))
        ));
    }
}
