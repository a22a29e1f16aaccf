//! The file tree of an image in memory: names and metadata, no contents. Built by `merge`, read by `squashfs`,
//! `kernel`, `modules`, `firmware`.
//!
//! Inodes lie in one vector; folders map names to inodes, so that hard links are two names with one inode. Symbolic
//! links are followed only inside the tree: `..` at the root stays at the root.

pub(crate) mod merge;

use std::collections::{BTreeMap, VecDeque};

use crate::tar_stream::Metadata;

/// Deepest folder; a path of 4,096 bytes has no more.
const MAX_DEPTH: usize = 2048;

/// Symbolic links followed on one path, as Linux has it.
const MAX_LINKS_FOLLOWED: usize = 40;

/// Number of an inode in [`Tree::inodes`]; 0 is the root.
pub(crate) type InodeId = usize;

pub(crate) const ROOT: InodeId = 0;

/// A name in a folder.
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
    Folder(BTreeMap<Vec<u8>, Name>),
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

/// See the head of this file.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub inodes: Vec<Inode>,
}

/// One name of the tree, in [`Tree::walk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Without a leading slash; empty for the root.
    pub path: Vec<u8>,
    pub inode: InodeId,
}

/// A path split into its parts: empty ones and `.` are dropped, `..` takes away what stands before it, and none leads
/// out of the root.
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
    pub(crate) fn new() -> Self {
        Self { inodes: vec![Self::implied_folder()] }
    }

    /// A folder that no layer describes.
    fn implied_folder() -> Inode {
        Inode {
            metadata: Metadata { mode: 0o755, ..Metadata::default() },
            node: Node::Folder(BTreeMap::new()),
        }
    }

    pub(crate) fn folder(&self, inode: InodeId) -> Option<&BTreeMap<Vec<u8>, Name>> {
        match &self.inodes[inode].node {
            Node::Folder(names) => Some(names),
            _ => None,
        }
    }

    /// Finds a path, following all symbolic links, the last one too.
    pub(crate) fn find(&self, path: &[u8]) -> Option<InodeId> {
        let mut folders = vec![ROOT];
        let mut todo: VecDeque<Vec<u8>> = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        let mut followed = 0;
        while let Some(part) = todo.pop_front() {
            let here = *folders.last()?;
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    folders.truncate(folders.len().saturating_sub(1).max(1));
                    continue;
                }
                _ => {}
            }
            let inode = self.folder(here)?.get(&part)?.inode;
            if let Node::Symlink(target) = &self.inodes[inode].node {
                followed += 1;
                if followed > MAX_LINKS_FOLLOWED {
                    return None;
                }
                if target.starts_with(b"/") {
                    folders.truncate(1);
                }
                for part in target.split(|byte| *byte == b'/').rev() {
                    todo.push_front(part.to_vec());
                }
            } else {
                folders.push(inode);
            }
        }
        folders.last().copied()
    }

    /// Names in the folder at `path`, links followed; empty if there is no such folder.
    pub(crate) fn names(&self, path: &[u8]) -> Vec<&[u8]> {
        let names = self.find(path).and_then(|inode| self.folder(inode));
        names.map(|names| names.keys().map(Vec::as_slice).collect()).unwrap_or_default()
    }

    /// The content of the regular file at `path`, links followed.
    pub(crate) fn content(&self, path: &[u8]) -> Option<Content> {
        match self.inodes[self.find(path)?].node {
            Node::File(content) => Some(content),
            _ => None,
        }
    }

    /// Every name, folders before what is in them, in byte order of the names.
    pub(crate) fn walk(&self) -> Vec<Walked> {
        let mut walked = Vec::new();
        let mut todo = vec![Walked { path: Vec::new(), inode: ROOT }];
        while let Some(here) = todo.pop() {
            if let Some(names) = self.folder(here.inode) {
                for (part, name) in names.iter().rev() {
                    let mut path = here.path.clone();
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(part);
                    todo.push(Walked { path, inode: name.inode });
                }
            }
            walked.push(here);
        }
        walked
    }
}
