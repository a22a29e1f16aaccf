//! Where everything is.
//!
//! ```text
//! target/bench/image/        the OS image of `import`, kept with the hash of its recipe
//!              data/         other inputs that are made once
//!              results/      the outcome of each benchmark of the last run, as JSON
//!              run/          states of both sides that lie on disk   ┐ of one benchmark,
//! /dev/shm/bedplate-bench-…  those that lie in memory                ┘ cleared by the next
//! ```

use std::{fs::File, path::PathBuf};

use harness::workspace;
use sha2::{Digest as _, Sha256};

/// The paths of this checkout.
#[derive(Debug, Clone)]
pub(crate) struct CheckoutPaths {
    workspace: PathBuf,
    root: PathBuf,
    memory: PathBuf,
    mark: String,
}

impl CheckoutPaths {
    /// The paths of the checkout that this program was built in.
    ///
    /// # Errors
    /// If it was not built in a workspace.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let workspace = workspace::root()?;
        let hash = Sha256::digest(workspace.as_os_str().as_encoded_bytes());
        let mark = format!("{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3]);
        Ok(Self {
            root: workspace.join("target/bench"),
            workspace,
            memory: PathBuf::from(format!("/dev/shm/bedplate-bench-{mark}")),
            mark,
        })
    }

    /// Makes sure that this is the only run of this checkout for as long as the result lives.
    ///
    /// # Errors
    /// If another run is under way.
    pub(crate) fn lock(&self) -> anyhow::Result<File> {
        workspace::lock(&self.root, "lock")
    }

    /// Removes what a benchmark left, except what is kept, and makes the directories again.
    ///
    /// # Errors
    /// If a directory cannot be removed or made.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        self.remove()?;
        for path in [self.on_disk(""), self.in_memory(""), self.kept("data"), self.kept("results")]
        {
            workspace::make(&path)?;
        }
        Ok(())
    }

    /// Removes what a benchmark left, except what is kept.
    ///
    /// # Errors
    /// If a directory cannot be removed.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        workspace::remove(&self.on_disk(""))?;
        workspace::remove(&self.in_memory(""))
    }

    /// Tells namespaces of this checkout from others'.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// A path of the repository.
    pub(crate) fn in_workspace(&self, path: &str) -> PathBuf {
        self.workspace.join(path)
    }

    /// The optimised `bedplate` program.
    pub(crate) fn bedplate(&self) -> PathBuf {
        self.in_workspace("target/release/bedplate")
    }

    /// A path of what benchmarks keep for the next run.
    pub(crate) fn kept(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A path on the disk that the checkout is on.
    pub(crate) fn on_disk(&self, path: &str) -> PathBuf {
        self.root.join("run").join(path)
    }

    /// A path on a file system in memory (tmpfs).
    pub(crate) fn in_memory(&self, path: &str) -> PathBuf {
        self.memory.join(path)
    }
}
