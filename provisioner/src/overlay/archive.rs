//! Rendered entries as the tar of `api::overlay`: parents first, names sorted, mtime 0, so that the
//! same input gives the same bytes.

use std::{collections::BTreeMap, io};

use api::{
    ids::Digest,
    overlay::{Generation, ListedContent, ListedEntry},
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::{Content, Entry};

/// Mode of directories that files need and no overlay names. On the node, directories that exist
/// keep their mode.
const IMPLIED_DIRECTORY: u32 = 0o755;

/// Bytes of a header, and what contents are filled up to (POSIX.1-2017, pax, "ustar
/// Interchange Format").
const BLOCK: usize = 512;

/// Blocks of zeros at the end.
const END_BLOCKS: usize = 2;

/// Every entry of an archive by its path, directories that files need included; the last of several
/// with one path counts.
fn lay_out(entries: &[Entry]) -> BTreeMap<&str, (u32, &Content)> {
    let mut by_path = BTreeMap::new();
    for entry in entries {
        let path = entry.path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            by_path.entry(&path[..end]).or_insert((IMPLIED_DIRECTORY, &Content::Directory));
        }
        by_path.insert(path, (entry.mode, &entry.content));
    }
    by_path
}

/// The name of what [`pack`] makes of the same entries, at a fraction of the cost.
#[must_use]
pub fn generation(entries: &[Entry]) -> Generation {
    let by_path = lay_out(entries);
    let mut list = Vec::new();
    for (path, (mode, content)) in &by_path {
        let stored;
        let (mode, content) = match content {
            Content::Directory => (*mode, ListedContent::Directory),
            Content::File { digest, .. } => (*mode, ListedContent::File(Digest(*digest))),
            Content::Link(target) => {
                stored = stored_target(target);
                (0, ListedContent::Link(&stored))
            }
        };
        ListedEntry { path: path.as_bytes(), mode, uid: 0, gid: 0, content }.write(&mut list);
    }
    Generation { digest: Digest(Sha256::digest(&list).into()), size: size(&by_path) as u64 }
}

/// The target of a link as a header holds it: `a//./b` is `a/b` there.
fn stored_target(target: &str) -> Vec<u8> {
    let mut header = Header::new_ustar();
    match header.set_link_name(target) {
        Ok(()) => header.link_name_bytes().unwrap_or_default().into_owned(),
        // One that is too long for it comes before it, as it is.
        Err(_) => target.as_bytes().to_vec(),
    }
}

/// Bytes of an archive.
fn size(by_path: &BTreeMap<&str, (u32, &Content)>) -> usize {
    // What does not fit into a header has one of its own before, and blocks (GNU tar,
    // "Basic Tar Format").
    let long = |text_bytes: usize| 1 + (text_bytes + 1).div_ceil(BLOCK);
    let blocks = |(path, (_, content)): (&&str, &(u32, &Content))| {
        let mut header = Header::new_ustar();
        let (path_bytes, fits) = match content {
            Content::Directory => (path.len() + 1, header.set_path(format!("{path}/")).is_ok()),
            _ => (path.len(), header.set_path(path).is_ok()),
        };
        let name = if fits { 1 } else { 1 + long(path_bytes) };
        name + match content {
            Content::Directory => 0,
            Content::File { bytes, .. } => bytes.len().div_ceil(BLOCK),
            Content::Link(target) if header.set_link_name(target).is_ok() => 0,
            Content::Link(target) => long(target.len()),
        }
    };
    (by_path.iter().map(blocks).sum::<usize>() + END_BLOCKS) * BLOCK
}

/// Packs entries; of several with one path the last counts.
///
/// # Errors
/// A path or link target that no tar header can hold.
pub fn pack(entries: &[Entry]) -> io::Result<Bytes> {
    let by_path = lay_out(entries);
    let size = size(&by_path);
    let mut tar = Builder::new(Vec::with_capacity(size));
    for (path, (mode, content)) in by_path {
        let mut header = Header::new_ustar();
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        match content {
            Content::Directory => {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
            Content::File { bytes, .. } => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, path, bytes.as_ref())?;
            }
            Content::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    Ok(tar.into_inner()?.into())
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
            entry("/root", 0o700, Content::Directory),
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
                let path =
                    entry.path().unwrap().to_string_lossy().chars().take(20).collect::<String>();
                format!(
                    "{path} {:?} {:o} {}\n",
                    header.entry_type(),
                    header.mode().unwrap(),
                    entry.size()
                )
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
    }

    #[test]
    fn the_generation_tells_contents_apart_and_knows_the_size() {
        let one = generation(&[entry("/a", 0o644, Content::file("x".into()))]);
        assert_ne!(one, generation(&[entry("/a", 0o600, Content::file("x".into()))]));
        assert_ne!(one, generation(&[entry("/a", 0o644, Content::file("y".into()))]));
        assert_ne!(one, generation(&[entry("/a", 0o644, Content::Link("x".into()))]));
        assert_eq!(one, generation(&[entry("/a", 0o644, Content::file("x".into()))]));
    }

    /// The digest of what an archive holds, as a node finds it.
    fn read(archive: &[u8]) -> Digest {
        let mut entries = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            let path = entry
                .path_bytes()
                .strip_suffix(b"/")
                .map_or(entry.path_bytes().to_vec(), <[u8]>::to_vec);
            let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
            let mut bytes = Vec::new();
            std::io::copy(&mut entry, &mut bytes).unwrap();
            entries.insert(path, (header, target, Digest(Sha256::digest(&bytes).into())));
        }
        let mut list = Vec::new();
        for (path, (header, target, digest)) in &entries {
            let (mode, content) = match (header.entry_type(), target) {
                (EntryType::Directory, _) => (header.mode().unwrap(), ListedContent::Directory),
                (EntryType::Symlink, Some(target)) => (0, ListedContent::Link(target)),
                _ => (header.mode().unwrap(), ListedContent::File(*digest)),
            };
            ListedEntry { path, mode, uid: 0, gid: 0, content }.write(&mut list);
        }
        Digest(Sha256::digest(&list).into())
    }

    #[test]
    fn a_node_finds_the_generation_in_the_archive() {
        let check = |entries: &[Entry]| {
            let (named, archive) = (generation(entries), pack(entries).unwrap());
            assert_eq!(
                named,
                Generation { digest: read(&archive), size: archive.len() as u64 },
                "{entries:?}"
            );
        };
        for length in [1, 98, 99, 100, 101, 155, 156, 200, 254] {
            let (name, path) =
                ("n".repeat(length), format!("/{}/{}", "f".repeat(length), "n".repeat(99)));
            check(&[
                entry(&format!("/{name}"), 0o4755, Content::file(name.clone().into())),
                entry(&path, 0o700, Content::Directory),
                entry("/link", 0o777, Content::Link(name)),
            ]);
        }
        for target in ["a//b", "a/./b", "x/.", "/", "/a", "../b", "./c", "a/", "."] {
            check(&[entry("/link", 0o777, Content::Link(target.to_owned()))]);
        }
        let directory = |mode| entry("/etc/a", mode, Content::Directory);
        let file = |path: &str| entry(path, 0o644, Content::file(path.to_owned().into()));
        check(&[
            directory(0o700),
            file("/etc/a/b"),
            file("/etc/a-b"),
            file("/etc/a.b"),
            directory(0o750),
        ]);
        check(&[]);
    }
}
