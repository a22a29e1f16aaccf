//! Lays one layer over the tree, entry by entry, as `umoci unpack` and containerd do on a disk.
//!
//! - Whiteouts (OCI image-spec, `layer.md`): `.wh.NAME` removes NAME, `.wh..wh..opq` removes all
//!   that lower layers put into its directory. Neither touches what the same layer writes,
//!   whichever comes first.
//! - A directory over a directory keeps what is in it and takes the new metadata. Anything else
//!   replaces what was there.
//! - Parents that are symbolic links are followed inside the tree; missing ones are made (0755,
//!   root). The last part of a path is never followed.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Content, Inode, InodeId, MAX_DEPTH, MAX_LINK_STEPS, MAX_LINKS_FOLLOWED, MAX_STEPS, Name, Node,
    ROOT, Tree, parts,
};
use crate::{
    budget::OverBudget,
    tar_stream::{Entry, Kind, shown},
};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Why an entry cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MergeError {
    #[error("a directory on the way to it is not a directory")]
    NotADirectory,
    #[error("too many symbolic links lie on the way to it (a loop?)")]
    LinkLoop,
    #[error("it lies more than {MAX_DEPTH} directories deep")]
    TooDeep,
    #[error("it is a hard link to {0}, which is not there")]
    NoLinkTarget(String),
    #[error("it is a hard link to the directory {0}")]
    LinkToDirectory(String),
    #[error("it would replace the root directory")]
    Root,
    #[error("names that begin with .wh. are whiteouts, which name a file and hold nothing")]
    Whiteout,
    #[error(
        "the paths of the image take more than {MAX_STEPS} steps to follow, or its symbolic links alone more than \
         {MAX_LINK_STEPS}"
    )]
    Steps,
    #[error(transparent)]
    Budget(#[from] OverBudget),
}

impl Tree {
    /// Applies entry number `ordinal` of layer number `layer`; layers come lowest first.
    pub(crate) fn apply(
        &mut self,
        layer: usize,
        ordinal: usize,
        entry: Entry,
    ) -> Result<(), MergeError> {
        let parts = parts(&entry.path);
        let Some((name, parents)) = parts.split_last() else {
            return match entry.kind {
                Kind::Directory => Ok(self.describe(ROOT, entry.metadata)?),
                _ => Err(MergeError::Root),
            };
        };
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(layer, parents, name, hidden);
        }
        let directory = self.make_parents(layer, parents)?;
        let node = match entry.kind {
            Kind::HardLink(target) => {
                let inode = self.link_target(&target)?;
                return Ok(self.insert(directory, name, Name { inode, layer })?);
            }
            Kind::Directory => {
                if let Some(existing) = self.child(directory, name).map(|name| name.inode)
                    && self.directory(existing).is_some()
                {
                    self.describe(existing, entry.metadata)?;
                    return Ok(self.insert(directory, name, Name { inode: existing, layer })?);
                }
                Node::Directory(BTreeMap::new())
            }
            Kind::File => Node::File(Content { layer, ordinal, size: entry.size }),
            Kind::Symlink(target) => Node::Symlink(target),
            Kind::CharacterDevice(major, minor) => Node::CharacterDevice(major, minor),
            Kind::BlockDevice(major, minor) => Node::BlockDevice(major, minor),
            Kind::Fifo => Node::Fifo,
        };
        let inode = self.add(Inode { metadata: entry.metadata, node })?;
        Ok(self.insert(directory, name, Name { inode, layer })?)
    }

    fn whiteout(
        &mut self,
        layer: usize,
        parents: &[&[u8]],
        name: &[u8],
        hidden: &[u8],
    ) -> Result<(), MergeError> {
        let Some(directory) = self.parent(parents)? else { return Ok(()) };
        if name == OPAQUE {
            return self.remove_lower(layer, directory);
        }
        match hidden {
            b"" | b"." | b".." => return Err(MergeError::Whiteout),
            // Marks of aufs itself, such as `.wh..wh.plnk`, hide nothing.
            _ if hidden.starts_with(WHITEOUT) => return Ok(()),
            _ => {}
        }
        let Some(found) = self.child(directory, hidden) else { return Ok(()) };
        self.remove_lower(layer, found.inode)?;
        if found.layer != layer
            && let Node::Directory(names) = &mut self.inodes[directory].node
        {
            names.remove(hidden);
        }
        Ok(())
    }

    /// Removes everything in and below a directory that `layer` did not write.
    ///
    /// What a layer adds is its own, so a directory that was cleaned once for a layer stays clean
    /// until the next one, and is not walked again however often it is hidden.
    fn remove_lower(&mut self, layer: usize, directory: InodeId) -> Result<(), MergeError> {
        if self.cleaned_layer != layer {
            (self.cleaned_layer, self.cleaned) = (layer, std::collections::BTreeSet::new());
        }
        let mut todo = vec![directory];
        while let Some(inode) = todo.pop() {
            let Node::Directory(names) = &mut self.inodes[inode].node else { continue };
            if !self.cleaned.insert(inode) {
                continue;
            }
            let steps = names.len() as u64;
            names.retain(|_, name| name.layer == layer);
            todo.extend(names.values().map(|name| name.inode));
            self.walked(steps)?;
        }
        Ok(())
    }

    /// Counts steps.
    fn walked(&self, steps: u64) -> Result<(), MergeError> {
        if self.step(steps) { Ok(()) } else { Err(MergeError::Steps) }
    }

    /// Counts the parts of a link.
    fn walked_along(&self, target: &[u8]) -> Result<(), MergeError> {
        if self.step_along(target) { Ok(()) } else { Err(MergeError::Steps) }
    }

    fn link_target(&self, target: &[u8]) -> Result<InodeId, MergeError> {
        let shown = || shown(target);
        let parts = parts(target);
        let (name, parents) =
            parts.split_last().ok_or_else(|| MergeError::LinkToDirectory(shown()))?;
        let directory = self.parent(parents)?;
        let found = directory.and_then(|directory| self.child(directory, name));
        let inode = found.ok_or_else(|| MergeError::NoLinkTarget(shown()))?.inode;
        if self.directory(inode).is_some() {
            Err(MergeError::LinkToDirectory(shown()))
        } else {
            Ok(inode)
        }
    }

    fn child(&self, directory: InodeId, name: &[u8]) -> Option<Name> {
        self.directory(directory)?.get(name).copied()
    }

    /// The directory that `parts` lead to, if it is there; links are followed.
    fn parent(&self, parts: &[&[u8]]) -> Result<Option<InodeId>, MergeError> {
        let mut way = PathToRoot::new(parts);
        while let Some(part) = way.next_part() {
            self.walked(way.steps_since())?;
            let Some(name) = self.child(way.here(), &part) else { return Ok(None) };
            match &self.inodes[name.inode].node {
                Node::Directory(_) => way.enter(name.inode)?,
                Node::Symlink(target) => {
                    self.walked_along(target)?;
                    way.follow(target)?;
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(way.here()))
    }

    /// As [`Self::parent`], and makes what is missing. The directories on the way are marked as
    /// written by `layer`, so that its whiteouts leave them.
    fn make_parents(&mut self, layer: usize, parts: &[&[u8]]) -> Result<InodeId, MergeError> {
        let mut way = PathToRoot::new(parts);
        while let Some(part) = way.next_part() {
            self.walked(way.steps_since())?;
            if part.starts_with(WHITEOUT) {
                return Err(MergeError::Whiteout);
            }
            let here = way.here();
            let inode = match self.child(here, &part) {
                Some(name) => name.inode,
                None => self.add(Self::implied_directory())?,
            };
            match &self.inodes[inode].node {
                Node::Directory(_) => {
                    way.enter(inode)?;
                    self.insert(here, &part, Name { inode, layer })?;
                }
                Node::Symlink(target) => {
                    self.walked_along(target)?;
                    way.follow(target)?;
                }
                _ => return Err(MergeError::NotADirectory),
            }
        }
        Ok(way.here())
    }
}

/// The directories from the root to where a path has led so far, and the parts that are left.
struct PathToRoot {
    directories: Vec<InodeId>,
    todo: VecDeque<Vec<u8>>,
    followed: usize,
    /// Parts taken since [`Self::steps_since`] was asked.
    steps: u64,
}

impl PathToRoot {
    fn new(parts: &[&[u8]]) -> Self {
        Self {
            directories: vec![ROOT],
            todo: parts.iter().map(|part| part.to_vec()).collect(),
            followed: 0,
            steps: 0,
        }
    }

    /// Parts taken since this was asked last.
    fn steps_since(&mut self) -> u64 {
        std::mem::take(&mut self.steps)
    }

    fn here(&self) -> InodeId {
        self.directories.last().copied().unwrap_or(ROOT)
    }

    /// The next part that is a name; `.` and `..` (from links) are walked on the way.
    fn next_part(&mut self) -> Option<Vec<u8>> {
        loop {
            let part = self.todo.pop_front()?;
            self.steps += 1;
            match part.as_slice() {
                b"" | b"." => {}
                b".." => self.directories.truncate(self.directories.len().saturating_sub(1).max(1)),
                _ => return Some(part),
            }
        }
    }

    fn enter(&mut self, directory: InodeId) -> Result<(), MergeError> {
        self.directories.push(directory);
        if self.directories.len() > MAX_DEPTH { Err(MergeError::TooDeep) } else { Ok(()) }
    }

    fn follow(&mut self, target: &[u8]) -> Result<(), MergeError> {
        self.followed += 1;
        if self.followed > MAX_LINKS_FOLLOWED {
            return Err(MergeError::LinkLoop);
        }
        if target.starts_with(b"/") {
            self.directories.truncate(1);
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

    use super::*;
    use crate::{budget::Budget, tar_stream::Metadata};

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry {
            path: path.into(),
            kind,
            metadata: Metadata { mode: 0o644, ..Metadata::default() },
            size: 1,
        }
    }

    fn tree() -> Tree {
        Tree::new(std::sync::Arc::new(Budget::default()))
    }

    /// Paths and inodes of all names, in the order of [`Tree::each_name`].
    fn walk(tree: &Tree) -> Vec<(Vec<u8>, InodeId)> {
        let mut paths = std::collections::BTreeMap::from([(ROOT, Vec::new())]);
        let mut walked = Vec::new();
        tree.each_name(|place| {
            let mut path: Vec<u8> = paths[&place.directory].clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(place.name);
            if tree.directory(place.inode).is_some() {
                paths.insert(place.inode, path.clone());
            }
            walked.push((path, place.inode));
        });
        walked
    }

    /// `d PATH`, `f PATH`, `l PATH TARGET` (hard), `s PATH TARGET` (symbolic), one per line; a line
    /// `--` begins a layer.
    fn merged(script: &str) -> Result<Tree, MergeError> {
        let mut tree = tree();
        for (layer, lines) in script.split("--").enumerate() {
            for (ordinal, line) in
                lines.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate()
            {
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
        for (path, inode) in walk(&tree) {
            let what = match &tree.inodes[inode].node {
                Node::Directory(_) => "folder".to_owned(),
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
    fn kinds_replace_each_other_and_directories_join() {
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
        .assert_eq(&listing(
            "s link ../../../etc\ns up /../../root\n--\nf ../../link/passwd\nf up/x",
        ));
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
            ("d d\nl a d", "hard link to the directory d"),
            ("f a\nf a/b", "not a directory"),
            ("f ..", "replace the root"),
            ("f .wh.", "which name a file"),
            ("f .wh...", "which name a file"),
            ("f .wh.a/b", "hold nothing"),
        ] {
            let got = listing(script);
            assert!(got.starts_with("error: ") && got.contains(want), "{script:?}: {got}");
        }
    }

    /// Steps for a script, and for one of eight times as many lines.
    fn steps(script: impl Fn(usize) -> String) -> (u64, u64) {
        let count = |lines| merged(&script(lines)).unwrap().steps();
        (count(500), count(4000))
    }

    #[test]
    fn eight_times_the_entries_take_at_most_ten_times_the_steps() {
        let numbered = |lines: usize, line: &dyn Fn(usize) -> String| {
            (0..lines).map(|number| line(number) + "\n").collect::<String>()
        };
        for (what, (few, many)) in [
            ("hard links", steps(|n| format!("f t\n{}", numbered(n, &|i| format!("l h/{i} t"))))),
            ("long paths", steps(|n| numbered(n, &|i| format!("f {i}/{}x", "b/".repeat(40))))),
            ("deep paths", steps(|n| numbered(n, &|i| format!("f {}{i}", "a/".repeat(900))))),
            (
                "opaque directories, one below the other",
                steps(|n| {
                    let lower = numbered(n, &|i| format!("f {}{i}", "a/".repeat(100)));
                    let own =
                        numbered(n, &|i| format!("f {}.wh..wh..opq", "a/".repeat(99 - i % 100)));
                    format!("{lower}--\n{own}")
                }),
            ),
            (
                "whiteouts of what the layer wrote itself",
                steps(|n| {
                    let own = numbered(n, &|i| format!("f d/{i}"));
                    format!("{own}{}", numbered(n, &|_| "f .wh.d".to_owned()))
                }),
            ),
        ] {
            assert!(few > 0 && many <= 10 * few, "{what}: {few} steps, then {many}");
        }
    }

    #[test]
    fn implied_directories_are_charged() {
        let mut tree = Tree::new(std::sync::Arc::new(Budget::new(1 << 20)));
        let path = |number: usize| format!("{number}/{}x", "b/".repeat(200));
        let refused = (0..100)
            .find_map(|number| tree.apply(0, number, entry(&path(number), Kind::File)).err());
        assert_eq!(refused, Some(MergeError::Budget(OverBudget { limit: 1 << 20 })));
        // Some 225 bytes for each of 202 inodes a path.
        assert!((4_000..6_000).contains(&tree.inodes.len()), "{}", tree.inodes.len());
    }

    #[test]
    fn links_that_lead_far_end_when_the_steps_are_used_up() {
        let mut tree = tree();
        tree.apply(0, 0, entry("d", Kind::Directory)).unwrap();
        let target = format!("{}d", "./".repeat(2000));
        tree.apply(0, 1, entry("far", Kind::Symlink(target.into()))).unwrap();
        assert!(tree.step(MAX_STEPS - 10_000), "so that the test need not walk them all");
        let refused =
            (2..100).find_map(|number| tree.apply(0, number, entry("far/x", Kind::File)).err());
        assert_eq!(refused, Some(MergeError::Steps));
        assert_eq!(tree.find(b"d"), None, "nothing is found any more");
    }

    /// Files behind as many links as may be followed, each of many parts: 60,000 of them
    /// took half a minute.
    #[test]
    fn long_ways_through_links_end_before_the_steps_are_used_up() {
        let mut tree = tree();
        tree.apply(0, 0, entry("d", Kind::Directory)).unwrap();
        let links = MAX_LINKS_FOLLOWED - 1;
        for link in 0..links {
            let next = if link + 1 == links { "d".to_owned() } else { format!("l{}", link + 1) };
            let target = format!("{}{next}", "d/../".repeat(32));
            tree.apply(0, link + 1, entry(&format!("l{link}"), Kind::Symlink(target.into())))
                .unwrap();
        }
        tree.link_steps.set(MAX_LINK_STEPS - 100_000);
        let refused = (0..60_000).find_map(|number| {
            tree.apply(0, 100 + number, entry(&format!("l0/f{number}"), Kind::File)).err()
        });
        assert_eq!(refused, Some(MergeError::Steps));
        assert!(tree.steps() < 200_000, "{} steps", tree.steps());
    }

    #[test]
    fn long_names_are_shortened_in_errors() {
        let mut tree = tree();
        let target = "x".repeat(4_000);
        let error =
            tree.apply(0, 0, entry("a", Kind::HardLink(target.into()))).unwrap_err().to_string();
        assert!(error.contains("xxx…") && error.len() < 400, "{} characters", error.len());
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

    /// Every directory is reached by one name (no cycles), no name is `.`, `..`,
    /// empty or a whiteout.
    fn assert_sound(tree: &Tree) {
        let walked = walk(tree);
        let mut directories = std::collections::BTreeSet::from([ROOT]);
        for (path, inode) in &walked {
            if tree.directory(*inode).is_some() {
                assert!(directories.insert(*inode), "directory {inode} has two names");
            }
            let last = path.rsplit(|byte| *byte == b'/').next().unwrap();
            assert!(!matches!(last, b"" | b"." | b".."), "{path:?}");
            assert!(!last.starts_with(WHITEOUT), "{path:?}");
        }
        assert!(walked.windows(2).all(|pair| pair[0].0 != pair[1].0));
    }

    proptest! {
        #[test]
        fn any_layers_give_a_sound_tree(
            layers in proptest::collection::vec(proptest::collection::vec(some_entry(), 0..20), 1..4)
        ) {
            let mut tree = tree();
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
            let under = |path: &str, directory: &str| path == directory || path.starts_with(&format!("{directory}/"));
            let mut want: Vec<&String> = lower
                .iter()
                .filter(|path| !hidden.iter().any(|hidden| under(path, hidden)))
                .filter(|path| !opaque.iter().any(|directory| under(path, directory)))
                .chain(&upper)
                .collect();
            want.sort();
            let marks = hidden.iter().map(|path| match path.rsplit_once('/') {
                Some((directory, name)) => format!("{directory}/.wh.{name}"),
                None => format!(".wh.{path}"),
            });
            let marks = marks.chain(opaque.iter().map(|directory| format!("{directory}/.wh..wh..opq")));
            let mut second: Vec<String> = upper.iter().cloned().collect();
            let at = if whiteouts_first { 0 } else { second.len() };
            second.splice(at..at, marks);
            let mut tree = tree();
            for (layer, paths) in [lower.iter().cloned().collect(), second].into_iter().enumerate() {
                for (ordinal, path) in paths.iter().enumerate() {
                    tree.apply(layer, ordinal, entry(path, Kind::File)).unwrap();
                }
            }
            let got: Vec<String> = walk(&tree)
                .into_iter()
                .filter(|(_, inode)| tree.directory(*inode).is_none())
                .map(|(path, _)| String::from_utf8(path).unwrap())
                .collect();
            prop_assert_eq!(got, want.into_iter().cloned().collect::<Vec<_>>());
        }
    }
}
