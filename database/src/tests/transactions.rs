//! One transaction over roles, and what becomes of connections whose transaction failed.

use std::time::Duration;

use super::{count, open};
use crate::{
    Database, DatabaseError, Json, MAX_TRANSACTION, Number, Parsed, Transaction, Value, statement,
};

async fn add(transaction: &mut Transaction, table: &str, id: &str) -> Result<u64, DatabaseError> {
    let text = match table {
        "first" => "INSERT INTO first_rows (id, number) VALUES ($1, 1)",
        "second" => "INSERT INTO second_rows (id) VALUES ($1)",
        _ => "INSERT INTO first_touchy (id) VALUES ($1)",
    };
    statement("add a row", text).bind(id).execute(transaction).await
}

/// Leaves a mark on every connection of the pool: its own temporary table.
async fn mark(database: &Database) {
    let mut open = Vec::new();
    for _ in 0..8 {
        // A reader's transaction holds the connection and hinders nobody.
        let mut transaction = Transaction::deferred(database).await.unwrap();
        let text = "CREATE TEMP TABLE IF NOT EXISTS mark (id BIGINT)";
        statement("mark", text).execute(&mut transaction).await.unwrap();
        open.push(transaction);
    }
    for transaction in open {
        transaction.commit("mark").await.unwrap();
    }
}

/// How many connections of the pool bear no mark, being new ones. Then all bear it.
async fn replaced(database: &Database) -> usize {
    let (mut open, mut marked) = (Vec::new(), 0);
    for _ in 0..8 {
        let mut transaction = Transaction::deferred(database).await.unwrap();
        let text = "SELECT COUNT(*) FROM temp.sqlite_master WHERE name = 'mark'";
        let found = statement("look", text).fetch_one::<(i64,)>(&mut transaction).await.unwrap();
        marked += usize::try_from(found.0).unwrap();
        open.push(transaction);
    }
    for transaction in open {
        transaction.commit("look").await.unwrap();
    }
    mark(database).await;
    8 - marked
}

#[tokio::test]
async fn two_roles_write_in_one_transaction() {
    let (_directory, database) = open().await;
    let mut transaction = database.begin().await.unwrap();
    // In this order only a transaction can: the reference is checked at its end.
    add(&mut transaction, "second", "a").await.unwrap();
    add(&mut transaction, "first", "a").await.unwrap();
    assert_eq!(count(&database, "first_rows").await, 0, "nobody sees it before it is committed");
    transaction.commit("add").await.unwrap();
    assert_eq!(count(&database, "second_rows").await, 1);

    let mut transaction = database.begin().await.unwrap();
    add(&mut transaction, "first", "b").await.unwrap();
    transaction.rollback().await.unwrap();
    let mut dropped = database.begin().await.unwrap();
    add(&mut dropped, "first", "c").await.unwrap();
    drop(dropped);
    let mut transaction = database.begin().await.unwrap();
    add(&mut transaction, "first", "d").await.unwrap();
    assert!(add(&mut transaction, "first", "d").await.is_err());
    let refused = add(&mut transaction, "first", "e").await;
    assert!(matches!(refused, Err(DatabaseError::Failed { .. })), "{refused:?}");
    let refused = transaction.commit("commit").await;
    assert!(matches!(refused, Err(DatabaseError::Failed { .. })), "{refused:?}");
    assert_eq!(count(&database, "first_rows").await, 1);
}

#[tokio::test]
async fn a_connection_whose_transaction_failed_is_never_used_again() {
    let (_directory, database) = open().await;
    mark(&database).await;
    assert_eq!(replaced(&database).await, 0, "good transactions leave their connections");

    // A statement that fails.
    let mut transaction = database.begin().await.unwrap();
    add(&mut transaction, "first", "a").await.unwrap();
    assert!(add(&mut transaction, "first", "a").await.is_err());
    drop(transaction);
    assert_eq!(replaced(&database).await, 1);

    // A statement whose failure ends the transaction behind our back, then a rollback.
    let mut transaction = database.begin().await.unwrap();
    add(&mut transaction, "touchy", "a").await.unwrap();
    assert!(add(&mut transaction, "touchy", "a").await.is_err());
    transaction.rollback().await.unwrap();
    assert_eq!(replaced(&database).await, 1);

    // A commit that fails: the reference leads nowhere.
    let mut transaction = database.begin().await.unwrap();
    add(&mut transaction, "second", "nobody").await.unwrap();
    assert!(transaction.commit("commit").await.is_err());
    assert_eq!(replaced(&database).await, 1);

    // A rollback that fails: the engine has ended the transaction already.
    let mut transaction = database.begin().await.unwrap();
    statement("end", "COMMIT").execute(&mut transaction).await.unwrap();
    assert!(transaction.rollback().await.is_err());
    assert_eq!(replaced(&database).await, 1);

    // Dropped half way, as by an error of the caller.
    let mut transaction = database.begin().await.unwrap();
    add(&mut transaction, "first", "b").await.unwrap();
    drop(transaction);
    assert_eq!(replaced(&database).await, 1);

    // A statement that is given up while it runs; its transaction is not, and takes no more.
    let mut transaction = database.begin().await.unwrap();
    let long = "INSERT INTO first_rows WITH RECURSIVE n (i) AS
                  (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
                SELECT 'n' || i, i FROM n";
    let running = statement("fill", long).execute(&mut transaction);
    assert!(tokio::time::timeout(Duration::from_millis(5), running).await.is_err());
    assert!(add(&mut transaction, "first", "c").await.is_err());
    drop(transaction);
    assert_eq!(replaced(&database).await, 1);

    assert_eq!(count(&database, "first_rows").await, 0);
    let mut transaction = database.begin().await.unwrap();
    add(&mut transaction, "first", "a").await.unwrap();
    transaction.commit("commit").await.unwrap();
    assert_eq!(replaced(&database).await, 0, "the rest is as good as ever");
}

#[tokio::test]
async fn a_transaction_past_its_time_takes_no_statement() {
    let (_directory, database) = open().await;
    let mut transaction = database.begin().await.unwrap();
    add(&mut transaction, "first", "a").await.unwrap();
    transaction.age(MAX_TRANSACTION);
    let refused = add(&mut transaction, "first", "b").await;
    assert!(matches!(refused, Err(DatabaseError::TooLong { .. })), "{refused:?}");
    assert!(transaction.commit("commit").await.is_err());
    // What was written in time and only committed late is whole.
    let mut transaction = database.begin().await.unwrap();
    add(&mut transaction, "first", "c").await.unwrap();
    transaction.age(MAX_TRANSACTION);
    transaction.commit("commit").await.unwrap();
    // A migration takes what it takes.
    let mut transaction = database.begin_long().await.unwrap();
    transaction.age(MAX_TRANSACTION);
    add(&mut transaction, "first", "d").await.unwrap();
    transaction.commit("commit").await.unwrap();
    assert_eq!(count(&database, "first_rows").await, 2);
}

#[tokio::test]
async fn rows_of_a_batch_share_a_statement() {
    let (_directory, database) = open().await;
    let rows = |numbers: std::ops::Range<u32>| {
        numbers.map(|n| [Value::from(format!("n{n}")), Value::from(n)])
    };
    let insert = || statement("fill", "INSERT INTO first_rows (id, number)");
    let rest = "ON CONFLICT (id) DO UPDATE SET number = excluded.number";
    assert_eq!(insert().rows(rows(0..3), rest).execute(&database).await.unwrap(), 3);
    assert_eq!(insert().rows(rows(1..5), rest).execute(&database).await.unwrap(), 4);
    assert_eq!(count(&database, "first_rows").await, 5);
}

#[derive(Debug, sqlx::FromRow)]
struct Columns {
    id: Parsed<std::net::Ipv4Addr>,
    number: Number<u8>,
    list: Json<Vec<u32>>,
    none: Option<Number<u32>>,
}

#[tokio::test]
async fn an_invalid_row_is_named_with_its_column() {
    let (_directory, database) = open().await;
    let row = |id: &str, number: i64, list: &str| {
        let text = "SELECT $1 AS id, $2 AS number, $3 AS list, $4 AS none";
        let row = statement("read an address", text).bind(id).bind(number).bind(list);
        row.bind(None::<i64>).fetch_one::<Columns>(&database)
    };
    let good = row("10.0.0.1", 200, "[1, 2]").await.unwrap();
    assert_eq!((good.id.0.octets(), good.number.0), ([10, 0, 0, 1], 200));
    assert_eq!((good.list.0, good.none), (vec![1, 2], None));
    for (id, number, list, column) in
        [("10.0.0", 1, "[]", "id"), ("10.0.0.2", 256, "[]", "number"), ("10.0.0.3", 1, "[", "list")]
    {
        let error = row(id, number, list).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.to_string().contains(&format!("the row of {id} is invalid")), "{error}");
        assert!(cause.contains(column), "{cause}");
    }
}
