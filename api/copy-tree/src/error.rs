//! Why a copy failed.

use std::{io, path::Path};

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A step on a file.
    #[error("cannot {step} {path}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The place for it is none.
    #[error("{0}")]
    Target(String),
    /// The directory holds more than its sender takes.
    #[error(
        "{path} holds more than {limit} files and directories; pack it into one file (`tar -cf`) first"
    )]
    TooMany {
        /// The directory.
        path: String,
        /// How many are taken.
        limit: usize,
    },
    /// The stream cannot be written or read.
    #[error("the copy broke off")]
    Broken(#[source] io::Error),
    /// The stream is not what this crate writes.
    #[error("the other side sends no copy: {0}")]
    Stream(String),
}

impl CopyError {
    pub(crate) fn step(step: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Step { step, path: path.display().to_string(), source: source.into() }
    }
}
