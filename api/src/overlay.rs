//! Overlays over REST, and the archive that carries rendered files to a node.
//!
//! The archive is an uncompressed POSIX tar (`application/x-tar`) of directories, regular files and
//! symbolic links with numeric owners and modes, paths relative to the root of the node's file
//! system, parents first, names sorted, mtime 0: the same input gives the same bytes.
//!
//! What an archive holds is named by its *generation*: a hash over the hashes of its files
//! ([`ListedEntry`]), so that a large file that all nodes have is hashed once for all of them.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, OverlayName};

/// Largest file of an overlay and largest rendered file, bytes: configuration, not data.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// Largest archive that a node takes, bytes: configuration, not data.
pub const MAX_ARCHIVE_BYTES: u64 = 256 << 20;

/// One overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Overlay {
    /// Its name.
    pub name: OverlayName,
    /// `shipped`, `site`, or `site over shipped` where a site overlay shadows a shipped one.
    pub source: String,
    /// First paragraph of its `README.md`.
    pub summary: String,
    /// Its files, as far as they can be read.
    pub files: Vec<OverlayFile>,
    /// What of it cannot be read or used, each with its file. While there is any, nodes that use
    /// the overlay stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// One file of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct OverlayFile {
    /// Path on the node, with a leading slash and without `.j2`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Rendered for each node.
    pub template: bool,
}

/// A file as one node gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct RenderedFile {
    /// Path on the node, with a leading slash.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Its text; a binary file is shown as its size.
    pub content: String,
}

/// Which rendered archive a node should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Generation {
    /// SHA-256 over the list of what the archive holds: each [`ListedEntry::write`], in the order
    /// of the bytes of their paths.
    pub digest: Digest,
    /// Size of the archive in bytes.
    pub size: u64,
}

/// An entry of an archive as its generation depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedEntry<'a> {
    /// Path relative to the root, without a slash at its end.
    pub path: &'a [u8],
    /// Permission bits; 0 of a link, which has none.
    pub mode: u32,
    /// UID of the owner.
    pub uid: u32,
    /// GID of the group.
    pub gid: u32,
    /// Type and content of the entry.
    pub content: ListedContent<'a>,
}

/// What an entry of an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedContent<'a> {
    /// A directory.
    Directory,
    /// A regular file: SHA-256 of its bytes.
    File(Digest),
    /// A symbolic link: its target.
    Link(&'a [u8]),
}

impl ListedEntry<'_> {
    /// Adds its line to the list: `d`, `f` or `l`, mode, owner and group (32 bits each,
    /// big-endian), the path and a zero byte; of a file the 32 bytes of its digest, of a link the
    /// target and a zero byte. No path or target holds a zero byte, so no two lists are the same.
    pub fn write(&self, list: &mut Vec<u8>) {
        list.push(match self.content {
            ListedContent::Directory => b'd',
            ListedContent::File(_) => b'f',
            ListedContent::Link(_) => b'l',
        });
        for number in [self.mode, self.uid, self.gid] {
            list.extend(number.to_be_bytes());
        }
        list.extend(self.path);
        list.push(0);
        match self.content {
            ListedContent::Directory => {}
            ListedContent::File(Digest(digest)) => list.extend(digest),
            ListedContent::Link(target) => {
                list.extend(target);
                list.push(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_tell_what_differs() {
        let list = |path: &'static str, mode, content| {
            let mut list = Vec::new();
            ListedEntry { path: path.as_bytes(), mode, uid: 0, gid: 7, content }.write(&mut list);
            list
        };
        assert_eq!(
            list("etc", 0o755, ListedContent::Directory),
            b"d\0\0\x01\xed\0\0\0\0\0\0\0\x07etc\0"
        );
        assert_eq!(
            list("a", 0, ListedContent::Link(b"b")),
            b"l\0\0\0\0\0\0\0\0\0\0\0\x07a\0b\0",
            "a link"
        );
        let file = |byte| list("a", 0o644, ListedContent::File(Digest([byte; 32])));
        assert_ne!(file(1), file(2));
        assert_eq!(file(1).len(), 1 + 12 + 2 + 32);
    }
}
