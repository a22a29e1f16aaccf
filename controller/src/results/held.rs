//! What logs and files have on disk, for the quotas of their owners.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use access::QuotaExceeded;
use api::{
    log::times::TimeMark,
    quota::{Amounts, QuotaName},
    run::WorkflowId,
};
use rest::causes;

use super::{Brought, Results};

/// Folders in the folder of a workflow: the tails of logs.
const DEPTH: u32 = 1;

/// Bytes of a record of the file of time marks (crate `log-files`, module `times`).
const TIME_BYTES: u64 = 24;

/// Bytes of all files in a folder; what is not there has none.
fn bytes_in(folder: &Path, depth: u32) -> u64 {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::error!("cannot look into {}: {error}", folder.display());
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
    bytes_of(path) + bytes_of(&path.with_extension("times")) + bytes_in(&path.with_extension("tail"), 0)
}

/// What time marks take at most: each a record, and one for their file.
pub(super) fn times_bytes(times: &[TimeMark]) -> u64 {
    if times.is_empty() { 0 } else { (times.len() as u64 + 1) * TIME_BYTES }
}

/// Device and inode of a file.
fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Whether a path is this very file, and not what another has put in its place.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    Ok(identity(&file.metadata()?) == identity(&fs::symlink_metadata(path)?))
}

/// A file for the client that is being taken. When this is dropped, what came of a file that was not
/// published is removed, and what is on disk is counted.
#[derive(Debug)]
pub(crate) struct FileCharge {
    results: Results,
    workflow: WorkflowId,
    /// The one that is being written first.
    paths: [PathBuf; 3],
    /// The one that is being written, once there is one.
    part: Option<(u64, u64)>,
    before: u64,
    reserved: u64,
}

impl FileCharge {
    /// Counts bytes that are about to be written.
    pub(crate) fn reserve(&mut self, bytes: u64, limit: Option<u64>) -> Result<(), QuotaExceeded> {
        self.results.ledger.reserve(self.workflow, QuotaName::Results, bytes, limit)?;
        self.reserved += bytes;
        Ok(())
    }

    /// What was begun goes again with this, unless it was published.
    pub(crate) fn begun(&mut self, file: &File) -> io::Result<()> {
        self.part = Some(identity(&file.metadata()?));
        Ok(())
    }

    /// Frees what nobody can use: the next attempt begins anew.
    fn remove_part(&self) {
        let [part, ..] = &self.paths;
        // One that is published has another name, and that of another attempt is another file.
        let is_ours = |metadata| self.part == Some(identity(&metadata));
        if fs::symlink_metadata(part).is_ok_and(is_ours)
            && let Err(error) = fs::remove_file(part)
        {
            tracing::error!("cannot remove {}: {error}", part.display());
        }
    }

    fn on_disk(&self) -> u64 {
        self.paths.iter().map(|path| bytes_of(path)).sum()
    }
}

impl Drop for FileCharge {
    fn drop(&mut self) {
        self.remove_part();
        let ledger = &self.results.ledger;
        ledger.settle(self.workflow, QuotaName::Results, self.reserved, self.before, self.on_disk());
    }
}

impl Results {
    /// Counts a file for the client from now on. Call it before [`Self::begin_file`].
    pub(crate) fn charge_file(&self, workflow: WorkflowId, stage: u32) -> FileCharge {
        let file = self.file_path(workflow, stage, Brought::File);
        let folder = self.file_path(workflow, stage, Brought::Folder);
        let paths = [file.with_extension("part"), file, folder];
        let results = self.clone();
        let mut charge = FileCharge { results, workflow, paths, part: None, before: 0, reserved: 0 };
        charge.before = charge.on_disk();
        charge
    }

    /// What is on disk of each workflow, logs and files.
    pub(crate) fn measure(&self) -> HashMap<WorkflowId, Amounts> {
        let mut found: HashMap<WorkflowId, Amounts> = HashMap::new();
        for (root, name) in [(&self.logs, QuotaName::Logs), (&self.files, QuotaName::Results)] {
            let folders = match fs::read_dir(root) {
                Ok(folders) => folders,
                Err(error) => {
                    tracing::error!("cannot look into {}: {error}", root.display());
                    continue;
                }
            };
            for folder in folders.flatten() {
                let workflow = folder.file_name().to_str().and_then(|name| name.parse().ok());
                if let Some(workflow) = workflow {
                    let bytes = bytes_in(&folder.path(), DEPTH);
                    found.entry(workflow).or_default().set(name, bytes);
                }
            }
        }
        found
    }

    /// Removes all that is here of a workflow that the database has no more, and counts it no more.
    /// What cannot be removed stays counted; the next start of the server tries again.
    pub(crate) async fn forget(self, workflow: WorkflowId) {
        let results = self.clone();
        let removed = tokio::task::spawn_blocking(move || results.remove(workflow)).await;
        match removed {
            Ok(Ok(())) => self.ledger.forget(workflow),
            Ok(Err(error)) => tracing::error!("{}; it is tried again at the next start", causes(&error)),
            Err(error) => tracing::error!("the files of workflow {workflow} are not removed: {error}"),
        }
    }

    /// Removes what is here of workflows that the database does not have.
    pub(crate) fn remove_unknown(&self, workflows: &[WorkflowId]) {
        tracing::warn!("removing logs and files of {} workflows that are no more", workflows.len());
        for workflow in workflows {
            if let Err(error) = self.remove(*workflow) {
                tracing::error!("{}", causes(&error));
            }
        }
    }
}
