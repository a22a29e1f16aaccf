//! Reads the tar stream of a layer entry by entry, without holding contents. Called by `scan`
//! (names) and, for the contents, by `scan::Contents`.
//!
//! Names and kinds are read by the `tar` crate; numbers, framing and extended headers are done
//! here, because they come from strangers and must stay within limits: POSIX PAX (`x`; global ones,
//! `g`, hold only comments in layers and are skipped), GNU long names and links (`L`, `K`),
//! `SCHILY.xattr.*`, and sparse files in all spellings of GNU tar ([`sparse`]), whose holes are
//! read as zeros. What Go's `archive/tar` takes, which containerd, umoci and skopeo read layers
//! with, is taken here.

mod number;
mod sparse;

use std::io::{self, Read};

use tar::{EntryType, Header};

use self::sparse::{Cursor, Format, PaxSparse, Piece, SparseMap};
use crate::{
    budget::{ENTRY_BYTES, XATTR_BYTES},
    layer::MAX_LAYER_BYTES,
};

const BLOCK: usize = 512;

/// Most bytes of the extended headers of one entry, all together. A file can have 64 KiB of
/// attribute values for each name on Linux.
pub(crate) const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// Longest path or link target, bytes: Linux' `PATH_MAX`.
pub(crate) const MAX_PATH_BYTES: usize = 4096;

/// What is shown of a path in an error, bytes.
const MAX_SHOWN_BYTES: usize = 256;

/// Extended attributes, name and value, by name.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What attributes take in memory, bytes.
pub(crate) fn xattr_bytes(xattrs: &[(Vec<u8>, Vec<u8>)]) -> u64 {
    let texts: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    texts as u64 + xattrs.len() as u64 * XATTR_BYTES
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    CharacterDevice(u32, u32),
    BlockDevice(u32, u32),
    Directory,
    Fifo,
}

/// Owner, mode, time and attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Metadata {
    /// Permission bits, with set-uid, set-gid and sticky.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    pub xattrs: Xattrs,
}

/// One entry, extended headers applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As it stands in the archive.
    pub path: Vec<u8>,
    pub kind: Kind,
    pub metadata: Metadata,
    /// Bytes of content, the holes of a sparse file among them: what [`TarStream::read_content`]
    /// gives.
    pub size: u64,
}

impl Entry {
    /// What the entry takes in memory, bytes.
    pub(crate) fn held_bytes(&self) -> u64 {
        let link = match &self.kind {
            Kind::HardLink(target) | Kind::Symlink(target) => target.len(),
            _ => 0,
        };
        ENTRY_BYTES + (self.path.len() + link) as u64 + xattr_bytes(&self.metadata.xattrs)
    }
}

/// Reads a tar stream.
pub(crate) struct TarStream<R> {
    reader: R,
    /// Bytes of the present entry that were not read from the stream.
    left: u64,
    /// Padding after them.
    padding: u64,
    /// Of a sparse file: where its bytes belong.
    sparse: Option<Cursor>,
    /// Bytes that the holes of further sparse files may have. A header of 512 bytes may announce
    /// 2^63, which would keep the server busy for years; together with what is in the stream, the
    /// limit of a layer holds for them.
    holes_left: u64,
    ended: bool,
}

/// What extended headers say of the entry that follows.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    xattrs: Xattrs,
    sparse: PaxSparse,
}

fn invalid(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

impl<R: Read> TarStream<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            left: 0,
            padding: 0,
            sparse: None,
            holes_left: MAX_LAYER_BYTES,
            ended: false,
        }
    }

    /// What it reads from, to go on where it has stopped.
    pub(crate) fn into_reader(self) -> R {
        self.reader
    }

    /// Skips what is left of the present entry and reads the next header.
    pub(crate) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        let mut extension_bytes = 0;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number::unsigned(&header.as_bytes()[124..136]).ok_or_else(|| {
                let path = shown(&header.path_bytes());
                invalid(format!("{path}: the size in its header is not a number"))
            })?;
            let kind = header.entry_type();
            if is_extension(kind) {
                extension_bytes = size.saturating_add(extension_bytes);
                if extension_bytes > MAX_EXTENSION_BYTES {
                    return Err(invalid(format!(
                        "an entry has extended headers of {extension_bytes} bytes; at most \
                         {MAX_EXTENSION_BYTES} are taken"
                    )));
                }
            }
            match kind {
                EntryType::XHeader => extensions.read_pax(&self.extension(size)?)?,
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                EntryType::GNULongName => {
                    extensions.path = Some(without_nul(self.extension(size)?))
                }
                EntryType::GNULongLink => {
                    extensions.link = Some(without_nul(self.extension(size)?))
                }
                _ => return self.begin(&header, size, extensions).map(Some),
            }
        }
    }

    /// Takes a header that is no extension, with the map of a sparse file that may follow it.
    fn begin(
        &mut self,
        header: &Header,
        size: u64,
        mut extensions: Extensions,
    ) -> io::Result<Entry> {
        let sparse = std::mem::take(&mut extensions.sparse);
        let format = sparse.format()?;
        if let Some(name) = sparse.name(format) {
            extensions.path = Some(name.to_vec());
        }
        let stored = extensions.size.unwrap_or(size);
        let mut entry = entry(header, stored, extensions)?;
        self.frame(entry.size);
        let is_old_gnu = header.entry_type() == EntryType::GNUSparse;
        if entry.kind != Kind::File || (format == Format::Dense && !is_old_gnu) {
            return Ok(entry);
        }
        let map = match format {
            _ if is_old_gnu => self.old_gnu_map(header),
            Format::InHeader | Format::Dense => sparse.map(stored),
            Format::BeforeData => self.map_before_data(&sparse),
        };
        let path = shown(&entry.path);
        let map = map.map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
        self.holes_left = self.holes_left.checked_sub(map.holes()).ok_or_else(|| {
            invalid(format!(
                "{path}: it is a sparse file of {} bytes; the holes of all files of a layer may have at \
                 most {MAX_LAYER_BYTES} bytes together",
                map.size()
            ))
        })?;
        entry.size = map.size();
        self.sparse = Some(Cursor::new(map));
        Ok(entry)
    }

    /// The map of an old GNU sparse file: in its header, and in blocks after it while those say so.
    fn old_gnu_map(&mut self, header: &Header) -> io::Result<SparseMap> {
        let mut reading = sparse::OldGnu::begin(header.as_bytes())?;
        while reading.is_continued() {
            let mut block = [0; BLOCK];
            self.reader.read_exact(&mut block)?;
            reading.take(&block)?;
        }
        reading.end(self.left)
    }

    /// The map of a PAX 1.0 sparse file: the first blocks of its content.
    fn map_before_data(&mut self, sparse: &PaxSparse) -> io::Result<SparseMap> {
        let mut reading = sparse::DecimalLines::default();
        while !reading.is_complete() {
            let mut block = [0; BLOCK];
            self.left = self.left.checked_sub(BLOCK as u64).ok_or_else(sparse::broken)?;
            self.reader.read_exact(&mut block)?;
            reading.take(&block)?;
        }
        sparse.map_of(reading.numbers(), self.left)
    }

    /// Reads content of the present entry; 0 at its end.
    pub(crate) fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = match self.sparse.as_mut().map(|cursor| cursor.next(buffer.len())) {
            None => usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len()),
            Some(Piece::Data(count)) => count,
            Some(Piece::Hole(count)) => {
                buffer[..count].fill(0);
                return Ok(count);
            }
        };
        if most == 0 {
            return Ok(0);
        }
        let count = self.reader.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        if let Some(cursor) = &mut self.sparse {
            cursor.read(count);
        }
        Ok(count)
    }

    fn frame(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        self.sparse = None;
    }

    fn skip(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        let mut left = self.left.saturating_add(self.padding);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match self.reader.read(&mut buffer[..most])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => left -= count as u64,
            }
        }
        self.frame(0);
        Ok(())
    }

    /// The next header block; `None` at a block of zeros or the end of the stream.
    fn header(&mut self) -> io::Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..])? {
                0 if filled == 0 => {
                    self.ended = true;
                    return Ok(None);
                }
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        if !has_right_sum(block) {
            return Err(invalid("a tar header has the wrong checksum"));
        }
        Ok(Some(header))
    }

    /// The content of an extended header.
    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        self.frame(size);
        let mut content = Vec::new();
        (&mut self.reader).take(size).read_to_end(&mut content)?;
        if content.len() as u64 != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = 0;
        Ok(content)
    }
}

fn is_extension(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::XHeader
            | EntryType::XGlobalHeader
            | EntryType::GNULongName
            | EntryType::GNULongLink
    )
}

/// The sum of all bytes of a header, its own field taken as blanks; some old writers summed signed
/// bytes.
fn has_right_sum(block: &[u8]) -> bool {
    let Some(stated) = number::field(&block[148..156]) else { return false };
    let bytes = || {
        block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte })
    };
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    stated == unsigned || stated == signed
}

fn without_nul(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    text
}

/// A path for people, cut where it is longer than anybody reads.
pub(crate) fn shown(path: &[u8]) -> String {
    let start = String::from_utf8_lossy(&path[..path.len().min(MAX_SHOWN_BYTES)]).into_owned();
    if path.len() > MAX_SHOWN_BYTES { start + "…" } else { start }
}

/// `stored`: bytes that follow in the stream, if it is a file.
fn entry(header: &Header, stored: u64, extensions: Extensions) -> io::Result<Entry> {
    let kind_byte = header.entry_type();
    let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let shown = shown(&path);
    let refused = |problem: &str| invalid(format!("{shown}: {problem}"));
    let link = || {
        let link = extensions
            .link
            .clone()
            .or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        let link = link.unwrap_or_default();
        if link.len() > MAX_PATH_BYTES || link.contains(&0) {
            return Err(refused("its link target is too long or holds a NUL"));
        }
        Ok(link)
    };
    if path.len() > MAX_PATH_BYTES || path.contains(&0) {
        return Err(refused("its name is too long or holds a NUL"));
    }
    let fields = header.as_bytes();
    let field = |range: std::ops::Range<usize>, what: &str| {
        number::field(&fields[range])
            .ok_or_else(|| refused(&format!("{what} in its header is not a number")))
    };
    let device = || -> io::Result<(u32, u32)> {
        // Headers before POSIX have no such fields.
        if &fields[257..262] != b"ustar" {
            return Ok((0, 0));
        }
        let part = |range| {
            u32::try_from(field(range, "the device number")?)
                .map_err(|_| refused("its device number is too large"))
        };
        Ok((part(329..337)?, part(337..345)?))
    };
    let kind = match kind_byte {
        // Before POSIX, a directory was a file whose name ends in a slash.
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Link => Kind::HardLink(link()?),
        EntryType::Symlink => Kind::Symlink(link()?),
        EntryType::Char => device().map(|(major, minor)| Kind::CharacterDevice(major, minor))?,
        EntryType::Block => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
        EntryType::Directory => Kind::Directory,
        EntryType::Fifo => Kind::Fifo,
        other => {
            return Err(refused(&format!(
                "tar entries of type {:?} are not supported",
                other.as_byte() as char
            )));
        }
    };
    // Only files have content; some writers state the size of the target in a hard link's header.
    let size = if kind == Kind::File { stored } else { 0 };
    let owner = |range, extended: Option<u64>| match extended {
        Some(owner) => Ok(owner),
        None => u64::try_from(field(range, "an owner")?)
            .map_err(|_| refused("its owner is a negative number")),
    };
    let metadata = Metadata {
        mode: u32::try_from(field(100..108, "the mode")? & 0o7777).unwrap_or(0),
        uid: owner(108..116, extensions.uid)?,
        gid: owner(116..124, extensions.gid)?,
        mtime: extensions.mtime.unwrap_or_else(|| number::field(&fields[136..148]).unwrap_or(0)),
        xattrs: last_of_each_name(extensions.xattrs, &mut 0),
    };
    Ok(Entry { path, kind, metadata, size })
}

impl Extensions {
    /// Records of `LENGTH KEYWORD=VALUE\n` (POSIX.1-2017 `pax`); `LENGTH` is that of the record.
    fn read_pax(&mut self, mut records: &[u8]) -> io::Result<()> {
        while !records.is_empty() {
            let broken = || invalid("a PAX header is broken");
            let space = records.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length: usize = number(&records[..space]).ok_or_else(broken)?;
            if length <= space + 2 || length > records.len() || records[length - 1] != b'\n' {
                return Err(broken());
            }
            let record = &records[space + 1..length - 1];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            self.take(&record[..equals], &record[equals + 1..])?;
            records = &records[length..];
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.push((name.to_vec(), value.to_vec()));
        } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            self.sparse.take(key, value)?;
        } else if !value.is_empty() {
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = number(value),
                b"uid" => self.uid = number(value),
                b"gid" => self.gid = number(value),
                b"mtime" => self.mtime = seconds(value),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Attributes in the order of their names; of several values of a name the one that came last.
/// `compared` counts how often two names were compared: each image has a limit on the bytes of its
/// headers, and none on how many attributes they make.
fn last_of_each_name(mut xattrs: Xattrs, compared: &mut u64) -> Xattrs {
    xattrs.reverse();
    // Stable: what came last of a name stays the first of it.
    xattrs.sort_by(|(a, _), (b, _)| {
        *compared += 1;
        a.cmp(b)
    });
    xattrs.dedup_by(|(next, _), (kept, _)| {
        *compared += 1;
        next == kept
    });
    xattrs
}

fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whole seconds of a decimal time, rounded down.
fn seconds(text: &[u8]) -> Option<i64> {
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    let seconds: i64 = number(whole)?;
    let below = whole.starts_with(b"-") && fraction.iter().any(|digit| *digit != b'0');
    Some(if below { seconds.saturating_sub(1) } else { seconds })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(bytes: &[u8]) -> io::Result<Vec<Entry>> {
        let mut stream = TarStream::new(bytes);
        let mut entries = Vec::new();
        while let Some(entry) = stream.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }

    #[test]
    fn pax_times_round_down() {
        for (text, want) in [("12.9", 12), ("-1.5", -2), ("-1.0", -1), ("-0.5", -1), ("7", 7)] {
            assert_eq!(seconds(text.as_bytes()), Some(want), "{text}");
        }
    }

    #[test]
    fn of_several_values_of_an_attribute_the_last_counts() {
        let xattrs = [("b", "1"), ("a", "1"), ("b", "2"), ("a", "2"), ("b", "3")];
        let xattrs = xattrs.map(|(name, value)| (name.into(), value.into())).to_vec();
        let want =
            [("a", "2"), ("b", "3")].map(|(name, value)| (name.into(), value.into())).to_vec();
        assert_eq!(last_of_each_name(xattrs, &mut 0), want);
    }

    #[test]
    fn eight_times_the_attributes_take_at_most_ten_times_the_comparisons() {
        let count = |count: usize| {
            // In an order of which no sort has an advantage.
            let name = |at: usize| format!("user.{:06}", at * 7919 % count).into_bytes();
            let mut compared = 0;
            last_of_each_name(
                (0..count).map(|at| (name(at), b"v".to_vec())).collect(),
                &mut compared,
            );
            compared
        };
        let (few, many) = (count(20_000), count(160_000));
        assert!(few > 0 && many <= 10 * few, "{few} comparisons, then {many}");
    }

    /// A reader that counts its bytes and its calls.
    struct Counted<'a> {
        bytes: &'a [u8],
        steps: u64,
    }

    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.bytes.read(buffer)?;
            self.steps += 1 + count as u64;
            Ok(count)
        }
    }

    /// A header, and content that fills whole blocks.
    fn written(kind: EntryType, name: &str, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut bytes = [header.as_bytes(), content].concat();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    #[test]
    fn eight_times_the_stream_takes_at_most_ten_times_the_reads() {
        let file = || written(EntryType::Regular, "file", &[b'x'; 700]);
        type Stream<'a> = &'a dyn Fn(usize) -> Vec<u8>;
        let growing: [(&str, Stream<'_>); 4] = [
            ("files", &|count| vec![file(); count].concat()),
            ("empty directories", &|count| {
                vec![written(EntryType::Directory, "d/", b""); count].concat()
            }),
            ("long names", &|count| {
                let long = written(EntryType::GNULongName, "././@LongLink", &[b'n'; 600]);
                vec![[long, file()].concat(); count].concat()
            }),
            ("attributes of one file", &|count| {
                let records: String = (0..count)
                    .map(|at| format!("33 SCHILY.xattr.user.{at:06}=v{at:03}\n"))
                    .collect();
                [written(EntryType::XHeader, "pax", records.as_bytes()), file()].concat()
            }),
        ];
        for (what, bytes) in growing {
            let steps = |count| {
                let bytes = bytes(count);
                let mut stream = TarStream::new(Counted { bytes: &bytes, steps: 0 });
                let mut entries = 0;
                while stream.next_entry().unwrap().is_some() {
                    entries += 1;
                }
                assert!(entries > 0, "{what}");
                stream.into_reader().steps
            };
            let (few, many) = (steps(100), steps(800));
            assert!(few >= 3_000 && many <= 10 * few, "{what}: {few} and {many}");
        }
    }

    #[test]
    fn an_extended_header_past_the_limit_is_refused() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(MAX_EXTENSION_BYTES + 1);
        header.set_cksum();
        let error = read_all(header.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("extended header"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_entries_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let _ = read_all(&bytes);
        }

        /// Header blocks with a right checksum and any fields.
        #[test]
        fn any_headers_end_in_entries_or_an_error(
            mut blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), BLOCK), 1..6),
            kinds in proptest::collection::vec(proptest::sample::select(b"0123456xgLKS\0".to_vec()), 6),
        ) {
            for (block, kind) in blocks.iter_mut().zip(kinds) {
                block[124..136].copy_from_slice(b"00000000600\0");
                block[156] = kind;
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(block);
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
            let _ = read_all(&blocks.concat());
        }
    }
}
