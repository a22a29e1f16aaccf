//! What the database tells of itself: transactions, how long they wait and commit, statements that
//! fail, and whether the last write went through.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use metrics::{Counter, Counters, Exposition, Gauge, Histogram, SECONDS};
use sqlx::error::ErrorKind;

use crate::{Database, clock, open::MAX_CONNECTIONS, open::Pool};

/// How a transaction ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended {
    /// It is on disk.
    Committed,
    /// It was given up for what is no failure.
    RolledBack,
    /// The engine refused, or it was dropped half way; nothing of it is kept.
    Failed,
}

/// The instruments of one database. Clones of [`Database`] share them.
#[derive(Debug)]
pub(crate) struct Meter {
    /// `None`: the engine is a server of its own.
    file: Option<PathBuf>,
    transactions: Counters<3>,
    waits: Histogram,
    commits: Histogram,
    /// Statements that a constraint refused: what a store asks for on purpose, now and then.
    refused: Counter,
    /// Statements that failed for another cause.
    failed: Counter,
    /// 1 until a write fails, and again after the next one that does not.
    is_well: Gauge,
    /// Seconds since 1970; 0 before the first.
    last_write: Gauge,
}

impl Meter {
    pub(crate) fn new(file: Option<&Path>) -> Self {
        let is_well = Gauge::default();
        is_well.set(1);
        Self {
            file: file.map(Path::to_owned),
            transactions: Counters::new(["committed", "rolled-back", "failed"]),
            waits: Histogram::new(SECONDS),
            commits: Histogram::new(SECONDS),
            refused: Counter::default(),
            failed: Counter::default(),
            is_well,
            last_write: Gauge::default(),
        }
    }

    /// A transaction has its turn as the writer.
    pub(crate) fn waited(&self, took: Duration) {
        self.waits.observe(took);
    }

    /// A COMMIT, or a statement that is a transaction by itself, ended: on disk, or not.
    pub(crate) fn wrote<T>(&self, took: Duration, done: &Result<T, sqlx::Error>) {
        match done {
            Ok(_) => {
                self.commits.observe(took);
                self.is_well.set(1);
                self.last_write.set(clock::unix_seconds());
            }
            Err(error) => self.write_failed(error),
        }
    }

    /// A statement of a transaction failed. A full disk shows here: the engine writes before
    /// COMMIT.
    pub(crate) fn write_failed(&self, error: &sqlx::Error) {
        // A row that cannot be decoded is read wrong, not written.
        let is_engines = matches!(error, sqlx::Error::Database(_) | sqlx::Error::Io(_));
        if is_engines && !is_constraint(error) {
            self.is_well.set(0);
        }
    }

    pub(crate) fn transaction_ended(&self, how: Ended) {
        self.transactions.inc(match how {
            Ended::Committed => "committed",
            Ended::RolledBack => "rolled-back",
            Ended::Failed => "failed",
        });
    }

    /// A statement ended, on the pool or in a transaction.
    pub(crate) fn statement_ended<T>(&self, done: &Result<T, sqlx::Error>) {
        match done {
            Ok(_) => {}
            Err(error) if is_constraint(error) => self.refused.inc(),
            Err(_) => self.failed.inc(),
        }
    }
}

fn is_constraint(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.kind() != ErrorKind::Other)
}

impl Database {
    /// Writes what the database tells of itself. Looks at the sizes of its files, which blocks for
    /// as long as the file system takes.
    pub fn expose(&self, out: &mut Exposition) {
        let meter = &self.meter;
        self.expose_files(out);
        self.expose_connections(out);
        let help = "Transactions, by how they ended. A failed one has changed nothing.";
        out.counter("bedplate_database_transactions", help).counts("outcome", &meter.transactions);
        let help = "How long a transaction waited for its turn: there is one writer.";
        out.histogram("bedplate_database_wait_seconds", help).buckets(&[], &meter.waits);
        let help = "How long it took to bring what was written to the disk.";
        out.histogram("bedplate_database_commit_seconds", help).buckets(&[], &meter.commits);
        let help = "Statements that failed, by cause: a constraint of the tables, or the engine.";
        out.counter("bedplate_database_statement_failures", help)
            .sample(&[("cause", "constraint")], meter.refused.get())
            .sample(&[("cause", "engine")], meter.failed.get());
        let help = "1 if the last write went through; 0 from a failure until the next that does.";
        out.gauge("bedplate_database_writable", help).level(&meter.is_well);
        let help = "When something was last written, seconds since 1970; 0: not since the start.";
        out.gauge("bedplate_database_last_write_timestamp_seconds", help).level(&meter.last_write);
    }

    fn expose_files(&self, out: &mut Exposition) {
        let help = "Size of the files of the database: itself, and its write-ahead log.";
        let mut family = out.gauge("bedplate_database_file_bytes", help);
        let Some(file) = &self.meter.file else { return };
        let mut wal = file.clone().into_os_string();
        wal.push("-wal");
        for (word, path) in [("main", file.as_path()), ("wal", Path::new(&wal))] {
            // The log is not there before the first write and after the last close.
            let bytes = fs::metadata(path).map_or(0, |meta| meta.len());
            family.sample(&[("file", word)], bytes);
        }
    }

    fn expose_connections(&self, out: &mut Exposition) {
        let (size, idle) = match &self.pool {
            Pool::Sqlite(pool) => (pool.size(), pool.num_idle()),
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => (pool.size(), pool.num_idle()),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        out.gauge("bedplate_database_connections", "Open connections of the pool, in use or idle.")
            .sample(&[("state", "used")], size.saturating_sub(idle))
            .sample(&[("state", "idle")], idle);
        out.gauge("bedplate_database_connections_max", "Connections that the pool may have.")
            .value(MAX_CONNECTIONS);
    }
}
