//! Writes the merged tree as squashfs: one tar stream, put together here, into `tar2sqfs` of squashfs-tools-ng as a
//! child process. Called by [`crate::build()`].
//!
//! Order of the stream: the root, all folders, what has no content (each in byte order of the paths), contents in the
//! order of the layers, hard links last. So no layer must be read twice or out of order, and the same layers give the
//! same bytes. squashfs holds extended attributes of `user.`, `trusted.` and `security.` only; others are dropped and
//! counted.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Read, Write},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use api::image::Artifact;
use tar::EntryType;

use crate::{
    layer::{Layer, LayerError},
    pax::{self, PaxEntry},
    progress::Progress,
    scan::{Chunk, Scanned, contents},
    store::{RESERVED_BYTES, Store, StoreError},
    tar_stream::Metadata,
    tree::{InodeId, Node, Walked},
};

/// The program, found through `PATH`.
pub const PROGRAM: &str = "tar2sqfs";

/// Compression level of zstd: 3 writes a 700 MB tree in 1.3 s on two cores; 15 saves 6 % and takes 20 times as long.
const ZSTD_LEVEL: &str = "level=3";

/// Bytes in the pipe to the child, where the kernel grants it: the default of 64 KiB makes both sides wait in turns.
const PIPE_BYTES: usize = 1 << 20;

/// What is kept of the child's messages, bytes: its last words name the reason.
const MAX_MESSAGE_BYTES: u64 = 64 << 10;

/// Name spaces of attributes that squashfs can hold.
const XATTR_SPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// Why the root image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SquashfsError {
    /// The program is missing or cannot run.
    #[error("cannot start tar2sqfs; install the package squashfs-tools-ng on the server")]
    Start(#[source] io::Error),
    /// It ended badly.
    #[error("tar2sqfs failed ({status}): {message}")]
    Failed {
        /// Exit status.
        status: ExitStatus,
        /// Its last words.
        message: String,
    },
    /// The pipe to it broke, and it said nothing.
    #[error("cannot write to tar2sqfs")]
    Pipe(#[source] io::Error),
    /// An owner that squashfs cannot hold.
    #[error("{path} belongs to {uid}:{gid}; numbers past 4294967295 cannot be kept")]
    Owner {
        /// The file.
        path: String,
        /// Owner.
        uid: u64,
        /// Group.
        gid: u64,
    },
    /// A layer cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The result cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The root image and what was lost on the way.
#[derive(Debug)]
pub(crate) struct Squashed {
    pub root: Artifact,
    /// Attributes dropped, by name: how many files had one, and the first of them.
    pub dropped: BTreeMap<String, (u64, String)>,
}

/// Writes the tree into the store. Every chunk also goes to `tee`.
pub(crate) fn squash(
    store: &Store,
    layers: &[Layer],
    scanned: &Scanned,
    progress: &dyn Progress,
    tee: impl FnMut(&Chunk) -> Result<(), LayerError>,
) -> Result<Squashed, SquashfsError> {
    // About as large as the layers, which are compressed too. Found out now, it costs nobody his database.
    let estimate = layers.iter().map(|layer| layer.size).sum();
    store.require(estimate)?;
    let temporary = store.temporary()?;
    let mut child = Tar2sqfs::start(temporary.path())?;
    let result = child.feed(|out| stream(store, layers, scanned, progress, out, tee));
    let ended = child.end();
    // If the child gave up, the broken pipe is only how we learned of it.
    let dropped = match (result, ended) {
        (Ok(dropped), Ok(())) => dropped,
        (Err(SquashfsError::Pipe(_)) | Ok(_), Err(error)) => {
            // It says no more than "I/O error" of a full disk.
            if !store.is_full() {
                return Err(error);
            }
            let written = temporary.file().metadata().map_or(0, |facts| facts.len());
            drop(temporary);
            return Err(store.no_space(estimate.max(written).saturating_add(RESERVED_BYTES)).into());
        }
        (Err(error), _) => return Err(error),
    };
    let (digest, size) = store.adopt(temporary)?;
    Ok(Squashed { root: Artifact { format: "squashfs".to_owned(), digest, size }, dropped })
}

/// The child process; killed if it is dropped while it runs.
struct Tar2sqfs {
    child: Child,
    messages: Option<JoinHandle<Vec<u8>>>,
}

impl Tar2sqfs {
    fn start(output: &Path) -> Result<Self, SquashfsError> {
        let cores = thread::available_parallelism().map_or(1, usize::from).to_string();
        #[expect(clippy::disallowed_methods, reason = "this file is the home of tar2sqfs")]
        let mut command = Command::new(PROGRAM);
        command
            .args(["--compressor", "zstd", "--comp-extra", ZSTD_LEVEL, "--num-jobs", &cores])
            .args(["--no-skip", "--quiet", "--force"])
            .arg(output)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(SquashfsError::Start)?;
        let messages = child.stderr.take().map(|stderr| thread::spawn(move || last_words(stderr)));
        Ok(Self { child, messages })
    }

    /// Runs `write` with the child's standard input, and closes it.
    fn feed<T>(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> Result<T, SquashfsError>,
    ) -> Result<T, SquashfsError> {
        let Some(stdin) = self.child.stdin.take() else {
            return Err(SquashfsError::Pipe(io::ErrorKind::BrokenPipe.into()));
        };
        // Only speed depends on it: an unprivileged user may have used up his share of pipe memory.
        let _ = rustix::pipe::fcntl_setpipe_size(&stdin, PIPE_BYTES);
        let mut out = BufWriter::with_capacity(PIPE_BYTES, stdin);
        let result = write(&mut out)?;
        out.flush().map_err(SquashfsError::Pipe)?;
        Ok(result)
    }

    fn end(&mut self) -> Result<(), SquashfsError> {
        let status = self.child.wait().map_err(SquashfsError::Pipe)?;
        let messages = self.messages.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&messages).trim().to_owned();
        Err(SquashfsError::Failed { status, message })
    }
}

impl Drop for Tar2sqfs {
    fn drop(&mut self) {
        // Both fail where the child has ended already, which is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn last_words(stderr: ChildStderr) -> Vec<u8> {
    let mut messages = Vec::new();
    let mut stderr = stderr;
    let _ = (&mut stderr).take(MAX_MESSAGE_BYTES).read_to_end(&mut messages);
    // What comes after is read so that the child does not wait for us, and dropped.
    let _ = io::copy(&mut stderr, &mut io::sink());
    messages
}

fn stream(
    store: &Store,
    layers: &[Layer],
    scanned: &Scanned,
    progress: &dyn Progress,
    out: &mut dyn Write,
    mut tee: impl FnMut(&Chunk) -> Result<(), LayerError>,
) -> Result<BTreeMap<String, (u64, String)>, SquashfsError> {
    let plan = Plan::of(scanned)?;
    for (walked, kind, link, device) in &plan.without_content {
        let metadata = &plan.metadata[&walked.inode];
        let path = if walked.path.is_empty() { b"./" } else { walked.path.as_slice() };
        let entry = PaxEntry { path, kind: *kind, link, device: *device, size: 0, metadata };
        pax::write_header(out, &entry).map_err(SquashfsError::Pipe)?;
    }
    let wanted = scanned.files();
    let mut done = 0;
    contents(store, layers, &wanted, |chunk| {
        if progress.cancelled() {
            return Err(SquashfsError::from(LayerError::Cancelled));
        }
        tee(&chunk)?;
        let size = plan.sizes[&chunk.inode];
        let mut write = || {
            if chunk.offset == 0 {
                let (path, metadata) = (plan.first[&chunk.inode].as_slice(), &plan.metadata[&chunk.inode]);
                let (kind, link, device) = (EntryType::Regular, &b""[..], (0, 0));
                pax::write_header(out, &PaxEntry { path, kind, link, device, size, metadata })?;
            }
            out.write_all(&chunk.bytes)?;
            if chunk.offset + chunk.bytes.len() as u64 == size { pax::pad(out, size) } else { Ok(()) }
        };
        write().map_err(SquashfsError::Pipe)?;
        done += chunk.bytes.len() as u64;
        progress.advance("squashfs", done, wanted.bytes());
        Ok(())
    })?;
    for (path, inode) in &plan.links {
        let (link, metadata) = (plan.first[inode].as_slice(), &plan.metadata[inode]);
        let (kind, device, size) = (EntryType::Link, (0, 0), 0);
        pax::write_header(out, &PaxEntry { path, kind, link, device, size, metadata })
            .map_err(SquashfsError::Pipe)?;
    }
    pax::end(out).map_err(SquashfsError::Pipe)?;
    Ok(plan.dropped)
}

/// An entry without content: name, kind, link target, device numbers.
type Plain = (Walked, EntryType, Vec<u8>, (u32, u32));

/// What goes into the stream, in order.
#[derive(Default)]
struct Plan {
    without_content: Vec<Plain>,
    /// First name of each inode that is not a folder.
    first: BTreeMap<InodeId, Vec<u8>>,
    /// Further names.
    links: Vec<(Vec<u8>, InodeId)>,
    sizes: BTreeMap<InodeId, u64>,
    /// As squashfs can hold it.
    metadata: BTreeMap<InodeId, Metadata>,
    dropped: BTreeMap<String, (u64, String)>,
}

impl Plan {
    fn of(scanned: &Scanned) -> Result<Self, SquashfsError> {
        let mut plan = Self::default();
        let (folders, others): (Vec<_>, Vec<_>) =
            scanned.tree.walk().into_iter().partition(|walked| scanned.tree.folder(walked.inode).is_some());
        for walked in folders.into_iter().chain(others) {
            let inode = &scanned.tree.inodes[walked.inode];
            let (kind, link, device) = match &inode.node {
                Node::Folder(_) => (EntryType::Directory, Vec::new(), (0, 0)),
                _ if plan.first.contains_key(&walked.inode) => {
                    plan.links.push((walked.path, walked.inode));
                    continue;
                }
                Node::File(_) => (EntryType::Regular, Vec::new(), (0, 0)),
                Node::Symlink(target) => (EntryType::Symlink, target.clone(), (0, 0)),
                Node::CharacterDevice(major, minor) => (EntryType::Char, Vec::new(), (*major, *minor)),
                Node::BlockDevice(major, minor) => (EntryType::Block, Vec::new(), (*major, *minor)),
                Node::Fifo => (EntryType::Fifo, Vec::new(), (0, 0)),
            };
            let metadata = plan.kept(&walked.path, &inode.metadata)?;
            plan.metadata.insert(walked.inode, metadata);
            if kind != EntryType::Directory {
                plan.first.insert(walked.inode, walked.path.clone());
            }
            match inode.node {
                Node::File(content) if content.size > 0 => {
                    plan.sizes.insert(walked.inode, content.size);
                }
                _ => plan.without_content.push((walked, kind, link, device)),
            }
        }
        Ok(plan)
    }

    /// The metadata that squashfs can hold; what it cannot is counted.
    fn kept(&mut self, path: &[u8], metadata: &Metadata) -> Result<Metadata, SquashfsError> {
        let shown = || String::from_utf8_lossy(path).into_owned();
        let (uid, gid) = (metadata.uid, metadata.gid);
        if uid > u64::from(u32::MAX) || gid > u64::from(u32::MAX) {
            return Err(SquashfsError::Owner { path: shown(), uid, gid });
        }
        let mut kept = metadata.clone();
        kept.xattrs.retain(|(name, _)| {
            let keep = XATTR_SPACES.iter().any(|space| name.starts_with(space));
            if !keep {
                let name = String::from_utf8_lossy(name).into_owned();
                self.dropped.entry(name).or_insert_with(|| (0, shown())).0 += 1;
            }
            keep
        });
        Ok(kept)
    }
}
