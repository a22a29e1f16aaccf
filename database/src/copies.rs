//! The copy that is kept before tables change: `NAME.before-VERSION` beside the database.
//!
//! VERSION is the number of steps that the release knows, of all roles together, so each release
//! that changes tables has another one. A copy is written as `….part`, synced, and renamed: what
//! has its final name is whole. A server that was killed in a migration finds the copy of the state
//! before it and does not overwrite it. The newest [`MAX_COPIES`] stay.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{Database, DatabaseError, Schema, clock, statement};

/// Copies kept: the way back from this release, and from the one before.
const MAX_COPIES: usize = 2;

/// Why no copy could be kept. The database was not changed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file system has not enough room.
    #[error(
        "the tables of this release need a migration, for which {needed} MiB must be free beside \
         {}, for a copy and the journal: only {free} MiB are; make room and start again",
        path.display()
    )]
    NoRoom {
        /// The database.
        path: PathBuf,
        /// MiB.
        needed: u64,
        /// MiB.
        free: u64,
    },
    /// The engine did not write it.
    #[error("cannot keep a copy of the database as {}", path.display())]
    Engine {
        /// The copy.
        path: PathBuf,
        /// The cause, for people.
        #[source]
        source: DatabaseError,
    },
    /// The file system did not take it.
    #[error("cannot keep a copy of the database as {}", path.display())]
    File {
        /// The copy or its directory.
        path: PathBuf,
        /// The cause, for people.
        #[source]
        source: io::Error,
    },
}

const MIB: u64 = 1 << 20;

/// The copy that a release with these schemas makes.
fn path_of(database: &Path, version: i64) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(format!(".before-{version}"));
    name.into()
}

/// The number of a release's tables.
fn version(schemas: &[&Schema]) -> i64 {
    schemas.iter().map(|schema| schema.version()).sum()
}

/// The copies that there are, by their versions.
fn all(database: &Path) -> Vec<(i64, PathBuf)> {
    let Some(name) = database.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let prefix = format!("{name}.before-");
    let directory = database.parent().map_or(Path::new("."), |parent| parent);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut copies: Vec<(i64, PathBuf)> = entries
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()?;
            Some((version, entry.path()))
        })
        .collect();
    copies.sort();
    copies
}

/// What somebody can do who has a database of a newer release.
pub(crate) fn advice(database: &Path, schemas: &[&Schema]) -> String {
    let own = version(schemas);
    // The copy before the step away from this release: the oldest of those that are newer.
    let Some((_, copy)) = all(database).into_iter().find(|(version, _)| *version > own) else {
        return "No copy that this release can read is beside it.".to_owned();
    };
    let (copy, database) = (copy.display(), database.display());
    format!(
        "The copy {copy} was kept when the newer release first started; what was changed since is \
         not in it. To go back to it, with the server stopped: \
         rm -f '{database}-wal' '{database}-shm' && mv '{copy}' '{database}'"
    )
}

/// Keeps a copy of a database whose roles have these versions, if that is not done yet.
pub(crate) async fn keep(
    database: &Database,
    path: &Path,
    schemas: &[&Schema],
    versions: &[i64],
) -> Result<(), CopyError> {
    let copy = path_of(path, version(schemas));
    if copy.exists() && is_before(&copy, schemas, versions).await {
        tracing::info!(
            "an interrupted migration goes on; the state before it is {}",
            copy.display()
        );
        return Ok(());
    }
    // What a killed server left of a copy takes the room that is counted.
    let part = part_of(&copy);
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(CopyError::File { path: part, source: error });
        }
        _ => {}
    }
    let size = needed_room(database, path).await?;
    tracing::info!(
        "the tables of this release differ: keeping a copy of the database ({} MiB) as {}",
        size.div_ceil(MIB),
        copy.display()
    );
    let begun = clock::now();
    write(database, &copy).await?;
    let took = clock::now().duration_since(begun);
    tracing::info!("the copy is whole, after {took:?}");
    let mut copies = all(path);
    copies.truncate(copies.len().saturating_sub(MAX_COPIES));
    for (_, old) in copies {
        match fs::remove_file(&old) {
            Ok(()) => tracing::info!("removed the old copy {}", old.display()),
            Err(error) => tracing::warn!("cannot remove the old copy {}: {error}", old.display()),
        }
    }
    Ok(())
}

/// Is the copy of a state with fewer steps than the database has? Then a migration was interrupted
/// after some of them. A copy of the same versions may be one that was restored long ago.
async fn is_before(copy: &Path, schemas: &[&Schema], versions: &[i64]) -> bool {
    let Ok(database) = Database::open_copy(copy).await else { return false };
    let (mut is_same, mut is_before) = (true, true);
    for (schema, now) in schemas.iter().zip(versions) {
        let then = database.version(schema).await.unwrap_or(i64::MAX);
        is_same &= then == *now;
        is_before &= then <= *now;
    }
    database.close().await;
    is_before && !is_same
}

/// Checks the room for the copy and for the journal of a step that rewrites every row. Returns the
/// bytes of the database.
async fn needed_room(database: &Database, path: &Path) -> Result<u64, CopyError> {
    let engine = |source| CopyError::Engine { path: path.to_owned(), source };
    let action = "tell its size";
    let pages = statement(action, "PRAGMA page_count").fetch_one::<(i64,)>(database).await;
    let bytes = statement(action, "PRAGMA page_size").fetch_one::<(i64,)>(database).await;
    let (pages, bytes) = (pages.map_err(engine)?.0, bytes.map_err(engine)?.0);
    let size = u64::try_from(pages.saturating_mul(bytes)).unwrap_or(u64::MAX);
    let needed = size.saturating_mul(2).saturating_add(MIB);
    let file =
        |error: rustix::io::Errno| CopyError::File { path: path.to_owned(), source: error.into() };
    let system = rustix::fs::statvfs(path).map_err(file)?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if free < needed {
        let (needed, free) = (needed.div_ceil(MIB), free / MIB);
        return Err(CopyError::NoRoom { path: path.to_owned(), needed, free });
    }
    Ok(size)
}

/// Where a copy is written until it is whole.
fn part_of(copy: &Path) -> PathBuf {
    let mut part = copy.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

/// Writes the copy, whole or not at all.
async fn write(database: &Database, copy: &Path) -> Result<(), CopyError> {
    let part = part_of(copy);
    let failed = |source| CopyError::File { path: copy.to_owned(), source };
    // It reads one state, with what is still in the journal, and writes no journal of its own.
    let text = part.to_string_lossy().into_owned();
    let into = statement("write a copy of itself", "VACUUM INTO $1").bind(text);
    let written = into.execute(database).await;
    written.map_err(|source| CopyError::Engine { path: copy.to_owned(), source })?;
    File::open(&part).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&part, copy).map_err(failed)?;
    let directory = copy.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(directory.unwrap_or(Path::new(".")));
    directory.and_then(|directory| directory.sync_all()).map_err(failed)
}
