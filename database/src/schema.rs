//! Versions of the roles' tables. Each role counts its own, from 1, in a table of its own:
//! `OWNER_migrations`, in sqlx's form, so that databases of older releases are read.
//!
//! A step is SQL text, or work in code for what SQL cannot do. Each is one transaction together
//! with its line in that table: a server that is killed in a step finds the tables as they were
//! before it, and takes the step again. The text of a step never changes after its release.

use sqlx::migrate::{Migration, MigrationType, Migrator};

use crate::{
    Database, DatabaseError, Transaction, clock, open::Pool, statement, transaction::Connection,
};

/// The tables of a role, through all their versions.
#[derive(Debug)]
pub struct Schema {
    /// The role: `access`.
    pub owner: &'static str,
    /// The table that counts its steps. It never changes.
    table: &'static str,
    /// From the first version to the newest.
    steps: &'static [Step],
}

/// What leads from one version of a role's tables to the next.
#[derive(Debug)]
pub struct Step {
    name: &'static str,
    /// `None`: the role does it in code.
    text: Option<&'static str>,
}

impl Step {
    /// A step of SQL statements, understood by both engines.
    #[must_use]
    pub const fn sql(name: &'static str, text: &'static str) -> Self {
        Self { name, text: Some(text) }
    }

    /// A step that the role does in code: see [`Database::migrate_to_code`].
    #[must_use]
    pub const fn code(name: &'static str) -> Self {
        Self { name, text: None }
    }
}

/// A step in code that is due.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the step is not done before it says so"]
pub struct CodeStep {
    /// Its name in the [`Schema`].
    pub name: &'static str,
    version: i64,
}

/// Why tables cannot be brought up to date. They are as they were before the step that failed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A step failed.
    #[error(
        "cannot bring the tables of {owner} in {place} up to date: they stay at version {version}"
    )]
    Step {
        /// The role.
        owner: &'static str,
        /// The database.
        place: String,
        /// The version that they have.
        version: i64,
        /// The cause, for people.
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// Their version could not be read or written.
    #[error("cannot bring the tables of {owner} up to date")]
    Database {
        /// The role.
        owner: &'static str,
        /// The cause, for people.
        #[source]
        source: DatabaseError,
    },
    /// The role did not do its step in code.
    #[error("the tables of {owner} need the step {step:?}, which nobody does")]
    Undone {
        /// The role.
        owner: &'static str,
        /// The step.
        step: &'static str,
    },
}

impl Schema {
    /// The tables of `owner`, whose steps are counted in `table`.
    #[must_use]
    pub const fn new(owner: &'static str, table: &'static str, steps: &'static [Step]) -> Self {
        Self { owner, table, steps }
    }

    /// The newest version: how many steps there are.
    #[must_use]
    pub fn version(&self) -> i64 {
        i64::try_from(self.steps.len()).unwrap_or(i64::MAX)
    }

    fn migrator(&self) -> Migrator {
        let migration = |(version, step): (i64, &'static Step)| {
            let text = step.text.unwrap_or(step.name);
            let text = sqlx::SqlStr::from_static(text);
            Migration::new(version, step.name.into(), MigrationType::Simple, text, false)
        };
        let migrations = (1..).zip(self.steps).map(migration).collect();
        let mut migrator = Migrator::with_migrations(migrations);
        migrator.dangerous_set_table_name(self.table);
        migrator
    }
}

impl Database {
    /// The version of a role's tables; 0 if there are none.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn version(&self, schema: &Schema) -> Result<i64, DatabaseError> {
        const ACTION: &str = "read the versions of its tables";
        let tables = match &self.pool {
            Pool::Sqlite(_) => "SELECT name FROM sqlite_master WHERE type = 'table' AND name = $1",
            #[cfg(feature = "postgres")]
            Pool::Postgres(_) => {
                "SELECT tablename::TEXT FROM pg_tables
                  WHERE schemaname = current_schema() AND tablename = $1"
            }
        };
        let table = statement(ACTION, tables).bind(schema.table);
        if table.fetch_optional::<(String,)>(self).await?.is_none() {
            return Ok(0);
        }
        let text = format!("SELECT COALESCE(MAX(version), 0) FROM {}", schema.table);
        let newest = statement(ACTION, sqlx::AssertSqlSafe(text)).fetch_one::<(i64,)>(self).await;
        newest.map(|(version,)| version)
    }

    /// Brings the tables of a role up to date. Fit for a role none of whose steps is in code.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub async fn migrate(&self, schema: &Schema) -> Result<(), MigrateError> {
        match self.migrate_to_code(schema).await? {
            None => Ok(()),
            Some(step) => Err(MigrateError::Undone { owner: schema.owner, step: step.name }),
        }
    }

    /// Brings the tables of a role up to date, as far as SQL does it. The caller does the step that
    /// is returned in a [`Database::begin_long`], says so by [`Transaction::step_done`],
    /// commits, and calls this again.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub async fn migrate_to_code(&self, schema: &Schema) -> Result<Option<CodeStep>, MigrateError> {
        let unread = |source| MigrateError::Database { owner: schema.owner, source };
        let found = self.version(schema).await.map_err(unread)?;
        let (owner, known) = (schema.owner, schema.version());
        let next_in_code = (1..)
            .zip(schema.steps)
            .find(|(version, step)| *version > found && step.text.is_none())
            .map(|(version, step)| CodeStep { name: step.name, version });
        let target = next_in_code.as_ref().map_or(known, |step| step.version - 1);
        let begun = clock::now();
        if found > 0 && target > found {
            tracing::info!("the tables of {owner} go from version {found} to {target}");
        }
        // Even without a step to take: it compares the texts of those that were taken.
        let migrator = schema.migrator();
        let done = match &self.pool {
            Pool::Sqlite(pool) => migrator.run_to(target, pool).await,
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => migrator.run_to(target, pool).await,
        };
        if let Err(source) = done {
            return Err(MigrateError::Step {
                owner,
                place: self.place.to_string(),
                version: self.version(schema).await.unwrap_or(found),
                source: Box::new(source),
            });
        }
        if found > 0 && target > found {
            let took = clock::now().duration_since(begun);
            tracing::info!("the tables of {owner} have version {target}, after {took:?}");
        }
        Ok(next_in_code)
    }
}

impl Transaction {
    /// Notes in the same transaction that a role's step in code is done.
    ///
    /// # Errors
    /// [`MigrateError::Step`].
    pub async fn step_done(
        &mut self,
        schema: &Schema,
        step: &CodeStep,
    ) -> Result<(), MigrateError> {
        let owner = schema.owner;
        let broken = |source| MigrateError::Database { owner, source };
        let migrator = schema.migrator();
        let noted = match self.connection("note a step").map_err(broken)? {
            Connection::Sqlite(connection) => {
                migrator.run_direct(Some(step.version), &mut **connection, true).await
            }
            #[cfg(feature = "postgres")]
            Connection::Postgres(connection) => {
                migrator.run_direct(Some(step.version), &mut **connection, true).await
            }
        };
        noted.map_err(|source| MigrateError::Step {
            owner,
            place: "this transaction".to_owned(),
            version: step.version - 1,
            source: Box::new(source),
        })?;
        self.statement_ended_well();
        Ok(())
    }
}
