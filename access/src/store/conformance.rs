//! What every engine must do, run against each.

use api::{
    access::{Account, Token, User},
    ids::Timestamp,
};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::{Store, sqlite::SqliteStore};
use crate::audit::{self, Action};

async fn sqlite() -> SqliteStore {
    let memory = SqliteConnectOptions::new().in_memory(true);
    // One connection: each connection to an in-memory database has a database of its own.
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(memory).await.unwrap();
    SqliteStore::open(pool.clone()).await.unwrap();
    // Opening twice is what every restart does.
    SqliteStore::open(pool).await.unwrap()
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
    users_and_tokens(sqlite().await).await;
}

#[tokio::test]
async fn sqlite_keeps_the_audit_log() {
    audit_log(sqlite().await).await;
}
