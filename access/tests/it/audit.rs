//! The audit log: a change and its row are one, the chain is whole, and nobody drowns it.

use std::sync::{Arc, Mutex};

use access::{Access, AccessError, AuditHeads, BrokenChain, Routes, verify_head};
use api::{
    access::{AuditEntry, AuditHead},
    rights::Action,
};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Method, Request, StatusCode},
};
use database::{
    Database,
    outbox::{self, OutboxRow},
    statement,
};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::ServiceExt as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::routes;

use crate::{Site, database, line, site, site_with_ann};

/// A role whose changes never end: what a server does at the moment at which it is killed.
#[derive(Debug, Clone)]
struct Stuck {
    database: Database,
    reached: Arc<Notify>,
}

async fn add_user(database: &Database, name: &str) {
    let text = "INSERT INTO access_users (name, admin) VALUES ($1, $2)";
    statement("add a user", text).bind(name).bind(false).execute(database).await.unwrap();
}

/// In the task of the request.
#[utoipa::path(post, path = "/v1/here")]
async fn here(State(stuck): State<Stuck>) -> StatusCode {
    add_user(&stuck.database, "here").await;
    stuck.reached.notify_one();
    std::future::pending().await
}

/// In another task, in a transaction with more than one change.
#[utoipa::path(post, path = "/v1/elsewhere")]
async fn elsewhere(State(stuck): State<Stuck>) -> StatusCode {
    let work = outbox::carry(async move {
        let mut transaction = stuck.database.begin().await.unwrap();
        for name in ["elsewhere-1", "elsewhere-2"] {
            let text = "INSERT INTO access_users (name, admin) VALUES ($1, $2)";
            let add = statement("add a user", text).bind(name).bind(false);
            add.execute(&mut transaction).await.unwrap();
        }
        transaction.commit("add users").await.unwrap();
        stuck.reached.notify_one();
    });
    tokio::spawn(work).await.unwrap();
    std::future::pending().await
}

/// A file, which has no transaction: the row is written before it.
#[utoipa::path(post, path = "/v1/ahead")]
async fn ahead(State(stuck): State<Stuck>) -> StatusCode {
    outbox::write_ahead(&stuck.database).await.unwrap();
    stuck.reached.notify_one();
    std::future::pending().await
}

/// A change that is not committed.
#[utoipa::path(post, path = "/v1/undone")]
async fn undone(State(stuck): State<Stuck>) -> StatusCode {
    let mut transaction = stuck.database.begin().await.unwrap();
    let text = "INSERT INTO access_users (name, admin) VALUES ('undone', FALSE)";
    statement("add a user", text).execute(&mut transaction).await.unwrap();
    stuck.reached.notify_one();
    std::future::pending().await
}

/// Sends a request to a server of its own and kills that server when the change is made. Returns
/// what is left: the users, and the rows of the log after the admin's own.
fn killed(path: &str) -> (Vec<String>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    };
    let server = runtime();
    server.block_on(async {
        let database = database(directory.path()).await;
        let access = Access::open(database.clone()).await.unwrap();
        let token = access.create_admin_if_none().await.unwrap().unwrap();
        let stuck = Stuck { database, reached: Arc::default() };
        let routes = Routes::new()
            .route(Action::NodeEdit, routes!(here))
            .route(Action::NodeEdit, routes!(elsewhere))
            .route(Action::NodeEdit, routes!(ahead))
            .route(Action::NodeEdit, routes!(undone))
            .with_state(stuck.clone());
        let (router, _) = routes.into_parts(OpenApi::default());
        let router: Router =
            router.layer(axum::middleware::from_fn_with_state(access, access::layer));
        let request = Request::post(path).header("authorization", format!("Bearer {token}"));
        tokio::spawn(router.oneshot(request.body(Body::empty()).unwrap()));
        stuck.reached.notified().await;
    });
    // All its tasks are dropped where they are, as by a kill.
    server.shutdown_background();
    runtime().block_on(async {
        let access = Access::open(database(directory.path()).await).await.unwrap();
        let users = access.users().await.unwrap().into_iter().map(|user| user.name);
        let users = users.filter(|name| name != "admin").collect();
        let rows = access.audit(100).await.unwrap();
        let rows = rows
            .iter()
            .rev()
            .skip(1)
            .map(|row| format!("{} {} {}", row.principal, row.subject, row.outcome));
        let rows: Vec<String> = rows.collect();
        assert_eq!(access.verify_audit().await.unwrap(), 1 + rows.len() as u64);
        (users, rows)
    })
}

#[test]
fn a_change_of_a_server_that_was_killed_before_it_answered_has_its_row() {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(killed("/v1/here"), (owned(&["here"]), owned(&["admin /v1/here committed"])));
    let both = owned(&["elsewhere-1", "elsewhere-2"]);
    assert_eq!(killed("/v1/elsewhere"), (both, owned(&["admin /v1/elsewhere committed"])));
    assert_eq!(killed("/v1/ahead"), (owned(&[]), owned(&["admin /v1/ahead begun"])));
    assert_eq!(killed("/v1/undone"), (owned(&[]), owned(&[])), "what was not changed is not told");
}

/// Work that waits for somebody else, with the rows of its requests.
type Queue = Arc<Mutex<Vec<OutboxRow>>>;

/// Answers when it has waited long enough.
#[utoipa::path(post, path = "/v1/later")]
async fn later(State(queue): State<Queue>) -> StatusCode {
    queue.lock().unwrap().extend(outbox::current());
    StatusCode::SERVICE_UNAVAILABLE
}

/// A request that has been answered, and the work of it that waits.
async fn answered_before_its_change() -> (Site, Queue) {
    let site = site().await;
    let token = site.access.create_admin_if_none().await.unwrap().unwrap();
    let queue = Queue::default();
    let routes = Routes::new().route(Action::NodeEdit, routes!(later)).with_state(queue.clone());
    let (router, _) = routes.into_parts(OpenApi::default());
    let layer = axum::middleware::from_fn_with_state(site.access.clone(), access::layer);
    let router: Router = router.layer(layer);
    let request = Request::post("/v1/later").header("authorization", format!("Bearer {token}"));
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    (site, queue)
}

/// How that request ended, by the log.
async fn later_told(site: &Site) -> Vec<String> {
    let rows = site.access.audit(10).await.unwrap().into_iter();
    rows.filter(|row| row.subject == "/v1/later").map(|row| row.outcome).collect()
}

#[tokio::test]
async fn a_request_that_is_answered_before_its_change_is_on_disk_has_one_row() {
    let (site, queue) = answered_before_its_change().await;
    assert!(later_told(&site).await.is_empty(), "nobody knows yet whether it changes something");
    let queued = std::mem::take(&mut *queue.lock().unwrap());
    outbox::scope(queued, add_user(&site.database, "later")).await;
    assert_eq!(later_told(&site).await, ["committed"]);
    site.access.close_audit().await;
    assert_eq!(later_told(&site).await, ["committed"]);
}

#[tokio::test]
async fn a_request_whose_queued_work_changes_nothing_has_one_row_too() {
    // Dropped while the server runs, and when it stops.
    for is_dropped in [true, false] {
        let (site, queue) = answered_before_its_change().await;
        if is_dropped {
            queue.lock().unwrap().clear();
            assert!(later_told(&site).await.is_empty(), "who reads writes nothing");
            let wakes = tokio::time::sleep(std::time::Duration::from_millis(100));
            site.access.run_audit_writer(wakes).await;
            assert_eq!(later_told(&site).await, ["503"]);
        }
        site.access.close_audit().await;
        assert_eq!(later_told(&site).await, ["503"], "{is_dropped}");
    }
}

async fn rows(site: &Site, query: &str, token: &str) -> Vec<Value> {
    let (status, rows) =
        site.ask(Method::GET, &format!("/v1/audit{query}"), Some(token), Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{rows}");
    rows.as_array().unwrap().clone()
}

#[tokio::test]
async fn a_row_tells_what_was_changed_how_and_with_which_token() {
    let (site, admin, ann) = site_with_ann().await;
    let user = json!({ "name": "ann", "account": { "uid": 7, "gid": 100 }, "comment": "moved" });
    site.ask(Method::PUT, "/v1/users/ann", Some(&admin), user).await;
    site.ask(Method::POST, "/v1/tokens", Some(&ann), json!({ "name": "own" })).await;
    let rows = rows(&site, "?limit=2", &admin).await;
    let told = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(told(&rows[1], "object"), "ann");
    assert_eq!(
        told(&rows[1], "difference"),
        r#"{"account.uid":[1001,7],"account.groups":[[2000],[]],"comment":[null,"moved"]}"#
    );
    assert_eq!(told(&rows[1], "token"), "first-start");
    assert_eq!(
        (told(&rows[0], "object"), told(&rows[0], "token")),
        ("token own of ann".into(), "laptop".into())
    );
    assert_eq!((rows[0]["form"].as_u64(), told(&rows[0], "outcome")), (Some(2), "201".to_owned()));
}

#[tokio::test]
async fn rows_are_read_by_user_action_and_time_and_from_the_oldest_on() {
    let (site, admin, ann) = site_with_ann().await;
    site.ask(Method::POST, "/v1/tokens", Some(&ann), json!({ "name": "own" })).await;
    site.ask(Method::DELETE, "/v1/tokens/own", Some(&ann), Value::Null).await;
    let lines = |rows: Vec<Value>| rows.iter().map(line).collect::<Vec<_>>();
    assert_eq!(
        lines(rows(&site, "?user=ann", &admin).await),
        ["5 ann DELETE /v1/tokens/own 204", "4 ann POST /v1/tokens 201"]
    );
    assert_eq!(
        lines(rows(&site, "?user=ann&action=DELETE", &admin).await),
        ["5 ann DELETE /v1/tokens/own 204"]
    );
    assert_eq!(rows(&site, "?since=9000000000000000", &admin).await.len(), 0);
    assert_eq!(
        lines(rows(&site, "?after=2&limit=2", &admin).await),
        ["3 admin POST /v1/tokens 201", "4 ann POST /v1/tokens 201"]
    );
    let (status, problem) =
        site.ask(Method::GET, "/v1/audit?after=2&user=ann", Some(&admin), Value::Null).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
}

#[tokio::test]
async fn a_flood_of_requests_that_change_nothing_has_some_rows_and_a_sum() {
    let (site, admin, ann) = site_with_ann().await;
    let before = rows(&site, "", &admin).await.len();
    for _ in 0..300 {
        site.ask(Method::POST, "/v1/users", Some(&ann), json!({ "name": "x" })).await;
        site.ask(Method::POST, "/v1/tokens", Some("bp_AAAA"), json!({ "name": "x" })).await;
    }
    // Who sends nothing wrong goes on to be told in full.
    site.ask(Method::DELETE, "/v1/users/nobody", Some(&admin), Value::Null).await;
    site.access.close_audit().await;
    let rows = rows(&site, "?limit=100", &admin).await;
    let new = rows.len() - before;
    assert!(new <= 12, "{new} rows: {rows:#?}");
    let lines: Vec<String> = rows.iter().map(line).collect();
    let has = |end: &str| lines.iter().any(|line| line.ends_with(end));
    assert!(has("admin DELETE /v1/users/nobody 404"), "{lines:?}");
    assert!(has("ann POST /v1/users 403") && has("- POST /v1/tokens 401"), "{lines:?}");
    // The flood may have lasted over the end of a minute.
    let sums = rows.iter().filter(|row| row["action"] == "repeated");
    let sums: Vec<(&str, &str)> = sums
        .map(|row| (row["principal"].as_str().unwrap(), row["outcome"].as_str().unwrap()))
        .collect();
    assert!(
        sums.iter().any(|(who, sum)| *who == "ann" && sum.contains("user-add 403 (")),
        "{sums:?}"
    );
    assert!(sums.iter().any(|(who, sum)| *who == "-" && sum.contains("nowhere (")), "{sums:?}");
    site.access.verify_audit().await.unwrap();
}

#[tokio::test]
async fn many_users_who_change_something_at_once_have_a_row_each_in_one_chain() {
    let (site, admin, _) = site_with_ann().await;
    let before = rows(&site, "", &admin).await.len() as u64;
    let requests = (0..40).map(|n| {
        let request = Request::post("/v1/tokens")
            .header("authorization", format!("Bearer {admin}"))
            .header("content-type", "application/json")
            .body(Body::from(json!({ "name": format!("t{n}") }).to_string()))
            .unwrap();
        tokio::spawn(site.router.clone().oneshot(request))
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap().unwrap().status(), StatusCode::CREATED);
    }
    let created = rows(&site, "?action=POST&limit=1000", &admin).await;
    let mut objects: Vec<&str> = created.iter().filter_map(|row| row["object"].as_str()).collect();
    objects.sort_unstable();
    objects.dedup();
    assert_eq!(site.access.verify_audit().await.unwrap(), before + 40);
    assert_eq!(objects.iter().filter(|object| object.starts_with("token t")).count(), 40);
}

#[tokio::test]
async fn a_changed_row_a_removed_row_and_a_cut_off_end_are_found() {
    let site = site().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("heads");
    let heads = AuditHeads::open(directory.path(), Some(file.clone())).unwrap();
    let key = heads.key();
    let access = site.access.clone().with_audit_heads(heads);
    for number in 1..=10 {
        access.record("server", "test", &number.to_string(), "done").await.unwrap();
    }
    access.close_audit().await;
    assert_eq!(access.verify_audit().await.unwrap(), 10);
    let head: AuditHead = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    verify_head(&head, &key).unwrap();
    let newest: Vec<AuditEntry> = access.audit(1).await.unwrap();
    assert_eq!((head.number, &head.hash), (10, &newest[0].hash));

    // Each in a log of its own: a server that is asked again reads the database again.
    let broken = async |text: &'static str| {
        let save = "CREATE TABLE saved AS SELECT * FROM access_audit";
        statement("save", save).execute(&site.database).await.unwrap();
        statement("break", text).execute(&site.database).await.unwrap();
        let access = Access::open(site.database.clone()).await.unwrap();
        let found = access.verify_audit().await;
        for text in [
            "DELETE FROM access_audit",
            "INSERT INTO access_audit SELECT * FROM saved",
            "DROP TABLE saved",
        ] {
            statement("restore", text).execute(&site.database).await.unwrap();
        }
        found
    };
    for (text, number) in [
        ("UPDATE access_audit SET principal = 'mallory' WHERE number = 4", 4),
        ("UPDATE access_audit SET source = '192.0.2.9' WHERE number = 5", 5),
        ("UPDATE access_audit SET form = 1 WHERE number = 6", 6),
    ] {
        let found = broken(text).await;
        let is_found = matches!(&found, Err(AccessError::Broken(BrokenChain::Changed { number: n })) if *n == number);
        assert!(is_found, "{text}: {found:?}");
    }
    let found = broken("DELETE FROM access_audit WHERE number BETWEEN 3 AND 7").await;
    let gap = matches!(found, Err(AccessError::Broken(BrokenChain::Gap { expected: 3, found: 8 })));
    assert!(gap, "{found:?}");
    // The end alone cannot tell that there was more: the head of row 10, which somebody has, does.
    assert_eq!(broken("DELETE FROM access_audit WHERE number > 8").await.unwrap(), 8);
    assert_eq!(broken("DELETE FROM access_audit WHERE number > 99").await.unwrap(), 10);
}

#[tokio::test]
async fn a_head_is_for_admins_and_of_the_last_row() {
    let (mut site, admin, ann) = site_with_ann().await;
    let (status, _) = site.ask(Method::GET, "/v1/audit/head", Some(&admin), Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "no key, no heads");
    let heads = AuditHeads::open(site.directory.path(), None).unwrap();
    site.access = site.access.clone().with_audit_heads(heads.clone());
    site.router = crate::router(&site.access);
    let (status, _) = site.ask(Method::GET, "/v1/audit/head", Some(&ann), Value::Null).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (_, head) = site.ask(Method::GET, "/v1/audit/head", Some(&admin), Value::Null).await;
    let head: AuditHead = serde_json::from_value(head).unwrap();
    verify_head(&head, &heads.key()).unwrap();
    let last = &rows(&site, "?limit=1", &admin).await[0];
    assert_eq!(
        (last["number"].as_u64(), last["hash"].as_str()),
        (Some(head.number), Some(head.hash.as_str()))
    );
}
