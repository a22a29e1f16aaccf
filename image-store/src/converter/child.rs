//! The converter itself: what the program does when the server has started it again as
//! `image-converter`.

use std::{
    fs::File,
    io::{self, BufWriter, Read as _, Write},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    jail::{self, JailError},
    protocol::{self, Message, RefusalKind, Request, SentKernel, Work},
};
use crate::{
    budget::Budget,
    build::BuildError,
    convert::{Artifacts, BuiltKernel, Image, convert_image, convert_job_root, convert_stage1},
    layer::{LayerError, LayerFile},
    progress::Progress,
    squashfs::{SquashfsError, Tar2sqfs},
};

/// Largest substrate program that is taken, bytes. One that was not optimized has 23 MB.
const MAX_SUBSTRATE_BYTES: u64 = 128 << 20;

/// Progress is told when so many thousandths of a part are done, so that a part says it a
/// thousand times at most.
const PROGRESS_STEPS: u64 = 1000;

/// What is told of an error or a warning, bytes, and how many warnings.
const MAX_TEXT_BYTES: usize = 4096;
const MAX_WARNINGS: usize = 200;

/// Why the converter ends without a word to the server.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("no request came from the server; `image-converter` is started by the server alone")]
    Request(#[source] io::Error),
    #[error("a request lacks a descriptor")]
    Descriptors,
    #[error(
        "the substrate program has more than {} MiB; set boot.substrate to the one that ships",
        MAX_SUBSTRATE_BYTES >> 20
    )]
    Substrate,
    #[error(transparent)]
    Jail(#[from] JailError),
    #[error("the server does not listen any more")]
    Output(#[source] io::Error),
}

/// Runs the converter: standard input and output are the server's. `probe` is what a test wants to
/// see done inside of the jail, by name, and what is told as warnings; a program that ships passes
/// one that does nothing.
#[must_use]
pub fn main(probe: impl FnOnce(&str) -> Vec<String>) -> ExitCode {
    match run(probe) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the server's log of this process.
            let _ = writeln!(io::stderr(), "{}", causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// What the converter works with.
struct Task {
    request: Request,
    layers: Vec<LayerFile>,
    root: Option<OwnedFd>,
    substrate: Vec<u8>,
}

fn run(probe: impl FnOnce(&str) -> Vec<String>) -> Result<(), ChildError> {
    jail::belong_to_parent()?;
    let task = receive().map_err(ChildError::Request)?.ok_or(ChildError::Descriptors)?;
    if task.substrate.len() as u64 > MAX_SUBSTRATE_BYTES {
        return Err(ChildError::Substrate);
    }
    let missing = jail::enter(task.root.as_ref(), task.request.output_bytes)?;
    let root = task.root.as_ref().map(start_tar2sqfs);
    jail::shut()?;
    let out = Out::default();
    out.say(&Message::Jailed { missing }).map_err(ChildError::Output)?;
    let probed = task.request.probe.as_deref().map(probe).unwrap_or_default();
    let last = match root
        .transpose()
        .map_err(BuildError::from)
        .and_then(|root| convert(&task, root, &out))
    {
        Ok((kernels, mut warnings)) => {
            warnings.extend(probed);
            let warnings = warnings.iter().take(MAX_WARNINGS).map(|text| plain(text)).collect();
            Message::Done { kernels, warnings }
        }
        Err(error) => Message::Failed { kind: kind_of(&error), message: plain(&causes(&error)) },
    };
    out.say(&last).map_err(ChildError::Output)
}

/// Takes the request and its descriptors; `None` if there are too few of them.
fn receive() -> io::Result<Option<Task>> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (request, descriptors) = protocol::receive_request(&socket)?;
    // Nothing more is read, and what is not open needs no guard.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let mut descriptors = descriptors.into_iter();
    let mut layers = Vec::with_capacity(request.layers.len());
    for layer in &request.layers {
        let Some(file) = descriptors.next() else { return Ok(None) };
        layers.push(LayerFile { layer: layer.clone(), file: Arc::new(File::from(file)) });
    }
    let mut root = None;
    if request.work.has_root() {
        root = descriptors.next();
        let Some(root) = &root else { return Ok(None) };
        // tar2sqfs finds it under its number.
        rustix::io::fcntl_setfd(root, rustix::io::FdFlags::empty())?;
    }
    let mut substrate = Vec::new();
    if request.work.has_substrate() {
        let Some(file) = descriptors.next() else { return Ok(None) };
        let file = File::from(file);
        let most = MAX_SUBSTRATE_BYTES + 1;
        // Room for a byte more, so that its end is seen without growing.
        let size = file.metadata()?.len().saturating_add(1).min(most);
        substrate.reserve_exact(usize::try_from(size).unwrap_or(0));
        file.take(most).read_to_end(&mut substrate)?;
    }
    Ok(Some(Task { request, layers, root, substrate }))
}

fn start_tar2sqfs(root: &OwnedFd) -> Result<Tar2sqfs, SquashfsError> {
    Tar2sqfs::start(&PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd())))
}

fn convert(
    task: &Task,
    root: Option<Tar2sqfs>,
    out: &Out,
) -> Result<(Vec<SentKernel>, Vec<String>), BuildError> {
    let image = Image {
        layers: &task.layers,
        substrate: &task.substrate,
        budget: Arc::new(Budget::default()),
        progress: out,
    };
    let mut artifacts = Sent { out, count: 0 };
    let (kernels, warnings) = match (task.request.work, root) {
        (Work::Image, Some(root)) => convert_image(&image, root, &mut artifacts)?,
        (Work::JobRoot, Some(root)) => {
            convert_job_root(&image, root)?;
            (Vec::new(), Vec::new())
        }
        (Work::Stage1 | Work::Image | Work::JobRoot, _) => {
            (convert_stage1(&image, &mut artifacts)?, Vec::new())
        }
    };
    let sent = |BuiltKernel { release, kernel, stage1, stage1_unpacked }| SentKernel {
        release,
        kernel,
        stage1,
        stage1_unpacked,
    };
    Ok((kernels.into_iter().map(sent).collect(), warnings))
}

/// The pipe to the server. Threads share it.
#[derive(Debug)]
struct Out {
    pipe: Mutex<BufWriter<io::Stdout>>,
    /// What was told last: total and thousandths in one number, so that no lock is taken for it.
    told: AtomicU64,
}

impl Default for Out {
    fn default() -> Self {
        let pipe = Mutex::new(BufWriter::with_capacity(1 << 16, io::stdout()));
        Self { pipe, told: AtomicU64::new(u64::MAX) }
    }
}

impl Out {
    fn say(&self, message: &Message) -> io::Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        protocol::write_message(&mut *pipe, message)
    }

    fn data(&self, bytes: &[u8]) -> io::Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        protocol::write_data(&mut *pipe, bytes)
    }
}

impl Progress for Out {
    fn advance(&self, label: &str, done: u64, total: u64) {
        let thousandths = done.saturating_mul(PROGRESS_STEPS).checked_div(total).unwrap_or(0);
        let now = total.wrapping_mul(2 * PROGRESS_STEPS).wrapping_add(thousandths);
        if self.told.swap(now, Ordering::Relaxed) != now {
            // A server that is gone ends this process; there is nobody to tell.
            let _ = self.say(&Message::Progress { label: label.to_owned(), done, total });
        }
    }
}

/// Artifacts over the pipe, known by their number.
struct Sent<'a> {
    out: &'a Out,
    count: usize,
}

impl Artifacts for Sent<'_> {
    type Artifact = usize;

    fn put(
        &mut self,
        format: &'static str,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<usize, BuildError> {
        let mut send = || {
            self.out.say(&Message::Artifact { format: format.to_owned() })?;
            let mut data = BufWriter::with_capacity(1 << 18, DataFrames(self.out));
            write(&mut data)?;
            data.flush()?;
            self.out.say(&Message::ArtifactEnd)
        };
        send().map_err(BuildError::Write)?;
        self.count += 1;
        Ok(self.count - 1)
    }
}

/// Writes bytes as frames.
struct DataFrames<'a>(&'a Out);

impl Write for DataFrames<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.data(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn kind_of(error: &BuildError) -> RefusalKind {
    if is_of_machine(error) {
        return RefusalKind::Machine;
    }
    match error {
        BuildError::Squashfs(
            SquashfsError::Start(_) | SquashfsError::Failed { .. } | SquashfsError::Pipe(_),
        ) => RefusalKind::Writer,
        BuildError::Write(_) | BuildError::Layer(LayerError::Store(_)) => RefusalKind::Machine,
        _ => RefusalKind::Image,
    }
}

/// Whether the machine lacks memory, room or descriptors, as errnos tell (`errno(3)`).
fn is_of_machine(error: &BuildError) -> bool {
    use rustix::io::Errno;
    let lacking = [Errno::NOMEM, Errno::NOSPC, Errno::DQUOT, Errno::NFILE, Errno::AGAIN, Errno::IO];
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if errno.is_some_and(|errno| lacking.iter().any(|lacking| lacking.raw_os_error() == errno))
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error with its sources.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Text for terminals and logs: what an image calls its files may hold anything.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::new();
    for shown in text.chars().map(|one| if one.is_control() { '\u{fffd}' } else { one }) {
        if plain.len() + shown.len_utf8() > MAX_TEXT_BYTES {
            plain.push('…');
            break;
        }
        plain.push(shown);
    }
    plain
}
