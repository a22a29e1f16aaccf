//! Writes tar headers for `tar2sqfs`: POSIX ustar, with a PAX header before those that need one
//! (long names, large numbers, extended attributes).

use std::io::{self, Write};

use tar::{EntryType, Header};

use crate::tar_stream::Metadata;

const BLOCK: u64 = 512;

/// Largest file size that eleven octal digits hold.
const MAX_USTAR_SIZE: u64 = 0o77_777_777_777;

/// Largest owner that seven octal digits hold.
const MAX_USTAR_OWNER: u64 = 0o7_777_777;

/// A header to write.
#[derive(Debug)]
pub(crate) struct PaxEntry<'a> {
    pub path: &'a [u8],
    pub kind: EntryType,
    /// Target of a link.
    pub link: &'a [u8],
    pub device: (u32, u32),
    pub size: u64,
    pub metadata: &'a Metadata,
}

/// Writes the header; the content and [`pad`] follow.
pub(crate) fn write_header(out: &mut dyn Write, entry: &PaxEntry<'_>) -> io::Result<()> {
    let mut records = Vec::new();
    let mut header = Header::new_ustar();
    header.set_entry_type(entry.kind);
    let fields = &mut header.as_mut_bytes()[..];
    if !fits(&mut fields[..100], entry.path) {
        record(&mut records, b"path", entry.path);
    }
    if !fits(&mut fields[157..257], entry.link) {
        record(&mut records, b"linkpath", entry.link);
    }
    header.set_mode(entry.metadata.mode);
    for (key, value) in [("uid", entry.metadata.uid), ("gid", entry.metadata.gid)] {
        if value > MAX_USTAR_OWNER {
            record(&mut records, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    header.set_uid(entry.metadata.uid.min(MAX_USTAR_OWNER));
    header.set_gid(entry.metadata.gid.min(MAX_USTAR_OWNER));
    if entry.size > MAX_USTAR_SIZE {
        record(&mut records, b"size", entry.size.to_string().as_bytes());
    }
    header.set_size(entry.size.min(MAX_USTAR_SIZE));
    // squashfs counts seconds in 32 bits without a sign.
    header.set_mtime(u32::try_from(entry.metadata.mtime.max(0)).unwrap_or(u32::MAX).into());
    header.set_device_major(entry.device.0)?;
    header.set_device_minor(entry.device.1)?;
    header.set_cksum();
    for (name, value) in &entry.metadata.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    if !records.is_empty() {
        let mut extended = Header::new_ustar();
        extended.set_entry_type(EntryType::XHeader);
        extended.as_mut_bytes()[..3].copy_from_slice(b"pax");
        extended.set_size(records.len() as u64);
        extended.set_cksum();
        out.write_all(extended.as_bytes())?;
        out.write_all(&records)?;
        pad(out, records.len() as u64)?;
    }
    out.write_all(header.as_bytes())
}

/// Fills up the last block of a content of `size` bytes.
pub(crate) fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let zeros = usize::try_from(size.wrapping_neg() % BLOCK).unwrap_or(0);
    out.write_all(&[0; 512][..zeros])
}

/// Ends the archive.
pub(crate) fn end(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 1024])
}

fn fits(field: &mut [u8], text: &[u8]) -> bool {
    let Some(start) = field.get_mut(..text.len()) else { return false };
    start.copy_from_slice(text);
    true
}

/// Appends `LENGTH KEY=VALUE\n`; the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tar_stream::{Kind, TarStream};

    proptest! {
        /// What is written is read back the same.
        #[test]
        fn headers_survive_the_way(
            path in "[a-z]{1,150}(/[a-z]{1,150}){0,3}",
            link in "[a-z/]{0,300}",
            mode in 0u32..0o10000,
            uid in any::<u32>(),
            mtime in any::<u32>(),
            size in prop_oneof![0u64..100_000, Just(MAX_USTAR_SIZE), Just(MAX_USTAR_SIZE + 1)],
            names in proptest::collection::btree_map("user\\.[a-z]{1,90}", proptest::collection::vec(any::<u8>(), 0..200), 0..3),
            symlink in any::<bool>(),
        ) {
            let metadata = Metadata {
                mode,
                uid: uid.into(),
                gid: (!uid).into(),
                mtime: mtime.into(),
                xattrs: names.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect(),
            };
            let (kind, link, size) = if symlink {
                (EntryType::Symlink, link.as_bytes(), 0)
            } else {
                (EntryType::Regular, &b""[..], size)
            };
            let mut bytes = Vec::new();
            let entry = PaxEntry { path: path.as_bytes(), kind, link, device: (0, 0), size, metadata: &metadata };
            write_header(&mut bytes, &entry).unwrap();
            prop_assert_eq!(bytes.len() % 512, 0);
            let read = TarStream::new(bytes.as_slice()).next_entry().unwrap().unwrap();
            prop_assert_eq!(read.path, path.as_bytes());
            prop_assert_eq!(read.size, size);
            prop_assert_eq!(read.metadata, metadata);
            prop_assert_eq!(read.kind, if symlink { Kind::Symlink(link.to_vec()) } else { Kind::File });
        }
    }
}
