//! Writes the merged tree as squashfs: one tar stream, put together here, into `tar2sqfs` of
//! squashfs-tools-ng as a child process. Called by [`crate::build()`].
//!
//! Order of the stream: the root, all directories, what has no content (each in byte order of the
//! paths), contents in the order of the layers, hard links last. So no layer must be read twice or
//! out of order, and the same layers give the same bytes. squashfs holds extended attributes of
//! `user.`, `trusted.` and `security.` only; others are dropped and counted.

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
    layer::{LayerError, LayerFile},
    pax::{self, PaxEntry},
    progress::Progress,
    scan::{Chunk, Scanned, contents},
    store::{RESERVED_BYTES, Store, StoreError, Temporary},
    tar_stream::{Metadata, shown},
    tree::{InodeId, MAX_STEPS, Node, ROOT, Tree, TreeName},
};

/// The program, found through `PATH`.
pub const PROGRAM: &str = "tar2sqfs";

/// Compression level of zstd: 3 writes a 700 MB tree in 1.3 s on two cores; 15 saves 6 % and takes
/// 20 times as long.
const ZSTD_LEVEL: &str = "level=3";

/// Bytes in the pipe to the child, where the kernel grants it: the default of 64 KiB makes both
/// sides wait in turns.
const PIPE_BYTES: usize = 1 << 20;

/// What is kept of the child's messages, bytes: its last words name the reason.
const MAX_MESSAGE_BYTES: u64 = 64 << 10;

/// Name spaces of attributes that squashfs can hold.
const XATTR_SPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// Threads of the program at most: each holds blocks and the state of a compressor.
const MAX_JOBS: usize = 8;

/// How often `tar2sqfs` may look at a name in a list, for all names of an image: some 400 s of a
/// core. One directory of almost 200,000 names needs so many; OS images need some 10^8.
const MAX_LOOKUPS: u64 = 40_000_000_000;

/// Names of attributes that are told to be dropped, at most.
const MAX_DROPPED: usize = 64;

/// Attributes dropped, by name: how many files had one, and the first of them.
pub(crate) type Dropped = BTreeMap<String, (u64, String)>;

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
    /// Too many names in one directory.
    #[error(
        "{path} has {names} names, and with it tar2sqfs would be busy for minutes: spread its files over \
         directories of at most 50000 names, or put them into an archive"
    )]
    Crowded {
        /// The directory.
        path: String,
        /// How many names it has.
        names: usize,
    },
    /// Too many parts of paths.
    #[error(
        "the paths of the image have more than {MAX_STEPS} parts together; make an image of fewer files"
    )]
    Steps,
    /// A layer cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The result cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The root image of a build under way, in the store.
pub(crate) struct RootImage<'s> {
    store: &'s Store,
    /// Bytes that are expected.
    estimate: u64,
    temporary: Temporary,
}

impl<'s> RootImage<'s> {
    /// Sees that there is room for it: it is about as large as the `layers` are, bytes, which are
    /// compressed too. Found out now, it costs nobody his database.
    pub(crate) fn begin(store: &'s Store, layers: u64) -> Result<Self, SquashfsError> {
        store.require(layers)?;
        Ok(Self { store, estimate: layers, temporary: store.temporary()? })
    }

    /// The file to write.
    pub(crate) fn temporary(&self) -> &Temporary {
        &self.temporary
    }

    /// What to tell of a program that could not write: of a full disk it says no more than "I/O
    /// error". What was written is removed, and what is told of room is true afterwards.
    pub(crate) fn full(&self) -> Option<StoreError> {
        let written = self.temporary.file().metadata().map_or(0, |facts| facts.len());
        let needed = self.estimate.max(written).saturating_add(RESERVED_BYTES);
        let is_full = self.store.is_full();
        // Where it cannot be emptied, less room is told than there will be.
        let _ = self.temporary.file().set_len(0);
        is_full.then(|| self.store.no_space(needed))
    }

    /// Takes what was written into the store.
    pub(crate) fn finish(self) -> Result<Artifact, SquashfsError> {
        let (digest, size) = self.store.adopt(self.temporary)?;
        Ok(Artifact { format: "squashfs".to_owned(), digest, size })
    }
}

/// Writes the tree into a program that was started. Every chunk also goes to `tee`.
pub(crate) fn squash(
    mut child: Tar2sqfs,
    layers: &[LayerFile],
    scanned: &Scanned,
    progress: &dyn Progress,
    tee: impl FnMut(&Chunk) -> Result<(), LayerError>,
) -> Result<Dropped, SquashfsError> {
    let result = child.feed(|out| stream(layers, scanned, progress, out, tee));
    // If it gave up, the broken pipe is only how we learned of it.
    match (result, child.end()) {
        (Ok(dropped), Ok(())) => Ok(dropped),
        (Err(SquashfsError::Pipe(_)) | Ok(_), Err(error)) | (Err(error), _) => Err(error),
    }
}

/// The child process; killed if it is dropped while it runs.
#[derive(Debug)]
pub(crate) struct Tar2sqfs {
    child: Child,
    messages: Option<JoinHandle<Vec<u8>>>,
}

impl Tar2sqfs {
    /// Starts the program, which writes into `output`, an empty file.
    pub(crate) fn start(output: &Path) -> Result<Self, SquashfsError> {
        let cores =
            thread::available_parallelism().map_or(1, usize::from).min(MAX_JOBS).to_string();
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
        let child = command.spawn().map_err(SquashfsError::Start)?;
        Ok(Self { child, messages: None })
    }

    /// Runs `write` with the child's standard input, and closes it.
    fn feed<T>(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> Result<T, SquashfsError>,
    ) -> Result<T, SquashfsError> {
        let Some(stdin) = self.child.stdin.take() else {
            return Err(SquashfsError::Pipe(io::ErrorKind::BrokenPipe.into()));
        };
        // Not before: between start and feeding the converter's jail is shut, for the
        // threads of then.
        self.messages =
            self.child.stderr.take().map(|stderr| thread::spawn(move || last_words(stderr)));
        // Only speed depends on it: an unprivileged user may have used up his share of pipe memory.
        let _ = rustix::pipe::fcntl_setpipe_size(&stdin, PIPE_BYTES);
        let mut out = BufWriter::with_capacity(PIPE_BYTES, stdin);
        let result = write(&mut out)?;
        out.flush().map_err(SquashfsError::Pipe)?;
        Ok(result)
    }

    fn end(&mut self) -> Result<(), SquashfsError> {
        let status = self.child.wait().map_err(SquashfsError::Pipe)?;
        let messages =
            self.messages.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
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
    layers: &[LayerFile],
    scanned: &Scanned,
    progress: &dyn Progress,
    out: &mut dyn Write,
    mut tee: impl FnMut(&Chunk) -> Result<(), LayerError>,
) -> Result<Dropped, SquashfsError> {
    let tree = &scanned.tree;
    let plan = Plan::of(tree)?;
    for inode in plan.directories.iter().chain(&plan.without_content) {
        plan.write(out, *inode, 0).map_err(SquashfsError::Pipe)?;
    }
    let wanted = scanned.files();
    let mut done = 0;
    contents(layers, &wanted, |chunk| {
        if progress.cancelled() {
            return Err(SquashfsError::from(LayerError::Cancelled));
        }
        tee(&chunk)?;
        let size = content_size(tree, chunk.inode);
        let mut write = || {
            if chunk.offset == 0 {
                plan.write(out, chunk.inode, size)?;
            }
            out.write_all(&chunk.bytes)?;
            if chunk.offset + chunk.bytes.len() as u64 == size {
                pax::pad(out, size)
            } else {
                Ok(())
            }
        };
        write().map_err(SquashfsError::Pipe)?;
        done += chunk.bytes.len() as u64;
        progress.advance("squashfs", done, wanted.bytes());
        Ok(())
    })?;
    for link in &plan.links {
        let metadata = kept(&tree.inodes[link.inode].metadata);
        let (path, target) = (plan.path(link.directory, link.name), plan.path_of(link.inode));
        let (kind, device, size) = (EntryType::Link, (0, 0), 0);
        let entry =
            PaxEntry { path: &path, kind, link: &target, device, size, metadata: &metadata };
        pax::write_header(out, &entry).map_err(SquashfsError::Pipe)?;
    }
    pax::end(out).map_err(SquashfsError::Pipe)?;
    Ok(plan.dropped)
}

/// Bytes of content; 0 for what is no file.
pub(crate) fn content_size(tree: &Tree, inode: InodeId) -> u64 {
    if let Node::File(content) = &tree.inodes[inode].node { content.size } else { 0 }
}

/// The metadata that squashfs can hold.
fn kept(metadata: &Metadata) -> Metadata {
    let is_kept = |(name, _): &&(Vec<u8>, Vec<u8>)| is_kept(name);
    let xattrs = metadata.xattrs.iter().filter(is_kept).cloned().collect();
    let Metadata { mode, uid, gid, mtime, xattrs: _ } = *metadata;
    Metadata { mode, uid, gid, mtime, xattrs }
}

fn is_kept(xattr: &[u8]) -> bool {
    XATTR_SPACES.iter().any(|space| xattr.starts_with(space))
}

/// What goes into the stream, in order. Holds no paths: they are put together when
/// they are written.
struct Plan<'t> {
    tree: &'t Tree,
    /// First name of each inode that has one: its directory, and its name there.
    first: Vec<Option<(InodeId, &'t [u8])>>,
    directories: Vec<InodeId>,
    /// Anything else that has no content.
    without_content: Vec<InodeId>,
    /// Further names.
    links: Vec<TreeName<'t>>,
    dropped: Dropped,
}

impl<'t> Plan<'t> {
    fn of(tree: &'t Tree) -> Result<Self, SquashfsError> {
        let mut plan = Self {
            tree,
            first: vec![None; tree.inodes.len()],
            directories: vec![ROOT],
            without_content: Vec::new(),
            links: Vec::new(),
            dropped: Dropped::new(),
        };
        let (mut work, mut most) = (NameLookups::default(), None);
        let mut depths = 0;
        tree.each_name(|place| {
            depths += place.depth as u64;
            work.add(tree, &place);
            if work.is_too_many() {
                most.get_or_insert((
                    place.directory,
                    tree.directory(place.directory).map_or(0, BTreeMap::len),
                ));
                return;
            }
            if plan.first[place.inode].is_some() {
                plan.links.push(place);
                return;
            }
            plan.first[place.inode] = Some((place.directory, place.name));
            match &tree.inodes[place.inode].node {
                Node::Directory(_) => plan.directories.push(place.inode),
                Node::File(content) if content.size > 0 => {}
                _ => plan.without_content.push(place.inode),
            }
        });
        if let Some((directory, names)) = most {
            return Err(SquashfsError::Crowded { path: plan.shown(directory), names });
        }
        if !tree.step(depths) {
            return Err(SquashfsError::Steps);
        }
        plan.check_metadata()?;
        Ok(plan)
    }

    /// Refuses owners that squashfs cannot hold, and counts attributes.
    fn check_metadata(&mut self) -> Result<(), SquashfsError> {
        for inode in 0..self.tree.inodes.len() {
            if self.first[inode].is_none() && inode != ROOT {
                continue;
            }
            let Metadata { uid, gid, ref xattrs, .. } = self.tree.inodes[inode].metadata;
            if uid > u64::from(u32::MAX) || gid > u64::from(u32::MAX) {
                return Err(SquashfsError::Owner { path: self.shown(inode), uid, gid });
            }
            for (name, _) in xattrs.iter().filter(|(name, _)| !is_kept(name)) {
                let name = shown(name);
                if let Some((count, _)) = self.dropped.get_mut(&name) {
                    *count += 1;
                } else if self.dropped.len() < MAX_DROPPED {
                    self.dropped.insert(name, (1, self.shown(inode)));
                }
            }
        }
        Ok(())
    }

    /// The path of a name, without a leading slash.
    fn path(&self, directory: InodeId, name: &[u8]) -> Vec<u8> {
        let mut parts = vec![name];
        let mut here = directory;
        while let Some((above, name)) = self.first[here] {
            parts.push(name);
            here = above;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// The path of an inode's first name; empty for the root.
    fn path_of(&self, inode: InodeId) -> Vec<u8> {
        self.first[inode].map_or_else(Vec::new, |(directory, name)| self.path(directory, name))
    }

    fn shown(&self, inode: InodeId) -> String {
        shown(&self.path_of(inode))
    }

    /// Writes the header of an inode under its first name.
    fn write(&self, out: &mut dyn Write, inode: InodeId, size: u64) -> io::Result<()> {
        let (kind, link, device) = match &self.tree.inodes[inode].node {
            Node::Directory(_) => (EntryType::Directory, &b""[..], (0, 0)),
            Node::File(_) => (EntryType::Regular, &b""[..], (0, 0)),
            Node::Symlink(target) => (EntryType::Symlink, target.as_slice(), (0, 0)),
            Node::CharacterDevice(major, minor) => (EntryType::Char, &b""[..], (*major, *minor)),
            Node::BlockDevice(major, minor) => (EntryType::Block, &b""[..], (*major, *minor)),
            Node::Fifo => (EntryType::Fifo, &b""[..], (0, 0)),
        };
        let metadata = kept(&self.tree.inodes[inode].metadata);
        let path = if inode == ROOT { b"./".to_vec() } else { self.path_of(inode) };
        pax::write_header(
            out,
            &PaxEntry { path: &path, kind, link, device, size, metadata: &metadata },
        )
    }
}

/// How often `tar2sqfs` will look at a name: it keeps a directory as a list, and walks it for each
/// part of each path.
#[derive(Debug, Default)]
struct NameLookups {
    /// Lengths of the lists on the way to the directory at each depth, together.
    above: Vec<u64>,
    total: u64,
}

impl NameLookups {
    /// Counts a name. They come in the order of [`Tree::each_name`].
    fn add(&mut self, tree: &Tree, place: &TreeName<'_>) {
        let names = tree.directory(place.directory).map_or(0, BTreeMap::len) as u64;
        self.above.truncate(place.depth);
        if self.above.len() < place.depth {
            self.above.push(self.above.last().copied().unwrap_or(0) + names);
        }
        self.total = self.total.saturating_add(self.above.last().copied().unwrap_or(0));
    }

    fn is_too_many(&self) -> bool {
        self.total > MAX_LOOKUPS
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        budget::Budget,
        tar_stream::{Entry, Kind},
    };

    fn tree(paths: impl IntoIterator<Item = String>) -> Tree {
        let mut tree = Tree::new(Arc::new(Budget::new(1 << 30)));
        for (ordinal, path) in paths.into_iter().enumerate() {
            let entry = Entry {
                path: path.into(),
                kind: Kind::File,
                metadata: Metadata::default(),
                size: 0,
            };
            tree.apply(0, ordinal, entry).unwrap();
        }
        tree
    }

    fn lookups(tree: &Tree) -> u64 {
        let mut lookups = NameLookups::default();
        tree.each_name(|place| lookups.add(tree, &place));
        lookups.total
    }

    #[test]
    fn lookups_are_counted_as_lists_are_walked() {
        // a, z in the root; 3 names in a; 1 in z.
        assert_eq!(
            lookups(&tree(["a/1", "a/2", "a/3", "z/1"].map(str::to_owned))),
            2 + 2 + 3 * (2 + 3) + 3
        );
    }

    #[test]
    fn a_directory_that_would_keep_tar2sqfs_busy_for_hours_is_refused() {
        let crowded = |names: usize| tree((0..names).map(|number| format!("srv/x/{number}")));
        assert!(Plan::of(&crowded(100_000)).is_ok());
        let refused = Plan::of(&crowded(210_000)).err().unwrap();
        assert!(refused.to_string().starts_with("srv/x has 210000 names"), "{refused}");
        // Spread over directories, the same names are nothing.
        let spread = tree((0..210_000).map(|number| format!("{}/{number}", number / 1000)));
        assert!(Plan::of(&spread).is_ok());
    }

    #[test]
    fn paths_are_put_together_from_first_names() {
        let mut tree = tree(["b/c/d".to_owned(), "a".to_owned()]);
        let link = |target: &str| Kind::HardLink(target.into());
        let entry = |path: &str, kind| Entry {
            path: path.into(),
            kind,
            metadata: Metadata::default(),
            size: 0,
        };
        tree.apply(0, 2, entry("z", link("b/c/d"))).unwrap();
        let plan = Plan::of(&tree).unwrap();
        let shown =
            |inodes: &[InodeId]| inodes.iter().map(|inode| plan.shown(*inode)).collect::<Vec<_>>();
        assert_eq!(shown(&plan.directories), ["", "b", "b/c"]);
        assert_eq!(shown(&plan.without_content), ["a", "b/c/d"]);
        let links: Vec<_> =
            plan.links.iter().map(|link| plan.path(link.directory, link.name)).collect();
        assert_eq!(links, [b"z"]);
    }
}
