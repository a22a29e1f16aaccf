//! Overlays: directories of files and templates that are rendered for each node. The format:
//! `docs/formats/overlay.md`.
//!
//! - [`library`] reads the shipped and the site's directories into memory;
//! - [`variables`] makes what templates see of a node and of the cluster;
//! - [`front_matter`] reads what a template says of its files;
//! - [`template`] compiles and renders one file;
//! - [`renderer`] renders whole overlays, and remembers what it rendered by what went in;
//! - [`site`] writes single files of the site's overlays, [`removal`] deletes whole ones;
//! - [`archive`] packs the result as the tar of `api::overlay`.
//!
//! What of an overlay cannot be read is that overlay's error, which holds the nodes that use it.
//!
//! All of it is called by the server's shell in [`crate::Provisioner`]; nothing here but
//! [`library`], [`site`], [`removal`] and [`host_key`] touches a file.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

pub mod archive;
mod front_matter;
pub mod host_key;
pub mod library;
pub(crate) mod removal;
pub mod renderer;
pub mod site;
pub mod template;
pub mod variables;

/// Longest path of a rendered file, bytes: what the name and prefix fields of a POSIX
/// tar header hold.
pub const MAX_PATH_BYTES: usize = 255;

pub use api::overlay::MAX_FILE_BYTES;

/// One entry as a node gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path on the node, with a leading slash.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its bytes.
        bytes: Bytes,
        /// SHA-256 of them.
        digest: [u8; 32],
    },
    /// A symbolic link.
    Link(String),
}

impl Entry {
    /// Bytes of its content.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.content {
            Content::File { bytes, .. } => bytes.len() as u64,
            Content::Directory | Content::Link(_) => 0,
        }
    }
}

impl Content {
    /// A regular file.
    #[must_use]
    pub fn file(bytes: Bytes) -> Self {
        let digest = Sha256::digest(&bytes).into();
        Self::File { bytes, digest }
    }
}

/// Checks the path of a rendered file.
///
/// # Errors
/// What is wrong with it.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    let Some(relative) = path.strip_prefix('/') else { return Err("it must begin with /") };
    if path.len() > MAX_PATH_BYTES {
        return Err("it is longer than 255 bytes");
    }
    if path.contains('\0') || path.contains('\n') {
        return Err("it holds a line break or a zero byte");
    }
    if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("it has an empty part, or a part . or ..");
    }
    Ok(())
}
