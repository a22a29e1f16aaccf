//! Layers byte by byte, as the tools of the field write them and `tar::Builder` would not.

use std::io::Write as _;

use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// An entry with the headers before it and the content behind it.
pub(super) struct Item {
    before: Vec<u8>,
    records: Vec<u8>,
    header: Header,
    content: Vec<u8>,
}

/// A time that every entry has unless it says otherwise.
pub(super) const TIME: u64 = 1_700_000_000;

impl Item {
    fn new(kind: EntryType, mut header: Header, path: &[u8], mode: u32) -> Self {
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(TIME);
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        Self { before: Vec::new(), records: Vec::new(), header, content: Vec::new() }
    }

    /// With the header of GNU tar instead of that of POSIX.
    pub(super) fn gnu(mut self) -> Self {
        self.header.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
        self
    }

    /// With the header of before POSIX: no magic, no fields behind it.
    pub(super) fn v7(self) -> Self {
        self.raw(|bytes| bytes[257..].fill(0))
    }

    pub(super) fn mode(mut self, mode: u32) -> Self {
        self.header.set_mode(mode);
        self
    }

    pub(super) fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.header.set_uid(uid);
        self.header.set_gid(gid);
        self
    }

    pub(super) fn time(mut self, seconds: u64) -> Self {
        self.header.set_mtime(seconds);
        self
    }

    /// Changes bytes of the header; the checksum is made afterwards.
    pub(super) fn raw(mut self, change: impl FnOnce(&mut [u8])) -> Self {
        change(&mut self.header.as_mut_bytes()[..]);
        self
    }

    /// A record of a PAX header before the entry.
    pub(super) fn pax(mut self, key: &str, value: &[u8]) -> Self {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        write!(self.records, "{length} {key}=").unwrap();
        self.records.extend_from_slice(value);
        self.records.push(b'\n');
        self
    }

    /// A name (`L`) or link target (`K`) as GNU tar writes those that are too long for a header.
    pub(super) fn long(mut self, kind: u8, text: &[u8]) -> Self {
        let mut item = Self::new(EntryType::new(kind), Header::new_gnu(), b"././@LongLink", 0);
        item.content = [text, b"\0"].concat();
        item.header.set_size(item.content.len() as u64);
        self.before.extend(item.bytes());
        self
    }

    /// With content, whose size is in the header unless that was set before.
    pub(super) fn stored(mut self, content: Vec<u8>) -> Self {
        if self.header.entry_type() != EntryType::GNUSparse {
            self.header.set_size(content.len() as u64);
        }
        self.content = content;
        self
    }

    fn bytes(mut self) -> Vec<u8> {
        let mut bytes = self.before;
        if !self.records.is_empty() {
            let mut item =
                Self::new(EntryType::XHeader, Header::new_ustar(), b"PaxHeaders/x", 0o644);
            item.header.set_size(self.records.len() as u64);
            item.content = self.records;
            bytes.extend(item.bytes());
        }
        self.header.set_cksum();
        bytes.extend_from_slice(self.header.as_bytes());
        bytes.extend_from_slice(&self.content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

pub(super) fn dir(path: &str) -> Item {
    Item::new(EntryType::Directory, Header::new_ustar(), path.as_bytes(), 0o755)
}

pub(super) fn file(path: &str, content: &[u8]) -> Item {
    named(path.as_bytes(), content)
}

/// A file whose name need not be UTF-8.
pub(super) fn named(path: &[u8], content: &[u8]) -> Item {
    Item::new(EntryType::Regular, Header::new_ustar(), path, 0o644).stored(content.to_vec())
}

pub(super) fn symlink(path: &str, target: &str) -> Item {
    link(EntryType::Symlink, path, target)
}

pub(super) fn hard(path: &str, target: &str) -> Item {
    link(EntryType::Link, path, target)
}

fn link(kind: EntryType, path: &str, target: &str) -> Item {
    let item = Item::new(kind, Header::new_ustar(), path.as_bytes(), 0o777);
    item.raw(|bytes| bytes[157..157 + target.len()].copy_from_slice(target.as_bytes()))
}

pub(super) fn node(kind: EntryType, path: &str, major: u32, minor: u32) -> Item {
    let mut item = Item::new(kind, Header::new_ustar(), path.as_bytes(), 0o600);
    item.header.set_device_major(major).unwrap();
    item.header.set_device_minor(minor).unwrap();
    item
}

/// An entry of any type.
pub(super) fn other(kind: u8, path: &str) -> Item {
    Item::new(EntryType::new(kind), Header::new_ustar(), path.as_bytes(), 0o644)
}

/// The archive of these entries, with its end.
pub(super) fn tar<const N: usize>(items: [Item; N]) -> Vec<u8> {
    let mut bytes: Vec<u8> = items.into_iter().flat_map(Item::bytes).collect();
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
    bytes
}

/// Pieces of a sparse file and what they hold: `(offset, byte, count)`.
pub(super) type Pieces<'a> = &'a [(u64, u8, usize)];

fn data(pieces: Pieces<'_>) -> Vec<u8> {
    pieces.iter().flat_map(|(_, byte, count)| vec![*byte; *count]).collect()
}

/// A sparse file in the form of old GNU tar.
pub(super) fn sparse_gnu(path: &str, size: u64, pieces: Pieces<'_>) -> Item {
    let pairs: Vec<u8> = pieces
        .iter()
        .flat_map(|(offset, _, count)| format!("{offset:011o}\0{count:011o}\0").into_bytes())
        .collect();
    let (first, rest) = pairs.split_at(pairs.len().min(4 * 24));
    let mut content = Vec::new();
    for pairs in rest.chunks(21 * 24) {
        content.extend_from_slice(pairs);
        content.resize(content.len().next_multiple_of(21 * 24 + 8) - 8, 0);
        let is_last = content.len() + 8 == rest.len().div_ceil(21 * 24) * BLOCK;
        content.extend_from_slice(&[u8::from(!is_last), 0, 0, 0, 0, 0, 0, 0]);
    }
    let stored = data(pieces);
    let item = Item::new(EntryType::GNUSparse, Header::new_gnu(), path.as_bytes(), 0o644);
    let item = item.raw(|bytes| {
        bytes[386..386 + first.len()].copy_from_slice(first);
        bytes[482] = u8::from(!rest.is_empty());
        bytes[483..495].copy_from_slice(format!("{size:011o}\0").as_bytes());
        bytes[124..136].copy_from_slice(format!("{:011o}\0", stored.len()).as_bytes());
    });
    content.extend(stored);
    item.stored(content)
}

/// A sparse file in a form of PAX: 0.0, 0.1 or 1.0.
pub(super) fn sparse_pax(version: (u8, u8), path: &str, size: u64, pieces: Pieces<'_>) -> Item {
    let pairs: Vec<(String, String)> =
        pieces.iter().map(|(offset, _, count)| (offset.to_string(), count.to_string())).collect();
    let size = size.to_string();
    let mut stored = data(pieces);
    let item = match version {
        (0, 0) => {
            let item = file(path, b"").pax("GNU.sparse.size", size.as_bytes());
            let item = item.pax("GNU.sparse.numblocks", pairs.len().to_string().as_bytes());
            pairs.iter().fold(item, |item, (offset, count)| {
                let item = item.pax("GNU.sparse.offset", offset.as_bytes());
                item.pax("GNU.sparse.numbytes", count.as_bytes())
            })
        }
        (0, 1) => {
            let map: Vec<String> =
                pairs.iter().flat_map(|(offset, count)| [offset.clone(), count.clone()]).collect();
            let item = file("GNUSparseFile.1/x", b"").pax("GNU.sparse.name", path.as_bytes());
            let item = item.pax("GNU.sparse.size", size.as_bytes());
            let item = item.pax("GNU.sparse.numblocks", pairs.len().to_string().as_bytes());
            item.pax("GNU.sparse.map", map.join(",").as_bytes())
        }
        _ => {
            let lines = pairs.iter().map(|(offset, count)| format!("{offset}\n{count}\n"));
            let mut map = format!("{}\n{}", pairs.len(), lines.collect::<String>()).into_bytes();
            map.resize(map.len().next_multiple_of(BLOCK), 0);
            map.extend(stored);
            stored = map;
            let item = file("GNUSparseFile.1/x", b"").pax("GNU.sparse.major", b"1");
            let item = item.pax("GNU.sparse.minor", b"0").pax("GNU.sparse.name", path.as_bytes());
            item.pax("GNU.sparse.realsize", size.as_bytes())
        }
    };
    item.stored(stored)
}
