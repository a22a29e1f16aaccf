//! The journal as it is written: which files are watched, and what is put down of them.
//!
//! A descriptor is looked up in `/proc` at each call, so nothing must be known of how it was
//! opened, copied or passed on. One lock is held from the record of a change to its end, so that
//! records stand in the order of what they are of. What is no regular file never comes to it:
//! signal handlers write to pipes.

use std::{
    ffi::{CStr, CString, c_int},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use harness::write_journal::{
    DIRECTORY_VARIABLE, FileId, Header, Kind, NOT_SAVED, RECORDS, ROOTS_VARIABLE, SECTOR,
};
use libc::off_t;

use crate::raw;

/// Memory that a program shares by way of a file is made again after a crash.
const SHARED_MEMORY: &[u8] = b"-shm";

/// Bytes of a file in one record at most: a multiple of a sector.
const MOST_BYTES: u64 = 1 << 20;

/// How long a sync takes: as long as on a fast disk. Without it hardly a kill would come in time.
const SYNC: Duration = Duration::from_millis(2);

/// The journal of this process.
#[derive(Debug)]
struct Journal {
    directory: Vec<u8>,
    roots: Vec<Vec<u8>>,
    records: Mutex<Records>,
}

/// Held while something is changed that was put down.
#[derive(Debug)]
pub(crate) struct Records {
    fd: c_int,
    /// Number of the next file that is saved, or of the next sync.
    next: u64,
}

/// A lock that keeps the order.
pub(crate) type Order = MutexGuard<'static, Records>;

/// What a descriptor or a path is of, if it is watched.
#[derive(Debug)]
struct Watched {
    file: FileId,
    size: u64,
    is_directory: bool,
    path: Vec<u8>,
}

/// Before `count` bytes are written at an offset, or where the descriptor stands.
pub(crate) fn before_write(fd: c_int, offset: Option<off_t>, count: usize) -> Option<Order> {
    of_regular_file(fd)?;
    let mut order = lock()?;
    // Its size may have changed until we had our turn.
    let watched = of_regular_file(fd)?;
    let start = match offset {
        Some(offset) => u64::try_from(offset).ok()?,
        None if raw::appends(fd) => watched.size,
        None => raw::position(fd)?,
    };
    order.put_sectors(fd, &watched, start, start.saturating_add(count as u64));
    Some(order)
}

/// Before a file is cut, or made longer.
pub(crate) fn before_truncation(fd: c_int, length: off_t) -> Option<Order> {
    of_regular_file(fd)?;
    let mut order = lock()?;
    let watched = of_regular_file(fd)?;
    let length = u64::try_from(length).ok()?;
    order.put_sectors(fd, &watched, length.min(watched.size), watched.size);
    Some(order)
}

/// Puts down that a file or directory is on the disk, after as long as a disk takes; whether it is
/// a watched one. The disk itself is not asked: what it would keep is in the journal.
pub(crate) fn sync(fd: c_int) -> bool {
    let Some(watched) = watched_by(fd) else { return false };
    let Some(mut order) = lock() else { return false };
    let number = order.number();
    order.put(Kind::SyncBegun, watched.file, (number, 0), &[]);
    // Others write meanwhile, and a kill is most likely to come now.
    drop(order);
    std::thread::sleep(SYNC);
    let Some(mut order) = lock() else { return false };
    if watched.is_directory {
        order.put(Kind::DirectorySynced, watched.file, (number, 0), &watched.path);
    } else {
        order.put(Kind::Synced, watched.file, (number, 0), &[]);
    }
    true
}

/// Before a file gets another name.
pub(crate) fn before_rename(from: &[u8], to: &[u8]) -> Option<Order> {
    let moved = of_path(from).filter(|moved| !moved.is_directory)?;
    let mut order = lock()?;
    let saved = if of_path(to).is_some() { order.save(to) } else { NOT_SAVED };
    order.put(Kind::Renamed, moved.file, (saved, 0), &[from, b"\0".as_slice(), to].concat());
    Some(order)
}

/// Before a file loses its name.
pub(crate) fn before_removal(path: &[u8]) -> Option<Order> {
    let removed = of_path(path).filter(|removed| !removed.is_directory)?;
    let mut order = lock()?;
    let saved = order.save(path);
    order.put(Kind::Removed, removed.file, (saved, 0), path);
    Some(order)
}

/// The whole path, if it lies below a root. One that begins at the working directory does not.
pub(crate) fn watched(directory: c_int, path: &[u8]) -> Option<Vec<u8>> {
    let journal = journal()?;
    let path = if path.starts_with(b"/") {
        path.to_vec()
    } else if directory == libc::AT_FDCWD {
        return None;
    } else {
        [path_of(directory)?.as_slice(), b"/".as_slice(), path].concat()
    };
    journal.watches(&path).then_some(path)
}

impl Journal {
    /// Made of the environment; `None`: this program is not watched.
    fn of_environment() -> Option<Self> {
        let directory = std::env::var_os(DIRECTORY_VARIABLE)?.into_vec();
        let roots = std::env::var_os(ROOTS_VARIABLE)?;
        let roots = roots.as_bytes().split(|byte| *byte == b':').map(<[u8]>::to_vec).collect();
        let path =
            CString::new([directory.as_slice(), b"/".as_slice(), RECORDS.as_bytes()].concat())
                .ok()?;
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
        // SAFETY: the path is a string of C.
        let fd = unsafe { raw::openat(libc::AT_FDCWD, path.as_ptr(), flags, 0o600) };
        if fd < 0 {
            // Going on would mean that nothing is ever lost.
            std::process::abort();
        }
        // A program that was started by a watched one must not take the same numbers.
        let next = u64::from(std::process::id()) << 32;
        Some(Self { directory, roots, records: Mutex::new(Records { fd, next }) })
    }

    fn watches(&self, path: &[u8]) -> bool {
        let is_below = |root: &Vec<u8>| {
            path.strip_prefix(root.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        !path.ends_with(SHARED_MEMORY) && self.roots.iter().any(is_below)
    }
}

impl Records {
    /// What stands in these bytes of a file, in whole sectors; at least its size.
    fn put_sectors(&mut self, fd: c_int, watched: &Watched, start: u64, end: u64) {
        let mut offset = start / SECTOR * SECTOR;
        let end = end.div_ceil(SECTOR).saturating_mul(SECTOR);
        // Never of one that can be read: to close a second descriptor ends the locks of the first
        // (fcntl_locking(2)), and SQLite has some.
        let second = raw::only_writes(fd).then(|| raw::open_again_to_read(fd));
        loop {
            let bytes = end.saturating_sub(offset).min(MOST_BYTES);
            let mut before = vec![0; usize::try_from(bytes).unwrap_or(0)];
            raw::read_at(second.unwrap_or(fd), &mut before, offset);
            self.put(Kind::Changed, watched.file, (offset, watched.size), &before);
            offset = offset.saturating_add(bytes);
            if offset >= end {
                break;
            }
        }
        if let Some(second) = second {
            raw::close(second);
        }
    }

    /// One that nothing else in the journal has.
    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Gives a file a name in the journal's directory, and tells its number.
    fn save(&mut self, path: &[u8]) -> u64 {
        let Some(journal) = journal() else { return NOT_SAVED };
        let number = self.number();
        let name = format!("/{number}");
        let saved = [journal.directory.as_slice(), name.as_bytes()].concat();
        let (Ok(path), Ok(saved)) = (CString::new(path), CString::new(saved)) else {
            return NOT_SAVED;
        };
        if raw::link(&path, &saved) { number } else { NOT_SAVED }
    }

    fn put(&mut self, kind: Kind, file: FileId, (offset, size): (u64, u64), payload: &[u8]) {
        let Ok(payload_bytes) = u32::try_from(payload.len()) else { std::process::abort() };
        let header = Header { kind, file, payload_bytes, offset, size };
        let record = [&header.encode()[..], payload].concat();
        // SAFETY: the record is as long as is said.
        let written = unsafe { raw::write(self.fd, record.as_ptr().cast(), record.len()) };
        if usize::try_from(written) != Ok(record.len()) {
            // What is not put down could not be taken back, and a loss would be taken for none.
            std::process::abort();
        }
    }
}

fn journal() -> Option<&'static Journal> {
    static JOURNAL: OnceLock<Option<Journal>> = OnceLock::new();
    JOURNAL.get_or_init(Journal::of_environment).as_ref()
}

fn lock() -> Option<Order> {
    Some(journal()?.records.lock().unwrap_or_else(PoisonError::into_inner))
}

fn of_regular_file(fd: c_int) -> Option<Watched> {
    watched_by(fd).filter(|watched| !watched.is_directory)
}

/// A regular file or directory that is watched.
fn watched_by(fd: c_int) -> Option<Watched> {
    let facts = raw::facts(fd, c"")?;
    let is_directory = kind(&facts)?;
    let path = path_of(fd)?;
    let journal = journal()?;
    journal.watches(&path).then(|| of_facts(&facts, is_directory, path))
}

fn of_path(path: &[u8]) -> Option<Watched> {
    let named = CString::new(path).ok()?;
    let facts = raw::facts(libc::AT_FDCWD, &named)?;
    Some(of_facts(&facts, kind(&facts)?, path.to_vec()))
}

fn of_facts(facts: &libc::statx, is_directory: bool, path: Vec<u8>) -> Watched {
    let file = FileId {
        inode: facts.stx_ino,
        birth_seconds: facts.stx_btime.tv_sec,
        birth_nanoseconds: facts.stx_btime.tv_nsec,
    };
    Watched { file, size: facts.stx_size, is_directory, path }
}

/// Whether it is a directory; `None`: neither that nor a regular file.
fn kind(facts: &libc::statx) -> Option<bool> {
    match u32::from(facts.stx_mode) & libc::S_IFMT {
        libc::S_IFREG => Some(false),
        libc::S_IFDIR => Some(true),
        _ => None,
    }
}

/// What the kernel calls a descriptor.
fn path_of(fd: c_int) -> Option<Vec<u8>> {
    let link = format!("/proc/self/fd/{fd}\0");
    raw::link_target(CStr::from_bytes_with_nul(link.as_bytes()).ok()?)
}
