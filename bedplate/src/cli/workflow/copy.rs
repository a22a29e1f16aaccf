//! `workflow cp`: files and directories out of a running job, and into it.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;
use api::{
    image::Bar,
    stream::{Channel, Copied, MAX_DATA_BYTES, StreamRequest},
};
use clap::Args;
use clap_complete::ArgValueCompleter;
use client::{Client, Line, StreamOf};
use copy_tree::{CopyError, Target, pack, size_of, unpack};
use tokio::sync::mpsc;

use super::{
    super::{
        complete,
        context::Session,
        error::Usage,
        operation::{LEFT, progress::Progress},
        output::print_note,
        words::{count, size},
    },
    stream::{Last, Local, carry},
};

/// Pieces that wait between files and line.
const MAX_PIECES: usize = 8;

/// How often the progress is drawn.
const TICK: Duration = Duration::from_millis(200);

/// Copy files and directories out of a running job, or into it.
#[derive(Debug, Args)]
#[command(
    after_help = "One of the two is in a job: WORKFLOW:/PATH, or WORKFLOW:JOB:/PATH where the workflow has several. As with `cp -r`: into a
directory that is there, else to the new name. The image needs no tar. Links that lead out of what is copied, and what is neither
file, directory nor link, are left out and told.

Examples:
  bedplate workflow cp train:/work/model.pt .
  bedplate workflow cp render:frames:/out frames --task 7
  bedplate workflow cp data train:/work"
)]
pub(in super::super) struct Copy {
    /// What is copied.
    #[arg(add = ArgValueCompleter::new(complete::places))]
    from: String,
    /// Where to.
    #[arg(add = ArgValueCompleter::new(complete::places))]
    to: String,
    /// Task of an array, by its number [default: the first that runs].
    #[arg(long, value_name = "N")]
    task: Option<u32>,
    /// Member of the task's attempt, where it has several, from 0 [default: 0].
    #[arg(long, value_name = "N")]
    member: Option<u32>,
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum CopyEndpoint {
    Here(PathBuf),
    Job { workflow: String, job: Option<String>, path: String },
}

impl CopyEndpoint {
    /// What has `:/` in it lies in a job, unless it begins as a path does.
    fn parse(text: &str) -> Self {
        let here = || Self::Here(PathBuf::from(text));
        if text.starts_with(['/', '.']) {
            return here();
        }
        let Some((job, path)) = text.split_once(":/") else { return here() };
        let (workflow, job) = match job.split_once(':') {
            Some((workflow, job)) => (workflow, Some(job.to_owned())),
            None => (job, None),
        };
        Self::Job { workflow: workflow.to_owned(), job, path: format!("/{path}") }
    }
}

pub(super) async fn run(
    session: &Session,
    client: &Client,
    copy: &Copy,
) -> anyhow::Result<ExitCode> {
    let (task, member) = (copy.task, copy.member);
    let of = |workflow, job| StreamOf { workflow, job, task, member };
    let copied = match (CopyEndpoint::parse(&copy.from), CopyEndpoint::parse(&copy.to)) {
        (CopyEndpoint::Job { workflow, job, path }, CopyEndpoint::Here(to)) => {
            out(client, &of(workflow, job), path, &to).await?
        }
        (CopyEndpoint::Here(from), CopyEndpoint::Job { workflow, job, path }) => {
            into(client, &of(workflow, job), &from, path).await?
        }
        (CopyEndpoint::Here(_), CopyEndpoint::Here(_)) => {
            let why = "neither end is in a job: write WORKFLOW:/PATH or WORKFLOW:JOB:/PATH for one of them";
            return Err(Usage(why.to_owned()).into());
        }
        (CopyEndpoint::Job { .. }, CopyEndpoint::Job { .. }) => {
            let why =
                "both ends are in jobs: copy to this machine first, and from here to the other job";
            return Err(Usage(why.to_owned()).into());
        }
    };
    let Some(copied) = copied else {
        print_note("left before the end; what was whole is there");
        return Ok(LEFT.into());
    };
    for line in &copied.left_out {
        print_note(&format!("left out {line}"));
    }
    let more = copied.left_out_count.saturating_sub(copied.left_out.len() as u64);
    if more > 0 {
        print_note(&format!("left out {more} more"));
    }
    let entries = usize::try_from(copied.entries).unwrap_or(usize::MAX);
    session.out.show(&copied, |_| {
        let things = if entries == 1 { "1 entry".to_owned() } else { count(entries, "entrie") };
        format!("{things}, {}\n", size(copied.bytes))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Bytes that went through, and the thread that reads or writes the files.
struct Files {
    done: Arc<AtomicU64>,
    work: JoinHandle<Result<Copied, CopyError>>,
}

/// From a job to here; `None` if the person left.
async fn out(
    client: &Client,
    of: &StreamOf,
    path: String,
    to: &Path,
) -> anyhow::Result<Option<Copied>> {
    let name = Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned());
    // Before anybody is asked: no place, no copy.
    let place = Target::of(to, name.as_deref().unwrap_or_default())?;
    let line = client.open_stream(of, &StreamRequest::CopyOut { path: path.clone() }).await?;
    let (output, pieces) = mpsc::unbounded_channel();
    let (told, taken) = mpsc::unbounded_channel();
    let done = Arc::new(AtomicU64::new(0));
    let pieces = Pieces { pieces, told, rest: bytes::Bytes::new(), done: done.clone() };
    let work = std::thread::spawn(move || unpack(pieces, &place));
    let local = Local { input: None, output: Some(output), taken, words: None };
    // What is left out is known to both ends, of different things.
    let carried = watch(line, local, &path, 0, Files { done, work }).await?;
    Ok(carried.map(|(there, here)| {
        let mut left_out = there.left_out;
        left_out.extend(here.left_out);
        let left_out_count = there.left_out_count + here.left_out_count;
        Copied { left_out, left_out_count, ..here }
    }))
}

/// From here into a job; `None` if the person left.
async fn into(
    client: &Client,
    of: &StreamOf,
    from: &Path,
    path: String,
) -> anyhow::Result<Option<Copied>> {
    let whole = from.canonicalize().with_context(|| format!("cannot copy {}", from.display()))?;
    // A link at the top is followed and keeps its name; `.` has the directory's.
    let name =
        from.file_name().or(whole.file_name()).map(|name| name.to_string_lossy().into_owned());
    let name =
        name.with_context(|| format!("{} has no name: copy what is in it", from.display()))?;
    let total = size_of(from);
    let line = client.open_stream(of, &StreamRequest::CopyIn { path, name }).await?;
    let (pieces, input) = mpsc::channel(MAX_PIECES);
    let (_told, taken) = mpsc::unbounded_channel();
    let done = Arc::new(AtomicU64::new(0));
    let writer = PieceWriter { pieces, buffer: Vec::new(), done: done.clone() };
    let (source, label) = (from.to_owned(), from.display().to_string());
    let work = std::thread::spawn(move || pack(&source, writer));
    let local = Local { input: Some(input), output: None, taken, words: None };
    let carried = watch(line, local, &label, total, Files { done, work }).await?;
    Ok(carried.map(|(there, here)| {
        let mut left_out = here.left_out;
        left_out.extend(there.left_out);
        let left_out_count = there.left_out_count + here.left_out_count;
        Copied { left_out, left_out_count, ..there }
    }))
}

/// Carries a copy and draws how far it is; what each end says of it, the job's first.
async fn watch(
    line: Line,
    local: Local,
    label: &str,
    total: u64,
    files: Files,
) -> anyhow::Result<Option<(Copied, Copied)>> {
    let mut progress = Progress::new();
    let mut tick = tokio::time::interval(TICK);
    let mut carrying = Box::pin(carry(line, local));
    let carried = loop {
        tokio::select! {
            carried = &mut carrying => break Some(carried),
            _ = tokio::signal::ctrl_c() => break None,
            _ = tick.tick() => {
                let done = files.done.load(Ordering::Relaxed);
                progress.draw(&[Bar { label: label.to_owned(), done, total }], None);
            }
        }
    };
    // Its end of the pieces goes with it: the thread ends, and takes half a file away.
    drop(carrying);
    let here = files.work.join();
    progress.clear();
    let Some(carried) = carried else { return Ok(None) };
    let here =
        here.map_err(|_| anyhow::anyhow!("a defect of this program: its copying thread panicked"))?;
    match (carried, here) {
        // The job's end knows why, where this one has only seen the stream break off.
        (Err(there), Ok(_) | Err(CopyError::Broken(_))) => Err(there),
        // In words: a stream that broke is no output that nobody reads.
        (_, Err(here)) => anyhow::bail!("{:#}", anyhow::Error::from(here)),
        (Ok(Last::Copied(there)), Ok(here)) => Ok(Some((there, here))),
        (Ok(Last::Ended(outcome)), Ok(_)) => anyhow::bail!("the copy ended early: {outcome:?}"),
    }
}

/// Pieces of a stream as something to read.
struct Pieces {
    pieces: mpsc::UnboundedReceiver<(Channel, bytes::Bytes)>,
    told: mpsc::UnboundedSender<usize>,
    rest: bytes::Bytes,
    done: Arc<AtomicU64>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some((_, piece)) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let length = self.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        self.done.fetch_add(length as u64, Ordering::Relaxed);
        // The stream may be over.
        let _ = self.told.send(length);
        Ok(length)
    }
}

/// What is written, as pieces of a stream.
struct PieceWriter {
    pieces: mpsc::Sender<Vec<u8>>,
    buffer: Vec<u8>,
    done: Arc<AtomicU64>,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(MAX_DATA_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..length]);
        if self.buffer.len() == MAX_DATA_BYTES {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.buffer);
        let length = piece.len() as u64;
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.done.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_here_or_in_a_job() {
        let job = |workflow: &str, job: Option<&str>, path: &str| CopyEndpoint::Job {
            workflow: workflow.to_owned(),
            job: job.map(str::to_owned),
            path: path.to_owned(),
        };
        assert_eq!(CopyEndpoint::parse("train:/work/x"), job("train", None, "/work/x"));
        assert_eq!(CopyEndpoint::parse("train:web:/"), job("train", Some("web"), "/"));
        assert_eq!(CopyEndpoint::parse("a:b:/c:/d"), job("a", Some("b"), "/c:/d"));
        for here in ["data", "./train:/work", "/train:/work", "train:work", "../x"] {
            assert_eq!(CopyEndpoint::parse(here), CopyEndpoint::Here(here.into()), "{here}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let (pieces, mut input) = mpsc::channel(100);
        let done = Arc::new(AtomicU64::new(0));
        let mut writer = PieceWriter { pieces, buffer: Vec::new(), done: done.clone() };
        writer.write_all(&vec![7; MAX_DATA_BYTES + 10]).unwrap();
        writer.flush().unwrap();
        drop(writer);
        let (output, pieces) = mpsc::unbounded_channel();
        while let Some(piece) = input.blocking_recv() {
            assert!(piece.len() <= MAX_DATA_BYTES);
            output.send((Channel::Output, piece.into())).unwrap();
        }
        drop(output);
        let (told, mut taken) = mpsc::unbounded_channel();
        let mut reader = Pieces { pieces, told, rest: bytes::Bytes::new(), done: done.clone() };
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, vec![7; MAX_DATA_BYTES + 10]);
        drop(reader);
        let mut sum = 0;
        while let Some(bytes) = taken.blocking_recv() {
            sum += bytes;
        }
        assert_eq!((sum, done.load(Ordering::Relaxed)), (all.len(), 2 * all.len() as u64));
    }
}
