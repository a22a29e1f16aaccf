//! Sparse files in tar streams: which bytes of a file are in the stream, and where the holes
//! between them are. Called by [`super`].
//!
//! GNU tar's manual, "Storing Sparse Files", has four spellings:
//!
//! | spelling | the map is | name | size |
//! |---|---|---|---|
//! | old GNU, type `S` | 4 pairs at byte 386 of the header; while a flag is set, a block with 21 more | header | header, at 483 |
//! | PAX 0.0 | records `GNU.sparse.offset` and `….numbytes` in turn | header | `….size` |
//! | PAX 0.1 | record `….map`: numbers with commas | `….name` | `….size` |
//! | PAX 1.0 | lines of decimal numbers before the data, filled up to a block | `….name` | `….realsize` |
//!
//! A pair is an offset in the file and a count of bytes there. Pairs must come in order and must
//! not overlap, and what is in the stream must be all that they count: anything else is an archive
//! that says two things.

use std::io;

use super::{BLOCK, invalid, number, shown};

/// Most pairs of one file: as many as fit into the largest extended header. A map is held in memory
/// while its file is read.
const MAX_EXTENTS: usize = 1 << 16;

/// Pairs in a header of old GNU tar, and in each block that goes on with them.
const HEADER_PAIRS: usize = 4;
const BLOCK_PAIRS: usize = 21;

/// Bytes of a pair there: two numbers of twelve.
const PAIR_BYTES: usize = 24;

/// A part of a file that is in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    /// Where in the file it begins, bytes.
    offset: u64,
    length: u64,
}

/// The parts of a file that are in the stream; all else of it is zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SparseMap {
    extents: Vec<Extent>,
    size: u64,
    stored: u64,
}

impl SparseMap {
    /// A map of `numbers`, offset and count in turn, for a file of `size` bytes of which `stored`
    /// are in the stream.
    fn new(numbers: &[u64], size: u64, stored: u64) -> io::Result<Self> {
        let (pairs, rest) = numbers.as_chunks::<2>();
        let (mut end, mut counted) = (0_u64, 0_u64);
        for [offset, length] in pairs {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size);
            end = next.ok_or_else(broken)?;
            counted += length;
        }
        if !rest.is_empty() || counted != stored {
            return Err(broken());
        }
        let extents =
            pairs.iter().map(|[offset, length]| Extent { offset: *offset, length: *length });
        Ok(Self { extents: extents.collect(), size, stored })
    }

    /// Size of the file, bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the file that are not in the stream.
    pub(super) fn holes(&self) -> u64 {
        self.size - self.stored
    }
}

/// What comes next of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many zeros, which the stream does not have.
    Hole(usize),
    /// So many bytes of the stream at most; 0: the file is at its end.
    Data(usize),
}

/// A place in a sparse file.
#[derive(Debug)]
pub(super) struct Cursor {
    map: SparseMap,
    /// The extent that holds the place, or the next one.
    extent: usize,
    place: u64,
}

impl Cursor {
    pub(super) fn new(map: SparseMap) -> Self {
        Self { map, extent: 0, place: 0 }
    }

    /// What comes next, `most` bytes of it or fewer. A hole counts as read; of data tell
    /// [`Self::read`].
    pub(super) fn next(&mut self, most: usize) -> Piece {
        let up_to =
            |end: u64, place: u64| usize::try_from(end - place).unwrap_or(usize::MAX).min(most);
        loop {
            let (begin, end) = match self.map.extents.get(self.extent) {
                Some(extent) => (extent.offset, extent.offset + extent.length),
                None if self.place == self.map.size => return Piece::Data(0),
                None => (self.map.size, self.map.size),
            };
            if self.place < begin {
                let count = up_to(begin, self.place);
                self.place += count as u64;
                return Piece::Hole(count);
            }
            if self.place < end {
                return Piece::Data(up_to(end, self.place));
            }
            self.extent += 1;
        }
    }

    /// So many bytes of [`Piece::Data`] were read.
    pub(super) fn read(&mut self, count: usize) {
        self.place += count as u64;
    }
}

/// Whether and how PAX records say that a file is sparse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// It is not sparse.
    Dense,
    /// The map is in the records: 0.0 and 0.1.
    InHeader,
    /// The map is in the stream before the data: 1.0.
    BeforeData,
}

/// The records `GNU.sparse.…` of one entry.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    major: Option<Vec<u8>>,
    minor: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Offsets and counts in turn.
    numbers: Vec<u64>,
}

impl PaxSparse {
    /// Takes a record; `key` is without `GNU.sparse.`.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"major" => self.major = Some(value.to_vec()),
            b"minor" => self.minor = Some(value.to_vec()),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"offset" | b"numbytes" => {
                if (key == b"offset") != self.numbers.len().is_multiple_of(2) {
                    return Err(broken());
                }
                self.push(decimal(value)?)?;
            }
            b"map" => {
                self.numbers.clear();
                for number in value.split(|byte| *byte == b',').filter(|_| !value.is_empty()) {
                    self.push(decimal(number)?)?;
                }
            }
            // `numblocks` only repeats how many pairs there are.
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, number: u64) -> io::Result<()> {
        if self.numbers.len() >= 2 * MAX_EXTENTS {
            return Err(too_many());
        }
        self.numbers.push(number);
        Ok(())
    }

    /// The spelling. A version that nobody has written down is refused: its map would be taken for
    /// data.
    pub(super) fn format(&self) -> io::Result<Format> {
        match (self.major.as_deref(), self.minor.as_deref()) {
            (Some(b"0"), Some(b"0" | b"1")) => Ok(Format::InHeader),
            (Some(b"1"), Some(b"0")) => Ok(Format::BeforeData),
            // 0.0 and 0.1 need not say their version.
            (None, None) if self.numbers.is_empty() => Ok(Format::Dense),
            (None, None) => Ok(Format::InHeader),
            (major, minor) => {
                let [major, minor] = [major, minor].map(|part| shown(part.unwrap_or(b"?")));
                Err(invalid(format!("sparse files of version {major}.{minor} are not known")))
            }
        }
    }

    /// The file's name, where the header's is another.
    pub(super) fn name(&self, format: Format) -> Option<&[u8]> {
        self.name.as_deref().filter(|name| format != Format::Dense && !name.is_empty())
    }

    /// The map in the records; `stored`: bytes in the stream.
    pub(super) fn map(&self, stored: u64) -> io::Result<SparseMap> {
        self.map_of(&self.numbers, stored)
    }

    /// The map of numbers that came from elsewhere.
    pub(super) fn map_of(&self, numbers: &[u64], stored: u64) -> io::Result<SparseMap> {
        SparseMap::new(numbers, self.size.ok_or_else(broken)?, stored)
    }
}

/// The map of old GNU tar, block by block.
#[derive(Debug)]
pub(super) struct OldGnu {
    numbers: Vec<u64>,
    size: u64,
    is_continued: bool,
}

impl OldGnu {
    /// Begins with a header.
    pub(super) fn begin(header: &[u8; BLOCK]) -> io::Result<Self> {
        // In headers of POSIX these bytes are a part of the name.
        if &header[257..265] != b"ustar  \0" {
            return Err(broken());
        }
        let size = number::unsigned(&header[483..495]).ok_or_else(broken)?;
        let mut map = Self { numbers: Vec::new(), size, is_continued: header[482] != 0 };
        map.pairs(&header[386..386 + HEADER_PAIRS * PAIR_BYTES])?;
        Ok(map)
    }

    /// Whether another block of the map comes.
    pub(super) fn is_continued(&self) -> bool {
        self.is_continued
    }

    pub(super) fn take(&mut self, block: &[u8; BLOCK]) -> io::Result<()> {
        self.is_continued = block[BLOCK_PAIRS * PAIR_BYTES] != 0;
        if self.is_continued && block[0] == 0 {
            // An empty block that says to go on could be repeated for ever.
            return Err(broken());
        }
        self.pairs(&block[..BLOCK_PAIRS * PAIR_BYTES])
    }

    /// The map, when no more comes; `stored`: bytes in the stream.
    pub(super) fn end(&self, stored: u64) -> io::Result<SparseMap> {
        SparseMap::new(&self.numbers, self.size, stored)
    }

    /// Pairs up to one that is empty.
    fn pairs(&mut self, pairs: &[u8]) -> io::Result<()> {
        for pair in pairs.chunks_exact(PAIR_BYTES).take_while(|pair| pair[0] != 0) {
            if self.numbers.len() >= 2 * MAX_EXTENTS {
                return Err(too_many());
            }
            let (offset, length) = pair.split_at(PAIR_BYTES / 2);
            for field in [offset, length] {
                self.numbers.push(number::unsigned(field).ok_or_else(broken)?);
            }
        }
        Ok(())
    }
}

/// The map of PAX 1.0: the count of pairs, then the pairs, each number on a line.
#[derive(Debug, Default)]
pub(super) struct DecimalLines {
    numbers: Vec<u64>,
    /// Digits of the number under way.
    digits: Vec<u8>,
}

impl DecimalLines {
    /// Whether all numbers are there that the first one announces.
    pub(super) fn is_complete(&self) -> bool {
        let count = self.numbers.first().and_then(|count| count.checked_mul(2)?.checked_add(1));
        count.is_some_and(|count| self.numbers.len() as u64 >= count)
    }

    /// Takes a block; what follows the last number in it fills it up.
    pub(super) fn take(&mut self, block: &[u8; BLOCK]) -> io::Result<()> {
        for byte in block {
            if self.is_complete() {
                return Ok(());
            }
            if *byte != b'\n' {
                self.digits.push(*byte);
                continue;
            }
            self.numbers.push(decimal(&self.digits)?);
            self.digits.clear();
            if self.numbers[0] > MAX_EXTENTS as u64 {
                return Err(too_many());
            }
        }
        // No number has as many digits as a block.
        if self.digits.len() >= BLOCK { Err(broken()) } else { Ok(()) }
    }

    /// Offsets and counts in turn.
    pub(super) fn numbers(&self) -> &[u64] {
        self.numbers.get(1..).unwrap_or_default()
    }
}

fn decimal(digits: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or_else(broken)
}

pub(super) fn broken() -> io::Error {
    invalid("the map of a sparse file is broken")
}

fn too_many() -> io::Error {
    invalid(format!("a sparse file has more than {MAX_EXTENTS} parts"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_map_that_says_two_things_is_refused() {
        for (problem, numbers, size, stored) in [
            ("past the end", &[0, 4][..], 3, 4),
            ("overlapping", &[0, 4, 2, 2], 9, 6),
            ("out of order", &[4, 2, 0, 2], 9, 4),
            ("bytes that belong nowhere", &[0, 4], 9, 5),
            ("bytes that are missing", &[0, 4], 9, 3),
            ("half a pair", &[0, 4, 5], 9, 4),
            ("past all numbers", &[u64::MAX, 2], 9, 2),
        ] {
            assert!(SparseMap::new(numbers, size, stored).is_err(), "{problem}");
        }
        // GNU tar ends a map with an empty extent at the end of the file.
        assert_eq!(SparseMap::new(&[2, 4, 9, 0], 9, 4).unwrap().holes(), 5);
    }

    #[test]
    fn an_unknown_version_is_refused() {
        let mut records = PaxSparse::default();
        records.take(b"major", b"2").unwrap();
        assert!(records.format().unwrap_err().to_string().contains("version 2.?"));
    }

    proptest! {
        /// Bytes and holes come in the order of the file, whatever the buffer is.
        #[test]
        fn a_cursor_walks_the_whole_file(
            gaps in proptest::collection::vec((0_u64..9, 0_u64..9), 0..9),
            tail in 0_u64..9,
            most in 1_usize..20,
        ) {
            let (mut numbers, mut want) = (Vec::new(), Vec::new());
            for (hole, data) in gaps {
                want.extend((0..hole).map(|_| false));
                numbers.extend([want.len() as u64, data]);
                want.extend((0..data).map(|_| true));
            }
            want.extend((0..tail).map(|_| false));
            let stored = want.iter().filter(|is_data| **is_data).count() as u64;
            let mut cursor = Cursor::new(SparseMap::new(&numbers, want.len() as u64, stored).unwrap());
            let mut got = Vec::new();
            loop {
                match cursor.next(most) {
                    Piece::Data(0) => break,
                    Piece::Data(count) => {
                        cursor.read(count);
                        got.extend((0..count).map(|_| true));
                    }
                    Piece::Hole(count) => got.extend((0..count).map(|_| false)),
                }
            }
            prop_assert_eq!(got, want);
        }
    }
}
