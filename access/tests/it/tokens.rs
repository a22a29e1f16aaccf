//! Tokens that end, that are for some actions alone, that are used and guessed.

use std::net::SocketAddr;

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, Method, Request, StatusCode},
};
use database::{Number, statement};
use rest::shell::Peer;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{Site, site_with_ann};

/// Asks from an address, with one header. Returns the status and the headers of the answer.
async fn ask_from(
    site: &Site,
    address: &str,
    header: (&str, &str),
    path: &str,
) -> (StatusCode, HeaderMap) {
    let remote: SocketAddr = address.parse().unwrap();
    let mut request = Request::get(path).header(header.0, header.1).body(Body::empty()).unwrap();
    request.extensions_mut().insert(ConnectInfo(Peer { remote, local: remote }));
    let response = site.router.clone().oneshot(request).await.unwrap();
    (response.status(), response.headers().clone())
}

async fn make(site: &Site, by: &str, wanted: Value) -> String {
    let (status, created) = site.ask(Method::POST, "/v1/tokens", Some(by), wanted.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{wanted}: {created}");
    created["token"].as_str().unwrap().to_owned()
}

/// From now on the token of this name ended long ago. The row is changed behind the server's back,
/// which it sees within a second.
async fn let_end(site: &Site, name: &str) {
    let text = "UPDATE access_tokens SET expires = 1000000 WHERE name = $1";
    assert_eq!(statement("end a token", text).bind(name).execute(&site.database).await.unwrap(), 1);
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
}

async fn listed(site: &Site, token: &str, name: &str) -> Value {
    let (_, tokens) = site.ask(Method::GET, "/v1/tokens", Some(token), Value::Null).await;
    tokens.as_array().unwrap().iter().find(|token| token["name"] == name).cloned().unwrap()
}

#[tokio::test]
async fn a_token_ends_by_default_and_says_so() {
    let (site, admin, ann) = site_with_ann().await;
    let row = listed(&site, &ann, "laptop").await;
    let life = row["expires"].as_i64().unwrap() - row["created"].as_i64().unwrap();
    assert_eq!((life + 500_000) / 1_000_000, 90 * 86_400);
    assert_eq!(
        listed(&site, &admin, "first-start").await["expires"],
        Value::Null,
        "the server's own"
    );
    let forever = make(&site, &ann, json!({ "name": "forever", "expires": "never" })).await;
    assert_eq!(listed(&site, &ann, "forever").await["expires"], Value::Null);

    let_end(&site, "laptop").await;
    let (status, problem) = site.ask(Method::GET, "/v1/whoami", Some(&ann), Value::Null).await;
    assert_eq!(
        (status, &problem["title"]),
        (StatusCode::UNAUTHORIZED, &json!("the token has expired"))
    );
    let why = problem["detail"].as_str().unwrap();
    assert!(why.contains("token \"laptop\" of ann has expired on 1970-01-01T00:00:01Z"), "{why}");
    let (_, log) = site.ask(Method::GET, "/v1/audit?limit=1", Some(&admin), Value::Null).await;
    assert_eq!(
        [&log[0]["principal"], &log[0]["token"]],
        ["-", "ann/laptop"],
        "whose it was is told"
    );
    assert_eq!(site.access.authenticate(&ann).await, None);
    let (status, who) = site.ask(Method::GET, "/v1/whoami", Some(&forever), Value::Null).await;
    assert_eq!(
        (status, &who["token"], &who["expires"]),
        (StatusCode::OK, &json!("forever"), &Value::Null)
    );
}

#[tokio::test]
async fn a_token_that_ends_soon_is_told_with_every_answer() {
    let (site, admin, _) = site_with_ann().await;
    let day = 86_400;
    // How long each has to live, and has lived.
    for (name, seconds, lived, told) in [
        ("soon", 13 * day, 77 * day, true),
        ("later", 15 * day, 75 * day, false),
        ("short", day / 2, 0, false),
        ("short-soon", day / 2, 2 * day, true),
    ] {
        let wanted = json!({ "name": name, "expires": { "after-seconds": seconds } });
        let bearer = format!("Bearer {}", make(&site, &admin, wanted).await);
        let text = "UPDATE access_tokens SET created = created - $1 WHERE name = $2";
        let age = statement("age a token", text).bind(lived * 1_000_000_i64).bind(name);
        assert_eq!(age.execute(&site.database).await.unwrap(), 1);
        let header = ("authorization", bearer.as_str());
        let (status, headers) = ask_from(&site, "10.0.0.1:1", header, "/v1/whoami").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers.contains_key(api::http::TOKEN_EXPIRES), told, "{name}");
    }
}

#[tokio::test]
async fn what_was_got_with_a_token_ends_with_it() {
    let (site, _, ann) = site_with_ann().await;
    let request = Request::post("/v1/session").header("authorization", format!("Bearer {ann}"));
    let response = site.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let cookie =
        response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let cookie = ("cookie", cookie.as_str());
    assert_eq!(ask_from(&site, "10.0.0.1:1", cookie, "/v1/whoami").await.0, StatusCode::OK);
    let wanted = json!({ "method": "GET", "path": "/v1/whoami" });
    let (_, ticket) = site.ask(Method::POST, "/v1/tickets", Some(&ann), wanted).await;
    let path = format!("/v1/whoami?ticket={}", ticket["ticket"].as_str().unwrap());

    let_end(&site, "laptop").await;
    assert_eq!(
        ask_from(&site, "10.0.0.1:1", cookie, "/v1/whoami").await.0,
        StatusCode::UNAUTHORIZED
    );
    let (status, _) = site.ask(Method::GET, &path, None, Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_to_read_with_changes_nothing_however_it_is_shown() {
    let (site, admin, _) = site_with_ann().await;
    let reads = make(&site, &admin, json!({ "name": "reads", "read-only": true })).await;
    let ask = async |method: Method, path: &str, body: Value| {
        site.ask(method, path, Some(&reads), body).await
    };
    assert_eq!(ask(Method::GET, "/v1/audit", Value::Null).await.0, StatusCode::OK);
    let (status, problem) = ask(Method::POST, "/v1/users", json!({ "name": "bob" })).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        problem["detail"].as_str().unwrap().contains("not in the scope of the token"),
        "{problem}"
    );
    for (method, path, body) in [
        (Method::POST, "/v1/tokens", json!({ "name": "wide" })),
        (Method::DELETE, "/v1/tokens/first-start", Value::Null),
        (Method::PUT, "/v1/users/ann", json!({ "name": "ann", "admin": true })),
        (Method::POST, "/v1/session", Value::Null),
    ] {
        assert_eq!(
            ask(method.clone(), path, body).await.0,
            StatusCode::FORBIDDEN,
            "{method} {path}"
        );
    }
    let (_, who) = ask(Method::GET, "/v1/whoami", Value::Null).await;
    assert!(
        !who["actions"].to_string().contains("user-edit"),
        "what is told is what may be done: {who}"
    );

    // A session and a ticket do what their token may do.
    let scope = json!(["session-create", "ticket-create", "user-list"]);
    let narrow = make(&site, &admin, json!({ "name": "narrow", "scope": scope })).await;
    let request = Request::post("/v1/session").header("authorization", format!("Bearer {narrow}"));
    let response = site.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let cookie =
        response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    for (path, status) in [("/v1/users", StatusCode::OK), ("/v1/audit", StatusCode::FORBIDDEN)] {
        assert_eq!(
            ask_from(&site, "10.0.0.1:1", ("cookie", cookie.as_str()), path).await.0,
            status,
            "{path}"
        );
        let wanted = json!({ "method": "GET", "path": path });
        let (_, ticket) = site.ask(Method::POST, "/v1/tickets", Some(&narrow), wanted).await;
        let path = format!("{path}?ticket={}", ticket["ticket"].as_str().unwrap());
        assert_eq!(site.ask(Method::GET, &path, None, Value::Null).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn a_scoped_token_makes_none_that_is_wider() {
    let (site, admin, _) = site_with_ann().await;
    let scope = json!(["token-create", "user-list"]);
    let maker = make(&site, &admin, json!({ "name": "maker", "scope": scope })).await;
    let wider = json!({ "name": "wider", "scope": ["audit-read"] });
    let (status, problem) = site.ask(Method::POST, "/v1/tokens", Some(&maker), wider).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
    let same = make(&site, &maker, json!({ "name": "same" })).await;
    let whole = json!(["who-am-i", "token-create", "user-list"]);
    assert_eq!(
        listed(&site, &admin, "same").await["scope"],
        whole,
        "what nobody names is inherited"
    );
    for (path, status) in [("/v1/users", StatusCode::OK), ("/v1/audit", StatusCode::FORBIDDEN)] {
        assert_eq!(site.ask(Method::GET, path, Some(&same), Value::Null).await.0, status, "{path}");
    }
    // Nor does it live longer.
    let forever = json!({ "name": "forever", "expires": "never" });
    let (status, problem) = site.ask(Method::POST, "/v1/tokens", Some(&maker), forever).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("ends no later"), "{problem}");
    let ends = async |name: &str| listed(&site, &admin, name).await["expires"].clone();
    assert_eq!(ends("same").await, ends("maker").await);
    let brief =
        make(&site, &admin, json!({ "name": "brief", "expires": { "after-seconds": 3600 } })).await;
    make(&site, &brief, json!({ "name": "brief-2", "expires": "never" })).await;
    assert_eq!(ends("brief-2").await, Value::Null, "one without a scope is replaced by its like");
    for scope in [json!(["user-edit"]), json!(["gang-launch"])] {
        let wanted = json!({ "name": "odd", "scope": scope });
        let (status, _) = site.ask(Method::POST, "/v1/tokens", Some(&admin), wanted).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{scope}");
    }
}

#[tokio::test]
async fn the_last_token_of_an_admin_stays() {
    let (site, admin, ann) = site_with_ann().await;
    let revoke = async |name: &str| {
        site.ask(Method::DELETE, &format!("/v1/tokens/{name}"), Some(&admin), Value::Null).await
    };
    make(&site, &admin, json!({ "name": "reads", "read-only": true })).await;
    make(&site, &admin, json!({ "name": "ended" })).await;
    let_end(&site, "ended").await;
    let (status, problem) = revoke("first-start").await;
    assert_eq!(
        status,
        StatusCode::CONFLICT,
        "one with a scope and one that has ended do not count"
    );
    assert!(problem["detail"].as_str().unwrap().contains("make another one first"), "{problem}");
    assert_eq!(revoke("ended").await.0, StatusCode::NO_CONTENT);
    assert_eq!(revoke("reads").await.0, StatusCode::NO_CONTENT);

    // Another admin counts while its token is good.
    let record = |admin: bool| json!({ "name": "ann", "admin": admin });
    site.ask(Method::PUT, "/v1/users/ann", Some(&admin), record(true)).await;
    let_end(&site, "laptop").await;
    let (status, _) = site.ask(Method::DELETE, "/v1/users/admin", Some(&admin), Value::Null).await;
    assert_eq!(status, StatusCode::CONFLICT, "ann's token has ended");
    let (status, _) = site.ask(Method::PUT, "/v1/users/ann", Some(&admin), record(false)).await;
    assert_eq!(status, StatusCode::OK, "who has no good token is not the last");
    site.ask(Method::PUT, "/v1/users/ann", Some(&admin), record(true)).await;
    make(&site, &admin, json!({ "name": "new", "user": "ann" })).await;
    assert_eq!(revoke("first-start").await.0, StatusCode::NO_CONTENT);
    assert_eq!(site.access.authenticate(&ann).await, None);
}

#[tokio::test]
async fn guesses_are_held_off_and_good_tokens_are_not() {
    let (site, admin, ann) = site_with_ann().await;
    let here = "10.0.0.7:1000";
    let guess = async |header: (&str, &str)| ask_from(&site, here, header, "/v1/whoami").await;
    let mut statuses = Vec::new();
    for number in 0..40 {
        let (header, secret) = match number % 3 {
            0 => ("authorization", format!("Bearer bp_{number}")),
            1 => ("cookie", format!("__Host-bedplate=bps_{number}")),
            _ => ("authorization", format!("Basic {number}")),
        };
        let (status, headers) = guess((header, secret.as_str())).await;
        let waits =
            headers.get("retry-after").map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
        assert_eq!(waits.is_some(), status == StatusCode::TOO_MANY_REQUESTS);
        assert!(waits.is_none_or(|seconds| (1..=60).contains(&seconds)), "{waits:?}");
        statuses.push(status);
    }
    assert!(statuses[..30].iter().all(|status| *status == StatusCode::UNAUTHORIZED));
    assert!(statuses[30..].iter().all(|status| *status == StatusCode::TOO_MANY_REQUESTS));
    let failures = site.access.login_failures();
    let counted: u64 = failures.by_kind.iter().map(|(_, count)| count).sum();
    assert_eq!((counted, failures.held_off, failures.sources), (40, 10, 1));

    for token in [&admin, &ann] {
        let bearer = format!("Bearer {token}");
        assert_eq!(
            guess(("authorization", bearer.as_str())).await.0,
            StatusCode::OK,
            "a neighbour locks nobody out"
        );
    }
    let elsewhere =
        ask_from(&site, "10.0.0.8:1", ("authorization", "Bearer bp_x"), "/v1/whoami").await;
    assert_eq!(elsewhere.0, StatusCode::UNAUTHORIZED);
    let (_, log) = site.ask(Method::GET, "/v1/audit?limit=100", Some(&admin), Value::Null).await;
    let lines = log.as_array().unwrap().iter().filter(|line| line["principal"] == "-").count();
    assert!((1..=10).contains(&lines), "41 guesses have some lines and no line for each: {log}");
}

#[tokio::test]
async fn the_last_use_of_a_token_is_told_and_seldom_written() {
    let (site, admin, ann) = site_with_ann().await;
    assert_eq!(
        listed(&site, &admin, "first-start").await["last-source"],
        Value::Null,
        "no connection"
    );
    let bearer = format!("Bearer {ann}");
    for address in ["10.0.0.1:1", "[::ffff:10.0.0.2]:1", "[fd00::3]:1"] {
        ask_from(&site, address, ("authorization", bearer.as_str()), "/v1/whoami").await;
    }
    let row = listed(&site, &ann, "laptop").await;
    // To the minute.
    assert!(
        row["last-used"].as_i64().unwrap() + 60_000_000 > row["created"].as_i64().unwrap(),
        "{row}"
    );
    // `listed` itself came without an address; what it was asked before is told.
    assert_eq!(row["last-source"], Value::Null);
    ask_from(&site, "[fd00::3]:1", ("authorization", bearer.as_str()), "/v1/whoami").await;
    assert_eq!(site.access.tokens("ann").await.unwrap()[0].last_source.as_deref(), Some("fd00::3"));

    // What is written is the first use alone.
    let text =
        "SELECT COUNT(*) FROM access_tokens WHERE name = 'laptop' AND last_source = '10.0.0.1'";
    for _ in 0..200 {
        let (written,): (Number<u64>,) =
            statement("look", text).fetch_one(&site.database).await.unwrap();
        if written.0 == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the first use was not written down");
}

#[tokio::test]
async fn an_admin_sees_and_revokes_the_tokens_of_others() {
    let (site, admin, ann) = site_with_ann().await;
    let spare = make(&site, &ann, json!({ "name": "spare" })).await;
    let ask = async |method: Method, path: &str, token: &str| {
        site.ask(method, path, Some(token), Value::Null).await
    };
    let of_ann = "/v1/tokens?user=ann";
    let (status, listed) = ask(Method::GET, of_ann, &admin).await;
    assert_eq!((status, &listed[0]["user"]), (StatusCode::OK, &json!("ann")), "{listed}");
    let names = listed.as_array().unwrap().iter().map(|token| &token["name"]).collect::<Vec<_>>();
    assert_eq!(names, ["laptop", "spare"]);
    assert_eq!(ask(Method::GET, of_ann, &ann).await.0, StatusCode::OK, "and ann herself");

    for path in ["/v1/tokens?user=bob", "/v1/tokens/laptop?user=bob"] {
        let method = if path.contains("laptop") { Method::DELETE } else { Method::GET };
        let (status, problem) = ask(method, path, &admin).await;
        let why = problem["detail"].as_str().unwrap_or_default();
        assert_eq!((status, why), (StatusCode::NOT_FOUND, "there is no user \"bob\""), "{path}");
    }
    for (method, path) in [
        (Method::GET, "/v1/tokens?user=admin"),
        (Method::GET, "/v1/tokens?user=bob"),
        (Method::DELETE, "/v1/tokens/first-start?user=admin"),
    ] {
        assert_eq!(ask(method, path, &ann).await.0, StatusCode::FORBIDDEN, "{path}");
    }

    let request = Request::post("/v1/session").header("authorization", format!("Bearer {spare}"));
    let response = site.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let cookie =
        response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let (status, _) = ask(Method::DELETE, "/v1/tokens/spare?user=ann", &admin).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let status = ask_from(&site, "10.0.0.1:1", ("cookie", cookie.as_str()), "/v1/whoami").await.0;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "the session that was begun with it has ended");
    assert_eq!(ask(Method::GET, "/v1/whoami", &spare).await.0, StatusCode::UNAUTHORIZED);
    let (_, log) = ask(Method::GET, "/v1/audit?action=DELETE&user=admin&limit=1", &admin).await;
    assert_eq!(log[0]["object"], "token spare of ann");
    let (status, problem) = ask(Method::DELETE, "/v1/tokens/spare?user=ann", &admin).await;
    let why = problem["detail"].as_str().unwrap();
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(why, "ann has no token of that name; `bedplate token list --user ann` lists them");
}
