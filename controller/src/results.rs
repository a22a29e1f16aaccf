//! What runs leave behind at the server: logs, and files that go to clients. Blocking; called in
//! `spawn_blocking`.
//!
//! ```text
//! state-dir/logs/WORKFLOW/RUN          a log, as long as it is known: its head
//! state-dir/logs/WORKFLOW/RUN.tail/    and its tail, where it is long ([`log_files`])
//! state-dir/logs/WORKFLOW/RUN.times    when it was written, where its node tells
//! state-dir/files/WORKFLOW/STAGE       a file for the client
//! state-dir/files/WORKFLOW/STAGE.part-N  and as long as attempt N brings it
//! state-dir/files/WORKFLOW/STAGE.directory  a directory for the client, as the stream of the crate `copy-tree`
//! ```
//! A log may be shorter than it was after a crash of the machine: the node keeps its copy until
//! the server has synced its own, and goes on where the server's ends. Past `jobs.log-mib` what
//! lies between head and tail is dropped here too; a node whose job writes faster than its log
//! travels leaves it out. Times that are lost, in a crash or on a full disk, make answers longer
//! and no log shorter.

mod held;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use access::QuotaExceeded;
use api::{
    ids::Timestamp,
    log::times::TimeMark,
    quota::QuotaName,
    run::{RunId, WorkflowId},
};
use document::plan::StageId;
use log_files::{Extent, Limits, LogLocation, TimesWriter, Writer};

use self::held::FileCharge;
use crate::ledger::QuotaLedger;

/// Where a log may end, bytes from its beginning: what the database can hold. What a node claims
/// beyond takes no room, and no job writes as much.
const LAST_OFFSET: u64 = i64::MAX.cast_unsigned();

/// How what follows the dot begins in the name of a file that is still coming.
const PART: &str = "part";

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
    #[error("a log ends at offset {LAST_OFFSET} at the latest")]
    TooLong,
}

/// The directories. Clones name the same.
#[derive(Debug, Clone)]
pub(crate) struct Results {
    logs: PathBuf,
    files: PathBuf,
    log_limits: Limits,
    ledger: QuotaLedger,
    /// Numbers attempts at files for clients: none writes into what another one has begun.
    attempts: Arc<AtomicU64>,
    /// Held while one of them gets its name.
    publishing: Arc<Mutex<()>>,
}

/// What a transfer brings to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransferKind {
    /// The bytes of a file.
    File,
    /// The stream of a directory.
    Directory,
}

/// What became of a piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Where the log ends now.
    pub(crate) end: u64,
    /// The piece was left out: its owner has no room for more logs.
    pub(crate) left_out: Option<QuotaExceeded>,
}

/// Bytes of a log, as its node sends them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogPiece<'a> {
    /// Where they are in the log.
    pub(crate) offset: u64,
    /// The node has nothing of the log from here up to `offset`.
    pub(crate) after: Option<u64>,
    pub(crate) bytes: &'a [u8],
    /// When it was written, as its node says. What is behind the piece is not believed.
    pub(crate) times: &'a [TimeMark],
}

impl Results {
    /// Makes the directories. `log_bytes`: how much is kept of one log.
    pub(crate) fn open(state_dir: &Path, log_bytes: u64) -> Result<Self, ResultError> {
        let (logs, files) = (state_dir.join("logs"), state_dir.join("files"));
        let (log_limits, ledger) = (Limits::of(log_bytes), QuotaLedger::default());
        let (attempts, publishing) = Default::default();
        let results = Self { logs, files, log_limits, ledger, attempts, publishing };
        for directory in [&results.logs, &results.files] {
            make_directory(directory)?;
        }
        Ok(results)
    }

    /// What their owners have, here and elsewhere.
    pub(crate) fn ledger(&self) -> &QuotaLedger {
        &self.ledger
    }

    /// Where the head of a log is or would be.
    pub(crate) fn log_path(&self, workflow: WorkflowId, run: RunId) -> PathBuf {
        self.logs.join(workflow.to_string()).join(run.to_string())
    }

    /// Where a file or directory for the client is or would be.
    fn file_path(&self, workflow: WorkflowId, stage: StageId, what: TransferKind) -> PathBuf {
        let path = self.files.join(workflow.to_string()).join(stage.to_string());
        match what {
            TransferKind::File => path,
            TransferKind::Directory => path.with_extension("folder"),
        }
    }

    /// What is here for the client: where, what it is, and its size, bytes.
    pub(crate) fn brought(
        &self,
        workflow: WorkflowId,
        stage: StageId,
    ) -> Option<(PathBuf, TransferKind, u64)> {
        [TransferKind::File, TransferKind::Directory].into_iter().find_map(|what| {
            let path = self.file_path(workflow, stage, what);
            let size = fs::metadata(&path).ok()?.len();
            Some((path, what, size))
        })
    }

    /// What is here of a log.
    pub(crate) fn log(&self, workflow: WorkflowId, run: RunId) -> Extent {
        let path = self.log_path(workflow, run);
        log_files::extent(&path).unwrap_or_else(|error| {
            tracing::error!("cannot look at {}: {error}", path.display());
            Extent::default()
        })
    }

    /// Where the last lines of a log begin: [`log_files::last_lines`].
    pub(crate) fn last_lines(
        &self,
        workflow: WorkflowId,
        run: RunId,
        lines: u64,
    ) -> io::Result<u64> {
        log_files::last_lines(&self.log_path(workflow, run), lines)
    }

    /// Where what was written then or later begins in a log: [`log_files::since`].
    pub(crate) fn since(
        &self,
        workflow: WorkflowId,
        run: RunId,
        time: Timestamp,
        is_over: bool,
    ) -> io::Result<Option<u64>> {
        log_files::since(&self.log_path(workflow, run), time, is_over)
    }

    /// Takes bytes of a log. Says where it ends now: what was here before is passed over, and
    /// nothing is taken that would leave a gap, but for what the node does not have. `limit`: bytes
    /// of all logs of the workflow's owner. Past it the log goes on without the piece, with a gap,
    /// and what there is of its tail goes too.
    pub(crate) fn append(
        &self,
        workflow: WorkflowId,
        run: RunId,
        LogPiece { offset, after, bytes, times }: LogPiece<'_>,
        limit: Option<u64>,
    ) -> Result<Appended, ResultError> {
        let path = self.log_path(workflow, run);
        let failed = |operation, source| ResultError::Io { operation, path: path.clone(), source };
        let last = offset.checked_add(bytes.len() as u64).filter(|last| *last <= LAST_OFFSET);
        let last = last.ok_or(ResultError::TooLong)?;
        make_directory(&self.logs.join(workflow.to_string()))?;
        // One after the other: the node may send again what is still on its way.
        let writer =
            LogLocation::of(&path).and_then(|place| Writer::open_shared(place, self.log_limits));
        let mut writer = writer.map_err(|source| failed("open", source))?;
        let end = writer.end();
        let has_all_before = offset <= end || after.is_some_and(|after| after <= end);
        if !has_all_before {
            return Ok(Appended { end, left_out: None });
        }
        let before = held::log_bytes(&path);
        let (mut left_out, mut reserved) = (None, 0);
        let mut written = Ok(());
        if last > end {
            let known = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
            let new = &bytes[known..];
            // That a log ends farther on takes no room.
            let more = if new.is_empty() { 0 } else { new.len() as u64 + held::times_bytes(times) };
            match self.ledger.reserve(workflow, QuotaName::Logs, more, limit) {
                Ok(()) => {
                    reserved = more;
                    written = self.write(&mut writer, &path, offset, new);
                }
                Err(exceeded) => {
                    left_out = Some(exceeded);
                    written = writer
                        .skip_to(last)
                        .map_err(|source| failed("leave out a part of", source));
                }
            }
        }
        if written.is_ok()
            && left_out.is_none()
            && let Err(error) = keep_times(&path, times, last)
        {
            tracing::warn!("cannot keep when {} was written: {error}", path.display());
        }
        self.ledger.settle(workflow, QuotaName::Logs, reserved, before, held::log_bytes(&path));
        written.map(|()| Appended { end: last.max(end), left_out })
    }

    /// Writes what is new of a piece of a log that was at `offset`.
    fn write(
        &self,
        writer: &mut Writer,
        path: &Path,
        offset: u64,
        new: &[u8],
    ) -> Result<(), ResultError> {
        let failed =
            |operation, source| ResultError::Io { operation, path: path.to_owned(), source };
        self.require(new.len() as u64)?;
        writer.skip_to(offset).map_err(|source| failed("leave out a part of", source))?;
        writer.append(new).map_err(|source| failed("write", source))
    }

    /// Puts a whole log on disk.
    pub(crate) fn sync_log(&self, workflow: WorkflowId, run: RunId) -> Result<(), ResultError> {
        let path = self.log_path(workflow, run);
        match LogLocation::of(&path).and_then(|place| place.sync()) {
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

    /// A new file for the client; [`Self::publish`] gives it its name. Every attempt has its own:
    /// the one before may not have noticed yet that its node has begun again.
    pub(crate) fn begin_file(
        &self,
        workflow: WorkflowId,
        stage: StageId,
    ) -> Result<(File, FileCharge), ResultError> {
        make_directory(&self.files.join(workflow.to_string()))?;
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let path = self.file_path(workflow, stage, TransferKind::File);
        let path = path.with_extension(format!("{PART}-{attempt}"));
        let made = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
        match made {
            Ok(file) => Ok((file, FileCharge::new(self.clone(), workflow, stage, path))),
            Err(source) => Err(ResultError::Io { operation: "make", path, source }),
        }
    }

    /// Puts a whole file or directory on disk under its name. Of two attempts the last one stays.
    pub(crate) fn publish(
        &self,
        file: &File,
        mut charge: FileCharge,
        what: TransferKind,
    ) -> Result<(), ResultError> {
        let path = self.file_path(charge.workflow, charge.stage, what);
        file.sync_all().map_err(|source| ResultError::Io { operation: "sync", path, source })?;
        // Whose bytes are replaced is only known where nobody else replaces them.
        let alone = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = charge.published();
        let published = self.rename(&charge, what);
        charge.settle(before);
        drop(alone);
        published
    }

    fn rename(&self, charge: &FileCharge, what: TransferKind) -> Result<(), ResultError> {
        let FileCharge { workflow, stage, part, .. } = charge;
        let path = self.file_path(*workflow, *stage, what);
        let failed = |operation, source| ResultError::Io { operation, path: path.clone(), source };
        // An attempt before may have brought the other. One that is cut off here is made again.
        let other =
            if what == TransferKind::File { TransferKind::Directory } else { TransferKind::File };
        match fs::remove_file(self.file_path(*workflow, *stage, other)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(failed("replace", source));
            }
            _ => {}
        }
        fs::rename(part, &path).map_err(|source| failed("rename into place", source))?;
        let directory = self.files.join(workflow.to_string());
        File::open(&directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| failed("sync the directory of", source))
    }

    /// Removes all that is here of a workflow, as far as it can be removed.
    pub(crate) fn remove(&self, workflow: WorkflowId) -> Result<(), ResultError> {
        let remove = |directory: &PathBuf| {
            let path = directory.join(workflow.to_string());
            match fs::remove_dir_all(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(ResultError::Io { operation: "remove", path, source })
                }
                _ => Ok(()),
            }
        };
        let (logs, files) = (remove(&self.logs), remove(&self.files));
        logs.and(files)
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

/// Keeps when a log was written, as far as it is here. Called by whoever writes the log alone.
fn keep_times(path: &Path, times: &[TimeMark], end: u64) -> io::Result<()> {
    let mut known = times.iter().copied().filter(|mark| mark.offset <= end).peekable();
    if known.peek().is_none() {
        return Ok(());
    }
    TimesWriter::open(LogLocation::of(path)?)?.mark(known)
}

fn make_directory(path: &Path) -> Result<(), ResultError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| ResultError::Io {
        operation: "make the directory",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, io::Write as _};

    use api::log::LogGap;

    use super::*;
    use crate::store::HeldWorkflow;

    fn piece(offset: u64, after: Option<u64>, bytes: &[u8]) -> LogPiece<'_> {
        LogPiece { offset, after, bytes, times: &[] }
    }

    #[test]
    fn a_log_grows_without_gaps_and_without_doubles() {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), 1 << 20).unwrap();
        let (workflow, run) = (WorkflowId(uuid::Uuid::nil()), RunId(uuid::Uuid::nil()));
        let append = |offset, bytes: &[u8]| {
            results.append(workflow, run, piece(offset, None, bytes), None).unwrap().end
        };
        assert_eq!(append(0, b"one "), 4);
        assert_eq!(append(10, b"gap"), 4);
        assert_eq!(append(0, b"one two "), 8);
        assert_eq!(append(2, b"e t"), 8);
        assert_eq!(append(8, b"three"), 13);
        assert_eq!(fs::read(results.log_path(workflow, run)).unwrap(), b"one two three");
        for offset in [LAST_OFFSET, u64::MAX] {
            let appended = results.append(workflow, run, piece(offset, Some(0), b"x"), None);
            assert!(matches!(appended, Err(ResultError::TooLong)));
        }
        results.sync_log(workflow, run).unwrap();
        results.sync_logs().unwrap();
        results.remove(workflow).unwrap();
        assert_eq!(results.log(workflow, run).end(), 0);
    }

    #[test]
    fn a_gap_is_taken_where_all_before_it_is_here() {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), 1 << 20).unwrap();
        let (workflow, run) = (WorkflowId(uuid::Uuid::nil()), RunId(uuid::Uuid::nil()));
        let append = |offset, after, bytes: &[u8]| {
            results.append(workflow, run, piece(offset, Some(after), bytes), None).unwrap().end
        };
        let log = || results.log(workflow, run);
        assert_eq!(append(0, 0, b"head"), 4);
        assert_eq!(append(1000, 5, b"tail"), 4, "the byte before the gap is not here");
        assert_eq!(log().gap(), None);
        // A node that cannot write any more tells where its log ends.
        assert_eq!(append(1000, 4, b""), 1000);
        assert_eq!(append(1000, 4, b"tail"), 1004);
        assert_eq!(append(1000, 4, b"tail"), 1004, "sent again");
        assert_eq!(append(0, 0, b"head"), 1004, "an agent that begins again");
        assert_eq!(log().gap().map(|gap| (gap.from, gap.to)), Some((4, 1000)));
        // Another one in the tail: there is one gap.
        assert_eq!(append(1 << 62, 1004, b"last"), (1 << 62) + 4);
        assert_eq!(log().gap().map(|gap| (gap.from, gap.to)), Some((4, 1 << 62)));
        assert_eq!(log().bytes_from(0), 8);
        results.sync_log(workflow, run).unwrap();
        results.remove(workflow).unwrap();
        assert_eq!(log(), Extent::default());
    }

    #[test]
    fn a_log_that_comes_whole_is_bounded_here_too() {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), 1 << 20).unwrap();
        let (workflow, run) = (WorkflowId(uuid::Uuid::nil()), RunId(uuid::Uuid::nil()));
        let bytes = vec![b'x'; 1 << 18];
        for number in 0..16_u64 {
            let end =
                results.append(workflow, run, piece(number << 18, None, &bytes), None).unwrap().end;
            assert_eq!(end, (number + 1) << 18);
        }
        let log = results.log(workflow, run);
        assert_eq!((log.end(), log.gap().unwrap().from), (4 << 20, 1 << 19));
        let kept = log.bytes_from(0);
        assert!((15 << 16..=1 << 20).contains(&kept), "{kept}");
    }

    #[test]
    fn it_is_known_when_a_log_was_written_as_far_as_it_is_here() {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), 1 << 20).unwrap();
        let (workflow, run) = (WorkflowId(uuid::Uuid::nil()), RunId(uuid::Uuid::nil()));
        let mark = |offset, seconds| TimeMark { offset, time: Timestamp(0).plus_seconds(seconds) };
        let append = |offset, bytes: &[u8], times: &[TimeMark]| {
            results
                .append(workflow, run, LogPiece { times, ..piece(offset, None, bytes) }, None)
                .unwrap()
                .end
        };
        let since = |seconds| {
            results.since(workflow, run, Timestamp(0).plus_seconds(seconds), true).unwrap()
        };
        append(0, b"one\n", &[]);
        assert_eq!(since(0), None, "an agent of before tells no times");
        append(4, b"two\n", &[mark(4, 10), mark(8, 20), mark(9_000, 25)]);
        assert_eq!([0, 10, 20, 30].map(since), [Some(0), Some(4), Some(8), Some(8)]);
        // Not all before it is here, and what was is sent again with its times.
        append(90, b"later\n", &[mark(96, 40)]);
        append(0, b"one\ntwo\n", &[mark(4, 10), mark(8, 20)]);
        assert_eq!(
            log_files::time_marks(&results.log_path(workflow, run)).unwrap(),
            [mark(4, 10), mark(8, 20)]
        );
        append(8, b"three\n", &[mark(14, 30)]);
        assert_eq!(since(29), Some(8));
        results.sync_log(workflow, run).unwrap();
        results.remove(workflow).unwrap();
        assert_eq!(since(29), Some(0), "of a log that is not here nothing is left out");
    }

    /// The results of a user's one workflow.
    fn charged(directory: &Path, workflow: WorkflowId) -> Results {
        let results = Results::open(directory, 1 << 20).unwrap();
        results.remove_parts();
        let held = HeldWorkflow {
            id: workflow,
            owner: Some("ann".to_owned()),
            documents: 0,
            is_over: true,
        };
        results.ledger().recall(vec![held], &HashMap::new(), &results.measure(), &[]);
        results
    }

    #[test]
    fn a_log_past_the_quota_goes_on_with_a_gap_and_is_counted_the_same_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (workflow, run) = (WorkflowId(uuid::Uuid::nil()), RunId(uuid::Uuid::nil()));
        let results = charged(directory.path(), workflow);
        let append = |offset, bytes: &[u8], limit| {
            let appended =
                results.append(workflow, run, piece(offset, None, bytes), Some(limit)).unwrap();
            (appended.end, appended.left_out.map(|exceeded| (exceeded.used, exceeded.more)))
        };
        let used = |results: &Results| results.ledger().used("ann").get(QuotaName::Logs);
        assert_eq!(append(0, b"head", 10), (4, None));
        assert_eq!(append(2, b"ad of", 10), (7, None), "what is here already counts once");
        assert_eq!(used(&results), 7);
        assert_eq!(append(7, b" it all", 10), (14, Some((7, 7))));
        assert_eq!(append(7, b" it all", 10), (14, None), "sent again");
        assert_eq!(
            (used(&results), results.log(workflow, run).gap()),
            (7, Some(LogGap { from: 7, to: 14 }))
        );
        assert_eq!(append(14, b"end", 10), (17, None), "so much has room");
        assert_eq!((used(&results), results.log(workflow, run).bytes_from(0)), (10, 10));
        assert_eq!(append(17, b"!", 10), (18, Some((10, 1))), "nothing fails");
        // The tail gave way.
        assert_eq!((used(&results), results.log(workflow, run).end()), (7, 18));
        assert_eq!(append(18, b"done", 20), (22, None), "with room it goes on");
        assert_eq!(used(&results), 11);
        assert_eq!(used(&charged(directory.path(), workflow)), 11);
    }

    #[tokio::test]
    async fn a_file_is_counted_while_it_comes_and_freed_with_its_workflow() {
        let directory = tempfile::tempdir().unwrap();
        let workflow = WorkflowId(uuid::Uuid::nil());
        let results = charged(directory.path(), workflow);
        let used = || results.ledger().used("ann").get(QuotaName::Results);
        let bring = |bytes: &[u8], what| {
            let (mut file, mut charge) = results.begin_file(workflow, StageId(3)).unwrap();
            charge.reserve(bytes.len() as u64, Some(10))?;
            file.write_all(bytes).unwrap();
            results.publish(&file, charge, what).unwrap();
            Ok::<_, QuotaExceeded>(())
        };
        bring(b"result", TransferKind::File).unwrap();
        assert_eq!(used(), 6);
        let exceeded = bring(b"whole", TransferKind::Directory).unwrap_err();
        assert_eq!((exceeded.used, exceeded.more, used()), (6, 5, 6));
        // A later attempt takes the place of the first.
        bring(b"flat", TransferKind::Directory).unwrap();
        assert_eq!(used(), 4);
        assert_eq!(
            charged(directory.path(), workflow).ledger().used("ann").get(QuotaName::Results),
            4
        );
        assert!(results.clone().forget(workflow).await);
        assert_eq!((used(), results.brought(workflow, StageId(3))), (0, None));
    }

    #[test]
    fn of_two_attempts_at_a_file_each_is_counted_for_itself() {
        let directory = tempfile::tempdir().unwrap();
        let workflow = WorkflowId(uuid::Uuid::nil());
        let results = charged(directory.path(), workflow);
        let used = || results.ledger().used("ann").get(QuotaName::Results);
        let begin = |bytes: &[u8]| {
            let (mut file, mut charge) = results.begin_file(workflow, StageId(3)).unwrap();
            charge.reserve(bytes.len() as u64, Some(100)).unwrap();
            file.write_all(bytes).unwrap();
            (file, charge)
        };
        let files = directory.path().join("files").join(workflow.to_string());
        let parts = || fs::read_dir(&files).unwrap().count();
        for is_first_dropped_first in [true, false] {
            let ((_, first), (_, second)) = (begin(b"four"), begin(b"seven b"));
            assert_eq!((used(), parts()), (11, 2));
            let (one, other, left) =
                if is_first_dropped_first { (first, second, 7) } else { (second, first, 4) };
            drop(one);
            assert_eq!((used(), parts()), (left, 1));
            drop(other);
            assert_eq!((used(), parts()), (0, 0));
        }
        let ((stale, first), (file, second)) = (begin(b"half"), begin(b"the whole"));
        results.publish(&file, second, TransferKind::File).unwrap();
        assert_eq!((used(), parts()), (13, 2));
        let (path, ..) = results.brought(workflow, StageId(3)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"the whole");
        // Whoever is whole later takes its place, and nothing of the other is in it.
        results.publish(&stale, first, TransferKind::File).unwrap();
        assert_eq!((used(), parts(), fs::read(&path).unwrap()), (4, 1, b"half".to_vec()));
        let (mut file, mut charge) = begin(b"more");
        file.write_all(b" than it may").unwrap();
        charge.reserve(97, Some(100)).unwrap_err();
        drop(charge);
        assert_eq!((used(), parts()), (4, 1), "what was published stays");
    }

    #[test]
    fn what_a_killed_server_left_of_files_is_removed_and_not_counted() {
        let directory = tempfile::tempdir().unwrap();
        let workflow = WorkflowId(uuid::Uuid::nil());
        let files = directory.path().join("files").join(workflow.to_string());
        fs::create_dir_all(&files).unwrap();
        for name in ["3", "4.folder", "3.part", "4.part-0"] {
            fs::write(files.join(name), b"bytes").unwrap();
        }
        let results = charged(directory.path(), workflow);
        assert_eq!(results.ledger().used("ann").get(QuotaName::Results), 10);
        assert!(
            results.brought(workflow, StageId(3)).is_some()
                && results.brought(workflow, StageId(4)).is_some()
        );
        assert_eq!(fs::read_dir(&files).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn what_cannot_be_removed_stays_counted_and_takes_nothing_else_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let workflow = WorkflowId(uuid::Uuid::nil());
        let results = charged(directory.path(), workflow);
        let run = RunId(uuid::Uuid::nil());
        results.append(workflow, run, piece(0, None, b"log"), Some(10)).unwrap();
        let (file, charge) = results.begin_file(workflow, StageId(3)).unwrap();
        results.publish(&file, charge, TransferKind::File).unwrap();
        // No directory: even root cannot look into it.
        let logs = directory.path().join("logs");
        fs::rename(&logs, directory.path().join("elsewhere")).unwrap();
        fs::write(&logs, b"").unwrap();
        assert_eq!(results.ledger().start_forgetting(&[workflow]), [workflow]);
        assert!(results.ledger().start_forgetting(&[workflow]).is_empty(), "once is enough");
        assert!(!results.clone().forget(workflow).await);
        assert_eq!(results.brought(workflow, StageId(3)), None);
        assert_eq!(results.ledger().used("ann").get(QuotaName::Logs), 3);
    }

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), 1 << 20).unwrap();
        let workflow = WorkflowId(uuid::Uuid::nil());
        let (mut file, charge) = results.begin_file(workflow, StageId(3)).unwrap();
        file.write_all(b"result").unwrap();
        assert_eq!(results.brought(workflow, StageId(3)), None);
        results.publish(&file, charge, TransferKind::File).unwrap();
        let path = results.file_path(workflow, StageId(3), TransferKind::File);
        assert_eq!(fs::read(&path).unwrap(), b"result");
        assert_eq!(
            results.brought(workflow, StageId(3)),
            Some((path.clone(), TransferKind::File, 6))
        );
        // Another attempt finds a directory there.
        let (mut file, charge) = results.begin_file(workflow, StageId(3)).unwrap();
        file.write_all(b"a stream").unwrap();
        results.publish(&file, charge, TransferKind::Directory).unwrap();
        assert!(!path.exists());
        let (_, what, size) = results.brought(workflow, StageId(3)).unwrap();
        assert_eq!((what, size), (TransferKind::Directory, 8));
    }
}
