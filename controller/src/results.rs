//! What runs leave behind at the server: logs, and files that go to clients. Blocking; called in `spawn_blocking`.
//!
//! ```text
//! state-dir/logs/WORKFLOW/RUN          a log, as long as it is known
//! state-dir/files/WORKFLOW/STAGE       a file for the client; STAGE.part while it comes
//! ```
//! A log may be shorter than it was after a crash of the machine: the node keeps its copy until the server has synced
//! its own, and goes on where the server's ends.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use api::run::{MAX_LOG_BYTES, RunId, WorkflowId};

/// Bytes that a node may add to a log past its limit: the line that says what was dropped.
const LAST_LINE_BYTES: u64 = 4 << 10;

/// Free space that is left alone, bytes: the database lies on the same file system.
const RESERVED_BYTES: u64 = 64 << 20;

/// Why a log or file could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResultError {
    /// The file system.
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is nearly full.
    #[error("the file system of {} is nearly full; make room on the server", path.display())]
    NoSpace { path: PathBuf },
    /// The log is longer than logs are.
    #[error("a log has at most {MAX_LOG_BYTES} bytes")]
    TooLong,
}

/// The folders. Clones name the same.
#[derive(Debug, Clone)]
pub(crate) struct Results {
    logs: PathBuf,
    files: PathBuf,
}

impl Results {
    /// Makes the folders.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, ResultError> {
        let results = Self { logs: state_dir.join("logs"), files: state_dir.join("files") };
        for folder in [&results.logs, &results.files] {
            make_folder(folder)?;
        }
        Ok(results)
    }

    /// Where a log is or would be.
    pub(crate) fn log_path(&self, workflow: WorkflowId, run: RunId) -> PathBuf {
        self.logs.join(workflow.to_string()).join(run.to_string())
    }

    /// Where a file for the client is or would be.
    pub(crate) fn file_path(&self, workflow: WorkflowId, stage: u32) -> PathBuf {
        self.files.join(workflow.to_string()).join(stage.to_string())
    }

    /// Bytes that are here of a log.
    pub(crate) fn log_length(&self, workflow: WorkflowId, run: RunId) -> u64 {
        fs::metadata(self.log_path(workflow, run)).map_or(0, |meta| meta.len())
    }

    /// Takes bytes of a log that begin at `offset`. Returns how long it is now: what was here before is passed over, and
    /// nothing is taken that would leave a gap.
    pub(crate) fn append(
        &self,
        workflow: WorkflowId,
        run: RunId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, ResultError> {
        let path = self.log_path(workflow, run);
        let failed = |operation, source| ResultError::Io { operation, path: path.clone(), source };
        make_folder(&self.logs.join(workflow.to_string()))?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| failed("open", source))?;
        file.lock().map_err(|source| failed("lock", source))?;
        let length = file.metadata().map_err(|source| failed("look at", source))?.len();
        let end = offset.saturating_add(bytes.len() as u64);
        if end > MAX_LOG_BYTES + LAST_LINE_BYTES {
            return Err(ResultError::TooLong);
        }
        if offset > length || end <= length {
            return Ok(length);
        }
        self.require(bytes.len() as u64)?;
        let known = usize::try_from(length - offset).unwrap_or(usize::MAX);
        file.seek(SeekFrom::Start(length)).map_err(|source| failed("seek in", source))?;
        file.write_all(&bytes[known..]).map_err(|source| failed("write", source))?;
        Ok(end)
    }

    /// Puts a whole log on disk.
    pub(crate) fn sync_log(&self, workflow: WorkflowId, run: RunId) -> Result<(), ResultError> {
        let path = self.log_path(workflow, run);
        match File::open(&path).and_then(|file| file.sync_all()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ResultError::Io { operation: "sync", path, source })
            }
            _ => Ok(()),
        }
    }

    /// Puts all logs on disk, with the whole file system that they are on.
    pub(crate) fn sync_logs(&self) -> Result<(), ResultError> {
        let logs = &self.logs;
        let sync = || nix::unistd::syncfs(File::open(logs)?).map_err(io::Error::from);
        sync().map_err(|source| ResultError::Io { operation: "sync", path: logs.clone(), source })
    }

    /// A new file for the client; [`Self::publish`] gives it its name.
    pub(crate) fn begin_file(
        &self,
        workflow: WorkflowId,
        stage: u32,
    ) -> Result<(File, PathBuf), ResultError> {
        make_folder(&self.files.join(workflow.to_string()))?;
        let path = self.file_path(workflow, stage).with_extension("part");
        let made = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
        let file =
            made.map_err(|source| ResultError::Io { operation: "make", path: path.clone(), source })?;
        Ok((file, path))
    }

    /// Puts a whole file on disk under its name.
    pub(crate) fn publish(&self, file: &File, workflow: WorkflowId, stage: u32) -> Result<(), ResultError> {
        let path = self.file_path(workflow, stage);
        let failed = |operation, source| ResultError::Io { operation, path: path.clone(), source };
        file.sync_all().map_err(|source| failed("sync", source))?;
        fs::rename(path.with_extension("part"), &path)
            .map_err(|source| failed("rename into place", source))?;
        let folder = self.files.join(workflow.to_string());
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| failed("sync the folder of", source))
    }

    /// Removes all that is here of a workflow.
    pub(crate) fn remove(&self, workflow: WorkflowId) -> Result<(), ResultError> {
        for folder in [&self.logs, &self.files] {
            let path = folder.join(workflow.to_string());
            match fs::remove_dir_all(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(ResultError::Io { operation: "remove", path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses what would take the space that is left alone.
    pub(crate) fn require(&self, bytes: u64) -> Result<(), ResultError> {
        let free = nix::sys::statvfs::statvfs(&self.logs)
            .map(|stat| stat.blocks_available().saturating_mul(stat.fragment_size()));
        match free {
            Ok(free) if free < bytes.saturating_add(RESERVED_BYTES) => {
                Err(ResultError::NoSpace { path: self.logs.clone() })
            }
            _ => Ok(()),
        }
    }
}

fn make_folder(path: &Path) -> Result<(), ResultError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| ResultError::Io { operation: "make the folder", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_grows_without_gaps_and_without_doubles() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::open(folder.path()).unwrap();
        let (workflow, run) = (WorkflowId(uuid::Uuid::nil()), RunId(uuid::Uuid::nil()));
        let append = |offset, bytes: &[u8]| results.append(workflow, run, offset, bytes).unwrap();
        assert_eq!(append(0, b"one "), 4);
        assert_eq!(append(10, b"gap"), 4);
        assert_eq!(append(0, b"one two "), 8);
        assert_eq!(append(2, b"e t"), 8);
        assert_eq!(append(8, b"three"), 13);
        assert_eq!(fs::read(results.log_path(workflow, run)).unwrap(), b"one two three");
        assert!(matches!(
            results.append(workflow, run, MAX_LOG_BYTES, &[0; 5000]),
            Err(ResultError::TooLong)
        ));
        results.sync_log(workflow, run).unwrap();
        results.sync_logs().unwrap();
        results.remove(workflow).unwrap();
        assert_eq!(results.log_length(workflow, run), 0);
    }

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::open(folder.path()).unwrap();
        let workflow = WorkflowId(uuid::Uuid::nil());
        let (mut file, _) = results.begin_file(workflow, 3).unwrap();
        file.write_all(b"result").unwrap();
        assert!(!results.file_path(workflow, 3).exists());
        results.publish(&file, workflow, 3).unwrap();
        assert_eq!(fs::read(results.file_path(workflow, 3)).unwrap(), b"result");
    }
}
