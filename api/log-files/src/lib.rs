//! The files of one log, of which head and tail are kept where it is longer than its limit. The
//! container init writes them on a node, and the server its own; both are read while they grow.
//!
//! ```text
//! NAME               the head: bytes from 0 on
//! NAME.tail/OFFSET   segments of the tail: bytes from OFFSET (20 digits) on
//! NAME.times         when it was written, where that is kept: time marks
//! ```
//! Offsets count what was written, whatever is kept of it. A log within its limit has no gap: its
//! first segment begins where the head ends. Past the limit the oldest segment is deleted for each
//! new one, and what is missing between head and tail is the gap ([`LogGap`]). Nothing but these
//! names says where bytes belong, so a writer that is killed anywhere leaves what can be read. A
//! segment that ends before the next one begins (a machine crashed before it was on its disk) is
//! left out, with all before it.
//!
//! The head never grows once there is a tail. Readers hold no file open from one read to the next:
//! a deleted segment takes no room.

mod tail;
mod times;
mod write;

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::Path,
};

use api::log::LogGap;
use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, statat},
    io::Errno,
};

pub use self::{
    tail::last_lines,
    times::{TimesWriter, since, time_marks},
    write::{Limits, Writer},
};

/// How often a reader looks again at a tail whose oldest segment was deleted while it looked. Each
/// deletion takes a segment's worth of writing.
const LOOKS: u32 = 5;

/// Where the files of a log are: the directory that they are in, and the name of the head.
#[derive(Debug)]
pub struct LogLocation {
    directory: OwnedFd,
    head: OsString,
    tail: OsString,
    times: OsString,
}

impl LogLocation {
    /// In a directory that is open.
    #[must_use]
    pub fn new(directory: OwnedFd, name: &str) -> Self {
        let beside = |ending: &str| format!("{name}.{ending}").into();
        Self { directory, head: name.into(), tail: beside("tail"), times: beside("times") }
    }

    /// Of a log whose head is at `path`.
    ///
    /// # Errors
    /// There is no such directory.
    pub fn of(path: &Path) -> io::Result<Self> {
        let head = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let (mut tail, mut times) = (head.clone(), head.clone());
        tail.push(".tail");
        times.push(".times");
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        Ok(Self { directory: openat(CWD, directory, flags, Mode::empty())?, head, tail, times })
    }

    fn open(&self, flags: OFlags) -> Result<File, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.directory, &self.head, flags, Mode::from_raw_mode(0o600)).map(File::from)
    }

    /// The directory of the tail's segments, if there is one.
    fn open_tail(&self) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        absent(openat(&self.directory, &self.tail, flags, Mode::empty()))
    }

    /// What is kept now.
    ///
    /// # Errors
    /// The file system's. Where there are no files, nothing is kept.
    pub fn extent(&self) -> io::Result<Extent> {
        // Before the head: with a tail it does not grow any more.
        let segments = match self.open_tail()? {
            Some(tail) => segments(&tail)?,
            None => Vec::new(),
        };
        let head = absent(statat(&self.directory, &self.head, AtFlags::SYMLINK_NOFOLLOW))?;
        let head = head.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
        Ok(Extent { head, segments })
    }

    /// The bytes from `offset` on that are kept next, at most `most` of them. Fewer do not mean
    /// that there are no more; none do.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(&self, offset: u64, most: usize) -> io::Result<Piece> {
        retry_while_deleting(|| {
            let extent = self.extent()?;
            let Some((from, end)) = extent.next(offset) else {
                return Ok(Some(Piece { from: offset.max(extent.end()), bytes: Vec::new() }));
            };
            let (file, start) = match extent.segments.iter().find(|segment| segment.end == end) {
                Some(segment) if from >= extent.head => {
                    (self.open_segment(segment.start)?, segment.start)
                }
                _ => (absent(self.open(OFlags::RDONLY))?, 0),
            };
            let Some(file) = file else { return Ok(None) };
            let length = usize::try_from(end - from).unwrap_or(usize::MAX).min(most);
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, from - start)?;
            Ok(Some(Piece { from, bytes }))
        })
    }

    fn open_segment(&self, start: u64) -> io::Result<Option<File>> {
        let Some(tail) = self.open_tail()? else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(absent(openat(&tail, segment_name(start), flags, Mode::empty()))?.map(File::from))
    }

    /// Puts all that is kept on disk.
    ///
    /// # Errors
    /// The file system's. What is not there is no error.
    pub fn sync(&self) -> io::Result<()> {
        if let Some(head) = absent(self.open(OFlags::RDONLY))? {
            head.sync_all()?;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let times = openat(&self.directory, &self.times, flags, Mode::empty()).map(File::from);
        if let Some(times) = absent(times)? {
            times.sync_all()?;
        }
        let Some(tail) = self.open_tail()? else { return Ok(()) };
        for segment in segments(&tail)? {
            if let Some(file) = self.open_segment(segment.start)? {
                file.sync_all()?;
            }
        }
        Ok(rustix::fs::fsync(&tail)?)
    }
}

/// What is kept of the log whose head is at `path`: nothing where there is no such directory.
///
/// # Errors
/// The file system's.
pub fn extent(path: &Path) -> io::Result<Extent> {
    or_absent(LogLocation::of(path).and_then(|place| place.extent()), Extent::default)
}

/// [`LogLocation::read`] of the log whose head is at `path`, as [`extent`].
///
/// # Errors
/// The file system's.
pub fn read(path: &Path, offset: u64, most: usize) -> io::Result<Piece> {
    let nothing = || Piece { from: offset, bytes: Vec::new() };
    or_absent(LogLocation::of(path).and_then(|place| place.read(offset, most)), nothing)
}

/// Looks until nothing is deleted meanwhile.
fn retry_while_deleting<T>(mut look: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    for _ in 0..LOOKS {
        if let Some(found) = look()? {
            return Ok(found);
        }
    }
    // Not that there is no log: its reader would take that for the end.
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the log was written faster than it was read"))
}

fn or_absent<T>(found: io::Result<T>, nothing: impl FnOnce() -> T) -> io::Result<T> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(nothing()),
        found => found,
    }
}

/// Whether the log whose head is at `path` has more than its first `offset` bytes, as far as two
/// looks can tell: a log with a tail may have none.
#[must_use]
pub fn may_have_more(path: &Path, offset: u64) -> bool {
    let mut tail = path.as_os_str().to_owned();
    tail.push(".tail");
    let head = std::fs::metadata(path).map_or(0, |head| head.len());
    head > offset || std::fs::symlink_metadata(tail).is_ok()
}

/// Bytes of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where they are in the log: past the offset that was asked for if that is in the gap.
    pub from: u64,
    /// Themselves; none at the end.
    pub bytes: Vec<u8>,
}

/// What is kept of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extent {
    head: u64,
    /// In order, each but the first beginning where the one before ends.
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    start: u64,
    end: u64,
}

impl Extent {
    /// Where the log ends: how many bytes were written to it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(self.head, |last| last.end.max(self.head))
    }

    /// What is not kept.
    #[must_use]
    pub fn gap(&self) -> Option<LogGap> {
        let to = self.segments.first()?.start;
        (self.head < to).then_some(LogGap { from: self.head, to })
    }

    /// How many bytes from `offset` on are kept.
    #[must_use]
    pub fn bytes_from(&self, offset: u64) -> u64 {
        let left_out = self.gap().map_or(0, |gap| gap.to.saturating_sub(gap.from.max(offset)));
        self.end().saturating_sub(offset).saturating_sub(left_out)
    }

    /// Where the next kept bytes from `offset` on begin, and where their file ends.
    fn next(&self, offset: u64) -> Option<(u64, u64)> {
        if offset < self.head {
            return Some((offset, self.head));
        }
        let segment = self.segments.iter().find(|segment| offset < segment.end)?;
        Some((offset.max(segment.start), segment.end))
    }
}

/// The newest segments that join. The writer may delete the oldest meanwhile.
fn segments(tail: &OwnedFd) -> io::Result<Vec<Segment>> {
    let mut joined: Vec<Segment> = Vec::new();
    for start in starts(tail)?.into_iter().rev() {
        let name = segment_name(start);
        let Some(stat) = absent(statat(tail.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW))? else {
            break;
        };
        let end = start.saturating_add(u64::try_from(stat.st_size).unwrap_or(0));
        if joined.last().is_some_and(|newer| newer.start != end) {
            break;
        }
        joined.push(Segment { start, end });
    }
    joined.reverse();
    Ok(joined)
}

/// Where the segments that are there begin, in order.
fn starts(tail: &OwnedFd) -> io::Result<Vec<u64>> {
    let mut starts: Vec<u64> = Vec::new();
    for entry in Dir::read_from(tail)? {
        starts.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<u64>().ok()));
    }
    starts.sort_unstable();
    Ok(starts)
}

fn segment_name(start: u64) -> String {
    format!("{start:020}")
}

fn absent<T>(found: Result<T, Errno>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests;
