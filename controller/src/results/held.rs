//! What logs and files have on disk, for the quotas of their owners.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use access::QuotaExceeded;
use api::{
    log::times::TimeMark,
    quota::{Amounts, QuotaName},
    run::WorkflowId,
};
use document::plan::StageId;
use rest::causes;

use super::{PART, Results, TransferKind};

/// Directories in the directory of a workflow: the tails of logs.
const DEPTH: u32 = 1;

/// Bytes of a record of the file of time marks (crate `log-files`, module `times`).
const TIME_BYTES: u64 = 24;

/// Bytes of all files in a directory; what is not there has none.
fn bytes_in(directory: &Path, depth: u32) -> u64 {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::error!("cannot look into {}: {error}", directory.display());
            }
            return 0;
        }
    };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() && depth > 0 => bytes_in(&entry.path(), depth - 1),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        // Removed meanwhile, or nothing of ours.
        _ => 0,
    };
    entries.flatten().map(bytes).sum()
}

fn bytes_of(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |metadata| metadata.len())
}

/// Bytes of the files of a log whose head is at `path`.
pub(super) fn log_bytes(path: &Path) -> u64 {
    bytes_of(path)
        + bytes_of(&path.with_extension("times"))
        + bytes_in(&path.with_extension("tail"), 0)
}

/// What time marks take at most: each a record, and one for their file.
pub(super) fn times_bytes(times: &[TimeMark]) -> u64 {
    if times.is_empty() { 0 } else { (times.len() as u64 + 1) * TIME_BYTES }
}

/// One attempt at a file for the client. When this is dropped, what came of a file that was not
/// published is removed, and counted no more.
#[derive(Debug)]
pub(crate) struct FileCharge {
    results: Results,
    pub(super) workflow: WorkflowId,
    pub(super) stage: StageId,
    /// Where it is written, and nothing else.
    pub(super) part: PathBuf,
    reserved: u64,
}

impl FileCharge {
    pub(super) fn new(
        results: Results,
        workflow: WorkflowId,
        stage: StageId,
        part: PathBuf,
    ) -> Self {
        Self { results, workflow, stage, part, reserved: 0 }
    }

    /// Counts bytes that are about to be written.
    pub(crate) fn reserve(&mut self, bytes: u64, limit: Option<u64>) -> Result<(), QuotaExceeded> {
        self.results.ledger.reserve(self.workflow, QuotaName::Results, bytes, limit)?;
        self.reserved += bytes;
        Ok(())
    }

    /// Bytes under the names that files are published as.
    pub(super) fn published(&self) -> u64 {
        let path = |what| self.results.file_path(self.workflow, self.stage, what);
        [TransferKind::File, TransferKind::Directory].map(|what| bytes_of(&path(what))).iter().sum()
    }

    /// What was reserved is under its name now, where `before` bytes were. Called by whoever
    /// publishes alone.
    pub(super) fn settle(&mut self, before: u64) {
        let (reserved, after) = (std::mem::take(&mut self.reserved), self.published());
        self.results.ledger.settle(self.workflow, QuotaName::Results, reserved, before, after);
    }
}

impl Drop for FileCharge {
    fn drop(&mut self) {
        // What is published has another name, and its workflow may be gone with all of it.
        remove_part(&self.part);
        self.results.ledger.settle(self.workflow, QuotaName::Results, self.reserved, 0, 0);
    }
}

fn remove_part(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::error!("cannot remove {}: {error}", path.display());
        }
        _ => {}
    }
}

impl Results {
    /// Removes what the last run of the server left of files that had not come whole: nobody goes
    /// on with them. Call it before [`Self::measure`], and before any is begun.
    pub(crate) fn remove_parts(&self) {
        let directories = fs::read_dir(&self.files).into_iter().flatten().flatten();
        let files = directories
            .filter_map(|directory| fs::read_dir(directory.path()).ok())
            .flatten()
            .flatten();
        for path in files.map(|file| file.path()) {
            if path.extension().and_then(OsStr::to_str).is_some_and(|end| end.starts_with(PART)) {
                remove_part(&path);
            }
        }
    }

    /// What is on disk of each workflow, logs and files.
    pub(crate) fn measure(&self) -> HashMap<WorkflowId, Amounts> {
        let mut found: HashMap<WorkflowId, Amounts> = HashMap::new();
        for (root, name) in [(&self.logs, QuotaName::Logs), (&self.files, QuotaName::Results)] {
            let directories = match fs::read_dir(root) {
                Ok(directories) => directories,
                Err(error) => {
                    tracing::error!("cannot look into {}: {error}", root.display());
                    continue;
                }
            };
            for directory in directories.flatten() {
                let workflow = directory.file_name().to_str().and_then(|name| name.parse().ok());
                if let Some(workflow) = workflow {
                    let bytes = bytes_in(&directory.path(), DEPTH);
                    found.entry(workflow).or_default().set(name, bytes);
                }
            }
        }
        found
    }

    /// Removes all that is here of a workflow that the database has no more, and counts it no more;
    /// `true` if that is done. What cannot be removed stays counted; the next start of the server
    /// tries again.
    pub(crate) async fn forget(self, workflow: WorkflowId) -> bool {
        let results = self.clone();
        let removed = tokio::task::spawn_blocking(move || results.remove(workflow)).await;
        match removed {
            Ok(Ok(())) => {
                self.ledger.forget(workflow);
                return true;
            }
            Ok(Err(error)) => {
                tracing::error!("{}; it is tried again at the next start", causes(&error))
            }
            Err(error) => {
                tracing::error!("the files of workflow {workflow} are not removed: {error}")
            }
        }
        false
    }
}
