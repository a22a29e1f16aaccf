//! Quotas of users: limits of their own and of everybody, tokens, requests under way.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use access::{Access, Holdings, QuotaLimits, RunningRequest, StillHeld};
use api::{
    access::User,
    quota::{Amounts, QuotaName},
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::from_fn_with_state,
    response::Response,
    routing::get,
};
use database::{Database, statement};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::ServiceExt as _;
use utoipa::openapi::OpenApi;

use crate::{database, site_with_ann};

/// Limits of everybody: the defaults, but for one.
fn limits(name: QuotaName, limit: u64) -> QuotaLimits {
    let mut limits = QuotaLimits::default();
    limits.set(name, Some(limit));
    limits
}

/// What a handler of a WebSocket keeps.
type Kept = Arc<Mutex<Vec<RunningRequest>>>;

async fn keep(State(kept): State<Kept>, running: RunningRequest) -> &'static str {
    kept.lock().unwrap().push(running);
    "kept"
}

/// The routes behind the layers of the server.
fn router(access: &Access, kept: Kept) -> Router {
    let (router, _) = access.rest().into_parts(OpenApi::default());
    router
        .merge(Router::new().route("/keep", get(keep)).with_state(kept))
        .layer(from_fn_with_state(access.clone(), access::running_requests))
        .layer(from_fn_with_state(access.clone(), access::layer))
}

async fn ask(router: &Router, path: &str, token: &str) -> Response {
    let request = Request::builder().uri(path).header("authorization", format!("Bearer {token}"));
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn read(response: Response) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}

/// A quota as it is told: used, limit, and whether it is the user's own.
fn told(quotas: &Value, name: &str) -> (u64, Option<u64>, bool) {
    let quotas = quotas["quotas"].as_array().unwrap();
    let quota = quotas.iter().find(|quota| quota["name"] == name).unwrap();
    (quota["used"].as_u64().unwrap(), quota["limit"].as_u64(), quota["own"].as_bool().unwrap())
}

#[tokio::test]
async fn requests_are_counted_until_their_answers_are_read() {
    let (site, admin, ann) = site_with_ann().await;
    let access = site.access.clone().with_quota_limits(limits(QuotaName::Requests, 2));
    let kept = Kept::default();
    let router = router(&access, kept.clone());
    let first = ask(&router, "/v1/whoami", &ann).await;
    let second = ask(&router, "/v1/whoami", &ann).await;
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    assert_eq!(access.requests_under_way(), 2, "nobody has read them");

    let refused = ask(&router, "/v1/whoami", &ann).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "5");
    let refused = read(refused).await;
    assert_eq!(
        refused["detail"],
        "ann has 2 requests and streams under way, 1 more would be past the limit of 2 (quota `requests`): \
         wait for some to end, or end watches and streams that are open; an admin can raise the limit with \
         `bedplate user set ann --quota requests=…`"
    );
    let refusals: Vec<_> = access.quota_refusals().filter(|(_, count)| *count > 0).collect();
    assert_eq!(refusals, [(QuotaName::Requests, 1)]);
    // An admin has no limit, and is not held up.
    let of_admin =
        [ask(&router, "/v1/whoami", &admin).await, ask(&router, "/v1/whoami", &admin).await];
    let more = ask(&router, "/v1/whoami", &admin).await;
    assert_eq!(more.status(), StatusCode::OK);
    drop((of_admin, more));

    // Read, or given up: both are over.
    assert_eq!(read(first).await["name"], "ann");
    assert_eq!(access.requests_under_way(), 1);
    drop(second);
    assert_eq!(access.requests_under_way(), 0);

    // A stream goes on after its answer.
    read(ask(&router, "/keep", &ann).await).await;
    read(ask(&router, "/keep", &ann).await).await;
    assert_eq!(ask(&router, "/v1/whoami", &ann).await.status(), StatusCode::TOO_MANY_REQUESTS);
    kept.lock().unwrap().clear();
    assert_eq!(ask(&router, "/v1/whoami", &ann).await.status(), StatusCode::OK);
    assert_eq!(access.requests_under_way(), 0);
}

#[tokio::test]
async fn who_became_an_admin_beside_the_server_has_an_admins_limits_within_a_second() {
    let (site, _, ann) = site_with_ann().await;
    let access = site.access.clone().with_quota_limits(limits(QuotaName::Requests, 1));
    let router = router(&access, Kept::default());
    let under_way = ask(&router, "/v1/whoami", &ann).await;
    assert_eq!(ask(&router, "/v1/whoami", &ann).await.status(), StatusCode::TOO_MANY_REQUESTS);
    // As `bedplate server recover-admin` does, in a process of its own.
    let other = Access::open(database(site.directory.path()).await).await.unwrap();
    let record = other.user("ann").await.unwrap();
    let seen = || tokio::time::sleep(std::time::Duration::from_millis(1_100));
    other.change_user(&User { admin: true, ..record.clone() }).await.unwrap();
    seen().await;
    assert_eq!(ask(&router, "/v1/whoami", &ann).await.status(), StatusCode::OK);
    assert_eq!(access.quota("ann", QuotaName::Requests).await.unwrap(), None);
    other.change_user(&record).await.unwrap();
    seen().await;
    assert_eq!(ask(&router, "/v1/whoami", &ann).await.status(), StatusCode::TOO_MANY_REQUESTS);
    drop(under_way);
}

/// A request with a body.
async fn send(
    router: &Router,
    (method, path): (Method, &str),
    token: &str,
    body: Value,
) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("authorization", format!("Bearer {token}"));
    let request = request.header("content-type", "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    (answer.status(), read(answer).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_tokens() {
    let (site, admin, ann) = site_with_ann().await;
    let access = site.access.clone().with_quota_limits(limits(QuotaName::Tokens, 5));
    let router = router(&access, Kept::default());
    let create = async |token: &str, body: Value| {
        send(&router, (Method::POST, "/v1/tokens"), token, body).await
    };
    // One is there. Of ten that are made at once four find room.
    let making = (0..10).map(|number| {
        let (router, ann) = (router.clone(), ann.clone());
        tokio::spawn(async move {
            let body = json!({"name": format!("t{number}")});
            send(&router, (Method::POST, "/v1/tokens"), &ann, body).await.0 == StatusCode::CREATED
        })
    });
    let mut made = 0;
    for one in making.collect::<Vec<_>>() {
        made += usize::from(one.await.unwrap());
    }
    assert_eq!((made, access.tokens("ann").await.unwrap().len()), (4, 5));

    let (status, refused) = create(&ann, json!({"name": "more"})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("ann has 5 tokens") && detail.contains("(quota `tokens`)"), "{detail}");
    assert!(detail.contains("`bedplate token delete`"), "{detail}");
    let (status, _) = create(&admin, json!({"name": "more", "user": "ann"})).await;
    assert_eq!(status, StatusCode::CONFLICT, "it is ann's, whoever makes it");
    let (status, _) = create(&admin, json!({"name": "more"})).await;
    assert_eq!(status, StatusCode::CREATED, "an admin has no limit");
    let tokens = access.tokens("ann").await.unwrap();
    let other = tokens.iter().find(|token| token.name != "laptop").unwrap();
    let path = format!("/v1/tokens/{}", other.name);
    let (status, _) = send(&router, (Method::DELETE, &path), &ann, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = create(&ann, json!({"name": "more"})).await;
    assert_eq!(status, StatusCode::CREATED);
}

#[tokio::test]
async fn limits_of_ones_own_go_before_those_of_everybody() {
    let (site, admin, ann) = site_with_ann().await;
    let (path, of_ann) = ("/v1/users/ann/quotas", Some(ann.as_str()));
    let (status, quotas) = site.ask(Method::GET, path, of_ann, Value::Null).await;
    assert_eq!((status, &quotas["user"]), (StatusCode::OK, &json!("ann")));
    assert_eq!(told(&quotas, "tokens"), (1, Some(100), false));
    assert_eq!(told(&quotas, "logs"), (0, Some(64 << 30), false));
    let (status, _) = site.ask(Method::GET, "/v1/users/admin/quotas", of_ann, Value::Null).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let set = async |who: &str, limits: Value| {
        site.ask(Method::PUT, path, Some(who), json!({"limits": limits})).await
    };
    assert_eq!(set(&ann, json!({"logs": null})).await.0, StatusCode::FORBIDDEN);
    for (wrong, words) in [
        (json!({"disk": 1}), "\"disk\" is no quota; there are tokens, sessions"),
        (json!({"logs": u64::MAX}), "the limit of logs is more than 9223372036854775807"),
        (json!({"requests": 0}), "the limit of requests is 1 at least"),
    ] {
        let (status, refused) = set(&admin, wrong).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(refused["detail"].as_str().unwrap().contains(words), "{refused}");
    }
    let (_, quotas) = set(&admin, json!({"tokens": 1, "logs": null})).await;
    assert_eq!(
        [told(&quotas, "tokens"), told(&quotas, "logs")],
        [(1, Some(1), true), (0, None, true)]
    );
    let (status, _) = site.ask(Method::POST, "/v1/tokens", of_ann, json!({"name": "more"})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    // Another set takes the place of all of the first.
    let (_, quotas) = set(&admin, json!({"tokens": 2})).await;
    let (_, log) =
        site.ask(Method::GET, "/v1/audit?action=PUT&limit=1", Some(&admin), Value::Null).await;
    assert_eq!(log[0]["difference"], r#"{"logs":["none",null],"tokens":[1,2]}"#);
    assert_eq!(told(&quotas, "logs"), (0, Some(64 << 30), false));
    let (_, nobody) =
        site.ask(Method::GET, "/v1/users/eve/quotas", Some(&admin), Value::Null).await;
    assert_eq!(nobody["status"], 404);

    // An admin has no limits but those of its own.
    let (_, quotas) =
        site.ask(Method::GET, "/v1/users/admin/quotas", Some(&admin), Value::Null).await;
    assert_eq!(told(&quotas, "logs"), (0, None, false));
    assert_eq!(told(&quotas, "sessions"), (0, Some(32), false));
    site.ask(Method::PUT, "/v1/users/ann", Some(&admin), json!({"name": "ann", "admin": true}))
        .await;
    assert_eq!(site.access.quota("ann", QuotaName::Logs).await.unwrap(), None);
    assert_eq!(site.access.quota("ann", QuotaName::Tokens).await.unwrap(), Some(2));

    site.database.close().await;
    let access = Access::open(database(site.directory.path()).await).await.unwrap();
    assert_eq!(
        access.quota("ann", QuotaName::Tokens).await.unwrap(),
        Some(2),
        "after a restart too"
    );
    // They go with the user.
    access.remove_user("ann").await.unwrap();
    let user =
        api::access::User { name: "ann".to_owned(), admin: false, account: None, comment: None };
    access.add_user(&user).await.unwrap();
    assert_eq!(access.quota("ann", QuotaName::Tokens).await.unwrap(), Some(100));
}

/// Frees something by a transaction of its own, and takes its time for the rest.
#[derive(Debug)]
struct Slow {
    database: Database,
    reached: Notify,
    goes_on: Notify,
}

#[async_trait::async_trait]
impl Holdings for Slow {
    fn used(&self, _: &str) -> Amounts {
        Amounts::default()
    }

    async fn let_go(&self, user: &str) -> Result<(), StillHeld> {
        let text = "UPDATE access_users SET admin = FALSE WHERE name = $1";
        statement("free something", text).bind(user).execute(&self.database).await.unwrap();
        self.reached.notify_one();
        self.goes_on.notified().await;
        Ok(())
    }

    fn let_in(&self, _: &str) {}
}

#[tokio::test]
async fn a_removal_that_takes_long_is_told_whole_and_holds_up_nobody() {
    let (site, admin, _) = site_with_ann().await;
    let (reached, goes_on) = (Notify::new(), Notify::new());
    let slow = Arc::new(Slow { database: site.database.clone(), reached, goes_on });
    site.access.query_holdings(slow.clone());
    let removal = site.ask(Method::DELETE, "/v1/users/ann", Some(&admin), Value::Null);
    let meanwhile = async {
        slow.reached.notified().await;
        let user = api::access::User {
            name: "ben".to_owned(),
            admin: false,
            account: None,
            comment: None,
        };
        let added = tokio::time::timeout(Duration::from_secs(5), site.access.add_user(&user)).await;
        added.expect("another user is added while one goes").unwrap();
        slow.goes_on.notify_one();
    };
    let ((status, _), ()) = tokio::join!(removal, meanwhile);
    assert!(status.is_success(), "{status}");
    let (_, log) =
        site.ask(Method::GET, "/v1/audit?action=DELETE", Some(&admin), Value::Null).await;
    assert_eq!(log[0]["object"], "ann");
    let difference = log[0]["difference"].as_str().unwrap();
    let leaving = r#"{"leaving.name":["ann",null],"leaving.admin":[false,null]"#;
    assert!(difference.starts_with(leaving), "{difference}");
}

#[tokio::test]
async fn of_two_admins_who_are_removed_at_once_the_one_that_stays_keeps_what_it_has() {
    let (site, ..) = site_with_ann().await;
    let ben =
        api::access::User { name: "ben".to_owned(), admin: true, account: None, comment: None };
    site.access.add_user(&ben).await.unwrap();
    site.access.replace_token("ben", "of-ben").await.unwrap();
    let (reached, goes_on) = (Notify::new(), Notify::new());
    let slow = Arc::new(Slow { database: site.database.clone(), reached, goes_on });
    site.access.query_holdings(slow.clone());
    let meanwhile = async {
        slow.reached.notified().await;
        slow.goes_on.notify_one();
    };
    let removals = async {
        tokio::join!(site.access.remove_user("admin"), site.access.remove_user("ben"), meanwhile)
    };
    let ended = tokio::time::timeout(Duration::from_secs(30), removals).await;
    let (of_admin, of_ben, ()) = ended.expect("nothing of ben is freed");
    of_admin.unwrap();
    assert!(matches!(of_ben, Err(access::AccessError::LastAdmin { .. })), "{of_ben:?}");
}
