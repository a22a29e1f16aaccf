//! The two passes over the layers of an image: [`scan`] reads names and metadata of all layers at once and merges
//! them; [`contents`] streams the contents that the merged tree still names, in the order of the layers.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, Scope},
};

use crate::{
    kernel,
    layer::{Layer, LayerError},
    progress::Progress,
    store::{CHUNK_BYTES, Store},
    tar_stream::{Entry, Kind, TarStream},
    tree::{Content, InodeId, Node, Tree, parts},
};

/// Most entries of an image, all layers together: 30 times a large OS image. Their names are held in memory.
pub(crate) const MAX_ENTRIES: u64 = 2 << 20;

/// Layers that are decompressed at the same time. More threads than cores only take memory.
const MAX_THREADS: usize = 8;

/// Chunks that wait for the writer, per layer: 16 MiB, so that the next layer's start is ready when it is wanted.
const CHUNKS_AHEAD: usize = 64;

/// Largest text file that is kept during the first pass, bytes. Debian's `modules.alias` has 1.5 MB.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Most bytes of such files in all layers together: a hundred kernels of Debian.
const MAX_TEXTS_BYTES: u64 = 256 << 20;

/// Where a content is: layer, and entry in the layer.
type Place = (usize, usize);

/// What the first pass finds.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub tree: Tree,
    /// The texts that the build needs before it can choose modules, so that no pass is spent on them.
    texts: BTreeMap<Place, Vec<u8>>,
    /// What kernels in `boot` call themselves.
    releases: BTreeMap<Place, String>,
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
#[derive(Debug, Default)]
struct Totals {
    entries: AtomicU64,
    text_bytes: AtomicU64,
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// Reads the names of all layers, and merges them.
pub(crate) fn scan(store: &Store, layers: &[Layer], progress: &dyn Progress) -> Result<Scanned, LayerError> {
    let total: u64 = layers.iter().map(|layer| layer.size).sum();
    let (next, done, totals) = (AtomicUsize::new(0), AtomicU64::new(0), Totals::default());
    let work = || {
        let mut scans = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = layers.get(number) else { return Ok::<_, LayerError>(scans) };
            let scanned = scan_layer(store, layer, &totals, progress).inspect_err(|_| {
                next.store(layers.len(), Ordering::Relaxed);
            })?;
            scans.push((number, scanned));
            progress.advance(
                "reading layers",
                done.fetch_add(layer.size, Ordering::Relaxed) + layer.size,
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

    let mut tree = Tree::new();
    let (mut texts, mut releases) = (BTreeMap::new(), BTreeMap::new());
    for (number, scan) in scans {
        for (ordinal, entry) in scan.entries.into_iter().enumerate() {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            tree.apply(number, ordinal, entry).map_err(|problem| LayerError::Entry {
                digest: layers[number].digest,
                path,
                problem: problem.to_string(),
            })?;
        }
        texts.extend(scan.texts.into_iter().map(|(ordinal, text)| ((number, ordinal), text)));
        releases.extend(scan.releases.into_iter().map(|(ordinal, release)| ((number, ordinal), release)));
    }
    Ok(Scanned { tree, texts, releases })
}

fn scan_layer(
    store: &Store,
    layer: &Layer,
    totals: &Totals,
    progress: &dyn Progress,
) -> Result<LayerScan, LayerError> {
    let unreadable = |source| layer.unreadable(source);
    let mut stream = TarStream::new(layer.open(store)?);
    let mut scan = LayerScan { entries: Vec::new(), texts: BTreeMap::new(), releases: BTreeMap::new() };
    while let Some(entry) = stream.next_entry().map_err(unreadable)? {
        if progress.cancelled() {
            return Err(LayerError::Cancelled);
        }
        if totals.entries.fetch_add(1, Ordering::Relaxed) >= MAX_ENTRIES {
            let problem = std::io::Error::other(format!("the image has more than {MAX_ENTRIES} entries"));
            return Err(layer.unreadable(problem));
        }
        if is_text(&entry) {
            if totals.text_bytes.fetch_add(entry.size, Ordering::Relaxed) + entry.size > MAX_TEXTS_BYTES {
                let problem = format!(
                    "indexes of modules and configurations of kernels in the image have more than \
                     {MAX_TEXTS_BYTES} bytes together"
                );
                return Err(layer.unreadable(std::io::Error::other(problem)));
            }
            let mut text = Vec::new();
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                match stream.read_content(&mut buffer).map_err(unreadable)? {
                    0 => break,
                    count => text.extend_from_slice(&buffer[..count]),
                }
            }
            scan.texts.insert(scan.entries.len(), text);
        } else if is_kernel_in_boot(&entry) {
            let mut head = vec![0; kernel::HEAD_BYTES];
            let mut read = 0;
            while read < head.len() {
                match stream.read_content(&mut head[read..]).map_err(unreadable)? {
                    0 => break,
                    count => read += count,
                }
            }
            if let Some(release) = kernel::release_in(&head[..read]) {
                scan.releases.insert(scan.entries.len(), release);
            }
        }
        scan.entries.push(entry);
    }
    Ok(scan)
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

/// `boot/vmlinuz*`, whatever stands behind: the name need not be the release (Alpine's `vmlinuz-lts`).
fn is_kernel_in_boot(entry: &Entry) -> bool {
    let parts = parts(&entry.path);
    entry.kind == Kind::File && matches!(parts.as_slice(), [b"boot", name] if name.starts_with(b"vmlinuz"))
}

impl Scanned {
    /// What the kernel with this content calls itself, if it is one in `boot` that says so.
    pub(crate) fn release(&self, content: Content) -> Option<&str> {
        self.releases.get(&(content.layer, content.ordinal)).map(String::as_str)
    }

    /// The inodes with content that are to be found at their places, for [`contents`]; empty files are left out.
    pub(crate) fn files(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for walked in self.tree.walk() {
            wanted.insert(&self.tree, walked.inode);
        }
        wanted
    }

    /// A text file by path, links followed; `None` if there is no such file.
    pub(crate) fn text(
        &self,
        store: &Store,
        layers: &[Layer],
        path: &str,
    ) -> Result<Option<String>, LayerError> {
        let Some(content) = self.tree.content(path.as_bytes()) else { return Ok(None) };
        let place = (content.layer, content.ordinal);
        let bytes = match self.texts.get(&place) {
            Some(text) => text.clone(),
            None => self.read_one(store, layers, path, content)?,
        };
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Reads one file that the first pass did not keep (a hard link or symbolic link of another name).
    fn read_one(
        &self,
        store: &Store,
        layers: &[Layer],
        path: &str,
        content: Content,
    ) -> Result<Vec<u8>, LayerError> {
        if content.size > MAX_TEXT_BYTES {
            return Err(LayerError::Entry {
                digest: layers[content.layer].digest,
                path: path.to_owned(),
                problem: format!("it has {} bytes; at most {MAX_TEXT_BYTES} are taken", content.size),
            });
        }
        let mut wanted = Wanted::default();
        wanted.insert(&self.tree, self.tree.find(path.as_bytes()).unwrap_or(0));
        let mut bytes = Vec::new();
        contents(store, layers, &wanted, |chunk| {
            bytes.extend_from_slice(&chunk.bytes);
            Ok::<_, LayerError>(())
        })?;
        Ok(bytes)
    }
}

/// Files whose contents are wanted, by their places.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    layers: BTreeMap<usize, BTreeMap<usize, InodeId>>,
    bytes: u64,
}

impl Wanted {
    /// Adds a file; anything else, and a file without content, is left out.
    pub(crate) fn insert(&mut self, tree: &Tree, inode: InodeId) {
        if let Node::File(content) = tree.inodes[inode].node
            && content.size > 0
            && self.layers.entry(content.layer).or_default().insert(content.ordinal, inode).is_none()
        {
            self.bytes += content.size;
        }
    }

    /// Size of all contents, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Streams the wanted contents into `sink`, layer by layer, in the order of each layer's entries. Chunks of a file
/// follow each other. The layers that come next are decompressed ahead, in threads.
pub(crate) fn contents<E: From<LayerError>>(
    store: &Store,
    layers: &[Layer],
    wanted: &Wanted,
    mut sink: impl FnMut(Chunk) -> Result<(), E>,
) -> Result<(), E> {
    thread::scope(|scope| {
        let mut todo = wanted.layers.iter();
        let mut running: VecDeque<Receiver<Result<Chunk, LayerError>>> = VecDeque::new();
        loop {
            while running.len() < threads() {
                let Some((number, files)) = todo.next() else { break };
                running.push_back(begin(scope, store, &layers[*number], files));
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
    store: &'scope Store,
    layer: &'scope Layer,
    files: &'scope BTreeMap<usize, InodeId>,
) -> Receiver<Result<Chunk, LayerError>> {
    let (sender, receiver) = sync_channel(CHUNKS_AHEAD);
    scope.spawn(move || {
        if let Err(error) = send_contents(store, layer, files, &sender) {
            // Nobody listens any more when the sink has failed: then its error is the one to tell.
            let _ = sender.send(Err(error));
        }
    });
    receiver
}

fn send_contents(
    store: &Store,
    layer: &Layer,
    files: &BTreeMap<usize, InodeId>,
    sender: &SyncSender<Result<Chunk, LayerError>>,
) -> Result<(), LayerError> {
    let unreadable = |source| layer.unreadable(source);
    let mut stream = TarStream::new(layer.open(store)?);
    let mut ordinal = 0;
    for (wanted, inode) in files {
        let entry = loop {
            let entry = stream.next_entry().map_err(unreadable)?;
            let entry = entry.ok_or_else(|| unreadable(std::io::ErrorKind::UnexpectedEof.into()))?;
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
