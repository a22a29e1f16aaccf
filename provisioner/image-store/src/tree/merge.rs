//! Lays one layer over the tree, entry by entry, as `umoci unpack` and containerd do on a disk.
//!
//! - Whiteouts (OCI image-spec, `layer.md`): `.wh.NAME` removes NAME, `.wh..wh..opq` removes all that lower layers put
//!   into its folder. Neither touches what the same layer writes, whichever comes first.
//! - A folder over a folder keeps what is in it and takes the new metadata. Anything else replaces what was there.
//! - Parents that are symbolic links are followed inside the tree; missing ones are made (0755, root). The last part
//!   of a path is never followed.

use std::collections::{BTreeMap, VecDeque};

use super::{Content, Inode, InodeId, MAX_DEPTH, MAX_LINKS_FOLLOWED, Name, Node, ROOT, Tree, parts};
use crate::tar_stream::{Entry, Kind};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Why an entry cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MergeError {
    #[error("a folder on the way to it is not a folder")]
    NotAFolder,
    #[error("too many symbolic links lie on the way to it (a loop?)")]
    LinkLoop,
    #[error("it lies more than {MAX_DEPTH} folders deep")]
    TooDeep,
    #[error("it is a hard link to {0}, which is not there")]
    NoLinkTarget(String),
    #[error("it is a hard link to the folder {0}")]
    LinkToFolder(String),
    #[error("it would replace the root folder")]
    Root,
    #[error("names that begin with .wh. are whiteouts, which name a file and hold nothing")]
    Whiteout,
}

impl Tree {
    /// Applies entry number `ordinal` of layer number `layer`; layers come lowest first.
    pub(crate) fn apply(&mut self, layer: usize, ordinal: usize, entry: Entry) -> Result<(), MergeError> {
        let parts = parts(&entry.path);
        let Some((name, parents)) = parts.split_last() else {
            return match entry.kind {
                Kind::Directory => {
                    self.inodes[ROOT].metadata = entry.metadata;
                    Ok(())
                }
                _ => Err(MergeError::Root),
            };
        };
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(layer, parents, name, hidden);
        }
        let folder = self.make_parents(layer, parents)?;
        let node = match entry.kind {
            Kind::HardLink(target) => {
                let inode = self.link_target(&target)?;
                self.insert(folder, name, Name { inode, layer });
                return Ok(());
            }
            Kind::Directory => {
                if let Some(existing) = self.child(folder, name).map(|name| name.inode)
                    && self.folder(existing).is_some()
                {
                    self.inodes[existing].metadata = entry.metadata;
                    self.insert(folder, name, Name { inode: existing, layer });
                    return Ok(());
                }
                Node::Folder(BTreeMap::new())
            }
            Kind::File => Node::File(Content { layer, ordinal, size: entry.size }),
            Kind::Symlink(target) => Node::Symlink(target),
            Kind::CharacterDevice(major, minor) => Node::CharacterDevice(major, minor),
            Kind::BlockDevice(major, minor) => Node::BlockDevice(major, minor),
            Kind::Fifo => Node::Fifo,
        };
        let inode = self.add(Inode { metadata: entry.metadata, node });
        self.insert(folder, name, Name { inode, layer });
        Ok(())
    }

    fn whiteout(
        &mut self,
        layer: usize,
        parents: &[&[u8]],
        name: &[u8],
        hidden: &[u8],
    ) -> Result<(), MergeError> {
        let Some(folder) = self.parent(parents)? else { return Ok(()) };
        if name == OPAQUE {
            self.remove_lower(layer, folder);
            return Ok(());
        }
        match hidden {
            b"" | b"." | b".." => return Err(MergeError::Whiteout),
            // Marks of aufs itself, such as `.wh..wh.plnk`, hide nothing.
            _ if hidden.starts_with(WHITEOUT) => return Ok(()),
            _ => {}
        }
        let Some(found) = self.child(folder, hidden) else { return Ok(()) };
        self.remove_lower(layer, found.inode);
        if found.layer != layer
            && let Node::Folder(names) = &mut self.inodes[folder].node
        {
            names.remove(hidden);
        }
        Ok(())
    }

    /// Removes everything in and below a folder that `layer` did not write.
    fn remove_lower(&mut self, layer: usize, folder: InodeId) {
        let mut todo = vec![folder];
        while let Some(inode) = todo.pop() {
            if let Node::Folder(names) = &mut self.inodes[inode].node {
                names.retain(|_, name| name.layer == layer);
                todo.extend(names.values().map(|name| name.inode));
            }
        }
    }

    fn link_target(&self, target: &[u8]) -> Result<InodeId, MergeError> {
        let shown = || String::from_utf8_lossy(target).into_owned();
        let parts = parts(target);
        let (name, parents) = parts.split_last().ok_or_else(|| MergeError::LinkToFolder(shown()))?;
        let folder = self.parent(parents)?;
        let found = folder.and_then(|folder| self.child(folder, name));
        let inode = found.ok_or_else(|| MergeError::NoLinkTarget(shown()))?.inode;
        if self.folder(inode).is_some() { Err(MergeError::LinkToFolder(shown())) } else { Ok(inode) }
    }

    fn add(&mut self, inode: Inode) -> InodeId {
        self.inodes.push(inode);
        self.inodes.len() - 1
    }

    fn child(&self, folder: InodeId, name: &[u8]) -> Option<Name> {
        self.folder(folder)?.get(name).copied()
    }

    fn insert(&mut self, folder: InodeId, part: &[u8], name: Name) {
        if let Node::Folder(names) = &mut self.inodes[folder].node {
            names.insert(part.to_vec(), name);
        }
    }

    /// The folder that `parts` lead to, if it is there; links are followed.
    fn parent(&self, parts: &[&[u8]]) -> Result<Option<InodeId>, MergeError> {
        let mut way = Way::new(parts);
        while let Some(part) = way.next_part() {
            let Some(name) = self.child(way.here(), &part) else { return Ok(None) };
            match &self.inodes[name.inode].node {
                Node::Folder(_) => way.enter(name.inode)?,
                Node::Symlink(target) => way.follow(target)?,
                _ => return Ok(None),
            }
        }
        Ok(Some(way.here()))
    }

    /// As [`Self::parent`], and makes what is missing. The folders on the way are marked as written by `layer`, so
    /// that its whiteouts leave them.
    fn make_parents(&mut self, layer: usize, parts: &[&[u8]]) -> Result<InodeId, MergeError> {
        let mut way = Way::new(parts);
        while let Some(part) = way.next_part() {
            if part.starts_with(WHITEOUT) {
                return Err(MergeError::Whiteout);
            }
            let here = way.here();
            let inode = match self.child(here, &part) {
                Some(name) => name.inode,
                None => self.add(Self::implied_folder()),
            };
            match &self.inodes[inode].node {
                Node::Folder(_) => {
                    way.enter(inode)?;
                    self.insert(here, &part, Name { inode, layer });
                }
                Node::Symlink(target) => way.follow(target)?,
                _ => return Err(MergeError::NotAFolder),
            }
        }
        Ok(way.here())
    }
}

/// The folders from the root to where a path has led so far, and the parts that are left.
struct Way {
    folders: Vec<InodeId>,
    todo: VecDeque<Vec<u8>>,
    followed: usize,
}

impl Way {
    fn new(parts: &[&[u8]]) -> Self {
        Self { folders: vec![ROOT], todo: parts.iter().map(|part| part.to_vec()).collect(), followed: 0 }
    }

    fn here(&self) -> InodeId {
        self.folders.last().copied().unwrap_or(ROOT)
    }

    /// The next part that is a name; `.` and `..` (from links) are walked on the way.
    fn next_part(&mut self) -> Option<Vec<u8>> {
        loop {
            let part = self.todo.pop_front()?;
            match part.as_slice() {
                b"" | b"." => {}
                b".." => self.folders.truncate(self.folders.len().saturating_sub(1).max(1)),
                _ => return Some(part),
            }
        }
    }

    fn enter(&mut self, folder: InodeId) -> Result<(), MergeError> {
        self.folders.push(folder);
        if self.folders.len() > MAX_DEPTH { Err(MergeError::TooDeep) } else { Ok(()) }
    }

    fn follow(&mut self, target: &[u8]) -> Result<(), MergeError> {
        self.followed += 1;
        if self.followed > MAX_LINKS_FOLLOWED {
            return Err(MergeError::LinkLoop);
        }
        if target.starts_with(b"/") {
            self.folders.truncate(1);
        }
        for part in target.split(|byte| *byte == b'/').rev() {
            self.todo.push_front(part.to_vec());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::{super::Walked, *};
    use crate::tar_stream::Metadata;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: path.into(), kind, metadata: Metadata { mode: 0o644, ..Metadata::default() }, size: 1 }
    }

    /// `d PATH`, `f PATH`, `l PATH TARGET` (hard), `s PATH TARGET` (symbolic), one per line; a line `--` begins a layer.
    fn merged(script: &str) -> Result<Tree, MergeError> {
        let mut tree = Tree::new();
        for (layer, lines) in script.split("--").enumerate() {
            for (ordinal, line) in lines.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
                let words: Vec<&str> = line.split(' ').collect();
                let kind = match words[0] {
                    "d" => Kind::Directory,
                    "f" => Kind::File,
                    "l" => Kind::HardLink(words[2].into()),
                    "s" => Kind::Symlink(words[2].into()),
                    other => panic!("{other}"),
                };
                tree.apply(layer, ordinal, entry(words[1], kind))?;
            }
        }
        Ok(tree)
    }

    fn listing(script: &str) -> String {
        let tree = match merged(script) {
            Ok(tree) => tree,
            Err(error) => return format!("error: {error}"),
        };
        let mut text = String::new();
        for Walked { path, inode } in tree.walk().into_iter().skip(1) {
            let what = match &tree.inodes[inode].node {
                Node::Folder(_) => "folder".to_owned(),
                Node::File(content) => format!("file {}.{}", content.layer, content.ordinal),
                Node::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
                other => format!("{other:?}"),
            };
            let _ = writeln!(text, "{} {what}", String::from_utf8_lossy(&path));
        }
        text
    }

    #[test]
    fn whiteouts_spare_what_the_same_layer_writes() {
        let want = expect_test::expect![[r#"
            a folder
            a/new file 1.1
        "#]];
        want.assert_eq(&listing("f a/old\nf b\n--\nf .wh.b\nf a/new\nf a/.wh..wh..opq"));
        want.assert_eq(&listing("f a/old\nf b\n--\nf a/.wh.old\nf a/new\nf .wh.b"));
        want.assert_eq(&listing("f a/old\nf b\n--\nf .wh.b\nf a/new\nf .wh.a"));
    }

    #[test]
    fn kinds_replace_each_other_and_folders_join() {
        expect_test::expect![[r#"
            a file 1.0
            b folder
            b/x file 1.2
            c folder
            c/1 file 0.2
            c/2 file 1.3
        "#]]
        .assert_eq(&listing("f a/1\nf b\nf c/1\n--\nf a\nd b\nf no/../b/x\nf c/2"));
    }

    #[test]
    fn paths_stay_inside() {
        expect_test::expect![[r#"
            etc folder
            etc/passwd file 1.0
            link -> ../../../etc
            root folder
            root/x file 1.1
            up -> /../../root
        "#]]
        .assert_eq(&listing("s link ../../../etc\ns up /../../root\n--\nf ../../link/passwd\nf up/x"));
    }

    #[test]
    fn hard_links_share_an_inode_until_one_is_replaced() {
        expect_test::expect![[r#"
            a file 1.0
            b file 0.0
            c file 0.0
        "#]]
        .assert_eq(&listing("f a\nl b a\nl c /b\n--\nf a"));
        let tree = merged("f a\nl b a").unwrap();
        assert_eq!(tree.find(b"a"), tree.find(b"b"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (script, want) in [
            ("s a b\ns b a\nf a/x", "too many symbolic links"),
            ("l a missing", "missing, which is not there"),
            ("d d\nl a d", "hard link to the folder d"),
            ("f a\nf a/b", "not a folder"),
            ("f ..", "replace the root"),
            ("f .wh.", "which name a file"),
            ("f .wh...", "which name a file"),
            ("f .wh.a/b", "hold nothing"),
        ] {
            let got = listing(script);
            assert!(got.starts_with("error: ") && got.contains(want), "{script:?}: {got}");
        }
    }

    /// Names from a small alphabet, so that layers hit each other's files, whiteouts and links.
    fn some_path() -> impl Strategy<Value = Vec<u8>> {
        let part = proptest::sample::select(vec![
            "a",
            "b",
            "c",
            "..",
            ".",
            "",
            ".wh.a",
            ".wh.b",
            ".wh..wh..opq",
            ".wh..wh.plnk",
            "\u{ff}",
        ]);
        proptest::collection::vec(part, 1..5).prop_map(|parts| parts.join("/").into_bytes())
    }

    fn some_entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![
            3 => Just(Kind::Directory),
            4 => Just(Kind::File),
            1 => some_path().prop_map(Kind::HardLink),
            2 => some_path().prop_map(Kind::Symlink),
            1 => Just(Kind::Fifo),
            1 => Just(Kind::CharacterDevice(1, 3)),
        ];
        (some_path(), kind).prop_map(|(path, kind)| Entry {
            path,
            kind,
            metadata: Metadata::default(),
            size: 0,
        })
    }

    /// Every folder is reached by one name (no cycles), no name is `.`, `..`, empty or a whiteout.
    fn assert_sound(tree: &Tree) {
        let walked = tree.walk();
        let mut folders = std::collections::BTreeSet::new();
        for Walked { path, inode } in &walked {
            if tree.folder(*inode).is_some() {
                assert!(folders.insert(*inode), "folder {inode} has two names");
            }
            let last = path.rsplit(|byte| *byte == b'/').next().unwrap();
            assert!(path.is_empty() || !matches!(last, b"" | b"." | b".."), "{path:?}");
            assert!(!last.starts_with(WHITEOUT), "{path:?}");
        }
        assert!(walked.windows(2).all(|pair| pair[0].path != pair[1].path));
    }

    proptest! {
        #[test]
        fn any_layers_give_a_sound_tree(
            layers in proptest::collection::vec(proptest::collection::vec(some_entry(), 0..20), 1..4)
        ) {
            let mut tree = Tree::new();
            for (layer, entries) in layers.into_iter().enumerate() {
                for (ordinal, entry) in entries.into_iter().enumerate() {
                    let _ = tree.apply(layer, ordinal, entry);
                }
                assert_sound(&tree);
            }
        }

        /// Without links, a layer over a tree is what the OCI specification says of sets of paths.
        #[test]
        fn whiteouts_do_what_the_specification_says(
            lower in proptest::collection::btree_set("[ab]/[ab]/[abc]", 0..10),
            upper in proptest::collection::btree_set("[ab]/[ab]/[def]", 0..4),
            hidden in proptest::collection::btree_set("[ab](/[ab](/[abc])?)?", 0..4),
            opaque in proptest::collection::btree_set("[ab](/[ab])?", 0..2),
            whiteouts_first in any::<bool>(),
        ) {
            let under = |path: &str, folder: &str| path == folder || path.starts_with(&format!("{folder}/"));
            let mut want: Vec<&String> = lower
                .iter()
                .filter(|path| !hidden.iter().any(|hidden| under(path, hidden)))
                .filter(|path| !opaque.iter().any(|folder| under(path, folder)))
                .chain(&upper)
                .collect();
            want.sort();
            let marks = hidden.iter().map(|path| match path.rsplit_once('/') {
                Some((folder, name)) => format!("{folder}/.wh.{name}"),
                None => format!(".wh.{path}"),
            });
            let marks = marks.chain(opaque.iter().map(|folder| format!("{folder}/.wh..wh..opq")));
            let mut second: Vec<String> = upper.iter().cloned().collect();
            let at = if whiteouts_first { 0 } else { second.len() };
            second.splice(at..at, marks);
            let mut tree = Tree::new();
            for (layer, paths) in [lower.iter().cloned().collect(), second].into_iter().enumerate() {
                for (ordinal, path) in paths.iter().enumerate() {
                    tree.apply(layer, ordinal, entry(path, Kind::File)).unwrap();
                }
            }
            let got: Vec<String> = tree
                .walk()
                .into_iter()
                .filter(|walked| tree.folder(walked.inode).is_none())
                .map(|walked| String::from_utf8(walked.path).unwrap())
                .collect();
            prop_assert_eq!(got, want.into_iter().cloned().collect::<Vec<_>>());
        }
    }
}
