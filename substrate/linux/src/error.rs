//! The one error of this crate: which step failed on what, with the errno.

use std::{fmt::Display, io, path::Path};

/// A system call that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {subject}")]
pub struct LinuxError {
    /// What was tried, as a verb: "mount", "load the module".
    pub step: &'static str,
    /// What it was tried on: a path, a module, a device.
    pub subject: String,
    /// Error that the kernel returned.
    #[source]
    pub errno: io::Error,
}

impl LinuxError {
    /// An error of `step` on `subject`.
    pub fn new(step: &'static str, subject: impl Display, errno: impl Into<io::Error>) -> Self {
        Self { step, subject: subject.to_string(), errno: errno.into() }
    }

    /// An error of `step` on a path.
    pub(crate) fn path(step: &'static str, path: &Path, errno: impl Into<io::Error>) -> Self {
        Self::new(step, path.display(), errno)
    }

    /// The raw errno, where the kernel gave one.
    #[must_use]
    pub fn raw(&self) -> Option<i32> {
        self.errno.raw_os_error()
    }
}
