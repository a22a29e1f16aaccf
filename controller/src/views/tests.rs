//! Readers beside a writer: over the REST routes, on a database that can be kept from being
//! written.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use access::Access;
use axum::{Router, body::Body, http::Request, middleware, response::Response};
use database::{Database, Transaction, statement};
use fleet::{Fleet, FleetConfig};
use hardware::Hardware;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use utoipa::openapi::OpenApi;

use crate::{Controller, ControllerConfig, image_users::tests::job_images};

/// Readers that wait for the writer take longer: it is kept waiting for the whole test.
const SOON: Duration = Duration::from_secs(3);

/// For a slow machine.
const LONG: Duration = Duration::from_secs(60);

const DOCUMENT: &str = "version: v1
jobs: {a: {image: docker://registry.invalid/a, command: [b], task-array: {start: 1, end: 100000}}}
";

/// A server without nodes.
struct Site {
    database: Database,
    controller: Controller,
    router: Router,
    token: String,
    shutdown: CancellationToken,
    _directory: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Site {
    async fn start() -> Self {
        // Already installed is as good as installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let schemas = [&access::SCHEMA, &fleet::SCHEMA, &crate::SCHEMA];
        let database = Database::open(&directory.path().join("db"), &schemas).await.unwrap();
        let access = Access::open(database.clone()).await.unwrap();
        let token = access.create_admin_if_none().await.unwrap().unwrap();
        let hardware = Hardware::new(database.clone());
        let config =
            FleetConfig::new(directory.path().to_owned(), vec![Ipv4Addr::LOCALHOST.into()]);
        let fleet =
            Fleet::open(database.clone(), config, Arc::new(hardware.clone())).await.unwrap();
        let config = ControllerConfig {
            state_dir: directory.path().to_owned(),
            forbidden: Vec::new(),
            transfers_forbidden: Vec::new(),
            log_limit_bytes: 1 << 20,
            volume_bytes: 1 << 30,
            images: job_images(database.clone(), directory.path()),
        };
        crate::migrate(&database).await.unwrap();
        let nodes = (fleet, hardware);
        let controller =
            Controller::open(database.clone(), config, nodes, access.clone()).await.unwrap();
        let (serving, shutdown) = (controller.clone(), CancellationToken::new());
        let stop = shutdown.clone();
        tokio::spawn(async move { serving.serve(stop).await });
        let account = api::access::Account { uid: 1_001, gid: 100, groups: Vec::new() };
        let user = api::access::User {
            name: "ann".to_owned(),
            admin: false,
            account: Some(account),
            comment: None,
        };
        access.add_user(&user).await.unwrap();
        let (router, _) = controller.rest().merge(access.rest()).into_parts(OpenApi::default());
        let router = router.layer(middleware::from_fn_with_state(access, access::layer));
        Self { database, controller, router, token, shutdown, _directory: directory }
    }

    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Response {
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/workflows{path}"))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json");
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let response = self.send(method, path, body).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        assert!(status.is_success(), "{method} {path}: {status} {body}");
        body
    }

    /// What a reader is told, soon.
    async fn get(&self, path: &str) -> Value {
        let told = timeout(SOON, self.ask("GET", path, None)).await;
        told.unwrap_or_else(|_| panic!("GET {path} waits"))
    }

    async fn post(&self, path: &str) -> Value {
        timeout(LONG, self.ask("POST", path, None)).await.unwrap()
    }

    async fn begin(&self, name: &str) -> String {
        let begin = json!({"name": name, "document": DOCUMENT, "user": "ann"});
        let begun = timeout(LONG, self.ask("POST", "", Some(begin))).await.unwrap();
        begun["id"].as_str().unwrap().to_owned()
    }

    /// The next event of a watch.
    async fn next(watch: &mut Body) -> Value {
        loop {
            let frame = timeout(LONG, watch.frame()).await.unwrap().unwrap().unwrap();
            let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
            if let Some(event) = text.lines().find_map(|line| line.strip_prefix("data:")) {
                return serde_json::from_str(event).unwrap();
            }
        }
    }

    /// From now on nobody else can write the database.
    async fn hold(&self) -> Transaction {
        self.database.begin_long().await.unwrap()
    }

    /// Each way to read a workflow that is not over.
    async fn read_all(&self, id: &str) -> Value {
        let shown = self.get(&format!("/{id}")).await;
        let named = self.get(&format!("/{}", shown["summary"]["name"].as_str().unwrap())).await;
        assert_eq!(named, shown);
        let why = self.get(&format!("/{id}/why")).await;
        assert!(!why.as_array().unwrap().is_empty());
        for path in ["usage", "events", "attempts", "document"] {
            self.send("GET", &format!("/{id}/{path}"), None).await;
        }
        let mut watch = timeout(SOON, self.send("GET", &format!("/{id}/watch"), None))
            .await
            .unwrap()
            .into_body();
        assert_eq!(timeout(SOON, Self::next(&mut watch)).await.expect("a watch waits"), shown);
        let listed = self.get("").await;
        let listed = listed.as_array().unwrap();
        assert!(listed.contains(&shown["summary"]), "{listed:?}");
        shown
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_go_on_while_the_writer_waits_for_the_database() {
    let site = Arc::new(Site::start().await);
    let id = site.begin("waits").await;
    let held = site.hold().await;
    let (posting, path) = (site.clone(), format!("/{id}/pause"));
    let post = tokio::spawn(async move { posting.post(&path).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..3 {
        let shown = site.read_all(&id).await;
        assert_eq!(shown["summary"]["paused"], Value::Null, "it is shown and not on disk");
    }
    assert!(!post.is_finished(), "it is answered and not on disk");
    drop(held);
    assert_eq!(post.await.unwrap()["paused"], "admin");
    assert_eq!(site.read_all(&id).await["summary"]["paused"], "admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_go_on_while_the_database_takes_no_writes() {
    let site = Arc::new(Site::start().await);
    let id = site.begin("waits").await;
    let fail = "CREATE TRIGGER full BEFORE INSERT ON controller_events
                BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    statement("let writes fail", fail).execute(&site.database).await.unwrap();
    let (posting, path) = (site.clone(), format!("/{id}/stop"));
    let post = tokio::spawn(async move { posting.post(&path).await });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let shown = site.read_all(&id).await;
    assert_eq!(shown["summary"]["ended"], Value::Null);
    assert!(!post.is_finished(), "it is answered and not on disk");
    statement("let writes work", "DROP TRIGGER full").execute(&site.database).await.unwrap();
    let stopped = post.await.unwrap();
    assert_eq!(stopped["status"], "canceled");
    assert_eq!(site.get(&format!("/{id}")).await["summary"], stopped);
}

/// Beside others who read all the time, and who never see anything older than before.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_posts_reads_what_was_done() {
    let site = Arc::new(Site::start().await);
    let done = CancellationToken::new();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (site, done) = (site.clone(), done.clone());
            tokio::spawn(async move {
                let (mut at, mut most) = (site.controller.view().at, 0);
                while !done.is_cancelled() {
                    let now = site.controller.view().at;
                    assert!(at <= now, "a view is older than the one before");
                    at = now;
                    let listed = site.get("?limit=1000").await;
                    let names: Vec<&str> = listed
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|one| one["name"].as_str().unwrap())
                        .collect();
                    let each: std::collections::BTreeSet<&&str> = names.iter().collect();
                    assert_eq!(each.len(), names.len(), "one is listed twice: {names:?}");
                    assert!(names.len() >= most, "one is missing: {names:?}");
                    most = names.len();
                }
            })
        })
        .collect();
    for number in 0..20 {
        let name = format!("w{number}");
        let id = site.begin(&name).await;
        let path = format!("/{id}");
        let shown = || async { site.get(&path).await["summary"].clone() };
        assert_eq!(shown().await["name"], *name);
        assert_eq!(site.get(&format!("/{name}")).await["summary"]["id"], *id);
        site.post(&format!("{path}/pause")).await;
        assert_eq!(shown().await["status"], "paused");
        site.post(&format!("{path}/resume")).await;
        assert_eq!(shown().await["status"], "waiting");
        site.post(&format!("{path}/stop")).await;
        assert_eq!(shown().await["status"], "canceled");
        let listed = site.get("?limit=1000").await;
        let is_it = |one: &&Value| one["id"] == *id;
        assert_eq!(listed.as_array().unwrap().iter().find(is_it).unwrap()["status"], "canceled");
    }
    done.cancel();
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_sees_each_change_that_was_answered() {
    let site = Site::start().await;
    let id = site.begin("watched").await;
    let mut watch = site.send("GET", &format!("/{id}/watch"), None).await.into_body();
    Site::next(&mut watch).await;
    for _ in 0..3 {
        for (path, paused) in [("pause", json!("admin")), ("resume", Value::Null)] {
            site.post(&format!("/{id}/{path}")).await;
            // What comes first may be of a change before, and never of a time before that.
            while Site::next(&mut watch).await["summary"]["paused"] != paused {}
        }
    }
    site.post(&format!("/{id}/stop")).await;
    while Site::next(&mut watch).await["summary"]["ended"].is_null() {}
    assert!(watch.frame().await.is_none(), "it goes on after the end");
}
