//! Reads the tar stream of a layer entry by entry, without holding contents. Called by `scan` (names) and, for the
//! contents, by `scan::Contents`.
//!
//! The fields of a header are read by the `tar` crate; framing and extended headers are done here, because they come
//! from strangers and must stay within limits: POSIX PAX (`x`; global ones, `g`, hold only comments in layers and are
//! skipped), GNU long names and links (`L`, `K`), `SCHILY.xattr.*`. Sparse files are refused: no tool that writes
//! layers makes them, and their contents would have to be pieced together.

use std::io::{self, Read};

use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// Largest extended header, bytes. A file can have 64 KiB of attribute values for each name on Linux.
pub(crate) const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// Longest path or link target, bytes: Linux' `PATH_MAX`.
pub(crate) const MAX_PATH_BYTES: usize = 4096;

/// Extended attributes, name and value, by name.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

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
    /// Bytes of content that follow in the stream.
    pub size: u64,
}

/// Reads a tar stream.
pub(crate) struct TarStream<R> {
    reader: R,
    /// Bytes of the present entry that were not read.
    left: u64,
    /// Padding after them.
    padding: u64,
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
    sparse: bool,
}

fn invalid(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

impl<R: Read> TarStream<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, left: 0, padding: 0, ended: false }
    }

    /// Skips what is left of the present entry and reads the next header.
    pub(crate) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size()?;
            match header.entry_type() {
                EntryType::XHeader => extensions.read_pax(&self.extension(size)?)?,
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                EntryType::GNULongName => extensions.path = Some(without_nul(self.extension(size)?)),
                EntryType::GNULongLink => extensions.link = Some(without_nul(self.extension(size)?)),
                _ => {
                    let entry = entry(&header, size, extensions)?;
                    self.frame(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Reads content of the present entry; 0 at its end.
    pub(crate) fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.reader.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }

    fn frame(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
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

    /// The next header block; `None` at the end, which is a block of zeros or the end of the stream.
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
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(invalid("a tar header has the wrong checksum"));
        }
        Ok(Some(header))
    }

    /// The content of an extended header.
    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENSION_BYTES {
            return Err(invalid(format!(
                "an extended header has {size} bytes; at most {MAX_EXTENSION_BYTES} are taken"
            )));
        }
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

fn without_nul(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    text
}

fn entry(header: &Header, header_size: u64, extensions: Extensions) -> io::Result<Entry> {
    let kind_byte = header.entry_type();
    let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let shown = String::from_utf8_lossy(&path).into_owned();
    let refused = |problem: &str| invalid(format!("{shown}: {problem}"));
    if extensions.sparse || kind_byte == EntryType::GNUSparse {
        return Err(refused(
            "sparse files are not supported; make the layer without them (tar without --sparse)",
        ));
    }
    let link = || {
        let link = extensions.link.clone().or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        let link = link.unwrap_or_default();
        if link.len() > MAX_PATH_BYTES || link.contains(&0) {
            return Err(refused("its link target is too long or holds a NUL"));
        }
        Ok(link)
    };
    if path.len() > MAX_PATH_BYTES || path.contains(&0) {
        return Err(refused("its name is too long or holds a NUL"));
    }
    let device = || -> io::Result<(u32, u32)> {
        Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
    };
    let kind = match kind_byte {
        // Before POSIX, a folder was a file whose name ends in a slash.
        EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File,
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
    let size = if kind == Kind::File { extensions.size.unwrap_or(header_size) } else { 0 };
    let metadata = Metadata {
        mode: header.mode()? & 0o7777,
        uid: extensions.uid.map_or_else(|| header.uid(), Ok)?,
        gid: extensions.gid.map_or_else(|| header.gid(), Ok)?,
        mtime: extensions
            .mtime
            .unwrap_or_else(|| header.mtime().ok().and_then(|t| t.try_into().ok()).unwrap_or(0)),
        xattrs: extensions.xattrs,
    };
    Ok(Entry { path, kind, metadata, size })
}

impl Extensions {
    /// Records of `LENGTH KEYWORD=VALUE\n`, POSIX.1-2017 `pax`. Length is decimal and counts the whole record.
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
            self.take(&record[..equals], &record[equals + 1..]);
            records = &records[length..];
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.retain(|(known, _)| known != name);
            self.xattrs.push((name.to_vec(), value.to_vec()));
            self.xattrs.sort_unstable();
        } else if key.starts_with(b"GNU.sparse.") {
            self.sparse = true;
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
    }
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
    fn an_extended_header_past_the_limit_is_refused() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(MAX_EXTENSION_BYTES + 1);
        header.set_cksum();
        let error = read_all(header.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("extended header"), "{error}");
    }

    #[test]
    fn sparse_files_are_refused_by_name() {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_pax_extensions([("GNU.sparse.major", b"1".as_slice())]).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(0);
        tar.append_data(&mut header, "var/disk.img", &[][..]).unwrap();
        let error = read_all(&tar.into_inner().unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("var/disk.img: sparse"), "{error}");
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
