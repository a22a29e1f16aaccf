//! `bedplate server recover-admin`: a new admin token for whoever owns this machine, when
//! every other is lost.
//!
//! It works beside a server that runs, which looks tokens up in the database at each request, and
//! without one. What it writes belongs to the owner of the state directory: from its first look on
//! it acts as that user.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use access::{Access, AccessError};
use api::{access::User, ids::Timestamp};
use database::{Database, DatabaseError, MigrateError, OpenError};
use fleet::AuthorityError;
use nix::unistd::{Gid, Uid, geteuid, setegid, seteuid, setgroups};

use super::{
    DATABASE, SCHEMAS,
    admin_context::{self, AdminContextError},
};

/// The user who gets the token. It is made, or made an admin again.
const ADMIN: &str = "admin";

/// The name of the token. One of that name is replaced.
const TOKEN: &str = "recovered";

/// A server that runs may write a line of the audit log in the same moment; then this one is
/// written after it.
const MAX_ATTEMPTS: u32 = 5;

/// Pause between two attempts: a line takes milliseconds.
const PAUSE: Duration = Duration::from_millis(50);

/// The token that was made, and the file that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The context file with the new token.
    pub file: PathBuf,
    /// Name of the user.
    pub user: &'static str,
    /// Name of the token.
    pub token: &'static str,
    /// When the token of that name was made in whose place it is; that one is good no more. `None`:
    /// there was none.
    pub replaced: Option<Timestamp>,
}

/// Why there is no new token.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The state directory.
    #[error("cannot use the state directory {}", path.display())]
    StateDir {
        /// Path of the file or directory that it is about.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else than root and the server's user.
    #[error("the state directory {} belongs to another user: run this as root", path.display())]
    NotOwner {
        /// Path of the file or directory that it is about.
        path: PathBuf,
    },
    /// The server's user cannot be acted as.
    #[error("cannot act as the owner of the state directory {}", path.display())]
    Owner {
        /// Path of the file or directory that it is about.
        path: PathBuf,
        /// Why.
        #[source]
        source: nix::errno::Errno,
    },
    /// There is nothing to recover.
    #[error("no server was started on {}: start one, and it writes admin.yaml itself", path.display())]
    NoDatabase {
        /// The state directory.
        path: PathBuf,
    },
    /// The program and the database do not fit.
    #[error(
        "the tables in {} are not those of this release of `bedplate`: use the program that the server was started \
         with, or start the server with this one first",
        path.display()
    )]
    OtherRelease {
        /// The state directory.
        path: PathBuf,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Tables.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The user, the token or the audit log.
    #[error("cannot make the admin's token")]
    Access(#[from] AccessError),
    /// The CA, whose certificate stands in the file.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The file.
    #[error(transparent)]
    File(#[from] AdminContextError),
}

/// Makes the user `admin` an admin, gives it a new token without an end, and writes that into
/// `admin.yaml` of the state directory. Of the tokens of before one of that name is replaced, and
/// the others stay as they are. `api`: where the REST port is, if no such file tells.
///
/// # Errors
/// [`RecoverError`]. If the file cannot be written, the token that nobody has is of no use, and the
/// next attempt replaces it.
pub async fn recover_admin(state_dir: &Path, api: SocketAddr) -> Result<Recovered, RecoverError> {
    act_as_owner(state_dir)?;
    let path = state_dir.join(DATABASE);
    if !path.exists() {
        return Err(RecoverError::NoDatabase { path: state_dir.to_owned() });
    }
    // Never migrates: a server of before may run on these tables.
    match Database::open_to_read(&path, SCHEMAS).await? {
        Some(database) => database.close().await,
        None => return Err(RecoverError::OtherRelease { path: state_dir.to_owned() }),
    }
    let ca = fleet::authority_pem(state_dir)?;
    let database = Database::open(&path, SCHEMAS).await?;
    let made = make_token(&database).await;
    database.close().await;
    let (token, replaced) = made?;
    let file = admin_context::replace_token(state_dir, token, api, ca)?;
    Ok(Recovered { file, user: ADMIN, token: TOKEN, replaced })
}

/// The secret of the new token, and when the one was made that it replaces.
async fn make_token(database: &Database) -> Result<(String, Option<Timestamp>), RecoverError> {
    let access = Access::open(database.clone()).await?;
    let found = match access.user(ADMIN).await {
        Ok(user) => Some(user),
        Err(AccessError::UnknownUser { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    // Before any change: nobody becomes an admin or gets a token that is not in the log,
    // however this ends.
    let before = access.tokens(ADMIN).await?.into_iter().find(|token| token.name == TOKEN);
    record(&access, before.is_some()).await?;
    match found {
        Some(User { admin: true, .. }) => {}
        Some(user) => access.change_user(&User { admin: true, ..user }).await?,
        None => {
            let admin = User { name: ADMIN.to_owned(), admin: true, account: None, comment: None };
            access.add_user(&admin).await?;
        }
    }
    let made = access.replace_token(ADMIN, TOKEN).await?;
    Ok((made.token, before.map(|token| token.created)))
}

/// Writes the line of the audit log. A server that runs numbers its lines in its own memory's
/// turn, not in ours.
async fn record(access: &Access, replaces: bool) -> Result<(), AccessError> {
    let subject = format!("{ADMIN}/{TOKEN}");
    let outcome = if replaces { "replaced" } else { "done" };
    let mut attempt = 1;
    loop {
        match access.record("root", "recover-admin", &subject, outcome).await {
            Err(AccessError::Store(_)) if attempt < MAX_ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            recorded => return recorded,
        }
    }
}

/// From now on the process is the owner of the state directory, so that every file that it makes
/// is the server's.
pub(super) fn act_as_owner(state_dir: &Path) -> Result<(), RecoverError> {
    let path = || state_dir.to_owned();
    let facts = fs::metadata(state_dir)
        .map_err(|source| RecoverError::StateDir { path: path(), source })?;
    let (owner, group) = (Uid::from_raw(facts.uid()), Gid::from_raw(facts.gid()));
    if geteuid() == owner {
        return Ok(());
    }
    if !geteuid().is_root() {
        return Err(RecoverError::NotOwner { path: path() });
    }
    let changed = setgroups(&[group]).and_then(|()| setegid(group)).and_then(|()| seteuid(owner));
    changed.map_err(|source| RecoverError::Owner { path: path(), source })
}

#[cfg(test)]
mod tests {
    use database::statement;

    use super::*;

    #[tokio::test]
    async fn nobody_becomes_an_admin_without_a_line_of_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join(DATABASE), SCHEMAS).await.unwrap();
        let access = Access::open(database.clone()).await.unwrap();
        let plain = User { name: ADMIN.to_owned(), admin: false, account: None, comment: None };
        access.add_user(&plain).await.unwrap();
        let text = "CREATE TRIGGER no_lines BEFORE INSERT ON access_audit_pending
                    BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
        statement("let the log fail", text).execute(&database).await.unwrap();
        assert!(matches!(
            make_token(&database).await,
            Err(RecoverError::Access(AccessError::Store(_)))
        ));
        assert_eq!(access.user(ADMIN).await.unwrap(), plain);
        assert_eq!(access.tokens(ADMIN).await.unwrap(), []);

        statement("let the log work", "DROP TRIGGER no_lines").execute(&database).await.unwrap();
        let (_, replaced) = make_token(&database).await.unwrap();
        assert!(access.user(ADMIN).await.unwrap().admin);
        assert_eq!(replaced, None);
        let made = access.tokens(ADMIN).await.unwrap();
        let (_, replaced) = make_token(&database).await.unwrap();
        assert_eq!(replaced, Some(made[0].created), "that one is told to be good no more");
    }
}
