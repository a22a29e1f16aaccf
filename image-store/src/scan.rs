//! The two passes over the layers of an image: [`scan`] reads names and metadata of all layers at
//! once and merges them; [`contents`] streams the contents that the merged tree still names, in the
//! order of the layers.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, Scope},
};

use crate::{
    budget::{Budget, ENTRY_BYTES},
    hashing::Hashing,
    kernel,
    layer::{LayerError, LayerFile},
    progress::Progress,
    store::CHUNK_BYTES,
    tar_stream::{Entry, Kind, TarStream, shown},
    tree::{Content, InodeId, Node, Tree, merge::MergeError, parts},
};

/// Most entries of an image, all layers together: 30 times a large OS image. The budget ends before
/// it for most; it holds for entries that replace each other.
pub(crate) const MAX_ENTRIES: u64 = 2 << 20;

/// Layers that are decompressed at the same time. More threads than cores only take memory.
const MAX_THREADS: usize = 8;

/// Chunks that wait for the writer, per layer: 4 MiB, so that the next layer's start is ready
/// when it is wanted.
const CHUNKS_AHEAD: usize = 16;

/// Largest text file that is kept during the first pass, bytes. Debian's
/// `modules.alias` has 1.5 MB.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Passes over the layers for text files alone. A kernel whose index is a link to a file elsewhere
/// needs one; none in practice does.
const MAX_TEXT_PASSES: u32 = 16;

/// Where a content is: layer, and entry in the layer.
type EntryPosition = (usize, usize);

/// What the first pass finds.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub tree: Tree,
    /// The texts that the build needs before it can choose modules, so that no pass
    /// is spent on them.
    texts: BTreeMap<EntryPosition, Vec<u8>>,
    /// What kernels in `boot` call themselves.
    releases: BTreeMap<EntryPosition, String>,
    /// Passes made for texts that were not kept.
    text_passes: Cell<u32>,
}

/// A part of a file's content.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub inode: InodeId,
    /// Where in the file it begins: 0 for the first chunk of a file.
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// What one layer holds.
struct LayerScan {
    entries: Vec<Entry>,
    texts: BTreeMap<usize, Vec<u8>>,
    releases: BTreeMap<usize, String>,
}

/// What all layers have come to so far.
#[derive(Debug)]
struct Totals {
    entries: AtomicU64,
    budget: Arc<Budget>,
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// Reads the names of all layers, and merges them. What is held is charged to `budget`.
pub(crate) fn scan(
    layers: &[LayerFile],
    budget: &Arc<Budget>,
    progress: &dyn Progress,
) -> Result<Scanned, LayerError> {
    let total: u64 = layers.iter().map(|file| file.layer.size).sum();
    let totals = Totals { entries: AtomicU64::new(0), budget: budget.clone() };
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || {
        let mut scans = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = layers.get(number) else { return Ok::<_, LayerError>(scans) };
            let scanned = scan_layer(number, file, &totals, progress).inspect_err(|_| {
                next.store(layers.len(), Ordering::Relaxed);
            })?;
            scans.push((number, scanned));
            let size = file.layer.size;
            progress.advance(
                "reading layers",
                done.fetch_add(size, Ordering::Relaxed) + size,
                total,
            );
        }
    };
    let mut scans: Vec<(usize, LayerScan)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads().min(layers.len())).map(|_| scope.spawn(work)).collect();
        let mut scans = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(found) => scans.extend(found?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<_, LayerError>(scans)
    })?;
    scans.sort_unstable_by_key(|(number, _)| *number);
    merge(layers, scans, budget)
}

/// Lays the layers over each other, lowest first.
fn merge(
    layers: &[LayerFile],
    scans: Vec<(usize, LayerScan)>,
    budget: &Arc<Budget>,
) -> Result<Scanned, LayerError> {
    let mut tree = Tree::new(budget.clone());
    let (mut texts, mut releases) = (BTreeMap::new(), BTreeMap::new());
    for (number, scan) in scans {
        let entries = scan.entries.len() as u64;
        for (ordinal, entry) in scan.entries.into_iter().enumerate() {
            let path = shown(&entry.path);
            // The tree charges for what it keeps of it.
            budget.release(entry.held_bytes().saturating_sub(ENTRY_BYTES));
            let digest = layers[number].layer.digest;
            tree.apply(number, ordinal, entry).map_err(|problem| match problem {
                MergeError::Budget(over) => {
                    LayerError::OverBudget { digest, path, limit: over.limit }
                }
                problem => LayerError::Entry { digest, path, problem: problem.to_string() },
            })?;
        }
        budget.release(entries * ENTRY_BYTES);
        texts.extend(scan.texts.into_iter().map(|(ordinal, text)| ((number, ordinal), text)));
        releases.extend(
            scan.releases.into_iter().map(|(ordinal, release)| ((number, ordinal), release)),
        );
    }
    Ok(Scanned { tree, texts, releases, text_passes: Cell::new(0) })
}

/// Reads one layer, and checks its digest where the image's configuration says one.
fn scan_layer(
    number: usize,
    file: &LayerFile,
    totals: &Totals,
    progress: &dyn Progress,
) -> Result<LayerScan, LayerError> {
    let layer = &file.layer;
    let Some(expected) = layer.diff_id else {
        return scan_entries(file, &mut TarStream::new(file.read()?), totals, progress);
    };
    let unreadable = |source| layer.unreadable(source);
    let mut stream = TarStream::new(Hashing::new(file.read()?).map_err(unreadable)?);
    let scan = scan_entries(file, &mut stream, totals, progress)?;
    let got = stream.into_reader().finish().map_err(unreadable)?;
    if got == expected {
        Ok(scan)
    } else {
        Err(LayerError::DiffId { number, digest: layer.digest, expected, got })
    }
}

fn scan_entries(
    file: &LayerFile,
    stream: &mut TarStream<impl Read>,
    totals: &Totals,
    progress: &dyn Progress,
) -> Result<LayerScan, LayerError> {
    let layer = &file.layer;
    let unreadable = |source| layer.unreadable(source);
    let charge = |entry: &Entry, bytes: u64| {
        totals.budget.charge(bytes).map_err(|over| LayerError::OverBudget {
            digest: layer.digest,
            path: shown(&entry.path),
            limit: over.limit,
        })
    };
    let mut scan =
        LayerScan { entries: Vec::new(), texts: BTreeMap::new(), releases: BTreeMap::new() };
    while let Some(entry) = stream.next_entry().map_err(unreadable)? {
        if progress.cancelled() {
            return Err(LayerError::Cancelled);
        }
        if totals.entries.fetch_add(1, Ordering::Relaxed) >= MAX_ENTRIES {
            let problem =
                std::io::Error::other(format!("the image has more than {MAX_ENTRIES} entries"));
            return Err(layer.unreadable(problem));
        }
        charge(&entry, entry.held_bytes())?;
        if is_text(&entry) {
            charge(&entry, entry.size)?;
            let most = usize::try_from(entry.size).unwrap_or(usize::MAX);
            let text = read_up_to(stream, most).map_err(unreadable)?;
            scan.texts.insert(scan.entries.len(), text);
        } else if is_kernel_in_boot(&entry) {
            let head = read_up_to(stream, kernel::HEAD_BYTES).map_err(unreadable)?;
            if let Some(release) = kernel::release_in(&head) {
                scan.releases.insert(scan.entries.len(), release);
            }
        }
        scan.entries.push(entry);
    }
    Ok(scan)
}

/// The first `most` bytes of the present entry's content, or all if it has fewer.
fn read_up_to(stream: &mut TarStream<impl Read>, most: usize) -> std::io::Result<Vec<u8>> {
    let mut content = vec![0; most];
    let mut read = 0;
    while read < most {
        match stream.read_content(&mut content[read..])? {
            0 => break,
            count => read += count,
        }
    }
    content.truncate(read);
    Ok(content)
}

/// `lib/modules/RELEASE/modules.*` and `boot/config-*`.
fn is_text(entry: &Entry) -> bool {
    if entry.kind != Kind::File || entry.size > MAX_TEXT_BYTES {
        return false;
    }
    match parts(&entry.path).as_slice() {
        [.., b"lib", b"modules", _, name] => name.starts_with(b"modules.") || *name == b"config",
        [.., b"boot", name] => name.starts_with(b"config-"),
        _ => false,
    }
}

/// `boot/vmlinuz*`, whatever stands behind: the name need not be the release (Alpine's
/// `vmlinuz-lts`).
fn is_kernel_in_boot(entry: &Entry) -> bool {
    let parts = parts(&entry.path);
    entry.kind == Kind::File
        && matches!(parts.as_slice(), [b"boot", name] if name.starts_with(b"vmlinuz"))
}

impl Scanned {
    /// What the kernel with this content calls itself, if it is one in `boot` that says so.
    pub(crate) fn release(&self, content: Content) -> Option<&str> {
        self.releases.get(&(content.layer, content.ordinal)).map(String::as_str)
    }

    /// The inodes with content that are to be found at their places, for [`contents`]; empty
    /// files are left out.
    pub(crate) fn files(&self) -> WantedFiles {
        let mut wanted = WantedFiles::default();
        self.tree.each_name(|place| wanted.insert(&self.tree, place.inode));
        wanted
    }

    /// A text file by path, links followed; `None` if there is no such file.
    pub(crate) fn text(
        &self,
        layers: &[LayerFile],
        path: &str,
    ) -> Result<Option<String>, LayerError> {
        let Some(content) = self.tree.content(path.as_bytes()) else { return Ok(None) };
        let place = (content.layer, content.ordinal);
        let bytes = match self.texts.get(&place) {
            Some(text) => text.clone(),
            None => self.read_one(layers, path, content)?,
        };
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Reads one file that the first pass did not keep (a hard link or symbolic link
    /// of another name).
    fn read_one(
        &self,
        layers: &[LayerFile],
        path: &str,
        content: Content,
    ) -> Result<Vec<u8>, LayerError> {
        let refused = |problem| LayerError::Entry {
            digest: layers[content.layer].layer.digest,
            path: path.to_owned(),
            problem,
        };
        if content.size > MAX_TEXT_BYTES {
            let size = content.size;
            return Err(refused(format!(
                "it has {size} bytes; at most {MAX_TEXT_BYTES} are taken"
            )));
        }
        let passes = self.text_passes.get() + 1;
        if passes > MAX_TEXT_PASSES {
            return Err(refused(format!(
                "it is a link, and so are {MAX_TEXT_PASSES} more indexes of modules; put the files there"
            )));
        }
        self.text_passes.set(passes);
        let mut wanted = WantedFiles::default();
        wanted.insert(&self.tree, self.tree.find(path.as_bytes()).unwrap_or(0));
        let mut bytes = Vec::new();
        contents(layers, &wanted, |chunk| {
            bytes.extend_from_slice(&chunk.bytes);
            Ok::<_, LayerError>(())
        })?;
        Ok(bytes)
    }
}

/// Files whose contents are wanted, by their places.
#[derive(Debug, Default)]
pub(crate) struct WantedFiles {
    layers: BTreeMap<usize, BTreeMap<usize, InodeId>>,
    bytes: u64,
}

impl WantedFiles {
    /// Adds a file; anything else, and a file without content, is left out.
    pub(crate) fn insert(&mut self, tree: &Tree, inode: InodeId) {
        if let Node::File(content) = tree.inodes[inode].node
            && content.size > 0
            && self
                .layers
                .entry(content.layer)
                .or_default()
                .insert(content.ordinal, inode)
                .is_none()
        {
            self.bytes += content.size;
        }
    }

    /// Size of all contents, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Streams the wanted contents into `sink`, layer by layer, in the order of each layer's
/// entries. Chunks of a file follow each other. The layers that come next are decompressed
/// ahead, in threads.
pub(crate) fn contents<E: From<LayerError>>(
    layers: &[LayerFile],
    wanted: &WantedFiles,
    mut sink: impl FnMut(Chunk) -> Result<(), E>,
) -> Result<(), E> {
    thread::scope(|scope| {
        let mut todo = wanted.layers.iter();
        let mut running: VecDeque<Receiver<Result<Chunk, LayerError>>> = VecDeque::new();
        loop {
            while running.len() < threads() {
                let Some((number, files)) = todo.next() else { break };
                running.push_back(begin(scope, &layers[*number], files));
            }
            let Some(receiver) = running.pop_front() else { return Ok(()) };
            for chunk in receiver {
                sink(chunk?)?;
            }
        }
    })
}

fn begin<'scope>(
    scope: &'scope Scope<'scope, '_>,
    layer: &'scope LayerFile,
    files: &'scope BTreeMap<usize, InodeId>,
) -> Receiver<Result<Chunk, LayerError>> {
    let (sender, receiver) = sync_channel(CHUNKS_AHEAD);
    scope.spawn(move || {
        if let Err(error) = send_contents(layer, files, &sender) {
            // Nobody listens any more when the sink has failed: then its error is the one to tell.
            let _ = sender.send(Err(error));
        }
    });
    receiver
}

fn send_contents(
    file: &LayerFile,
    files: &BTreeMap<usize, InodeId>,
    sender: &SyncSender<Result<Chunk, LayerError>>,
) -> Result<(), LayerError> {
    let unreadable = |source| file.layer.unreadable(source);
    let mut stream = TarStream::new(file.read()?);
    let mut ordinal = 0;
    for (wanted, inode) in files {
        let entry = loop {
            let entry = stream.next_entry().map_err(unreadable)?;
            let entry =
                entry.ok_or_else(|| unreadable(std::io::ErrorKind::UnexpectedEof.into()))?;
            ordinal += 1;
            if ordinal > *wanted {
                break entry;
            }
        };
        let mut offset = 0;
        while offset < entry.size {
            let size = usize::try_from(entry.size - offset).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let mut bytes = vec![0; size];
            let mut filled = 0;
            while filled < size {
                filled += stream.read_content(&mut bytes[filled..]).map_err(unreadable)?;
            }
            if sender.send(Ok(Chunk { inode: *inode, offset, bytes })).is_err() {
                return Ok(());
            }
            offset += size as u64;
        }
    }
    Ok(())
}
