//! What a power cut would take: the journal that `drop-writes` keeps of a program's writes, and the
//! roll-back of those that the program had not synced.
//!
//! `SIGKILL` leaves everything that a program wrote, for the kernel still has it. `drop-writes`
//! (`LD_PRELOAD`) writes down what each write is about to replace, before it happens; after the
//! kill [`roll_back`] puts that back wherever no `fsync` came after it.
//!
//! ```text
//! DIRECTORY/journal   records, one after the other; one that was cut off was never acted upon
//! DIRECTORY/N         hard link to the N-th file that a rename or a removal took the name of
//!
//! record   0  magic `BPWJ`
//!          4  kind
//!          8  inode
//!         16  seconds and (24) nanoseconds of the inode's birth, 0 where the file system has none
//!         28  length of the payload, bytes
//!         32  changed: offset of the payload in the file; renamed, removed: N, or `u64::MAX`;
//!             syncs: their number
//!         40  changed: size of the file before
//!         48  payload: changed: whole sectors as they were; names: paths, with a zero byte between
//! ```
//! All numbers are little endian.
//!
//! The model: a sector that was written since the last sync of its file has, after the cut, any of
//! the contents that it had since then; the size likewise. Of renames and removals in directories
//! that were not synced since, the last ones are undone, in their order. A file once made is there.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, ensure};

use crate::workspace;

/// Variables that tell `drop-writes` where its journal is, and which directories it is about
/// (with `:` between them). Without them it does nothing.
pub const DIRECTORY_VARIABLE: &str = "DROP_WRITES_JOURNAL";
/// See [`DIRECTORY_VARIABLE`].
pub const ROOTS_VARIABLE: &str = "DROP_WRITES_ROOTS";

/// Name of the records' file in the journal's directory.
pub const RECORDS: &str = "journal";

/// What a disk writes whole, bytes: SQLite expects no more of it either.
pub const SECTOR: u64 = 512;

/// A sector, in memory.
const SECTOR_BYTES: usize = 512;

/// There is no saved file.
pub const NOT_SAVED: u64 = u64::MAX;

/// A file, whatever it is called: an inode number is given again, but not in the same nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FileId {
    /// Inode number.
    pub inode: u64,
    /// When the inode was made, seconds since 1970.
    pub birth_seconds: i64,
    /// And nanoseconds.
    pub birth_nanoseconds: u32,
}

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of a file are about to be replaced, or its size.
    Changed,
    /// A sync of a file or directory begins: it is of all that came before.
    SyncBegun,
    /// What came before the sync of this number began is on the disk, of a file.
    Synced,
    /// A file is about to get another name; payload: the old one and the new one.
    Renamed,
    /// A name is about to be removed.
    Removed,
    /// The same of the names in a directory; payload: its path.
    DirectorySynced,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Changed,
        Self::SyncBegun,
        Self::Synced,
        Self::Renamed,
        Self::Removed,
        Self::DirectorySynced,
    ];

    const fn code(self) -> u32 {
        match self {
            Self::Changed => 1,
            Self::Synced => 2,
            Self::Renamed => 3,
            Self::Removed => 4,
            Self::DirectorySynced => 5,
            Self::SyncBegun => 6,
        }
    }
}

/// The part of a record before its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it is of.
    pub kind: Kind,
    /// Of which file.
    pub file: FileId,
    /// Bytes that follow.
    pub payload_bytes: u32,
    /// See the head of this file.
    pub offset: u64,
    /// See the head of this file.
    pub size: u64,
}

impl Header {
    /// Its length, bytes.
    pub const BYTES: usize = 48;

    const MAGIC: [u8; 4] = *b"BPWJ";

    /// As it stands in the journal.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&Self::MAGIC);
        bytes[4..8].copy_from_slice(&self.kind.code().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.file.inode.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.file.birth_seconds.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.file.birth_nanoseconds.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.offset.to_le_bytes());
        bytes[40..].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if bytes.get(..4)? != Self::MAGIC {
            return None;
        }
        let code = word(4)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.code() == code)?;
        let birth_seconds = i64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
        let file = FileId { inode: long(8)?, birth_seconds, birth_nanoseconds: word(24)? };
        Some(Self { kind, file, payload_bytes: word(28)?, offset: long(32)?, size: long(40)? })
    }
}

/// What was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loss {
    /// Records of the journal: none means that nothing was watched.
    pub records: u64,
    /// Files of which something was not synced.
    pub files: u64,
    /// Sectors that were put back.
    pub sectors: u64,
    /// Renames and removals that were undone.
    pub names: u64,
}

/// An empty journal in this directory, which is made or cleared.
///
/// # Errors
/// If it cannot be made.
pub fn reset(directory: &Path) -> anyhow::Result<()> {
    workspace::remove(directory)?;
    workspace::make(directory)
}

/// Takes back what was not synced, below these directories. The program must have ended.
///
/// `choose(n)` is asked for a number below `n`, which is at least 2: of a sector's contents since
/// the last sync, the oldest is 0; of the names, how many of the first are kept. `|_| 0` takes all
/// back that a disk could lose.
///
/// # Errors
/// If the journal is broken, or a file cannot be read or written; names it.
pub fn roll_back(
    directory: &Path,
    roots: &[&Path],
    choose: &mut dyn FnMut(u64) -> u64,
) -> anyhow::Result<Loss> {
    let path = directory.join(RECORDS);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Loss::default()),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let unsynced = Unsynced::of(&bytes).with_context(|| format!("{} is broken", path.display()))?;
    let mut loss = Loss { records: unsynced.records, ..Loss::default() };
    let names = unsynced.names.len() as u64;
    let kept = if names == 0 { 0 } else { choose(names + 1) };
    for name in unsynced.names.iter().skip(usize::try_from(kept)?).rev() {
        loss.names += u64::from(name.undo(directory)?);
    }
    let mut paths = HashMap::new();
    for root in roots {
        find_files(root, &mut paths)?;
    }
    for (file, changes) in &unsynced.files {
        // What has no name any more is lost all the same.
        let Some(path) = paths.get(file) else { continue };
        loss.files += 1;
        let failed = || format!("cannot take back what was written to {}", path.display());
        loss.sectors += take_back(path, changes, choose).with_context(failed)?;
    }
    Ok(loss)
}

/// What replaced bytes of a file.
#[derive(Debug)]
struct Change<'a> {
    /// Place of its record.
    record: u64,
    offset: u64,
    size: u64,
    before: &'a [u8],
}

/// A name that went.
#[derive(Debug)]
struct Name {
    /// Place of its record.
    record: u64,
    /// `None`: it was removed.
    from: Option<PathBuf>,
    /// What had the name before, if anything.
    saved: u64,
    path: PathBuf,
}

#[derive(Debug, Default)]
struct Unsynced<'a> {
    records: u64,
    files: BTreeMap<FileId, Vec<Change<'a>>>,
    names: Vec<Name>,
    /// Syncs that have begun: their number, and the place of the record.
    syncs: HashMap<u64, u64>,
}

impl<'a> Unsynced<'a> {
    fn of(mut bytes: &'a [u8]) -> anyhow::Result<Self> {
        let mut unsynced = Self::default();
        while let Some((head, rest)) = bytes.split_at_checked(Header::BYTES) {
            let header = Header::decode(head)
                .with_context(|| format!("record {} is none", unsynced.records + 1))?;
            let Some((payload, rest)) =
                rest.split_at_checked(usize::try_from(header.payload_bytes)?)
            else {
                break;
            };
            unsynced.add(&header, payload)?;
            unsynced.records += 1;
            bytes = rest;
        }
        Ok(unsynced)
    }

    fn add(&mut self, header: &Header, payload: &'a [u8]) -> anyhow::Result<()> {
        let record = self.records;
        // Where the sync began that this record ends.
        let begun = self.syncs.get(&header.offset).copied();
        let begun = || begun.context("a sync that ends and never began");
        let text = || std::str::from_utf8(payload).context("a path that is not UTF-8");
        match header.kind {
            Kind::Changed => {
                ensure!(header.offset.is_multiple_of(SECTOR), "a change begins within a sector");
                let change =
                    Change { record, offset: header.offset, size: header.size, before: payload };
                self.files.entry(header.file).or_default().push(change);
            }
            Kind::SyncBegun => drop(self.syncs.insert(header.offset, record)),
            Kind::Synced => {
                let begun = begun()?;
                let changes = self.files.entry(header.file).or_default();
                changes.retain(|change| change.record > begun);
                if changes.is_empty() {
                    self.files.remove(&header.file);
                }
            }
            Kind::Renamed => {
                let (from, path) =
                    text()?.split_once('\0').context("a rename without two names")?;
                let (from, path) = (Some(from.into()), path.into());
                self.names.push(Name { record, from, saved: header.offset, path });
            }
            Kind::Removed => {
                let path = text()?.into();
                self.names.push(Name { record, from: None, saved: header.offset, path });
            }
            Kind::DirectorySynced => {
                let (directory, begun) = (Path::new(text()?), begun()?);
                self.names
                    .retain(|name| name.record > begun || name.path.parent() != Some(directory));
            }
        }
        Ok(())
    }
}

impl Name {
    /// Whether there was something to undo: the directory itself may be gone.
    fn undo(&self, directory: &Path) -> anyhow::Result<bool> {
        let attempted = |done: std::io::Result<()>| match done {
            Ok(()) => Ok(true),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) =>
            {
                Ok(false)
            }
            Err(error) => Err(error).with_context(|| {
                format!("cannot bring {} back to its old name", self.path.display())
            }),
        };
        let mut undone = false;
        if let Some(from) = &self.from {
            undone |= attempted(fs::rename(&self.path, from))?;
        }
        if self.saved != NOT_SAVED {
            let saved = directory.join(self.saved.to_string());
            undone |= attempted(fs::hard_link(saved, &self.path))?;
        }
        Ok(undone)
    }
}

/// Every regular file below a directory, by what it is.
fn find_files(directory: &Path, found: &mut HashMap<FileId, PathBuf>) -> anyhow::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot list {}", directory.display()))?,
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let path = entry.path();
        let facts =
            entry.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
        if facts.is_dir() {
            find_files(&path, found)?;
        } else if facts.is_file() {
            let born = facts.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let file = FileId {
                inode: facts.ino(),
                birth_seconds: i64::try_from(born.map_or(0, |born| born.as_secs()))?,
                birth_nanoseconds: born.map_or(0, |born| born.subsec_nanos()),
            };
            found.insert(file, path);
        }
    }
    Ok(())
}

/// Gives each changed sector, and the size, one of those that they had. How many sectors changed.
fn take_back(
    path: &Path,
    changes: &[Change<'_>],
    choose: &mut dyn FnMut(u64) -> u64,
) -> anyhow::Result<u64> {
    let file = File::options().read(true).write(true).open(path)?;
    let size_now = file.metadata()?.len();
    let mut sectors: BTreeMap<u64, Vec<&[u8]>> = BTreeMap::new();
    for change in changes {
        let mut offset = change.offset;
        for sector in change.before.chunks(SECTOR_BYTES) {
            sectors.entry(offset).or_default().push(sector);
            offset += SECTOR;
        }
    }
    let mut put_back = 0;
    for (offset, versions) in sectors {
        // The last of all is what is there.
        let chosen = usize::try_from(choose(versions.len() as u64 + 1))?;
        if let Some(version) = versions.get(chosen) {
            file.write_all_at(version, offset)?;
            put_back += 1;
        }
    }
    let mut sizes: Vec<u64> = changes.iter().map(|change| change.size).collect();
    sizes.dedup();
    let chosen = usize::try_from(choose(sizes.len() as u64 + 1))?;
    file.set_len(sizes.get(chosen).copied().unwrap_or(size_now))?;
    Ok(put_back)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, file: FileId, offset: u64, size: u64, payload: &[u8]) -> Vec<u8> {
        let payload_bytes = u32::try_from(payload.len()).unwrap();
        let header = Header { kind, file, payload_bytes, offset, size };
        [&header.encode()[..], payload].concat()
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let file = FileId { inode: 7, birth_seconds: -3, birth_nanoseconds: 9 };
        for kind in Kind::ALL {
            let header = Header { kind, file, payload_bytes: 5, offset: 1 << 40, size: 12 };
            assert_eq!(Header::decode(&header.encode()), Some(header));
        }
        assert_eq!(Header::decode(&[0; Header::BYTES]), None);
    }

    #[test]
    fn only_what_came_after_the_last_sync_is_unsynced() {
        let (one, two) = (FileId { inode: 1, ..FileId::default() }, FileId::default());
        let old = [7; SECTOR_BYTES];
        let mut bytes = record(Kind::Changed, one, 0, 512, &old);
        bytes.extend(record(Kind::Changed, two, 512, 99, &[]));
        bytes.extend(record(Kind::SyncBegun, one, 1, 0, &[]));
        bytes.extend(record(Kind::Synced, one, 1, 0, &[]));
        bytes.extend(record(Kind::Removed, one, 4, 0, b"/s/a/old"));
        bytes.extend(record(Kind::Renamed, one, NOT_SAVED, 0, b"/s/a/new\0/s/b/new"));
        bytes.extend(record(Kind::SyncBegun, two, 2, 0, &[]));
        // While it is being synced: too late for this sync.
        bytes.extend(record(Kind::Removed, one, 5, 0, b"/s/a/late"));
        bytes.extend(record(Kind::DirectorySynced, two, 2, 0, b"/s/a"));
        // Cut off in its payload.
        let cut = record(Kind::Changed, one, 0, 0, &old);
        bytes.extend(&cut[..cut.len() - 1]);
        let unsynced = Unsynced::of(&bytes).unwrap();
        assert_eq!(unsynced.records, 9);
        assert_eq!(unsynced.files.keys().collect::<Vec<_>>(), [&two]);
        assert_eq!(unsynced.files[&two][0].size, 99);
        let names: Vec<&Path> = unsynced.names.iter().map(|name| name.path.as_path()).collect();
        assert_eq!(names, [Path::new("/s/b/new"), Path::new("/s/a/late")]);
        bytes[0] = b'X';
        assert!(Unsynced::of(&bytes).is_err());
    }
}
