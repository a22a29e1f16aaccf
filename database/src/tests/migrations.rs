//! From one version of the tables to the next, and what is refused.

use std::{
    error::Error as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use super::{FIRST, count};
use crate::{Database, MigrateError, Schema, Step, statement};

/// A later release of [`FIRST`]: a step in SQL, one in code, and one in SQL after it.
static LATER: Schema = Schema::new(
    "first",
    "first_migrations",
    &[
        Step::sql("first", FIRST_TEXT),
        Step::sql("names", "ALTER TABLE first_rows ADD COLUMN name TEXT"),
        Step::code("numbers"),
        Step::sql("more", "CREATE TABLE first_more (id TEXT NOT NULL PRIMARY KEY)"),
    ],
);
const FIRST_TEXT: &str =
    "CREATE TABLE first_rows (id TEXT NOT NULL PRIMARY KEY, number BIGINT NOT NULL);
         CREATE TABLE first_touchy (id TEXT NOT NULL PRIMARY KEY ON CONFLICT ROLLBACK);";

async fn open(path: &Path, schema: &Schema) -> Database {
    Database::open(path, &[schema]).await.unwrap()
}

#[tokio::test]
async fn steps_in_code_and_in_sql_take_turns() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let database = open(&path, &LATER).await;
    let refused = database.migrate(&LATER).await;
    assert!(matches!(refused, Err(MigrateError::Undone { .. })), "{refused:?}");
    for is_first in [true, false] {
        assert_eq!(database.version(&LATER).await.unwrap(), 2);
        let step = database.migrate_to_code(&LATER).await.unwrap().unwrap();
        let mut transaction = database.begin_long().await.unwrap();
        let text = "INSERT INTO first_rows (id, number) VALUES ('a', 1)";
        statement("convert", text).execute(&mut transaction).await.unwrap();
        transaction.step_done(&LATER, &step).await.unwrap();
        if is_first {
            // The server is killed here: the step is due again, and nothing of it is there.
            drop(transaction);
        } else {
            transaction.commit("convert").await.unwrap();
        }
    }
    assert_eq!(database.migrate_to_code(&LATER).await.unwrap(), None);
    assert_eq!(database.version(&LATER).await.unwrap(), 4);
    assert_eq!(
        (count(&database, "first_rows").await, count(&database, "first_more").await),
        (1, 0)
    );
    // What every restart does.
    database.close().await;
    assert_eq!(open(&path, &LATER).await.migrate_to_code(&LATER).await.unwrap(), None);
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_tables_as_they_were() {
    static BROKEN: Schema = Schema::new(
        "first",
        "first_migrations",
        &[
            Step::sql("first", FIRST_TEXT),
            Step::sql("broken", "DELETE FROM first_rows; CREATE TABLE first_touchy (id TEXT)"),
        ],
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let database = open(&path, &FIRST).await;
    database.migrate(&FIRST).await.unwrap();
    let text = "INSERT INTO first_rows (id, number) VALUES ('a', 1)";
    statement("add", text).execute(&database).await.unwrap();
    database.close().await;
    let database = open(&path, &BROKEN).await;
    let error = database.migrate(&BROKEN).await.unwrap_err().to_string();
    assert!(error.contains("tables of first") && error.contains("stay at version 1"), "{error}");
    assert_eq!(count(&database, "first_rows").await, 1);
    database.close().await;
    // Another release, whose step works, goes on from there.
    let database = open(&path, &LATER).await;
    assert_eq!(database.migrate_to_code(&LATER).await.unwrap().unwrap().name, "numbers");
}

#[tokio::test]
async fn another_text_of_a_step_that_was_taken_is_refused() {
    static OTHER: Schema =
        Schema::new("first", "first_migrations", &[Step::sql("first", "CREATE TABLE a (b TEXT)")]);
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory.path().join("db"), &FIRST).await;
    database.migrate(&FIRST).await.unwrap();
    let error = database.migrate(&OTHER).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("modified"), "{error:?}");
}

/// Set for the child of [`killed_in_a_step_it_is_taken_again`]: the database that it migrates.
const CHILD: &str = "BEDPLATE_TEST_MIGRATE";

/// A step that runs for seconds, and writes all the while.
static LONG: Schema = Schema::new(
    "first",
    "first_migrations",
    &[
        Step::sql("first", FIRST_TEXT),
        Step::sql(
            "long",
            "INSERT INTO first_rows WITH RECURSIVE n (i) AS
               (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)
             SELECT 'a row of the step ' || i, i FROM n;",
        ),
    ],
);

#[tokio::test]
async fn killed_in_a_step_it_is_taken_again() {
    if let Ok(path) = std::env::var(CHILD) {
        open(Path::new(&path), &LONG).await.migrate(&LONG).await.unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let database = open(&path, &FIRST).await;
    database.migrate(&FIRST).await.unwrap();
    let text = "INSERT INTO first_rows (id, number) VALUES ('of before', 1)";
    statement("add", text).execute(&database).await.unwrap();
    database.close().await;

    #[expect(clippy::disallowed_methods, reason = "this test again, as the server that is killed")]
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::migrations::killed_in_a_step_it_is_taken_again"])
        .env(CHILD, &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // More than the page cache holds is in the journal: the step is under way.
    let journal = directory.path().join("db-wal");
    #[expect(clippy::disallowed_methods, reason = "how long the child may take")]
    let until = Instant::now() + Duration::from_secs(60);
    while journal.metadata().map_or(0, |file| file.len()) < 1 << 20 {
        #[expect(clippy::disallowed_methods, reason = "how long the child may take")]
        let now = Instant::now();
        assert!(now < until && child.try_wait().unwrap().is_none(), "the child did not begin");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();

    // The copy of before is whole.
    let copy = open(&directory.path().join("db.before-2"), &FIRST).await;
    assert_eq!(count(&copy, "first_rows").await, 1);
    let database = open(&path, &LONG).await;
    assert_eq!(database.version(&LONG).await.unwrap(), 1, "nothing of the step is there");
    assert_eq!(count(&database, "first_rows").await, 1);
    database.migrate(&LONG).await.unwrap();
    assert_eq!(database.version(&LONG).await.unwrap(), 2);
    assert_eq!(count(&database, "first_rows").await, 400_001);
}
