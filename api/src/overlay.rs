//! Overlays over REST, and the archive that carries rendered files to a node.
//!
//! The archive is an uncompressed POSIX tar (`application/x-tar`) of directories, regular files and symbolic links
//! with numeric owners and modes, paths relative to the root of the node's file system, parents first, names sorted,
//! mtime 0: the same input gives the same bytes, so its SHA-256 names the rendered content (the *generation*).

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, OverlayName};

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
    /// Its files.
    pub files: Vec<OverlayFile>,
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
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// Size of the archive in bytes.
    pub size: u64,
}
