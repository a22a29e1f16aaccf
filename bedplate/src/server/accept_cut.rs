//! `bedplate server accept-audit-cut`: ends the alarm of a cut of the audit log whose key was lost
//! and is in no backup. Root decides, on the server's machine and with the server stopped: one that
//! runs holds its own cuts in memory.
//!
//! It acts as the owner of the state directory, as `recover-admin` does.

use std::path::{Path, PathBuf};

use access::{AcceptCutError, Access, AuditHeads, KeyError};
use database::{Database, MigrateError, OpenError};

use super::{
    DATABASE, SCHEMAS, ServerError, clock, lock,
    recover::{RecoverError, act_as_owner},
};

/// Who accepts it, for the audit log.
const ROOT: &str = "root";

/// Why the cut is not accepted. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The state directory is somebody else's.
    #[error(transparent)]
    Owner(#[from] RecoverError),
    /// A server runs, or the state directory cannot be used.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The key that signs it.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is none to sign with.
    #[error(
        "there is no audit.key in {}: start the server, which makes one and says so in the audit log",
        state_dir.display()
    )]
    NoKey {
        /// The state directory.
        state_dir: PathBuf,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Tables.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The program and the database do not fit.
    #[error(
        "the tables in {} are not those of this release of `bedplate`: use the program that the server was \
         started with",
        state_dir.display()
    )]
    OtherRelease {
        /// The state directory.
        state_dir: PathBuf,
    },
    /// It is not to be accepted.
    #[error("the cut of the audit log up to line {number} is not accepted")]
    Cut {
        /// The last line of the cut.
        number: u64,
        /// What speaks against it.
        #[source]
        source: AcceptCutError,
    },
}

/// Signs the cut up to line `number` with the key of now. `head_file`: `audit.head-file`, which
/// tells whether that key is older than the cut. Returns the key that had signed it.
///
/// # Errors
/// [`AcceptError`].
pub async fn accept_audit_cut(
    state_dir: &Path,
    head_file: Option<PathBuf>,
    number: u64,
) -> Result<String, AcceptError> {
    act_as_owner(state_dir)?;
    let _lock = lock(state_dir)?;
    if access::audit_key(state_dir)?.is_none() {
        return Err(AcceptError::NoKey { state_dir: state_dir.to_owned() });
    }
    let path = state_dir.join(DATABASE);
    // Never migrates: a server of before may be started on these tables.
    match Database::open_to_read(&path, SCHEMAS).await? {
        Some(database) => database.close().await,
        None => return Err(AcceptError::OtherRelease { state_dir: state_dir.to_owned() }),
    }
    let heads = AuditHeads::open(state_dir, head_file)?;
    let database = Database::open(&path, SCHEMAS).await?;
    let accepted = accept(&database, heads, number).await;
    database.close().await;
    accepted
}

async fn accept(
    database: &Database,
    heads: AuditHeads,
    number: u64,
) -> Result<String, AcceptError> {
    let access = Access::open(database.clone()).await?.with_audit_heads(heads);
    let accepted = access.accept_audit_cut(number, ROOT, clock::now()).await;
    accepted.map_err(|source| AcceptError::Cut { number, source })
}
