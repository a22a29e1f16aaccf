//! Rows that are committed with the change that they tell of.

use std::sync::Arc;

use super::{count, open};
use crate::{
    Database, DatabaseError, Statement, Transaction,
    outbox::{self, Insert, OutboxRow, WrittenWith},
    statement,
};

/// A row of the table `first_rows`: its number says what it was written with.
#[derive(Debug)]
struct Told(&'static str);

impl Insert for Told {
    fn insert(&self, with: WrittenWith) -> Statement {
        let text = "INSERT INTO first_rows (id, number) VALUES ($1, $2)
                    ON CONFLICT (id) DO UPDATE SET id = excluded.id WHERE first_rows.number = excluded.number";
        let number = match with {
            WrittenWith::Change => 1_i64,
            WrittenWith::Nothing => 2,
        };
        statement("tell of a change", text).bind(self.0).bind(number)
    }
}

fn told(id: &'static str) -> OutboxRow {
    OutboxRow::new(Arc::new(Told(id)))
}

async fn touch(transaction: &mut Transaction, id: &str) {
    let text = "INSERT INTO first_touchy (id) VALUES ($1)";
    statement("add a row", text).bind(id).execute(transaction).await.unwrap();
}

async fn change(database: &Database, id: &str) {
    let mut transaction = database.begin().await.unwrap();
    touch(&mut transaction, id).await;
    transaction.commit("change").await.unwrap();
}

async fn written(database: &Database) -> Vec<(String, i64)> {
    let text = "SELECT id, number FROM first_rows ORDER BY id";
    statement("look", text).fetch_all(database).await.unwrap()
}

#[tokio::test]
async fn a_row_is_in_the_first_transaction_that_is_committed_and_in_no_other() {
    let (_directory, database) = open().await;
    let row = told("a");
    let work = async {
        let mut transaction = database.begin().await.unwrap();
        touch(&mut transaction, "one").await;
        transaction.rollback().await.unwrap();
        let mut dropped = database.begin().await.unwrap();
        touch(&mut dropped, "one").await;
        drop(dropped);
        assert!(!row.is_written());
        assert_eq!(count(&database, "first_rows").await, 0, "what is not changed is not told");

        change(&database, "one").await;
        assert!(row.is_written());
        change(&database, "two").await;
    };
    outbox::scope(vec![row.clone()], work).await;
    change(&database, "three").await;
    assert_eq!(written(&database).await, [("a".to_owned(), 1)]);
    assert_eq!(count(&database, "first_touchy").await, 3);
}

#[tokio::test]
async fn a_change_whose_row_cannot_be_written_is_not_made() {
    /// A row of a table that is not there.
    #[derive(Debug)]
    struct Broken;
    impl Insert for Broken {
        fn insert(&self, _: WrittenWith) -> Statement {
            statement("tell of a change", "INSERT INTO no_such_table VALUES (1)")
        }
    }
    let (_directory, database) = open().await;
    let row = OutboxRow::new(Arc::new(Broken));
    let work = async {
        let mut transaction = database.begin().await.unwrap();
        touch(&mut transaction, "one").await;
        assert!(transaction.commit("change").await.is_err());
        let text = "INSERT INTO first_touchy (id) VALUES ('two')";
        assert!(statement("change", text).execute(&database).await.is_err());
    };
    outbox::scope(vec![row.clone()], work).await;
    assert!(!row.is_written());
    assert_eq!(count(&database, "first_touchy").await, 0);
}

#[tokio::test]
async fn a_change_whose_row_would_be_lost_behind_another_one_is_not_made() {
    let (_directory, database) = open().await;
    let (row, same) = (told("a"), told("a"));
    let commit = async |id: &str| {
        let mut transaction = database.begin().await.unwrap();
        touch(&mut transaction, id).await;
        transaction.commit("change").await
    };
    let other = "INSERT INTO first_rows (id, number) VALUES ('a', 7)";
    statement("take the place", other).execute(&database).await.unwrap();
    let failed = outbox::scope(vec![row.clone()], commit("one")).await;
    assert!(matches!(failed, Err(DatabaseError::RowTaken { action: "change" })), "{failed:?}");
    assert!(!row.is_written());
    assert_eq!(count(&database, "first_touchy").await, 0);
    // When the place is free again the row is taken; and one that is there is not written twice.
    statement("free it", "DELETE FROM first_rows").execute(&database).await.unwrap();
    outbox::scope(vec![row.clone()], commit("one")).await.unwrap();
    outbox::scope(vec![same.clone()], commit("two")).await.unwrap();
    assert!(row.is_written() && same.is_written());
    assert_eq!(written(&database).await, [("a".to_owned(), 1)]);
}

#[tokio::test]
async fn a_row_that_queued_work_has_may_be_written_yet() {
    let (_directory, database) = open().await;
    let row = told("a");
    let watch = row.watch();
    let queued = outbox::scope(vec![row.clone()], async { outbox::current() }).await;
    assert!(row.is_elsewhere() && watch.is_open());
    drop(queued);
    assert!(!row.is_elsewhere(), "it was refused, and nobody writes the row");
    let queued = outbox::scope(vec![row.clone()], async { outbox::current() }).await;
    outbox::scope(queued, change(&database, "one")).await;
    assert!(row.is_written() && !row.is_elsewhere() && !watch.is_open());
    let dropped = told("b");
    let watch = dropped.watch();
    drop(dropped);
    assert!(!watch.is_open());
}

#[tokio::test]
async fn a_statement_by_itself_takes_the_row_if_it_changes_something() {
    let (_directory, database) = open().await;
    let row = told("a");
    let work = async {
        let nothing = statement("change", "DELETE FROM first_touchy WHERE id = 'none'");
        assert_eq!(nothing.execute(&database).await.unwrap(), 0);
        assert!(!row.is_written());
        let text = "INSERT INTO first_touchy (id) VALUES ('one')";
        outbox::alone(statement("change", text).execute(&database)).await.unwrap();
        assert!(!row.is_written(), "housekeeping is nobody's change");
        let text = "INSERT INTO first_touchy (id) VALUES ('two')";
        assert_eq!(statement("change", text).execute(&database).await.unwrap(), 1);
        assert!(row.is_written());
    };
    outbox::scope(vec![row.clone()], work).await;
    assert_eq!(written(&database).await, [("a".to_owned(), 1)]);
}

#[tokio::test]
async fn another_task_takes_the_rows_only_if_it_is_given_them() {
    let (_directory, database) = open().await;
    let (row, other) = (told("a"), told("b"));
    let work = async {
        let in_task = database.clone();
        tokio::spawn(async move { change(&in_task, "one").await }).await.unwrap();
        assert!(!row.is_written());
        let in_task = database.clone();
        tokio::spawn(outbox::carry(async move { change(&in_task, "two").await })).await.unwrap();
        assert!(row.is_written());
    };
    outbox::scope(vec![row.clone()], work).await;
    // A batch of several people's work has the rows of all.
    let batch = vec![row.clone(), other.clone(), told("c")];
    outbox::scope(batch, change(&database, "three")).await;
    let ids: Vec<String> = written(&database).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert!(outbox::current().is_empty());
}

#[tokio::test]
async fn a_row_is_written_ahead_of_what_is_no_change_of_the_database() {
    let (_directory, database) = open().await;
    let row = told("a");
    let work = async {
        outbox::write_ahead(&database).await.unwrap();
        assert!(row.is_written());
        outbox::write_ahead(&database).await.unwrap();
        change(&database, "one").await;
    };
    outbox::scope(vec![row.clone()], work).await;
    outbox::write_ahead(&database).await.unwrap();
    assert_eq!(written(&database).await, [("a".to_owned(), 2)]);
}

#[tokio::test]
async fn a_commit_that_is_given_up_leaves_its_rows_for_the_next() {
    let (_directory, database) = open().await;
    let row = told("a");
    let work = async {
        let mut transaction = database.begin().await.unwrap();
        touch(&mut transaction, "one").await;
        let mut commit = Box::pin(transaction.commit("change"));
        // It has the row by then, and waits for the engine.
        assert!(poll_once(&mut commit).await.is_pending());
        drop(commit);
        assert!(!row.is_written());
        change(&database, "two").await;
        assert!(row.is_written());
    };
    outbox::scope(vec![row.clone()], work).await;
    assert_eq!(count(&database, "first_rows").await, 1);
}

/// Polls a future once.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context))
    })
    .await
}
