//! The log beside the heads that were kept of it. At the start, before the first head is appended,
//! the newest head at the end of the file is held against its row. A log that does not fit it was
//! cut off or written again: that is an alarm, and no head is appended behind those that prove it,
//! until the file is another one or its head fits.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{MutexGuard, PoisonError},
    thread,
};

use api::{access::AuditHead, ids::Timestamp};
use tokio::{sync::oneshot, time::timeout};

use super::{AuditHeads, HEAD_SECONDS, verify_head};
use crate::{
    Access, AccessError,
    audit::{AuditLine, Request, verify_cut},
    clock,
};

/// How much of the end of the file is read, bytes: some 160 heads.
const MAX_END_BYTES: u64 = 64 << 10;

/// The action of the row that says that another key was made.
const NEW_KEY: &str = "audit-key";

/// What wants attention of the audit log, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditAlarms {
    /// The log does not fit the file of heads, its chain is broken, or a cut of it is not signed.
    pub broken: Option<String>,
    /// The key was lost, and made again at this start.
    pub new_key: Option<String>,
    /// The log comes near the size at which its oldest lines go.
    pub filling: Option<String>,
}

/// What is known of the file.
#[derive(Debug, Default)]
pub(super) struct HeadFile {
    found: Found,
    /// When it was read last.
    looked: Option<Timestamp>,
    /// See [`AuditAlarms::new_key`].
    new_key: Option<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Found {
    /// Nobody has looked.
    #[default]
    Nothing,
    /// It could not be read, or not be held against the log.
    Unread,
    /// There is no head that the log does not fit.
    Fits,
    /// Why the log does not fit it.
    Broken(String),
}

impl AuditHeads {
    /// Why the log does not fit the file, if it does not.
    pub(in crate::audit) fn broken(&self) -> Option<String> {
        match &self.saved_heads().found {
            Found::Broken(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Heads may be appended to the file.
    pub(super) fn may_append(&self) -> bool {
        matches!(self.saved_heads().found, Found::Nothing | Found::Fits)
    }

    /// The newest head in the file, if it is time to hold it against the log: see
    /// [`Self::compare`].
    async fn newest_saved(&self, now: Timestamp, stops: bool) -> Option<AuditHead> {
        let path = self.0.file.clone()?;
        if !self.start_check(now, stops) {
            return None;
        }
        let shown = path.display().to_string();
        let patience = self.0.patience;
        match timeout(patience, self.read(path)).await {
            Ok(Ok(Some(head))) => return Some(head),
            Ok(Ok(None)) => self.set_fits(),
            Ok(Err(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
                ) =>
            {
                tracing::warn!(
                    "the audit log is not held against {shown}, which cannot be read: {error}"
                );
                self.set_fits();
            }
            Ok(Err(error)) => {
                tracing::error!("the heads of the audit log in {shown} cannot be read: {error}");
            }
            Err(_) => tracing::error!(
                "the heads of the audit log in {shown} were not read within {patience:?}: does its disk answer?"
            ),
        }
        None
    }

    /// The newest head in the file, of this server's key if it has one; `None` without a file.
    pub(in crate::audit) async fn newest_of_file(&self) -> io::Result<Option<AuditHead>> {
        match self.0.file.clone() {
            Some(path) => self.read(path).await,
            None => Ok(None),
        }
    }

    /// Holds the log against a head of the file. `line`: the row of its number; `last`: the number
    /// of the last row.
    fn compare(&self, head: &AuditHead, line: Option<&AuditLine>, last: u64) {
        let number = head.number;
        let what = match line {
            Some(line) if head.hash.eq_ignore_ascii_case(&hex::encode(line.hash)) => {
                return self.set_fits();
            }
            Some(_) => format!("was written again: line {number} is not the one whose head"),
            None if last < number => {
                format!("was cut off: it ends with line {last}, and a head of line {number}")
            }
            None => format!("has no line {number} any more, whose head"),
        };
        let file = self.0.file.as_deref().unwrap_or(Path::new("")).display();
        let why = format!(
            "the audit log {what} is in {file}: find out who changed the database. If it was restored from an older \
             backup, move the file away. Until then heads are in the server's log alone"
        );
        if self.broken().is_none() {
            tracing::warn!("{why}");
        }
        self.saved_heads().found = Found::Broken(why);
    }

    /// It is time to look at the file: at the latest when the server stops. From now on it is
    /// unread, but for one that was found broken.
    fn start_check(&self, now: Timestamp, stops: bool) -> bool {
        let mut kept = self.saved_heads();
        let waits = |at: Timestamp| (at..at.plus_seconds(HEAD_SECONDS)).contains(&now);
        if kept.found == Found::Fits || !stops && kept.looked.is_some_and(waits) {
            return false;
        }
        kept.looked = Some(now);
        if kept.found == Found::Nothing {
            kept.found = Found::Unread;
        }
        true
    }

    fn set_fits(&self) {
        let before = std::mem::replace(&mut self.saved_heads().found, Found::Fits);
        if matches!(before, Found::Broken(_)) {
            tracing::info!("the audit log fits its file of heads again");
            // The newest row has no head in the file.
            *self.last() = None;
        }
    }

    fn saved_heads(&self) -> MutexGuard<'_, HeadFile> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the end of the file, in a thread of its own: see [`AuditHeads::append`].
    async fn read(&self, path: PathBuf) -> io::Result<Option<AuditHead>> {
        let turn = self.0.appending.clone().lock_owned().await;
        let (sender, read) = oneshot::channel();
        let key = self.key();
        // Heads of another key are of this log where its key was lost; else the file has them of
        // another server.
        let takes_other = self.saved_heads().new_key.is_some();
        thread::Builder::new().name("audit-head".to_owned()).spawn(move || {
            let read = end_of(&path).map(|text| newest_head(&text, &key));
            let read = read
                .map(|head| head.filter(|head| takes_other || head.key.eq_ignore_ascii_case(&key)));
            drop(turn);
            // Who waited may have gone.
            let _ = sender.send(read);
        })?;
        read.await.map_err(io::Error::other)?
    }
}

impl Access {
    /// Call it before anything is changed. Of a key that was replaced, though the log has rows of a
    /// server that had one, the log gets a row.
    pub async fn note_new_audit_key(&self) {
        if let Err(error) = self.try_note_new_key().await {
            tracing::error!("the audit log cannot be written: {}", rest::causes(&error));
        }
    }

    async fn try_note_new_key(&self) -> Result<(), AccessError> {
        let Some(heads) = self.audit_heads.as_ref().filter(|heads| heads.0.is_new_key) else {
            return Ok(());
        };
        let last = self.chain_pending().await?;
        // Releases that wrote form 1 had no key.
        if last.is_none_or(|line| line.form < 2) {
            return Ok(());
        }
        let key = heads.key();
        let why = format!(
            "the key of the audit log was lost, and another one was made ({key}): heads of before are signed with \
             the old one. If a backup has `audit.key`, restore it with the server stopped"
        );
        tracing::warn!("{why}");
        heads.saved_heads().new_key = Some(why);
        let request = Request {
            principal: "server",
            action: NEW_KEY,
            subject: "audit.key",
            ..Request::default()
        };
        self.record_of_object(request, &key, "made again").await
    }

    /// What wants attention of the audit log.
    #[must_use]
    pub fn audit_alarms(&self) -> AuditAlarms {
        let Some(heads) = &self.audit_heads else { return AuditAlarms::default() };
        let (broken, filling) = {
            let keeping = self.keeping();
            ([keeping.broken.clone(), keeping.cuts.forged()], keeping.filling.clone())
        };
        let broken: Vec<String> =
            heads.broken().into_iter().chain(broken.into_iter().flatten()).collect();
        let broken = (!broken.is_empty()).then(|| broken.join("; "));
        AuditAlarms { broken, new_key: heads.saved_heads().new_key.clone(), filling }
    }

    /// Holds the log against the newest head of the file, if that is due. `last`: the number
    /// of the last row.
    pub(in crate::audit) async fn verify_against_saved(
        &self,
        heads: &AuditHeads,
        last: u64,
        stops: bool,
    ) -> Result<(), AccessError> {
        if let Some(head) = heads.newest_saved(clock::now(), stops).await {
            // No cut mends a log that was found broken.
            if heads.broken().is_none() && self.is_of_what_was_cut(&head) {
                heads.set_fits();
                return Ok(());
            }
            let lines = self.inner.store.audit_after(head.number.saturating_sub(1), 1).await?;
            let line = lines.iter().find(|line| line.number == head.number);
            heads.compare(&head, line, last);
        }
        Ok(())
    }

    /// The row of an old head may have been cut; the cut says what the last of them was. Only one
    /// counts that this server signed, or who signed the head: its key may have been lost since.
    fn is_of_what_was_cut(&self, head: &AuditHead) -> bool {
        let by_head = || self.audit_cut().filter(|cut| verify_cut(cut, &head.key).is_ok());
        self.cut_that_counts().or_else(by_head).is_some_and(|cut| {
            let is_its_last =
                head.number == cut.number && head.hash.eq_ignore_ascii_case(&cut.hash);
            head.number < cut.number || is_its_last
        })
    }
}

/// The end of a file; empty if there is none in the directory. Of a pipe nothing is read, and to
/// open one may wait for ever.
fn end_of(path: &Path) -> io::Result<String> {
    if fs::metadata(path).is_ok_and(|facts| !facts.is_file()) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it is no regular file"));
    }
    let mut file = match File::open(path) {
        // Without its directory it is on a share that is not there yet.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && path.parent().is_some_and(Path::is_dir) =>
        {
            return Ok(String::new());
        }
        opened => opened?,
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_END_BYTES)))?;
    let mut end = Vec::new();
    file.take(MAX_END_BYTES).read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

/// The head with the largest number that this key signed; where there is none, that any key signed.
fn newest_head(text: &str, key: &str) -> Option<AuditHead> {
    let heads = text.lines().filter_map(|line| serde_json::from_str::<AuditHead>(line).ok());
    let good = heads.filter(|head| head.number > 0 && verify_head(head, &head.key).is_ok());
    good.max_by_key(|head| (head.key.eq_ignore_ascii_case(key), head.number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Action, Details, next};

    fn line(outcome: &str) -> AuditLine {
        let text = str::to_owned;
        let (principal, action) = (text("ann"), text("POST"));
        let (subject, outcome) = (text("/v1/nodes"), text(outcome));
        next(
            None,
            Action { principal, action, subject, outcome, details: Details::default() },
            Timestamp(0),
        )
    }

    #[test]
    fn the_newest_head_of_the_own_key_counts() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let own = AuditHeads::open(own.path(), None).unwrap();
        let other = AuditHeads::open(other.path(), None).unwrap();
        let head = |heads: &AuditHeads, number| heads.sign(number, Timestamp(9), [5; 32]);
        let forged = AuditHead { number: 400, ..head(&own, 4) };
        let text: Vec<String> = [head(&own, 199), head(&own, 150), head(&other, 300), forged]
            .iter()
            .map(|head| serde_json::to_string(head).unwrap())
            .collect();
        let text = format!("00ff\"}}\n{}\n", text.join("\n"));
        assert_eq!(newest_head(&text, &own.key()).unwrap().number, 199);
        assert_eq!(newest_head(&text, &"0".repeat(64)).unwrap().number, 300);
        assert_eq!(newest_head("", &own.key()), None);
    }

    #[test]
    fn of_a_large_file_the_end_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("heads");
        assert_eq!(end_of(&path).unwrap(), "");
        assert!(end_of(&directory.path().join("share/heads")).is_err(), "the share is not there");
        std::fs::write(&path, "x".repeat(100_000) + "end").unwrap();
        let end = end_of(&path).unwrap();
        assert_eq!((end.len() as u64, end.ends_with("xend")), (MAX_END_BYTES, true));
    }

    #[tokio::test]
    async fn no_head_goes_behind_one_that_the_log_does_not_fit() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("heads");
        let open = || AuditHeads::open(directory.path(), Some(file.clone())).unwrap();
        let (row, second) = (line("201"), |second: i64| Timestamp(0).plus_seconds(second));
        open().write(&row, second(0), true).await;
        let kept = std::fs::read_to_string(&file).unwrap();

        let heads = open();
        let head = heads.newest_saved(second(0), false).await.unwrap();
        assert!(!heads.may_append(), "nobody knows yet");
        heads.compare(&head, Some(&line("409")), 1);
        assert!(heads.broken().unwrap().contains("was written again: line 1 is not"));
        heads.compare(&head, None, 0);
        assert!(heads.broken().unwrap().contains("was cut off: it ends with line 0"));
        heads.write(&line("409"), second(1), true).await;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), kept);
        assert_eq!(heads.newest_saved(second(59), false).await, None, "once a minute");

        std::fs::remove_file(&file).unwrap();
        assert_eq!(heads.newest_saved(second(60), false).await, None);
        assert_eq!(heads.broken(), None, "the file was moved away");
        heads.write(&line("409"), second(61), false).await;
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);

        let heads = open();
        let head = heads.newest_saved(second(0), false).await.unwrap();
        heads.compare(&head, Some(&line("409")), 1);
        assert!(heads.may_append() && heads.broken().is_none());
    }
}
