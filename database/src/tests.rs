//! What holds for every database: transactions, migrations, copies, decoding.

mod copies;
mod damage;
mod meter;
mod migrations;
mod outbox;
mod transactions;

use tempfile::TempDir;

use crate::{Database, Schema, Step, statement};

/// Two tables of two roles, the one referring to the other.
static FIRST: Schema = Schema::new(
    "first",
    "first_migrations",
    &[Step::sql(
        "first",
        "CREATE TABLE first_rows (id TEXT NOT NULL PRIMARY KEY, number BIGINT NOT NULL);
         CREATE TABLE first_touchy (id TEXT NOT NULL PRIMARY KEY ON CONFLICT ROLLBACK);",
    )],
);
static SECOND: Schema = Schema::new(
    "second",
    "second_migrations",
    &[Step::sql(
        "first",
        "CREATE TABLE second_rows (id TEXT NOT NULL PRIMARY KEY
           REFERENCES first_rows (id) DEFERRABLE INITIALLY DEFERRED);",
    )],
);

async fn open() -> (TempDir, Database) {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("db"), &[&FIRST, &SECOND]).await.unwrap();
    database.migrate(&FIRST).await.unwrap();
    database.migrate(&SECOND).await.unwrap();
    (directory, database)
}

async fn count(database: &Database, table: &str) -> i64 {
    let text = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    statement("count", text).fetch_one::<(i64,)>(database).await.unwrap().0
}
