//! Rendered entries as the tar of `api::overlay`: parents first, names sorted, mtime 0, so that the same input gives
//! the same bytes.

use std::{collections::BTreeMap, io};

use api::{ids::Digest, overlay::Generation};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::{Content, Entry};

/// Mode of folders that files need and no overlay names. On the node, folders that exist keep their mode.
const IMPLIED_FOLDER: u32 = 0o755;

/// Bytes of a header, and what contents are filled up to (POSIX.1-2017, pax, "ustar Interchange Format").
const BLOCK: usize = 512;

/// Blocks of zeros at the end.
const END_BLOCKS: usize = 2;

/// SHA-256 of everything that an archive depends on, at a fraction of the cost of making it.
#[must_use]
pub fn key(entries: &[Entry]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for entry in entries {
        hash.update(entry.path.as_bytes());
        hash.update([0]);
        hash.update(entry.mode.to_be_bytes());
        match &entry.content {
            Content::Folder => hash.update([0]),
            Content::File { digest, .. } => hash.update([&[1], digest.as_slice()].concat()),
            Content::Link(target) => {
                hash.update([2]);
                hash.update(target.as_bytes());
                hash.update([0]);
            }
        }
    }
    hash.finalize().into()
}

/// Packs entries; of several with one path the last counts.
///
/// # Errors
/// A path or link target that no tar header can hold.
pub fn pack(entries: &[Entry]) -> io::Result<Bytes> {
    let mut by_path: BTreeMap<&str, (u32, Option<&Content>)> = BTreeMap::new();
    for entry in entries {
        let path = entry.path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            by_path.entry(&path[..end]).or_insert((IMPLIED_FOLDER, None));
        }
        by_path.insert(path, (entry.mode, Some(&entry.content)));
    }
    let contents = by_path.values().map(|(_, content)| match content {
        Some(Content::File { bytes, .. }) => bytes.len().next_multiple_of(BLOCK),
        _ => 0,
    });
    let size = contents.sum::<usize>() + (by_path.len() + END_BLOCKS) * BLOCK;
    let mut tar = Builder::new(Vec::with_capacity(size));
    for (path, (mode, content)) in by_path {
        let mut header = Header::new_ustar();
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        match content {
            None | Some(Content::Folder) => {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
            Some(Content::File { bytes, .. }) => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, path, bytes.as_ref())?;
            }
            Some(Content::Link(target)) => {
                header.set_entry_type(EntryType::Symlink);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    Ok(tar.into_inner()?.into())
}

/// The name of an archive.
#[must_use]
pub fn generation(archive: &[u8]) -> Generation {
    Generation { digest: Digest(Sha256::digest(archive).into()), size: archive.len() as u64 }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn entry(path: &str, mode: u32, content: Content) -> Entry {
        Entry { path: path.into(), mode, content }
    }

    #[test]
    fn parents_come_first_and_names_are_sorted() {
        let long = format!("/{}/{}", "a".repeat(120), "b".repeat(90));
        let mut entries = vec![
            entry("/etc/hosts", 0o644, Content::file("x".into())),
            entry("/etc/a/b", 0o777, Content::Link("../c".into())),
            entry("/etc/a-b", 0o600, Content::file("yy".into())),
            entry("/root", 0o700, Content::Folder),
            entry(&long, 0o644, Content::file("z".into())),
        ];
        let archive = pack(&entries).unwrap();
        let mut reader = tar::Archive::new(archive.as_ref());
        let lines: String = reader
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().to_string_lossy().chars().take(20).collect::<String>();
                format!("{path} {:?} {:o} {}\n", header.entry_type(), header.mode().unwrap(), entry.size())
            })
            .collect();
        expect![[r#"
            aaaaaaaaaaaaaaaaaaaa Directory 755 0
            aaaaaaaaaaaaaaaaaaaa Regular 644 1
            etc/ Directory 755 0
            etc/a/ Directory 755 0
            etc/a-b Regular 600 2
            etc/a/b Symlink 777 0
            etc/hosts Regular 644 1
            root/ Directory 700 0
        "#]]
        .assert_eq(&lines);
        entries.reverse();
        assert_eq!(pack(&entries).unwrap(), archive);
        // Headers of four folders, three files and a link, three contents, a folder's long name with its header, the end.
        assert_eq!(archive.len(), (8 + 3 + 2 + END_BLOCKS) * BLOCK);
    }

    #[test]
    fn the_key_tells_contents_apart() {
        let one = key(&[entry("/a", 0o644, Content::file("x".into()))]);
        assert_ne!(one, key(&[entry("/a", 0o600, Content::file("x".into()))]));
        assert_ne!(one, key(&[entry("/a", 0o644, Content::file("y".into()))]));
        assert_ne!(one, key(&[entry("/a", 0o644, Content::Link("x".into()))]));
        assert_eq!(one, key(&[entry("/a", 0o644, Content::file("x".into()))]));
    }
}
