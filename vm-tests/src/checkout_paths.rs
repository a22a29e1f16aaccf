//! Where everything is: what the harness uses of the repository, and its own directory `target/vm`.
//!
//! ```text
//! target/vm/image/layout     OCI layout of the node image; kept, with the hash of its recipe beside it
//!           image/unpacked   the same, unpacked by umoci; kept
//!           consoles/        serial console of each machine         ┐
//!           server.log       log of the server                      │ of the last run
//!           server.yaml, state/, overlays/, registry/, ssh/, pids/, disks/  ┘
//! ```

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use harness::workspace;

/// Directories that each run makes again.
const DIRECTORIES: [&str; 7] =
    ["consoles", "state", "overlays", "registry", "ssh", "pids", "disks"];

/// The paths.
#[derive(Debug, Clone)]
pub(crate) struct CheckoutPaths {
    workspace: PathBuf,
    root: PathBuf,
    bedplate: PathBuf,
}

impl CheckoutPaths {
    /// The paths of this checkout.
    ///
    /// # Errors
    /// If the workspace is not where this program was built.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let workspace = workspace::root()?;
        let (root, bedplate) =
            (workspace.join("target/vm"), workspace.join("target/debug/bedplate"));
        Ok(Self { workspace, root, bedplate })
    }

    /// With the optimised program, for benchmarks.
    pub(crate) fn released(self) -> Self {
        Self { bedplate: self.workspace.join("target/release/bedplate"), ..self }
    }

    /// Makes sure that this is the only run of this checkout for as long as the result lives.
    ///
    /// # Errors
    /// If another run is under way.
    pub(crate) fn lock(&self) -> anyhow::Result<File> {
        workspace::lock(&self.root, "lock")
    }

    /// Removes what an earlier run left, except the image, and makes the directories again.
    ///
    /// # Errors
    /// If a directory cannot be removed or made.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        for name in DIRECTORIES.into_iter().chain(["server.log", "registry.log"]) {
            let path = self.root.join(name);
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
        }
        for name in DIRECTORIES.into_iter().chain(["image"]) {
            let path = self.root.join(name);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(())
    }

    /// `target/vm`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path of the repository.
    pub(crate) fn in_workspace(&self, path: &str) -> PathBuf {
        self.workspace.join(path)
    }

    /// The `bedplate` program.
    pub(crate) fn bedplate(&self) -> PathBuf {
        self.bedplate.clone()
    }

    /// A path of `target/vm`.
    pub(crate) fn of_run(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Pid files.
    pub(crate) fn pids(&self) -> PathBuf {
        self.root.join("pids")
    }

    /// The substrate program that the server hands out.
    pub(crate) fn substrate(&self) -> PathBuf {
        self.root.join("state/substrate")
    }

    /// The log of the server.
    pub(crate) fn server_log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// The serial console of a machine.
    pub(crate) fn console(&self, machine: &str) -> PathBuf {
        self.root.join(format!("consoles/{machine}.log"))
    }
}
