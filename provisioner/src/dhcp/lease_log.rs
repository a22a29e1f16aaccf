//! The leases of pools on disk: `dhcp-leases.log` in the state directory, read at the start and
//! appended to by [`super::lease_writer`].
//!
//! ```text
//! bedplate dhcp leases 1
//! 5f1c07b2 8 1 lease 10.98.0.150 52:54:00:99:0a:00 1795464000 4050
//! 3d0a4410 8 0 lease 10.98.0.151 52:54:00:99:0a:7c 1795464000 4050
//! ```
//!
//! Each line is one record: a checksum of the rest (the first four bytes of its SHA-256, in
//! hexadecimal), the number of the batch, how many lines of the batch follow, what happened, to
//! which address (and MAC address), when (seconds since 1970, by the wall clock), and for how many
//! seconds that is good. A batch is written at once and synced before the next one. So what a power
//! failure leaves is whole batches and a piece of one; anything else is damage, and an error.
//!
//! The wall clock may be wrong at any start. Of a record counts what is left of its seconds, and
//! never more than they were: a clock that was set back makes no lease last for years, and one that
//! is ahead makes leases expire, whose addresses are probed before somebody else gets them.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use api::ids::{MacAddr, Timestamp};
use boot_proto::dhcp::LeaseRecord;
use sha2::{Digest as _, Sha256};

/// Name of the log in the state directory.
pub(crate) const FILE_NAME: &str = "dhcp-leases.log";

/// The first line. The number changes when older releases cannot read what follows.
const HEADER: &str = "bedplate dhcp leases 1\n";

/// Longest line that is read, bytes: twice that of the longest record.
const MAX_LINE_BYTES: u64 = 192;

/// The log is rewritten when it has this many lines more than twice what it would have then. Few
/// enough to be read in a moment, many enough that a small site rewrites it once in days.
const SUPERSEDED_LINES: usize = 4096;

/// Why the log of leases cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LeaseLogError {
    /// The kernel refused an operation on the file.
    #[error("cannot {operation} the log of DHCP leases, {}", path.display())]
    File {
        /// What was tried, as in `cannot … the log`: `open`, `read`.
        operation: &'static str,
        /// The log in the state directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It begins like no log that this release reads.
    #[error(
        "{} is no log of DHCP leases that this release reads: it is a newer release's, or not one; \
         move it away to go on without its leases (addresses are then probed before they are given)",
        path.display()
    )]
    Version {
        /// The log in the state directory.
        path: PathBuf,
    },
    /// A record in the middle is damaged.
    #[error(
        "the log of DHCP leases, {file}, is damaged in line {line} (at byte {offset}), and whole \
         records follow: the disk has lost what it was given. To go on without this one record: \
         sed -i {line}d {file}. To go on without all: move the file away (addresses are then probed \
         before they are given)",
        file = path.display()
    )]
    Damaged {
        /// The log in the state directory.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Where the line begins, bytes.
        offset: u64,
    },
}

/// What a log held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Its records, oldest first; their seconds count from now.
    pub(crate) records: Vec<LeaseRecord>,
    /// There was a log, so that nothing that was acknowledged is missing unless `cut`.
    pub(crate) found: bool,
    /// Bytes at its end that are no whole records.
    pub(crate) cut: u64,
}

/// The open log.
#[derive(Debug)]
pub(crate) struct LeaseLog {
    path: PathBuf,
    /// `None`: to be written again, because what is on disk is not known.
    file: Option<File>,
    /// Whole records end here, bytes.
    length: u64,
    lines: usize,
    /// With more lines than this, what it would have if it was rewritten is looked up.
    enough: usize,
    batch: u64,
}

/// A log as far as it was read.
#[derive(Default)]
struct Reading {
    restored: Restored,
    length: u64,
    lines: usize,
    batch: u64,
    /// Lines of `batch` that are still to come.
    left: usize,
    bad: Option<BadLine>,
}

/// The first line that is no record.
struct BadLine {
    line: usize,
    offset: u64,
    /// The batch that it belongs to, if only a torn end follows.
    batch: u64,
}

/// A line that is whole.
struct Line {
    batch: u64,
    left: usize,
    /// `None`: of a kind that this release does not know.
    record: Option<LeaseRecord>,
}

impl LeaseLog {
    /// Opens or makes the log of a state directory. A torn end is cut off.
    ///
    /// # Errors
    /// See [`LeaseLogError`]; nothing was changed.
    pub(crate) fn open(
        state_dir: &Path,
        now: Timestamp,
    ) -> Result<(Self, Restored), LeaseLogError> {
        let path = state_dir.join(FILE_NAME);
        let failed = |operation| {
            let path = path.clone();
            move |source| LeaseLogError::File { operation, path, source }
        };
        // An earlier run ended while it rewrote the log.
        match fs::remove_file(path.with_extension("new")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove what is left beside")(error));
            }
            _ => {}
        }
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let log = Self {
                    path,
                    file: None,
                    length: 0,
                    lines: 0,
                    enough: SUPERSEDED_LINES,
                    batch: 0,
                };
                return Ok((log, Restored::default()));
            }
            opened => opened.map_err(failed("open"))?,
        };
        let reading = Reading::read(&path, &file, now)?;
        // Whole records behind a torn one are of a batch that nobody was told of, and are kept.
        // A batch that was cut at the end of a line is no whole one either: nothing
        // is put behind it.
        let intact = reading.bad.is_none() && reading.left == 0;
        let log = Self {
            path,
            file: intact.then_some(file),
            length: reading.length,
            lines: reading.lines,
            enough: SUPERSEDED_LINES,
            batch: reading.batch,
        };
        Ok((log, reading.restored))
    }

    /// Puts records on disk. `all` is everything that must be known, without these records.
    ///
    /// # Errors
    /// The kernel's. None of the records counts then; the next call tries again with a sound file.
    pub(crate) fn append(
        &mut self,
        records: &[LeaseRecord],
        all: impl FnOnce() -> Vec<LeaseRecord>,
        now: Timestamp,
    ) -> io::Result<()> {
        let due = self.file.is_none();
        if due || self.lines > self.enough {
            let mut all = all();
            self.enough = SUPERSEDED_LINES + 2 * all.len();
            if due || self.lines > self.enough {
                all.extend_from_slice(records);
                let rewritten = self.rewrite(&all, now);
                // A rewrite needs room for both files; while there is none, appending may still do.
                // It is not tried again at once: it would write as much as before.
                self.enough = self.enough.max(self.lines + SUPERSEDED_LINES);
                if rewritten.is_ok() || self.file.is_none() {
                    return rewritten;
                }
            }
        }
        let mut file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
        let text = batch_text(self.batch + 1, records, now);
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if let Err(error) = file.write_all(text.as_bytes()) {
            // A piece of it may be in the file. If that cannot be undone, the file
            // is written again.
            if file.set_len(self.length).is_ok() {
                self.file = Some(file);
            }
            return Err(error);
        }
        // After a failed sync nobody knows what is on disk, and another sync would not tell.
        file.sync_data()?;
        self.file = Some(file);
        self.length += length;
        self.lines += records.len();
        self.batch += 1;
        Ok(())
    }

    /// Writes the log again, beside the old one, which it then replaces.
    fn rewrite(&mut self, records: &[LeaseRecord], now: Timestamp) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let text = HEADER.to_owned() + &batch_text(1, records, now);
        let write = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            // An earlier attempt may have left one: append() needs it empty.
            options.append(true).create(true).mode(0o600);
            let mut file = options.open(&new)?;
            file.set_len(0)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            Ok(file)
        };
        let file = write().inspect_err(|_| {
            // The room is needed; a file that stays is removed or overwritten by the next attempt.
            let _ = fs::remove_file(&new);
        })?;
        // The old file has no name any more.
        self.file = None;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        self.file = Some(file);
        self.length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.lines = records.len();
        self.batch = 1;
        Ok(())
    }

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Reading {
    fn read(path: &Path, file: &File, now: Timestamp) -> Result<Self, LeaseLogError> {
        let failed =
            |source| LeaseLogError::File { operation: "read", path: path.to_owned(), source };
        let mut reading = Self::default();
        let mut input = BufReader::new(file);
        let mut bytes = Vec::new();
        let mut number = 0;
        let mut offset = 0;
        loop {
            bytes.clear();
            let limit = MAX_LINE_BYTES;
            let read = input.by_ref().take(limit).read_until(b'\n', &mut bytes).map_err(failed)?;
            if read == 0 {
                break;
            }
            number += 1;
            if number == 1 {
                if bytes != HEADER.as_bytes() {
                    return Self::without_header(path, &bytes);
                }
                reading.restored.found = true;
            } else {
                reading.line(parse(&bytes, now), number, offset).map_err(|bad| {
                    LeaseLogError::Damaged {
                        path: path.to_owned(),
                        line: bad.line,
                        offset: bad.offset,
                    }
                })?;
            }
            offset += u64::try_from(read).unwrap_or(u64::MAX);
        }
        if number == 0 {
            return Self::without_header(path, &[]);
        }
        reading.length = offset;
        if let Some(bad) = &reading.bad {
            reading.restored.cut = offset - bad.offset;
        }
        Ok(reading)
    }

    /// A log whose first line was cut is an empty one.
    fn without_header(path: &Path, bytes: &[u8]) -> Result<Self, LeaseLogError> {
        if !HEADER.as_bytes().starts_with(bytes) {
            return Err(LeaseLogError::Version { path: path.to_owned() });
        }
        let bad = Some(BadLine { line: 1, offset: 0, batch: 1 });
        Ok(Self { bad, ..Self::default() })
    }

    /// Takes one line, or says which earlier one was damaged.
    fn line(&mut self, line: Option<Line>, number: usize, offset: u64) -> Result<(), BadLine> {
        let Some(line) = line else {
            let batch = if self.left > 0 { self.batch } else { self.batch + 1 };
            self.bad.get_or_insert(BadLine { line: number, offset, batch });
            return Ok(());
        };
        // The first batch is a rewritten log, which was whole before it got its name.
        if let Some(bad) = self.bad.take_if(|bad| bad.batch != line.batch || bad.batch == 1) {
            return Err(bad);
        }
        self.batch = line.batch;
        self.left = line.left;
        self.lines += 1;
        self.restored.records.extend(line.record);
        Ok(())
    }
}

/// The lines of a batch.
fn batch_text(batch: u64, records: &[LeaseRecord], now: Timestamp) -> String {
    let at = now.seconds();
    let mut text = String::new();
    for (index, record) in records.iter().enumerate() {
        let left = records.len() - 1 - index;
        let what = match record {
            LeaseRecord::Leased { address, mac, seconds } => {
                format!("lease {address} {mac} {at} {seconds}")
            }
            LeaseRecord::Unusable { address, seconds } => {
                format!("unusable {address} {at} {seconds}")
            }
            LeaseRecord::Free { address } => format!("free {address} {at}"),
            LeaseRecord::Incomplete { seconds } => format!("incomplete {at} {seconds}"),
        };
        let rest = format!("{batch} {left} {what}");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:08x} {rest}", checksum(rest.as_bytes()));
    }
    text
}

fn checksum(bytes: &[u8]) -> u32 {
    let sum: [u8; 32] = Sha256::digest(bytes).into();
    sum.first_chunk().map_or(0, |first| u32::from_be_bytes(*first))
}

fn parse(bytes: &[u8], now: Timestamp) -> Option<Line> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (sum, rest) = text.split_once(' ')?;
    if sum.len() != 8 || u32::from_str_radix(sum, 16).ok()? != checksum(rest.as_bytes()) {
        return None;
    }
    let mut words = rest.split(' ');
    let (batch, left) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let words: Vec<&str> = words.collect();
    let record = match words[..] {
        ["lease", address, mac, at, seconds] => Some(LeaseRecord::Leased {
            address: address.parse().ok()?,
            mac: mac.parse::<MacAddr>().ok()?,
            seconds: remaining(at, seconds, now)?,
        }),
        ["unusable", address, at, seconds] => Some(LeaseRecord::Unusable {
            address: address.parse().ok()?,
            seconds: remaining(at, seconds, now)?,
        }),
        ["free", address, _] => {
            Some(LeaseRecord::Free { address: address.parse::<Ipv4Addr>().ok()? })
        }
        ["incomplete", at, seconds] => {
            Some(LeaseRecord::Incomplete { seconds: remaining(at, seconds, now)? })
        }
        // A newer release's; the checksum says that it is meant so.
        _ => None,
    };
    Some(Line { batch, left, record })
}

/// What is left of `seconds` that began at `at`, by a clock that may be wrong.
fn remaining(at: &str, seconds: &str, now: Timestamp) -> Option<u32> {
    let (at, seconds): (i64, u32) = (at.parse().ok()?, seconds.parse().ok()?);
    let end = at.saturating_add(i64::from(seconds));
    let left = end.saturating_sub(now.seconds()).clamp(0, i64::from(seconds));
    u32::try_from(left).ok()
}

#[cfg(test)]
mod tests;
