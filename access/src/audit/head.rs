//! Signed heads of the audit log. A head is the number and the hash of a row, signed by the
//! server: whoever keeps one outside of the server can tell later whether the log still begins
//! with the same rows.
//!
//! The key (Ed25519, RFC 8032) is made at the first start: `audit.key` in the state directory,
//! PKCS #8, for its owner alone. What is signed: `bedplate audit head 1\n` ‖ number ‖ at ‖ hash,
//! numbers as 8 bytes, big endian.
//!
//! Whoever can read the key can sign another log: heads prove nothing about what happens after
//! that, and everything about the rows up to a head that was kept elsewhere by then.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use api::{access::AuditHead, ids::Timestamp};
use ring::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};

use tokio::{sync::oneshot, time::timeout};

use super::{AuditLine, ChainHash};

mod kept;

pub use kept::AuditAlarms;
use kept::HeadFile;

/// The key, in the state directory.
const KEY: &str = "audit.key";

/// The key while it is being written.
const PENDING_KEY: &str = "audit.key.new";

/// What every signed text begins with.
const CONTEXT: &[u8] = b"bedplate audit head 1\n";

/// At most one head in so many seconds is written to the file and the log.
const HEAD_SECONDS: i64 = 60;

/// How long the chain and a server that stops wait for the file, which may be on a share that
/// answers no more.
const APPEND_PATIENCE: Duration = Duration::from_secs(5);

/// Why heads cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file of the key.
    #[error("cannot use the key of the audit log, {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// It holds no key.
    #[error(
        "{} holds no key of the audit log ({why}): restore it from a backup, or move it away to get a new one, with \
         which heads of before do not fit",
        path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// No key can be made.
    #[error("no key of the audit log can be made: the operating system gave no random bytes")]
    Randomness,
}

/// Why a head is not one of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is not what was written.
    #[error(
        "the head of line {number} has no good signature: it was changed, or is no head of this server"
    )]
    Signature {
        /// The row.
        number: u64,
    },
    /// Somebody else signed it.
    #[error("the head of line {number} was signed with the key {found}, and not with {expected}")]
    OtherKey {
        /// The row.
        number: u64,
        /// The key that signed it.
        found: String,
        /// The key that was to.
        expected: String,
    },
}

/// Signs heads and keeps them. Clones are one.
#[derive(Debug, Clone)]
pub struct AuditHeads(Arc<Inner>);

struct Inner {
    key: Ed25519KeyPair,
    file: Option<PathBuf>,
    /// The head that was written last, or was to be.
    last: Mutex<Option<LastHead>>,
    /// What the file was found to hold.
    kept: Mutex<HeadFile>,
    /// The key was made when these were opened: there was none.
    is_new_key: bool,
    /// Held by the thread that reads the file or appends to it.
    appending: Arc<tokio::sync::Mutex<()>>,
    /// [`APPEND_PATIENCE`], but for tests.
    patience: Duration,
}

/// See [`Inner::last`].
#[derive(Debug, Clone, Copy)]
struct LastHead {
    /// Its row.
    number: u64,
    /// When it was tried.
    at: Timestamp,
    /// It is where heads are kept.
    is_kept: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is a secret.
        formatter.debug_struct("AuditHeads").field("file", &self.file).finish_non_exhaustive()
    }
}

impl AuditHeads {
    /// Reads the key in the state directory, or makes it. `file`: where heads are appended, one
    /// JSON object a line; without one they are in the server's log alone.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn open(state_dir: &Path, file: Option<PathBuf>) -> Result<Self, KeyError> {
        let path = state_dir.join(KEY);
        let failed = |source| KeyError::File { path: path.clone(), source };
        let (document, is_new_key) = match fs::read(&path) {
            Ok(document) => (document, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
                let made = made.map_err(|_| KeyError::Randomness)?;
                put(state_dir, made.as_ref()).map_err(failed)?;
                tracing::info!("the key of the audit log was made: {}", path.display());
                (made.as_ref().to_vec(), true)
            }
            Err(error) => return Err(failed(error)),
        };
        let key = key_pair(path, &document)?;
        let (last, kept) = (Mutex::default(), Mutex::default());
        let (appending, patience) = (Arc::default(), APPEND_PATIENCE);
        Ok(Self(Arc::new(Inner { key, file, last, kept, is_new_key, appending, patience })))
    }

    /// The public key, 64 hexadecimal digits.
    #[must_use]
    pub fn key(&self) -> String {
        hex::encode(self.0.key.public_key())
    }

    /// The head of a log whose last row has this number, time and hash.
    pub(crate) fn sign(&self, number: u64, at: Timestamp, hash: ChainHash) -> AuditHead {
        let signature = self.sign_text(&signed_text(number, at, &hash));
        AuditHead { number, at, hash: hex::encode(hash), key: self.key(), signature }
    }

    /// Signs a text, which must begin with a context of its own. 128 hexadecimal digits.
    pub(super) fn sign_text(&self, text: &[u8]) -> String {
        hex::encode(self.0.key.sign(text))
    }

    /// Writes the head of a log that ends with this row, if it is a new one; at most one a minute,
    /// unless the server stops. What the file did not take is tried again a minute later, with the
    /// newest row of then.
    pub(crate) async fn write(&self, last: &AuditLine, now: Timestamp, stops: bool) {
        if !self.is_due(last.number, now, stops) {
            return;
        }
        let head = self.sign(last.number, last.at, last.hash);
        // Names and numbers always become JSON.
        let line = serde_json::to_string(&head).unwrap_or_default();
        tracing::info!("audit head {line}");
        let Some(path) = self.0.file.clone().filter(|_| self.may_append()) else { return };
        let shown = path.display().to_string();
        let patience = self.0.patience;
        match timeout(patience, self.append(path, line, head.number)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!("the head of the audit log cannot be written to {shown}: {error}");
            }
            Err(_) => tracing::error!(
                "the head of the audit log was not written to {shown} within {patience:?}: does \
                 its disk answer?"
            ),
        }
    }

    /// Appends to the file, after the append before.
    async fn append(&self, path: PathBuf, line: String, number: u64) -> io::Result<()> {
        let turn = self.0.appending.clone().lock_owned().await;
        // The append before, for which nobody waited any more, may have been of this row.
        if self.last().is_some_and(|last| last.number == number && last.is_kept) {
            return Ok(());
        }
        let (sender, appended) = oneshot::channel();
        let heads = self.clone();
        // Of its own, none of the runtime's: those a server waits for when it stops.
        thread::Builder::new().name("audit-head".to_owned()).spawn(move || {
            let appended = append(&path, &line);
            if appended.is_ok() {
                heads.kept(number);
            }
            drop(turn);
            // Who waited may have gone.
            let _ = sender.send(appended);
        })?;
        appended.await.map_err(io::Error::other)?
    }

    /// The head of this row is in the file.
    fn kept(&self, number: u64) {
        if let Some(last) = self.last().as_mut().filter(|last| last.number == number) {
            last.is_kept = true;
        }
    }

    fn is_due(&self, number: u64, now: Timestamp, stops: bool) -> bool {
        let mut last = self.last();
        let waits = |last: &LastHead| (last.at..last.at.plus_seconds(HEAD_SECONDS)).contains(&now);
        let is_due = match last.as_ref() {
            None => true,
            Some(last) if last.number == number && last.is_kept => false,
            Some(last) => stops || !waits(last),
        };
        if is_due {
            // The file of a broken log takes none: the server's log is where heads are kept.
            let is_kept = self.0.file.is_none() || self.broken().is_some();
            *last = Some(LastHead { number, at: now, is_kept });
        }
        is_due
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<LastHead>> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The public key in a state directory, 64 hexadecimal digits; `None` if none was made
/// yet. It makes none.
///
/// # Errors
/// [`KeyError`] if it cannot be read.
pub fn audit_key(state_dir: &Path) -> Result<Option<String>, KeyError> {
    let path = state_dir.join(KEY);
    match fs::read(&path) {
        Ok(document) => Ok(Some(hex::encode(key_pair(path, &document)?.public_key()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyError::File { path, source }),
    }
}

fn key_pair(path: PathBuf, document: &[u8]) -> Result<Ed25519KeyPair, KeyError> {
    let read = Ed25519KeyPair::from_pkcs8(document);
    read.map_err(|error| KeyError::NoKey { path, why: error.to_string() })
}

/// Checks the signature of a head. `key`: the public key that must have signed it, 64
/// hexadecimal digits.
///
/// # Errors
/// [`HeadError`].
pub fn verify_head(head: &AuditHead, key: &str) -> Result<(), HeadError> {
    let (number, mut hash) = (head.number, [0; 32]);
    let is_hash = hex::decode_to_slice(&head.hash, &mut hash).is_ok();
    check_signature(
        number,
        (&head.key, key),
        &signed_text(number, head.at, &hash),
        &head.signature,
    )?;
    if is_hash { Ok(()) } else { Err(HeadError::Signature { number }) }
}

/// Checks the signature of a text about this row. `keys`: the one that is said to have signed it,
/// and the one that must have.
pub(super) fn check_signature(
    number: u64,
    (found, expected): (&str, &str),
    text: &[u8],
    signature: &str,
) -> Result<(), HeadError> {
    if !found.eq_ignore_ascii_case(expected) {
        let (found, expected) = (found.to_owned(), expected.to_owned());
        return Err(HeadError::OtherKey { number, found, expected });
    }
    let bad = || HeadError::Signature { number };
    let (key, signature) = (hex::decode(expected), hex::decode(signature));
    let (key, signature) = (key.map_err(|_| bad())?, signature.map_err(|_| bad())?);
    UnparsedPublicKey::new(&ED25519, key).verify(text, &signature).map_err(|_| bad())
}

fn signed_text(number: u64, at: Timestamp, hash: &ChainHash) -> Vec<u8> {
    let mut text = CONTEXT.to_vec();
    text.extend(number.to_be_bytes());
    text.extend(at.0.to_be_bytes());
    text.extend(hash);
    text
}

/// Writes the key so that a server that is killed on the way leaves no half of one.
fn put(state_dir: &Path, document: &[u8]) -> io::Result<()> {
    let (path, pending) = (state_dir.join(KEY), state_dir.join(PENDING_KEY));
    match fs::remove_file(&pending) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&pending)?;
    file.write_all(document)?;
    file.sync_all()?;
    fs::rename(&pending, &path)?;
    File::open(state_dir)?.sync_all()
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = File::options().append(true).create(true).mode(0o600).open(path)?;
    // One call: a reader finds whole lines.
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::audit::{Action, Details, next};

    #[test]
    fn a_head_holds_for_its_row_and_its_key_alone() {
        let directory = tempfile::tempdir().unwrap();
        let heads = AuditHeads::open(directory.path(), None).unwrap();
        let key = heads.key();
        let head = heads.sign(7, Timestamp(9), [5; 32]);
        assert_eq!(verify_head(&head, &key), Ok(()));
        assert_eq!(verify_head(&head, &key.to_uppercase()), Ok(()));
        let edits: [fn(&mut AuditHead); 5] = [
            |head| head.number = 6,
            |head| head.at = Timestamp(8),
            |head| head.hash = hex::encode([6; 32]),
            |head| head.hash = "no hash".to_owned(),
            |head| head.signature.truncate(8),
        ];
        for edit in edits {
            let mut edited = head.clone();
            edit(&mut edited);
            let number = edited.number;
            assert_eq!(verify_head(&edited, &key), Err(HeadError::Signature { number }));
        }
        // Whoever has no key can make one, which is another one.
        let other = tempfile::tempdir().unwrap();
        let forged = AuditHeads::open(other.path(), None).unwrap().sign(7, Timestamp(9), [6; 32]);
        assert!(matches!(verify_head(&forged, &key), Err(HeadError::OtherKey { .. })));
        let relabelled = AuditHead { key: key.clone(), ..forged };
        assert_eq!(verify_head(&relabelled, &key), Err(HeadError::Signature { number: 7 }));
    }

    #[test]
    fn the_key_is_made_once_and_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        // What a server left that was killed while it wrote its key.
        fs::write(directory.path().join(PENDING_KEY), b"half").unwrap();
        assert_eq!(audit_key(directory.path()).unwrap(), None, "to look makes none");
        let key = AuditHeads::open(directory.path(), None).unwrap().key();
        assert_eq!(AuditHeads::open(directory.path(), None).unwrap().key(), key);
        assert_eq!(audit_key(directory.path()).unwrap(), Some(key));
        let mode = fs::metadata(directory.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(directory.path().join(KEY), b"half").unwrap();
        assert!(matches!(AuditHeads::open(directory.path(), None), Err(KeyError::NoKey { .. })));
        assert!(matches!(audit_key(directory.path()), Err(KeyError::NoKey { .. })));
    }

    fn row(number: u64, at: Timestamp) -> AuditLine {
        let what = Action {
            principal: "ann".to_owned(),
            action: "POST".to_owned(),
            subject: "/v1/nodes".to_owned(),
            outcome: "201".to_owned(),
            details: Details::default(),
        };
        AuditLine { number, ..next(None, what, at) }
    }

    fn read(file: &Path) -> Vec<AuditHead> {
        let text = fs::read_to_string(file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_a_file_did_not_take_is_tried_a_minute_later() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("share/heads");
        let heads = AuditHeads::open(directory.path(), Some(file.clone())).unwrap();
        let second = |second: i64| Timestamp(0).plus_seconds(second);
        heads.write(&row(1, second(0)), second(0), false).await;
        fs::create_dir(directory.path().join("share")).unwrap();
        for (number, at) in [(1, 1), (2, 2), (2, 59)] {
            heads.write(&row(number, second(at)), second(at), false).await;
            assert!(!file.exists(), "each row would be a line of the server's log, and an error");
        }
        // Though no row came.
        heads.write(&row(2, second(60)), second(60), false).await;
        assert_eq!(read(&file).iter().map(|head| head.number).collect::<Vec<_>>(), [2]);
    }

    #[tokio::test]
    async fn a_file_that_never_answers_holds_up_neither_the_chain_nor_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("heads");
        let mut heads = AuditHeads::open(directory.path(), Some(file.clone())).unwrap();
        Arc::get_mut(&mut heads.0).unwrap().patience = Duration::from_millis(10);
        let stuck = heads.0.appending.clone().lock_owned().await;
        let write =
            async |heads: &AuditHeads| heads.write(&row(1, Timestamp(0)), Timestamp(0), true).await;
        let ended = timeout(Duration::from_secs(60), write(&heads)).await;
        assert!(ended.is_ok() && !file.exists());
        drop(stuck);
        Arc::get_mut(&mut heads.0).unwrap().patience = APPEND_PATIENCE;
        write(&heads).await;
        assert_eq!(read(&file).len(), 1);
    }

    #[tokio::test]
    async fn what_a_slow_file_took_after_all_is_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("heads");
        let heads = AuditHeads::open(directory.path(), Some(file.clone())).unwrap();
        let slow = heads.0.appending.clone().lock_owned().await;
        let row = row(1, Timestamp(0));
        let again = heads.write(&row, Timestamp(0), true);
        tokio::join!(again, async {
            heads.kept(1);
            drop(slow);
        });
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn heads_are_written_when_there_are_rows_and_at_most_once_a_minute() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("heads");
        let heads = AuditHeads::open(directory.path(), Some(file.clone())).unwrap();
        let second = |second: i64| Timestamp(0).plus_seconds(second);
        for (number, at, stops) in [
            (1, 0, false),  // written
            (1, 90, false), // no new row
            (2, 20, false), // too soon
            (3, 61, false), // written
            (4, 62, true),  // written, because the server stops
            (4, 62, true),
        ] {
            heads.write(&row(number, second(at)), second(at), stops).await;
        }
        let read = read(&file);
        assert_eq!(read.iter().map(|head| head.number).collect::<Vec<_>>(), [1, 3, 4]);
        assert!(read.iter().all(|head| verify_head(head, &heads.key()).is_ok()));
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
