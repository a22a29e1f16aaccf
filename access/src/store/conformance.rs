//! What every engine must do, run against each.

use std::path::Path;

use api::{
    access::{Account, Token, User},
    ids::Timestamp,
};
use database::Database;
use harness::postgres::{self, Cluster};

use super::{Store, sql::SqlStore};
use crate::audit::{self, Action};

async fn open(database: Database) -> SqlStore {
    SqlStore::open(database.clone()).await.unwrap();
    // Opening twice is what every restart does.
    SqlStore::open(database).await.unwrap()
}

async fn sqlite(directory: &Path) -> SqlStore {
    open(Database::open(&directory.join("db"), &[&super::sql::SCHEMA]).await.unwrap()).await
}

fn token(user: &str, name: &str) -> Token {
    Token { name: name.into(), user: user.into(), created: Timestamp(7) }
}

fn user(name: &str, admin: bool) -> User {
    User { name: name.into(), admin, account: None, comment: None }
}

async fn users_and_tokens(store: impl Store) {
    assert!(!store.has_admin().await.unwrap());
    assert!(store.add_user(&user("ann", false)).await.unwrap());
    assert!(!store.has_admin().await.unwrap());
    assert!(store.add_user(&user("admin", true)).await.unwrap());
    assert!(!store.add_user(&user("admin", false)).await.unwrap(), "a user of that name is there");
    assert!(store.has_admin().await.unwrap());
    assert_eq!(store.user("nobody").await.unwrap(), None);
    let admin = Some(user("admin", true));
    assert_eq!(store.user("admin").await.unwrap(), admin);

    assert!(store.add_token(&token("admin", "b"), [2; 32]).await.unwrap());
    assert!(store.add_token(&token("admin", "a"), [1; 32]).await.unwrap());
    assert!(store.add_token(&token("ann", "a"), [3; 32]).await.unwrap());
    assert!(!store.add_token(&token("admin", "a"), [4; 32]).await.unwrap(), "the name is taken");
    assert!(store.add_token(&token("nobody", "a"), [5; 32]).await.is_err(), "no such user");
    assert_eq!(store.tokens("admin").await.unwrap(), [token("admin", "a"), token("admin", "b")]);
    assert_eq!(store.token_owner([1; 32]).await.unwrap(), admin);
    assert_eq!(store.token_owner([4; 32]).await.unwrap(), None);

    assert!(store.remove_token("admin", "a").await.unwrap());
    assert!(!store.remove_token("admin", "a").await.unwrap());
    assert_eq!(store.token_owner([1; 32]).await.unwrap(), None);
    assert!(store.token_owner([3; 32]).await.unwrap().is_some(), "the other user's token stays");

    let account = Some(Account { uid: 1001, gid: 100, groups: vec![7, 4_000_000_000] });
    let ann = User { account, comment: Some("at the lab".into()), ..user("ann", false) };
    assert!(store.change_user(&ann).await.unwrap());
    assert_eq!(store.users().await.unwrap(), [user("admin", true), ann.clone()]);
    assert_eq!(store.token_owner([3; 32]).await.unwrap(), Some(ann));
    assert!(!store.change_user(&user("nobody", true)).await.unwrap());
    assert!(store.remove_user("ann").await.unwrap());
    assert!(!store.remove_user("ann").await.unwrap());
    assert_eq!(store.token_owner([3; 32]).await.unwrap(), None, "its tokens go with it");
}

async fn audit_log(store: impl Store) {
    assert_eq!(store.last_audit().await.unwrap(), None);
    let mut lines = Vec::new();
    for subject in ["/a", "/b", "/c"] {
        let what = Action { principal: "admin", action: "POST", subject, outcome: "200" };
        let line = audit::next(lines.last(), what, Timestamp(5));
        store.append_audit(&line).await.unwrap();
        lines.push(line);
    }
    assert!(store.append_audit(&lines[1]).await.is_err(), "a line is written once");
    assert_eq!(store.last_audit().await.unwrap().as_ref(), lines.last());
    assert_eq!(store.audit_after(0, 2).await.unwrap(), lines[..2]);
    assert_eq!(store.audit_after(2, 9).await.unwrap(), lines[2..]);
    let newest: Vec<_> = store.newest_audit(2).await.unwrap().iter().map(|line| line.number).collect();
    assert_eq!(newest, [3, 2]);
}

#[tokio::test]
async fn sqlite_keeps_users_and_tokens() {
    let directory = tempfile::tempdir().unwrap();
    users_and_tokens(sqlite(directory.path()).await).await;
}

#[tokio::test]
async fn sqlite_keeps_the_audit_log() {
    let directory = tempfile::tempdir().unwrap();
    audit_log(sqlite(directory.path()).await).await;
}

/// The same statements and migrations on the second engine: that the text is one is proved here.
#[tokio::test]
async fn privileged_postgresql_keeps_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(directory.path()).unwrap();
    let options = sqlx::postgres::PgConnectOptions::new_without_pgpass()
        .socket(cluster.socket_directory())
        .username(postgres::USER)
        .database("postgres");
    let database = Database::open_postgres(options).await.unwrap();
    users_and_tokens(open(database.clone()).await).await;
    audit_log(open(database.clone()).await).await;

    // A transaction that failed leaves no connection behind here either.
    let mut transaction = database.begin().await.unwrap();
    let text = "INSERT INTO access_users (name, admin) VALUES ($1, $2)";
    let add = || database::statement("add a user", text).bind("ben").bind(false);
    add().execute(&mut transaction).await.unwrap();
    assert!(add().execute(&mut transaction).await.is_err());
    assert!(transaction.commit("add users").await.is_err());
    let store = open(database.clone()).await;
    assert_eq!(store.user("ben").await.unwrap(), None);
    let mut transaction = database.begin().await.unwrap();
    add().execute(&mut transaction).await.unwrap();
    transaction.commit("add a user").await.unwrap();
    assert_eq!(store.user("ben").await.unwrap(), Some(user("ben", false)));
    database.close().await;
}
