//! When a log was written: time marks beside it, a bounded number of them.
//!
//! ```text
//! NAME.times     records of three numbers of 64 bits, little-endian:
//!   record 0     0        interval, microseconds    check
//!   record 1…n   offset   time, microseconds        check        n at most 1,024
//! ```
//! `check` is the exclusive or of the two before it and a constant: a record that is written while
//! it is read, or that a crash tore, is none, and is passed over. Each mark ([`TimeMark`]) holds by
//! itself, so whatever is lost of them makes an answer longer and never leaves out a line.
//!
//! The last mark follows the log. It becomes a lasting one when the log goes on after the interval
//! has passed since the mark before it: until then the next one takes its place. So a line that is
//! answered although it was written before the time that was asked for, was written within one
//! interval before it, whether the log was quiet for hours or never. The interval begins with a
//! second. When there are too many marks it is doubled until there is room again: of a log that
//! never pauses every second mark is dropped.
//!
//! A clock that is set back contradicts what it said: marks that are later than a newer one are
//! dropped. What was in the log then was in it before the newer one, too.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use api::{ids::Timestamp, log::times::TimeMark};
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

use super::{LogLocation, absent, extent, or_absent, tail::line_begin};

/// Marks of one log, at most: 24 KiB. Of one that is written for a day without a pause they are
/// some two minutes apart in the end.
const MAX_MARKS: usize = 1024;

/// Marks after which there is room again: more than half, so that one doubling of the interval
/// leaves fewer wherever marks are as dense as it allows.
const ROOMY: usize = MAX_MARKS / 4 * 3;

/// Shortest time between lasting marks, microseconds.
const LEAST_INTERVAL: i64 = 1_000_000;

/// Bytes of a record.
const RECORD: usize = 24;

/// Bytes that are read of a file: no writer of ours makes it longer.
const MAX_BYTES: u64 = ((MAX_MARKS + 1) * RECORD) as u64;

/// Makes a record of nothing but zeros none.
const CHECK: u64 = u64::from_le_bytes(*b"logtimes");

/// The marks of a log, in order of offsets and of times.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Marks {
    interval: i64,
    marks: Vec<TimeMark>,
}

/// What a new mark has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    Nothing,
    /// The last mark alone: it is new, or takes the place of the one that was the last.
    Last,
    /// Marks before it, too.
    All,
}

impl Default for Marks {
    fn default() -> Self {
        Self { interval: LEAST_INTERVAL, marks: Vec::new() }
    }
}

impl Marks {
    /// Takes a mark. One at an offset that is known is known better.
    fn push(&mut self, mark: TimeMark) -> Changed {
        if self.marks.last().is_some_and(|last| last.offset >= mark.offset) {
            return Changed::Nothing;
        }
        let before = self.marks.len();
        while self.marks.last().is_some_and(|last| last.time > mark.time) {
            self.marks.pop();
        }
        let is_set_back = self.marks.len() < before;
        self.follow(mark);
        if self.marks.len() > MAX_MARKS {
            self.thin();
        } else if !is_set_back {
            return Changed::Last;
        }
        Changed::All
    }

    fn follow(&mut self, mark: TimeMark) {
        let lasting = self.marks.len().checked_sub(2).map(|index| self.marks[index].time);
        match self.marks.last_mut() {
            Some(last)
                if lasting
                    .is_some_and(|time| mark.time.0.saturating_sub(time.0) < self.interval) =>
            {
                *last = mark;
            }
            _ => self.marks.push(mark),
        }
    }

    /// Of marks that are all within one interval three at most are left, so this ends.
    fn thin(&mut self) {
        while self.marks.len() > ROOMY {
            self.interval = self.interval.saturating_mul(2);
            for mark in std::mem::take(&mut self.marks) {
                self.follow(mark);
            }
        }
    }

    /// From where on the log may have what was written at `time` or later; `None` if there are no
    /// marks.
    fn since(&self, time: Timestamp) -> Option<u64> {
        let after = self.marks.partition_point(|mark| mark.time <= time);
        let last = after.checked_sub(1).and_then(|index| self.marks.get(index));
        (!self.marks.is_empty()).then(|| last.map_or(0, |mark| mark.offset))
    }

    fn read(bytes: &[u8]) -> Self {
        let mut records = bytes.chunks_exact(RECORD).map(read_record);
        let interval = records.next().flatten().map(|(_, interval)| interval);
        let interval =
            interval.filter(|interval| *interval >= LEAST_INTERVAL).unwrap_or(LEAST_INTERVAL);
        let mut marks: Vec<TimeMark> = Vec::new();
        for (offset, micros) in records.flatten() {
            let mark = TimeMark { offset, time: Timestamp(micros) };
            if marks.last().is_none_or(|last| last.offset < offset && last.time <= mark.time) {
                marks.push(mark);
            }
        }
        Self { interval, marks }
    }

    fn bytes(&self) -> Vec<u8> {
        let marks = self.marks.iter().map(|mark| record(mark.offset, mark.time.0));
        [record(0, self.interval)].into_iter().chain(marks).flatten().collect()
    }
}

fn record(offset: u64, value: i64) -> [u8; RECORD] {
    let value = value.cast_unsigned();
    let mut bytes = [0; RECORD];
    for (place, number) in bytes.chunks_exact_mut(8).zip([offset, value, offset ^ value ^ CHECK]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn read_record(bytes: &[u8]) -> Option<(u64, i64)> {
    let number =
        |place: usize| Some(u64::from_le_bytes(bytes.get(place..place + 8)?.try_into().ok()?));
    let (offset, value, check) = (number(0)?, number(8)?, number(16)?);
    (check == offset ^ value ^ CHECK).then_some((offset, value.cast_signed()))
}

/// Keeps the time marks of a log, of which there is one writer at a time.
#[derive(Debug)]
pub struct TimesWriter {
    place: LogLocation,
    marks: Marks,
    file: Option<File>,
}

impl TimesWriter {
    /// Goes on with the marks of a log, or begins them.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(place: LogLocation) -> io::Result<Self> {
        Ok(Self { marks: marks_of(&place)?, place, file: None })
    }

    /// Says how long the log was at some times, in their order: all before a mark's offset was
    /// written by then. Offsets that are not past the last one change nothing. They are written
    /// together, however many they are.
    ///
    /// # Errors
    /// The file system's: then some may be missing in the file, and the times are less precise.
    pub fn mark(&mut self, marks: impl IntoIterator<Item = TimeMark>) -> io::Result<()> {
        let (mut first, mut all) = (None, false);
        for mark in marks {
            match self.marks.push(mark) {
                Changed::Nothing => {}
                Changed::Last => {
                    let last = self.marks.marks.len() - 1;
                    first = Some(first.map_or(last, |first: usize| first.min(last)));
                }
                Changed::All => all = true,
            }
        }
        match first {
            _ if all => self.write_all(),
            Some(first) => self.write_from(first),
            None => Ok(()),
        }
    }

    /// Writes the marks from number `first` on, which are behind those in the file or take the
    /// place of its last.
    fn write_from(&mut self, first: usize) -> io::Result<()> {
        if self.file.is_none() {
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(&self.place.directory, &self.place.times, flags, Mode::empty());
            self.file = absent(opened)?.map(File::from);
        }
        let Some(file) = &self.file else { return self.write_all() };
        let records =
            self.marks.marks[first..].iter().flat_map(|mark| record(mark.offset, mark.time.0));
        // Before them is the interval.
        file.write_all_at(&records.collect::<Vec<u8>>(), ((first + 1) * RECORD) as u64)
    }

    /// In one step: whoever looks sees the marks of before or these.
    fn write_all(&mut self) -> io::Result<()> {
        let mut draft = self.place.times.clone();
        draft.push(".new");
        let (directory, name) = (&self.place.directory, &self.place.times);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(directory, &draft, flags, Mode::from_raw_mode(0o600))?);
        let written = file.write_all_at(&self.marks.bytes(), 0);
        if let Err(error) = written.and_then(|()| Ok(renameat(directory, &draft, directory, name)?))
        {
            // What cannot be deleted is written over by the next try.
            let _ = unlinkat(directory, &draft, AtFlags::empty());
            return Err(error);
        }
        self.file = Some(file);
        Ok(())
    }
}

fn marks_of(place: &LogLocation) -> io::Result<Marks> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(&place.directory, &place.times, flags, Mode::empty());
    let Some(file) = absent(opened)?.map(File::from) else { return Ok(Marks::default()) };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(Marks::read(&bytes))
}

/// The time marks of the log whose head is at `path`, in order; none where nobody keeps them.
///
/// # Errors
/// The file system's.
pub fn time_marks(path: &Path) -> io::Result<Vec<TimeMark>> {
    Ok(or_absent(LogLocation::of(path).and_then(|place| marks_of(&place)), Marks::default)?.marks)
}

/// Where what was written at `time` or later begins in the log whose head is at `path`, moved to
/// the beginning of its line; nothing that was written later is before it. `None` if nobody knows
/// when the log was written. Of a log that `is_over` nothing is left at its end, though its last
/// line may have none.
///
/// # Errors
/// The file system's. Where there are no files, the log is empty.
pub fn since(path: &Path, time: Timestamp, is_over: bool) -> io::Result<Option<u64>> {
    let marks =
        or_absent(LogLocation::of(path).and_then(|place| marks_of(&place)), Marks::default)?;
    let end = extent(path)?.end();
    let Some(offset) = marks.since(time) else { return Ok((end == 0).then_some(0)) };
    if offset >= end && is_over {
        return Ok(Some(end));
    }
    line_begin(path, offset.min(end)).map(Some)
}

#[cfg(test)]
mod tests;
