//! The file tree of an image in memory: names and metadata, no contents. Built by `merge`, read by
//! `squashfs`, `kernel`, `modules`, `firmware`.
//!
//! Inodes lie in one vector; directories map names to inodes, so that hard links are two names with
//! one inode. Symbolic links are followed only inside the tree: `..` at the root stays at the root.

pub(crate) mod merge;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map},
    sync::Arc,
};

use crate::{
    budget::{Budget, INODE_BYTES, NAME_BYTES, OverBudget},
    tar_stream::{Metadata, xattr_bytes},
};

/// Deepest directory; a path of 4,096 bytes has no more.
const MAX_DEPTH: usize = 2048;

/// Symbolic links followed on one path, as Linux has it.
const MAX_LINKS_FOLLOWED: usize = 40;

/// Steps that may be made along paths and symbolic links of one image, one for each part of a path:
/// some 5 s of a core. An OS image of 70,000 files takes a million. Without it, a link of 4,096
/// bytes in each of 300,000 paths would keep a core busy for hours.
pub(crate) const MAX_STEPS: u64 = 1 << 26;

/// Parts that symbolic links may put on the ways of one image: some 3 s of a core, for each is
/// copied before it is walked. An OS image takes some 100,000, one of a million files behind
/// `/lib` two million. [`MAX_LINKS_FOLLOWED`] of 64 parts on the way to each of 60,000 files would
/// be 150 million.
pub(crate) const MAX_LINK_STEPS: u64 = 1 << 23;

/// Number of an inode in [`Tree::inodes`]; 0 is the root.
pub(crate) type InodeId = usize;

pub(crate) const ROOT: InodeId = 0;

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    pub inode: InodeId,
    /// The last layer that wrote it, or something below it.
    pub layer: usize,
}

/// Where the content of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Content {
    pub layer: usize,
    /// Number of the entry in the layer's tar stream, from 0.
    pub ordinal: usize,
    /// Bytes.
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory(BTreeMap<Vec<u8>, Name>),
    File(Content),
    Symlink(Vec<u8>),
    CharacterDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inode {
    pub metadata: Metadata,
    pub node: Node,
}

impl Inode {
    /// What the inode takes in memory, bytes, without the names in a directory.
    fn held_bytes(&self) -> u64 {
        let link = if let Node::Symlink(target) = &self.node { target.len() as u64 } else { 0 };
        INODE_BYTES + link + xattr_bytes(&self.metadata.xattrs)
    }
}

/// See the head of this file.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub inodes: Vec<Inode>,
    budget: Arc<Budget>,
    /// Steps made so far.
    steps: Cell<u64>,
    /// Parts of the links that were followed so far.
    link_steps: Cell<u64>,
    /// Directories that are known to hold nothing of the layers below [`Self::cleaned_layer`].
    cleaned: BTreeSet<InodeId>,
    cleaned_layer: usize,
}

/// One name of the tree, in [`Tree::each_name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeName<'t> {
    /// The directory that holds the name.
    pub directory: InodeId,
    pub name: &'t [u8],
    pub inode: InodeId,
    /// How many directories lie above it.
    pub depth: usize,
}

/// A path split into its parts: empty ones and `.` are dropped, `..` takes away what stands before
/// it, and none leads out of the root.
pub(crate) fn parts(path: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}

impl Tree {
    /// An empty tree that charges `budget` for what is put into it.
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self {
            inodes: vec![Self::implied_directory()],
            budget,
            steps: Cell::new(0),
            link_steps: Cell::new(0),
            cleaned: BTreeSet::new(),
            cleaned_layer: 0,
        }
    }

    /// Steps made along paths and links so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// Counts steps; `false` when there were more than [`MAX_STEPS`], or more than
    /// [`MAX_LINK_STEPS`] of links.
    pub(crate) fn step(&self, steps: u64) -> bool {
        self.steps.set(self.steps.get().saturating_add(steps));
        self.steps.get() <= MAX_STEPS && self.link_steps.get() <= MAX_LINK_STEPS
    }

    /// Counts the parts of a link that is followed; as [`Self::step`].
    fn step_along(&self, target: &[u8]) -> bool {
        let parts = target.split(|byte| *byte == b'/').count() as u64;
        self.link_steps.set(self.link_steps.get().saturating_add(parts));
        self.step(0)
    }

    /// Adds an inode that no name leads to yet.
    fn add(&mut self, inode: Inode) -> Result<InodeId, OverBudget> {
        self.budget.charge(inode.held_bytes())?;
        self.inodes.push(inode);
        Ok(self.inodes.len() - 1)
    }

    /// Puts a name into a directory, in the place of one that is there.
    fn insert(&mut self, directory: InodeId, part: &[u8], name: Name) -> Result<(), OverBudget> {
        if let Node::Directory(names) = &mut self.inodes[directory].node {
            if let Some(known) = names.get_mut(part) {
                *known = name;
            } else {
                self.budget.charge(NAME_BYTES + part.len() as u64)?;
                names.insert(part.to_vec(), name);
            }
        }
        Ok(())
    }

    /// Gives an inode other metadata.
    fn describe(&mut self, inode: InodeId, metadata: Metadata) -> Result<(), OverBudget> {
        self.budget.charge(xattr_bytes(&metadata.xattrs))?;
        let before = std::mem::replace(&mut self.inodes[inode].metadata, metadata);
        self.budget.release(xattr_bytes(&before.xattrs));
        Ok(())
    }

    /// A directory that no layer describes.
    fn implied_directory() -> Inode {
        Inode {
            metadata: Metadata { mode: 0o755, ..Metadata::default() },
            node: Node::Directory(BTreeMap::new()),
        }
    }

    pub(crate) fn directory(&self, inode: InodeId) -> Option<&BTreeMap<Vec<u8>, Name>> {
        match &self.inodes[inode].node {
            Node::Directory(names) => Some(names),
            _ => None,
        }
    }

    /// Finds a path, following all symbolic links, the last one too. Finds nothing once the steps
    /// are used up: ask [`Self::step`] before a result counts.
    pub(crate) fn find(&self, path: &[u8]) -> Option<InodeId> {
        let mut directories = vec![ROOT];
        let mut todo: VecDeque<Vec<u8>> =
            path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        let mut followed = 0;
        while let Some(part) = todo.pop_front() {
            let here = *directories.last()?;
            if !self.step(1) {
                return None;
            }
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    directories.truncate(directories.len().saturating_sub(1).max(1));
                    continue;
                }
                _ => {}
            }
            let inode = self.directory(here)?.get(&part)?.inode;
            if let Node::Symlink(target) = &self.inodes[inode].node {
                followed += 1;
                if followed > MAX_LINKS_FOLLOWED || !self.step_along(target) {
                    return None;
                }
                if target.starts_with(b"/") {
                    directories.truncate(1);
                }
                for part in target.split(|byte| *byte == b'/').rev() {
                    todo.push_front(part.to_vec());
                }
            } else {
                directories.push(inode);
            }
        }
        directories.last().copied()
    }

    /// Names in the directory at `path`, links followed; empty if there is no such directory.
    pub(crate) fn names(&self, path: &[u8]) -> Vec<&[u8]> {
        let names = self.find(path).and_then(|inode| self.directory(inode));
        names.map(|names| names.keys().map(Vec::as_slice).collect()).unwrap_or_default()
    }

    /// The content of the regular file at `path`, links followed.
    pub(crate) fn content(&self, path: &[u8]) -> Option<Content> {
        match self.inodes[self.find(path)?].node {
            Node::File(content) => Some(content),
            _ => None,
        }
    }

    /// Every name but the root's: directories before what is in them, in byte order of the names.
    pub(crate) fn each_name<'t>(&'t self, mut each: impl FnMut(TreeName<'t>)) {
        let iterate = |inode| self.directory(inode).map(BTreeMap::iter);
        let mut way: Vec<(InodeId, btree_map::Iter<'t, Vec<u8>, Name>)> =
            iterate(ROOT).map(|names| (ROOT, names)).into_iter().collect();
        while let Some((directory, names)) = way.last_mut() {
            let directory = *directory;
            let Some((part, name)) = names.next() else {
                way.pop();
                continue;
            };
            each(TreeName { directory, name: part, inode: name.inode, depth: way.len() });
            way.extend(iterate(name.inode).map(|names| (name.inode, names)));
        }
    }
}
