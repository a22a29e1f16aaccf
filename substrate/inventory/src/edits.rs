//! What a granted device puts into a container: read from a CDI spec (`cdi.rs`) or from a rule of
//! our own (`devices/built_in.rs`), made by the agent and the container's start.

/// A character or a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    /// `c`, or `u`, which is the same.
    Character,
    /// `b`.
    Block,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it is on the node.
    pub source: String,
    /// Where it shall be in the container, below `/dev`.
    pub path: String,
    /// What it is, if the spec says so; the real one must be the same.
    pub kind: Option<NodeKind>,
    /// Its major number, likewise.
    pub major: Option<u32>,
    /// Its minor number, likewise.
    pub minor: Option<u32>,
    /// It may be read.
    pub read: bool,
    /// It may be written.
    pub write: bool,
    /// Permission bits in the container; those on the node if absent.
    pub mode: Option<u32>,
    /// Owner in the container; the job's user if absent.
    pub uid: Option<u32>,
    /// Group in the container; the job's if absent.
    pub gid: Option<u32>,
    /// Several devices have it, such as `/dev/nvidiactl`: who has it has nothing for itself.
    pub shared: bool,
}

impl Node {
    /// The node at `path`, in the container at the same place, to be read and written.
    #[must_use]
    pub fn at(path: &str, shared: bool) -> Self {
        Self {
            source: path.to_owned(),
            path: path.to_owned(),
            kind: None,
            major: None,
            minor: None,
            read: true,
            write: true,
            mode: None,
            uid: None,
            gid: None,
            shared,
        }
    }
}

/// A file or directory of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// On the node.
    pub source: String,
    /// In the container.
    pub target: String,
    /// Not to be written to.
    pub read_only: bool,
    /// No programs are run from it.
    pub no_exec: bool,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Where it is in the container.
    pub path: String,
    /// Target of the link.
    pub target: String,
}

/// All that a CDI spec adds to a container for its devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// Device nodes.
    pub nodes: Vec<Node>,
    /// Files and directories.
    pub mounts: Vec<Mount>,
    /// Environment variables, `NAME=VALUE`.
    pub env: Vec<String>,
    /// GIDs of supplementary groups.
    pub gids: Vec<u32>,
    /// Links, made when the mounts are there.
    pub links: Vec<Link>,
    /// Directories in which the loader of the container shall look for libraries.
    pub library_directories: Vec<String>,
    /// What is asked for and cannot be done, in words.
    pub refused: Vec<String>,
}

impl Edits {
    /// Adds another's; what both have is there once.
    pub fn add(&mut self, other: &Self) {
        for node in &other.nodes {
            match self
                .nodes
                .iter_mut()
                .find(|known| Node { shared: node.shared, ..(*known).clone() } == *node)
            {
                Some(known) => known.shared &= node.shared,
                None => self.nodes.push(node.clone()),
            }
        }
        add(&mut self.mounts, &other.mounts);
        add(&mut self.env, &other.env);
        add(&mut self.gids, &other.gids);
        add(&mut self.links, &other.links);
        add(&mut self.library_directories, &other.library_directories);
        add(&mut self.refused, &other.refused);
    }
}

fn add<T: Clone + PartialEq>(to: &mut Vec<T>, from: &[T]) {
    for one in from {
        if !to.contains(one) {
            to.push(one.clone());
        }
    }
}
