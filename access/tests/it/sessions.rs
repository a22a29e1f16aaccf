//! Browsers: sessions by cookie, and tickets.

use std::time::Duration;

use access::SessionLimits;
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode},
    response::IntoResponse as _,
};
use database::statement;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{Site, line, site_with_ann};

const HOST: &str = "bedplate.example:9470";
const ORIGIN: &str = "https://bedplate.example:9470";

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn set_cookie(&self) -> String {
        self.headers["set-cookie"].to_str().unwrap().to_owned()
    }

    /// What a browser sends back.
    fn cookie(&self) -> String {
        self.set_cookie().split(';').next().unwrap().to_owned()
    }
}

async fn ask(
    router: &Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Value,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", HOST);
    if !body.is_null() {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let response = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }
}

async fn log_in(site: &Site, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    ask(&site.router, Method::POST, "/v1/session", &[("authorization", &bearer)], Value::Null).await
}

async fn who(site: &Site, cookie: &str) -> Option<Value> {
    let answer =
        ask(&site.router, Method::GET, "/v1/whoami", &[("cookie", cookie)], Value::Null).await;
    (answer.status == StatusCode::OK).then(|| answer.body["name"].clone())
}

#[tokio::test]
async fn a_cookie_stands_for_the_token_until_logout() {
    let (site, _, ann) = site_with_ann().await;
    let begun = log_in(&site, &ann).await;
    assert_eq!(begun.status, StatusCode::CREATED);
    assert_eq!(begun.body["idle-seconds"], 12 * 3600);
    let (cookie, set) = (begun.cookie(), begun.set_cookie());
    assert!(cookie.starts_with("__Host-bedplate=bps_"), "{cookie}");
    for part in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Max-Age=604800"] {
        assert!(set.contains(part), "{part} is not in {set}");
    }
    assert!(!set.contains("Domain"), "{set}");
    assert!(!begun.body.to_string().contains("bps_"), "no script sees it");
    assert_eq!(who(&site, &cookie).await, Some(json!("ann")));
    let stored: Vec<(Vec<u8>,)> = statement("look", "SELECT hash FROM access_sessions")
        .fetch_all(&site.database)
        .await
        .unwrap();
    assert_eq!((stored.len(), stored[0].0.len()), (1, 32), "a hash is kept");

    let headers = [("cookie", cookie.as_str()), ("origin", ORIGIN)];
    let again = ask(&site.router, Method::POST, "/v1/session", &headers, Value::Null).await;
    assert_eq!(
        again.status,
        StatusCode::BAD_REQUEST,
        "a session begins no session: {}",
        again.body
    );
    let out = ask(&site.router, Method::DELETE, "/v1/session", &headers, Value::Null).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(out.set_cookie().contains("Max-Age=0"), "{}", out.set_cookie());
    assert_eq!(who(&site, &cookie).await, None);
    let bearer = format!("Bearer {ann}");
    let out = ask(
        &site.router,
        Method::DELETE,
        "/v1/session",
        &[("authorization", &bearer)],
        Value::Null,
    )
    .await;
    assert_eq!(out.status, StatusCode::BAD_REQUEST, "there is no session");
}

#[tokio::test]
async fn only_the_servers_own_pages_change_something() {
    let (site, admin, ann) = site_with_ann().await;
    let cookie = log_in(&site, &ann).await.cookie();
    let create = |name: &str| json!({ "name": name });
    let with = |origin: Option<&'static str>| {
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(origin.map(|origin| ("origin", origin)));
        headers
    };
    for origin in
        [None, Some("https://evil.example"), Some("null"), Some("http://bedplate.example:9470")]
    {
        let refused =
            ask(&site.router, Method::POST, "/v1/tokens", &with(origin), create("stolen")).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{origin:?}");
        let socket =
            [with(origin), vec![("upgrade", "WebSocket"), ("connection", "Upgrade")]].concat();
        let refused = ask(&site.router, Method::GET, "/v1/whoami", &socket, Value::Null).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "a WebSocket, {origin:?}");
        assert!(refused.body["detail"].as_str().unwrap().contains("session"), "{}", refused.body);
    }
    assert_eq!(site.access.tokens("ann").await.unwrap().len(), 1);
    let (_, log) = site.ask(Method::GET, "/v1/audit?user=ann", Some(&admin), Value::Null).await;
    let lines: Vec<String> = log.as_array().unwrap().iter().map(line).collect();
    for told in ["ann POST /v1/tokens 403", "ann GET /v1/whoami 403"] {
        assert!(lines.iter().any(|line| line.ends_with(told)), "{told}: {lines:?}");
    }

    let made =
        ask(&site.router, Method::POST, "/v1/tokens", &with(Some(ORIGIN)), create("own")).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    // What has a token is no browser: nothing is asked of it, and a bad token is not made
    // good by a cookie.
    let bearer = format!("Bearer {ann}");
    let headers = [("authorization", bearer.as_str()), ("origin", "https://evil.example")];
    let made = ask(&site.router, Method::POST, "/v1/tokens", &headers, create("program")).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let headers = [("authorization", "Bearer bp_none"), ("cookie", cookie.as_str())];
    let refused = ask(&site.router, Method::GET, "/v1/whoami", &headers, Value::Null).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn logging_out_everywhere() {
    let (site, admin, ann) = site_with_ann().await;
    let of_admin = log_in(&site, &admin).await.cookie();
    let first = log_in(&site, &ann).await.cookie();
    let second = log_in(&site, &ann).await.cookie();
    let headers = [("cookie", first.as_str()), ("origin", ORIGIN)];
    let path = "/v1/users/admin/sessions";
    let refused = ask(&site.router, Method::DELETE, path, &headers, Value::Null).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "ann ends nobody else's");
    let ended =
        ask(&site.router, Method::DELETE, "/v1/users/ann/sessions", &headers, Value::Null).await;
    assert_eq!((ended.status, &ended.body), (StatusCode::OK, &json!({ "ended": 2 })));
    assert_eq!((who(&site, &first).await, who(&site, &second).await), (None, None));
    assert_eq!(who(&site, &of_admin).await, Some(json!("admin")));

    log_in(&site, &ann).await;
    let (status, ended) =
        site.ask(Method::DELETE, "/v1/users/ann/sessions", Some(&admin), Value::Null).await;
    assert_eq!((status, ended), (StatusCode::OK, json!({ "ended": 1 })), "an admin ends a user's");
    let (status, _) =
        site.ask(Method::DELETE, "/v1/users/bob/sessions", Some(&admin), Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_session_ends_with_its_token_and_its_user() {
    let (site, admin, ann) = site_with_ann().await;
    let (_, other) =
        site.ask(Method::POST, "/v1/tokens", Some(&ann), json!({ "name": "other" })).await;
    let of_other = log_in(&site, other["token"].as_str().unwrap()).await.cookie();
    let of_laptop = log_in(&site, &ann).await.cookie();
    site.ask(Method::DELETE, "/v1/tokens/other", Some(&ann), Value::Null).await;
    assert_eq!(
        who(&site, &of_other).await,
        None,
        "whoever has a leaked token may have a session of it too"
    );
    assert_eq!(who(&site, &of_laptop).await, Some(json!("ann")));
    site.ask(Method::DELETE, "/v1/users/ann", Some(&admin), Value::Null).await;
    assert_eq!(who(&site, &of_laptop).await, None);
}

#[tokio::test]
async fn sessions_end_by_themselves_and_are_so_many() {
    let (mut site, _, ann) = site_with_ann().await;
    let first = log_in(&site, &ann).await.cookie();
    for _ in 0..32 {
        log_in(&site, &ann).await;
    }
    let count = async |site: &Site| -> i64 {
        let count = statement("count", "SELECT count(*) FROM access_sessions");
        count.fetch_optional::<(i64,)>(&site.database).await.unwrap().unwrap().0
    };
    assert_eq!(count(&site).await, 32);
    assert_eq!(who(&site, &first).await, None, "the oldest went");

    // Everything that is there was used just now; with no time to idle it is over.
    let limits = SessionLimits { idle: Duration::from_millis(1), life: Duration::from_secs(3600) };
    site.limit_sessions(limits);
    let idle = log_in(&site, &ann).await.cookie();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(who(&site, &idle).await, None);
    let limits = SessionLimits { idle: Duration::from_secs(3600), life: Duration::from_millis(1) };
    site.limit_sessions(limits);
    let old = log_in(&site, &ann).await.cookie();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(who(&site, &old).await, None);
    log_in(&site, &ann).await;
    assert_eq!(count(&site).await, 1, "a login clears away what is over");
}

/// Answers with the request's own path and query: what a handler, or a log, sees.
async fn echo(request: Request) -> axum::response::Response {
    request.uri().to_string().into_response()
}

#[tokio::test]
async fn a_ticket_is_for_one_request() {
    let (site, admin, ann) = site_with_ann().await;
    let ticket = async |path: &str| {
        let wanted = json!({ "method": "GET", "path": path });
        let (status, ticket) = site.ask(Method::POST, "/v1/tickets", Some(&ann), wanted).await;
        assert_eq!(status, StatusCode::CREATED, "{ticket}");
        ticket["ticket"].as_str().unwrap().to_owned()
    };
    let get = async |path: String| ask(&site.router, Method::GET, &path, &[], Value::Null).await;
    let one = ticket("/v1/whoami").await;
    assert!(one.starts_with("bpt_"), "{one}");
    let answer = get(format!("/v1/whoami?ticket={one}")).await;
    assert_eq!((answer.status, &answer.body["name"]), (StatusCode::OK, &json!("ann")));
    assert_eq!(
        get(format!("/v1/whoami?ticket={one}")).await.status,
        StatusCode::UNAUTHORIZED,
        "used"
    );
    let other = ticket("/v1/tokens").await;
    assert_eq!(get(format!("/v1/whoami?ticket={other}")).await.status, StatusCode::UNAUTHORIZED);
    let post = ticket("/v1/tokens").await;
    let path = format!("/v1/tokens?ticket={post}");
    let refused = ask(&site.router, Method::POST, &path, &[], json!({ "name": "stolen" })).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "it changes nothing");

    // Rights are those of the moment of use.
    let late = ticket("/v1/whoami").await;
    site.ask(Method::DELETE, "/v1/users/ann/sessions", Some(&admin), Value::Null).await;
    assert_eq!(get(format!("/v1/whoami?ticket={late}")).await.status, StatusCode::UNAUTHORIZED);
    for wanted in [
        json!({ "method": "POST", "path": "/v1/tokens" }),
        json!({ "method": "GET", "path": "/v1/nodes?limit=1" }),
        json!({ "method": "GET", "path": "v1/nodes" }),
    ] {
        let (status, problem) = site.ask(Method::POST, "/v1/tickets", Some(&ann), wanted).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    }
    let lines = site.access.audit(1000).await.unwrap();
    assert!(
        lines
            .iter()
            .all(|line| !line.subject.contains("ticket=") && !line.subject.contains("bpt_"))
    );
}

#[tokio::test]
async fn what_is_behind_the_layer_never_sees_a_ticket() {
    let (site, _, ann) = site_with_ann().await;
    let behind = Router::new()
        .fallback(echo)
        .layer(axum::middleware::from_fn_with_state(site.access.clone(), access::layer));
    let wanted = json!({ "method": "GET", "path": "/v1/anything" });
    let (_, ticket) = site.ask(Method::POST, "/v1/tickets", Some(&ann), wanted).await;
    let path = format!("/v1/anything?a=1&ticket={}&b=%5B2%5D", ticket["ticket"].as_str().unwrap());
    let request =
        Request::get(path).header("host", HeaderValue::from_static(HOST)).body(Body::empty());
    let response = behind.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let seen = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(seen, "/v1/anything?a=1&b=%5B2%5D");
}
