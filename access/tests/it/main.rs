//! The REST API of `access` behind its layer, on a database file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audit;
mod quotas;
mod sessions;
mod tokens;

use access::{Access, AccessError, Caller, Resource, Routes, SessionLimits};
use api::rights::{Action, Role};
use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode},
};
use database::{Database, statement};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use utoipa::openapi::OpenApi;
use utoipa_axum::routes;

struct Site {
    access: Access,
    database: Database,
    router: Router,
    directory: tempfile::TempDir,
}

async fn database(directory: &std::path::Path) -> Database {
    Database::open(&directory.join("test.db"), &[&access::SCHEMA]).await.unwrap()
}

async fn site() -> Site {
    let directory = tempfile::tempdir().unwrap();
    let database = database(directory.path()).await;
    let access = Access::open(database.clone()).await.unwrap();
    let router = router(&access);
    Site { access, database, router, directory }
}

fn router(access: &Access) -> Router {
    let (router, _) = access.rest().into_parts(OpenApi::default());
    router.layer(axum::middleware::from_fn_with_state(access.clone(), access::layer))
}

impl Site {
    /// From now on sessions end by these limits.
    fn limit_sessions(&mut self, limits: SessionLimits) {
        self.access = self.access.clone().with_session_limits(limits);
        self.router = router(&self.access);
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Value,
    ) -> (StatusCode, Value) {
        let mut request =
            Request::builder().method(method).uri(path).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

#[tokio::test]
async fn the_first_admin_is_made_once_and_survives_a_restart() {
    let site = site().await;
    let token = site.access.create_admin_if_none().await.unwrap().unwrap();
    assert_eq!(site.access.create_admin_if_none().await.unwrap(), None);
    site.database.close().await;

    let access = Access::open(database(site.directory.path()).await).await.unwrap();
    assert_eq!(access.create_admin_if_none().await.unwrap(), None);
    let principal = access.authenticate(&token).await.unwrap();
    assert_eq!((principal.name.as_str(), principal.roles), ("admin", vec![Role::Admin]));
    assert_eq!(access.authenticate(&token[..token.len() - 1]).await, None);
}

#[tokio::test]
async fn requests_without_a_good_token_are_refused() {
    let site = site().await;
    site.access.create_admin_if_none().await.unwrap();
    for token in [None, Some(""), Some("bp_AAAA")] {
        let (status, problem) = site.ask(Method::GET, "/v1/whoami", token, Value::Null).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(problem["title"], "not authenticated");
    }
    let (status, _) = site.ask(Method::POST, "/v1/tokens", None, json!({ "name": "ci" })).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(site.access.tokens("admin").await.unwrap().len(), 1);
}

#[tokio::test]
async fn tokens_are_made_listed_without_secret_and_revoked() {
    let site = site().await;
    let admin = site.access.create_admin_if_none().await.unwrap().unwrap();
    let admin = Some(admin.as_str());

    let (status, created) =
        site.ask(Method::POST, "/v1/tokens", admin, json!({ "name": "ci" })).await;
    assert_eq!(status, StatusCode::CREATED);
    let secret = created["token"].as_str().unwrap().to_owned();
    let (status, who) = site.ask(Method::GET, "/v1/whoami", Some(&secret), Value::Null).await;
    let told = (status, &who["name"], &who["admin"], &who["roles"], &who["groups"]);
    assert_eq!(
        told,
        (StatusCode::OK, &json!("admin"), &json!(true), &json!(["admin"]), &json!([]))
    );
    assert_eq!(who["actions"].as_array().unwrap().len(), Action::ALL.len());

    let (status, _) = site.ask(Method::POST, "/v1/tokens", admin, json!({ "name": "ci" })).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (status, _) =
        site.ask(Method::POST, "/v1/tokens", admin, json!({ "name": "No Good" })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    let (_, list) = site.ask(Method::GET, "/v1/tokens", admin, Value::Null).await;
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert!(!list.to_string().contains(&secret));

    let (status, _) = site.ask(Method::DELETE, "/v1/tokens/ci", admin, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = site.ask(Method::GET, "/v1/whoami", Some(&secret), Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, problem) = site.ask(Method::DELETE, "/v1/tokens/ci", admin, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(problem["title"], "cannot revoke token \"ci\"");
}

#[tokio::test]
async fn every_mutation_is_in_a_log_that_shows_changes() {
    let site = site().await;
    let admin = site.access.create_admin_if_none().await.unwrap().unwrap();
    site.ask(Method::POST, "/v1/tokens", Some(&admin), json!({ "name": "ci" })).await;
    site.ask(Method::DELETE, "/v1/tokens/nope", Some(&admin), Value::Null).await;
    site.ask(Method::GET, "/v1/tokens", Some(&admin), Value::Null).await;

    let (_, log) = site.ask(Method::GET, "/v1/audit?limit=10", Some(&admin), Value::Null).await;
    let lines: Vec<String> = log.as_array().unwrap().iter().rev().map(line).collect();
    assert_eq!(
        lines,
        [
            "1 server create-admin admin done",
            "2 admin POST /v1/tokens 201",
            "3 admin DELETE /v1/tokens/nope 404"
        ]
    );
    assert_eq!(site.access.verify_audit().await.unwrap(), 3);

    let text = "UPDATE access_audit SET principal = 'mallory' WHERE number = 2";
    statement("break the chain", text).execute(&site.database).await.unwrap();
    let broken = site.access.verify_audit().await;
    assert!(matches!(broken, Err(AccessError::Broken(access::BrokenChain::Changed { number: 2 }))));
}

#[tokio::test]
async fn the_audit_log_is_read_page_by_page_while_it_grows() {
    let site = site().await;
    let admin = site.access.create_admin_if_none().await.unwrap().unwrap();
    for number in 2..=7 {
        site.access.record("server", "test", &number.to_string(), "done").await.unwrap();
    }
    let (mut seen, mut query) = (Vec::new(), Some("?limit=3".to_owned()));
    while let Some(page) = query {
        let request = Request::get(format!("/v1/audit{page}"))
            .header("authorization", format!("Bearer {admin}"));
        let response =
            site.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        query = link.map(|link| link[1..].split_once('>').unwrap().0.to_owned());
        let rows = response.into_body().collect().await.unwrap().to_bytes();
        let rows: Vec<Value> = serde_json::from_slice(&rows).unwrap();
        seen.extend(rows.iter().map(|row| row["number"].as_u64().unwrap()));
        site.access.record("server", "test", "meanwhile", "done").await.unwrap();
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
}

fn line(entry: &Value) -> String {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    format!(
        "{} {} {} {} {}",
        entry["number"],
        text("principal"),
        text("action"),
        text("subject"),
        text("outcome")
    )
}

/// The site, its admin's token, and the token of ann, who is no admin.
async fn site_with_ann() -> (Site, String, String) {
    let site = site().await;
    let admin = site.access.create_admin_if_none().await.unwrap().unwrap();
    let account = json!({ "uid": 1001, "gid": 100, "groups": [2000] });
    let ann = json!({ "name": "ann", "account": account });
    let (status, _) = site.ask(Method::POST, "/v1/users", Some(&admin), ann).await;
    assert_eq!(status, StatusCode::CREATED);
    let wanted = json!({ "name": "laptop", "user": "ann" });
    let (status, created) = site.ask(Method::POST, "/v1/tokens", Some(&admin), wanted).await;
    assert_eq!(status, StatusCode::CREATED);
    let token = created["token"].as_str().unwrap().to_owned();
    (site, admin, token)
}

#[tokio::test]
async fn a_token_of_a_user_carries_its_record() {
    let (site, admin, token) = site_with_ann().await;
    let ann = site.access.authenticate(&token).await.unwrap();
    let account = api::access::Account { uid: 1001, gid: 100, groups: vec![2000] };
    assert_eq!(
        (ann.name.as_str(), ann.roles, ann.account),
        ("ann", vec![Role::User], Some(account))
    );
    assert_eq!(
        site.access.authenticate(&admin).await.unwrap().account,
        None,
        "the first admin runs no jobs"
    );

    let changed = json!({ "name": "ann", "account": { "uid": 7, "gid": 8 }, "comment": "moved" });
    let (status, _) = site.ask(Method::PUT, "/v1/users/ann", Some(&admin), changed.clone()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(site.access.authenticate(&token).await.unwrap().account.unwrap().uid, 7);
    let (status, _) = site.ask(Method::PUT, "/v1/users/admin", Some(&admin), changed.clone()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a user keeps its name");
    let (status, _) = site.ask(Method::PUT, "/v1/users/bob", Some(&admin), changed).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "there is none whose name it could be");

    let (status, _) = site.ask(Method::DELETE, "/v1/users/ann", Some(&admin), Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(site.access.authenticate(&token).await, None);
    let (status, _) = site.ask(Method::GET, "/v1/users/ann", Some(&admin), Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn records_that_break_a_rule_change_nothing() {
    let (site, admin, _) = site_with_ann().await;
    let with = |account: Value| json!({ "name": "bob", "account": account });
    let bad = [
        json!({ "name": "Bob" }),
        json!({ "name": "a".repeat(64) }),
        with(json!({ "uid": 0, "gid": 100 })),
        with(json!({ "uid": 100, "gid": 0 })),
        with(json!({ "uid": 100, "gid": 100, "groups": [0] })),
        with(json!({ "uid": u32::MAX, "gid": 100 })),
        with(json!({ "uid": 100, "gid": 100, "groups": vec![5; 1025] })),
    ];
    for user in bad {
        let (status, problem) =
            site.ask(Method::POST, "/v1/users", Some(&admin), user.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{user} {problem}");
    }
    let (status, _) =
        site.ask(Method::POST, "/v1/users", Some(&admin), json!({ "name": "ann" })).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (_, users) = site.ask(Method::GET, "/v1/users", Some(&admin), Value::Null).await;
    let names: Vec<&str> =
        users.as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["admin", "ann"]);
    assert_eq!(users[1]["account"]["uid"], 1001);
}

#[tokio::test]
async fn there_is_always_an_admin() {
    let (site, admin, _) = site_with_ann().await;
    let (status, problem) =
        site.ask(Method::DELETE, "/v1/users/admin", Some(&admin), Value::Null).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let why = problem["detail"].as_str().unwrap();
    assert!(why.starts_with("admin is the last admin with a token that is good"), "{why}");
    let (status, _) =
        site.ask(Method::PUT, "/v1/users/admin", Some(&admin), json!({ "name": "admin" })).await;
    assert_eq!(status, StatusCode::CONFLICT);

    let ann = json!({ "name": "ann", "admin": true });
    site.ask(Method::PUT, "/v1/users/ann", Some(&admin), ann).await;
    let (status, _) = site.ask(Method::DELETE, "/v1/users/admin", Some(&admin), Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(site.access.create_admin_if_none().await.unwrap(), None);
}

/// Stands for the routes of the other roles: a request that gets here was let through.
#[utoipa::path(get, path = "/v1/things/{owner}")]
async fn read_thing(
    caller: Caller,
    axum::extract::Path(owner): axum::extract::Path<String>,
) -> Result<StatusCode, access::Denied> {
    caller.authorize(Resource::Owned { owner: &owner })?;
    Ok(StatusCode::IM_A_TEAPOT)
}

#[utoipa::path(put, path = "/v1/things/{owner}")]
async fn change_thing() -> StatusCode {
    StatusCode::IM_A_TEAPOT
}

#[utoipa::path(get, path = "/v1/things")]
async fn list_things(caller: Caller) -> Result<String, access::Denied> {
    Ok(["ann", "bob"]
        .into_iter()
        .filter(|owner| caller.visible().is_ok_and(|rows| rows.include(owner)))
        .collect())
}

#[tokio::test]
async fn a_route_is_for_who_may_do_its_action() {
    let (site, admin, ann) = site_with_ann().await;
    let routes = Routes::new()
        .route(Action::WorkflowRead, routes!(read_thing))
        .route(Action::NodeEdit, routes!(change_thing))
        .route(Action::WorkflowList, routes!(list_things));
    let (router, document) = routes.into_parts(OpenApi::default());
    let router =
        router.layer(axum::middleware::from_fn_with_state(site.access.clone(), access::layer));
    let ask = async |method: Method, path: &str, token: &str| {
        let request = Request::builder().method(method).uri(path);
        let request =
            request.header("authorization", format!("Bearer {token}")).body(Body::empty());
        let response = router.clone().oneshot(request.unwrap()).await.unwrap();
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    };
    let (open, closed) = (StatusCode::IM_A_TEAPOT, StatusCode::FORBIDDEN);
    for (method, path, of_ann, of_admin) in [
        (Method::GET, "/v1/things/ann", open, open),
        (Method::GET, "/v1/things/bob", closed, open),
        (Method::PUT, "/v1/things/ann", closed, open),
    ] {
        assert_eq!(ask(method.clone(), path, &ann).await.0, of_ann, "{method} {path}");
        assert_eq!(ask(method.clone(), path, &admin).await.0, of_admin, "{method} {path}");
    }
    assert_eq!(ask(Method::GET, "/v1/things", &ann).await.1, "ann");
    assert_eq!(ask(Method::GET, "/v1/things", &admin).await.1, "annbob");
    let (status, _) = ask(Method::GET, "/v1/things", "bp_none").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (_, log) = site.ask(Method::GET, "/v1/audit?limit=10", Some(&admin), Value::Null).await;
    let lines: Vec<String> = log.as_array().unwrap().iter().map(line).collect();
    for told in ["ann PUT /v1/things/ann 403", "ann GET /v1/things/bob 403", "- GET /v1/things 401"]
    {
        assert!(
            lines.iter().any(|line| line.ends_with(told)),
            "refused attempts are recorded: {lines:?}"
        );
    }

    let document: Value = serde_json::from_str(&document.to_json().unwrap()).unwrap();
    let action =
        |path: &str, method: &str| document["paths"][path][method][access::ACTION_KEY].clone();
    assert_eq!(action("/v1/things/{owner}", "get"), "workflow-read");
    assert_eq!(
        action("/v1/things/{owner}", "put"),
        "node-edit",
        "a method of the same path has its own"
    );
    assert_eq!(action("/v1/things", "get"), "workflow-list");
}

#[tokio::test]
async fn what_a_user_does_not_see_of_others() {
    let (site, _, ann) = site_with_ann().await;
    let ann = Some(ann.as_str());
    for (path, words) in [
        ("/v1/users", "`user-list` is refused to ann (user); an admin may do it"),
        (
            "/v1/users/admin",
            "`user-read` is refused to ann (user) on what is admin's; that user or an admin may do it",
        ),
        ("/v1/audit", "`audit-read` is refused to ann (user); an admin may do it"),
    ] {
        let (status, problem) = site.ask(Method::GET, path, ann, Value::Null).await;
        assert_eq!((status, &problem["detail"]), (StatusCode::FORBIDDEN, &json!(words)), "{path}");
    }
    let (status, own) = site.ask(Method::GET, "/v1/users/ann", ann, Value::Null).await;
    assert_eq!((status, &own["name"]), (StatusCode::OK, &json!("ann")));
    let (_, tokens) = site.ask(Method::GET, "/v1/tokens", ann, Value::Null).await;
    assert_eq!(tokens.as_array().unwrap().len(), 1);

    let (status, _) = site.ask(Method::POST, "/v1/tokens", ann, json!({ "name": "own" })).await;
    assert_eq!(status, StatusCode::CREATED);
    let stolen = json!({ "name": "stolen", "user": "admin" });
    let (status, _) = site.ask(Method::POST, "/v1/tokens", ann, stolen).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(site.access.tokens("admin").await.unwrap().len(), 1);
    let (status, _) = site.ask(Method::DELETE, "/v1/tokens/first-start", ann, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "a token of admin is nobody's business");
    assert_eq!(site.access.tokens("admin").await.unwrap().len(), 1);
}

#[tokio::test]
async fn lines_written_at_once_still_form_one_chain() {
    let site = site().await;
    let writes = (0..50).map(|n| {
        let access = site.access.clone();
        tokio::spawn(async move { access.record("server", "test", &n.to_string(), "done").await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    assert_eq!(site.access.verify_audit().await.unwrap(), 50);
}
