//! The pool and its settings, and what is checked before the first change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    DatabaseError, Schema,
    copies::{self, CopyError},
    meter::Meter,
};

/// Connections to the database: SQLite has one writer, the others read beside it.
pub(crate) const MAX_CONNECTIONS: u32 = 8;

/// How long a writer waits for another one.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a database cannot be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file.
    #[error("cannot open the database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The engine's own words.
        #[source]
        source: sqlx::Error,
    },
    /// What is in it cannot be read.
    #[error("cannot read the versions of the tables in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause, for people.
        #[source]
        source: DatabaseError,
    },
    /// A newer release wrote it.
    #[error(
        "the database {} was written by a newer release of bedplate: its tables of {owner} have \
         version {found}, this release knows them up to {known}. A downgrade is not possible: \
         install the newer release again, or restore a copy. {advice}",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The role whose tables are newer.
        owner: &'static str,
        /// Their version.
        found: i64,
        /// The newest version that this release knows.
        known: i64,
        /// Which copy fits this release, and how it is restored.
        advice: String,
    },
    /// No copy could be kept of it.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// The pools that there are.
#[derive(Debug, Clone)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
}

/// The database. Clones share one pool.
#[derive(Debug, Clone)]
pub struct Database {
    pub(crate) pool: Pool,
    /// Where it is, for errors and logs.
    pub(crate) place: Arc<str>,
    pub(crate) meter: Arc<Meter>,
}

impl Database {
    /// Opens a database file, or makes it, so that what was acknowledged survives a power cut.
    ///
    /// `schemas` are those of all roles that will [`Database::migrate`]. A database with a newer
    /// version of any of them is refused before anything is changed; if any of them will change, a
    /// copy of the database is kept first, beside it: `NAME.before-VERSION`. No other program may
    /// have the file open.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(path: &Path, schemas: &[&Schema]) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        // A file does not hang up: asking before each use whether it is still there takes as long
        // as a statement.
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(|source| OpenError::Open { path: path.to_owned(), source })?;
        let database = Self::of_file(pool, path);
        // A refused database is let go of: its lock and its journal must not outlive this.
        if let Err(error) = database.prepare(path, schemas).await {
            database.close().await;
            return Err(error);
        }
        Ok(database)
    }

    /// Opens a database file to look into it, beside the server that may have it open. `None` if
    /// there is none, or its tables are not those of this release: the server will make them so.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_to_read(path: &Path, schemas: &[&Schema]) -> Result<Option<Self>, OpenError> {
        if !path.exists() {
            return Ok(None);
        }
        let options =
            SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(|source| OpenError::Open { path: path.to_owned(), source })?;
        let database = Self::of_file(pool, path);
        for schema in schemas {
            let found = database.version(schema).await;
            let found =
                found.map_err(|source| OpenError::Read { path: path.to_owned(), source })?;
            if found != schema.version() {
                return Ok(None);
            }
        }
        Ok(Some(database))
    }

    /// Opens a database of a PostgreSQL server; its copies are the site's. No program does yet.
    ///
    /// # Errors
    /// [`DatabaseError::Statement`] if the server does not answer.
    #[cfg(feature = "postgres")]
    pub async fn open_postgres(
        options: sqlx::postgres::PgConnectOptions,
    ) -> Result<Self, DatabaseError> {
        let place = format!("postgres:{}", options.get_host()).into();
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .connect_with(options)
            .await
            .map_err(DatabaseError::of("be reached"))?;
        Ok(Self { pool: Pool::Postgres(pool), place, meter: Arc::new(Meter::new(None)) })
    }

    /// Opens a copy to look into it: nothing is written, no journal is left beside it.
    pub(crate) async fn open_copy(path: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        Ok(Self::of_file(pool, path))
    }

    fn of_file(pool: SqlitePool, path: &Path) -> Self {
        let (place, meter) = (path.display().to_string().into(), Arc::new(Meter::new(Some(path))));
        Self { pool: Pool::Sqlite(pool), place, meter }
    }

    /// Closes all connections when their work is done.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(pool) => pool.close().await,
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => pool.close().await,
        }
    }

    /// Refuses a newer database; keeps a copy of an older one.
    async fn prepare(&self, path: &Path, schemas: &[&Schema]) -> Result<(), OpenError> {
        let read = |source| OpenError::Read { path: path.to_owned(), source };
        let mut versions = Vec::with_capacity(schemas.len());
        for schema in schemas {
            let found = self.version(schema).await.map_err(read)?;
            if found > schema.version() {
                return Err(OpenError::Newer {
                    path: path.to_owned(),
                    owner: schema.owner,
                    found,
                    known: schema.version(),
                    advice: copies::advice(path, schemas),
                });
            }
            versions.push(found);
        }
        let is_fresh = versions.iter().all(|version| *version == 0);
        let is_current = schemas.iter().zip(&versions).all(|(schema, v)| *v == schema.version());
        if is_fresh || is_current {
            return Ok(());
        }
        Ok(copies::keep(self, path, schemas, &versions).await?)
    }
}
