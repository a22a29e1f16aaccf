//! What every engine must do, run against each.

use std::path::Path;

use api::{
    access::{Account, Token, User},
    ids::Timestamp,
    rights,
};
use database::Database;
use harness::postgres::{self, Cluster};

use super::{Store, quotas::StoredLimits, sql::SqlStore, tokens::OwnedToken};
use crate::{
    TokenCounts,
    audit::{self, Action, AuditQuery, Details, PendingRow, Request},
};

async fn open(database: Database) -> SqlStore {
    SqlStore::open(database.clone()).await.unwrap();
    // Opening twice is what every restart does.
    SqlStore::open(database).await.unwrap()
}

async fn sqlite(directory: &Path) -> SqlStore {
    open(Database::open(&directory.join("db"), &[&super::sql::SCHEMA]).await.unwrap()).await
}

fn token(user: &str, name: &str) -> Token {
    Token {
        name: name.into(),
        user: user.into(),
        created: Timestamp(7),
        expires: None,
        scope: None,
        last_used: None,
        last_source: None,
    }
}

fn user(name: &str, admin: bool) -> User {
    User { name: name.into(), admin, account: None, comment: None }
}

fn limits(is_admin: bool, own: &[(&str, Option<u64>)]) -> StoredLimits {
    StoredLimits {
        is_admin,
        own: own.iter().map(|(name, limit)| ((*name).to_owned(), *limit)).collect(),
    }
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
    let kept = [([1; 32], token("admin", "a")), ([2; 32], token("admin", "b"))];
    assert_eq!(store.tokens("admin").await.unwrap(), kept);
    assert_eq!(owner(&store, 1).await, admin);
    assert_eq!(owner(&store, 4).await, None);

    assert!(store.remove_token("admin", "a").await.unwrap());
    assert!(!store.remove_token("admin", "a").await.unwrap());
    assert_eq!(owner(&store, 1).await, None);
    assert!(owner(&store, 3).await.is_some(), "the other user's token stays");

    let account = Some(Account { uid: 1001, gid: 100, groups: vec![7, 4_000_000_000] });
    let ann = User { account, comment: Some("at the lab".into()), ..user("ann", false) };
    assert!(store.change_user(&ann).await.unwrap());
    assert_eq!(store.users().await.unwrap(), [user("admin", true), ann.clone()]);
    assert_eq!(owner(&store, 3).await, Some(ann));
    assert!(!store.change_user(&user("nobody", true)).await.unwrap());
    assert_eq!(store.limits("nobody").await.unwrap(), None);
    assert_eq!(store.limits("admin").await.unwrap(), Some(limits(true, &[])));
    for own in [&[("logs", Some(5)), ("tasks", None)][..], &[("logs", Some(1 << 62))]] {
        store.set_limits("ann", &limits(false, own).own).await.unwrap();
        assert_eq!(store.limits("ann").await.unwrap(), Some(limits(false, own)));
    }
    assert!(store.set_limits("nobody", &limits(false, &[]).own).await.is_err(), "no such user");
    assert_eq!(store.sessions_of("ann").await.unwrap(), 0);
    assert!(store.remove_user("ann").await.unwrap());
    assert!(!store.remove_user("ann").await.unwrap());
    assert_eq!(owner(&store, 3).await, None, "its tokens go with it");
}

async fn owner(store: &impl Store, hash: u8) -> Option<User> {
    store.owned_token([hash; 32]).await.unwrap().map(|token| token.owner)
}

async fn ends_and_scopes(store: impl Store) {
    assert!(store.add_user(&user("eve", true)).await.unwrap());
    assert!(store.add_user(&user("ann", false)).await.unwrap());
    let scope = Some(vec![rights::Action::WhoAmI, rights::Action::NodeList]);
    let ends = |name: &str, at: i64| Token { expires: Some(Timestamp(at)), ..token("eve", name) };
    let scoped = Token { scope: scope.clone(), ..ends("scoped", 50) };
    assert!(store.add_token(&ends("ends", 20), [11; 32]).await.unwrap());
    assert!(store.add_token(&scoped, [12; 32]).await.unwrap());
    assert!(store.add_token(&token("ann", "old"), [13; 32]).await.unwrap());
    let found = store.owned_token([12; 32]).await.unwrap();
    let (owner, name, created) = (user("eve", true), "scoped".to_owned(), Timestamp(7));
    assert_eq!(
        found,
        Some(OwnedToken { owner, name, created, expires: Some(Timestamp(50)), scope })
    );

    let of_admins = async |now: i64| store.tokens_of_admins(Timestamp(now)).await.unwrap();
    assert_eq!(
        of_admins(19).await,
        [("eve".to_owned(), "ends".to_owned())],
        "no scope, an admin's"
    );
    assert_eq!(of_admins(20).await, [], "it has ended");
    let to_mend = async |now: i64, soon: i64, limit: u32| {
        let found = store.tokens_to_mend(Timestamp(now), Timestamp(soon), limit).await.unwrap();
        found.into_iter().map(|token| token.name).collect::<Vec<_>>()
    };
    assert_eq!(to_mend(17, 20, 9).await, ["ends", "old"]);
    assert_eq!(to_mend(16, 20, 9).await, ["old"], "more than a quarter of its life is left");
    assert_eq!(to_mend(17, 19, 9).await, ["old"], "it does not end soon");
    assert_eq!(to_mend(20, 49, 9).await, ["old"], "what has ended is mended");
    assert_eq!(to_mend(40, 50, 1).await, ["scoped"], "the first to end first");
    let counts = store.count_tokens_to_mend(Timestamp(40), Timestamp(50)).await.unwrap();
    assert_eq!(counts, TokenCounts { without_end: 1, end_soon: 1 });

    // Both or neither: the hash is taken.
    assert!(store.replace_token(&token("eve", "ends"), [12; 32]).await.is_err());
    assert!(store.owned_token([11; 32]).await.unwrap().is_some(), "what cannot be replaced stays");
    store.replace_token(&token("eve", "ends"), [14; 32]).await.unwrap();
    assert_eq!(store.owned_token([11; 32]).await.unwrap(), None);
    assert_eq!(store.owned_token([14; 32]).await.unwrap().unwrap().expires, None);
    store.replace_token(&token("eve", "new"), [15; 32]).await.unwrap();
    assert!(store.owned_token([15; 32]).await.unwrap().is_some(), "there was none to replace");

    store.note_token_use([13; 32], Timestamp(9), Some("10.0.0.7".to_owned())).await.unwrap();
    let used = Token {
        last_used: Some(Timestamp(9)),
        last_source: Some("10.0.0.7".to_owned()),
        ..token("ann", "old")
    };
    assert_eq!(store.tokens("ann").await.unwrap(), [([13; 32], used)]);
    for name in ["eve", "ann"] {
        store.remove_user(name).await.unwrap();
    }
}

fn action(subject: &str) -> Action {
    let text = str::to_owned;
    let details = Details {
        object: text("node n1"),
        difference: text(r#"{"a":[1,2]}"#),
        source: text("2001:db8::1"),
        token: text("ci"),
    };
    Action {
        principal: text("admin"),
        action: text("POST"),
        subject: subject.to_owned(),
        outcome: text("200"),
        details,
    }
}

async fn audit_log(store: impl Store) {
    assert_eq!(store.last_audit().await.unwrap(), None);
    let mut lines = Vec::new();
    for subject in ["/a", "/b", "/c"] {
        let line = audit::next(lines.last(), action(subject), Timestamp(5));
        store.chain(&[(line.number, line.clone())]).await.unwrap();
        lines.push(line);
    }
    assert!(store.chain(&[(9, lines[1].clone())]).await.is_err(), "a row is written once");
    assert_eq!(store.last_audit().await.unwrap().as_ref(), lines.last());
    assert_eq!(store.audit_after(0, 2).await.unwrap(), lines[..2]);
    assert_eq!(store.audit_after(2, 9).await.unwrap(), lines[2..]);
    let found = async |bottom, top, query: AuditQuery, limit| {
        let found = store.audit_between(bottom, top, &query, limit).await.unwrap();
        found.iter().map(|line| line.number).collect::<Vec<_>>()
    };
    assert_eq!(found(0, 9, AuditQuery::default(), 2).await, [3, 2]);
    assert_eq!(found(1, 3, AuditQuery::default(), 9).await, [2]);
    let of = |principal: &str, action: &str, since: i64| AuditQuery {
        principal: Some(principal.to_owned()),
        action: Some(action.to_owned()),
        since: Some(Timestamp(since)),
    };
    assert_eq!(found(0, 9, of("admin", "POST", 5), 9).await, [3, 2, 1]);
    for query in [of("ann", "POST", 5), of("admin", "DELETE", 5), of("admin", "POST", 6)] {
        assert_eq!(found(0, 9, query, 9).await, Vec::<u64>::new());
    }

    let pending = |id: u64, outcome: Option<&str>| {
        let request = Request {
            principal: "ann",
            action: "POST",
            subject: "/v1/tokens",
            source: "192.0.2.1".to_owned(),
            token: "ci".to_owned(),
        };
        PendingRow::new(id, Timestamp(7), request, outcome)
    };
    for id in [20, 10] {
        assert!(store.put_pending(&pending(id, Some("201"))).await.unwrap());
    }
    assert_eq!(store.newest_pending().await.unwrap(), 20);
    assert!(!store.put_pending(&pending(10, Some("404"))).await.unwrap(), "the number is taken");
    let rows = store.pending(0, 9).await.unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row.id, row.outcome.as_str())).collect();
    assert_eq!(told, [(10, "201"), (20, "201")]);
    let details =
        Details { source: "192.0.2.1".to_owned(), token: "ci".to_owned(), ..Details::default() };
    assert_eq!((rows[0].principal.as_str(), &rows[0].details), ("ann", &details));
    assert_eq!(store.pending(10, 9).await.unwrap(), rows[1..]);
    let line = audit::next(lines.last(), action("/d"), Timestamp(7));
    store.chain(&[(10, line)]).await.unwrap();
    assert_eq!(store.pending(0, 9).await.unwrap(), rows[1..], "what is chained is not pending");
}

#[tokio::test]
async fn sqlite_keeps_users_and_tokens() {
    let directory = tempfile::tempdir().unwrap();
    users_and_tokens(sqlite(directory.path()).await).await;
}

#[tokio::test]
async fn sqlite_keeps_ends_and_scopes() {
    let directory = tempfile::tempdir().unwrap();
    ends_and_scopes(sqlite(directory.path()).await).await;
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
    // It removes what it makes.
    ends_and_scopes(open(database.clone()).await).await;
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
