//! A row that cannot be read takes no other row with it, a column no other column.

use super::open;
use crate::{Database, Kept, Number, Parsed, statement};

async fn with_damage() -> (tempfile::TempDir, Database) {
    let (directory, database) = open().await;
    for (id, number) in [("1", "1"), ("2", "'two'"), ("three", "3"), ("4", "x'ff'"), ("5", "-5")] {
        let text = format!("INSERT INTO first_rows (id, number) VALUES ('{id}', {number})");
        statement("add", sqlx::AssertSqlSafe(text)).execute(&database).await.unwrap();
    }
    (directory, database)
}

const ROWS: &str = "SELECT id, number FROM first_rows ORDER BY id";

#[tokio::test]
async fn rows_are_read_one_by_one() {
    let (_directory, database) = with_damage().await;
    let rows = statement("read", ROWS).fetch_each::<(Parsed<u32>, Number<u32>)>(&database).await;
    let said: Vec<String> = rows
        .unwrap()
        .into_iter()
        .map(|row| row.map_or_else(|error| error.to_string(), |row| row.0.0.to_string()))
        .collect();
    let invalid = |row: &str| format!("the database could not read: the row of {row} is invalid");
    assert_eq!(said, ["1".to_owned(), invalid("2"), invalid("4"), invalid("5"), invalid("three")]);
    assert!(
        statement("read", ROWS).fetch_all::<(Parsed<u32>, Number<u32>)>(&database).await.is_err()
    );
}

#[tokio::test]
async fn a_damaged_column_leaves_the_others_of_its_row() {
    let (_directory, database) = with_damage().await;
    let rows: Vec<(String, Kept<Number<u32>>)> =
        statement("read", ROWS).fetch_all(&database).await.unwrap();
    let good = |id: &str| rows.iter().find(|row| row.0 == id).unwrap().1.0.is_ok();
    let found = ["1", "2", "three", "4", "5"].map(good);
    assert_eq!(found, [true, false, true, false, false]);
}
