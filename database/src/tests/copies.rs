//! The copy that is kept before tables change, and the way back to it.

use std::path::{Path, PathBuf};

use super::{FIRST, count};
use crate::{Database, OpenError, Schema, Step, statement};

/// Releases of the second role, each with a step more.
static RELEASES: [Schema; 4] = [release(1), release(2), release(3), release(4)];

const STEPS: &[Step] = &[
    Step::sql("1", "CREATE TABLE second_a (id TEXT)"),
    Step::sql("2", "CREATE TABLE second_b (id TEXT)"),
    Step::sql("3", "CREATE TABLE second_c (id TEXT)"),
    Step::sql("4", "CREATE TABLE second_d (id TEXT)"),
];

const fn release(steps: usize) -> Schema {
    Schema::new("second", "second_migrations", STEPS.split_at(steps).0)
}

async fn upgrade(path: &Path, second: &Schema) -> Result<Database, OpenError> {
    let database = Database::open(path, &[&FIRST, second]).await?;
    database.migrate(&FIRST).await.unwrap();
    database.migrate(second).await.unwrap();
    Ok(database)
}

fn copies(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("before"))
        .collect();
    names.sort();
    names
}

async fn add(database: &Database, id: &str) {
    let text = "INSERT INTO first_rows (id, number) VALUES ($1, 1)";
    statement("add", text).bind(id).execute(database).await.unwrap();
}

fn database() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    (directory, path)
}

#[tokio::test]
async fn a_copy_is_kept_before_tables_change_and_old_ones_go() {
    let (_directory, path) = database();
    for (release, expected) in RELEASES.iter().zip([
        &[][..],
        &["db.before-3"],
        &["db.before-3", "db.before-4"],
        &["db.before-4", "db.before-5"],
    ]) {
        for _ in 0..2 {
            let database = upgrade(&path, release).await.unwrap();
            assert_eq!(copies(&path), expected, "a new file needs none, a restart neither");
            database.close().await;
        }
        let database = upgrade(&path, release).await.unwrap();
        add(&database, &format!("by release {}", release.version())).await;
        database.close().await;
    }
    let copy = Database::open(&path.with_file_name("db.before-5"), &[]).await.unwrap();
    assert_eq!(count(&copy, "first_rows").await, 3, "all that was there before the last release");
}

#[tokio::test]
async fn a_newer_database_is_refused_with_the_way_back() {
    let (_directory, path) = database();
    let old = upgrade(&path, &RELEASES[0]).await.unwrap();
    add(&old, "by the old one").await;
    old.close().await;
    let new = upgrade(&path, &RELEASES[1]).await.unwrap();
    add(&new, "by the new one").await;
    new.close().await;
    let bytes = std::fs::read(&path).unwrap();
    let refused = upgrade(&path, &RELEASES[0]).await.unwrap_err().to_string();
    for part in ["second have version 2", "up to 1", "downgrade is not possible"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was changed");
    // The advice, word for word, is the way back.
    let advice = refused.split("with the server stopped: ").nth(1).unwrap();
    #[expect(clippy::disallowed_methods, reason = "what an admin pastes into a shell")]
    let pasted = std::process::Command::new("sh").args(["-c", advice]).status().unwrap();
    assert!(pasted.success());
    let old = upgrade(&path, &RELEASES[0]).await.unwrap();
    assert_eq!(count(&old, "first_rows").await, 1);
    old.close().await;
    // Without a copy it says so.
    upgrade(&path, &RELEASES[1]).await.unwrap().close().await;
    std::fs::remove_file(path.with_file_name("db.before-3")).unwrap();
    let refused = upgrade(&path, &RELEASES[0]).await.unwrap_err().to_string();
    assert!(refused.contains("No copy that this release can read"), "{refused}");
}

#[tokio::test]
async fn an_interrupted_migration_does_not_overwrite_the_copy_of_before() {
    static FIRST_LATER: Schema = Schema::new(
        "first",
        "first_migrations",
        &[Step::sql("first", "CREATE TABLE first_rows (id TEXT, number BIGINT)"), Step::code("2")],
    );
    let (_directory, path) = database();
    static FIRST_EARLIER: Schema = Schema::new(
        "first",
        "first_migrations",
        &[Step::sql("first", "CREATE TABLE first_rows (id TEXT, number BIGINT)")],
    );
    let old = Database::open(&path, &[&FIRST_EARLIER, &RELEASES[0]]).await.unwrap();
    old.migrate(&FIRST_EARLIER).await.unwrap();
    old.migrate(&RELEASES[0]).await.unwrap();
    old.close().await;
    // One role has migrated, the other has not, and what the new release writes is there.
    let halfway = Database::open(&path, &[&FIRST_LATER, &RELEASES[1]]).await.unwrap();
    halfway.migrate(&RELEASES[1]).await.unwrap();
    add(&halfway, "by the new one").await;
    halfway.close().await;
    // A copy that was being written when the server was killed is no copy.
    std::fs::write(path.with_file_name("db.before-4.part"), "half").unwrap();
    Database::open(&path, &[&FIRST_LATER, &RELEASES[1]]).await.unwrap().close().await;
    let copy = Database::open(&path.with_file_name("db.before-4"), &[&RELEASES[0]]).await.unwrap();
    assert_eq!(count(&copy, "first_rows").await, 0);
    copy.close().await;
    // A copy of the same state may be an old one, that was restored: it is made again.
    std::fs::copy(path.with_file_name("db.before-4"), &path).unwrap();
    let restored = Database::open(&path, &[&FIRST_EARLIER, &RELEASES[0]]).await.unwrap();
    add(&restored, "after the way back").await;
    restored.close().await;
    Database::open(&path, &[&FIRST_LATER, &RELEASES[1]]).await.unwrap().close().await;
    let copy = Database::open(&path.with_file_name("db.before-4"), &[&RELEASES[0]]).await.unwrap();
    assert_eq!(count(&copy, "first_rows").await, 1);
}
