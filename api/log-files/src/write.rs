//! The one writer of a log.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write as _},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, fsync, mkdirat, openat, unlinkat},
    io::Errno,
};

use super::{LogLocation, Segment, absent, segment_name, segments, starts};

/// Segments of a tail: of a full one at least seven eighths are kept.
const SEGMENTS: u64 = 8;

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    head: u64,
    /// A multiple of [`SEGMENTS`].
    tail: u64,
}

impl Limits {
    /// `bytes` in all: the first half, and of the rest the end.
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        let tail = bytes / 2 / SEGMENTS * SEGMENTS;
        Self { head: bytes - tail, tail }
    }

    /// All of it, in one file.
    pub const NONE: Self = Self { head: u64::MAX, tail: 0 };

    fn segment(self) -> u64 {
        (self.tail / SEGMENTS).max(1)
    }
}

/// Writes a log, of which there is one writer at a time.
#[derive(Debug)]
pub struct Writer {
    place: LogLocation,
    limits: Limits,
    head: File,
    head_bytes: u64,
    /// The directory of segments, and the newest of them, open.
    tail: Option<(OwnedFd, File)>,
    segments: VecDeque<Segment>,
    syncs: bool,
}

impl Writer {
    /// Goes on with a log, or begins one.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(place: LogLocation, limits: Limits) -> io::Result<Self> {
        let head = place.open(OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND)?;
        Self::go_on(place, limits, head)
    }

    /// As [`Self::open`], when no other writer of this kind has it. What it writes is for a machine
    /// that may crash: a file is on disk before the next one begins, so that nothing is lost but
    /// the end of the log.
    ///
    /// # Errors
    /// The file system's.
    pub fn open_shared(place: LogLocation, limits: Limits) -> io::Result<Self> {
        let head = place.open(OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND)?;
        head.lock()?;
        Ok(Self { syncs: true, ..Self::go_on(place, limits, head)? })
    }

    fn go_on(place: LogLocation, limits: Limits, head: File) -> io::Result<Self> {
        let head_bytes = head.metadata()?.len();
        let mut writer = Self {
            place,
            limits,
            head,
            head_bytes,
            tail: None,
            segments: VecDeque::new(),
            syncs: false,
        };
        if let Some(directory) = writer.place.open_tail()? {
            writer.segments = segments(&directory)?.into();
            // What does not join is left of a crash, and nobody's.
            for start in starts(&directory)? {
                if writer.segments.iter().all(|segment| segment.start != start) {
                    absent(unlinkat(&directory, segment_name(start), AtFlags::empty()))?;
                }
            }
            if let Some(newest) = writer.segments.back() {
                let file = open_segment(&directory, newest.start)?;
                writer.tail = Some((directory, file));
            }
        }
        Ok(writer)
    }

    /// Keeps more or less from now on. What the tail has past its new limit goes at once, but for
    /// the segment that is written, which goes when the next one begins; the head stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        while self.tail_bytes() > self.limits.tail && self.drop_oldest() {}
    }

    /// Where the log ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.segments.back().map_or(self.head_bytes, |newest| newest.end)
    }

    /// Whether the head is full.
    #[must_use]
    pub fn is_past_head(&self) -> bool {
        self.tail.is_some() || self.head_bytes >= self.limits.head
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// The file system's; [`Self::end`] says how many of them are written.
    pub fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (file, room) = self.file_with_room()?;
            let length = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let count = match file.write(&bytes[..length]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match self.segments.back_mut() {
                Some(newest) => newest.end += count as u64,
                None => self.head_bytes += count as u64,
            }
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Goes on at `offset`, past the end: what is between, and the tail before it, is not kept.
    ///
    /// # Errors
    /// The file system's; then nothing has changed.
    pub fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        if offset <= self.end() {
            return Ok(());
        }
        self.begin_segment(offset)?;
        while self.drop_oldest() {}
        Ok(())
    }

    /// Makes room by deleting the oldest segment. `false` if there is none but that
    /// which is written.
    pub fn drop_oldest(&mut self) -> bool {
        if self.segments.len() < 2 {
            return false;
        }
        if let (Some(oldest), Some((directory, _))) = (self.segments.pop_front(), &self.tail) {
            // One that cannot be deleted is told by nobody: it goes with the log.
            let _ = unlinkat(directory, segment_name(oldest.start), AtFlags::empty());
        }
        true
    }

    /// Puts all on disk.
    ///
    /// # Errors
    /// The file system's.
    pub fn sync(&self) -> io::Result<()> {
        self.place.sync()
    }

    /// The file that is written, and how many bytes it takes yet.
    fn file_with_room(&mut self) -> io::Result<(&mut File, u64)> {
        let in_head = self.segments.is_empty() && self.head_bytes < self.limits.head;
        let of_newest = self
            .segments
            .back()
            .map_or(0, |newest| self.limits.segment().saturating_sub(newest.end - newest.start));
        if !in_head && of_newest == 0 {
            self.begin_segment(self.end())?;
        }
        match &mut self.tail {
            Some((_, file)) if !in_head => {
                Ok((file, if of_newest == 0 { self.limits.segment() } else { of_newest }))
            }
            _ => Ok((&mut self.head, self.limits.head - self.head_bytes)),
        }
    }

    fn begin_segment(&mut self, start: u64) -> io::Result<()> {
        if self.syncs {
            let written = self.tail.as_ref().map_or(&self.head, |(_, newest)| newest);
            written.sync_data()?;
        }
        let directory = match &self.tail {
            Some((directory, _)) => directory.try_clone()?,
            None => self.make_tail()?,
        };
        let file = open_segment(&directory, start)?;
        if self.syncs {
            fsync(&directory)?;
        }
        self.tail = Some((directory, file));
        self.segments.push_back(Segment { start, end: start });
        while self.tail_bytes() + self.limits.segment() > self.limits.tail && self.drop_oldest() {}
        Ok(())
    }

    fn tail_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end - segment.start).sum()
    }

    fn make_tail(&self) -> io::Result<OwnedFd> {
        match mkdirat(&self.place.directory, &self.place.tail, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(self.place.open_tail()?.ok_or(io::ErrorKind::NotFound)?)
    }
}

fn open_segment(directory: &OwnedFd, start: u64) -> io::Result<File> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, segment_name(start), flags, Mode::from_raw_mode(0o600))?.into())
}
