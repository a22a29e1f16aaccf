//! What the database tells of itself, as it reads in a scrape.

use metrics::Exposition;

use super::open;
use crate::{Database, Transaction, statement};

/// The value of a sample.
fn sample(database: &Database, sample: &str) -> f64 {
    let mut out = Exposition::new();
    database.expose(&mut out);
    let text = out.finish();
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample}:\n{text}")).parse().unwrap()
}

fn transactions(database: &Database) -> [f64; 3] {
    ["committed", "rolled-back", "failed"].map(|outcome| {
        sample(database, &format!("bedplate_database_transactions_total{{outcome=\"{outcome}\"}}"))
    })
}

fn failures(database: &Database) -> [f64; 2] {
    ["constraint", "engine"].map(|cause| {
        sample(
            database,
            &format!("bedplate_database_statement_failures_total{{cause=\"{cause}\"}}"),
        )
    })
}

async fn add(transaction: &mut Transaction, id: &str) -> bool {
    let text = "INSERT INTO first_rows (id, number) VALUES ($1, 1)";
    statement("add a row", text).bind(id).execute(transaction).await.is_ok()
}

#[tokio::test]
async fn transactions_are_counted_by_how_they_ended() {
    let (_directory, database) = open().await;
    let [committed, rolled_back, failed] = transactions(&database);
    let (waits, commits) = (
        sample(&database, "bedplate_database_wait_seconds_count"),
        sample(&database, "bedplate_database_commit_seconds_count"),
    );
    for number in 0..3 {
        let mut transaction = database.begin().await.unwrap();
        assert!(add(&mut transaction, &format!("n{number}")).await);
        transaction.commit("add").await.unwrap();
    }
    database.begin().await.unwrap().rollback().await.unwrap();
    let mut transaction = database.begin().await.unwrap();
    assert!(!add(&mut transaction, "n0").await, "it is there");
    assert!(transaction.commit("add").await.is_err());
    drop(database.begin().await.unwrap());
    assert_eq!(transactions(&database), [committed + 3.0, rolled_back + 1.0, failed + 2.0]);
    assert_eq!(failures(&database), [1.0, 0.0]);
    assert_eq!(sample(&database, "bedplate_database_wait_seconds_count"), waits + 6.0);
    assert_eq!(sample(&database, "bedplate_database_commit_seconds_count"), commits + 3.0);
    let text = "DELETE FROM first_rows WHERE id = 'n0'";
    statement("delete a row", text).execute(&database).await.unwrap();
    assert_eq!(sample(&database, "bedplate_database_commit_seconds_count"), commits + 4.0);
    assert_eq!(sample(&database, "bedplate_database_writable"), 1.0, "a constraint is no failure");
    assert!(sample(&database, "bedplate_database_file_bytes{file=\"main\"}") > 0.0);
    assert!(sample(&database, "bedplate_database_file_bytes{file=\"wal\"}") > 0.0);
    let connections =
        |state| sample(&database, &format!("bedplate_database_connections{{state=\"{state}\"}}"));
    assert!(connections("idle") + connections("used") >= 1.0);
}

#[tokio::test]
async fn a_write_that_the_disk_refuses_shows_until_the_next_that_goes_through() {
    let (_directory, database) = open().await;
    let mut transaction = database.begin().await.unwrap();
    // As a full disk: the file may not grow. It holds for this connection alone, which ends.
    statement("limit", "PRAGMA max_page_count = 1")
        .fetch_one::<(i64,)>(&mut transaction)
        .await
        .unwrap();
    let large = "INSERT INTO first_rows (id, number) VALUES (hex(zeroblob(1000000)), 1)";
    assert!(statement("fill", large).execute(&mut transaction).await.is_err());
    drop(transaction);
    assert_eq!(sample(&database, "bedplate_database_writable"), 0.0);
    assert_eq!(failures(&database), [0.0, 1.0]);
    let read = statement("read", "SELECT COUNT(*) FROM first_rows");
    assert_eq!(read.fetch_one::<(i64,)>(&database).await.unwrap().0, 0);
    assert_eq!(sample(&database, "bedplate_database_writable"), 0.0, "reading proves nothing");
    let mut transaction = database.begin().await.unwrap();
    assert!(add(&mut transaction, "n1").await);
    transaction.commit("add").await.unwrap();
    assert_eq!(sample(&database, "bedplate_database_writable"), 1.0);
    assert!(sample(&database, "bedplate_database_last_write_timestamp_seconds") > 1.7e9);
}
